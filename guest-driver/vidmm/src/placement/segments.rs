//! Memory types: the four segments with their range managers, and SYSTEM.

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
///
/// ```
/// use vidmm::{Bus, SegmentId};
/// let types = SegmentId::TYPES.iter();
/// let of_pages: Vec<_> = types.filter(|it| it.uses_tt()).map(|it| it.name()).collect();
/// assert_eq!(of_pages, ["pcie-snoop", "pcie-unsnoop", "system"]);
/// assert_eq!(SegmentId::LocalInvisible.bus(), Bus::Io);
/// // Who has to leave RAM that the GPU reaches is parked where it does not.
/// assert_eq!(SegmentId::PcieSnoop.evict_to(), [SegmentId::System]);
/// ```
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
    /// RAM that the GPU has no address for: where what is evicted is parked.
    System = 4,
}

impl SegmentId {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// All of them, in the order of their numbers.
    pub const TYPES: [Self; Self::COUNT] = [
        Self::LocalVisible,
        Self::LocalInvisible,
        Self::PcieSnoop,
        Self::PcieUnsnoop,
        Self::System,
    ];

    /// The segments: those that the GPU has addresses for, in the order of their
    /// numbers.
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
            Self::System => "system",
        }
    }

    /// Which bus the CPU takes.
    pub const fn bus(self) -> Bus {
        match self {
            Self::LocalVisible | Self::LocalInvisible => Bus::Io,
            Self::PcieSnoop | Self::PcieUnsnoop | Self::System => Bus::Sys,
        }
    }

    /// How the CPU maps its bytes (R-7.5).
    pub const fn caching(self) -> Caching {
        match self {
            Self::PcieSnoop | Self::System => Caching::Cached,
            _ => Caching::WriteCombined,
        }
    }

    /// Whether a buffer there is made of RAM pages, a page vector (R-5.1).
    pub const fn uses_tt(self) -> bool {
        matches!(self.bus(), Bus::Sys)
    }

    /// Where a buffer that has to leave may go, in order. Nothing is evicted from
    /// SYSTEM to make room (R-5.2), and no type leads back to itself.
    pub const fn evict_to(self) -> &'static [Self] {
        match self {
            Self::LocalVisible => &[
                Self::LocalInvisible,
                Self::PcieSnoop,
                Self::PcieUnsnoop,
                Self::System,
            ],
            Self::LocalInvisible => &[Self::PcieSnoop, Self::PcieUnsnoop, Self::System],
            Self::PcieSnoop | Self::PcieUnsnoop => &[Self::System],
            Self::System => &[],
        }
    }
}

/// The first memory type from which the ways out lead back to it, so that making room
/// there might never end (D-23).
pub(crate) fn leads_back(exits: impl Fn(SegmentId) -> &'static [SegmentId]) -> Option<SegmentId> {
    let bit = |id: SegmentId| 1_u8 << id as u8;
    let mut reached = SegmentId::TYPES.map(|id| exits(id).iter().fold(0, |set, to| set | bit(*to)));
    for _ in SegmentId::TYPES {
        for id in SegmentId::TYPES {
            let on = SegmentId::TYPES.iter().zip(reached);
            let on = on.filter(|(to, _)| reached[id as usize] & bit(**to) != 0);
            reached[id as usize] |= on.fold(0, |set, (_, on)| set | on);
        }
    }
    let all = SegmentId::TYPES.into_iter();
    all.zip(reached)
        .find_map(|(id, set)| (set & bit(id) != 0).then_some(id))
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
    /// Bytes that are booked, pinned ones and zombies included (R-5.10).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ram_has_a_page_vector_r_5_1() {
        for (id, uses_tt) in [
            (SegmentId::LocalVisible, false),
            (SegmentId::LocalInvisible, false),
            (SegmentId::PcieSnoop, true),
            (SegmentId::PcieUnsnoop, true),
            (SegmentId::System, true),
        ] {
            assert_eq!(id.uses_tt(), uses_tt, "{}", id.name());
        }
    }

    #[test]
    fn eviction_ends_in_system_and_never_comes_back_r_5_2() {
        fn longest(id: SegmentId, depth: usize) -> usize {
            assert!(depth < SegmentId::COUNT, "{} leads back", id.name());
            let ways = id.evict_to().iter();
            ways.map(|to| longest(*to, depth + 1))
                .max()
                .unwrap_or(depth)
        }
        for id in SegmentId::ALL {
            assert_eq!(id.evict_to().last(), Some(&SegmentId::System));
            assert!(longest(id, 0) > 0);
        }
        assert_eq!(longest(SegmentId::System, 0), 0, "only swapped");
    }

    #[test]
    fn ways_out_that_lead_back_are_found_d_23() {
        assert_eq!(leads_back(SegmentId::evict_to), None);
        // Over two others, and at once.
        let round = |id| match id {
            SegmentId::LocalInvisible => &[SegmentId::System, SegmentId::PcieSnoop][..],
            SegmentId::PcieSnoop => &[SegmentId::PcieUnsnoop],
            SegmentId::PcieUnsnoop => &[SegmentId::LocalInvisible],
            SegmentId::LocalVisible | SegmentId::System => &[],
        };
        assert_eq!(leads_back(round), Some(SegmentId::LocalInvisible));
        let itself = |id| match id {
            SegmentId::System => &[SegmentId::System][..],
            _ => &[],
        };
        assert_eq!(leads_back(itself), Some(SegmentId::System));
    }
}
