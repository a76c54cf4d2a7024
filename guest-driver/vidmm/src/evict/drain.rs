//! Emptying a memory type: before a sleep that local memory does not survive, and
//! before the type goes.

use super::attempt::Attempt;
use super::budget::Prey;
use super::give::{How, Need};
use super::mm::{Context, Mm};
use super::victim::Hunter;
use super::world::World;
use crate::Error;
use crate::bo::pool::SmallLock;
use crate::placement::{Flags, Place, SegmentId};
use crate::sync::{Caller, Primitives};

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
        self.alive()?;
        let place = Place::anywhere(segment, Flags::NONE);
        let everybody = Hunter {
            buffer: None,
            owner: None,
            prey: Prey::Everybody,
        };
        while let Some(id) = self.state.with(|state| state.lru.first(segment as usize)) {
            let mut set = caller.transaction(ctx.patience)?;
            set.until(ctx.deadline);
            match set.run(|set| {
                let mut attempt = Attempt::patient(ctx);
                attempt.persist(self, set, |set, attempt| {
                    let waits = !attempt.ctx.no_wait;
                    self.evict_one(set, &everybody, id, &place, waits, attempt)
                })
            }) {
                // It went by itself.
                Err(Error::NotFound) => {}
                left => left?,
            }
        }
        let last = self.state.with(|state| state.last_moves(segment).clone());
        for fence in last.fences() {
            self.wait(fence, ctx)?;
        }
        // Told once.
        self.state.with(|state| state.forget_moves(segment, &last));
        let sync = self.world.sync();
        // A copy that failed has lost what it was to save.
        let mut ends = last.fences().filter_map(|fence| sync.result(fence));
        ends.try_for_each(|end| end).map_err(Error::from)
    }

    /// Stores everything that is not pinned, before a sleep in which only the store lives
    /// all memory types are emptied, and pages are given back. What is pinned
    /// in RAM is for the system's own image to save; the contents of pinned local memory,
    /// for whoever pinned it. Afterwards buffers come back as they are used. Returns the
    /// pages that went to the store. The caller holds no reservation.
    ///
    /// # Errors
    /// As [`Self::evict_all`]; [`Error::Busy`] where the store has no room, and at the
    /// deadline for who is locked or used by the GPU all the time. What has left stays where
    /// it went, and nothing is lost: who does not sleep then goes on.
    pub fn hibernate(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        ctx: &mut Context,
    ) -> Result<usize, Error> {
        for segment in SegmentId::ALL {
            self.evict_all(caller, segment, ctx)?;
        }
        self.reap();
        let need = Need {
            pages: usize::MAX,
            how: How::Swap,
            owner: None,
            own: None,
            prey: &[Prey::Everybody],
        };
        let mut attempt = Attempt::passing_by(ctx);
        let mut stored = 0;
        loop {
            let before = self.state.with(|state| state.pages_seen());
            let found = self.find_pages(&need, &mut attempt)?;
            stored += found.pages;
            if found.pages > 0 {
                continue;
            }
            // Somebody may have one in hand, and a search is no look at one moment.
            let settled = self
                .state
                .with(|state| state.pages_seen() == before && state.in_hand() == 0);
            if settled && !found.busy {
                return Ok(stored);
            }
            attempt.stuck = found.stuck;
            attempt.wait_alone(self, caller)?;
        }
    }
}
