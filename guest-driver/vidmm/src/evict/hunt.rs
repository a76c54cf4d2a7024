//! Evicting others to make room (11.4).

use super::accounts::Room;
use super::attempt::Attempt;
use super::budget::Prey;
use super::mm::Mm;
use super::state::Claim;
use super::victim::Hunter;
use super::world::World;
use crate::Error;
use crate::bo::pool::SmallLock;
use crate::placement::{Pass, Place};
use crate::sync::LockSet;
use core::mem;

/// Rounds of one hunt in which others keep changing what it looks at. It pauses then.
const ROUNDS: usize = 64;

/// What room is needed for.
pub(super) struct Wanted<'a> {
    pub(super) claim: Claim,
    pub(super) place: &'a Place,
    /// [`super::State::changes`] before it was found that there is none.
    pub(super) since: u64,
}

/// What came of one round of evictions.
#[derive(Default)]
pub(super) struct Round {
    /// It may wait for one lock.
    pub(super) may_wait: bool,
    /// It has.
    pub(super) waited: bool,
    met: Met,
}

/// Whom a round has met who could not leave, and may be gone soon.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Met {
    #[default]
    Nobody,
    /// Somebody whom the GPU uses.
    Busy,
    /// Somebody whom others have locked.
    Locked,
}

/// What came of one victim.
#[derive(PartialEq, Eq)]
pub(super) enum Left {
    Gone,
    /// Others have it locked.
    Locked,
    /// It has left by itself, or its leaving is of no use any more.
    Elsewhere,
    Stays,
}

impl Round {
    pub(super) fn meet(&mut self, whom: Met) {
        self.met = self.met.max(whom);
    }

    /// # Errors
    /// What ends the round.
    pub(super) fn note<W: World>(
        &mut self,
        left: Result<(), Error>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Left, Error> {
        match left {
            Ok(()) => Ok(Left::Gone),
            Err(Error::Busy) => {
                let locked = mem::take(&mut attempt.locked_out);
                self.meet(if locked { Met::Locked } else { Met::Busy });
                Ok(if locked { Left::Locked } else { Left::Stays })
            }
            Err(Error::NotFound) => Ok(Left::Elsewhere),
            Err(Error::Already | Error::NoSpace | Error::Limit { .. }) => Ok(Left::Stays),
            Err(error) => Err(error),
        }
    }
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
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Room<W>, Error> {
        if let Error::Limit { .. } = why {
            match self.hunt(set, wanted, Prey::Own, why, attempt) {
                // The limit is no longer in the way, but there is no room either.
                Err(Error::NoSpace) => {}
                other => return other,
            }
        }
        let told = match self.hunt(set, wanted, Prey::BeyondLow, Error::NoSpace, attempt) {
            Err(told @ (Error::NoSpace | Error::Busy)) => told,
            other => return other,
        };
        let spared = self
            .state
            .with(|state| state.accounts.spares(wanted.place.segment));
        // Who will be gone soon goes first.
        let later = told == Error::Busy && attempt.waits_later();
        if pass == Pass::Free || !spared || later {
            return Err(told);
        }
        match self.hunt(set, wanted, Prey::BeyondMin, Error::NoSpace, attempt) {
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
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Room<W>, Error> {
        let claim = &wanted.claim;
        let hunter = Hunter {
            buffer: Some(claim.buffer),
            owner: claim.hunts_for(),
            prey,
        };
        // The first round takes what is free, a later one waits for one lock.
        let (mut round, mut since) = (Round::default(), wanted.since);
        let mut rounds = 0;
        loop {
            let planned = self.options.plan && why == Error::NoSpace;
            let found = if planned {
                self.evict_planned(set, wanted, &hunter, &mut round, attempt)
            } else {
                self.walk(set, wanted, &hunter, &mut why, &mut round, attempt)
            };
            if let Some(booked) = found? {
                return Ok(booked);
            }
            // A walk is no look at one moment: it is over when nothing has changed in it.
            let now = self.state.with(|state| state.changes(wanted.place.segment));
            let changed = !planned && mem::replace(&mut since, now) != now;
            let waits = round.met == Met::Locked && !round.waited && !attempt.ctx.no_wait;
            if !changed && !waits {
                return Err(if round.met == Met::Nobody {
                    why
                } else {
                    Error::Busy
                });
            }
            rounds += 1;
            if rounds > ROUNDS || attempt.is_over(self) {
                return Err(Error::Busy);
            }
            if changed && let Some(booked) = self.try_again(wanted, &mut why)? {
                return Ok(booked);
            }
            round = Round {
                may_wait: !attempt.ctx.no_wait,
                ..Round::default()
            };
        }
    }

    /// One after the other, in the order of the list, until there is room; then the
    /// first of those that were locked, if it may wait for it.
    fn walk(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        wanted: &Wanted<'_>,
        hunter: &Hunter,
        why: &mut Error,
        round: &mut Round,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Option<Room<W>>, Error> {
        let place = wanted.place;
        let (mut locked, mut asked) = (None, false);
        let cursor = self
            .state
            .with(|state| state.lru.walk(place.segment as usize))?;
        let walked = loop {
            let next = self.state.with(|state| state.lru.next(cursor));
            let (victim, waits) = if let Some((_, victim)) = next {
                (victim, false)
            } else {
                // Somebody may be on his way here; he is on no list yet.
                let coming = self.state.with(|state| {
                    let all = locked.is_none() && !asked;
                    all.then(|| state.arriving_at(place.segment, wanted.claim.buffer, &[]))?
                });
                asked = true;
                if coming.is_some() {
                    round.meet(Met::Locked);
                    locked = coming;
                }
                match locked.take().filter(|_| mem::take(&mut round.may_wait)) {
                    Some(victim) => (victim, true),
                    None => break Ok(None),
                }
            };
            round.waited |= waits;
            attempt.saw_change |= waits;
            let left = self.evict_one(set, hunter, victim, place, waits, attempt);
            match round.note(left, attempt) {
                Ok(Left::Gone) => match self.try_again(wanted, why) {
                    Ok(None) => {}
                    found => break found,
                },
                Ok(Left::Locked) => {
                    locked.get_or_insert(victim);
                }
                Ok(Left::Elsewhere | Left::Stays) => {}
                Err(error) => break Err(error),
            }
        };
        self.state.with(|state| state.lru.end(cursor));
        walked
    }

    /// The room that is wanted, if what stood in the way no longer does.
    pub(super) fn try_again(
        &self,
        wanted: &Wanted<'_>,
        why: &mut Error,
    ) -> Result<Option<Room<W>>, Error> {
        let booked = self
            .state
            .with(|state| state.book(&self.world, &wanted.claim, wanted.place));
        match booked {
            Err(error) if mem::discriminant(&error) == mem::discriminant(why) => {
                *why = error;
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}
