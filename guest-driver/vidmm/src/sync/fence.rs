//! Fences: what ends once, in order, and keeps how it ended.

use super::primitives::Primitives;
use crate::Error;
use alloc::collections::VecDeque;
use core::fmt;

/// Why a fence did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FenceError {
    /// The GPU had an error while it worked for it.
    Failed,
    /// A reset cut it off, or its process is gone.
    Canceled,
    /// The GPU is gone or has given up.
    Lost,
    /// The GPU did not end it in time, and was reset for that.
    TimedOut,
}

impl FenceError {
    /// The positive Linux errno.
    pub const fn errno(self) -> i32 {
        Error::of_fence(self).errno()
    }
}

impl fmt::Display for FenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the GPU had an error while it worked for this fence",
            Self::Canceled => "the fence was canceled",
            Self::Lost => "the GPU was lost before the fence",
            Self::TimedOut => "the GPU did not reach the fence in time",
        })
    }
}

impl core::error::Error for FenceError {}

impl Error {
    const fn of_fence(error: FenceError) -> Self {
        match error {
            FenceError::Failed => Self::Io,
            FenceError::Canceled => Self::Canceled,
            FenceError::Lost => Self::Lost,
            FenceError::TimedOut => Self::TimedOut,
        }
    }
}

impl From<FenceError> for Error {
    fn from(error: FenceError) -> Self {
        Self::of_fence(error)
    }
}

/// How a fence ended.
pub type FenceResult = Result<(), FenceError>;

/// Memory for one fence, from [`FenceContext::prepare`]: all that the fence will
/// ever need. It becomes one by [`FenceContext::arm`], or goes by
/// [`FenceContext::abandon`].
#[must_use]
pub struct Prepared<S: Primitives>(S::Unarmed);

/// The fences of one queue of work, which ends in order.
///
/// A fence costs one allocation and a pointer in the queue here, both made by
/// [`Self::prepare`], until it has ended and nobody has it any more.
///
/// Plain data: its owner keeps it behind the lock that its interrupt handler takes.
/// The functions for that handler, all that begin with `end`, neither allocate nor
/// take a reservation, for which they would need a [`super::Caller`] (R-9.5).
///
/// ```
/// use vidmm::sync::portable::{Portable, Single};
/// use vidmm::sync::{FenceContext, FenceError, Primitives};
/// let sync = Portable::new(Single::new());
/// let mut ring = FenceContext::new(&sync);
/// let fences: Vec<_> = (0..3)
///     .map(|_| {
///         let memory = ring.prepare(&sync)?;
///         Ok(ring.arm(&sync, memory))
///     })
///     .collect::<Result<_, vidmm::Error>>()?;
/// ring.end_through(&sync, 1);
/// ring.end_all(&sync, FenceError::Failed, FenceError::Canceled);
/// // A later reset changes nothing of it.
/// ring.end_all(&sync, FenceError::TimedOut, FenceError::Canceled);
/// let ends: Vec<_> = fences.iter().map(|fence| sync.result(fence)).collect();
/// assert_eq!(
///     ends,
///     [Some(Ok(())), Some(Err(FenceError::Failed)), Some(Err(FenceError::Canceled))]
/// );
/// # Ok::<(), vidmm::Error>(())
/// ```
///
/// # Invariants
/// `pending` has the fences from `ended + 1` to `issued`, in order, and no other
/// fence of the context is without an end. Its capacity is at least its length and
/// `prepared`. While the context is lost, nothing is pending.
pub struct FenceContext<S: Primitives> {
    number: u64,
    issued: u64,
    prepared: usize,
    pending: VecDeque<S::Fence>,
    lost: bool,
}

impl<S: Primitives> FenceContext<S> {
    /// A context of its own, whose first fence has the sequence 1.
    pub fn new(sync: &S) -> Self {
        Self {
            number: sync.new_context(),
            issued: 0,
            prepared: 0,
            pending: VecDeque::new(),
            lost: false,
        }
    }

    /// Which context it is.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The sequence of the newest fence, 0 if there was none.
    pub const fn issued(&self) -> u64 {
        self.issued
    }

    /// The sequence up to which all have ended.
    pub fn ended(&self) -> u64 {
        self.issued - self.pending.len() as u64
    }

    /// All memory for one fence, before the point of no return of its job.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; [`Error::Lost`] between [`Self::end_lost`] and [`Self::revive`].
    pub fn prepare(&mut self, sync: &S) -> Result<Prepared<S>, Error> {
        if self.lost {
            return Err(Error::Lost);
        }
        // INVARIANT: there is a place in the queue for each that is prepared.
        self.pending.try_reserve(self.prepared + 1)?;
        let memory = sync.allocate_fence()?;
        self.prepared += 1;
        Ok(Prepared(memory))
    }

    /// The next fence. It cannot fail; on a lost GPU the fence has ended already.
    pub fn arm(&mut self, sync: &S, memory: Prepared<S>) -> S::Fence {
        self.prepared = self.prepared.saturating_sub(1);
        self.issued += 1;
        let fence = sync.arm(memory.0, self.number, self.issued);
        // INVARIANT: the newest comes last, into a place that was kept for it.
        self.pending.push_back(fence.clone());
        if self.lost {
            self.end_lost(sync);
        }
        fence
    }

    /// The job will not come.
    pub fn abandon(&mut self, memory: Prepared<S>) {
        drop(memory);
        self.prepared = self.prepared.saturating_sub(1);
    }

    /// The GPU has reached `sequence`: what has not ended up to it ends well.
    pub fn end_through(&mut self, sync: &S, sequence: u64) {
        self.end(sync, sequence, Ok(()));
    }

    /// The GPU has reached `sequence`, and had an error on the way: what has not
    /// ended up to it ends in `error`.
    pub fn end_failed(&mut self, sync: &S, sequence: u64, error: FenceError) {
        self.end(sync, sequence, Err(error));
    }

    /// A reset: the first fence that has not ended is the one at fault and ends in
    /// `first`, those behind it in `rest`.
    pub fn end_all(&mut self, sync: &S, first: FenceError, rest: FenceError) {
        self.end(sync, self.ended() + 1, Err(first));
        self.end(sync, self.issued, Err(rest));
    }

    /// The GPU is lost: all that have not ended, and all that come until
    /// [`Self::revive`], end in [`FenceError::Lost`] (R-9.4).
    pub fn end_lost(&mut self, sync: &S) {
        self.lost = true;
        self.end(sync, self.issued, Err(FenceError::Lost));
    }

    /// The GPU works again. What has ended stays as it ended.
    pub const fn revive(&mut self) {
        self.lost = false;
    }

    fn end(&mut self, sync: &S, sequence: u64, result: FenceResult) {
        while self.ended() < sequence
            && let Some(fence) = self.pending.pop_front()
        {
            // INVARIANT: it ends before the next one does (R-9.4).
            sync.signal(&fence, result);
        }
    }
}
