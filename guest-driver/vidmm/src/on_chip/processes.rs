//! Processes of the GPU: an address space each, and jobs that run in it under a process
//! id.

use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::lru::GroupId;
use crate::evict::{Context, FenceOf, Info, Mm, Used, World};
use crate::on_chip::blit::Blit;
use crate::on_chip::line::PROCESS_BYTES;
use crate::on_chip::process_tables::{ProcessTables, Share};
use crate::on_chip::{Host, OnChip};
use crate::placement::Place;
use crate::platform::Os;
use crate::sync::{Caller, LockSet, Primitives, Usage};
use crate::vm::{Held, Mapping, SpaceId, Turn, Wait};
use alloc::sync::Arc;
use alloc::vec::Vec;
use e3k_regs::pte::L1_SPAN;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// What a process wants done.
struct Job {
    space: SpaceId,
    blits: Vec<Blit>,
    /// See [`Blit::cost`].
    cost: u64,
}

/// A job that is in line, and what it uses.
struct Queued<'c, S: Primitives> {
    set: LockSet<'c, S>,
    fence: S::Fence,
    buffers: Vec<Id>,
    group: GroupId,
}

impl<O: Os + 'static, H: Host + 'static> OnChip<O, H> {
    /// Begins a process: an address space of its own. The shared zones are in it
    /// already; what is mapped goes behind them.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn start_process(&self, mm: &Mm<Self>) -> Result<SpaceId, Error> {
        let share = self.host.lock(Share::default());
        let (common, pool) = (Arc::clone(&self.common), Arc::clone(&self.pool));
        let tables = ProcessTables::new(common, pool, share);
        let zone = self.common.zone.clone();
        self.spaces.create(mm, zone, None, tables)
    }

    /// Where the addresses of processes begin.
    pub fn private_zone(&self) -> GpuVa {
        GpuVa(self.common.zone.start)
    }

    /// A new buffer for a process, with a reservation of its own, or [`private`] to it. That
    /// local memory is cleared for it, and what had to be moved, counts for the process until
    /// it has ended, as its jobs do: who would have more than 64 MiB in line waits first.
    ///
    /// [`private`]: crate::vm::Spaces::create_private
    ///
    /// # Errors
    /// Those of [`Mm::create`]; [`Error::NotFound`]; [`Error::Busy`] when not enough of the
    /// line became free in time.
    pub fn create(
        &self,
        mm: &Mm<Self>,
        space: SpaceId,
        info: &Info,
        private: bool,
        placement: &[Place],
        ctx: &mut Context,
    ) -> Result<Id, Error> {
        let local = |place: &Place| !place.segment.uses_tt();
        if placement.iter().any(local) {
            let cost = info.pages.saturating_mul(PAGE_SIZE);
            self.wait_in_line(mm, space, cost, ctx)?;
        }
        let moved = ctx.moved_pages;
        let mut caller = Caller::enter(self.host.sync());
        let mut set = caller.transaction(ctx.patience)?;
        let bo = set.run(|set| {
            if private {
                let spaces = &self.spaces;
                spaces.create_private(mm, set, space, info, placement, ctx)
            } else {
                mm.create(set, info, None, placement, ctx)
            }
        })?;
        let moved = ctx.moved_pages.saturating_sub(moved);
        if let Some(fence) = mm.coming(bo) {
            let (sync, cost) = (self.host.sync(), moved.saturating_mul(PAGE_SIZE));
            self.line
                .with(|line| line.charge(sync, &fence, space, cost));
        }
        Ok(bo)
    }

    /// Maps pages of a buffer into a process's address space.
    ///
    /// # Errors
    /// As [`crate::vm::Spaces::map`].
    pub fn map(
        &self,
        mm: &Mm<Self>,
        space: SpaceId,
        at: GpuVa,
        bytes: u64,
        object: (Id, u64),
        ctx: &Context,
    ) -> Result<(), Error> {
        let mut caller = Caller::enter(self.host.sync());
        let new = Mapping {
            at,
            bytes,
            object: Some(object),
            flags: (),
        };
        self.spaces.map(mm, &mut caller, space, new, ctx)
    }

    /// Runs a job of a process: what it maps is made resident at the place that `place`
    /// finds, then the blits, at most 64 MiB in all, of which each counts as 4 KiB at least,
    /// go in line behind everything before. A process that would have more than 64 MiB or
    /// 64 jobs there waits first, so that nobody waits for more of each other's; what the
    /// manager moved for a job counts for its process until the job has ended. Jobs get a
    /// process id in the order in which they came, and nothing is locked while they wait for it
    /// or in line. Returns the job's fence, which all the process's buffers have as their
    /// writer.
    ///
    /// # Errors
    /// Those of [`crate::vm::Spaces::prepare`]; [`Error::Busy`] when no process id became
    /// free, or not enough of the line, in time; [`Error::Invalid`]
    /// for a blit that packets cannot say or that is not in the private zone, and for too
    /// much; [`Error::NoMemory`], [`Error::Lost`]. The job does not run then.
    pub fn run(
        &self,
        mm: &Mm<Self>,
        space: SpaceId,
        blits: Vec<Blit>,
        ctx: &mut Context,
        mut place: impl FnMut(&mut LockSet<'_, H::Sync>, Id, &mut Context) -> Result<(), Error>,
    ) -> Result<FenceOf<Self>, Error> {
        let sync = self.host.sync();
        // The shared zones lead to all memory: a job's addresses are its process's own.
        let within = blits.iter().all(|blit| blit.is_within(&self.common.zone));
        let cost = blits
            .iter()
            .try_fold(0_u64, |all, blit| all.checked_add(blit.cost()))
            .filter(|cost| within && *cost <= PROCESS_BYTES)
            .ok_or(Error::Invalid)?;
        if self.is_lost() {
            return Err(Error::Lost);
        }
        let held = self.process_id(mm, space, ctx)?;
        let job = Job { space, blits, cost };
        let mut caller = Caller::enter(sync);
        let queued = self.queue_job(mm, &mut caller, job, &held, ctx, &mut place);
        let next = self.process_ids.with(|ids| match &queued {
            Ok(queued) => ids.submitted(&held, queued.fence.clone()),
            Err(_) => ids.abandon(&held),
        });
        self.call(next);
        let Queued {
            set,
            fence,
            buffers,
            group,
        } = queued?;
        let used = Used {
            buffers: &buffers,
            groups: &[group],
        };
        mm.submit(set, &fence, |_| Usage::Write, used)?;
        Ok(fence)
    }

    /// A process id for a job, which waits for it behind all that came before. Nothing is
    /// locked: nobody waits for what the job needs while it waits for a process id.
    fn process_id(&self, mm: &Mm<Self>, space: SpaceId, ctx: &Context) -> Result<Held, Error> {
        let mut turn = Turn::default();
        let held = self.wait_for_id(mm, space, &mut turn, ctx);
        let next = self.process_ids.with(|ids| ids.leave(&mut turn));
        self.call(next);
        held
    }

    fn wait_for_id(
        &self,
        mm: &Mm<Self>,
        space: SpaceId,
        turn: &mut Turn,
        ctx: &Context,
    ) -> Result<Held, Error> {
        let sync = self.host.sync();
        let ended = |fence: &FenceOf<Self>| sync.result(fence).is_some();
        loop {
            match self.process_ids.with(|ids| ids.hold(space, turn, ended)) {
                Ok(held) => return Ok(held),
                Err(Wait::NoMemory) => return Err(Error::NoMemory),
                Err(_) if ctx.no_wait => return Err(Error::Busy),
                Err(Wait::Fence(fence)) => mm.wait(&fence, ctx)?,
                Err(Wait::Turn) => {
                    let call = sync.arm(sync.allocate_fence()?, sync.new_context(), 1);
                    if self.process_ids.with(|ids| ids.call(turn, call.clone())) {
                        mm.wait(&call, ctx)?;
                    }
                }
            }
        }
    }

    /// Somebody's turn has come.
    fn call(&self, next: Option<FenceOf<Self>>) {
        if let Some(next) = next {
            self.host.sync().signal(&next, Ok(()));
        }
    }

    /// How many jobs wait for a process id.
    pub fn waiting_for_ids(&self) -> usize {
        self.process_ids.with(|ids| ids.waiting())
    }

    /// Makes a job ready and gives it to the line. Its buffers are held afterwards.
    fn queue_job<'c>(
        &self,
        mm: &Mm<Self>,
        caller: &'c mut Caller<'_, H::Sync>,
        job: Job,
        held: &Held,
        ctx: &mut Context,
        place: &mut impl FnMut(&mut LockSet<'_, H::Sync>, Id, &mut Context) -> Result<(), Error>,
    ) -> Result<Queued<'c, H::Sync>, Error> {
        let Job { space, blits, cost } = job;
        let process_id = u8::try_from(held.slot).map_err(|_| Error::Invalid)? + 1;
        self.wait_in_line(mm, space, cost, ctx)?;
        let mut set = caller.transaction(ctx.patience)?;
        set.until(ctx.deadline);
        let moved = ctx.moved_pages;
        set.run(|set| self.spaces.prepare(mm, set, space, ctx, &mut *place))?;
        let moved = ctx.moved_pages.saturating_sub(moved);
        if set.iter().any(|locked| locked.slots() == 0) {
            return Err(Error::Invalid);
        }
        // Another thread of the process may have queued more meanwhile: seldom, and what
        // is waited for are jobs on these same buffers.
        self.wait_in_line(mm, space, cost, ctx)?;
        self.load(space, process_id, held)?;
        let sync = self.host.sync();
        let buffers = self.spaces.externals(space)?;
        let group = self.spaces.group(space)?;
        let cost = cost.saturating_add(moved.saturating_mul(PAGE_SIZE));
        let fence = self
            .line
            .with(|line| line.queue(sync, Some((process_id, space)), blits, cost))?;
        // Nothing fails any more: the GPU may have it already.
        Ok(Queued {
            set,
            fence,
            buffers,
            group,
        })
    }

    /// Waits until a process may have so much more in line.
    fn wait_in_line(
        &self,
        mm: &Mm<Self>,
        space: SpaceId,
        cost: u64,
        ctx: &Context,
    ) -> Result<(), Error> {
        while let Some(fence) = self.line.with(|line| line.behind(space, cost)) {
            if ctx.no_wait {
                return Err(Error::Busy);
            }
            mm.wait(&fence, ctx)?;
        }
        Ok(())
    }

    /// Gives a process id to a space, if it is not its own already: its L1 registers are
    /// written, and the TLBs forget whose they were.
    pub(super) fn load(&self, space: SpaceId, process_id: u8, held: &Held) -> Result<(), Error> {
        let (must_load, told) = self
            .process_ids
            .with(|ids| (ids.must_load(held), ids.told(held)));
        if !must_load {
            return Ok(());
        }
        if let Some(was) = told {
            // It may be gone.
            let _ = self
                .spaces
                .with_tables(was, |_, tables| tables.lose_process_id(process_id));
        }
        let registers = (self.common.zone.end - self.common.zone.start) / L1_SPAN;
        let mut ops = Vec::new();
        ops.try_reserve_exact(usize::try_from(registers).map_err(|_| Error::Invalid)?)?;
        // At once: no table goes between being looked at and being written.
        self.spaces.with_tables(space, |l1, tables| {
            for index in 0..registers {
                ops.push(self.common.l1(process_id, index, l1(index))?);
            }
            // What they hold is in memory before the GPU may look: an update that failed has
            // emptied tables, and no barrier behind it.
            self.common.os.write_barrier();
            self.common.os.access(&mut ops)?;
            let mut forget = self.common.chip.invalidate_all();
            self.common.os.access(&mut forget)?;
            tables.set_process_id(process_id);
            Ok::<_, Error>(())
        })??;
        self.process_ids.with(|ids| ids.loaded(held));
        Ok(())
    }
}
