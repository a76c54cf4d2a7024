//! One node of the tree: some neighbouring ranges, and what they have room for.

use super::room::Room;
use crate::placement::Extent;

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// Ranges that fit into a node.
pub(super) const RANGES: usize = 16;

const EMPTY: Extent = Extent::new(0, 0);

/// # Invariants
/// `ranges()` ascend. `own` is what they have room for.
#[derive(Debug)]
pub(super) struct Node {
    ranges: [Extent; RANGES],
    len: u8,
    pub(super) height: u8,
    pub(super) parent: u32,
    pub(super) left: u32,
    pub(super) right: u32,
    own: Room,
    /// What the whole subtree has room for.
    pub(super) all: Room,
}

impl Node {
    /// A node with up to [`RANGES`] ranges and no children.
    pub(super) fn new(ranges: &[Extent]) -> Self {
        let mut node = Self {
            ranges: [EMPTY; RANGES],
            len: 0,
            height: 1,
            parent: NONE,
            left: NONE,
            right: NONE,
            own: Room::NONE,
            all: Room::NONE,
        };
        node.append(ranges);
        node.all = node.own;
        node
    }

    pub(super) fn ranges(&self) -> &[Extent] {
        &self.ranges[..self.len()]
    }

    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) const fn own(&self) -> &Room {
        &self.own
    }

    /// Where its first range begins: what orders the nodes.
    pub(super) const fn first(&self) -> u64 {
        self.ranges[0].first
    }

    /// Where its last range ends.
    pub(super) const fn end(&self) -> u64 {
        self.ranges[self.len().saturating_sub(1)].end
    }

    /// How many of its ranges begin at or below `page`.
    pub(super) fn count_to(&self, page: u64) -> usize {
        self.ranges().partition_point(|range| range.first <= page)
    }

    /// Puts a range at `index`. There is room.
    pub(super) fn add(&mut self, index: usize, range: Extent) {
        self.ranges.copy_within(index..RANGES - 1, index + 1);
        self.ranges[index] = range;
        self.len += 1;
        self.own.add(range);
    }

    pub(super) fn set(&mut self, index: usize, range: Extent) {
        let before = core::mem::replace(&mut self.ranges[index], range);
        self.own.add(range);
        self.forget(before);
    }

    pub(super) fn drop(&mut self, index: usize) {
        let before = self.ranges[index];
        self.ranges.copy_within(index + 1.., index);
        self.len -= 1;
        self.forget(before);
    }

    /// Puts further ranges behind its own. There is room.
    pub(super) fn append(&mut self, ranges: &[Extent]) {
        for range in ranges {
            self.ranges[self.len()] = *range;
            self.len += 1;
            self.own.add(*range);
        }
    }

    /// Keeps its first `len` ranges.
    pub(super) fn truncate(&mut self, len: u8) {
        self.len = len;
        self.measure();
    }

    /// INVARIANT: `own` is right again after `before` has gone.
    fn forget(&mut self, before: Extent) {
        if self.own.aligned_by(before) {
            self.measure();
        } else {
            let lengths = self.ranges().iter().map(|range| range.pages());
            self.own.longest = lengths.max().unwrap_or(0);
        }
    }

    fn measure(&mut self) {
        let mut own = Room::NONE;
        for range in self.ranges() {
            own.add(*range);
        }
        self.own = own;
    }
}
