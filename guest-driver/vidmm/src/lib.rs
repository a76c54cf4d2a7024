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
//! Not here yet: eviction, LRU lists, reservations, swap, per-process address
//! spaces. A BO stays where it was placed until it is destroyed.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod adapter;
mod bo;
mod chip;
mod client;
mod ends;
mod error;
mod gart;
mod init;
mod memory;
mod pagetable;
mod placement;
pub mod platform;
mod range;
mod registers;
mod report;
mod ring;
mod segments;
mod submit;
mod timeline;
mod trouble;
mod zones;

#[cfg(test)]
mod tests;

pub use adapter::{Adapter, Description, Frame, Leftovers};
pub use bo::BoId;
pub use chip::{ChipOps, Fault};
pub use client::{CLIENT_BYTES, CLIENT_JOBS, Client};
pub use error::Error;
pub use init::{InitError, Options};
pub use placement::{CreateFlags, CreateRequest, MAX_WINDOWS, Window};
pub use platform::{
    Caching, Interrupts, LogLevel, Os, Patience, Platform, RegisterOp, Registers, SystemInfo,
    VramWindow, Wake,
};
pub use range::RangeManager;
pub use report::{
    ChipReport, EntrySample, InitReport, InitStep, L1Value, LevelReport, PteCounts,
    SubmissionReport, VmaReport,
};
pub use segments::{Bus, SegmentId, SegmentInfo};
pub use timeline::{Timeline, TimelineCounters};
pub use zones::Zone;
