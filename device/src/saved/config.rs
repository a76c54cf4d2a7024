//! How a GPU was made.

use crate::config::mmu::{LargePage, OnFault};
use crate::config::on_wait::OnWait;
use e3k_regs::Chip;
use serde::{Deserialize, Serialize};

/// As [`crate::Config`] says it; what is broken about a GPU is not saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) chip: Chip,
    pub(crate) vram_bytes: u64,
    pub(crate) visible_bytes: u64,
    pub(crate) vram_seed: Option<u64>,
    /// Entries of each client's UTLB.
    pub(crate) utlb_entries: u32,
    pub(crate) strict_utlb: bool,
    /// Of the shared TLB; 0: there is none.
    pub(crate) dtlb_sets: u32,
    pub(crate) dtlb_ways: u32,
    pub(crate) large_page: LargePage,
    pub(crate) on_fault: OnFault,
    pub(crate) on_wait: OnWait,
    /// Those that are known beside B8G8R8A8, by ascending codes.
    pub(crate) surface_formats: Vec<SurfaceFormat>,
    pub(crate) vsync: bool,
}

/// A surface format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SurfaceFormat {
    pub(crate) code: u32,
    /// Of a pixel.
    pub(crate) bytes: u32,
}
