//! Finding a place for a buffer (section 11), and keeping it there.

use super::accounts::Room;
use super::attempt::Attempt;
use super::budget::Terms;
use super::cause::Step;
use super::fault::near;
use super::hunt::{Wanted, heavier, is_about_room};
use super::mm::{Context, Mm};
use super::object::{Info, Mark};
use super::promote::best;
use super::state::Claim;
use super::world::{ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::Has;
use crate::bo::pool::SmallLock;
use crate::placement::{Pass, Place};
use crate::sync::LockSet;

impl<W: World + 'static> Mm<W> {
    /// A new buffer at one of these places. Its reservation, or `shared`, which the
    /// caller's set must hold, is held by the set afterwards; one reference is the
    /// caller's. Without places it has no memory yet.
    ///
    /// Local memory is cleared for it by the GPU, which is the manager's own work and counts
    /// for nobody. A driver whose clients share the GPU calls what counts it for one of them,
    /// as [`OnChip::create`](crate::OnChip::create) does.
    ///
    /// # Errors
    /// As [`Self::validate`]; the buffer is gone then.
    pub fn create(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        info: &Info,
        shared: Option<&ReservationOf<W>>,
        placement: &[Place],
        ctx: &mut Context,
    ) -> Result<Id, Error> {
        set.until(ctx.deadline);
        let id = self.new_object(info, shared)?;
        let placed = self.reservation(id).and_then(|reservation| {
            set.lock(&reservation, 1)?;
            if placement.is_empty() {
                return Ok(());
            }
            self.validate(set, id, placement, ctx)
        });
        match placed {
            Ok(()) => Ok(id),
            Err(error) => {
                self.discard(id);
                Err(error)
            }
        }
    }

    /// Makes sure that a buffer is at one of these places, evicting others if it must
    /// (11.3). Without places its contents are thrown away, its memory goes, and it
    /// stays, as new. The set holds its reservation.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when there is no room, not even by evicting;
    /// [`Error::Limit`] when there is, but not for this client: with the first memory
    /// type in which it may book no more, the limit and what it has booked there;
    /// [`Error::Busy`] when there would be room after a wait that is not allowed or too
    /// long; [`Error::Invalid`] for a pinned buffer that would have to move, and for
    /// places its pages cannot be in; [`Error::Deadlock`] to be handed up to
    /// [`LockSet::run`]; [`Error::Interrupted`]; [`Error::Lost`] for a buffer whose
    /// contents were lost with the GPU. The buffer is where it was, or at a stop on its
    /// way, with its contents; or where it is wanted, without the pages that
    /// [`Options::eager_pages`](super::Options::eager_pages) asks for.
    pub fn validate(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        placement: &[Place],
        ctx: &mut Context,
    ) -> Result<(), Error> {
        ctx.cause = None;
        if placement.is_empty() {
            return self.purge(set, id, &mut Attempt::patient(ctx));
        }
        self.alive()?;
        if self.stands(set, id, placement)? {
            return Ok(());
        }
        let near = if self.prefers_near(id)? {
            near(placement)?
        } else {
            None
        };
        let wanted = near.as_deref().unwrap_or(placement);
        match self.place_at(set, id, wanted, ctx) {
            // To be near is a wish: it may have needed pages that nobody gives up.
            Err(Error::NoMemory) if near.is_some() => self.place_at(set, id, placement, ctx)?,
            placed => placed?,
        }
        self.state.with(|state| {
            state.objects.get_mut(id)?.best = best(wanted);
            Ok::<_, Error>(())
        })?;
        if self.options.eager_pages && self.segment(id)? == Some(self.info(id)?.pcie()) {
            self.make_resident(set, id, ctx)?;
        }
        Ok(())
    }

    /// Whether a buffer is where it should be and nothing else is to be said, as it mostly
    /// is: one look at the books.
    fn stands(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        placement: &[Place],
    ) -> Result<bool, Error> {
        self.state.with(|state| {
            let object = state.objects.get(id)?;
            let is_held = set.get(&object.reservation).is_some();
            if !is_held || object.cpu_use > 0 || !object.info.may_be_at(placement) {
                return Ok(false);
            }
            let in_pcie = object.segment() == Some(object.info.pcie());
            if self.options.eager_pages && in_pcie && object.has() != Has::BoundPages {
                return Ok(false);
            }
            state.contents(&self.world, id)?;
            let stands = state.stands(state.objects.get(id)?, placement);
            if stands {
                state.objects.get_mut(id)?.best = best(placement);
            }
            Ok(stands)
        })
    }

    /// Whether the CPU has used a buffer lately (D-16).
    fn prefers_near(&self, id: Id) -> Result<bool, Error> {
        self.state.with(|state| {
            let left = &mut state.objects.get_mut(id)?.cpu_use;
            let lately = *left > 0;
            *left = left.saturating_sub(1);
            Ok(lately)
        })
    }

    /// As [`Self::validate`], at these places as they are.
    pub(super) fn place_at(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        placement: &[Place],
        ctx: &mut Context,
    ) -> Result<(), Error> {
        set.until(ctx.deadline);
        let info = self.info(id)?;
        let reservation = self.reservation(id)?;
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        if !info.may_be_at(placement) {
            return Err(Error::Invalid);
        }
        self.contents(id)?;
        let (stands, pinned) = self.state.with(|state| {
            let object = state.objects.get(id)?;
            Ok::<_, Error>((state.stands(object, placement), object.pins > 0))
        })?;
        if stands {
            return Ok(());
        }
        if pinned {
            return Err(Error::Invalid);
        }
        held.reserve_slots(1)?;
        let mut attempt = if self.options.wait_last {
            Attempt::passing_by(ctx)
        } else {
            Attempt::patient(ctx)
        };
        let placed = attempt.persist(self, set, |set, attempt| {
            self.attempt(set, id, placement, attempt)
        });
        placed.map_err(|error| attempt.blame(id, Step::Place, error))
    }

    /// The two passes.
    fn attempt(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        placement: &[Place],
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let mut none = Error::NoSpace;
        for pass in [Pass::Free, Pass::Evict] {
            let moved = match self.book(set, id, placement, pass, Terms::Asked, attempt) {
                Ok(booked) => match self.move_to(set, id, booked, attempt) {
                    // Nobody else need leave: it is this one that is busy.
                    Err(Error::Busy) if attempt.waits_later() => return Err(Error::Busy),
                    moved => moved,
                },
                Err(error) => Err(error),
            };
            match moved {
                Err(error) if is_about_room(error) => none = heavier(none, error),
                other => return other,
            }
            // A place to fall back to is good enough where the first pass found none
            //
            if pass == Pass::Free && self.state.with(|state| state.stay(id, placement))? {
                return Ok(());
            }
        }
        Err(none)
    }

    /// Books a range at the first place that has room (11.1).
    fn book(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        placement: &[Place],
        pass: Pass,
        terms: Terms,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Room<W>, Error> {
        let info = self.info(id)?;
        let claim = Claim {
            buffer: id,
            request: info.request(),
            owner: info.owner,
            terms,
        };
        let mut none = Error::NoSpace;
        for place in placement.iter().filter(|place| place.flags.counts_in(pass)) {
            let (booked, may_evict, since) = self.state.with(|state| {
                let since = state.changes(place.segment);
                let booked = state.book(&self.world, &claim, place);
                let error = booked.as_ref().err().copied();
                let may_evict = error.is_some_and(|why| state.may_evict(&claim, place, pass, why));
                (booked, may_evict, since)
            });
            let booked = match booked {
                Err(why) if may_evict => {
                    let wanted = Wanted {
                        claim,
                        place,
                        since,
                    };
                    self.evict_and_book(set, &wanted, pass, why, attempt)
                }
                booked => booked,
            };
            let booked = match booked {
                Err(error) if is_about_room(error) => {
                    none = heavier(none, error);
                    continue;
                }
                Err(Error::NeverFits) => continue,
                other => other?,
            };
            let pending = |mark: &Mark<W>| !mark.has_ended(&self.world);
            if attempt.ctx.no_wait && booked.booking().fences().iter().any(pending) {
                self.state.with(|state| state.unbook(booked));
                none = Error::Busy;
                continue;
            }
            return Ok(booked);
        }
        Err(none)
    }

    /// Books a range without evicting if it can, else by evicting (11.2).
    pub(super) fn find_space(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        placement: &[Place],
        terms: Terms,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Room<W>, Error> {
        match self.book(set, id, placement, Pass::Free, terms, attempt) {
            Err(Error::NoSpace | Error::Limit { .. }) => {
                self.book(set, id, placement, Pass::Evict, terms, attempt)
            }
            other => other,
        }
    }

    /// Pins a buffer where it is; pins nest. The set holds it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is nowhere, or not held.
    pub fn pin(&self, set: &mut LockSet<'_, W::Sync>, id: Id) -> Result<(), Error> {
        self.change_pins(set, id, |pins| pins.checked_add(1))
    }

    /// Takes a pin back.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not pinned, or not held.
    pub fn unpin(&self, set: &mut LockSet<'_, W::Sync>, id: Id) -> Result<(), Error> {
        self.change_pins(set, id, |pins| pins.checked_sub(1))
    }

    fn change_pins(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        change: impl FnOnce(u32) -> Option<u32>,
    ) -> Result<(), Error> {
        let reservation = self.reservation(id)?;
        set.get(&reservation).ok_or(Error::Invalid)?;
        self.state.with(|state| {
            let object = state.objects.get_mut(id)?;
            let placed = object.resource.is_some();
            let pins = change(object.pins).filter(|_| placed);
            let before = core::mem::replace(&mut object.pins, pins.ok_or(Error::Invalid)?);
            let crossed = (before == 0) != (object.pins == 0);
            if crossed { state.relink(id) } else { Ok(()) }
        })
    }
}
