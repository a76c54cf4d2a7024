//! The four segments: the memory a BO can live in, with one range manager each.

use crate::Error;
use crate::placement::RangeManager;
use crate::platform::Caching;
use crate::zones::VmInfo;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// Which bus the CPU takes to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// A window of the device; TTM says `is_iomem`.
    Io,
    /// Ordinary RAM pages, which the GPU reaches through the GART.
    Sys,
}

/// A memory type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SegmentId {
    /// VRAM the CPU sees through the window.
    LocalVisible = 0,
    /// The rest of VRAM.
    LocalInvisible = 1,
    /// RAM, coherent with CPU caches.
    PcieSnoop = 2,
    /// RAM, not snooped, write-combined for the CPU.
    PcieUnsnoop = 3,
}

impl SegmentId {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [
        Self::LocalVisible,
        Self::LocalInvisible,
        Self::PcieSnoop,
        Self::PcieUnsnoop,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LocalVisible => "local-visible",
            Self::LocalInvisible => "local-invisible",
            Self::PcieSnoop => "pcie-snoop",
            Self::PcieUnsnoop => "pcie-unsnoop",
        }
    }

    /// Which bus the CPU takes.
    pub const fn bus(self) -> Bus {
        match self {
            Self::LocalVisible | Self::LocalInvisible => Bus::Io,
            Self::PcieSnoop | Self::PcieUnsnoop => Bus::Sys,
        }
    }

    /// How the CPU maps its bytes.
    pub const fn caching(self) -> Caching {
        match self {
            Self::PcieSnoop => Caching::Cached,
            _ => Caching::WriteCombined,
        }
    }
}

/// A segment's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Which one.
    pub id: SegmentId,
    /// Its name.
    pub name: &'static str,
    /// Where it begins for the GPU.
    pub start: GpuVa,
    /// Its size.
    pub bytes: u64,
    /// Bytes that are booked, pinned ones and zombies included.
    pub usage: u64,
    /// Bytes of them that are pinned.
    pub pinned: u64,
}

/// A segment and its manager. Pages are counted from the segment's start.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) start: GpuVa,
    pub(crate) manager: RangeManager,
    pub(crate) usage: u64,
    pub(crate) pinned: u64,
}

impl Segment {
    fn new(id: SegmentId, start: GpuVa, bytes: u64) -> Result<Self, Error> {
        let manager = RangeManager::new(bytes / PAGE_SIZE)?;
        Ok(Self {
            id,
            start,
            manager,
            usage: 0,
            pinned: 0,
        })
    }

    pub(crate) fn info(&self) -> SegmentInfo {
        SegmentInfo {
            id: self.id,
            name: self.id.name(),
            start: self.start,
            bytes: self.manager.pages() * PAGE_SIZE,
            usage: self.usage,
            pinned: self.pinned,
        }
    }

    /// The GPU address of a page of this segment.
    pub(crate) fn va(&self, page: u64) -> GpuVa {
        self.start.add(page * PAGE_SIZE)
    }
}

/// All segments, indexed by [`SegmentId`].
#[derive(Debug)]
pub(crate) struct Segments([Segment; 4]);

impl Segments {
    /// Local memory begins at zone 0, the PCIe segments follow each other in zone 1.
    ///
    /// # Errors
    /// [`Error::NoMemory`] for their managers' bookkeeping.
    pub(crate) fn new(vm: &VmInfo) -> Result<Self, Error> {
        let local = vm.local.start;
        let invisible = local.add(vm.visible_bytes);
        let snoop = vm.pcie.start;
        let unsnoop = snoop.add(vm.snoop_bytes);
        let invisible_bytes = vm.vram_bytes - vm.visible_bytes;
        Ok(Self([
            Segment::new(SegmentId::LocalVisible, local, vm.visible_bytes)?,
            Segment::new(SegmentId::LocalInvisible, invisible, invisible_bytes)?,
            Segment::new(SegmentId::PcieSnoop, snoop, vm.snoop_bytes)?,
            Segment::new(SegmentId::PcieUnsnoop, unsnoop, vm.unsnoop_bytes)?,
        ]))
    }

    pub(crate) fn get(&self, id: SegmentId) -> &Segment {
        &self.0[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: SegmentId) -> &mut Segment {
        &mut self.0[id as usize]
    }

    pub(crate) fn infos(&self) -> [SegmentInfo; 4] {
        SegmentId::ALL.map(|id| self.get(id).info())
    }
}
