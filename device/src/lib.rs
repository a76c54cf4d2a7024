//! The e3k GPU as a pure model: what a PCI function offers, and nothing of how
//! it is attached. No sockets, no threads, no clock of its own.
//!
//! [`Gpu`] takes register accesses and calls to [`Gpu::step`]; it reads and
//! writes VRAM and, through [`SystemMemory`], the machine's memory; it answers
//! by register values, memory contents and [`InterruptSink::raise`], and tells
//! a [`Watch`] what it does. Nothing else goes in or out but lines of a log (`tracing`): the
//! same inputs in the same order give the same outputs. VRAM is a memory file (memfd), so
//! that whoever attaches the GPU can lend it to a guest.
//!
//! Not modelled: drawing, compute, video, tiled and compressed surfaces. Their
//! packets are passed and counted, or halt their ring with a recorded error.
//! docs/model-choices.md lists every decision behind the behaviour here.
#![forbid(unsafe_code)]

mod biu;
mod blit;
mod broken;
mod budget;
mod bus;
pub mod checker;
mod config;
mod counters;
mod csp;
mod defect;
mod display;
mod gpu;
mod history;
mod index;
mod latched;
mod log_limit;
mod memory;
mod misuse;
mod mmu;
mod power;
mod refused;
mod run;
mod saved;
mod state;
mod storage;
mod surface;
mod watch;
mod width;

pub use biu::{InterruptSink, NoInterrupts};
pub use broken::Broken;
pub use config::{
    Config, ConfigError, DtlbShape, LargePage, MmuOptions, OnFault, OnWait, SurfaceFormats,
    UtlbSize,
};
pub use counters::Counters;
pub use csp::{CspError, CspErrorKind, FenceRecord, Progress, RingState, RingStatus, UnmetWait};
pub use defect::{Defect, DefectGroup, Defects};
pub use e3k_regs::fields::{FaultClient, TlbTarget};
pub use e3k_regs::{BusAddr, Chip, GpuVa, VramOffset};
pub use gpu::Gpu;
pub use latched::Latched;
pub use memory::{BusError, DmaAccess, DmaMapping, NoMemory, Snoop, SystemMemory, Target, Vram};
pub use misuse::Misuse;
pub use mmu::{Access, EntryAt, FaultCause, FaultRecord, Hit, Invalidation, Look, TlbEntry, Walk};
pub use state::RestoreError;
pub use storage::{BlockUse, RegisterMisuse, WordUse};
pub use watch::{Event, Watch};
pub use width::Width;
