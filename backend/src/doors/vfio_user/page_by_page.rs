//! Whether the ranges that a client lends are those that a driver maps for DMA.
//!
//! Without an IOMMU QEMU lends all RAM in a few large ranges, and small ones below 1 MiB.
//! Behind one it lends what the guest's driver maps, as it does: by pages of the IOMMU's.

use presil_device::DmaMapping;

/// Below it firmware splits RAM into small ranges, too.
const LOW_END: u64 = 1 << 20;
/// The largest page of an IOMMU that a driver's mapping is taken for. A machine may have
/// 1 GiB of RAM in one range.
const LARGEST_PAGE: u64 = 2 << 20;

/// What the ranges of one client look like.
#[derive(Debug, Default)]
pub(super) struct PageByPage {
    /// Ranges that are no page of an IOMMU's.
    others: usize,
    /// One came that is, when there were no others.
    seen: bool,
}

fn is_page(first: u64, last: u64) -> bool {
    let Some(bytes) = (last - first).checked_add(1) else {
        return false;
    };
    bytes.is_power_of_two() && bytes <= LARGEST_PAGE && first.is_multiple_of(bytes)
}

impl PageByPage {
    /// A range is lent.
    pub(super) fn lent(&mut self, first: u64, last: u64) {
        if !is_page(first, last) {
            self.others += 1;
            self.seen = false;
        } else if self.others == 0 && first >= LOW_END {
            self.seen = true;
        }
    }

    /// A range that was lent is taken away.
    pub(super) fn taken(&mut self, first: u64, last: u64) {
        self.others -= usize::from(!is_page(first, last));
    }

    /// What an address's being in a range, or not, says of the driver.
    pub(super) fn says(&self, is_lent: bool) -> DmaMapping {
        match (self.seen, is_lent) {
            (false, _) => DmaMapping::Unknown,
            (true, true) => DmaMapping::Mapped,
            (true, false) => DmaMapping::Unmapped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: (u64, u64) = (0xFFFF_F000, 0xFFFF_FFFF);
    const LARGE_PAGE: (u64, u64) = (0xFFC0_0000, 0xFFDF_FFFF);
    const RAM: (u64, u64) = (0x10_0000, 0x7FFF_FFFF);
    const HIGH_RAM: (u64, u64) = (1 << 32, (5 << 30) - 1);
    const OPTION_ROM: (u64, u64) = (0xC_0000, 0xC_7FFF);

    fn after(lent: &[(u64, u64)]) -> PageByPage {
        let mut ranges = PageByPage::default();
        for (first, last) in lent {
            ranges.lent(*first, *last);
        }
        ranges
    }

    #[test]
    fn pages_of_an_iommu_say_what_is_mapped_and_what_is_not() {
        for page in [PAGE, LARGE_PAGE] {
            let ranges = after(&[page]);
            assert_eq!(ranges.says(true), DmaMapping::Mapped);
            assert_eq!(ranges.says(false), DmaMapping::Unmapped);
        }
    }

    #[test]
    fn without_an_iommu_nothing_is_said() {
        for lent in [
            &[][..],
            &[RAM],
            &[HIGH_RAM],
            &[OPTION_ROM],
            &[PAGE, RAM],
            &[(0, u64::MAX)],
        ] {
            assert_eq!(after(lent).says(true), DmaMapping::Unknown, "{lent:x?}");
        }
    }

    #[test]
    fn an_iommu_that_is_switched_on_or_off_is_noticed() {
        let mut ranges = after(&[OPTION_ROM, RAM]);
        ranges.taken(RAM.0, RAM.1);
        ranges.taken(OPTION_ROM.0, OPTION_ROM.1);
        assert_eq!(ranges.says(false), DmaMapping::Unknown);
        ranges.lent(PAGE.0, PAGE.1);
        ranges.taken(PAGE.0, PAGE.1);
        assert_eq!(ranges.says(false), DmaMapping::Unmapped);
        ranges.lent(RAM.0, RAM.1);
        assert_eq!(ranges.says(false), DmaMapping::Unknown);
    }
}
