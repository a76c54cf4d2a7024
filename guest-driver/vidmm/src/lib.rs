//! The e3k memory manager: `vidmm_init`, TTM-style allocation, the GART and
//! submission on ring 0. The same code runs in the guest's kernel and, under
//! test, on the host against the model.
//!
//! "R-x.n" names a rule of `docs/memory-management.md`, "hardware reference n" a
//! section of `docs/hardware.md`.
//!
//! Start at [`Adapter::init`]. Everything outside is reached through the
//! traits of [`platform`].
//!
//! The running driver does not use eviction, LRU lists, reservations, swap and
//! per-process address spaces yet: there a BO stays where it was placed until it is
//! destroyed. [`OnChip`] has them, for tests and examples on the model.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;
// The hosts of tests/ are for unit tests, too.
#[cfg(test)]
extern crate self as vidmm;

mod adapter;
pub mod arena;
pub mod bo;
mod chip;
mod engine;
mod error;
pub mod evict;
mod init;
mod on_chip;
pub mod placement;
pub mod platform;
pub mod sync;
pub mod vm;
mod zones;

#[cfg(test)]
mod tests;

pub use adapter::{Adapter, Client, Description, Frame, Leftovers};
pub use bo::BoId;
pub use bo::accounts::Booking;
pub use chip::{ChipOps, Fault};
pub use engine::queue::{CLIENT_BYTES, CLIENT_JOBS};
pub use error::Error;
pub use init::report::{
    ChipReport, EntrySample, InitReport, InitStep, L1Value, LevelReport, PteCounts,
    SubmissionReport, VmaReport,
};
pub use init::{InitError, Options};
pub use on_chip::{
    Blit, Cause, Hang, Host, Left, LocalMemory, OnChip, ProcessTables, Share, TablePages, Tables,
};
pub use placement::{Bus, CreateFlags, CreateRequest, MAX_WINDOWS, SegmentId, SegmentInfo, Window};
pub use platform::{
    Caching, Interrupts, LogLevel, Os, Patience, Platform, RegisterOp, Registers, SystemInfo,
    VramWindow, Wake,
};
pub use sync::timeline::{Timeline, TimelineCounters};
pub use zones::Zone;
