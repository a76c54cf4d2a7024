//! One line of work for ring 0: what the memory manager moves and what processes do,
//! in the order in which it was given. Whoever waits for a fence of it waits for
//! everything before.

mod item;
mod recovery;

use crate::Error;
use crate::adapter::Adapter;
use crate::engine::ring0::Attended;
use crate::on_chip::blit::Blit;
use crate::on_chip::hang::{Cause, Hang};
use crate::platform::Os;
use crate::sync::{FenceContext, FenceError, Primitives};
use crate::vm::SpaceId;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use item::{Item, Owner};

/// The most that a process may have in line, and that a job of it may be: one that wants
/// more waits until some of it has ended, so that nobody waits for more of each other's.
pub(crate) const PROCESS_BYTES: u64 = 64 << 20;
/// The same, in jobs.
const PROCESS_JOBS: usize = 64;

/// What became of the first item.
enum First {
    Unfinished,
    Done,
    Failed(FenceError),
    /// It was cut off, and everything behind it.
    Cut,
}

/// The adapter, and all that its ring is to do. Nobody else submits to that ring.
///
/// The GPU tells that a job had an error, but not which: it may be any that is not
/// judged yet. So the ring has the work of one owner at a time, and another's goes
/// there when all of it is judged: who goes astray fails alone.
///
/// # Invariants
/// Items are on the ring in their order; only the last of those that are may be there
/// in part. All of them are one owner's. `fences` has one fence that has not ended for
/// each item.
pub(crate) struct Line<O: Os, S: Primitives> {
    pub(crate) adapter: Adapter<O>,
    fences: FenceContext<S>,
    items: VecDeque<Item<S>>,
    /// How many items are on the ring as a whole.
    on_ring: usize,
    lost: Arc<AtomicBool>,
    /// How long a piece may be the first on the ring.
    deadline_ns: u64,
    /// Which one is, and since when.
    first: (u64, u64),
    hang: Option<Hang>,
    /// Nothing is judged and nothing goes on the ring: see [`sleep`](super::sleep).
    pub(in crate::on_chip) stands: bool,
}

impl<O: Os, S: Primitives> Line<O, S> {
    /// `lost` is set once the GPU was lost and stopped.
    /// `deadline_ns`: see [`Host::deadline_ns`](super::Host::deadline_ns).
    pub(crate) fn new(
        adapter: Adapter<O>,
        sync: &S,
        lost: Arc<AtomicBool>,
        deadline_ns: u64,
    ) -> Self {
        Self {
            adapter,
            fences: FenceContext::new(sync),
            items: VecDeque::new(),
            on_ring: 0,
            lost,
            deadline_ns,
            first: (0, 0),
            hang: None,
            stands: false,
        }
    }

    /// Gives work to the end of the line: a process's, by its process id, or the manager's,
    /// which counts for nobody by itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what packets cannot say; [`Error::NoMemory`];
    /// [`Error::Lost`]. Nothing is done then.
    pub(crate) fn queue(
        &mut self,
        sync: &S,
        process: Option<(u8, SpaceId)>,
        blits: Vec<Blit>,
        cost: u64,
    ) -> Result<S::Fence, Error> {
        if blits.is_empty() || !blits.iter().all(Blit::is_legal) {
            return Err(Error::Invalid);
        }
        self.items.try_reserve(1)?;
        let memory = self.fences.prepare(sync)?;
        // INVARIANT: its fence and itself are the last of all; there is room for both.
        let fence = self.fences.arm(sync, memory);
        let owner = process.map_or(Owner::Manager, |(id, _)| Owner::Process(id));
        self.items.push_back(Item {
            owner,
            blits,
            cost,
            next: 0,
            pieces: None,
            failed: None,
            fence: fence.clone(),
            space: process.map(|(_, space)| space),
            charged: process.map(|(_, space)| space),
            redone: false,
        });
        self.advance(sync);
        Ok(fence)
    }

    /// Has work of the manager's own, behind which a fence is, count in a process's share. It
    /// may have ended already.
    pub(crate) fn charge(&mut self, sync: &S, fence: &S::Fence, space: SpaceId, cost: u64) {
        let known = sync.identity(fence);
        let mut all = self.items.iter_mut().rev();
        if let Some(item) = all.find(|item| sync.identity(&item.fence) == known) {
            (item.charged, item.cost) = (Some(space), cost);
        }
    }

    /// The fence to wait for before work of such a cost for a process may go in line; none
    /// if it may at once.
    pub(crate) fn behind(&self, space: SpaceId, cost: u64) -> Option<S::Fence> {
        let own = self.items.iter();
        let own = own.filter(|item| item.charged == Some(space));
        let all = own
            .clone()
            .map(|item| item.cost)
            .fold(cost, u64::saturating_add);
        let full = all > PROCESS_BYTES || own.clone().count() >= PROCESS_JOBS;
        own.map(|item| item.fence.clone()).next().filter(|_| full)
    }

    /// Ends what is over, attends to the GPU's errors, and puts on the ring what there
    /// is room for. To be called after interrupts; it allocates. On a GPU that cannot be
    /// helped everything ends in [`FenceError::Lost`].
    pub(crate) fn advance(&mut self, sync: &S) {
        if self.stands {
            return;
        }
        let advanced = self.try_advance(sync);
        if advanced.is_err() || self.adapter.ring0.timeline.is_lost() {
            // If it can still be reached, it does nothing more.
            self.lose(sync);
        }
    }

    /// The GPU cannot be helped: everything that has not ended does.
    /// True if it is shown to do nothing more.
    pub(crate) fn lose(&mut self, sync: &S) -> bool {
        self.adapter.ring0.timeline.mark_lost();
        let stopped = self.adapter.ring0.stop(false);
        // INVARIANT: no item is left, and all fences end.
        self.items.clear();
        self.on_ring = 0;
        self.fences.end_lost(sync);
        self.lost.store(true, Ordering::Release);
        stopped
    }

    /// Everything that has not ended does, in [`FenceError::Canceled`].
    pub(in crate::on_chip) fn cancel_all(&mut self, sync: &S) {
        self.items.clear();
        self.on_ring = 0;
        let canceled = FenceError::Canceled;
        self.fences.end_all(sync, canceled, canceled);
    }

    /// The GPU is not lost any more.
    pub(in crate::on_chip) fn revive(&mut self) {
        self.fences.revive();
        self.lost.store(false, Ordering::Release);
    }

    /// It stands no more.
    pub(in crate::on_chip) fn go_on(&mut self, sync: &S) {
        self.stands = false;
        self.advance(sync);
    }

    /// The fence of the last item.
    pub(in crate::on_chip) fn newest(&self) -> Option<S::Fence> {
        self.items.back().map(|item| item.fence.clone())
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn try_advance(&mut self, sync: &S) -> Result<(), Error> {
        if self.first_unjudged().is_some() {
            self.adapter.ring0.timeline.note_silence();
        }
        let mut restarted = false;
        if self.adapter.ring0.timeline.has_trouble() {
            let seen = self.adapter.ring0.look()?;
            // The job at fault has failed then, and those behind it had not begun.
            restarted = self.adapter.ring0.attend()? == Attended::Restarted;
            if let Some(at) = self.at_fault().filter(|_| restarted) {
                self.write_down(sync, at, seen, Cause::Stuck);
            }
        }
        self.end_what_is_over(sync, restarted)?;
        if self.is_hung() {
            self.recover(sync)?;
            self.end_what_is_over(sync, true)?;
        }
        self.push()
    }

    /// Ends the items at the front that are over.
    fn end_what_is_over(&mut self, sync: &S, restarted: bool) -> Result<(), Error> {
        loop {
            match self.judge(restarted)? {
                First::Unfinished => break,
                First::Done => {
                    self.pop(sync, |fences, sequence| fences.end_through(sync, sequence));
                }
                First::Failed(error) => {
                    self.pop(sync, |fences, sequence| {
                        fences.end_failed(sync, sequence, error);
                    });
                }
                First::Cut => {
                    self.begin_again();
                    break;
                }
            }
        }
        Ok(())
    }

    /// The ring is empty: what is in line goes there anew.
    fn begin_again(&mut self) {
        for item in &mut self.items {
            (item.next, item.pieces) = (0, None);
        }
        self.on_ring = 0;
    }

    /// The first of the ring's fences that are not judged.
    fn first_unjudged(&self) -> Option<u64> {
        Some(self.items.front()?.pieces?.0)
    }

    fn pop(&mut self, sync: &S, end: impl FnOnce(&mut FenceContext<S>, u64)) {
        if let Some(item) = self.items.pop_front() {
            self.on_ring = self.on_ring.saturating_sub(1);
            let (_, sequence) = sync.identity(&item.fence);
            end(&mut self.fences, sequence);
        }
    }

    /// Looks at the pieces of the first item that are over.
    fn judge(&mut self, restarted: bool) -> Result<First, Error> {
        let Some(item) = self.items.front_mut() else {
            return Ok(First::Unfinished);
        };
        while let Some((first, last)) = item.pieces {
            let verdict = match self.adapter.ring0.learn(first) {
                Err(Error::Busy) => return Ok(First::Unfinished),
                verdict => verdict?,
            };
            match (verdict, item.owner) {
                (Ok(()), _) => {}
                // Its own job, of nothing but places that are known: the GPU is broken.
                (Err(Error::Io), Owner::Manager) => return Err(Error::Lost),
                (Err(Error::Canceled), Owner::Manager) => return Ok(First::Cut),
                (Err(Error::Canceled), _) if restarted && item.failed.is_none() => {
                    return Ok(First::Cut);
                }
                // How far it has come, nobody knows: it is not done again.
                (Err(error), Owner::Process(_)) => {
                    if item.failed.is_none() && !item.is_on_ring() {
                        self.on_ring += 1;
                    }
                    item.failed.get_or_insert(match error {
                        Error::Canceled => FenceError::Canceled,
                        _ => FenceError::Failed,
                    });
                }
                (Err(error), Owner::Manager) => return Err(error),
            }
            item.pieces = (first < last).then_some((first + 1, last));
        }
        Ok(match item.failed {
            Some(error) => First::Failed(error),
            None if item.is_on_ring() => First::Done,
            None => First::Unfinished,
        })
    }

    fn push(&mut self) -> Result<(), Error> {
        let Some(owner) = self.items.front().map(|first| first.owner) else {
            return Ok(());
        };
        while let Some(item) = self.items.get_mut(self.on_ring) {
            if item.owner != owner {
                break;
            }
            if item.failed.is_some() {
                // It ends when it is the first.
                self.on_ring += 1;
                continue;
            }
            let piece = item.piece();
            let count = piece.len();
            let process_id = item.owner.process_id();
            let submitted = self.adapter.ring0.submit(process_id, |out| {
                for blit in piece {
                    blit.write(out);
                }
            });
            let fence = match submitted {
                Err(Error::Busy) => return Ok(()),
                other => other?,
            };
            let first = item.pieces.map_or(fence, |(first, _)| first);
            item.pieces = Some((first, fence));
            item.next += count;
            if item.is_on_ring() {
                self.on_ring += 1;
            }
        }
        Ok(())
    }
}
