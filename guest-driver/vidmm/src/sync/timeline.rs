//! Ring 0's fences as the CPU sees them. Needs no lock: an interrupt handler
//! publishes, waiters wait, submitters count.
//!
//! That a fence is done says nothing about how its job went: the GPU drops an
//! access that fails, tells it by a status bit, and writes the fence as ever.
//! So a fence is *judged* apart from its being done: it is, as soon as every
//! status that the GPU raised before it has been seen here.
//!
//! The write of a fence can fail like any other. So behind each fence goes its
//! *echo*, to VRAM, which no bus can lose, and with it the interrupt: a fence whose
//! echo is there and which is not in memory itself is done, and had an error.

use crate::Error;
use crate::chip::ChipOps;
use crate::platform::{Os, Patience, Wake};
use crate::sync::ends::{End, Ends};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use e3k_regs::VramOffset;
use e3k_regs::packet::halves;

/// How long a waiter trusts the interrupt before it looks at fence memory itself,
/// and how long nothing is heard of the GPU before it is asked.
const SLICE_NS: u64 = 1_000_000_000;
/// How long an interrupt that is on its way may take, before a completion
/// seen in memory counts as found by polling. A host that has other work takes
/// more than a tenth of a second now and then.
const GRACE_NS: u64 = SLICE_NS;

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
    /// Interrupts that reported a bus error: no memory at an address.
    pub bus_errors: u64,
    /// Interrupts that reported a ring that gave up.
    pub hangs: u64,
}

/// What an interrupt left to do for somebody who may sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) page_fault: bool,
    pub(crate) bus_error: bool,
    pub(crate) hang: bool,
}

/// The fences of ring 0: numbers from 1 on, done in order.
///
/// # Invariants
/// - `submitted`, `completed` and `judged` never go back, and the last two are not
///   larger than the first.
/// - How a fence up to `judged` ended is in `ends`, and does not change any more.
pub struct Timeline<O: Os> {
    os: Arc<O>,
    chip: &'static dyn ChipOps,
    /// The page whose first eight bytes the GPU writes.
    memory: Arc<O::Pages>,
    /// Where the GPU writes fences once more, of which the low 32 bits are read.
    echo: VramOffset,
    submitted: AtomicU64,
    completed: AtomicU64,
    /// Up to here the write of a fence may have failed.
    doubted: AtomicU64,
    /// When the GPU was last heard of, or given work, or asked.
    heard_ns: AtomicU64,
    overdue: AtomicBool,
    /// Every status raised up to here has been seen.
    judged: AtomicU64,
    /// So many fences have signalled, as far as is known. The handler's.
    signals: AtomicU64,
    interrupts: AtomicU64,
    fallbacks: AtomicU64,
    page_faults: AtomicU64,
    bus_errors: AtomicU64,
    hangs: AtomicU64,
    faulted: AtomicBool,
    unanswered: AtomicBool,
    hung: AtomicBool,
    lost: AtomicBool,
    ends: Ends,
}

impl<O: Os> Timeline<O> {
    /// `echo`: in the window; it holds 0.
    pub(crate) fn new(
        os: Arc<O>,
        chip: &'static dyn ChipOps,
        memory: Arc<O::Pages>,
        echo: VramOffset,
    ) -> Self {
        Self {
            os,
            chip,
            memory,
            echo,
            submitted: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            heard_ns: AtomicU64::new(0),
            overdue: AtomicBool::new(false),
            judged: AtomicU64::new(0),
            signals: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            page_faults: AtomicU64::new(0),
            bus_errors: AtomicU64::new(0),
            hangs: AtomicU64::new(0),
            faulted: AtomicBool::new(false),
            unanswered: AtomicBool::new(false),
            hung: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            ends: Ends::new(),
        }
    }

    /// For the interrupt handler, with the two latched status words and
    /// `before`, what [`Self::in_memory`] said at a moment before they were
    /// latched. Takes no lock and allocates nothing; one call at a time. True if
    /// [`Adapter::attend`](crate::Adapter::attend) has something to do.
    pub fn interrupt(&self, before: u64, biu_status: u32, advanced_status: u32) -> bool {
        let count = |counter: &AtomicU64, yes: bool| {
            counter.fetch_add(u64::from(yes), Ordering::Relaxed);
        };
        let page_fault = self.chip.is_page_fault(biu_status);
        let bus_error = self.chip.is_bus_error(biu_status);
        let hang = self.chip.is_hang(advanced_status);
        count(&self.interrupts, true);
        count(&self.page_faults, page_fault);
        count(&self.bus_errors, bus_error);
        count(&self.hangs, hang);
        self.heard();
        let judged = self.judged.load(Ordering::Acquire);
        let error = page_fault || bus_error || hang;
        if error {
            self.doubted.store(self.submitted(), Ordering::Release);
        }
        let done = self.publish_with_echo(judged);
        if error {
            // Whose error it was, the words do not say: a job that was not
            // judged yet and had begun.
            let last = (done + 1).min(self.submitted());
            self.ends.record(End::Failed, judged + 1, last);
        }
        // Fences signal once each, in order, and each before the next one is in memory;
        // but its own signal comes behind it.
        let signals = self.signals.load(Ordering::Relaxed);
        let signals = signals + u64::from(self.chip.is_fence(advanced_status));
        let signals = signals.max(before.saturating_sub(1));
        self.signals.store(signals, Ordering::Relaxed);
        self.set_judged(before.max(signals.min(done)));
        self.faulted.fetch_or(page_fault, Ordering::AcqRel);
        self.unanswered.fetch_or(bus_error, Ordering::AcqRel);
        self.hung.fetch_or(hang, Ordering::AcqRel);
        error
    }

    /// The newest fence known to be done.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Acquire)
    }

    /// The newest fence given to the GPU.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Acquire)
    }

    /// What fence memory says; never more than was submitted. For interrupt
    /// handlers too.
    pub fn in_memory(&self) -> u64 {
        self.os.load_u64(&self.memory, 0).min(self.submitted())
    }

    /// The newest fence that is over as far as can be known without an interrupt.
    pub(crate) fn over(&self) -> u64 {
        self.in_memory().max(self.completed())
    }

    /// True once the GPU cannot be brought to work or a doorbell failed:
    /// nothing more will complete before it is reset.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// True if the ring gave up and nobody has restarted it yet.
    pub(crate) fn is_hung(&self) -> bool {
        self.hung.load(Ordering::Acquire)
    }

    /// Waits until `fence` is over, however it ended ([`Self::verdict`]). 0 is
    /// always over.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a fence never submitted, [`Error::Lost`],
    /// [`Error::TimedOut`], [`Error::Interrupted`].
    pub fn wait(&self, fence: u64, timeout_ns: u64) -> Result<(), Error> {
        self.wait_or(fence, timeout_ns, Patience::UntilSignal, || false)
            .map(|_| ())
    }

    /// The same, but ends early, with false, when an error of the GPU wants to
    /// be looked at: by who has the device lock, without which nobody else can.
    pub(crate) fn wait_attentively(&self, fence: u64, timeout_ns: u64) -> Result<bool, Error> {
        self.wait_or(fence, timeout_ns, Patience::Patient, || self.has_trouble())
    }

    fn wait_or(
        &self,
        fence: u64,
        timeout_ns: u64,
        patience: Patience,
        enough: impl Fn() -> bool,
    ) -> Result<bool, Error> {
        if fence > self.submitted() {
            return Err(Error::Invalid);
        }
        let deadline = self.os.now_ns().saturating_add(timeout_ns);
        loop {
            let left = deadline.saturating_sub(self.os.now_ns());
            match self.sleep(fence, left.min(SLICE_NS), patience, &enough) {
                Wake::Ready if self.completed() >= fence => return Ok(true),
                Wake::Ready if self.is_lost() => return Err(Error::Lost),
                Wake::Ready => return Ok(false),
                Wake::Interrupted => return Err(Error::Interrupted),
                Wake::TimedOut => {}
            }
            if self.poll(fence, patience) {
                return Ok(true);
            }
            if left <= SLICE_NS {
                return Err(Error::TimedOut);
            }
        }
    }

    /// How a fence ended that is over. `None`: nobody knows yet, ask
    /// [`Adapter::judge`](crate::Adapter::judge).
    pub fn verdict(&self, fence: u64) -> Option<Result<(), Error>> {
        let judged = self.judged.load(Ordering::Acquire);
        (fence <= judged).then(|| self.ends.of(fence))
    }

    /// All counters.
    pub fn counters(&self) -> TimelineCounters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TimelineCounters {
            completed: self.completed(),
            submitted: self.submitted(),
            interrupts: count(&self.interrupts),
            fallbacks: count(&self.fallbacks),
            page_faults: count(&self.page_faults),
            bus_errors: count(&self.bus_errors),
            hangs: count(&self.hangs),
        }
    }

    /// Announces the next fence, before its doorbell rings.
    pub(crate) fn submit(&self, fence: u64) {
        // A ring that stands does not go on by more work.
        if self.completed() >= self.submitted() {
            self.heard();
        }
        self.submitted.store(fence, Ordering::Release);
    }

    pub(crate) fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Every status that was raised before fence memory said `fence` has been
    /// given to [`Self::interrupt`].
    ///
    /// INVARIANT: called behind what is recorded in `ends`.
    pub(crate) fn set_judged(&self, fence: u64) {
        self.judged.fetch_max(fence, Ordering::AcqRel);
    }

    /// Whether [`Adapter::attend`](crate::Adapter::attend) has something to do.
    pub fn has_trouble(&self) -> bool {
        [&self.faulted, &self.unanswered, &self.hung, &self.overdue]
            .iter()
            .any(|flag| flag.load(Ordering::Acquire))
    }

    /// Whether somebody has waited while nothing was heard of the GPU, since the
    /// last call.
    pub(crate) fn take_overdue(&self) -> bool {
        self.overdue.swap(false, Ordering::AcqRel)
    }

    /// What interrupts left to do since the last call.
    pub(crate) fn take_trouble(&self) -> Trouble {
        let take = |flag: &AtomicBool| flag.swap(false, Ordering::AcqRel);
        Trouble {
            page_fault: take(&self.faulted),
            bus_error: take(&self.unanswered),
            hang: take(&self.hung),
        }
    }

    /// After a reset: what the GPU had not finished is over, and it is not lost
    /// any more. So is what nobody can judge any more. `guilty`: the first job
    /// that was not finished is why. Nobody calls [`Self::interrupt`] meanwhile.
    pub(crate) fn restart(&self, guilty: bool) {
        let completed = self.publish();
        let submitted = self.submitted();
        let mut cut = self.judged.load(Ordering::Acquire).min(completed) + 1;
        if guilty {
            let end = (completed + 1).min(submitted);
            self.ends.record(End::Failed, cut, end);
            cut = end + 1;
        }
        self.ends.record(End::Canceled, cut, submitted);
        // Whoever sees a canceled fence as over sees that it is canceled.
        self.set_judged(submitted);
        self.signals.store(submitted, Ordering::Relaxed);
        self.completed.fetch_max(submitted, Ordering::AcqRel);
        self.take_trouble();
        self.take_overdue();
        self.lost.store(false, Ordering::Release);
    }

    fn sleep(
        &self,
        fence: u64,
        timeout_ns: u64,
        patience: Patience,
        enough: &impl Fn() -> bool,
    ) -> Wake {
        let mut ready = || self.completed() >= fence || self.is_lost() || enough();
        if ready() {
            return Wake::Ready;
        }
        self.os.wait(patience, timeout_ns, &mut ready)
    }

    /// Looks at fence memory because no interrupt came. True if `fence` is done.
    /// If nothing at all came for long, the GPU is to be asked: an interrupt may be
    /// lost that told of something else than this fence in memory.
    fn poll(&self, fence: u64, patience: Patience) -> bool {
        if self.over() < fence {
            self.note_silence();
            return false;
        }
        // A signal ends the grace early and says nothing of the interrupt.
        if self.sleep(fence, GRACE_NS, patience, &|| false) == Wake::TimedOut {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        self.publish();
        true
    }

    /// Somebody waits for a fence that is not over. If nothing was heard of the GPU for
    /// long, it is to be asked ([`Self::take_overdue`]).
    pub(crate) fn note_silence(&self) {
        let heard = self.heard_ns.load(Ordering::Acquire);
        if self.os.now_ns().saturating_sub(heard) >= SLICE_NS {
            self.heard();
            self.overdue.store(true, Ordering::Release);
        }
    }

    fn heard(&self) {
        self.heard_ns.store(self.os.now_ns(), Ordering::Release);
    }

    /// Returns the newest fence known to be done.
    fn publish(&self) -> u64 {
        // INVARIANT: memory says no more than was submitted, whatever it holds.
        let found = self.in_memory();
        self.completed.fetch_max(found, Ordering::AcqRel).max(found)
    }

    /// The same, fences included whose write failed; these have had an error.
    fn publish_with_echo(&self, judged: u64) -> u64 {
        if self.completed() < self.doubted.load(Ordering::Acquire) {
            // In this order: a fence is in memory before its echo is in VRAM.
            let echo = self.os.load_u32(self.echo);
            let memory = self.in_memory();
            let ahead = u64::from(echo.wrapping_sub(halves(memory)[0]));
            // All ones: VRAM does not answer.
            if echo != u32::MAX && ahead <= self.submitted() - memory {
                let echo = memory + ahead;
                self.ends.record(End::Failed, judged.max(memory) + 1, echo);
                self.completed.fetch_max(echo, Ordering::AcqRel);
            }
        }
        self.publish()
    }
}
