//! Ring 0's fences as the CPU sees them. Needs no lock: an interrupt handler
//! publishes, waiters wait, submitters count.

use crate::Error;
use crate::chip::ChipOps;
use crate::platform::{Os, Wake};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How long a waiter trusts the interrupt before it looks at fence memory itself.
const SLICE_NS: u64 = 1_000_000_000;
/// How long an interrupt that is on its way may take, before a completion
/// seen in memory counts as found by polling.
const GRACE_NS: u64 = 100_000_000;

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimelineCounters {
    /// The newest fence given to the GPU.
    pub submitted: u64,
    /// The newest fence known to be done.
    pub completed: u64,
    /// Interrupts handled.
    pub interrupts: u64,
    /// Completions found by polling only.
    pub fallbacks: u64,
    /// Interrupts that reported a page fault.
    pub page_faults: u64,
}

/// The fences of ring 0: numbers from 1 on, done in order.
pub struct Timeline<O: Os> {
    os: Arc<O>,
    chip: &'static dyn ChipOps,
    /// The page whose first eight bytes the GPU writes.
    memory: Arc<O::Pages>,
    submitted: AtomicU64,
    completed: AtomicU64,
    interrupts: AtomicU64,
    fallbacks: AtomicU64,
    page_faults: AtomicU64,
    lost: AtomicBool,
    /// The fences that the last reset to find any found unfinished: first and last.
    canceled: [AtomicU64; 2],
}

impl<O: Os> Timeline<O> {
    pub(crate) fn new(os: Arc<O>, chip: &'static dyn ChipOps, memory: Arc<O::Pages>) -> Self {
        Self {
            os,
            chip,
            memory,
            submitted: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            page_faults: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            canceled: [AtomicU64::new(1), AtomicU64::new(0)],
        }
    }

    /// For the interrupt handler, with the two latched status words: takes no
    /// lock and allocates nothing.
    pub fn interrupt(&self, biu_status: u32, advanced_status: u32) {
        self.interrupts.fetch_add(1, Ordering::Relaxed);
        if self.chip.is_page_fault(biu_status) {
            self.page_faults.fetch_add(1, Ordering::Relaxed);
        }
        self.publish();
        if self.chip.is_hang(advanced_status) {
            self.mark_lost();
        }
    }

    /// The newest fence known to be done.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Acquire)
    }

    /// The newest fence given to the GPU.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Acquire)
    }

    /// True once the GPU has given up or a doorbell failed: nothing more will
    /// complete before it is reset.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Waits until `fence` is done. 0 is always done.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a fence never submitted, [`Error::Canceled`] for
    /// one that the last reset ended, [`Error::Lost`], [`Error::TimedOut`],
    /// [`Error::Interrupted`].
    pub fn wait(&self, fence: u64, timeout_ns: u64) -> Result<(), Error> {
        if fence > self.submitted() {
            return Err(Error::Invalid);
        }
        let deadline = self.os.now_ns().saturating_add(timeout_ns);
        loop {
            let left = deadline.saturating_sub(self.os.now_ns());
            match self.sleep(fence, left.min(SLICE_NS)) {
                Wake::Ready if self.completed() >= fence => return self.verdict(fence),
                Wake::Ready => return Err(Error::Lost),
                Wake::Interrupted => return Err(Error::Interrupted),
                Wake::TimedOut => {}
            }
            if self.poll(fence) {
                return self.verdict(fence);
            }
            if left <= SLICE_NS {
                return Err(Error::TimedOut);
            }
        }
    }

    /// All counters.
    pub fn counters(&self) -> TimelineCounters {
        TimelineCounters {
            completed: self.completed(),
            submitted: self.submitted(),
            interrupts: self.interrupts.load(Ordering::Relaxed),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            page_faults: self.page_faults.load(Ordering::Relaxed),
        }
    }

    /// Announces the next fence, before its doorbell rings.
    pub(crate) fn submit(&self, fence: u64) {
        self.submitted.store(fence, Ordering::Release);
    }

    pub(crate) fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// After a reset: what the GPU had not finished is over, and it is not lost
    /// any more. Returns the newest fence that was really done.
    pub(crate) fn restart(&self) -> u64 {
        self.publish();
        let [first, last] = &self.canceled;
        let (completed, submitted) = (self.completed(), self.submitted());
        if completed < submitted {
            first.store(completed + 1, Ordering::Relaxed);
            last.store(submitted, Ordering::Relaxed);
        }
        // Whoever sees a canceled fence as completed sees that it is canceled.
        self.completed.store(submitted, Ordering::Release);
        self.lost.store(false, Ordering::Release);
        completed
    }

    /// What became of a fence that is over.
    fn verdict(&self, fence: u64) -> Result<(), Error> {
        let [first, last] = &self.canceled;
        let canceled = first.load(Ordering::Relaxed)..=last.load(Ordering::Relaxed);
        if canceled.contains(&fence) {
            return Err(Error::Canceled);
        }
        Ok(())
    }

    fn sleep(&self, fence: u64, timeout_ns: u64) -> Wake {
        let mut ready = || self.completed() >= fence || self.is_lost();
        if ready() {
            return Wake::Ready;
        }
        self.os.wait(timeout_ns, &mut ready)
    }

    /// Looks at fence memory because no interrupt came. True if `fence` is done.
    fn poll(&self, fence: u64) -> bool {
        if self.in_memory() < fence {
            return false;
        }
        // A signal ends the grace early and says nothing of the interrupt.
        if self.sleep(fence, GRACE_NS) == Wake::TimedOut {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        self.publish();
        true
    }

    fn publish(&self) {
        self.completed.fetch_max(self.in_memory(), Ordering::AcqRel);
    }

    /// What fence memory says; never more than was submitted.
    fn in_memory(&self) -> u64 {
        self.os.load_u64(&self.memory, 0).min(self.submitted())
    }
}
