//! Processes of the GPU: an address space each, and jobs that run in it under a process
//! id.

use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::{Context, FenceOf, Mm, Used, World};
use crate::on_chip::line::{Blit, PROCESS_BYTES};
use crate::on_chip::process_tables::{ProcessTables, Share};
use crate::on_chip::{Host, OnChip};
use crate::platform::{Os, Patience};
use crate::sync::{Caller, LockSet, Primitives, Usage};
use crate::vm::{Held, Mapping, SpaceId};
use alloc::sync::Arc;
use alloc::vec::Vec;
use e3k_regs::GpuVa;
use e3k_regs::pte::L1_SPAN;

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
    ) -> Result<(), Error> {
        let mut caller = Caller::enter(self.host.sync());
        let new = Mapping {
            at,
            bytes,
            object: Some(object),
            flags: (),
        };
        self.spaces
            .map(mm, &mut caller, space, new, Patience::Patient)
    }

    /// Runs a job of a process: what it maps is made resident at the place that `place`
    /// finds, then the blits, at most 64 MiB in all, of which each counts as 4 KiB at least,
    /// go in line behind everything before. A process that would have more than 64 MiB or
    /// 64 jobs there waits first, so that nobody waits for more of each other's. Returns the
    /// job's fence, which all the process's buffers have as their writer.
    ///
    /// # Errors
    /// Those of [`crate::vm::Spaces::prepare`]; [`Error::Busy`] when no process id became
    /// free in time, or all are of jobs that others are just handing in; [`Error::Invalid`]
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
        let mut caller = Caller::enter(sync);
        let mut set = caller.transaction(ctx.patience)?;
        set.until(ctx.deadline);
        set.run(|set| self.spaces.prepare(mm, set, space, ctx, &mut place))?;
        let buffers = self.spaces.externals(space)?;
        let group = self.spaces.group(space)?;
        if set.iter().any(|locked| locked.slots() == 0) {
            return Err(Error::Invalid);
        }
        let held = loop {
            let ended = |fence: &FenceOf<Self>| sync.result(fence).is_some();
            match self.process_ids.with(|ids| ids.hold(space, ended)) {
                Ok(held) => break held,
                Err(Some(fence)) if !ctx.no_wait => mm.wait(&fence, ctx)?,
                Err(_) => return Err(Error::Busy),
            }
        };
        let slot = u8::try_from(held.slot).map_err(|_| Error::Invalid)? + 1;
        let queued = self
            .wait_in_line(mm, slot, cost, ctx)
            .and_then(|()| self.load(space, slot, &held))
            .and_then(|()| {
                self.line
                    .with(|line| line.queue(sync, Some((slot, space)), blits))
            });
        match queued {
            Ok(fence) => {
                self.process_ids
                    .with(|ids| ids.submitted(&held, fence.clone()));
                let used = Used {
                    buffers: &buffers,
                    groups: &[group],
                };
                mm.submit(set, &fence, |_| Usage::Write, used)?;
                Ok(fence)
            }
            Err(error) => {
                self.process_ids.with(|ids| ids.abandon(&held));
                Err(error)
            }
        }
    }

    /// Waits until a process may have so much more in line.
    fn wait_in_line(
        &self,
        mm: &Mm<Self>,
        process_id: u8,
        cost: u64,
        ctx: &Context,
    ) -> Result<(), Error> {
        while let Some(fence) = self.line.with(|line| line.behind(process_id, cost)) {
            if ctx.no_wait {
                return Err(Error::Busy);
            }
            mm.wait(&fence, ctx)?;
        }
        Ok(())
    }

    /// Gives a process id to a space, if it is not its own already: its L1 registers are
    /// written, and the TLBs forget whose they were.
    pub(super) fn load(
        &self,
        space: SpaceId,
        process_id: u8,
        held: &Held<SpaceId>,
    ) -> Result<(), Error> {
        if let Some(was) = held.was {
            // It may be gone.
            let _ = self
                .spaces
                .with_tables(was, |_, tables| tables.lose_process_id(process_id));
        }
        if !self.process_ids.with(|ids| ids.must_load(held)) {
            return Ok(());
        }
        let registers = (self.common.zone.end - self.common.zone.start) / L1_SPAN;
        let mut ops = Vec::new();
        ops.try_reserve_exact(usize::try_from(registers).map_err(|_| Error::Invalid)?)?;
        // At once: no table goes between being looked at and being written.
        self.spaces.with_tables(space, |l1, tables| {
            for index in 0..registers {
                ops.push(self.common.l1(process_id, index, l1(index))?);
            }
            // What they hold is in memory: an update ends with a barrier.
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
