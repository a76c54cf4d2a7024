//! The order in which memory is given up: least recently used first.
//!
//! Every memory type has one list for each priority; a walk sees priority 0
//! first, each list from its head. What is pinned or swapped out is on the
//! unevictable list, which no walk sees. The members of a bulk group lie on
//! sub-lists of the group, which takes one position in the main list and moves
//! as a whole (R-10.10).
//!
//! All of it is meant to lie under one small lock: nothing here waits, and what
//! is done to an entry that exists allocates nothing and takes a constant
//! number of steps for each walk that is on its way. A walk drops that lock
//! while it works on an entry; its [`Cursor`] survives whatever happens
//! meanwhile (R-10.4).
#[cfg(test)]
mod check;
mod group;
mod nodes;
mod walk;

pub use group::GroupId;
pub use walk::Cursor;

use crate::Error;
use alloc::vec::Vec;
use group::Group;
use nodes::{Content, EMPTY, List, Node, Run, Which};
use walk::Walk;

/// Priorities of a memory type; 0 is given up first.
pub const PRIORITIES: usize = 4;

/// Names an entry. Stale once the entry is removed; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryId {
    node: u32,
    generation: u32,
}

/// What decides on which list an entry belongs (R-10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The memory type, below the `TYPES` of its [`Lru`].
    pub mem_type: usize,
    /// Below [`PRIORITIES`].
    pub priority: usize,
    /// Its buffer object is pinned.
    pub pinned: bool,
    /// It is the current resource of a buffer object that is swapped out. A new
    /// resource that is booked for such an object is not (R-6.4).
    pub swapped: bool,
    /// The bulk group of its buffer object.
    pub group: Option<GroupId>,
}

/// The list an entry is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Walks do not see it.
    Unevictable,
    /// The list of a type and priority.
    List(usize, usize),
    /// A group's sub-list of a type and priority.
    Group(GroupId, usize, usize),
}

impl Facts {
    /// Where an entry with these facts belongs: a pure function of all of them (R-10.3).
    pub const fn home(&self) -> Home {
        if self.pinned || self.swapped {
            return Home::Unevictable;
        }
        match self.group {
            Some(group) => Home::Group(group, self.mem_type, self.priority),
            None => Home::List(self.mem_type, self.priority),
        }
    }
}

/// The lists of `TYPES` memory types. `T` names what an entry stands for.
///
/// # Invariants
/// - An entry is on exactly one list, the one [`Facts::home`] says (R-10.1).
/// - Stamps grow along every list, from its head to its tail.
/// - A group's position is on the main list of a type and priority if and only
///   if it has members there.
/// - The nodes' counts of cursors are the cursors that point at them.
///
/// ```
/// use vidmm::evict::lru::{Facts, Lru};
/// let mut lru: Lru<&str, 2> = Lru::new();
/// let facts = Facts { mem_type: 1, priority: 0, pinned: false, swapped: false, group: None };
/// let old = lru.insert("old", facts)?;
/// lru.insert("new", facts)?;
/// lru.touch(old)?;
/// assert_eq!(lru.first(1), Some("new"));
/// # Ok::<(), vidmm::Error>(())
/// ```
#[derive(Debug)]
pub struct Lru<T, const TYPES: usize> {
    nodes: Vec<Node<T>>,
    free_nodes: Vec<u32>,
    groups: Vec<Group<TYPES>>,
    walks: Vec<Walk>,
    lists: [[List; PRIORITIES]; TYPES],
    unevictable: List,
    /// The stamp of what comes to a tail next.
    stamp: u64,
    entries: usize,
}

impl<T: Copy, const TYPES: usize> Lru<T, TYPES> {
    /// Without entries.
    pub const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free_nodes: Vec::new(),
            groups: Vec::new(),
            walks: Vec::new(),
            lists: [[EMPTY; PRIORITIES]; TYPES],
            unevictable: EMPTY,
            stamp: 0,
            entries: 0,
        }
    }

    /// Room for so many entries in all: until there are as many, [`Self::insert`] does
    /// not fail for want of memory.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn reserve(&mut self, entries: usize) -> Result<(), Error> {
        self.reserve_nodes(entries.saturating_sub(self.entries))
    }

    /// A new entry at the tail of its list (R-6.1).
    ///
    /// # Errors
    /// [`Error::NoMemory`]; [`Error::Invalid`] for a type or priority that does
    /// not exist; [`Error::NotFound`] for a stale group. Nothing has changed then.
    pub fn insert(&mut self, value: T, facts: Facts) -> Result<EntryId, Error> {
        let which = self.which(&facts)?;
        let node = self.new_node(Content::Entry(value, facts))?;
        if let Some(group) = facts.group {
            self.groups[group.slot as usize].count += 1;
        }
        self.link(which, node);
        self.entries += 1;
        let generation = self.nodes[node as usize].generation;
        Ok(EntryId { node, generation })
    }

    /// Takes an entry off its list.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a stale id.
    pub fn remove(&mut self, id: EntryId) -> Result<T, Error> {
        let (value, facts) = self.entry(id)?;
        self.unlink(Which::of(&facts), id.node);
        if let Some(group) = facts.group {
            self.groups[group.slot as usize].count -= 1;
        }
        self.free_node(id.node);
        self.entries -= 1;
        Ok(value)
    }

    /// Puts an entry at the tail of the list where it belongs by its new facts.
    /// To be called after every change of one of them (R-10.3).
    ///
    /// # Errors
    /// As [`Self::insert`], without [`Error::NoMemory`]: this allocates nothing.
    pub fn relink(&mut self, id: EntryId, facts: Facts) -> Result<(), Error> {
        let (value, before) = self.entry(id)?;
        let to = self.which(&facts)?;
        // INVARIANT: off the list of its old facts, onto that of the new ones.
        self.unlink(Which::of(&before), id.node);
        if let Some(group) = before.group {
            self.groups[group.slot as usize].count -= 1;
        }
        if let Some(group) = facts.group {
            self.groups[group.slot as usize].count += 1;
        }
        self.nodes[id.node as usize].content = Content::Entry(value, facts);
        self.link(to, id.node);
        Ok(())
    }

    /// "Used now": to the tail of the list it is on (R-10.2). In a group that is
    /// its sub-list alone (R-10.11).
    ///
    /// # Errors
    /// [`Error::NotFound`] for a stale id.
    pub fn touch(&mut self, id: EntryId) -> Result<(), Error> {
        self.entry(id)?;
        self.touch_all([id]);
        Ok(())
    }

    /// The same for many, in this order, but for those whose ids are stale. Those that
    /// follow each other on their list, as after the last job that used the same, go to its
    /// tail together.
    pub fn touch_all(&mut self, ids: impl IntoIterator<Item = EntryId>) {
        let mut run: Option<Run> = None;
        for EntryId { node, generation } in ids {
            let which = match self.nodes.get(node as usize) {
                Some(known) if known.generation == generation => match &known.content {
                    Content::Entry(_, facts) => Which::of(facts),
                    _ => continue,
                },
                _ => continue,
            };
            match &mut run {
                Some(run) if self.nodes[run.last as usize].next == node => run.last = node,
                _ => {
                    let (first, last) = (node, node);
                    if let Some(before) = run.replace(Run { which, first, last }) {
                        self.move_to_tail(&before);
                    }
                }
            }
            // INVARIANT: it comes behind all that has been moved to a tail.
            let touched = &mut self.nodes[node as usize];
            touched.stamp = self.stamp;
            self.stamp += 1;
            if touched.cursors > 0 {
                self.step_off(node);
            }
        }
        if let Some(run) = run {
            self.move_to_tail(&run);
        }
    }

    /// What an entry stands for, and its facts.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a stale id.
    pub fn entry(&self, id: EntryId) -> Result<(T, Facts), Error> {
        let node = self.nodes.get(id.node as usize).ok_or(Error::NotFound)?;
        match node.content {
            Content::Entry(value, facts) if node.generation == id.generation => Ok((value, facts)),
            _ => Err(Error::NotFound),
        }
    }

    /// Entries of a type by priority, members of groups included; `None` for a
    /// type that does not exist.
    pub fn lengths(&self, mem_type: usize) -> Option<[usize; PRIORITIES]> {
        let lists = self.lists.get(mem_type)?;
        let mut lengths = lists.map(|list| list.length);
        for group in self.groups.iter().filter(|g| g.alive) {
            for (length, members) in lengths.iter_mut().zip(&group.members[mem_type]) {
                // Its position counts as one of the main list.
                *length =
                    (*length + members.length).saturating_sub(usize::from(members.length > 0));
            }
        }
        Some(lengths)
    }

    /// Entries that no walk sees.
    pub const fn unevictable(&self) -> usize {
        self.unevictable.length
    }

    /// The list for these facts, which come from outside.
    fn which(&self, facts: &Facts) -> Result<Which, Error> {
        if facts.mem_type >= TYPES || facts.priority >= PRIORITIES {
            return Err(Error::Invalid);
        }
        facts
            .group
            .map(|group| self.group_slot(group))
            .transpose()?;
        Ok(Which::of(facts))
    }
}

impl<T: Copy, const TYPES: usize> Default for Lru<T, TYPES> {
    fn default() -> Self {
        Self::new()
    }
}
