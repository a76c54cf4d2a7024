//! Use: what was used last leaves last.

use super::lru::GroupId;
use super::mm::Mm;
use super::state::State;
use super::world::{FenceOf, ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::sync::{LockSet, Primitives, Usage};

/// What a job uses. All of it is locked, the members of groups by the reservation
/// that they share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used<'a> {
    /// Buffers, one by one.
    pub buffers: &'a [Id],
    /// Bulk groups, each as a whole, whatever the number of its members.
    pub groups: &'a [GroupId],
}

impl<W: World + 'static> Mm<W> {
    /// Ends a transaction without a job: its buffers count as used now, then all is
    /// unlocked. Dropping the set is the raw unlock, which touches nothing.
    pub fn unreserve(&self, set: LockSet<'_, W::Sync>, used: Used<'_>) {
        self.touch(used, set.back_offs());
        drop(set);
    }

    /// Ends a transaction with a job on its way: its fence is added to everything that
    /// was locked, what it uses counts as used now, then all is unlocked.
    ///
    /// # Errors
    /// As [`LockSet::commit`]; nothing was touched then.
    pub fn submit(
        &self,
        mut set: LockSet<'_, W::Sync>,
        fence: &FenceOf<W>,
        usage: impl FnMut(&ReservationOf<W>) -> Usage,
        used: Used<'_>,
    ) -> Result<(), Error> {
        set.add_to_all(fence, usage)?;
        self.unreserve(set, used);
        Ok(())
    }

    /// A step for each buffer and each group. What is gone meanwhile is not used.
    fn touch(&self, used: Used<'_>, back_offs: u64) {
        self.state.with(|state| {
            state.touches += 1;
            state.counters.back_offs += back_offs;
            let (objects, lru) = (&state.objects, &mut state.lru);
            let entry = |id: &Id| objects.get(*id).ok()?.entry;
            lru.touch_all(used.buffers.iter().filter_map(entry));
            for group in used.groups {
                let _ = state.lru.touch_group(*group);
            }
        });
    }

    /// A bulk group: buffers that share this reservation and that are mostly used
    /// together, those of a GPU process for one.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn new_group(&self, reservation: &ReservationOf<W>) -> Result<GroupId, Error> {
        self.state.with(|state| {
            state.groups.try_reserve(1)?;
            let group = state.lru.new_group()?;
            // Its places on the lists were taken out of those of the buffers.
            if let Err(error) = state.lru.reserve(state.objects.len()) {
                state.lru.destroy_group(group)?;
                return Err(error);
            }
            state.groups.push(Bulk {
                id: group,
                reservation: reservation.clone(),
                members: 0,
                goes: false,
            });
            Ok(group)
        })
    }

    /// Makes a buffer a member of a group, or of none. The set holds it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it does not share the group's reservation or is
    /// not held; [`Error::NotFound`].
    pub fn join(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        group: Option<GroupId>,
    ) -> Result<(), Error> {
        let reservation = self.reservation(id)?;
        set.get(&reservation).ok_or(Error::Invalid)?;
        self.state.with(|state| {
            if let Some(group) = group {
                let bulk = state.bulk(group).ok_or(Error::NotFound)?;
                if !self.world.sync().same(&bulk.reservation, &reservation) {
                    return Err(Error::Invalid);
                }
            }
            state.regroup(id, group)
        })
    }

    /// The end of a group without members.
    ///
    /// # Errors
    /// [`Error::Busy`] while it has some, pinned and swapped ones included;
    /// [`Error::NotFound`].
    pub fn destroy_group(&self, group: GroupId) -> Result<(), Error> {
        let gone = self.state.with(|state| {
            if state.bulk(group).ok_or(Error::NotFound)?.members > 0 {
                return Err(Error::Busy);
            }
            state.lru.destroy_group(group)?;
            Ok(state.strike_group(group))
        })?;
        drop(gone);
        Ok(())
    }

    /// A group that goes with its last member, or now if it has none. What is left in it
    /// stays in its order.
    pub(crate) fn retire_group(&self, group: GroupId) {
        let gone = self.state.with(|state| {
            state.bulk(group)?.goes = true;
            state.go_with_last(group)
        });
        drop(gone);
    }
}

/// A bulk group.
pub(super) struct Bulk<W: World> {
    id: GroupId,
    /// What its members share.
    reservation: ReservationOf<W>,
    /// How many there are, on a list or not.
    members: usize,
    /// With the last of them.
    goes: bool,
}

impl<W: World + 'static> State<W> {
    fn bulk(&mut self, group: GroupId) -> Option<&mut Bulk<W>> {
        self.groups.iter_mut().find(|it| it.id == group)
    }

    /// Makes a buffer a member of a group that is there, or of none, and puts it where it
    /// belongs then.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(super) fn regroup(&mut self, id: Id, group: Option<GroupId>) -> Result<(), Error> {
        let object = self.objects.get_mut(id)?;
        let before = core::mem::replace(&mut object.group, group);
        if let Some(bulk) = group.and_then(|group| self.bulk(group)) {
            bulk.members += 1;
        }
        self.relink(id)?;
        if let Some(group) = before
            && let Some(bulk) = self.bulk(group)
        {
            bulk.members -= 1;
            // The buffer has the reservation, too, so that it does not go here.
            drop(self.go_with_last(group));
        }
        Ok(())
    }

    /// What there is to drop of a group that was to go with its last member, if it has none.
    fn go_with_last(&mut self, group: GroupId) -> Option<Bulk<W>> {
        self.bulk(group)
            .filter(|bulk| bulk.goes && bulk.members == 0)?;
        self.lru.destroy_group(group).ok()?;
        self.strike_group(group)
    }

    fn strike_group(&mut self, group: GroupId) -> Option<Bulk<W>> {
        let at = self.groups.iter().position(|it| it.id == group)?;
        Some(self.groups.swap_remove(at))
    }
}
