//! Planned eviction: first it is worked out who has to leave, then exactly those do
//! (D-23).

use super::accounts::Room;
use super::attempt::Attempt;
use super::hunt::{Left, Met, Round, Wanted};
use super::mm::Mm;
use super::state::State;
use super::victim::Hunter;
use super::world::World;
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::placement::Extent;
use crate::sync::LockSet;
use alloc::vec::Vec;

/// How often a plan is made whose victims all leave and whose room somebody else takes,
/// and how often one whose victims have gone elsewhere meanwhile.
const PLANS: usize = 8;
/// Victims that are looked at one by one, whether it goes without them.
const DROPPED: usize = 64;

impl<W: World + 'static> Mm<W> {
    /// Makes those leave whose leaving makes room, if there are such. Where nobody's
    /// leaving does, nobody leaves. `None` with nobody met is a verdict of one moment, in
    /// which there was no room and nobody whose leaving makes some.
    ///
    /// # Errors
    /// Those of the moves that are no reason to try others.
    pub(super) fn evict_planned(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        wanted: &Wanted<'_>,
        hunter: &Hunter,
        round: &mut Round,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Option<Room<W>>, Error> {
        let mut stay = Vec::new();
        let (mut plans, mut vain) = (0, 0);
        let mut why = Error::NoSpace;
        while plans < PLANS && vain < PLANS {
            let planned = self.state.with(|state| state.plan(wanted, hunter, &stay))?;
            let Some(victims) = planned else {
                return Ok(None);
            };
            let mut all = true;
            for victim in victims {
                let mut left = self.evict_one(set, hunter, victim, wanted.place, false, attempt);
                let mut noted = round.note(left, attempt)?;
                if noted == Left::Locked && core::mem::take(&mut round.may_wait) {
                    round.waited = true;
                    attempt.saw_change = true;
                    left = self.evict_one(set, hunter, victim, wanted.place, true, attempt);
                    noted = round.note(left, attempt)?;
                }
                if noted != Left::Gone {
                    all = false;
                    if noted == Left::Elsewhere {
                        vain += 1;
                    } else {
                        stay.try_reserve(1)?;
                        stay.push(victim);
                    }
                    break;
                }
            }
            if all {
                plans += 1;
                let found = self.try_again(wanted, &mut why)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        // Others are faster. They are not for ever.
        round.meet(Met::Busy);
        Ok(None)
    }
}

impl<W: World + 'static> State<W> {
    /// Who has to leave for a request, least recently used first: nobody where there is
    /// room already, `None` if nobody's leaving makes any. `stay`: those that cannot. It takes a number of steps that
    /// grows with the list and, for each of a few tries, with log n for each victim.
    fn plan(
        &mut self,
        wanted: &Wanted<'_>,
        hunter: &Hunter,
        stay: &[Id],
    ) -> Result<Option<Vec<Id>>, Error> {
        let (mut names, mut ranges) = (Vec::new(), Vec::<(usize, Extent)>::new());
        let mut in_hand = None;
        let cursor = self.lru.walk(wanted.place.segment as usize)?;
        let listed = loop {
            let Some((_, id)) = self.lru.next(cursor) else {
                break Ok(());
            };
            let Ok(object) = self.objects.get(id) else {
                continue;
            };
            let out = hunter.buffer == Some(id) || stay.contains(&id);
            let Some(room) = object.resource.as_ref().filter(|_| !out) else {
                // Somebody has it in hand; its lock says when that is over.
                in_hand = in_hand.or((!out).then_some(id));
                continue;
            };
            if !self.may_leave(id, object, hunter, wanted.place) {
                continue;
            }
            let extents = room.booking().extents();
            if names.try_reserve(1).is_err() || ranges.try_reserve(extents.len()).is_err() {
                break Err(Error::NoMemory);
            }
            ranges.extend(extents.iter().map(|extent| (names.len(), *extent)));
            names.push(id);
        };
        self.lru.end(cursor);
        listed?;
        // The first so many that make room together.
        let (mut too_few, mut enough) = (0, names.len());
        if self.foresee(wanted, &ranges, |_| true)?.is_none() {
            let coming = || self.arriving_at(wanted.place.segment, wanted.claim.buffer, stay);
            names.clear();
            names.extend(in_hand.or_else(coming));
            return Ok((!names.is_empty()).then_some(names));
        }
        while too_few < enough {
            let some = usize::midpoint(too_few, enough);
            match self.foresee(wanted, &ranges, |victim| victim < some)? {
                Some(_) => enough = some,
                None => too_few = some + 1,
            }
        }
        names.truncate(enough);
        ranges.retain(|(victim, _)| *victim < enough);
        // Those whose pages would be taken, and of these only whom it does not go without.
        let taken = self.foresee(wanted, &ranges, |_| true)?.unwrap_or_default();
        let touches = |extent: Extent| taken.iter().any(|it| it.common(extent).is_some());
        let mut needed = Vec::new();
        needed.try_reserve_exact(names.len())?;
        needed.resize(names.len(), false);
        for (victim, extent) in &ranges {
            needed[*victim] |= touches(*extent);
        }
        for victim in (0..names.len()).rev().take(DROPPED) {
            if core::mem::take(&mut needed[victim]) {
                let without = self.foresee(wanted, &ranges, |other| needed[other])?;
                needed[victim] = without.is_none();
            }
        }
        let mut needed = needed.iter();
        names.retain(|_| needed.next().is_some_and(|needed| *needed));
        Ok(Some(names))
    }

    /// What would be booked if the ranges of some were free; `None` if that is not enough.
    fn foresee(
        &mut self,
        wanted: &Wanted<'_>,
        ranges: &[(usize, Extent)],
        some: impl Fn(usize) -> bool,
    ) -> Result<Option<Vec<Extent>>, Error> {
        let mut freed = Vec::new();
        freed.try_reserve_exact(ranges.len())?;
        let chosen = ranges.iter().filter(|(victim, _)| some(*victim));
        freed.extend(chosen.map(|(_, extent)| *extent));
        match self.foresee_booking(&wanted.claim.request, wanted.place, &freed) {
            Ok(taken) => Ok(Some(taken)),
            Err(Error::NoSpace) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
