//! Pages of RAM: how many there may be, and how they come to be (section 13).

use super::attempt::Attempt;
use super::budget::{OwnerId, Prey};
use super::give::{Found, How, Need, PAGED};
use super::mm::Mm;
use super::state::State;
use super::world::{BlockOf, ReservationOf, World};
use crate::Error;
use crate::bo::page_vector::{PageVector, Ram};
use crate::bo::pool::{self, SmallLock};
use crate::sync::{Primitives, Usage};

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
        let mut populated = vector.populate(self.world.ram());
        if populated == Err(Error::NoMemory) {
            let found = self.take_leftovers(lacks, own, attempt);
            if found.pages > 0 {
                populated = vector.populate(self.world.ram());
            }
            // What comes back by itself is no shortage.
            if found.busy && populated == Err(Error::NoMemory) {
                populated = Err(Error::Busy);
            }
        }
        let missing = lacks.saturating_sub(vector.held().saturating_sub(before));
        self.state.with(|state| state.populated -= missing);
        populated
    }

    /// The system has no pages: those come back that nobody needs, of buffers that are gone
    /// and of the pool. Buffers that are needed give theirs up where the system asks for them
    /// ([`Self::shrink`]).
    fn take_leftovers(
        &self,
        pages: usize,
        own: Option<&ReservationOf<W>>,
        attempt: &mut Attempt<'_, W>,
    ) -> Found {
        let sync = self.world.sync();
        let mut found = Found::default();
        found.pages = self.reap_beside(|it| {
            let held = own.is_some_and(|own| sync.same(own, it.reservation))
                || attempt.holds(sync, it.reservation);
            if it.pages == 0 || held {
                return;
            }
            found.busy = true;
            if it.locked {
                attempt.meet_giver(it.reservation);
            } else {
                attempt.pass_by(sync, it.reservation, Usage::Bookkeep);
            }
        });
        let ram = self.world.ram();
        found.pages += pool::shrink(ram.source(), ram.pool(), pages);
        found
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
                    if state.in_hand() > in_hand {
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
}

impl<W: World + 'static> State<W> {
    /// What changes whenever somebody comes who may give pages up, or pages come back.
    pub(super) fn pages_seen(&self) -> (usize, [u64; PAGED.len()]) {
        (self.populated, PAGED.map(|segment| self.changes(segment)))
    }

    /// Pages that are counted and in no buffer: somebody has a buffer in hand, brings pages,
    /// or is giving some back.
    pub(super) fn in_hand(&self) -> usize {
        let kept = self.objects.iter().map(|(_, object)| object.all_held());
        self.populated.saturating_sub(kept.sum())
    }
}
