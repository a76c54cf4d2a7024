//! What the kernel has and a host's threads do not.

use super::fence::FenceResult;
use super::reservation::Usage;
use crate::{Error, Patience};

/// A point in monotonic time, in nanoseconds. An operation has one, whatever the
/// number of waits in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub u64);

impl Deadline {
    /// It does not pass. For locks alone, of those whose holders do not wait for ever.
    pub const NEVER: Self = Self(u64::MAX);
}

/// Fences, reservations and tickets. The kernel's shim implements it in one call
/// each, named with each item; [`super::portable::Portable`] is the other one.
///
/// The layers above do not call the functions that lock, unlock, reserve and add:
/// [`super::Caller`], [`super::Locked`] and [`super::LockSet`] do, and make sure of
/// what is demanded here.
pub trait Primitives {
    /// Memory for a fence that has no number yet: a `struct dma_fence` before
    /// `dma_fence_init`.
    type Unarmed;
    /// A counted reference to a fence: `struct dma_fence *`, `dma_fence_get` and
    /// `dma_fence_put`. The last one may be dropped by an interrupt handler.
    type Fence: Clone;
    /// A counted reference to a reservation: the BO (`drm_gem_object_get`) or the
    /// address space whose `struct dma_resv` it is.
    type Reservation: Clone;
    /// A `struct ww_acquire_ctx` of `reservation_ww_class`, boxed, since locks point
    /// at it. Drop is `ww_acquire_fini`, with nothing held.
    type Ticket;

    /// The number of a fresh fence context: `dma_fence_context_alloc(1)`.
    fn new_context(&self) -> u64;

    /// Memory for a fence: an allocation that may sleep. The only one in a fence's life.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    fn allocate_fence(&self) -> Result<Self::Unarmed, Error>;

    /// Makes it fence `sequence` of a context: `dma_fence_init64`. Cannot fail.
    fn arm(&self, fence: Self::Unarmed, context: u64, sequence: u64) -> Self::Fence;

    /// Its context and sequence.
    fn identity(&self, fence: &Self::Fence) -> (u64, u64);

    /// Ends it and wakes who waits; a second time changes nothing. `dma_fence_set_error`,
    /// `dma_fence_signal`. For interrupt handlers: neither allocates nor takes a
    /// reservation.
    fn signal(&self, fence: &Self::Fence, result: FenceResult);

    /// How it ended, `None` if it has not: `dma_fence_get_status`, where the kernel
    /// has errno, and the reverse of [`super::FenceError::errno`].
    fn result(&self, fence: &Self::Fence) -> Option<FenceResult>;

    /// Sleeps until it has ended, however: `dma_fence_wait_timeout` of what is left
    /// until the deadline.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Interrupted`]. How the fence ended is no error here.
    fn wait_fence(
        &self,
        fence: &Self::Fence,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error>;

    /// Sleeps for a while, at most until then: `schedule_timeout`.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the time is over, [`Error::Interrupted`].
    fn pause(&self, patience: Patience, until: Deadline) -> Result<(), Error>;

    /// A reservation that is free and has no fences: `dma_resv_init`.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    fn new_reservation(&self) -> Result<Self::Reservation, Error>;

    /// Whether both are one: pointers compared.
    fn same(&self, one: &Self::Reservation, other: &Self::Reservation) -> bool;

    /// A ticket, younger than all before: `ww_acquire_init`.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    fn draw(&self) -> Result<Self::Ticket, Error>;

    /// Locks as says, or, without a ticket, as says: `dma_resv_lock`,
    /// or with [`Patience::UntilSignal`] `dma_resv_lock_interruptible`. With a ticket
    /// that holds nothing it always waits: `dma_resv_lock_slow` where the last answer
    /// of that transaction was [`Error::Deadlock`], and this the lock it was about.
    ///
    /// The kernel's has no time limit. Where there is a deadline, the shim asks again with
    /// [`Self::try_lock`], after sleeps that grow: who waits so keeps nobody else waiting,
    /// since it lets all go when its time is over.
    ///
    /// # Errors
    /// [`Error::Already`], [`Error::Deadlock`], [`Error::Interrupted`];
    /// [`Error::TimedOut`] at the deadline.
    fn lock(
        &self,
        reservation: &Self::Reservation,
        ticket: Option<&mut Self::Ticket>,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error>;

    /// Locks what is free, and says whether it did: `ww_mutex_trylock` with the ticket.
    fn try_lock(&self, reservation: &Self::Reservation, ticket: Option<&mut Self::Ticket>) -> bool;

    /// Unlocks what the caller holds, with the ticket that it was locked with:
    /// `dma_resv_unlock`.
    fn unlock(&self, reservation: &Self::Reservation, ticket: Option<&mut Self::Ticket>);

    /// Room for `count` fences more than there are: `dma_resv_reserve_fences`. Held
    /// by the caller. Lapses at unlock.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; what there was room for before, there still is.
    fn reserve_slots(&self, reservation: &Self::Reservation, count: usize) -> Result<(), Error>;

    /// Adds a fence for which there is room: `dma_resv_add_fence`. Held by the caller.
    fn add_fence(&self, reservation: &Self::Reservation, fence: &Self::Fence, usage: Usage);

    /// Whether all fences of the class and those before it have ended:
    /// `dma_resv_test_signaled`. Anybody may ask.
    fn is_idle(&self, reservation: &Self::Reservation, usage: Usage) -> bool;

    /// One of the fences of the class and those before it that have not ended, if there
    /// is one: the first that `dma_resv_iter_first` finds. Anybody may ask.
    fn unfinished(&self, reservation: &Self::Reservation, usage: Usage) -> Option<Self::Fence>;

    /// Sleeps until [`Self::is_idle`]: `dma_resv_wait_timeout`. Anybody may; who does
    /// not hold the reservation waits for what is added meanwhile, too.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Interrupted`].
    fn wait_idle(
        &self,
        reservation: &Self::Reservation,
        usage: Usage,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error>;

    /// Gives `to`, which the caller holds and which is idle, the fences of `from`,
    /// which nobody needs to hold: `dma_resv_copy_fences`.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; `to` is as it was.
    fn copy_fences(&self, to: &Self::Reservation, from: &Self::Reservation) -> Result<(), Error>;
}
