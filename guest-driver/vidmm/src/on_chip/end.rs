//! The end of a manager: the chip is given back as `vidmm_init` found it.

use crate::Error;
use crate::adapter::Leftovers;
use crate::bo::page_vector::Ram;
use crate::bo::pool::{self, SmallLock};
use crate::evict::{Context, Mm, World};
use crate::on_chip::line::Line;
use crate::on_chip::{Host, OnChip};
use crate::placement::SegmentId;
use crate::platform::{Os, Patience};
use crate::sync::{Caller, Deadline, Primitives};
use core::fmt;

/// What the end of a manager could not give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Bytes that are booked in each memory type, by buffers that somebody still has.
    /// What RAM is behind them is lost.
    pub bytes: [u64; SegmentId::COUNT],
    /// Of the adapter.
    pub adapter: Leftovers,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.adapter)?;
        for (segment, bytes) in SegmentId::TYPES.iter().zip(self.bytes) {
            if bytes > 0 {
                write!(f, "; {bytes} bytes in {}", segment.name())?;
            }
        }
        Ok(())
    }
}

impl core::error::Error for Left {}

impl<O: Os + 'static, H: Host + 'static> OnChip<O, H> {
    /// Ends the manager: waits (bounded) until the GPU has done what is in line, ends
    /// the processes that are left, gives back what the driver itself has and all pages
    /// that wait in the pool, and undoes `vidmm_init`. All [`crate::Timeline`]s of the
    /// adapter's are dropped before. If the GPU cannot be shown to do nothing, the pages
    /// that it may reach are lost, never freed.
    ///
    /// # Errors
    /// What was left behind.
    pub fn end(mm: Mm<Self>) -> Result<(), Left> {
        let world = mm.world();
        let sync = world.host.sync();
        let idle = world.line.with(|line| line.finish(sync));
        if idle {
            world.end_processes(&mm);
            for bo in world.kernel.with(core::mem::take) {
                // It is pinned, and goes with its last reference.
                let _ = mm.release(bo);
            }
            mm.reap();
            pool::close(world.ram().source(), world.ram().pool());
        }
        let (world, bytes) = mm.close();
        let adapter = world.line.into_inner().adapter.fini();
        match (bytes, adapter) {
            (Ok(()), Ok(())) => Ok(()),
            (bytes, adapter) => Err(Left {
                bytes: bytes.err().unwrap_or_default(),
                adapter: adapter.err().unwrap_or(Leftovers {
                    idle: true,
                    ..Leftovers::default()
                }),
            }),
        }
    }

    /// Nothing is in line any more: their jobs have ended.
    fn end_processes(&self, mm: &Mm<Self>) {
        let mut caller = Caller::enter(self.host.sync());
        let ctx = Context::until(Deadline::NEVER, Patience::Patient);
        while let Some(space) = self.spaces.first() {
            let _ = self.process_ids.with(|ids| ids.forget(space));
            if self.spaces.destroy(mm, &mut caller, space, &ctx).is_err() {
                // Its tables, and what it maps, are left.
                return;
            }
        }
    }
}

impl<O: Os, S: Primitives> Line<O, S> {
    /// Waits until everything in line has ended, as long as [`crate::Adapter::fini`] would. True
    /// if the GPU does nothing any more; what it has not done is lost then.
    fn finish(&mut self, sync: &S) -> bool {
        let timeout = self.adapter.idle_timeout_ns();
        let deadline = self.adapter.os().now_ns().saturating_add(timeout);
        while !self.is_empty() && self.drain(sync, deadline).is_ok() {}
        if self.is_empty() && !self.adapter.ring0.timeline.is_lost() {
            return true;
        }
        self.lose(sync)
    }

    /// Waits until what is on the ring has ended.
    fn drain(&mut self, sync: &S, deadline: u64) -> Result<(), Error> {
        let left = deadline.saturating_sub(self.adapter.os().now_ns());
        self.adapter.drain(left)?;
        self.advance(sync);
        Ok(())
    }
}
