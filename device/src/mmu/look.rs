//! What memory and the L1 registers hold now: what a walk reads from, and what whoever
//! watches may look at.

use crate::config::LargePage;
use crate::memory::{DmaMapping, Memory, Origin, Target, Vram};
use e3k_regs::BusAddr;
use e3k_regs::fields::{FaultClient, MmuMode};

/// The tables as they are at the moment of an event. Looking has no effect: nothing is
/// counted, nothing faults, and no TLB is asked.
///
/// The CPU writes VRAM and its own memory while the GPU works, and nobody is told of
/// that. So who wants to know what a table says reads it when it matters.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    pub(super) memory: &'a Memory,
    pub(super) bank: &'a [u32],
    pub(super) mode: MmuMode,
    pub(super) large_page: LargePage,
}

impl<'a> Look<'a> {
    /// Local memory.
    pub fn vram(&self) -> &'a Vram {
        &self.memory.vram
    }

    /// The dword at a place, a multiple of 4, as a walk would load it; `None` where
    /// nobody answers.
    pub fn dword(&self, at: Target) -> Option<u32> {
        let origin = Origin {
            client: FaultClient::RingFetch,
            non_secure: false,
        };
        self.memory.load_u32(at, origin).ok()
    }

    /// Whether the driver has mapped the page of system memory at `at` for DMA.
    pub fn dma_mapping(&self, at: BusAddr) -> DmaMapping {
        self.memory.system.dma_mapping(at)
    }

    /// Whether the machine lets the GPU use its memory at all.
    pub fn bus_master(&self) -> bool {
        self.memory.system.bus_master()
    }

    /// The L1 register with this number in the bank, 16 times 256 of them.
    pub fn l1(&self, index: usize) -> Option<u32> {
        self.bank.get(index).copied()
    }

    /// Whether every address is translated, for the process id of the access (VA mode).
    /// If not, those below [`Self::untranslated_bytes`] are offsets in VRAM, and the
    /// others are process 0's.
    pub fn va_mode(&self) -> bool {
        self.mode.va_mode()
    }

    /// The end of what PA mode does not translate.
    pub fn untranslated_bytes(&self) -> u64 {
        if self.mode.va_mode() {
            0
        } else {
            self.mode.video_bytes()
        }
    }
}
