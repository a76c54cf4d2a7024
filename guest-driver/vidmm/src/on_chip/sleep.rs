//! Sleep, and whatever takes the registers from the GPU, with or without local memory.

use crate::Error;
use crate::bo::pool::SmallLock;
use crate::evict::{Context, Mm};
use crate::on_chip::line::Line;
use crate::on_chip::{Host, OnChip, PROCESSES};
use crate::placement::SegmentId;
use crate::platform::Os;
use crate::sync::{Caller, Primitives};
use crate::vm::{Held, Slots};

/// What became of local memory while the GPU had no registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalMemory {
    /// It holds what it held.
    Kept,
    /// It holds anything.
    Lost,
}

impl<O: Os + 'static, H: Host + 'static> OnChip<O, H> {
    /// Before a sleep that neither registers nor local memory survive: everything that is
    /// in local memory goes to RAM, jobs end, and the ring stands. The pages for it are
    /// reserved first, while everything still runs (D-6); [`Mm::reserve_ram`] may be called
    /// earlier for that. Afterwards nobody is let in before [`Self::resume`].
    ///
    /// # Errors
    /// [`Error::NoMemory`] and [`Error::Busy`] as [`Mm::reserve_ram`], before anything was
    /// touched. Later ones: those of [`Mm::evict_all`], [`Error::Busy`] when jobs do not end
    /// in time; what has left stays where it is. In all cases the GPU goes on as before.
    pub fn suspend(&self, mm: &Mm<Self>, ctx: &mut Context) -> Result<(), Error> {
        mm.reserve_ram(ctx)?;
        let asleep = self.fall_asleep(mm, ctx);
        mm.unreserve_ram();
        asleep
    }

    fn fall_asleep(&self, mm: &Mm<Self>, ctx: &mut Context) -> Result<(), Error> {
        let mut caller = Caller::enter(self.host.sync());
        for local in [SegmentId::LocalVisible, SegmentId::LocalInvisible] {
            mm.evict_all(&mut caller, local, ctx)?;
        }
        while let Some(fence) = self.line.with(|line| line.newest()) {
            mm.wait(&fence, ctx)?;
        }
        mm.reap();
        // Their tables are made again with the next job of each.
        self.spaces.leave_all()?;
        self.line.with(Line::suspend)
    }

    /// After the registers were lost, in a sleep, by a reset of the function or with the
    /// power: the GPU works again, also one that was lost before.
    ///
    /// After [`Self::suspend`], contents of all buffers are where they were, or in RAM.
    /// Where nobody was warned, jobs of processes that were on the ring end in
    /// [`crate::sync::FenceError::Canceled`]; with local memory [kept](LocalMemory::Kept),
    /// others and the manager's moves are done then. With local memory lost, all jobs and
    /// moves end so, and buffers in local memory have no contents any more: whoever uses
    /// them is told [`Error::Lost`]. Buffers in RAM have theirs.
    ///
    /// # Errors
    /// Those of register accesses, [`Error::Io`] when the GPU does not answer; the GPU is
    /// lost then. To be tried again after another reset.
    pub fn resume(&self, mm: &Mm<Self>, local: LocalMemory) -> Result<(), Error> {
        let sync = self.host.sync();
        let up = self
            .line
            .with(|line| line.restore(sync, local))
            .and_then(|()| self.rebuild(mm, local));
        if up.is_err() {
            self.line.with(|line| line.lose(sync));
            return up;
        }
        self.line.with(|line| line.go_on(sync));
        Ok(())
    }

    /// What the manager has written to registers and local memory.
    fn rebuild(&self, mm: &Mm<Self>, local: LocalMemory) -> Result<(), Error> {
        if local == LocalMemory::Lost {
            mm.lose_local();
            mm.bind_again()?;
            self.spaces.leave_all()?;
        }
        // Jobs that are in line were prepared with them.
        self.process_ids.with(Slots::unload);
        for slot in 0..PROCESSES {
            let owner = self.process_ids.with(|ids| ids.owner(slot));
            let process_id = u8::try_from(slot + 1).map_err(|_| Error::Invalid)?;
            if let Some(space) = owner {
                match self.load(space, process_id, &Held { slot }) {
                    // It has ended, and nobody has needed its slot yet.
                    Ok(()) | Err(Error::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

impl<O: Os, S: Primitives> Line<O, S> {
    /// Nothing is in line, and nothing of what comes goes on the ring.
    ///
    /// # Errors
    /// [`Error::Busy`] if something is; [`Error::Lost`]; those of [`crate::Adapter::suspend`].
    fn suspend(&mut self) -> Result<(), Error> {
        if !self.is_empty() {
            return Err(Error::Busy);
        }
        self.adapter.suspend(0)?;
        self.stands = true;
        Ok(())
    }

    /// The ring is there again, and stands.
    fn restore(&mut self, sync: &S, local: LocalMemory) -> Result<(), Error> {
        self.stands = true;
        match local {
            LocalMemory::Kept => self.adapter.resume()?,
            LocalMemory::Lost => {
                self.adapter.resume_empty()?;
                self.cancel_all(sync);
            }
        }
        self.revive();
        Ok(())
    }
}
