//! A set of disjoint ranges in which "the lowest place for so many pages at
//! that alignment" takes log n steps. Both managers keep what is free in it.

#[cfg(test)]
pub(crate) mod checker;
mod node;
mod room;
mod search;
#[cfg(test)]
mod tests;
mod tree;

use crate::Error;
use crate::placement::Extent;
use alloc::vec::Vec;
use node::{NONE, Node};

/// Ranges of pages, none of which touches another: what touches is one range.
///
/// A balanced (AVL) tree of nodes with up to 16 ranges each. Its nodes lie in one
/// vector, which [`Self::reserve`] enlarges and nothing else does: a set that
/// reserved beforehand changes without memory, so that giving back cannot fail.
///
/// # Invariants
/// Ranges ascend through the tree in order; none is empty, overlaps or touches
/// the next. The subtrees of a node differ by at most one in height. `own` and
/// `all` of a node are what its ranges, and its subtree's, have room for. No node
/// is empty, and of two nodes in order at least one is half full, so that n
/// ranges take at most n / 4 + 1 nodes.
#[derive(Debug)]
pub(crate) struct Holes {
    nodes: Vec<Node>,
    root: u32,
    /// The first node that is not in the tree; `left` leads to the next.
    spare: u32,
    ranges: usize,
    pages: u64,
    /// Nodes that searches looked at.
    #[cfg(test)]
    pub(crate) steps: core::sync::atomic::AtomicU64,
}

impl Holes {
    /// The empty set.
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            root: NONE,
            spare: NONE,
            ranges: 0,
            pages: 0,
            #[cfg(test)]
            steps: core::sync::atomic::AtomicU64::new(0),
        }
    }

    /// How many ranges.
    pub(crate) const fn ranges(&self) -> usize {
        self.ranges
    }

    /// Pages in all of them.
    pub(crate) const fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages of the longest.
    pub(crate) fn longest(&self) -> u64 {
        self.node(self.root).map_or(0, |root| root.all.longest)
    }

    /// From now on the set can grow to `ranges` ranges without more memory.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing has changed.
    pub(crate) fn reserve(&mut self, ranges: usize) -> Result<(), Error> {
        // One more for the half of a node that is split before it is filled.
        let nodes = ranges / 4 + 2;
        self.nodes
            .try_reserve(nodes.saturating_sub(self.nodes.len()))?;
        Ok(())
    }

    /// The last range that begins at or below `page`.
    pub(crate) fn at_or_below(&self, page: u64) -> Option<Extent> {
        let node = self.node(self.below(page))?;
        let after = node.ranges().partition_point(|range| range.first <= page);
        node.ranges().get(after.checked_sub(1)?).copied()
    }

    /// The first range that begins above `page`.
    pub(crate) fn above(&self, page: u64) -> Option<Extent> {
        if let Some(node) = self.node(self.below(page)) {
            let after = node.ranges().partition_point(|range| range.first <= page);
            if let Some(range) = node.ranges().get(after) {
                return Some(*range);
            }
        }
        let node = self.node(self.node_above(page))?;
        node.ranges().first().copied()
    }

    /// The lowest run of pages that are in the set and in `window`.
    pub(crate) fn lowest_in(&self, window: Extent) -> Option<Extent> {
        let around = self.at_or_below(window.first);
        let inside = around.and_then(|range| range.common(window));
        inside.or_else(|| self.above(window.first)?.common(window))
    }

    /// All ranges, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Extent> {
        let mut next = self.lowest_in(Extent::new(0, u64::MAX));
        core::iter::from_fn(move || {
            let range = next?;
            next = self.above(range.first);
            Some(range)
        })
    }

    /// Adds a range of which no page is in the set. Room for it was reserved.
    pub(crate) fn insert(&mut self, range: Extent) {
        debug_assert!(self.lowest_in(range).is_none() && !range.is_empty());
        let before = self.at_or_below(range.first);
        let before = before.filter(|hole| hole.end == range.first);
        let after = self.at_or_below(range.end);
        let after = after.filter(|hole| hole.first == range.end);
        self.pages += range.pages();
        match (before, after) {
            (None, None) => self.add(range),
            (Some(before), None) => self.set(before.first, Extent::new(before.first, range.end)),
            (None, Some(after)) => self.set(after.first, Extent::new(range.first, after.end)),
            (Some(before), Some(after)) => {
                self.drop(after.first);
                self.set(before.first, Extent::new(before.first, after.end));
            }
        }
    }

    /// Takes out a range of which every page is in the set. Room for the range
    /// that may be left on its other side was reserved.
    pub(crate) fn take(&mut self, range: Extent) {
        let Some(hole) = self.at_or_below(range.first) else {
            return;
        };
        debug_assert!(hole.contains(range) && !range.is_empty());
        self.pages -= range.pages();
        match (hole.first == range.first, hole.end == range.end) {
            (true, true) => self.drop(hole.first),
            (true, false) => self.set(hole.first, Extent::new(range.end, hole.end)),
            (false, true) => self.set(hole.first, Extent::new(hole.first, range.first)),
            (false, false) => {
                self.set(hole.first, Extent::new(hole.first, range.first));
                self.add(Extent::new(range.end, hole.end));
            }
        }
    }

    /// Takes out all pages that are in the set and in `window`. Room for one range
    /// more was reserved.
    pub(crate) fn take_all(&mut self, window: Extent) {
        while let Some(range) = self.lowest_in(window) {
            self.take(range);
        }
    }
}
