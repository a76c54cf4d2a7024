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
        let recent = self.node(self.recent).filter(|node| node.len() > 0);
        if recent.is_some_and(|node| node.first() <= page && page <= node.end()) {
            return self.recent;
        }
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

    /// Adds a range that touches none, at `index` of the node `at`: the last that
    /// begins below it, if there is one.
    pub(super) fn add(&mut self, at: u32, index: usize, range: Extent) {
        self.ranges += 1;
        let (mut at, mut index) = (at, index);
        if at == NONE {
            at = self.node_above(range.first);
        }
        if at == NONE {
            let root = self.new_node(&[range]);
            self.set_root(root);
            return;
        }
        if self.edit(at).len() == RANGES {
            let new = self.split(at);
            if let Some(above) = index.checked_sub(RANGES / 2).filter(|above| *above > 0) {
                (at, index) = (new, above);
            }
        }
        self.change(at, |node| node.add(index, range));
    }

    /// Replaces a range by one in the same gap.
    pub(super) fn set(&mut self, at: u32, index: usize, range: Extent) {
        self.change(at, |node| node.set(index, range));
    }

    /// Takes out a range.
    pub(super) fn drop(&mut self, at: u32, index: usize) {
        self.ranges -= 1;
        let node = self.edit(at);
        let first = node.first();
        if node.len() == 1 {
            self.unlink_node(at, first);
            return;
        }
        self.change(at, |node| node.drop(index));
        self.merge(at);
    }

    /// Changes the ranges of a node, of which at least one stays.
    fn change(&mut self, at: u32, edit: impl FnOnce(&mut Node)) {
        self.recent = at;
        let node = self.edit(at);
        let before = *node.own();
        edit(node);
        if *node.own() != before {
            self.measure_up(at);
        }
    }

    /// Moves the upper half of a full node to a new one.
    fn split(&mut self, at: u32) -> u32 {
        let mut upper = [Extent::new(0, 0); RANGES / 2];
        upper.copy_from_slice(&self.edit(at).ranges()[RANGES / 2..]);
        self.change(at, |node| node.truncate(8));
        let new = self.new_node(&upper);
        let root = self.link(self.root, new);
        self.set_root(root);
        new
    }

    /// Takes the node that begins at `first` out of the tree.
    fn unlink_node(&mut self, at: u32, first: u64) {
        let root = self.unlink(self.root, first);
        self.set_root(root);
        let spare = self.spare;
        let node = self.edit(at);
        node.truncate(0);
        node.left = spare;
        self.spare = at;
    }

    /// INVARIANT: of two nodes in order at least one is half full. `at` has lost
    /// a range: it takes in neighbours until that is so again.
    fn merge(&mut self, mut at: u32) {
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
                at = previous;
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
        self.unlink_node(upper, first);
        self.change(lower, |node| node.append(&moved[..len]));
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

    /// Measures the subtrees that contain `at`, whose ranges have changed.
    fn measure_up(&mut self, at: u32) {
        let mut next = at;
        while let Some(node) = self.node(next) {
            let (before, parent) = (node.all, node.parent);
            self.measure(next);
            if self.edit(next).all == before {
                return;
            }
            next = parent;
        }
    }

    fn set_root(&mut self, root: u32) {
        self.root = root;
        if root != NONE {
            self.edit(root).parent = NONE;
        }
    }

    fn set_left(&mut self, at: u32, child: u32) {
        self.edit(at).left = child;
        if child != NONE {
            self.edit(child).parent = at;
        }
    }

    fn set_right(&mut self, at: u32, child: u32) {
        self.edit(at).right = child;
        if child != NONE {
            self.edit(child).parent = at;
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
            let left = self.link(left, new);
            self.set_left(at, left);
        } else {
            let right = self.link(right, new);
            self.set_right(at, right);
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
            let left = self.unlink(left, first);
            self.set_left(at, left);
        } else if first > here {
            let right = self.unlink(right, first);
            self.set_right(at, right);
        } else if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        } else {
            let (least, rest) = self.unlink_first(right);
            self.set_left(least, left);
            self.set_right(least, rest);
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
        self.set_left(at, rest);
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
                let left = self.rotate_left(left);
                self.set_left(at, left);
            }
            return self.rotate_right(at);
        }
        if self.height(right) > self.height(left) + 1 {
            let inner = self.nodes[right as usize].left;
            if self.height(inner) > self.height(self.nodes[right as usize].right) {
                let right = self.rotate_right(right);
                self.set_right(at, right);
            }
            return self.rotate_left(at);
        }
        self.measure(at);
        at
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let up = self.nodes[at as usize].right;
        self.set_right(at, self.nodes[up as usize].left);
        self.set_left(up, at);
        self.measure(at);
        self.measure(up);
        up
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let up = self.nodes[at as usize].left;
        self.set_left(at, self.nodes[up as usize].right);
        self.set_right(up, at);
        self.measure(at);
        self.measure(up);
        up
    }
}
