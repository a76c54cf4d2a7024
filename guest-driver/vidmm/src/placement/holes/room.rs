//! What a subtree has room for: enough to know, without going down, whether a
//! search there can succeed.

use crate::placement::Extent;

/// Powers of two that are told apart; longer requests are judged by length alone.
const ORDERS: usize = 32;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) pages: u64,
    /// The first page is a multiple of it; not 0, not always a power of two.
    pub(super) align: u64,
    /// All pages are in it.
    pub(super) window: Extent,
}

impl Want {
    /// Where in `hole` it goes: as low as it can, or as high.
    pub(super) fn first_in(&self, hole: Extent, down: bool) -> Option<u64> {
        let room = hole.common(self.window)?;
        let highest = room.end.checked_sub(self.pages)?;
        let first = if down {
            highest - highest % self.align
        } else {
            room.first.checked_next_multiple_of(self.align)?
        };
        (room.first <= first && first <= highest).then_some(first)
    }
}

/// The largest that any of some holes has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Pages of the longest hole.
    pub(super) longest: u64,
    /// `aligned[o]`: 0 if no hole has 2^o pages; otherwise 1 + the largest `a`
    /// for which 2^o pages of a hole begin at a multiple of 2^a. Never rises with `o`.
    aligned: [u8; ORDERS],
}

impl Room {
    pub(super) const NONE: Self = Self {
        longest: 0,
        aligned: [0; ORDERS],
    };

    /// Takes one more hole into account.
    pub(super) fn add(&mut self, hole: Extent) {
        let pages = hole.pages();
        self.longest = self.longest.max(pages);
        let mut block = 1;
        for aligned in &mut self.aligned {
            if block > pages {
                break;
            }
            *aligned = (*aligned).max(1 + alignment_within(hole.first, hole.end - block));
            block <<= 1;
        }
    }

    /// True if what it says of alignment may be due to this hole alone.
    pub(super) fn aligned_by(&self, hole: Extent) -> bool {
        let mut alone = Self::NONE;
        alone.add(hole);
        let mut pairs = alone.aligned.iter().zip(&self.aligned);
        pairs.any(|(alone, all)| *alone > 0 && alone == all)
    }

    /// Takes other holes into account.
    pub(super) fn join(&mut self, other: &Self) {
        self.longest = self.longest.max(other.longest);
        for (mine, theirs) in self.aligned.iter_mut().zip(&other.aligned) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// False: none of the holes has room. True: one has, for a request of 2^n
    /// pages at a multiple of 2^m, and for any length at alignment 1; for others,
    /// one may have. What the window cuts off is not considered.
    pub(super) fn may_hold(&self, want: &Want) -> bool {
        if self.longest < want.pages {
            return false;
        }
        let order = want.pages.checked_ilog2().unwrap_or(0) as usize;
        let aligned = self.aligned.get(order).copied();
        aligned.is_none_or(|a| u32::from(a) > want.align.trailing_zeros())
    }
}

/// The largest `a` for which a multiple of 2^a is in `[low, high]`; 64 if 0 is.
#[expect(clippy::cast_possible_truncation, reason = "at most 64")]
fn alignment_within(low: u64, high: u64) -> u8 {
    match low.checked_sub(1) {
        // The highest bit in which they differ is set in `high` alone: with all
        // below it cleared, `high` is still above `low - 1`.
        Some(before) => (before ^ high).checked_ilog2().unwrap_or(0) as u8,
        None => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_alignment_in_a_range_is_that_of_its_best_page() {
        for low in 1..70_u64 {
            for high in low..70 {
                let best = (low..=high).map(u64::trailing_zeros).max().unwrap();
                assert_eq!(
                    u32::from(alignment_within(low, high)),
                    best,
                    "{low}..={high}"
                );
            }
        }
        assert_eq!(alignment_within(0, 0), 64);
        assert_eq!(alignment_within(1, u64::MAX), 63);
    }

    proptest! {
        #[test]
        fn room_for_a_power_of_two_is_told_exactly(
            holes in prop::collection::vec((0_u64..200, 1_u64..70), 1..4), order in 0_u32..8, shift in 0_u32..9,
        ) {
            let mut room = Room::NONE;
            let want = Want { pages: 1 << order, align: 1 << shift, window: Extent::new(0, 300) };
            let mut has = false;
            for (first, pages) in holes {
                let hole = Extent::new(first, first + pages);
                room.add(hole);
                has |= want.first_in(hole, false).is_some();
            }
            prop_assert_eq!(room.may_hold(&want), has);
        }
    }
}
