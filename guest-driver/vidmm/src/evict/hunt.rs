//! Evicting others to make room (11.4).

use super::budget::{OwnerId, Prey, Room, Terms};
use super::mm::{Context, Mm};
use super::object::Info;
use super::state::Claim;
use super::world::{ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::placement::{Flags, Pass, Place, SegmentId};
use crate::sync::{LockSet, Locked, Primitives, Usage};
use core::mem::discriminant;

/// Where a buffer that has to leave may go, in order; the first `usize` count.
type Exits = ([Place; SegmentId::COUNT], usize);

/// What room is needed for.
pub(super) struct Wanted<'a> {
    pub(super) buffer: Id,
    pub(super) claim: Claim,
    pub(super) place: &'a Place,
}

/// For whom somebody has to leave.
pub(super) struct Hunter {
    /// It never goes itself.
    pub(super) buffer: Option<Id>,
    pub(super) owner: Option<OwnerId>,
    pub(super) prey: Prey,
}

/// Of two reasons why there is no room, the one to tell: what has only to be waited
/// for comes before a limit, a limit before a memory type that is full.
pub(super) const fn heavier(one: Error, other: Error) -> Error {
    match (one, other) {
        (Error::Busy, _) | (_, Error::Busy) => Error::Busy,
        (limit @ Error::Limit { .. }, _) | (_, limit @ Error::Limit { .. }) => limit,
        _ => Error::NoSpace,
    }
}

/// Whether an error says that there is no room here and now.
pub(super) const fn is_about_room(error: Error) -> bool {
    matches!(error, Error::NoSpace | Error::Busy | Error::Limit { .. })
}

impl<W: World + 'static> Mm<W> {
    /// Evicts from a place until there is room, or until the owner's limit is no longer
    /// in the way (11.4, D-20): first those whose clients have more than others leave
    /// to them. `why`: what was said when nobody had left yet.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Limit`]; [`Error::Busy`] where somebody could not
    /// leave who may be gone soon (D-1); those of the moves.
    pub(super) fn evict_and_book(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        wanted: &Wanted<'_>,
        pass: Pass,
        why: Error,
        ctx: &mut Context,
    ) -> Result<Room<W>, Error> {
        if let Error::Limit { .. } = why {
            match self.hunt(set, wanted, Prey::Own, why, ctx) {
                // The limit is no longer in the way, but there is no room either.
                Err(Error::NoSpace) => {}
                other => return other,
            }
        }
        let told = match self.hunt(set, wanted, Prey::BeyondLow, Error::NoSpace, ctx) {
            Err(told @ (Error::NoSpace | Error::Busy)) => told,
            other => return other,
        };
        let spared = self
            .state
            .with(|state| state.accounts.spares(wanted.place.segment));
        if pass == Pass::Free || !spared {
            return Err(told);
        }
        match self.hunt(set, wanted, Prey::BeyondMin, Error::NoSpace, ctx) {
            Err(Error::NoSpace) => Err(told),
            other => other,
        }
    }

    /// Has those that are `prey` leave, least recently used first, until what stood in
    /// the way, `why`, does no longer.
    fn hunt(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        wanted: &Wanted<'_>,
        prey: Prey,
        mut why: Error,
        ctx: &mut Context,
    ) -> Result<Room<W>, Error> {
        let (place, claim) = (wanted.place, &wanted.claim);
        let hunter = Hunter {
            buffer: Some(wanted.buffer),
            owner: claim.hunts_for(),
            prey,
        };
        // The first walk takes what is free. Each later one waits for one lock at its
        // end, as long as the one before made somebody leave.
        let mut may_wait = false;
        loop {
            let (mut progress, mut busy) = (false, false);
            let mut contended = None;
            let cursor = self
                .state
                .with(|state| state.lru.walk(place.segment as usize))?;
            let walked = loop {
                let next = self.state.with(|state| state.lru.next(cursor));
                let (victim, waits) = match (next, contended.take()) {
                    (Some((_, victim)), kept) => {
                        contended = kept;
                        (victim, false)
                    }
                    (None, Some(victim)) if may_wait && !ctx.no_wait => (victim, true),
                    (None, _) => break Ok(None),
                };
                match self.evict_one(set, &hunter, victim, place, waits, ctx) {
                    Ok(()) => progress = true,
                    Err(Error::Busy) => {
                        busy = true;
                        if !waits {
                            contended.get_or_insert(victim);
                        }
                        continue;
                    }
                    Err(
                        Error::Already | Error::NoSpace | Error::NotFound | Error::Limit { .. },
                    ) => continue,
                    Err(error) => break Err(error),
                }
                match self
                    .state
                    .with(|state| state.book(&self.world, claim, place))
                {
                    Err(error) if discriminant(&error) == discriminant(&why) => why = error,
                    other => break other.map(Some),
                }
            };
            self.state.with(|state| state.lru.end(cursor));
            if let Some(booked) = walked? {
                return Ok(booked);
            }
            if ctx.no_wait || !progress && (may_wait || !busy) {
                return Err(if busy { Error::Busy } else { why });
            }
            may_wait = true;
        }
    }

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
        ctx: &mut Context,
    ) -> Result<(), Error> {
        if hunter.buffer == Some(victim) {
            return Err(Error::Already);
        }
        let reservation = self.valuable(hunter, victim, place)?;
        // Who lives stays until this is done; who dies goes only with its lock held.
        let kept = match self.hold(victim) {
            Ok(()) => true,
            Err(Error::NotFound) => false,
            Err(error) => return Err(error),
        };
        let left = set.victim(&reservation, waits).and_then(|mut lock| {
            // It may have changed while nobody held it.
            let now = self.valuable(hunter, victim, place)?;
            if !self.world.sync().same(&now, &reservation) {
                return Err(Error::NotFound);
            }
            if kept {
                return self.evict(lock.set(), victim, ctx);
            }
            let held = lock.locked().ok_or(Error::Busy)?;
            self.take_dying(held, victim, ctx)
        });
        if kept {
            // Gone or not, what was done with it counts.
            let _ = self.release(victim);
        }
        left
    }

    /// Frees a buffer that is dying, whose lock is held, once nobody uses it.
    fn take_dying(&self, held: &Locked<'_, W::Sync>, id: Id, ctx: &Context) -> Result<(), Error> {
        let dying = self
            .state
            .with(|state| Ok::<_, Error>(state.objects.get(id)?.dying))?;
        if !dying {
            // Somebody is just letting it go.
            return Err(Error::Busy);
        }
        Self::idle(held, Usage::Bookkeep, ctx)?;
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
            let helps = match &object.resource {
                _ if object.pins > 0 => false,
                // Somebody who holds it has it in hand; its lock says when that is over.
                None => object.entry.is_some(),
                Some(resource) => {
                    let manager = state.manager(place.segment);
                    let Hunter { owner, prey, .. } = *hunter;
                    // Nobody needs what is gone.
                    let gone = object.dying && prey != Prey::Own;
                    resource.segment() == place.segment
                        && manager.intersects(resource, Some(place))
                        && (gone || state.accounts.may_lose(resource, owner, prey))
                }
            };
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
        ctx: &mut Context,
    ) -> Result<(), Error> {
        let info = self.info(id)?;
        let pinned = self.is_pinned(id)?;
        let from = self.segment(id)?.filter(|_| !pinned).ok_or(Error::Busy)?;
        let (exits, count) = exits(from, &info);
        let exits = &exits[..count];
        let reservation = self.reservation(id)?;
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        held.reserve_slots(1)?;
        let booked = self.find_space(set, id, exits, Terms::Pushed, ctx)?;
        self.move_to(set, id, booked, ctx)?;
        ctx.evicted += 1;
        Ok(())
    }
}

/// Where a buffer that has to leave may go: what its memory type leads to, and of the
/// PCIe types the one of its pages' mode.
fn exits(from: SegmentId, info: &Info) -> Exits {
    let mut exits = [Place::anywhere(SegmentId::System, Flags::NONE); SegmentId::COUNT];
    let mut count = 0;
    let other = match info.pcie() {
        SegmentId::PcieSnoop => SegmentId::PcieUnsnoop,
        _ => SegmentId::PcieSnoop,
    };
    for to in from.evict_to().iter().filter(|to| **to != other) {
        if let Some(exit) = exits.get_mut(count) {
            *exit = Place::anywhere(*to, Flags::NONE);
            count += 1;
        }
    }
    (exits, count)
}
