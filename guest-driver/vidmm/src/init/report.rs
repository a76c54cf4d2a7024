//! What `vidmm_init` did, step by step, for people and for tests.

use crate::placement::segments::SegmentInfo;
use crate::platform::SystemInfo;
use crate::zones::Zone;
use alloc::vec::Vec;
use core::fmt;
use e3k_regs::{BusAddr, GpuVa, VramOffset};

/// A step of bringing the GPU up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitStep {
    /// 1: query system memory.
    SystemMemory,
    /// 2: install the chip functions.
    ChipFunctions,
    /// 3: plan the three zones.
    Zones,
    /// 4: make the four segments.
    Segments,
    /// 5: build the reserved VMA and start translating.
    ReservedVma,
    /// After `vidmm_init`: interrupts, fences, ring 0.
    Submission,
}

impl fmt::Display for InitStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemMemory => "1 (system memory)",
            Self::ChipFunctions => "2 (chip functions)",
            Self::Zones => "3 (zones)",
            Self::Segments => "4 (segments)",
            Self::ReservedVma => "5 (reserved VMA)",
            Self::Submission => "submission",
        })
    }
}

/// The figures of each step; `None` for a step that was not completed.
#[derive(Clone, Debug, Default)]
pub struct InitReport {
    /// Step 1.
    pub system: Option<SystemInfo>,
    /// Step 2.
    pub chip: Option<ChipReport>,
    /// Step 3: local, PCIe, private.
    pub zones: Option<[Zone; 3]>,
    /// Step 4, before anything is booked.
    pub segments: Option<[SegmentInfo; 4]>,
    /// Step 5.
    pub reserved_vma: Option<VmaReport>,
    /// After step 5.
    pub submission: Option<SubmissionReport>,
}

/// Step 2: which functions, and what the chip says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChipReport {
    /// The chip family.
    pub name: &'static str,
    /// Process ids, each with a bank of L1 registers.
    pub process_ids: u32,
    /// L1 registers in a bank.
    pub l1_registers: u32,
    /// VRAM that software may use.
    pub vram_bytes: u64,
    /// The CPU's window on its beginning.
    pub visible_bytes: u64,
}

/// Step 5: the reserved VMA and its tables.
#[derive(Clone, Debug)]
pub struct VmaReport {
    /// Bytes of GPU address space, from address 0: zones 0 and 1.
    pub bytes: u64,
    /// Where the page-table BO is: the local visible segment.
    pub share_pt_segment: &'static str,
    /// Bytes of the page-table BO.
    pub table_bytes: u64,
    /// Level 2, then level 3.
    pub levels: [LevelReport; 2],
    /// What the level 3 entries are.
    pub ptes: PteCounts,
    /// Some entries of levels 2 and 3, read back through the VRAM window.
    pub samples: [EntrySample; 4],
    /// The page behind every entry of zone 1 that is not bound.
    pub dummy_page: BusAddr,
    /// Every L1 register of the shared zones, for every process id.
    pub l1: Vec<L1Value>,
    /// The mode register after translation was switched on.
    pub mmu_mode: u32,
}

/// The tables of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelReport {
    /// 2 or 3.
    pub level: u8,
    /// Entries in all its tables.
    pub entries: u64,
    /// Tables.
    pub tables: u64,
    /// Bytes of all its tables.
    pub bytes: u64,
    /// Where the GPU finds the first one.
    pub gpu_phys: VramOffset,
    /// Where the CPU does.
    pub cpu_address: u64,
}

/// How the level 3 entries were filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PteCounts {
    /// One for each page of VRAM.
    pub local: u64,
    /// Invalid: zone 0 beyond the end of VRAM.
    pub invalid: u64,
    /// The dummy page: all of zone 1.
    pub dummy: u64,
}

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySample {
    /// 2 or 3.
    pub level: u8,
    /// The first address that it translates.
    pub va: GpuVa,
    /// Where the GPU finds it.
    pub gpu_phys: VramOffset,
    /// What the CPU read there.
    pub value: u32,
    /// What it points at.
    pub leads_to: &'static str,
}

/// An L1 register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1Value {
    /// Whose bank.
    pub process_id: u32,
    /// Number in the bank.
    pub index: u32,
    /// What was written.
    pub written: u32,
    /// What was read afterwards.
    pub read_back: u32,
}

/// Ring 0 and its fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmissionReport {
    /// Where ring 0 is.
    pub ring: GpuVa,
    /// Its size.
    pub ring_bytes: u32,
    /// Where fences are written.
    pub fence: GpuVa,
    /// The RAM page behind that address.
    pub fence_page: BusAddr,
}
