//! What the GPU's errors lead to: one log line, an acknowledgement, a verdict
//! for each fence, and a reset of the engine where nothing else helps.

use crate::Error;
use crate::adapter::Adapter;
use crate::chip::Fault;
use crate::platform::{LogLevel, Os};
use crate::sync::timeline::Trouble;
use core::fmt;
use e3k_regs::GpuVa;

/// A log line at most so often.
const LOG_EVERY_NS: u64 = 5_000_000_000;
/// So often a fault comes while no fence is done. Then it is taken for one that
/// the GPU repeats for ever.
const SAME_FAULTS: u64 = 16;
/// How often interrupts are asked for before the GPU counts as not answering.
const DELIVERIES: u32 = 8;

/// What was seen and said so far.
#[derive(Debug, Default)]
pub(crate) struct TroubleLog {
    quiet_until_ns: u64,
    left_out: u64,
    repeats: Repeats,
    /// How often the engine was restarted because a job did not end.
    pub(crate) restarts: u64,
}

/// Faults while no fence is done. The GPU may repeat one, or several in turn:
/// each is held against a mark, which moves to a later fault at growing
/// distances, so that a circle of any length is found without remembering it.
#[derive(Debug, Default)]
struct Repeats {
    /// The newest fence that was done.
    completed: u64,
    /// Where, in whose address space.
    mark: Option<(GpuVa, u8)>,
    /// How often it was seen again.
    again: u64,
    /// Faults until the mark moves, and how many that were when it moved last.
    left: u64,
    distance: u64,
}

impl Repeats {
    /// Counts a fault. True if it is one of those that the GPU repeats.
    fn count(&mut self, fault: &Fault, completed: u64) -> bool {
        if self.completed != completed {
            *self = Self {
                completed,
                ..Self::default()
            };
        }
        let this = Some((fault.va, fault.process_id));
        self.again += u64::from(self.mark == this);
        if self.left == 0 {
            self.distance = (self.distance * 2).max(SAME_FAULTS);
            (self.mark, self.again, self.left) = (this, 1, self.distance);
        }
        self.left -= 1;
        self.again >= SAME_FAULTS
    }
}

impl TroubleLog {
    /// One line, unless there was one shortly before.
    fn say(&mut self, os: &impl Os, what: fmt::Arguments<'_>) {
        let now = os.now_ns();
        if now < self.quiet_until_ns {
            self.left_out += 1;
            return;
        }
        let left_out = core::mem::take(&mut self.left_out);
        self.quiet_until_ns = now.saturating_add(LOG_EVERY_NS);
        if left_out == 0 {
            os.log(LogLevel::Error, format_args!("GPU: {what}"));
        } else {
            let more = format_args!("GPU: {what} ({left_out} lines before this left out)");
            os.log(LogLevel::Error, more);
        }
    }
}

impl<O: Os> Adapter<O> {
    /// Looks at the errors that interrupts told of: logs them, acknowledges page
    /// faults, so that a ring that stands at one goes on, and restarts a ring
    /// that gave up or repeats a fault for ever. What the ring had not finished
    /// then ends in [`Error::Canceled`], the job at fault in [`Error::Io`]. Where
    /// nothing was heard of the GPU for a second and somebody waits, asks it.
    ///
    /// # Errors
    /// Those of register accesses, [`Error::Io`] when the GPU stays busy; the
    /// GPU is lost then.
    pub fn attend(&mut self) -> Result<(), Error> {
        if self.ended || self.asleep {
            return Ok(());
        }
        let asked = if self.timeline.take_overdue() {
            self.settle()
        } else {
            Ok(())
        };
        let attended = asked.and_then(|()| self.attend_to(self.timeline.take_trouble()));
        attended.inspect_err(|_| self.timeline.mark_lost())
    }

    fn attend_to(&mut self, trouble: Trouble) -> Result<(), Error> {
        let os = &*self.memory.os;
        let mut stuck = trouble.hang;
        if trouble.page_fault
            && let Some(fault) = self.acknowledge()?
        {
            stuck |= self
                .trouble
                .repeats
                .count(&fault, self.timeline.completed());
            self.trouble.say(os, format_args!("{fault}"));
        }
        if trouble.bus_error {
            let what = format_args!("no memory answered an access (master abort)");
            self.trouble.say(os, what);
        }
        if stuck {
            let first = self.timeline.completed() + 1;
            let what = format_args!("job {first} does not end: ring 0 is restarted");
            self.trouble.say(os, what);
            self.restart_engine()?;
        }
        Ok(())
    }

    /// Acknowledges the page fault that the registers show, if they show one.
    fn acknowledge(&self) -> Result<Option<Fault>, Error> {
        let (os, chip) = (&*self.memory.os, self.memory.mm_mgr.chip);
        let mut registers = chip.fault_registers();
        os.access(&mut registers)?;
        let fault = chip.fault(&registers);
        if let Some(fault) = &fault {
            os.access(&mut chip.clear_fault(fault))?;
        }
        Ok(fault)
    }

    /// Stops what ring 0 does and starts it empty.
    fn restart_engine(&mut self) -> Result<(), Error> {
        // What was done before is judged by what it did.
        self.settle()?;
        let (os, chip) = (&*self.memory.os, self.memory.mm_mgr.chip);
        self.reset_engine()?;
        self.acknowledge()?;
        self.settle()?;
        os.access(&mut chip.invalidate_all())?;
        let size = crate::engine::ring::RING_BYTES;
        os.access(&mut chip.start_ring(self.ring.va, size))?;
        self.trouble.repeats = Repeats::default();
        self.trouble.restarts += 1;
        self.begin_again(true);
        Ok(())
    }

    /// Makes sure that every fence that is done now is judged.
    fn settle(&self) -> Result<(), Error> {
        let (os, chip) = (&*self.memory.os, self.memory.mm_mgr.chip);
        for _ in 0..DELIVERIES {
            let done = self.timeline.over();
            // What a job suffered is signalled before a later access is answered.
            os.read(chip.ring_head())?;
            if os.deliver() {
                self.timeline.set_judged(done);
                return Ok(());
            }
        }
        Err(Error::Io)
    }

    /// How a fence ended that is over.
    ///
    /// The GPU tells that a job had an error, but not which: an error counts for
    /// every job that had begun and was not judged when it was told.
    ///
    /// # Errors
    /// [`Error::Io`] for a job that had a page fault or a bus error,
    /// [`Error::Canceled`] for one that a reset ended, [`Error::Busy`] when it is
    /// not over; [`Error::Lost`]; those of register accesses.
    pub fn judge(&self, fence: u64) -> Result<(), Error> {
        self.learn(fence)?
    }

    /// The verdict on a fence, apart from the errors of asking for it: those of
    /// [`Self::judge`] that say nothing of the fence.
    pub(crate) fn learn(&self, fence: u64) -> Result<Result<(), Error>, Error> {
        if let Some(verdict) = self.timeline.verdict(fence) {
            return Ok(verdict);
        }
        if self.timeline.is_lost() {
            return Err(Error::Lost);
        }
        if fence > self.timeline.over() {
            return Err(Error::Busy);
        }
        self.settle()?;
        self.timeline.verdict(fence).ok_or(Error::Busy)
    }

    /// Waits until everything that was submitted is over and judged, and
    /// [attends](Self::attend) to errors meanwhile, which nobody else can while
    /// the caller holds the device lock.
    ///
    /// # Errors
    /// Those of [`Timeline::wait`](crate::Timeline::wait) and of [`Self::attend`].
    pub fn drain(&mut self, timeout_ns: u64) -> Result<(), Error> {
        let deadline = self.os().now_ns().saturating_add(timeout_ns);
        loop {
            let left = deadline.saturating_sub(self.os().now_ns());
            let newest = self.timeline.submitted();
            let over = self.timeline.wait_attentively(newest, left)?;
            if over {
                self.settle()?;
            }
            if self.timeline.has_trouble() {
                self.attend()?;
            }
            // Nobody may find something to attend to in a GPU that sleeps.
            if over && self.timeline.submitted() == newest && !self.timeline.has_trouble() {
                return Ok(());
            }
            if left == 0 {
                return Err(Error::TimedOut);
            }
        }
    }
}
