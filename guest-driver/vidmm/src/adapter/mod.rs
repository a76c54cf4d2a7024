//! The driver's front: what the kernel module and the tests call. One adapter has one
//! ring and all memory; its files say what it does with them.

use crate::bo::gart::Gart;
use crate::bo::memory::Memory;
use crate::engine::queue::Queues;
use crate::engine::ring0::Ring0;
use crate::init::report::InitReport;
use crate::init::{self, BroughtUp, InitError, Options};
use crate::platform::{Os, SystemInfo};
use crate::sync::timeline::Timeline;
use alloc::collections::BinaryHeap;
use alloc::sync::Arc;
use core::cmp::Reverse;

mod buffers;
mod client;
mod contents;
mod life;
mod report;

pub use crate::bo::memory::Leftovers;
pub use buffers::Frame;
pub use client::Client;
pub use report::Description;

/// One GPU. Used under one device lock, which the caller holds.
///
/// Its life from the first register access to the last is what
/// `tests/examples/bring_up.rs` shows, on the model.
///
/// # Invariants
/// `zombies` has room for all BOs, so that to destroy one needs no memory.
pub struct Adapter<O: Os> {
    pub(crate) memory: Memory<O>,
    pub(crate) gart: Gart,
    pub(crate) ring0: Ring0<O>,
    pub(crate) queues: Queues,
    options: Options,
    /// Destroyed BOs whose memory is not given back yet, by last use; not those that
    /// queued jobs use.
    pub(crate) zombies: BinaryHeap<Reverse<(u64, u64)>>,
}

impl<O: Os> Adapter<O> {
    /// `vidmm_init`, its five steps, then interrupts, fences and ring 0.
    ///
    /// # Errors
    /// The step that failed and why. `report` has the steps before it; memory
    /// and registers are as they were.
    pub fn init(os: O, options: Options, report: &mut InitReport) -> Result<Self, InitError> {
        let BroughtUp {
            memory,
            gart,
            ring0,
        } = init::init(os, options, report)?;
        Ok(Self {
            memory,
            gart,
            ring0,
            queues: Queues::new(),
            options,
            zombies: BinaryHeap::new(),
        })
    }

    /// The world it runs in.
    pub fn os(&self) -> &O {
        &self.memory.os
    }

    /// How long the end waits for the ring.
    pub(crate) const fn idle_timeout_ns(&self) -> u64 {
        self.options.idle_timeout_ns
    }

    /// What the machine had when the driver started.
    pub fn system_info(&self) -> SystemInfo {
        self.memory.mm_mgr.sysinfo
    }

    /// Ring 0's fences; used without the device lock. Drop it before [`Self::fini`].
    pub fn timeline(&self) -> Arc<Timeline<O>> {
        Arc::clone(&self.ring0.timeline)
    }
}
