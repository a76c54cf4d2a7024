//! Ring 0 in use: work, a fence behind each piece, and what is done when it goes
//! wrong: an acknowledgement, a verdict for each fence, and a reset of the engine
//! where nothing else helps.

use crate::Error;
use crate::chip::{ChipOps, Fault};
use crate::engine::ring::{RING_BYTES, Ring};
use crate::engine::trouble::TroubleLog;
use crate::platform::Os;
use crate::sync::timeline::{Timeline, Trouble};
use alloc::sync::Arc;
use e3k_regs::packet::Writer;

/// How often interrupts are asked for before the GPU counts as not answering.
const DELIVERIES: u32 = 8;
/// How often an engine is asked whether it is idle after its reset.
const IDLE_READS: u32 = 1000;

/// What became of the ring when its errors were attended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who had work on the ring learns what became of it"]
pub(crate) enum Attended {
    /// It goes on.
    GoesOn,
    /// It was started anew and is empty: what was unfinished has ended.
    Restarted,
}

/// See the module.
pub(crate) struct Ring0<O: Os> {
    os: Arc<O>,
    chip: &'static dyn ChipOps,
    pub(crate) ring: Ring,
    pub(crate) timeline: Arc<Timeline<O>>,
    trouble: TroubleLog,
    /// The system has ended: nobody attends to anything any more.
    pub(crate) ended: bool,
    /// The GPU sleeps: nobody touches its registers.
    pub(crate) asleep: bool,
}

impl<O: Os> Ring0<O> {
    /// A ring that stands at its beginning.
    pub(crate) fn new(
        os: Arc<O>,
        chip: &'static dyn ChipOps,
        ring: Ring,
        timeline: Arc<Timeline<O>>,
    ) -> Self {
        Self {
            os,
            chip,
            ring,
            timeline,
            trouble: TroubleLog::default(),
            ended: false,
            asleep: false,
        }
    }

    /// Submits what `work` writes, by addresses of a process. Returns its fence.
    ///
    /// # Errors
    /// [`Error::Busy`] when the ring is full or wants [`Self::attend`]; those of
    /// [`Ring::submit`].
    pub(crate) fn submit(
        &mut self,
        process_id: u8,
        work: impl Fn(&mut Writer<'_>),
    ) -> Result<u64, Error> {
        if self.timeline.is_hung() {
            return Err(Error::Busy);
        }
        self.ring
            .submit(&*self.os, self.chip, &self.timeline, process_id, work)
    }

    /// Looks at the errors that interrupts told of: logs them, acknowledges page
    /// faults, so that a ring that stands at one goes on, and restarts a ring
    /// that gave up or repeats a fault for ever. What the ring had not finished
    /// then ends in [`Error::Canceled`], the job at fault in [`Error::Io`]. Where
    /// nothing was heard of the GPU for a second and somebody waits, asks it.
    ///
    /// # Errors
    /// Those of register accesses, [`Error::Io`] when the GPU stays busy; the
    /// GPU is lost then.
    pub(crate) fn attend(&mut self) -> Result<Attended, Error> {
        if self.ended || self.asleep {
            return Ok(Attended::GoesOn);
        }
        let asked = if self.timeline.take_overdue() {
            self.settle()
        } else {
            Ok(())
        };
        let attended = asked.and_then(|()| self.attend_to(self.timeline.take_trouble()));
        attended.inspect_err(|_| self.timeline.mark_lost())
    }

    fn attend_to(&mut self, trouble: Trouble) -> Result<Attended, Error> {
        let os = &*self.os;
        let mut stuck = trouble.hang;
        if trouble.page_fault
            && let Some(fault) = self.acknowledge()?
        {
            let completed = self.timeline.completed();
            stuck |= self.trouble.is_repeated(&fault, completed);
            self.trouble.say(os, format_args!("{fault}"));
        }
        if trouble.bus_error {
            let what = format_args!("no memory answered an access (master abort)");
            self.trouble.say(os, what);
        }
        if !stuck {
            return Ok(Attended::GoesOn);
        }
        let first = self.timeline.completed() + 1;
        let what = format_args!("job {first} does not end: ring 0 is restarted");
        self.trouble.say(os, what);
        self.restart_engine(true)?;
        Ok(Attended::Restarted)
    }

    /// Where ring 0 is, for people: its read and write pointer, and what is busy.
    pub(crate) fn look(&self) -> Result<[u32; 3], Error> {
        let chip = self.chip;
        let mut busy = [chip.busy()];
        let [head, tail] = [chip.ring_head(), chip.ring_tail()];
        let pointers = [self.os.read(head)?, self.os.read(tail)?];
        self.os.access(&mut busy)?;
        Ok([pointers[0], pointers[1], busy[0].value])
    }

    /// Acknowledges the page fault that the registers show, if they show one.
    fn acknowledge(&self) -> Result<Option<Fault>, Error> {
        let (os, chip) = (&*self.os, self.chip);
        let mut registers = chip.fault_registers();
        os.access(&mut registers)?;
        let fault = chip.fault(&registers);
        if let Some(fault) = &fault {
            os.access(&mut chip.clear_fault(fault))?;
        }
        Ok(fault)
    }

    /// Stops what ring 0 does and starts it empty. `guilty`: see [`Timeline::restart`].
    pub(crate) fn restart_engine(&mut self, guilty: bool) -> Result<(), Error> {
        // What was done before is judged by what it did.
        self.settle()?;
        self.reset_engine()?;
        self.acknowledge()?;
        self.settle()?;
        let (os, chip) = (&*self.os, self.chip);
        os.access(&mut chip.invalidate_all())?;
        os.access(&mut chip.start_ring(self.ring.va, RING_BYTES))?;
        self.trouble.begin_again();
        self.begin_again(guilty);
        Ok(())
    }

    /// The ring is empty and stands at its beginning: ends what was unfinished.
    /// `guilty`: see [`Timeline::restart`].
    pub(crate) fn begin_again(&mut self, guilty: bool) {
        self.ring.restart();
        self.timeline.restart(guilty);
    }

    /// Makes sure that every fence that is done now is judged.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        let (os, chip) = (&*self.os, self.chip);
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

    /// The verdict on a fence ([`Adapter::judge`](crate::Adapter::judge)), apart from the
    /// errors of asking for it, that say nothing of the fence.
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

    /// Stops the ring. True if the GPU is shown to do nothing: every fence is
    /// done, or nothing is busy after the engine was reset.
    pub(crate) fn stop(&self, done: bool) -> bool {
        let chip = self.chip;
        let stopped = self.os.access(&mut chip.stop_ring(self.ring.va));
        if stopped.is_ok() && !done {
            return self.reset_engine().is_ok();
        }
        stopped.is_ok()
    }

    /// Makes the engine behind ring 0 drop what it does.
    ///
    /// # Errors
    /// [`Error::Io`] when it stays busy, and those of register accesses.
    fn reset_engine(&self) -> Result<(), Error> {
        let mut reset = self.chip.reset_engine();
        self.os.access(&mut reset)?;
        for _ in 0..IDLE_READS {
            if reset[2].value == 0 {
                return Ok(());
            }
            self.os.access(&mut reset[2..])?;
        }
        Err(Error::Io)
    }
}
