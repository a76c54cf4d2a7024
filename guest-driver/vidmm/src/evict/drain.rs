//! Emptying a memory type: before a sleep that local memory does not survive, and
//! before the type goes.

use super::mm::{Context, Mm};
use super::world::World;
use crate::Error;
use crate::bo::pool::SmallLock;
use crate::placement::SegmentId;
use crate::sync::{Caller, Primitives, Usage};

impl<W: World + 'static> Mm<W> {
    /// Makes every buffer that is not pinned leave a memory type, and waits until the
    /// GPU has copied all of them. The caller holds no reservation.
    ///
    /// # Errors
    /// As [`Self::validate`]; [`Error::Invalid`] for SYSTEM, which has no exit. Those
    /// that have left stay where they went.
    pub fn evict_all(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        segment: SegmentId,
        ctx: &mut Context,
    ) -> Result<(), Error> {
        if segment == SegmentId::System {
            return Err(Error::Invalid);
        }
        while let Some(id) = self.state.with(|state| state.lru.first(segment as usize)) {
            // Gone meanwhile.
            let Ok(reservation) = self.reservation(id) else {
                continue;
            };
            let kept = self.hold(id).is_ok();
            let mut set = caller.transaction(ctx.patience)?;
            let left = set.run(|set| {
                let held = set.lock(&reservation, 1)?;
                if !kept {
                    Self::idle(held, Usage::Bookkeep, ctx)?;
                    self.destroy(id);
                    return Ok(());
                }
                match self.segment(id)? {
                    Some(now) if now == segment => self.evict(set, id, ctx),
                    _ => Ok(()),
                }
            });
            drop(set);
            if kept {
                self.release(id)?;
            }
            left?;
        }
        let last = self.state.with(|state| state.last_move(segment).cloned());
        let Some(last) = last else {
            return Ok(());
        };
        let waited = self
            .world
            .sync()
            .wait_fence(&last.fence, ctx.patience, ctx.deadline);
        match waited {
            Err(Error::TimedOut) => Err(Error::Busy),
            other => other,
        }
    }
}
