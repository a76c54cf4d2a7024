//! Reservations as values: who holds nothing, who holds one, and what that proves.

use super::lockset::{LockSet, in_time};
use super::primitives::{Deadline, Primitives};
use crate::{Error, Patience};
use core::ops::{Deref, DerefMut};

/// What a fence in a reservation is about. A query or wait for a class considers
/// it and all before it (R-9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// Memory management itself, moves and clears: everybody waits. Idle: the
    /// contents are in place.
    Kernel,
    /// Who reads or writes next waits.
    Write,
    /// Who writes next waits.
    Read,
    /// Nobody waits but who would free or move the memory. Idle: it may be evicted.
    Bookkeep,
}

impl Usage {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::Write, Self::Read, Self::Bookkeep];
}

/// One thread of execution that holds no reservation. Made once where a call
/// enters the driver, and lent on.
///
/// What locks borrows it until it unlocks, so that a lock without a ticket by who
/// holds another reservation, and waiting for a contended one while others are held
/// (R-9.8, R-9.9), do not compile:
///
/// ```compile_fail,E0499
/// use vidmm::{Patience, sync::{Caller, Primitives, portable::{Portable, Single}}};
/// let sync = Portable::new(Single::new());
/// let (a, b) = (sync.new_reservation()?, sync.new_reservation()?);
/// let mut caller = Caller::enter(&sync);
/// let first = caller.lock(&a, Patience::Patient)?;
/// let second = caller.lock(&b, Patience::Patient)?;
/// drop((first, second));
/// # Ok::<(), vidmm::Error>(())
/// ```
///
/// It does not prove that the thread has not made a second one.
pub struct Caller<'s, S: Primitives> {
    sync: &'s S,
}

impl<'s, S: Primitives> Caller<'s, S> {
    /// Begins a call.
    pub const fn enter(sync: &'s S) -> Self {
        Self { sync }
    }

    /// Locks one reservation, and no other (R-9.9).
    ///
    /// # Errors
    /// [`Error::Interrupted`]; nothing is held then (R-9.11).
    pub fn lock(
        &mut self,
        reservation: &S::Reservation,
        patience: Patience,
    ) -> Result<Guard<'_, S>, Error> {
        self.lock_until(reservation, patience, Deadline::NEVER)
    }

    /// The same, but waits until the deadline at most.
    ///
    /// # Errors
    /// [`Error::Busy`] after that; [`Error::Interrupted`].
    pub fn lock_until(
        &mut self,
        reservation: &S::Reservation,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<Guard<'_, S>, Error> {
        let lock = self.sync.lock(reservation, None, patience, deadline);
        lock.map_err(in_time)?;
        Ok(Guard(Locked::new(self.sync, reservation)))
    }

    /// Locks a free one without waiting (R-9.10).
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn try_lock(&mut self, reservation: &S::Reservation) -> Result<Guard<'_, S>, Error> {
        if self.sync.try_lock(reservation, None) {
            Ok(Guard(Locked::new(self.sync, reservation)))
        } else {
            Err(Error::Busy)
        }
    }

    /// Begins a transaction: several reservations, one ticket (R-9.6).
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn transaction(&mut self, patience: Patience) -> Result<LockSet<'_, S>, Error> {
        LockSet::begin(self.sync, patience)
    }
}

/// A reservation that is held: the proof that who changes fences, placement or pages
/// needs.
///
/// ```
/// use vidmm::{Error, Patience};
/// use vidmm::sync::{Caller, FenceContext, Primitives, Usage};
/// use vidmm::sync::portable::{Portable, Single};
/// let sync = Portable::new(Single::new());
/// let mut ring = FenceContext::new(&sync);
/// let bo = sync.new_reservation()?;
/// let mut caller = Caller::enter(&sync);
/// let mut locked = caller.lock(&bo, Patience::Patient)?;
/// // What can fail comes first.
/// locked.reserve_slots(1)?;
/// let memory = ring.prepare(&sync)?;
/// let fence = ring.arm(&sync, memory);
/// locked.add(&fence, Usage::Read)?;
/// assert!(locked.is_idle(Usage::Write), "readers do not disturb readers");
/// assert!(!locked.is_idle(Usage::Bookkeep), "nor may it be evicted");
/// assert_eq!(locked.add(&fence, Usage::Read), Err(Error::Invalid), "no room is kept");
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
/// The reservation is locked by who can reach this, and has room for `slots` fences
/// more. There is one of these for a reservation that is held.
pub struct Locked<'c, S: Primitives> {
    sync: &'c S,
    reservation: S::Reservation,
    slots: usize,
}

impl<'c, S: Primitives> Locked<'c, S> {
    /// INVARIANT: called right after the lock was taken, by who will unlock it.
    pub(super) fn new(sync: &'c S, reservation: &S::Reservation) -> Self {
        Self {
            sync,
            reservation: reservation.clone(),
            slots: 0,
        }
    }

    /// Which one.
    pub const fn reservation(&self) -> &S::Reservation {
        &self.reservation
    }

    /// Whether it is this one.
    pub fn is(&self, reservation: &S::Reservation) -> bool {
        self.sync.same(&self.reservation, reservation)
    }

    /// Fences that can still be added.
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// Room for `count` fences more, until it is unlocked (R-9.2).
    ///
    /// # Errors
    /// [`Error::NoMemory`]; what was kept before still is.
    pub fn reserve_slots(&mut self, count: usize) -> Result<(), Error> {
        let slots = self.slots.checked_add(count).ok_or(Error::NoMemory)?;
        self.sync.reserve_slots(&self.reservation, slots)?;
        // INVARIANT: the room is there.
        self.slots = slots;
        Ok(())
    }

    /// Adds a fence. It takes the place of those of its context that are not younger
    /// and of this class or a later one (R-9.3).
    ///
    /// # Errors
    /// [`Error::Invalid`] without a slot that was reserved: the caller's mistake.
    pub fn add(&mut self, fence: &S::Fence, usage: Usage) -> Result<(), Error> {
        self.slots = self.slots.checked_sub(1).ok_or(Error::Invalid)?;
        self.sync.add_fence(&self.reservation, fence, usage);
        Ok(())
    }

    /// Whether all fences of the class and those before it have ended.
    pub fn is_idle(&self, usage: Usage) -> bool {
        self.sync.is_idle(&self.reservation, usage)
    }

    /// Waits until it is idle. Who waits here keeps others out; a move that takes long
    /// is for a fence, not for a wait.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Interrupted`].
    pub fn wait_idle(
        &self,
        usage: Usage,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        self.sync
            .wait_idle(&self.reservation, usage, patience, deadline)
    }

    /// Takes over the fences of a reservation that was shared, by who will have one
    /// of their own from now on. Room that was kept lapses.
    ///
    /// # Errors
    /// [`Error::Invalid`] if this one is not idle or is that one; [`Error::NoMemory`],
    /// and nothing has changed but for the room.
    pub fn take_fences_of(&mut self, shared: &S::Reservation) -> Result<(), Error> {
        if self.is(shared) || !self.is_idle(Usage::Bookkeep) {
            return Err(Error::Invalid);
        }
        // INVARIANT: nobody counts on room that the copy may have used.
        self.slots = 0;
        self.sync.copy_fences(&self.reservation, shared)
    }
}

/// One reservation that is held without a ticket. Drop unlocks it.
#[must_use]
pub struct Guard<'c, S: Primitives>(Locked<'c, S>);

impl<'c, S: Primitives> Deref for Guard<'c, S> {
    type Target = Locked<'c, S>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<S: Primitives> DerefMut for Guard<'_, S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<S: Primitives> Drop for Guard<'_, S> {
    fn drop(&mut self) {
        self.0.sync.unlock(&self.0.reservation, None);
    }
}
