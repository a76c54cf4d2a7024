//! The nodes of all lists, and what is linked to what.

use super::{Facts, Home, Lru};
use crate::Error;

/// No node.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) enum Content<T> {
    Free,
    Entry(T, Facts),
    /// The place of a group in the main list of a type and priority.
    Position {
        group: u32,
        list: usize,
    },
}

#[derive(Debug)]
pub(super) struct Node<T> {
    pub(super) generation: u32,
    pub(super) previous: u32,
    pub(super) next: u32,
    /// When it came to the tail. Grows along each list.
    pub(super) stamp: u64,
    /// Walks whose next step is this node.
    pub(super) cursors: u32,
    pub(super) content: Content<T>,
}

/// A list's ends. An empty list has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) length: usize,
}

pub(super) const EMPTY: List = List {
    head: NONE,
    tail: NONE,
    length: 0,
};

/// Which list, by indices that are known to be good.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    Unevictable,
    Main(usize, usize),
    Sub(usize, usize, usize),
}

/// Nodes that follow each other on a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) which: Which,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Which {
    /// The list for these facts, which were looked at before.
    pub(super) fn of(facts: &Facts) -> Self {
        match facts.home() {
            Home::Unevictable => Self::Unevictable,
            Home::List(mem_type, priority) => Self::Main(mem_type, priority),
            Home::Group(group, mem_type, priority) => {
                Self::Sub(group.slot as usize, mem_type, priority)
            }
        }
    }
}

impl<T: Copy, const TYPES: usize> Lru<T, TYPES> {
    pub(super) fn list(&mut self, which: Which) -> &mut List {
        match which {
            Which::Unevictable => &mut self.unevictable,
            Which::Main(mem_type, priority) => &mut self.lists[mem_type][priority],
            Which::Sub(group, mem_type, priority) => {
                &mut self.groups[group].members[mem_type][priority]
            }
        }
    }

    /// To the tail, with a stamp of its own.
    pub(super) fn link(&mut self, which: Which, node: u32) {
        // INVARIANT: what has members has a position, behind all that is there.
        if let Which::Sub(group, mem_type, priority) = which {
            let group = &self.groups[group];
            if group.members[mem_type][priority].length == 0 {
                let position = group.positions[mem_type][priority];
                self.link(Which::Main(mem_type, priority), position);
            }
        }
        // INVARIANT: no stamp on any list is larger than the next.
        let stamp = self.stamp;
        self.stamp += 1;
        let list = self.list(which);
        let tail = core::mem::replace(&mut list.tail, node);
        if tail == NONE {
            list.head = node;
        }
        list.length += 1;
        if tail != NONE {
            self.nodes[tail as usize].next = node;
        }
        let linked = &mut self.nodes[node as usize];
        (linked.previous, linked.next, linked.stamp) = (tail, NONE, stamp);
    }

    /// Puts nodes that follow each other behind all others of their list.
    pub(super) fn move_to_tail(&mut self, run: &Run) {
        let previous = self.nodes[run.first as usize].previous;
        let next = self.nodes[run.last as usize].next;
        if next == NONE {
            // What is all of a group takes the group along.
            if previous == NONE && run.first == run.last {
                self.unlink(run.which, run.first);
                self.link(run.which, run.first);
            }
            return;
        }
        self.nodes[next as usize].previous = previous;
        if previous != NONE {
            self.nodes[previous as usize].next = next;
        }
        let list = self.list(run.which);
        if previous == NONE {
            list.head = next;
        }
        let tail = core::mem::replace(&mut list.tail, run.last);
        self.nodes[tail as usize].next = run.first;
        self.nodes[run.first as usize].previous = tail;
        self.nodes[run.last as usize].next = NONE;
    }

    pub(super) fn unlink(&mut self, which: Which, node: u32) {
        self.step_off(node);
        let Node { previous, next, .. } = self.nodes[node as usize];
        if previous != NONE {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        let list = self.list(which);
        if previous == NONE {
            list.head = next;
        }
        if next == NONE {
            list.tail = previous;
        }
        list.length -= 1;
        // INVARIANT: without members, no position.
        if let Which::Sub(group, mem_type, priority) = which {
            let group = &self.groups[group];
            if group.members[mem_type][priority].length == 0 {
                let position = group.positions[mem_type][priority];
                self.unlink(Which::Main(mem_type, priority), position);
            }
        }
    }

    /// Room for so many nodes more than are in use, and for giving each back.
    pub(super) fn reserve_nodes(&mut self, more: usize) -> Result<(), Error> {
        let missing = more.saturating_sub(self.free_nodes.len());
        self.nodes.try_reserve(missing)?;
        let room = self.nodes.len() + missing - self.free_nodes.len();
        Ok(self.free_nodes.try_reserve(room)?)
    }

    pub(super) fn new_node(&mut self, content: Content<T>) -> Result<u32, Error> {
        if let Some(node) = self.free_nodes.pop() {
            self.nodes[node as usize].content = content;
            return Ok(node);
        }
        let node = u32::try_from(self.nodes.len()).map_err(|_| Error::NoMemory)?;
        if node == NONE {
            return Err(Error::NoMemory);
        }
        self.reserve_nodes(1)?;
        self.nodes.push(Node {
            generation: 1,
            previous: NONE,
            next: NONE,
            stamp: 0,
            cursors: 0,
            content,
        });
        Ok(node)
    }

    pub(super) fn free_node(&mut self, node: u32) {
        let freed = &mut self.nodes[node as usize];
        freed.content = Content::Free;
        // A node whose generations are used up is retired: no id ever comes back.
        if let Some(generation) = freed.generation.checked_add(1) {
            freed.generation = generation;
            self.free_nodes.push(node);
        }
    }
}
