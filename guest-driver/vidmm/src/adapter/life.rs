//! Sleep, resets, errors and the end.

use crate::Error;
use crate::adapter::{Adapter, Leftovers};
use crate::bo::Backing;
use crate::engine::ring0::Attended;
use crate::placement::SegmentId;
use crate::platform::Os;
use e3k_regs::VramOffset;
use e3k_regs::packet::halves;

impl<O: Os> Adapter<O> {
    /// Before the function loses its registers, by a reset or in a sleep: waits
    /// until ring 0 is done. The caller lets nobody in before [`Self::resume`].
    ///
    /// # Errors
    /// Those of [`Timeline::wait`](crate::Timeline::wait): something is unfinished, and a reset ends it.
    pub fn suspend(&mut self, timeout_ns: u64) -> Result<(), Error> {
        self.drain(timeout_ns)?;
        self.reap();
        // What clients have queued waits; nothing of it is put on a ring that sleeps.
        self.ring0.asleep = true;
        Ok(())
    }

    /// After the registers were lost: writes them again (L1 bank, mode,
    /// interrupts, ring 0) and drops what the TLBs hold. VRAM was kept, and so
    /// the tables. Fences that were unfinished end in [`Error::Canceled`].
    ///
    /// # Errors
    /// Those of register accesses, [`Error::Io`] when the GPU does not answer
    /// or is not the same any more; the GPU is lost then. [`Error::Lost`] after
    /// [`Self::shut_down`].
    pub fn resume(&mut self) -> Result<(), Error> {
        if self.ring0.ended {
            return Err(Error::Lost);
        }
        self.ring0.asleep = false;
        self.restart()
            .inspect_err(|_| self.ring0.timeline.mark_lost())
    }

    /// As [`Self::resume`], with VRAM lost: the shared tables are written again, and lead
    /// to what is the adapter's own.
    ///
    /// # Errors
    /// As [`Self::resume`].
    pub(crate) fn resume_empty(&mut self) -> Result<(), Error> {
        self.fill_again()
            .inspect_err(|_| self.ring0.timeline.mark_lost())?;
        self.resume()
    }

    /// What `vidmm_init` wrote to VRAM.
    fn fill_again(&self) -> Result<(), Error> {
        let memory = &self.memory;
        let (os, chip) = (&*memory.os, memory.mm_mgr.chip);
        let vm = &memory.mm_mgr.vm_info;
        self.gart.tables.fill(os, chip, vm, self.gart.dummy_pte);
        for (id, bo) in memory.bos.iter() {
            if let (Backing::Bound(pages), Some(at)) = (&bo.backing, bo.resource) {
                let snoop = at.segment == SegmentId::PcieSnoop;
                let va = memory.va(id)?;
                self.gart.bind(os, chip, va, pages, bo.pages, snoop)?;
            }
        }
        // As far as the fences in RAM are.
        let [done, _] = halves(self.ring0.timeline.in_memory());
        os.store_u32(VramOffset(self.ring0.ring.echo.0), &[done, 0]);
        os.write_barrier();
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Error> {
        let os = &*self.memory.os;
        let chip = self.memory.mm_mgr.chip;
        let mut identity = chip.identity();
        os.access(&mut identity)?;
        chip.vram_bytes(&identity)?;
        let mut flush = chip.invalidate_all();
        self.memory.registers.replay(os, &mut flush)?;
        self.ring0.begin_again(false);
        self.go_on_anew();
        Ok(())
    }

    /// Ring 0 was started anew: clients' work that it had not finished has ended, and
    /// what waits behind goes on. A fresh BO whose clearing was cut off is cleared
    /// again when somebody wants to use it.
    fn go_on_anew(&mut self) {
        self.judge_pieces();
        self.advance();
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
    pub fn attend(&mut self) -> Result<(), Error> {
        if self.ring0.attend()? == Attended::Restarted {
            self.go_on_anew();
        }
        Ok(())
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
        self.ring0.learn(fence)?
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
            let timeline = &self.ring0.timeline;
            let newest = timeline.submitted();
            let over = timeline.wait_attentively(newest, left)?;
            if over {
                self.ring0.settle()?;
            }
            if self.ring0.timeline.has_trouble() {
                self.attend()?;
            }
            // Nobody may find something to attend to in a GPU that sleeps.
            let timeline = &self.ring0.timeline;
            if over && timeline.submitted() == newest && !timeline.has_trouble() {
                return Ok(());
            }
            if left == 0 {
                return Err(Error::TimedOut);
            }
        }
    }

    /// The system ends, and another kernel may follow in the same machine: waits
    /// (bounded) for the ring, then stops it and leaves registers as they were
    /// found, and the GPU without DMA, whatever fails on the way. For users the
    /// GPU is lost from here on. Memory stays theirs: nothing is given back.
    ///
    /// # Errors
    /// [`Error::Io`] when the GPU could not be shown idle.
    pub fn shut_down(&mut self, timeout_ns: u64) -> Result<(), Error> {
        let done = self.drain(timeout_ns);
        self.ring0.ended = true;
        self.ring0.timeline.mark_lost();
        let idle = self.ring0.stop(done.is_ok());
        let restored = self.memory.quiet();
        (idle && restored).then_some(()).ok_or(Error::Io)
    }

    /// Ends the driver: waits (bounded) for the ring, then undoes `vidmm_init`
    /// in reverse. If the GPU cannot be shown idle, the pages it may reach are
    /// lost, never freed.
    ///
    /// # Errors
    /// What was left behind.
    pub fn fini(mut self) -> Result<(), Leftovers> {
        let done = self.drain(self.options.idle_timeout_ns);
        let idle = self.ring0.stop(done.is_ok());
        // The timeline shares the fence page, which is given back below.
        drop(self.ring0);
        let left = self.memory.unwind(idle);
        if left.is_any() { Err(left) } else { Ok(()) }
    }
}
