//! Pages of RAM: how many there may be, and who gives some up for others (section 13).

use super::attempt::Attempt;
use super::budget::{OwnerId, Prey, Terms};
use super::mm::{Context, Mm};
use super::object::Object;
use super::state::{Claim, State};
use super::world::{BlockOf, ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::{Has, PageVector, Ram};
use crate::bo::pool::{self, SmallLock};
use crate::placement::{Flags, Place, SegmentId};
use crate::sync::{Caller, LockSet, Locked, Primitives, Usage};

/// Memory types that are made of pages, in the order in which they give some up: first
/// what is parked.
const PAGED: [SegmentId; 3] = [
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
    stuck: bool,
    /// What first kept somebody from it that is not about room or a wait.
    trouble: Option<Error>,
}

impl<W: World + 'static> Mm<W> {
    /// Makes pages exist behind a buffer that is held. No more exist than may:
    /// others are stored for it where there are too many. `own` is what the buffer is
    /// held by, if it is, `owner` whose need it is.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; [`Error::Busy`] where others could give pages up later; those
    /// of [`PageVector::populate`].
    pub(super) fn populate(
        &self,
        vector: &mut PageVector<BlockOf<W>>,
        own: Option<&ReservationOf<W>>,
        owner: Option<OwnerId>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let lacks = vector.lacks();
        if lacks > 0 {
            self.make_room(lacks, vector.held(), own, owner, attempt)?;
        }
        let before = vector.held();
        let populated = vector.populate(self.world.ram());
        let missing = lacks.saturating_sub(vector.held().saturating_sub(before));
        self.state.with(|state| state.populated -= missing);
        populated
    }

    /// Says how many pages of RAM may exist behind buffers: no limit until then,
    /// half of the machine's where nobody knows better. What is there beyond a new limit
    /// stays until the next need of pages.
    pub fn limit_ram(&self, pages: usize) {
        self.state.with(|state| state.ram_limit = pages);
    }

    /// Counts so many pages more as soon as they may exist. `in_hand`: those of the buffer
    /// itself, which is in nobody's books meanwhile.
    fn make_room(
        &self,
        pages: usize,
        in_hand: usize,
        own: Option<&ReservationOf<W>>,
        owner: Option<OwnerId>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let mut searched = false;
        loop {
            let (over, before) = self.state.with(|state| {
                if pages > state.ram_limit {
                    return Err(Error::NoMemory);
                }
                let wanted = state.populated.saturating_add(pages);
                if wanted <= state.ram_limit {
                    state.populated = wanted;
                }
                let over = wanted.saturating_sub(state.ram_limit);
                Ok((over, state.pages_seen()))
            })?;
            if over == 0 {
                return Ok(());
            }
            // Others may have taken what was found, any number of times.
            if core::mem::replace(&mut searched, true) && attempt.is_over(self) {
                return Err(Error::Busy);
            }
            let need = Need {
                pages: over,
                how: How::Swap,
                owner,
                own,
                prey: &[Prey::BeyondLow, Prey::BeyondMin],
            };
            match self.find_pages(&need, attempt)? {
                Found {
                    pages: 0,
                    busy: true,
                    stuck,
                    ..
                } => {
                    attempt.stuck = stuck;
                    return Err(Error::Busy);
                }
                Found { pages: 0, .. } => self.state.with(|state| {
                    if state.pages_seen() != before {
                        // A search is no look at one moment.
                        return if attempt.ctx.no_wait {
                            Err(Error::Busy)
                        } else {
                            Ok(())
                        };
                    }
                    // Somebody has a buffer in hand, brings one, or is giving pages back.
                    let all = state.objects.iter();
                    let kept: usize = all.map(|(_, object)| object.all_held()).sum();
                    if state.populated > kept + in_hand {
                        return Err(Error::Busy);
                    }
                    Err(Error::NoMemory)
                })?,
                _ => {}
            }
        }
    }

    /// Does something with pages that only gives some back.
    pub(super) fn lighten<R>(
        &self,
        vector: &mut PageVector<BlockOf<W>>,
        lighten: impl FnOnce(&mut PageVector<BlockOf<W>>, &W::Ram) -> R,
    ) -> R {
        let before = vector.held();
        let result = lighten(vector, self.world.ram());
        let freed = before.saturating_sub(vector.held());
        self.state.with(|state| state.populated -= freed);
        result
    }

    /// Gives back a page vector that the GART does not point at.
    pub(super) fn drop_pages(&self, vector: Option<PageVector<BlockOf<W>>>) {
        if let Some(mut vector) = vector {
            // It is bound nowhere, so that this does not fail.
            let _ = self.lighten(&mut vector, PageVector::unpopulate);
        }
    }

    /// Has buffers give up pages, least recently used first, until there are enough. Locks
    /// are only tried. Each walk ends.
    ///
    /// # Errors
    /// [`Error::Interrupted`], [`Error::Lost`]; what kept a buffer from it that is not about
    /// room or a wait, if nobody gave any up and nobody can later.
    pub(super) fn find_pages(
        &self,
        need: &Need<'_, W>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Found, Error> {
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
    /// [`Error::Busy`] where that is not possible now; those of the move and the store.
    fn store(
        &self,
        held: &mut Locked<'_, W::Sync>,
        id: Id,
        how: How,
        pages: usize,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<usize, Error> {
        self.park(held, id, attempt)?;
        attempt.idle(self, held, Usage::Bookkeep)?;
        // What was lost with the GPU is of no use to anybody.
        let lost = self.contents(id) == Err(Error::Lost);
        self.world.unmap_user(id);
        // Only then does it come to another list.
        self.with_vector(id, |parts| {
            let vector = parts.vector.as_mut().ok_or(Error::Busy)?;
            let whole = how == How::Swap && vector.has() != Has::BackedUp;
            let pages = if how == How::Swap { usize::MAX } else { pages };
            self.lighten(vector, |vector, ram| {
                if lost {
                    vector.purge(ram)
                } else if whole {
                    vector.swap_out(ram)
                } else {
                    vector.back_up(ram, pages)
                }
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
    /// [`Error::Busy`] for a buffer that is pinned, has no pages, or would have to be
    /// waited for; [`Error::Lost`] for one without contents; others of the move.
    pub fn swap_out(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        ctx: &mut Context,
    ) -> Result<usize, Error> {
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
        self.store(held, id, How::Swap, usize::MAX, &mut Attempt::patient(ctx))
    }

    /// Gives pages to the system, which is short of them: those that wait in the pool,
    /// then those of buffers, one by one, least recently used first. A direct
    /// reclaim, in the middle of anything, does not wait: `no_wait` of `ctx`. Nothing is
    /// asked of the GPU. Returns how many; 0 if there was nothing to give.
    ///
    /// # Errors
    /// What has stopped it before any was given.
    pub fn shrink(&self, pages: usize, ctx: &mut Context) -> Result<usize, Error> {
        let ram = self.world.ram();
        let pooled = pool::shrink(ram.source(), ram.pool(), pages);
        if pooled >= pages {
            return Ok(pooled);
        }
        let need = Need {
            pages: pages - pooled,
            how: How::BackUp,
            owner: None,
            own: None,
            prey: &[Prey::BeyondLow, Prey::BeyondMin],
        };
        match self.find_pages(&need, &mut Attempt::patient(ctx)) {
            Err(error) if pooled == 0 => Err(error),
            found => Ok(pooled + found.map_or(0, |found| found.pages)),
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
    /// What changes whenever somebody comes who may give pages up, or pages come back.
    fn pages_seen(&self) -> (usize, [u64; PAGED.len()]) {
        (self.populated, PAGED.map(|segment| self.changes(segment)))
    }

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
