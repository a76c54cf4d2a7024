//! The memory crossbar: MMU, TLBs, faults.

use super::history::History;
use super::sparse::Sparse;
use crate::mmu::record::FaultRecord;
use e3k_regs::GpuVa;
use e3k_regs::fields::{FaultClient, FaultStatus0, InvalidateAddress, MmuMode};
use e3k_regs::pte::L3Entry;
use serde::{Deserialize, Serialize};

/// The registers, and what hangs on them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Crossbar {
    /// The L1 registers.
    pub(crate) ttbr: Sparse<u32>,
    pub(crate) mode: MmuMode,
    pub(crate) invalidate_page: InvalidateAddress,
    pub(crate) invalidate_mask: InvalidateAddress,
    /// Of all clients.
    pub(crate) utlb: Vec<UtlbEntry>,
    pub(crate) dtlb: Dtlb,
    pub(crate) faults: Faults,
}

/// A page that a client's own TLB holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UtlbEntry {
    pub(crate) client: FaultClient,
    pub(crate) process_id: u8,
    /// The address of the page.
    pub(crate) va: GpuVa,
    pub(crate) entry: L3Entry,
}

/// The shared TLB.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dtlb {
    pub(crate) lines: Vec<DtlbLine>,
    /// For each set the way that the next line replaces.
    pub(crate) next: Sparse<u32>,
}

/// A line of the shared TLB; process id and address say its set.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DtlbLine {
    pub(crate) process_id: u8,
    /// The address of the first page.
    pub(crate) va: GpuVa,
    pub(crate) way: usize,
    /// As entries of 4 KiB pages.
    pub(crate) entries: [u32; 16],
}

/// The fault registers and the history.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Faults {
    pub(crate) history: History<FaultRecord>,
    pub(crate) status: u32,
    pub(crate) status0: FaultStatus0,
    pub(crate) status1: u32,
    pub(crate) level1_at: u32,
    pub(crate) level2_at: u32,
    pub(crate) level: u32,
    pub(crate) mask: u32,
    /// The ring that was in execution last, and the offset of its packet.
    pub(crate) ring: u8,
    pub(crate) ring_offset: u32,
    /// A page fault that is no interrupt yet.
    pub(crate) translation: bool,
    /// A bus error that is no interrupt yet.
    pub(crate) bus: bool,
    /// A fault behind which its ring is to stand.
    pub(crate) stand: bool,
}
