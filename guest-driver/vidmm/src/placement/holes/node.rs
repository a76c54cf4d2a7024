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

    /// The index of the range that begins at `first`.
    pub(super) fn index(&self, first: u64) -> Option<usize> {
        let found = self.ranges().binary_search_by_key(&first, |r| r.first);
        found.ok()
    }

    /// Puts a range in its place among the others. There is room.
    pub(super) fn add(&mut self, range: Extent) {
        let at = self.ranges().partition_point(|r| r.first < range.first);
        self.ranges.copy_within(at..RANGES - 1, at + 1);
        self.ranges[at] = range;
        self.len += 1;
        self.own.add(range);
    }

    pub(super) fn set(&mut self, index: usize, range: Extent) {
        self.ranges[index] = range;
        self.measure();
    }

    pub(super) fn drop(&mut self, index: usize) {
        self.ranges.copy_within(index + 1.., index);
        self.len -= 1;
        self.measure();
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

    fn measure(&mut self) {
        let mut own = Room::NONE;
        for range in self.ranges() {
            own.add(*range);
        }
        self.own = own;
    }
}
