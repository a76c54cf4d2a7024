//! Who gives pages of RAM up for others, and how (section 13).

use super::attempt::Attempt;
use super::budget::{OwnerId, Prey, Terms};
use super::cause::Step;
use super::mm::{Context, Mm};
use super::object::Object;
use super::state::{Claim, State};
use super::world::{ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::{Has, Ram};
use crate::bo::pool::{self, SmallLock};
use crate::placement::{Flags, Place, SegmentId};
use crate::sync::{Caller, LockSet, Locked, Primitives, Usage};

/// Memory types that are made of pages, in the order in which they give some up: first
/// what is parked.
pub(super) const PAGED: [SegmentId; 3] = [
    SegmentId::System,
    SegmentId::PcieSnoop,
    SegmentId::PcieUnsnoop,
];

/// How pages are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Of a buffer all or none.
    Swap,
    /// One by one, as many as are needed; what was achieved stays.
    BackUp,
}

/// Who needs pages.
pub(super) struct Need<'a, W: World> {
    pub(super) pages: usize,
    pub(super) how: How,
    /// Its own buffers are not protected from it.
    pub(super) owner: Option<OwnerId>,
    /// What it holds itself.
    pub(super) own: Option<&'a ReservationOf<W>>,
    /// Those whose promises count less than its need.
    pub(super) prey: &'a [Prey],
}

/// What came of a search for pages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Pages that are free now.
    pub(super) pages: usize,
    /// Somebody could not give his up who may be able to later.
    pub(super) busy: bool,
    /// Somebody could not because there was no room to store them.
    pub(super) stuck: bool,
    /// What first kept somebody from it that is not about room or a wait.
    trouble: Option<Error>,
}

impl<W: World + 'static> Mm<W> {
    /// Has buffers give up pages, least recently used first, until there are enough. Nobody
    /// is waited for: who is locked or used by the GPU may hang, and others not. Each walk
    /// ends.
    ///
    /// # Errors
    /// [`Error::Interrupted`], [`Error::Lost`]; what kept a buffer from it that is not about
    /// room or a wait, if nobody gave any up and nobody can later.
    pub(super) fn find_pages(
        &self,
        need: &Need<'_, W>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Found, Error> {
        attempt.pass_all(|attempt| self.search(need, attempt))
    }

    fn search(&self, need: &Need<'_, W>, attempt: &mut Attempt<'_, W>) -> Result<Found, Error> {
        let mut found = Found::default();
        for prey in need.prey {
            for segment in PAGED {
                let cursor = self.state.with(|state| state.lru.walk(segment as usize))?;
                let walked = self.walk_for_pages(need, *prey, cursor, &mut found, attempt);
                self.state.with(|state| state.lru.end(cursor));
                match walked {
                    Err(error) if found.pages == 0 => return Err(error),
                    Err(_) => return Ok(found),
                    Ok(()) if found.pages >= need.pages => return Ok(found),
                    Ok(()) => {}
                }
            }
        }
        match found {
            Found {
                pages: 0,
                busy: false,
                trouble: Some(error),
                ..
            } => Err(error),
            found => Ok(found),
        }
    }

    fn walk_for_pages(
        &self,
        need: &Need<'_, W>,
        prey: Prey,
        cursor: super::lru::Cursor,
        found: &mut Found,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        while found.pages < need.pages {
            let Some((_, id)) = self.state.with(|state| state.lru.next(cursor)) else {
                break;
            };
            let rest = Need {
                pages: need.pages - found.pages,
                ..*need
            };
            match self.take_pages(&rest, prey, id, attempt) {
                Ok(pages) => found.pages += pages,
                Err(Error::NotFound) => {}
                // That it cannot be stored is no shortage of the one who needs pages.
                Err(error @ (Error::Busy | Error::NoMemory | Error::NoSpace)) => {
                    found.busy = true;
                    found.stuck |= error != Error::Busy;
                }
                Err(error @ (Error::Interrupted | Error::Lost)) => return Err(error),
                // That one cannot be stored: others can.
                Err(error) => {
                    found.trouble.get_or_insert(error);
                }
            }
        }
        Ok(())
    }

    /// Has one buffer give up pages.
    ///
    /// # Errors
    /// [`Error::NotFound`] for one that does not help.
    fn take_pages(
        &self,
        need: &Need<'_, W>,
        prey: Prey,
        id: Id,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<usize, Error> {
        let sync = self.world.sync();
        let reservation = self.giver(id, need, prey)?;
        let own = need.own.is_some_and(|own| sync.same(own, &reservation));
        if own || attempt.holds(sync, &reservation) {
            return Err(Error::NotFound);
        }
        let kept = match self.hold(id) {
            Ok(()) => true,
            Err(Error::NotFound) => false,
            Err(error) => return Err(error),
        };
        let mut caller = Caller::enter(sync);
        let lock = caller.try_lock(&reservation);
        if lock.is_err() {
            attempt.meet_giver(&reservation);
        }
        let taken = lock.and_then(|mut held| {
            // It may have changed while nobody held it.
            let now = self.giver(id, need, prey)?;
            if !sync.same(&now, &reservation) {
                return Err(Error::NotFound);
            }
            if kept {
                return self.store(&mut held, id, need.how, need.pages, attempt);
            }
            let has = |state: &mut State<W>| Ok::<_, Error>(state.objects.get(id)?.held());
            let pages = self.state.with(has)?;
            self.take_dying(&held, id, attempt)?;
            Ok(pages)
        });
        if kept {
            // What was done with it counts.
            let _ = self.let_go(id);
        }
        taken
    }

    /// The reservation of a buffer that may give up pages.
    fn giver(&self, id: Id, need: &Need<'_, W>, prey: Prey) -> Result<ReservationOf<W>, Error> {
        self.state.with(|state| {
            let object = state.objects.get(id)?;
            let gives = state.may_give_pages(object, need.owner, prey);
            let reservation = gives.then(|| object.reservation.clone());
            reservation.ok_or(Error::NotFound)
        })
    }

    /// Stores contents of a buffer that is held, and gives its pages back, at most so many
    /// if they go one by one. It goes to SYSTEM first.
    ///
    /// # Errors
    /// [`Error::Busy`] where that is not possible now, [`Error::NoSpace`] where the store
    /// has no room; those of the move and the store.
    fn store(
        &self,
        held: &mut Locked<'_, W::Sync>,
        id: Id,
        how: How,
        pages: usize,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<usize, Error> {
        self.park(held, id, attempt)?;
        attempt
            .idle(self, held, Usage::Bookkeep)
            .map_err(|error| attempt.blame(id, Step::Wait, error))?;
        // What was lost with the GPU is of no use to anybody.
        let lost = self.contents(id) == Err(Error::Lost);
        self.world.unmap_user(id);
        // Only then does it come to another list.
        self.with_vector(id, |parts| {
            let vector = parts.vector.as_mut().ok_or(Error::Busy)?;
            let whole = how == How::Swap && vector.has() != Has::BackedUp;
            let pages = if how == How::Swap { usize::MAX } else { pages };
            let stored = self.lighten(vector, |vector, ram| {
                if lost {
                    vector.purge(ram)
                } else if whole {
                    vector.swap_out(ram)
                } else {
                    vector.back_up(ram, pages)
                }
            });
            // It has pages and the GART does not point at them: it is the store.
            stored.map_err(|error| match error {
                Error::Busy => Error::NoSpace,
                other => other,
            })
        })?
    }

    /// Has a buffer that is held leave a PCIe type for SYSTEM, where pages are what they
    /// were.
    fn park(
        &self,
        held: &mut Locked<'_, W::Sync>,
        id: Id,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let from = self.segment(id)?.ok_or(Error::Busy)?;
        if from == SegmentId::System {
            return Ok(());
        }
        // It is in RAM already: there is no stop on its way.
        if self.stop(id, SegmentId::System)?.is_some() {
            return Err(Error::Busy);
        }
        let info = self.info(id)?;
        let claim = Claim {
            buffer: id,
            request: info.request(),
            owner: info.owner,
            terms: Terms::Pushed,
        };
        let system = Place::anywhere(SegmentId::System, Flags::NONE);
        let booked = self
            .state
            .with(|state| state.book(&self.world, &claim, &system))?;
        self.move_once(held, id, booked, attempt)?;
        attempt.ctx.moved_pages += info.pages;
        self.note_eviction(id, from, attempt)
    }

    /// Stores a buffer's contents and gives its pages back (13.2). The set holds it;
    /// it goes to SYSTEM first.
    ///
    /// # Errors
    /// [`Error::Busy`] for a buffer that is pinned or has no pages, where the store has no
    /// room, and where the GPU uses it longer than this may wait; [`Error::Lost`] for one
    /// without contents; others of the move.
    pub fn swap_out(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        ctx: &mut Context,
    ) -> Result<usize, Error> {
        ctx.cause = None;
        self.alive()?;
        let reservation = self.reservation(id)?;
        let gives = |state: &mut State<W>| {
            let object = state.objects.get(id)?;
            Ok::<_, Error>(state.may_give_pages(object, None, Prey::Everybody))
        };
        if !self.state.with(gives)? {
            return Err(Error::Busy);
        }
        self.contents(id)?;
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        let mut attempt = Attempt::patient(ctx);
        let stored = self.store(held, id, How::Swap, usize::MAX, &mut attempt);
        stored.map_err(|error| match attempt.blame(id, Step::Store, error) {
            Error::NoSpace => Error::Busy,
            other => other,
        })
    }

    /// Gives pages to the system, which is short of them: those that wait in the pool,
    /// then those of buffers, one by one, least recently used first. A direct
    /// reclaim, in the middle of anything, does not wait: `no_wait` of `ctx`. Another one
    /// waits for the GPU, until there are enough, but for no lock: its holder may wait for
    /// what is reclaimed. Nothing is asked of the GPU. Returns how many; 0 if there was
    /// nothing to give.
    ///
    /// # Errors
    /// What has stopped it before any was given.
    pub fn shrink(&self, pages: usize, ctx: &mut Context) -> Result<usize, Error> {
        let ram = self.world.ram();
        let pooled = pool::shrink(ram.source(), ram.pool(), pages);
        if pooled >= pages {
            return Ok(pooled);
        }
        let mut given = pooled;
        match self.shrink_buffers(pages, &mut given, &mut Attempt::passing_by(ctx)) {
            Err(error) if given == 0 => Err(error),
            _ => Ok(given),
        }
    }

    fn shrink_buffers(
        &self,
        pages: usize,
        given: &mut usize,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        loop {
            let need = Need {
                pages: pages - *given,
                how: How::BackUp,
                owner: None,
                own: None,
                prey: &[Prey::BeyondLow, Prey::BeyondMin],
            };
            *given += self.find_pages(&need, attempt)?.pages;
            if *given >= pages || !attempt.has_passed() {
                return Ok(());
            }
            match attempt.wait(self, |_, _| Ok(())) {
                // Its time is over.
                Err(Error::Busy) => return Ok(()),
                waited => waited?,
            }
        }
    }

    /// Pages that [`Self::shrink`] might give, at most: those that are pinned or in use
    /// count, too. Cheap.
    pub fn shrinkable(&self) -> usize {
        let pooled = self.world.ram().pool().with(|pool| pool.pages());
        self.state.with(|state| state.populated) + pooled
    }
}

impl<W: World + 'static> State<W> {
    /// Whether a buffer may give up pages for somebody.
    fn may_give_pages(&self, object: &Object<W>, owner: Option<OwnerId>, prey: Prey) -> bool {
        let Some(room) = &object.resource else {
            return false;
        };
        // Nobody needs what is gone; where it is parked already, nothing is taken from it.
        let parked = room.segment() == SegmentId::System || object.dying;
        object.held() > 0
            && object.pins == 0
            && (parked || self.accounts.may_lose(room, owner, prey))
    }
}
