//! The invariants of the set, and the set as a map of pages, for tests.

use super::node::RANGES;
use super::room::Room;
use super::{Holes, NONE, Node};
use crate::placement::{Extent, Fit};
use std::sync::atomic::Ordering;

impl Holes {
    /// Every invariant that the type states.
    ///
    /// # Panics
    /// When one does not hold.
    pub(crate) fn check(&self) {
        let ranges: Vec<Extent> = self.iter().collect();
        assert!(ranges.iter().all(|range| !range.is_empty()));
        let apart = |pair: &[Extent]| pair[0].end < pair[1].first;
        assert!(ranges.windows(2).all(apart), "{ranges:?} touch");
        assert_eq!(ranges.len(), self.ranges());
        assert_eq!(ranges.iter().map(|r| r.pages()).sum::<u64>(), self.pages());
        let mut lengths = Vec::new();
        assert!(self.node(self.root).is_none_or(|root| root.parent == NONE));
        self.check_node(self.root, &mut lengths);
        assert_eq!(lengths.iter().sum::<usize>(), ranges.len());
        let half = |pair: &[usize]| pair.iter().any(|len| *len >= RANGES / 2);
        assert!(lengths.windows(2).all(half), "{lengths:?} half full");
        assert!(lengths.len() <= ranges.len() / 4 + 1);
    }

    fn check_node(&self, at: u32, lengths: &mut Vec<usize>) -> (u8, Room) {
        let Some(node) = self.node(at) else {
            assert_eq!(at, NONE);
            return (0, Room::NONE);
        };
        assert!(!node.ranges().is_empty());
        for child in [node.left, node.right] {
            assert!(self.node(child).is_none_or(|child| child.parent == at));
        }
        let mut all = Room::NONE;
        node.ranges().iter().for_each(|range| all.add(*range));
        assert_eq!(*node.own(), all);
        let (left, room) = self.check_node(node.left, lengths);
        all.join(&room);
        lengths.push(node.len());
        let (right, room) = self.check_node(node.right, lengths);
        all.join(&room);
        assert!(left.abs_diff(right) <= 1, "heights {left} and {right}");
        assert_eq!((node.height, node.all), (left.max(right) + 1, all));
        (node.height, all)
    }

    /// Nodes in its vector, and how many it has memory for.
    pub(crate) fn memory(&self) -> (usize, usize) {
        (self.nodes.len(), self.nodes.capacity())
    }

    /// Nodes that searches looked at since the last time.
    pub(crate) fn take_steps(&self) -> u64 {
        self.steps.swap(0, Ordering::Relaxed)
    }

    /// Nodes on the longest way down.
    pub(crate) fn depth(&self) -> u8 {
        self.node(self.root).map_or(0, |root: &Node| root.height)
    }
}

/// Where a search of every page of a map would find a place: `free[n]` says
/// whether page n may be taken.
pub(crate) fn naive_find(
    free: &[bool],
    pages: u64,
    align: u64,
    window: Extent,
    fit: Fit,
) -> Option<u64> {
    let at = |page: u64| free.get(usize::try_from(page).ok()?).copied();
    let end = window.end.min(free.len() as u64);
    let fits = |first: &u64| {
        first.is_multiple_of(align)
            && first + pages <= end
            && (*first..first + pages).all(|page| at(page) == Some(true))
    };
    let mut places = window.first..end;
    match fit {
        Fit::Low => places.find(fits),
        Fit::High => places.rfind(fits),
        Fit::Best => places.filter(fits).min_by_key(|first| {
            let hole = naive_runs(free)
                .into_iter()
                .find(|hole| hole.contains(Extent::new(*first, first + pages)));
            (hole.map(Extent::pages), *first)
        }),
    }
}

/// The runs of pages for which the map says true.
pub(crate) fn naive_runs(map: &[bool]) -> Vec<Extent> {
    let mut runs: Vec<Extent> = Vec::new();
    for (page, _) in (0_u64..).zip(map).filter(|(_, free)| **free) {
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => runs.push(Extent::new(page, page + 1)),
        }
    }
    runs
}
