//! Walks, whose cursors survive what is done to the lists between two steps.

use super::nodes::{Content, List, NONE};
use super::{EntryId, Lru, PRIORITIES};
use crate::Error;

/// A walk on its way, to be ended by [`Lru::end`].
///
/// ```
/// use vidmm::evict::lru::{Facts, Lru};
/// let mut lru: Lru<&str, 1> = Lru::new();
/// let facts = Facts { mem_type: 0, priority: 0, pinned: false, swapped: false, group: None };
/// let first = lru.insert("first", facts)?;
/// lru.insert("second", facts)?;
/// let walk = lru.walk(0)?;
/// // What is used meanwhile has left the walk, which goes on behind it.
/// lru.touch(first)?;
/// assert_eq!(lru.next(walk).map(|(_, bo)| bo), Some("second"));
/// assert_eq!(lru.next(walk), None);
/// lru.end(walk);
/// # Ok::<(), vidmm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
pub(super) struct Walk {
    pub(super) generation: u32,
    pub(super) alive: bool,
    pub(super) mem_type: usize,
    pub(super) priority: usize,
    /// What came to a tail at or after this stamp is not part of the walk.
    pub(super) end: u64,
    /// The next node of the main list.
    pub(super) outer: u32,
    /// The next member of the group the walk is in.
    pub(super) inner: u32,
}

impl<T: Copy, const TYPES: usize> Lru<T, TYPES> {
    /// The entry that a walk of a memory type would see first.
    pub fn first(&self, mem_type: usize) -> Option<T> {
        let lists = self.lists.get(mem_type)?;
        let head = lists
            .iter()
            .map(|list| list.head)
            .find(|&head| head != NONE)?;
        let first = match self.nodes[head as usize].content {
            Content::Position { group, list } => {
                let members = &self.groups[group as usize].members;
                members[list / PRIORITIES][list % PRIORITIES].head
            }
            _ => head,
        };
        self.named(first).map(|(_, value)| value)
    }

    /// The entries of a memory type, the last that came to a tail first in each of its
    /// lists, with their stamps: the larger, the later. Members of a group have those
    /// of the group.
    pub fn newest(&self, mem_type: usize) -> impl Iterator<Item = (u64, T)> {
        let back = |node: u32| Some(self.nodes.get(node as usize)?.previous).filter(|n| *n != NONE);
        let ends = |list: &List| Some(list.tail).filter(|node| *node != NONE);
        let lists = self.lists.get(mem_type).into_iter().flatten().rev();
        let outer =
            lists.flat_map(move |list| core::iter::successors(ends(list), move |n| back(*n)));
        outer.flat_map(move |outer| {
            let node = &self.nodes[outer as usize];
            let (first, members) = match node.content {
                Content::Position { group, list } => {
                    let members = &self.groups[group as usize].members;
                    (ends(&members[list / PRIORITIES][list % PRIORITIES]), true)
                }
                _ => (Some(outer), false),
            };
            let inner = core::iter::successors(first, move |n| back(*n).filter(|_| members));
            inner.filter_map(move |inner| Some((node.stamp, self.named(inner)?.1)))
        })
    }

    /// Begins a walk of a memory type. What comes to a tail from now on is not
    /// part of it, so that it ends whatever is done between its steps (R-10.6).
    ///
    /// # Errors
    /// [`Error::NoMemory`]; [`Error::Invalid`] for a type that does not exist.
    pub fn walk(&mut self, mem_type: usize) -> Result<Cursor, Error> {
        let outer = self.lists.get(mem_type).ok_or(Error::Invalid)?[0].head;
        let unused = self
            .walks
            .iter()
            .position(|w| !w.alive && w.generation != u32::MAX);
        let slot = unused.unwrap_or(self.walks.len());
        if unused.is_none() {
            self.walks.try_reserve(1)?;
            self.walks.push(Walk {
                generation: 0,
                alive: false,
                mem_type: 0,
                priority: 0,
                end: 0,
                outer: NONE,
                inner: NONE,
            });
        }
        let end = self.stamp;
        let walk = &mut self.walks[slot];
        *walk = Walk {
            generation: walk.generation + 1,
            alive: true,
            mem_type,
            priority: 0,
            end,
            outer: NONE,
            inner: NONE,
        };
        let generation = walk.generation;
        self.set_outer(slot, outer);
        let slot = u32::try_from(slot).map_err(|_| Error::NoMemory)?;
        Ok(Cursor { slot, generation })
    }

    /// The walk's next entry, `None` at its end and for a walk that was ended.
    pub fn next(&mut self, cursor: Cursor) -> Option<(EntryId, T)> {
        let slot = self.walk_slot(cursor)?;
        loop {
            let inner = self.walks[slot].inner;
            if inner != NONE {
                let node = &self.nodes[inner as usize];
                // A member that came to the tail of its sub-list meanwhile, and
                // all behind it.
                if node.stamp >= self.walks[slot].end {
                    self.set_inner(slot, NONE);
                    continue;
                }
                let next = node.next;
                self.set_inner(slot, next);
                return self.named(inner);
            }
            let outer = self.walks[slot].outer;
            let in_time = outer != NONE && self.nodes[outer as usize].stamp < self.walks[slot].end;
            if !in_time {
                let walk = &mut self.walks[slot];
                walk.priority += 1;
                if walk.priority >= PRIORITIES {
                    walk.priority = PRIORITIES;
                    self.set_outer(slot, NONE);
                    return None;
                }
                let head = self.lists[walk.mem_type][walk.priority].head;
                self.set_outer(slot, head);
                continue;
            }
            let next = self.nodes[outer as usize].next;
            self.set_outer(slot, next);
            match self.nodes[outer as usize].content {
                Content::Position { group, list } => {
                    let members = &self.groups[group as usize].members;
                    let head = members[list / PRIORITIES][list % PRIORITIES].head;
                    self.set_inner(slot, head);
                }
                _ => return self.named(outer),
            }
        }
    }

    /// Ends a walk, early or not. Again is harmless (R-10.5).
    pub fn end(&mut self, cursor: Cursor) {
        if let Some(slot) = self.walk_slot(cursor) {
            self.set_outer(slot, NONE);
            self.set_inner(slot, NONE);
            self.walks[slot].alive = false;
        }
    }

    pub(super) fn named(&self, node: u32) -> Option<(EntryId, T)> {
        let generation = self.nodes[node as usize].generation;
        match self.nodes[node as usize].content {
            Content::Entry(value, _) => Some((EntryId { node, generation }, value)),
            _ => None,
        }
    }

    pub(super) fn walk_slot(&self, cursor: Cursor) -> Option<usize> {
        let walk = self.walks.get(cursor.slot as usize)?;
        (walk.alive && walk.generation == cursor.generation).then_some(cursor.slot as usize)
    }

    /// Walks whose next step is a node that leaves go on behind it.
    pub(super) fn step_off(&mut self, node: u32) {
        let next = self.nodes[node as usize].next;
        for slot in 0..self.walks.len() {
            if self.nodes[node as usize].cursors == 0 {
                return;
            }
            if self.walks[slot].outer == node {
                self.set_outer(slot, next);
            }
            if self.walks[slot].inner == node {
                self.set_inner(slot, next);
            }
        }
    }

    pub(super) fn set_outer(&mut self, slot: usize, node: u32) {
        let before = core::mem::replace(&mut self.walks[slot].outer, node);
        self.count_cursor(before, node);
    }

    pub(super) fn set_inner(&mut self, slot: usize, node: u32) {
        let before = core::mem::replace(&mut self.walks[slot].inner, node);
        self.count_cursor(before, node);
    }

    pub(super) fn count_cursor(&mut self, from: u32, to: u32) {
        if from != NONE {
            self.nodes[from as usize].cursors -= 1;
        }
        if to != NONE {
            self.nodes[to as usize].cursors += 1;
        }
    }
}
