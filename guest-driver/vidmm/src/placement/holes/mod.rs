//! A set of disjoint ranges in which "the lowest place for so many pages at
//! that alignment" takes log n steps. Both managers keep what is free in it.
//!
//! `BTreeMap` would do neither half of it: it knows nothing of room, so that every
//! hole below would be looked at; and it cannot say that memory is out, so that the
//! kernel would stop where a program has only to be told.

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
    /// The node that was changed last; the next change is often near.
    recent: u32,
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
            recent: NONE,
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
    fn at_or_below(&self, page: u64) -> Option<Extent> {
        let node = self.node(self.below(page))?;
        let index = node.count_to(page).checked_sub(1)?;
        node.ranges().get(index).copied()
    }

    /// The first range that begins above `page`.
    pub(crate) fn above(&self, page: u64) -> Option<Extent> {
        if let Some(node) = self.node(self.below(page))
            && let Some(range) = node.ranges().get(node.count_to(page))
        {
            return Some(*range);
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
        self.pages += range.pages();
        let at = self.below(range.first);
        let node = self.node(at);
        let index = node.map_or(0, |node| node.count_to(range.first));
        let before = index
            .checked_sub(1)
            .and_then(|last| node?.ranges().get(last));
        let before = before.filter(|hole| hole.end == range.first).copied();
        let after = node.and_then(|node| node.ranges().get(index));
        let (next, next_index) = match after {
            Some(_) => (at, index),
            None => (self.node_above(range.first), 0),
        };
        let after = after.or_else(|| self.node(next)?.ranges().first());
        let after = after.filter(|hole| hole.first == range.end).copied();
        match (before, after) {
            (None, None) => self.add(at, index, range),
            (Some(hole), None) => self.set(at, index - 1, Extent::new(hole.first, range.end)),
            (None, Some(hole)) => self.set(next, next_index, Extent::new(range.first, hole.end)),
            (Some(before), Some(after)) => {
                self.set(at, index - 1, Extent::new(before.first, after.end));
                self.drop(next, next_index);
            }
        }
    }

    /// Takes out a range of which every page is in the set. Room for the range
    /// that may be left on its other side was reserved.
    pub(crate) fn take(&mut self, range: Extent) {
        let at = self.below(range.first);
        let Some(node) = self.node(at) else {
            return;
        };
        let index = node.count_to(range.first).saturating_sub(1);
        let Some(hole) = node.ranges().get(index).copied() else {
            return;
        };
        debug_assert!(hole.contains(range) && !range.is_empty());
        self.pages -= range.pages();
        match (hole.first == range.first, hole.end == range.end) {
            (true, true) => self.drop(at, index),
            (true, false) => self.set(at, index, Extent::new(range.end, hole.end)),
            (false, true) => self.set(at, index, Extent::new(hole.first, range.first)),
            (false, false) => {
                self.set(at, index, Extent::new(hole.first, range.first));
                self.add(at, index + 1, Extent::new(range.end, hole.end));
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
