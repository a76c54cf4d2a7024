//! One victim: whether it may leave, and how it does (11.4).

use super::attempt::Attempt;
use super::budget::{OwnerId, Prey, Terms};
use super::cause::Step;
use super::mm::Mm;
use super::object::{Eviction, Info, Object};
use super::state::State;
use super::world::{ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::placement::{Flags, Place, SegmentId};
use crate::sync::{LockSet, Locked, Primitives, Usage};

/// Where a buffer that has to leave may go, in order; the first `usize` count.
type Exits = ([Place; SegmentId::COUNT], usize);

/// For whom somebody has to leave.
pub(super) struct Hunter {
    /// It never goes itself.
    pub(super) buffer: Option<Id>,
    pub(super) owner: Option<OwnerId>,
    pub(super) prey: Prey,
}

impl<W: World + 'static> Mm<W> {
    /// Makes one buffer leave, if that may help.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not, [`Error::Already`] for a buffer that the
    /// set holds or that is the hunter's itself; those of [`Self::evict`].
    pub(super) fn evict_one(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        hunter: &Hunter,
        victim: Id,
        place: &Place,
        waits: bool,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        if hunter.buffer == Some(victim) {
            return Err(Error::Already);
        }
        let reservation = self.valuable(hunter, victim, place)?;
        if waits {
            set.until(attempt.next_look(self)?);
        }
        // Who lives stays until this is done; who dies goes only with its lock held.
        let kept = match self.hold(victim) {
            Ok(()) => true,
            Err(Error::NotFound) => false,
            Err(error) => return Err(error),
        };
        let lock = set.victim(&reservation, waits);
        attempt.locked_out = matches!(lock, Err(Error::Busy));
        if attempt.locked_out {
            attempt.blame(victim, Step::Lock, Error::Busy);
        }
        // Time has passed in which things may have changed.
        attempt.saw_change |= waits && attempt.locked_out;
        let left = lock.and_then(|mut lock| {
            // It may have changed while nobody held it.
            let now = self.valuable(hunter, victim, place)?;
            if !self.world.sync().same(&now, &reservation) {
                return Err(Error::NotFound);
            }
            if kept {
                return self.evict(lock.set(), victim, attempt);
            }
            let held = lock.locked().ok_or(Error::Busy)?;
            self.take_dying(held, victim, attempt)
        });
        set.until(attempt.ctx.deadline);
        if kept {
            // Gone or not, what was done with it counts.
            let _ = self.let_go(victim);
        }
        left
    }

    /// Frees a buffer that is dying, whose lock is held, once nobody uses it.
    pub(super) fn take_dying(
        &self,
        held: &Locked<'_, W::Sync>,
        id: Id,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let dying = self
            .state
            .with(|state| Ok::<_, Error>(state.objects.get(id)?.dying))?;
        if !dying {
            // Somebody is just letting it go.
            return Err(Error::Busy);
        }
        attempt.idle(self, held, Usage::Bookkeep)?;
        self.destroy(id);
        Ok(())
    }

    /// The reservation of a buffer whose leaving could help a request for a place;
    /// [`Error::NotFound`] if it could not.
    fn valuable(
        &self,
        hunter: &Hunter,
        victim: Id,
        place: &Place,
    ) -> Result<ReservationOf<W>, Error> {
        self.state.with(|state| {
            let object = state.objects.get(victim)?;
            let helps = state.may_leave(victim, object, hunter, place);
            let reservation = helps.then(|| object.reservation.clone());
            reservation.ok_or(Error::NotFound)
        })
    }

    /// Makes a buffer leave its memory type. The set holds it.
    ///
    /// # Errors
    /// As [`Self::validate`]; it is where it was.
    pub(super) fn evict(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let info = self.info(id)?;
        let pinned = self.is_pinned(id)?;
        let from = self.segment(id)?.filter(|_| !pinned).ok_or(Error::Busy)?;
        // For whom pages of RAM are reserved it is all of local memory that goes.
        let reserved = self
            .state
            .with(|state| Ok::<_, Error>(state.objects.get(id)?.reserve.is_some()))?;
        let (exits, count) = exits(from, &info, reserved);
        let exits = &exits[..count];
        let reservation = self.reservation(id)?;
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        held.reserve_slots(1)?;
        let booked = self.find_space(set, id, exits, Terms::Pushed, attempt)?;
        match self.move_to(set, id, booked, attempt) {
            // It has left; from a stop on its way it goes on when the copy has ended.
            Err(Error::Busy) if self.segment(id)? != Some(from) => {}
            moved => moved?,
        }
        self.note_eviction(id, from, attempt)
    }

    /// A buffer had to leave a memory type, and has.
    pub(super) fn note_eviction(
        &self,
        id: Id,
        from: SegmentId,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        attempt.ctx.evicted += 1;
        let left = Eviction {
            from,
            at_ns: self.world.after(0).0,
        };
        self.state.with(|state| {
            state.traffic[from as usize].evictions += 1;
            let object = state.objects.get_mut(id)?;
            object.left = Some(left);
            let (owner, bytes) = (object.info.owner, object.bytes());
            state.accounts.evicted(owner, from, bytes);
            Ok(())
        })
    }
}

impl<W: World + 'static> State<W> {
    /// Whether a buffer's leaving could help a request for a place.
    pub(super) fn may_leave(
        &self,
        id: Id,
        object: &Object<W>,
        hunter: &Hunter,
        place: &Place,
    ) -> bool {
        if self.arriving.contains(&(id, place.segment)) {
            return true;
        }
        match &object.resource {
            _ if object.pins > 0 => false,
            // Somebody who holds it has it in hand; its lock says when that is over.
            None => object.entry.is_some(),
            Some(room) => {
                // Nobody needs what is gone.
                let gone = object.dying && hunter.prey != Prey::Own;
                room.segment() == place.segment
                    && self.manager(place.segment).intersects(room, Some(place))
                    && (gone || self.accounts.may_lose(room, hunter.owner, hunter.prey))
            }
        }
    }
}

/// Where a buffer that has to leave may go: what its memory type leads to, and of the
/// PCIe types the one of its pages' mode.
fn exits(from: SegmentId, info: &Info, to_ram: bool) -> Exits {
    let mut exits = [Place::anywhere(SegmentId::System, Flags::NONE); SegmentId::COUNT];
    let mut count = 0;
    let other = match info.pcie() {
        SegmentId::PcieSnoop => SegmentId::PcieUnsnoop,
        _ => SegmentId::PcieSnoop,
    };
    let usable = |to: &&SegmentId| **to != other && (to.uses_tt() || !to_ram);
    for to in from.evict_to().iter().filter(usable) {
        if let Some(exit) = exits.get_mut(count) {
            *exit = Place::anywhere(*to, Flags::NONE);
            count += 1;
        }
    }
    (exits, count)
}
