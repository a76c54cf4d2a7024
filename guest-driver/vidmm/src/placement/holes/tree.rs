//! Keeping the tree ordered, balanced and measured.

use super::node::RANGES;
use super::{Holes, NONE, Node};
use crate::placement::Extent;

impl Holes {
    pub(super) fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    /// A node that is in the tree.
    fn edit(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize]
    }

    /// The node with the last range that begins at or below `page`.
    pub(super) fn below(&self, page: u64) -> u32 {
        let (mut at, mut found) = (self.root, NONE);
        while let Some(node) = self.node(at) {
            if node.first() <= page {
                found = at;
                at = node.right;
            } else {
                at = node.left;
            }
        }
        found
    }

    /// The first of the nodes whose ranges all begin above `page`.
    pub(super) fn node_above(&self, page: u64) -> u32 {
        let (mut at, mut found) = (self.root, NONE);
        while let Some(node) = self.node(at) {
            if page < node.first() {
                found = at;
                at = node.left;
            } else {
                at = node.right;
            }
        }
        found
    }

    /// Adds a range that touches none.
    pub(super) fn add(&mut self, range: Extent) {
        self.ranges += 1;
        let mut at = self.below(range.first);
        if at == NONE {
            at = self.node_above(range.first);
        }
        if at == NONE {
            self.root = self.new_node(&[range]);
            return;
        }
        if self.edit(at).len() == RANGES {
            at = self.split(at, range.first);
        }
        self.edit(at).add(range);
        self.measure_up(at);
    }

    /// Replaces the range that begins at `first`, by one in the same gap.
    pub(super) fn set(&mut self, first: u64, range: Extent) {
        let at = self.below(first);
        if let Some(index) = self.node(at).and_then(|node| node.index(first)) {
            self.edit(at).set(index, range);
            self.measure_up(at);
        }
    }

    /// Takes out the range that begins at `first`.
    pub(super) fn drop(&mut self, first: u64) {
        let at = self.below(first);
        let Some(index) = self.node(at).and_then(|node| node.index(first)) else {
            return;
        };
        self.ranges -= 1;
        if self.edit(at).len() == 1 {
            self.root = self.unlink(self.root, first);
            self.give_back(at);
            return;
        }
        self.edit(at).drop(index);
        self.measure_up(at);
        self.merge(at);
    }

    /// Makes two nodes of a full one; the one in which `page` belongs.
    fn split(&mut self, at: u32, page: u64) -> u32 {
        let mut upper = [Extent::new(0, 0); RANGES / 2];
        let node = self.edit(at);
        upper.copy_from_slice(&node.ranges()[RANGES / 2..]);
        node.truncate(8);
        self.measure_up(at);
        let new = self.new_node(&upper);
        self.root = self.link(self.root, new);
        if page < upper[0].first { at } else { new }
    }

    /// INVARIANT: of two nodes in order at least one is half full. `at` has lost
    /// a range: it takes in neighbours until that is so again.
    fn merge(&mut self, at: u32) {
        loop {
            let Some(node) = self.node(at).filter(|node| node.len() < RANGES / 2) else {
                return;
            };
            let first = node.first();
            let next = self.node_above(first);
            let previous = first.checked_sub(1).map_or(NONE, |page| self.below(page));
            let room = RANGES - node.len();
            let fits = |other| self.node(other).is_some_and(|n| n.len() <= room);
            if fits(next) {
                self.absorb(at, next);
            } else if fits(previous) {
                self.absorb(previous, at);
                return self.merge(previous);
            } else {
                return;
            }
        }
    }

    /// Moves the ranges of `upper` behind those of `lower`, the node before it.
    fn absorb(&mut self, lower: u32, upper: u32) {
        let mut moved = [Extent::new(0, 0); RANGES];
        let node = self.edit(upper);
        let (first, len) = (node.first(), node.len());
        moved[..len].copy_from_slice(node.ranges());
        self.root = self.unlink(self.root, first);
        self.give_back(upper);
        self.edit(lower).append(&moved[..len]);
        self.measure_up(lower);
    }

    /// A node for `ranges`, not yet in the tree.
    fn new_node(&mut self, ranges: &[Extent]) -> u32 {
        let node = Node::new(ranges);
        let at = self.spare;
        if at != NONE {
            self.spare = core::mem::replace(self.edit(at), node).left;
            return at;
        }
        // Within what was reserved, so that this needs no memory; and a tree with
        // 2^32 nodes is larger than any memory for it.
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
    }

    fn give_back(&mut self, at: u32) {
        let spare = self.spare;
        self.edit(at).left = spare;
        self.spare = at;
    }

    /// Measures the subtrees that contain `at`, whose ranges have changed.
    fn measure_up(&mut self, at: u32) {
        let Some(first) = self.node(at).map(Node::first) else {
            return;
        };
        // An AVL tree of 2^32 nodes is 46 high.
        let mut path = [NONE; 48];
        let (mut depth, mut next) = (0, self.root);
        while next != NONE && depth < path.len() {
            path[depth] = next;
            depth += 1;
            let node = &self.nodes[next as usize];
            next = if next == at {
                NONE
            } else if first < node.first() {
                node.left
            } else {
                node.right
            };
        }
        for &at in path[..depth].iter().rev() {
            let before = self.nodes[at as usize].all;
            self.measure(at);
            if self.nodes[at as usize].all == before {
                return;
            }
        }
    }

    /// INVARIANT: `all` and `height` of one node, whose children are right.
    fn measure(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let (mut all, mut height) = (*node.own(), 0);
        for child in [node.left, node.right] {
            if let Some(child) = self.node(child) {
                all.join(&child.all);
                height = height.max(child.height);
            }
        }
        let node = self.edit(at);
        node.all = all;
        node.height = height + 1;
    }

    /// Puts the node `new` into the subtree of `at`; the subtree's new root.
    fn link(&mut self, at: u32, new: u32) -> u32 {
        let Some(node) = self.node(at) else {
            return new;
        };
        let (left, right) = (node.left, node.right);
        if self.nodes[new as usize].first() < node.first() {
            self.edit(at).left = self.link(left, new);
        } else {
            self.edit(at).right = self.link(right, new);
        }
        self.balance(at)
    }

    /// Takes the node that begins at `first` out of the subtree of `at`; the
    /// subtree's new root.
    fn unlink(&mut self, at: u32, first: u64) -> u32 {
        let Some(node) = self.node(at) else {
            return NONE;
        };
        let (left, right, here) = (node.left, node.right, node.first());
        if first < here {
            self.edit(at).left = self.unlink(left, first);
        } else if first > here {
            self.edit(at).right = self.unlink(right, first);
        } else if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        } else {
            let (least, rest) = self.unlink_first(right);
            self.edit(least).left = left;
            self.edit(least).right = rest;
            return self.balance(least);
        }
        self.balance(at)
    }

    /// Takes the first node out of a subtree: that node, and the new root.
    fn unlink_first(&mut self, at: u32) -> (u32, u32) {
        let node = &self.nodes[at as usize];
        if node.left == NONE {
            return (at, node.right);
        }
        let (least, rest) = self.unlink_first(node.left);
        self.edit(at).left = rest;
        (least, self.balance(at))
    }

    fn height(&self, at: u32) -> u8 {
        self.node(at).map_or(0, |node| node.height)
    }

    /// INVARIANT: the subtrees of `at`, one of which may have changed by one in
    /// height, differ by at most one afterwards. The subtree's new root.
    fn balance(&mut self, at: u32) -> u32 {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        if self.height(left) > self.height(right) + 1 {
            let inner = self.nodes[left as usize].right;
            if self.height(inner) > self.height(self.nodes[left as usize].left) {
                self.edit(at).left = self.rotate_left(left);
            }
            return self.rotate_right(at);
        }
        if self.height(right) > self.height(left) + 1 {
            let inner = self.nodes[right as usize].left;
            if self.height(inner) > self.height(self.nodes[right as usize].right) {
                self.edit(at).right = self.rotate_right(right);
            }
            return self.rotate_left(at);
        }
        self.measure(at);
        at
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let up = self.nodes[at as usize].right;
        self.edit(at).right = self.nodes[up as usize].left;
        self.edit(up).left = at;
        self.measure(at);
        self.measure(up);
        up
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let up = self.nodes[at as usize].left;
        self.edit(at).left = self.nodes[up as usize].right;
        self.edit(up).right = at;
        self.measure(at);
        self.measure(up);
        up
    }
}
