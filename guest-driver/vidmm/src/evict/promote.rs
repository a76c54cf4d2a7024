//! Promotion: what had to leave a better place comes back when there is room (D-3).

use super::attempt::Attempt;
use super::budget::Terms;
use super::hunt::is_about_room;
use super::mm::{Context, Mm};
use super::object::Object;
use super::state::{Claim, State};
use super::world::World;
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::PageVector;
use crate::bo::pool::SmallLock;
use crate::placement::{Flags, Pass, Place, SegmentId, good_enough};
use crate::sync::{Caller, LockSet};
use alloc::vec::Vec;

/// Entries of each memory type that one call looks at.
const LOOKED_AT: usize = 256;

/// On which terms buffers come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// At most so many bytes in an interval, or one buffer that is larger.
    pub bytes: u64,
    /// The interval.
    pub interval_ns: u64,
    /// What stays free of the better memory type, in percent: room for who comes next,
    /// so that nobody has to leave at once for one who has come back.
    pub spare_percent: u8,
    /// How long a buffer that had to leave stays where it went.
    pub rest_ns: u64,
}

impl Default for Promotion {
    /// 256 MiB in 100 ms, a twentieth stays free, a second's rest.
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            interval_ns: 100_000_000,
            spare_percent: 5,
            rest_ns: 1_000_000_000,
        }
    }
}

/// What was brought back in the interval that began last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    since: u64,
    bytes: u64,
}

impl Spent {
    /// Whether so many bytes more are within the terms.
    const fn allows(&mut self, terms: &Promotion, now: u64, bytes: u64) -> bool {
        if now.saturating_sub(self.since) >= terms.interval_ns {
            *self = Self {
                since: now,
                bytes: 0,
            };
        }
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= terms.bytes
    }
}

impl<W: World + 'static> Mm<W> {
    /// Brings buffers back to the first of the places that they were validated for last,
    /// those that were used last first, as far as there is room. Nobody leaves for it,
    /// and nothing is waited for but the lock of the books. To be called now and then:
    /// when buffers have gone, and after a sleep. The caller holds no reservation.
    /// Returns the bytes that come back.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Lost`], others of a move; what has come back
    /// stays.
    pub fn promote(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        ctx: &mut Context,
    ) -> Result<u64, Error> {
        let Some(terms) = self.options.promotion else {
            return Ok(0);
        };
        self.alive()?;
        let now = self.world.after(0).0;
        let displaced = self.state.with(|state| state.displaced(&terms, now))?;
        let mut promoted = 0;
        for (_, id) in displaced {
            if self.hold(id).is_err() {
                continue;
            }
            let moved = caller.transaction(ctx.patience).and_then(|mut set| {
                set.until(ctx.deadline);
                set.run(|set| self.promote_one(set, id, &terms, now, ctx))
            });
            // It was held.
            let _ = self.let_go(id);
            match moved {
                Ok(bytes) => promoted += bytes,
                Err(Error::NotFound | Error::NeverFits) => {}
                Err(error) if is_about_room(error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(promoted)
    }

    fn promote_one(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        terms: &Promotion,
        now: u64,
        ctx: &mut Context,
    ) -> Result<u64, Error> {
        let reservation = self.reservation(id)?;
        let mut lock = set.victim(&reservation, false)?;
        let held = lock.locked().ok_or(Error::Busy)?;
        held.reserve_slots(1)?;
        let best = self.state.with(|state| {
            let object = state.objects.get(id)?;
            state
                .displaced_from(object, terms, now)
                .ok_or(Error::NotFound)
        })?;
        let stop = self.stop(id, best.segment)?;
        let info = self.info(id)?;
        let claim = Claim {
            buffer: id,
            request: info.request(),
            owner: info.owner,
            terms: Terms::Asked,
        };
        let booked = self.state.with(|state| {
            let bytes = state.objects.get(id)?.bytes();
            let capacity = state.manager(best.segment).capacity();
            let spare = capacity / 100 * u64::from(terms.spare_percent);
            let fits = state.left(best.segment) >= bytes.saturating_add(spare);
            let stops = stop.is_none_or(|stop| state.left(stop) >= bytes);
            // Nobody gives up pages for it.
            let lacks = state
                .objects
                .get(id)?
                .vector
                .as_ref()
                .map_or(0, PageVector::lacks);
            let pages = state.populated.saturating_add(lacks) <= state.ram_limit;
            let stops = stops && (stop.is_none() || pages);
            if !fits || !stops || !state.spent.allows(terms, now, bytes) {
                return Err(Error::NoSpace);
            }
            let booked = state.book(&self.world, &claim, &best)?;
            state.spent.bytes = state.spent.bytes.saturating_add(bytes);
            Ok(booked)
        })?;
        let bytes = booked.bytes();
        self.move_to(lock.set(), id, booked, &mut Attempt::passing_by(ctx))?;
        self.state.with(|state| {
            state.counters.promoted_pages += info.pages;
            state.accounts.promoted(info.owner, best.segment, bytes);
        });
        Ok(bytes)
    }
}

impl<W: World + 'static> State<W> {
    /// Bytes of a memory type that are free.
    fn left(&self, segment: SegmentId) -> u64 {
        let manager = self.manager(segment);
        manager.capacity().saturating_sub(manager.usage())
    }

    /// Buffers that have a better place, the one that was used last first.
    fn displaced(&self, terms: &Promotion, now: u64) -> Result<Vec<(u64, Id)>, Error> {
        let mut found = Vec::new();
        for segment in SegmentId::TYPES {
            for (stamp, id) in self.lru.newest(segment as usize).take(LOOKED_AT) {
                let object = self.objects.get(id);
                if object.is_ok_and(|it| self.displaced_from(it, terms, now).is_some()) {
                    found.try_reserve(1)?;
                    found.push((stamp, id));
                }
            }
        }
        found.sort_unstable_by_key(|(stamp, _)| core::cmp::Reverse(*stamp));
        Ok(found)
    }

    /// The place where a buffer would be better, if it has rested.
    fn displaced_from(&self, object: &Object<W>, terms: &Promotion, now: u64) -> Option<Place> {
        let best = object.best?;
        let room = object.resource.as_ref()?;
        let rests = object
            .left
            .is_some_and(|left| now.saturating_sub(left.at_ns) < terms.rest_ns);
        if object.dying || object.pins > 0 || rests {
            return None;
        }
        let manager = self.manager(room.segment());
        let there = good_enough(manager, room, &[best], Pass::Free);
        (!there).then_some(best)
    }
}

/// The place that a placement wants most: the first that does not only stand in for
/// others.
pub(super) fn best(placement: &[Place]) -> Option<Place> {
    let mut own = placement.iter();
    own.find(|place| !place.flags.has(Flags::FALLBACK)).copied()
}
