//! The range manager: books runs of pages of one segment, one extent each.

use crate::Error;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    first: u64,
    end: u64,
}

/// Books page ranges of an address space of a fixed size. Knows nothing of
/// what lies in them. Free neighbours are one hole by construction.
#[derive(Debug)]
pub struct RangeManager {
    pages: u64,
    /// Ascending, disjoint.
    booked: Vec<Extent>,
    /// Every page below is booked: no search for the lowest address begins before it.
    solid: u64,
}

impl RangeManager {
    /// An empty manager of `pages` pages.
    pub const fn new(pages: u64) -> Self {
        Self {
            pages,
            booked: Vec::new(),
            solid: 0,
        }
    }

    /// Pages it manages.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that are booked.
    pub fn booked_pages(&self) -> u64 {
        self.booked.iter().map(|e| e.end - e.first).sum()
    }

    /// Books `pages` pages inside `[first, last)` (`last` 0: to the end) at a
    /// multiple of `align`: at the lowest address that fits, or at the highest
    /// if `topdown`. Returns the first page.
    ///
    /// # Errors
    /// [`Error::NeverFits`] when even an empty manager could not,
    /// [`Error::NoSpace`] when what is booked leaves no hole,
    /// [`Error::NoMemory`] for the bookkeeping. Nothing is booked then.
    pub fn alloc(
        &mut self,
        pages: u64,
        align: u64,
        first: u64,
        last: u64,
        topdown: bool,
    ) -> Result<u64, Error> {
        let last = if last == 0 { self.pages } else { last };
        let highest = last.checked_sub(pages).ok_or(Error::NeverFits)?;
        let lowest = align_up(first, align).ok_or(Error::NeverFits)?;
        if pages == 0 || last > self.pages || lowest > highest {
            return Err(Error::NeverFits);
        }
        self.extend_solid();
        let found = if topdown {
            self.search_down(pages, align, lowest, highest)
        } else {
            self.search_up(pages, align, lowest, highest)
        };
        let start = found.ok_or(Error::NoSpace)?;
        self.booked.try_reserve(1)?;
        let at = self.booked.partition_point(|e| e.first < start);
        self.booked.insert(
            at,
            Extent {
                first: start,
                end: start + pages,
            },
        );
        Ok(start)
    }

    /// Gives back the range that starts at `first`; returns its pages, 0 if
    /// none starts there.
    pub fn free(&mut self, first: u64) -> u64 {
        match self.booked.binary_search_by_key(&first, |e| e.first) {
            Ok(at) => {
                let extent = self.booked.remove(at);
                self.solid = self.solid.min(first);
                extent.end - extent.first
            }
            Err(_) => 0,
        }
    }

    /// Takes what was booked at its end into the part without holes.
    fn extend_solid(&mut self) {
        let mut end = self.solid;
        for extent in self.above(end) {
            if extent.first != end {
                break;
            }
            end = extent.end;
        }
        self.solid = end;
    }

    /// The extents that a search from `page` upwards looks at.
    fn above(&self, page: u64) -> &[Extent] {
        let at = self.booked.partition_point(|e| e.end <= page);
        &self.booked[at..]
    }

    fn search_up(&self, pages: u64, align: u64, lowest: u64, highest: u64) -> Option<u64> {
        let mut start = align_up(lowest.max(self.solid), align)?;
        for extent in self.above(start) {
            if extent.end <= start {
                continue;
            }
            if start > highest || extent.first >= start + pages {
                break;
            }
            start = align_up(extent.end, align)?;
        }
        (start <= highest).then_some(start)
    }

    fn search_down(&self, pages: u64, align: u64, lowest: u64, highest: u64) -> Option<u64> {
        let mut start = highest - highest % align;
        for extent in self.booked.iter().rev() {
            if extent.first >= start + pages {
                continue;
            }
            if extent.end <= start {
                break;
            }
            let below = extent.first.checked_sub(pages)?;
            start = below - below % align;
        }
        (start >= lowest).then_some(start)
    }
}

/// The lowest multiple of `align` that is at least `value`; `None` if there is
/// none in 64 bits, or for alignment 0.
fn align_up(value: u64, align: u64) -> Option<u64> {
    value.checked_next_multiple_of(align)
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "small numbers on a 64-bit host"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_topdown_the_lowest_hole_that_fits_wins() {
        let mut m = RangeManager::new(100);
        assert_eq!(m.alloc(10, 1, 0, 0, false), Ok(0));
        assert_eq!(m.alloc(10, 1, 0, 0, false), Ok(10));
        assert_eq!(m.alloc(10, 1, 0, 0, false), Ok(20));
        assert_eq!(m.free(10), 10);
        assert_eq!(m.alloc(11, 1, 0, 0, false), Ok(30), "the hole is too small");
        assert_eq!(m.alloc(4, 1, 0, 0, false), Ok(10));
    }

    #[test]
    fn topdown_takes_the_highest_address_and_is_no_reason_to_fail() {
        let mut m = RangeManager::new(100);
        assert_eq!(m.alloc(10, 1, 0, 0, true), Ok(90));
        assert_eq!(m.alloc(10, 16, 0, 0, true), Ok(80));
        assert_eq!(m.alloc(70, 1, 0, 0, true), Ok(10));
        assert_eq!(m.alloc(10, 1, 0, 0, true), Ok(0));
        assert_eq!(m.alloc(1, 1, 0, 0, true), Err(Error::NoSpace));
    }

    #[test]
    fn a_window_that_cannot_hold_the_request_never_fits_r_5_6() {
        let mut m = RangeManager::new(100);
        for (pages, align, first, last) in [
            (101, 1, 0, 0),
            (0, 1, 0, 0),
            (1, 1, 5, 5),
            (1, 1, 6, 5),
            (1, 1, 0, 101),
            (1, 1, 100, 0),
            (1, 0, 0, 0),
            (4, 1, 10, 13),
            (1, 64, 65, 100),
            (1, u64::MAX, 1, 0),
            (u64::MAX, 1, u64::MAX, u64::MAX),
        ] {
            for topdown in [false, true] {
                assert_eq!(
                    m.alloc(pages, align, first, last, topdown),
                    Err(Error::NeverFits),
                    "{pages} pages, align {align}, [{first}, {last}), topdown {topdown}"
                );
            }
        }
        assert_eq!(m.booked_pages(), 0);
    }

    #[test]
    fn full_u64_alignment_works() {
        let mut m = RangeManager::new(u64::MAX);
        assert_eq!(m.alloc(1, 1 << 63, 1, 0, false), Ok(1 << 63));
        assert_eq!(m.alloc(1, 1 << 63, 1, 0, false), Err(Error::NoSpace));
        assert_eq!(m.alloc(1, u64::MAX, 0, 0, true), Ok(0));
    }

    #[test]
    fn freeing_what_is_not_booked_changes_nothing() {
        let mut m = RangeManager::new(8);
        assert_eq!(m.alloc(4, 1, 0, 0, false), Ok(0));
        assert_eq!(m.free(1), 0);
        assert_eq!(m.booked_pages(), 4);
    }

    #[test]
    fn what_is_booked_without_holes_is_not_searched_again() {
        const BUFFERS: u64 = 60_000;
        let mut m = RangeManager::new(BUFFERS + 1);
        for page in 0..BUFFERS {
            assert_eq!(m.alloc(1, 1, 0, 0, false), Ok(page));
            assert!(m.above(m.solid).len() <= 1, "extents to search at {page}");
        }
        assert_eq!(m.free(9), 1);
        assert_eq!(m.alloc(1, 1, 0, 0, false), Ok(9), "the hole is found");
    }

    /// What an address-by-address search over a bitmap would find.
    fn naive(
        used: &[bool],
        pages: u64,
        align: u64,
        first: u64,
        last: u64,
        down: bool,
    ) -> Option<u64> {
        let last = if last == 0 { used.len() as u64 } else { last };
        let fits = |start: u64| {
            start.is_multiple_of(align)
                && start + pages <= last
                && used[start as usize..(start + pages) as usize]
                    .iter()
                    .all(|u| !u)
        };
        let mut starts = first..last;
        if down {
            starts.rfind(|s| fits(*s))
        } else {
            starts.find(|s| fits(*s))
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_bitmap_r_18_1(ops in prop::collection::vec(
            (any::<bool>(), 1u64..20, 1u64..9, 0u64..70, 0u64..65, any::<bool>()), 1..80,
        )) {
            let mut manager = RangeManager::new(64);
            let mut used = [false; 64];
            let mut live: Vec<(u64, u64)> = Vec::new();
            for (free, pages, align, first, last, down) in ops {
                if free && !live.is_empty() {
                    let (start, pages) = live.swap_remove((first as usize) % live.len());
                    prop_assert_eq!(manager.free(start), pages);
                    used[start as usize..(start + pages) as usize].fill(false);
                    continue;
                }
                let want = naive(&used, pages, align, first, last, down);
                match manager.alloc(pages, align, first, last, down) {
                    Ok(start) => {
                        prop_assert_eq!(Some(start), want);
                        used[start as usize..(start + pages) as usize].fill(true);
                        live.push((start, pages));
                    }
                    Err(Error::NoSpace) => prop_assert_eq!(want, None),
                    Err(error) => {
                        prop_assert_eq!(error, Error::NeverFits);
                        prop_assert_eq!(naive(&[false; 64], pages, align, first, last, down), None);
                    }
                }
                let booked = used.iter().filter(|u| **u).count() as u64;
                prop_assert_eq!(manager.booked_pages(), booked);
            }
        }
    }
}
