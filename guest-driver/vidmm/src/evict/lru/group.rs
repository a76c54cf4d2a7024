//! Bulk groups: buffer objects that are used together move together.

use super::nodes::{Content, EMPTY, List, NONE, Which};
use super::{Lru, PRIORITIES};
use crate::Error;

/// Names a bulk group. Stale once the group is destroyed; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

#[derive(Debug)]
pub(super) struct Group<const TYPES: usize> {
    pub(super) generation: u32,
    pub(super) alive: bool,
    /// By type and priority: the members, and the node that stands for them in
    /// the main list while there are any.
    pub(super) members: [[List; PRIORITIES]; TYPES],
    pub(super) positions: [[u32; PRIORITIES]; TYPES],
    /// Members on all sub-lists, and those that wait on the unevictable list.
    pub(super) count: usize,
}

impl<T: Copy, const TYPES: usize> Lru<T, TYPES> {
    /// An empty bulk group.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing has changed then.
    pub fn new_group(&mut self) -> Result<GroupId, Error> {
        let unused = self
            .groups
            .iter()
            .position(|g| !g.alive && g.generation != u32::MAX);
        let slot = unused.unwrap_or(self.groups.len());
        if unused.is_none() {
            self.groups.try_reserve(1)?;
        }
        let slot_id = u32::try_from(slot).map_err(|_| Error::NoMemory)?;
        // Everything a member may need later is there before the first comes.
        let mut positions = [[NONE; PRIORITIES]; TYPES];
        for list in 0..TYPES * PRIORITIES {
            let (mem_type, priority) = (list / PRIORITIES, list % PRIORITIES);
            match self.new_node(Content::Position {
                group: slot_id,
                list,
            }) {
                Ok(node) => positions[mem_type][priority] = node,
                Err(error) => {
                    self.free_positions(&positions);
                    return Err(error);
                }
            }
        }
        let mut group = Group {
            generation: 1,
            alive: true,
            members: [[EMPTY; PRIORITIES]; TYPES],
            positions,
            count: 0,
        };
        if let Some(old) = self.groups.get_mut(slot) {
            group.generation = old.generation + 1;
            *old = group;
        } else {
            self.groups.push(group);
        }
        let generation = self.groups[slot].generation;
        Ok(GroupId {
            slot: slot_id,
            generation,
        })
    }

    /// Moves all members to the tails of their lists at once, in a number of
    /// steps that does not depend on how many there are; their order among
    /// themselves stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a stale id.
    pub fn touch_group(&mut self, id: GroupId) -> Result<(), Error> {
        let slot = self.group_slot(id)?;
        for mem_type in 0..TYPES {
            for priority in 0..PRIORITIES {
                if self.groups[slot].members[mem_type][priority].length > 0 {
                    let position = self.groups[slot].positions[mem_type][priority];
                    self.unlink(Which::Main(mem_type, priority), position);
                    self.link(Which::Main(mem_type, priority), position);
                }
            }
        }
        Ok(())
    }

    /// Destroys a group without members.
    ///
    /// # Errors
    /// [`Error::Busy`] while it has members, pinned and swapped ones included
    /// [`Error::NotFound`] for a stale id.
    pub fn destroy_group(&mut self, id: GroupId) -> Result<(), Error> {
        let slot = self.group_slot(id)?;
        if self.groups[slot].count > 0 {
            return Err(Error::Busy);
        }
        self.groups[slot].alive = false;
        let positions = self.groups[slot].positions;
        self.free_positions(&positions);
        Ok(())
    }

    pub(super) fn group_slot(&self, id: GroupId) -> Result<usize, Error> {
        let group = self.groups.get(id.slot as usize).ok_or(Error::NotFound)?;
        let found = group.alive && group.generation == id.generation;
        found.then_some(id.slot as usize).ok_or(Error::NotFound)
    }

    pub(super) fn free_positions(&mut self, positions: &[[u32; PRIORITIES]; TYPES]) {
        for &node in positions.iter().flatten().filter(|&&node| node != NONE) {
            self.free_node(node);
        }
    }
}
