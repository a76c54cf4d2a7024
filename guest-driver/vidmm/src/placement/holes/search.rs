//! Finding a place.

use super::room::Want;
use super::{Holes, NONE};
use crate::placement::{Extent, Fit};

impl Holes {
    /// The first page of a place for `pages` pages, not 0, at a multiple of
    /// `align`, not 0, with every page in the set and in `window`.
    ///
    /// [`Fit::Low`] and [`Fit::High`] take log n steps for 2^n pages at a multiple
    /// of 2^m, and for any number at alignment 1. [`Fit::Best`] looks at each hole
    /// in the window that is long enough, until one fits exactly.
    pub(crate) fn find(&self, pages: u64, align: u64, window: Extent, fit: Fit) -> Option<u64> {
        let want = Want {
            pages,
            align,
            window,
        };
        match fit {
            Fit::Low => self.search(self.root, &want, false),
            Fit::High => self.search(self.root, &want, true),
            Fit::Best => {
                let mut best = None;
                self.search_best(self.root, &want, &mut best);
                best.map(|(_, first)| first)
            }
        }
    }

    fn search(&self, at: u32, want: &Want, down: bool) -> Option<u64> {
        let node = self.node(at)?;
        self.count_step();
        if !node.all.may_hold(want) {
            return None;
        }
        let ranges = node.ranges();
        let (first, end) = (ranges.first()?.first, ranges.last()?.end);
        // Beyond the window there is nothing to find.
        let lower = if want.window.first < first {
            node.left
        } else {
            NONE
        };
        let upper = if end < want.window.end {
            node.right
        } else {
            NONE
        };
        let (near, far) = if down { (upper, lower) } else { (lower, upper) };
        if let Some(found) = self.search(near, want, down) {
            return Some(found);
        }
        if node.own().may_hold(want) {
            let place = |hole: &Extent| want.first_in(*hole, down);
            let found = if down {
                ranges.iter().rev().find_map(place)
            } else {
                ranges.iter().find_map(place)
            };
            if found.is_some() {
                return found;
            }
        }
        self.search(far, want, down)
    }

    /// Leaves in `best` the length of the shortest hole with room, and where.
    fn search_best(&self, at: u32, want: &Want, best: &mut Option<(u64, u64)>) {
        let exact = best.is_some_and(|(length, _)| length == want.pages);
        let Some(node) = self.node(at).filter(|n| !exact && n.all.may_hold(want)) else {
            return;
        };
        self.count_step();
        let ranges = node.ranges();
        if want.window.first < node.first() {
            self.search_best(node.left, want, best);
        }
        for hole in ranges {
            let shorter = best.is_none_or(|(length, _)| hole.pages() < length);
            if let Some(first) = want.first_in(*hole, false).filter(|_| shorter) {
                *best = Some((hole.pages(), first));
            }
        }
        if ranges.last().is_some_and(|last| last.end < want.window.end) {
            self.search_best(node.right, want, best);
        }
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests count"))]
    fn count_step(&self) {
        #[cfg(test)]
        self.steps
            .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    }
}
