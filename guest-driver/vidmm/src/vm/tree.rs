//! An ordered map whose memory is reserved beforehand.

use crate::Error;
use alloc::vec::Vec;
use core::cmp::Ordering;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    /// `None` in a node that waits to be used again; `left` leads to the next one.
    value: Option<V>,
    left: u32,
    right: u32,
    height: u8,
}

/// From keys to values, ascending, log n steps each way. A balanced (AVL) tree
/// whose nodes lie in one vector that [`Self::reserve`] alone enlarges, so that
/// what was prepared cannot fail for want of memory.
///
/// # Invariants
/// Keys ascend through the tree in order. The subtrees of a node differ by at
/// most one in height, which bounds every recursion here by 46.
#[derive(Debug)]
pub(crate) struct Tree<K, V> {
    nodes: Vec<Node<K, V>>,
    root: u32,
    spare: u32,
    len: usize,
}

impl<K: Copy + Ord, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Ord, V> Tree<K, V> {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            root: NONE,
            spare: NONE,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Room for `more` entries than there are.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing has changed then.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), Error> {
        let nodes = self.len.checked_add(more).ok_or(Error::NoMemory)?;
        if nodes >= NONE as usize {
            return Err(Error::NoMemory);
        }
        let missing = nodes.saturating_sub(self.nodes.len());
        self.nodes.try_reserve(missing)?;
        Ok(())
    }

    /// Adds an entry; the room was reserved, and the key is not there.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let node = Node {
            key,
            value: Some(value),
            left: NONE,
            right: NONE,
            height: 1,
        };
        let new = if let Some(spare) = self.nodes.get_mut(self.spare as usize) {
            let at = self.spare;
            self.spare = spare.left;
            *spare = node;
            at
        } else {
            debug_assert!(self.nodes.len() < self.nodes.capacity());
            self.nodes.push(node);
            // `reserve` keeps the number of nodes below NONE.
            u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
        };
        self.len += 1;
        self.root = self.insert_at(self.root, new, key);
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let (root, taken) = self.remove_at(self.root, key);
        self.root = root;
        let node = self.nodes.get_mut(taken as usize)?;
        node.left = core::mem::replace(&mut self.spare, taken);
        self.len -= 1;
        node.value.take()
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        let (at, value) = self.at_or_below(key)?;
        (at == key).then_some(value)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let mut at = self.root;
        while let Some(node) = self.nodes.get(at as usize) {
            at = match key.cmp(&node.key) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => break,
            };
        }
        self.nodes.get_mut(at as usize)?.value.as_mut()
    }

    /// The entry with the largest key at or below `key`.
    pub(crate) fn at_or_below(&self, key: K) -> Option<(K, &V)> {
        let (mut at, mut found) = (self.root, None);
        while let Some(node) = self.nodes.get(at as usize) {
            if node.key <= key {
                found = node.value.as_ref().map(|value| (node.key, value));
                at = node.right;
            } else {
                at = node.left;
            }
        }
        found
    }

    /// The entry with the smallest key above `key`.
    pub(crate) fn above(&self, key: K) -> Option<(K, &V)> {
        self.first(|other| other > key)
    }

    /// The entry with the smallest key at or above `key`.
    pub(crate) fn at_or_above(&self, key: K) -> Option<(K, &V)> {
        self.first(|other| other >= key)
    }

    /// The first entry whose key is far enough.
    fn first(&self, is_far: impl Fn(K) -> bool) -> Option<(K, &V)> {
        let (mut at, mut found) = (self.root, None);
        while let Some(node) = self.nodes.get(at as usize) {
            if is_far(node.key) {
                found = node.value.as_ref().map(|value| (node.key, value));
                at = node.left;
            } else {
                at = node.right;
            }
        }
        found
    }

    fn height(&self, at: u32) -> u8 {
        self.nodes.get(at as usize).map_or(0, |node| node.height)
    }

    fn insert_at(&mut self, at: u32, new: u32, key: K) -> u32 {
        let Some(node) = self.nodes.get(at as usize) else {
            return new;
        };
        let (left, right) = (node.left, node.right);
        if key < node.key {
            let left = self.insert_at(left, new, key);
            self.nodes[at as usize].left = left;
        } else {
            let right = self.insert_at(right, new, key);
            self.nodes[at as usize].right = right;
        }
        self.balance(at)
    }

    /// The subtree without `key`, and the node that had it.
    fn remove_at(&mut self, at: u32, key: K) -> (u32, u32) {
        let Some(node) = self.nodes.get(at as usize) else {
            return (NONE, NONE);
        };
        let (left, right) = (node.left, node.right);
        match key.cmp(&node.key) {
            Ordering::Less => {
                let (left, taken) = self.remove_at(left, key);
                self.nodes[at as usize].left = left;
                (self.balance(at), taken)
            }
            Ordering::Greater => {
                let (right, taken) = self.remove_at(right, key);
                self.nodes[at as usize].right = right;
                (self.balance(at), taken)
            }
            Ordering::Equal if left == NONE => (right, at),
            Ordering::Equal if right == NONE => (left, at),
            Ordering::Equal => {
                let (right, next) = self.remove_first(right);
                let heir = &mut self.nodes[next as usize];
                (heir.left, heir.right) = (left, right);
                (self.balance(next), at)
            }
        }
    }

    /// The subtree without its first node, and that node.
    fn remove_first(&mut self, at: u32) -> (u32, u32) {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        if left == NONE {
            return (right, at);
        }
        let (left, first) = self.remove_first(left);
        self.nodes[at as usize].left = left;
        (self.balance(at), first)
    }

    fn update(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let height = 1 + self.height(node.left).max(self.height(node.right));
        self.nodes[at as usize].height = height;
    }

    /// Makes a subtree whose children are balanced, and differ by at most two,
    /// balanced; its new top.
    ///
    /// INVARIANT: called for each node on the way back up from a change.
    fn balance(&mut self, at: u32) -> u32 {
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        if self.height(left) > self.height(right) + 1 {
            let child = &self.nodes[left as usize];
            if self.height(child.left) < self.height(child.right) {
                self.nodes[at as usize].left = self.rotate_left(left);
            }
            return self.rotate_right(at);
        }
        if self.height(right) > self.height(left) + 1 {
            let child = &self.nodes[right as usize];
            if self.height(child.right) < self.height(child.left) {
                self.nodes[at as usize].right = self.rotate_right(right);
            }
            return self.rotate_left(at);
        }
        self.update(at);
        at
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let top = self.nodes[at as usize].right;
        self.nodes[at as usize].right = self.nodes[top as usize].left;
        self.nodes[top as usize].left = at;
        self.update(at);
        self.update(top);
        top
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let top = self.nodes[at as usize].left;
        self.nodes[at as usize].left = self.nodes[top as usize].right;
        self.nodes[top as usize].right = at;
        self.update(at);
        self.update(top);
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl<K: Copy + Ord, V> Tree<K, V> {
        fn check(&self, at: u32) -> u8 {
            let Some(node) = self.nodes.get(at as usize) else {
                return 0;
            };
            let (left, right) = (self.check(node.left), self.check(node.right));
            assert!(left.abs_diff(right) <= 1);
            assert_eq!(node.height, left.max(right) + 1);
            node.height
        }
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(ops in prop::collection::vec((any::<bool>(), 0..200_u64), 1..600)) {
            let (mut tree, mut naive) = (Tree::new(), BTreeMap::new());
            for (n, (add, key)) in ops.into_iter().enumerate() {
                if add && !naive.contains_key(&key) {
                    tree.reserve(1).unwrap();
                    let room = tree.nodes.capacity();
                    tree.insert(key, n);
                    prop_assert_eq!(tree.nodes.capacity(), room, "insert allocates nothing");
                    naive.insert(key, n);
                } else {
                    prop_assert_eq!(tree.remove(key), naive.remove(&key));
                }
                tree.check(tree.root);
                prop_assert_eq!(tree.len(), naive.len());
                let below = naive.range(..=key).next_back().map(|(key, value)| (*key, value));
                prop_assert_eq!(tree.at_or_below(key), below);
                let above = naive.range(key + 1..).next().map(|(key, value)| (*key, value));
                prop_assert_eq!(tree.above(key), above);
                let here = naive.range(key..).next().map(|(key, value)| (*key, value));
                prop_assert_eq!(tree.at_or_above(key), here);
                prop_assert_eq!(tree.get(key), naive.get(&key));
                prop_assert_eq!(tree.get_mut(key).map(|value| *value), naive.get(&key).copied());
            }
            // Nodes are used again.
            prop_assert!(tree.nodes.len() <= 200);
        }
    }
}
