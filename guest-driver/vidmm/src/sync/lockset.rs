//! Many reservations at once, without deadlock.

use super::primitives::{Deadline, Primitives};
use super::reservation::{Locked, Usage};
use crate::{Error, Patience};
use alloc::vec::Vec;
use core::mem;

/// A reservation of the set.
struct Held<'c, S: Primitives> {
    locked: Locked<'c, S>,
    /// It was asked for, and not only taken first after a back-off.
    asked: bool,
}

/// A transaction: reservations that are locked with one ticket, which is kept over
/// every back-off and ages, until it is the oldest and wins (R-9.6). Drop unlocks in
/// reverse order.
///
/// ```
/// use vidmm::{Error, Patience};
/// use vidmm::sync::{Caller, FenceContext, Primitives, Usage};
/// use vidmm::sync::portable::{Portable, Single};
/// let sync = Portable::new(Single::new());
/// let mut ring = FenceContext::new(&sync);
/// let (texture, target) = (sync.new_reservation()?, sync.new_reservation()?);
/// let mut caller = Caller::enter(&sync);
/// let mut job = caller.transaction(Patience::UntilSignal)?;
/// // The closure may run again: whatever it locked is unlocked before that.
/// job.run(|job| {
///     job.lock(&texture, 1)?;
///     job.lock(&target, 1)?;
///     job.lock(&texture, 1)?; // a second BO with the same reservation
///     Ok(())
/// })?;
/// let memory = ring.prepare(&sync)?;
/// let fence = ring.arm(&sync, memory);
/// job.commit(&fence, |it| {
///     if sync.same(it, &target) { Usage::Write } else { Usage::Read }
/// })?;
/// assert!(sync.is_idle(&texture, Usage::Write) && !sync.is_idle(&target, Usage::Write));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
/// `held` is what the ticket holds, each once, in the order of locking. After a
/// [`Error::Deadlock`], `contended` is the reservation it was about, and nothing
/// more is locked until the set has backed off.
#[must_use]
pub struct LockSet<'c, S: Primitives> {
    sync: &'c S,
    ticket: S::Ticket,
    patience: Patience,
    deadline: Deadline,
    held: Vec<Held<'c, S>>,
    /// Where the one is that was found last.
    found: usize,
    contended: Option<S::Reservation>,
    refuses_duplicates: bool,
    running: bool,
    back_offs: u64,
}

impl<'c, S: Primitives> LockSet<'c, S> {
    pub(super) fn begin(sync: &'c S, patience: Patience) -> Result<Self, Error> {
        Ok(Self {
            sync,
            ticket: sync.draw()?,
            patience,
            deadline: Deadline::NEVER,
            held: Vec::new(),
            found: 0,
            contended: None,
            refuses_duplicates: false,
            running: false,
            back_offs: 0,
        })
    }

    /// Waits for what it locks from now on until then at most, and says [`Error::Busy`]
    /// after that. What works with a set and has a deadline of its own says so here:
    /// locks and fences have one (D-17).
    pub const fn until(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// Locking a reservation twice is [`Error::Already`] from now on, not accepted.
    pub fn refuse_duplicates(mut self) -> Self {
        self.refuses_duplicates = true;
        self
    }

    /// Runs `attempt` until no older transaction stood in its way, and gives its
    /// answer. Between two runs all is unlocked and what was contended is locked
    /// first (R-9.8). A back-off that is due comes whatever error `attempt` has made
    /// of it: no contention ends as "no room". Within an attempt, another one backs
    /// off no further than the outer one.
    ///
    /// # Errors
    /// Those of `attempt`; [`Error::Interrupted`], [`Error::Busy`] during a back-off.
    /// [`Error::Invalid`] if the set holds something: a back-off would unlock it behind the caller's back.
    pub fn run<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.running {
            let end = attempt(self);
            return end.map_err(|error| self.contended.as_ref().map_or(error, |_| Error::Deadlock));
        }
        if !self.held.is_empty() {
            return Err(Error::Invalid);
        }
        loop {
            self.running = true;
            let end = attempt(self);
            self.running = false;
            match end {
                Err(_) if self.contended.is_some() => self.back_off()?,
                other => {
                    self.contended = None;
                    return other;
                }
            }
        }
    }

    /// Locks a reservation and keeps room for `slots` fences in it, more than is kept
    /// already if the set holds it.
    ///
    /// # Errors
    /// [`Error::Deadlock`]: to be handed up to [`Self::run`]. [`Error::Already`] where
    /// duplicates are refused. [`Error::Busy`] where there was no time; it may be locked
    /// later. [`Error::Interrupted`], [`Error::NoMemory`].
    pub fn lock(
        &mut self,
        reservation: &S::Reservation,
        slots: usize,
    ) -> Result<&mut Locked<'c, S>, Error> {
        let at = match self.take(reservation) {
            Ok(at) => at,
            Err(Error::Already) if !self.refuses_duplicates => {
                self.find(reservation).ok_or(Error::Already)?
            }
            Err(error) => return Err(error),
        };
        let locked = &mut self.held[at].locked;
        locked.reserve_slots(slots)?;
        Ok(locked)
    }

    /// Locks all of them, as [`Self::lock`] does, in a [`Self::run`].
    ///
    /// # Errors
    /// Those of both; [`Error::Deadlock`] only within another run.
    pub fn lock_all<'r>(
        &mut self,
        reservations: impl IntoIterator<Item = &'r S::Reservation, IntoIter: Clone>,
        slots: usize,
    ) -> Result<(), Error>
    where
        S::Reservation: 'r,
    {
        let all = reservations.into_iter();
        self.run(|set| {
            let mut all = all.clone();
            all.try_for_each(|reservation| set.lock(reservation, slots).map(drop))
        })
    }

    /// A reservation of something that is in the way, locked with this ticket until
    /// the victim is dropped. `waits`: if it is not free, as [`Self::lock`] does. Not
    /// to wait, with a ticket, is for victims alone; R-9.10 is [`super::Caller::try_lock`].
    ///
    /// # Errors
    /// [`Error::Busy`] if it is not free and this does not wait, or not so long. [`Error::Already`]:
    /// the set holds it, so it is no victim. [`Error::Deadlock`]: to be handed up to
    /// [`Self::run`]. [`Error::Interrupted`], [`Error::NoMemory`].
    pub fn victim(
        &mut self,
        reservation: &S::Reservation,
        waits: bool,
    ) -> Result<Victim<'_, 'c, S>, Error> {
        let mut all = self.held.iter();
        let held = all.any(|held| held.locked.is(reservation));
        if !waits && !held && self.contended.is_none() {
            self.held.try_reserve(1)?;
            let free = self.sync.try_lock(reservation, Some(&mut self.ticket));
            if !free {
                return Err(Error::Busy);
            }
            self.push(reservation);
        } else {
            self.take(reservation)?;
        }
        Ok(Victim {
            reservation: reservation.clone(),
            set: self,
        })
    }

    /// What the set holds, in the order of locking.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Locked<'c, S>> {
        self.asked().map(|held| &held.locked)
    }

    /// A reservation that the set holds.
    pub fn get(&mut self, reservation: &S::Reservation) -> Option<&mut Locked<'c, S>> {
        let at = self.find(reservation)?;
        Some(&mut self.held[at].locked)
    }

    /// Adds the job's fence to every reservation that was locked, then unlocks all (R-9.14).
    ///
    /// # Errors
    /// [`Error::Invalid`] if one of them has no room kept for it; then no fence was
    /// added. The caller's mistake.
    pub fn commit(
        mut self,
        fence: &S::Fence,
        usage: impl FnMut(&S::Reservation) -> Usage,
    ) -> Result<(), Error> {
        self.add_to_all(fence, usage)
    }

    /// As [`Self::commit`], and nothing is unlocked yet.
    pub(crate) fn add_to_all(
        &mut self,
        fence: &S::Fence,
        mut usage: impl FnMut(&S::Reservation) -> Usage,
    ) -> Result<(), Error> {
        if self.asked().any(|held| held.locked.slots() == 0) {
            return Err(Error::Invalid);
        }
        for held in self.held.iter_mut().filter(|held| held.asked) {
            let usage = usage(held.locked.reservation());
            held.locked.add(fence, usage)?;
        }
        Ok(())
    }

    /// How often it has backed off.
    pub const fn back_offs(&self) -> u64 {
        self.back_offs
    }

    fn asked(&self) -> impl DoubleEndedIterator<Item = &Held<'c, S>> {
        self.held.iter().filter(|held| held.asked)
    }

    /// A step where the set is asked for the same one again or for the next: who has
    /// locked many works on them in that order.
    fn find(&mut self, reservation: &S::Reservation) -> Option<usize> {
        let from = self.found.min(self.held.len());
        let mut order = (from..self.held.len()).chain(0..from);
        let is = |at: &usize| {
            let held = &self.held[*at];
            held.asked && held.locked.is(reservation)
        };
        let found = order.find(is)?;
        self.found = found;
        Some(found)
    }

    /// Locks what the set does not hold, or hands out what the back-off has locked.
    fn take(&mut self, reservation: &S::Reservation) -> Result<usize, Error> {
        // INVARIANT: a set that must back off locks nothing more.
        if self.contended.is_some() {
            return Err(Error::Deadlock);
        }
        self.held.try_reserve(1)?;
        let ticket = Some(&mut self.ticket);
        let (patience, deadline) = (self.patience, self.deadline);
        match self.sync.lock(reservation, ticket, patience, deadline) {
            Ok(()) => Ok(self.push(reservation)),
            Err(Error::Already) => {
                let mut all = self.held.iter();
                let first = all.position(|held| !held.asked && held.locked.is(reservation));
                let at = first.ok_or(Error::Already)?;
                self.held[at].asked = true;
                Ok(at)
            }
            Err(Error::Deadlock) => {
                self.contended = Some(reservation.clone());
                Err(Error::Deadlock)
            }
            Err(error) => Err(in_time(error)),
        }
    }

    /// INVARIANT: it was locked just now, and there is room in `held`.
    fn push(&mut self, reservation: &S::Reservation) -> usize {
        let locked = Locked::new(self.sync, reservation);
        self.held.push(Held {
            locked,
            asked: true,
        });
        self.held.len() - 1
    }

    /// Unlocks all, then waits for what was contended with the ticket it has.
    fn back_off(&mut self) -> Result<(), Error> {
        self.release_all();
        self.back_offs += 1;
        // INVARIANT: `held` keeps its memory, and this is its first.
        if let Some(reservation) = mem::take(&mut self.contended) {
            let ticket = Some(&mut self.ticket);
            let (patience, deadline) = (self.patience, self.deadline);
            let lock = self.sync.lock(&reservation, ticket, patience, deadline);
            lock.map_err(in_time)?;
            let at = self.push(&reservation);
            self.held[at].asked = false;
        }
        Ok(())
    }

    fn release_all(&mut self) {
        while let Some(held) = self.held.pop() {
            let ticket = Some(&mut self.ticket);
            self.sync.unlock(held.locked.reservation(), ticket);
        }
    }

    fn release(&mut self, reservation: &S::Reservation) {
        if let Some(at) = self.find(reservation) {
            let held = self.held.remove(at);
            let ticket = Some(&mut self.ticket);
            self.sync.unlock(held.locked.reservation(), ticket);
        }
    }
}

/// Who is not let in in time is told what who does not wait is told.
pub(super) const fn in_time(error: Error) -> Error {
    match error {
        Error::TimedOut => Error::Busy,
        other => other,
    }
}

impl<S: Primitives> Drop for LockSet<'_, S> {
    fn drop(&mut self) {
        self.release_all();
    }
}

/// A reservation that a [`LockSet`] holds for a while, to move what is in the way.
/// Drop unlocks it.
///
/// ```
/// use vidmm::{Error, Patience};
/// use vidmm::sync::{Caller, Primitives, portable::{Portable, Single}};
/// let sync = Portable::new(Single::new());
/// let (bo, other) = (sync.new_reservation()?, sync.new_reservation()?);
/// let mut caller = Caller::enter(&sync);
/// let mut set = caller.transaction(Patience::Patient)?;
/// set.lock(&bo, 1)?;
/// let mut victim = set.victim(&other, false)?;
/// // Where the victim goes, something may be in the way again.
/// assert_eq!(victim.set().victim(&bo, true).err(), Some(Error::Already));
/// drop(victim);
/// assert_eq!(set.iter().count(), 1);
/// # Ok::<(), Error>(())
/// ```
#[must_use]
pub struct Victim<'v, 'c, S: Primitives> {
    set: &'v mut LockSet<'c, S>,
    reservation: S::Reservation,
}

impl<'c, S: Primitives> Victim<'_, 'c, S> {
    /// The proof that it is held; `None` once the set has backed off.
    pub fn locked(&mut self) -> Option<&mut Locked<'c, S>> {
        self.set.get(&self.reservation)
    }

    /// The set, for victims of the victim.
    pub const fn set(&mut self) -> &mut LockSet<'c, S> {
        self.set
    }
}

impl<S: Primitives> Drop for Victim<'_, '_, S> {
    fn drop(&mut self) {
        self.set.release(&self.reservation);
    }
}
