//! One line of work for ring 0: what the memory manager moves and what processes do,
//! in the order in which it was given. Whoever waits for a fence of it waits for
//! everything before.

use crate::Error;
use crate::adapter::Adapter;
use crate::engine::ring0::Attended;
use crate::engine::submit;
use crate::on_chip::hang::{Cause, Hang};
use crate::platform::{LogLevel, Os};
use crate::sync::{FenceContext, FenceError, Primitives};
use crate::vm::SpaceId;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::packet::Writer;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// So many blits go on the ring behind one fence.
const PIECE: usize = 64;
/// A piece has no more bytes, but for one blit: it ends long before a hang is assumed.
const PIECE_BYTES: u64 = 256 << 20;
/// The most that a blit of the manager's own is.
pub(crate) const MOVE_BYTES: u64 = 64 << 20;
/// The most that one blit may be.
const BLIT_BYTES: u64 = 1 << 30;
/// The most that a process may have in line, and that a job of it may be: one that wants
/// more waits until some of it has ended, so that nobody waits for more of each other's.
pub(crate) const PROCESS_BYTES: u64 = 64 << 20;
/// The same, in jobs.
const PROCESS_JOBS: usize = 64;

/// A copy or a fill, by GPU addresses of whoever's job it is. Addresses are multiples
/// of 256, sizes of 4, and not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blit {
    /// Writes a pattern to every four bytes.
    Fill {
        /// Where.
        at: GpuVa,
        /// How many, at most 1 GiB.
        bytes: u64,
        /// What.
        pattern: u32,
    },
    /// Copies bytes; the ranges do not overlap.
    Copy {
        /// Where they go.
        to: GpuVa,
        /// Where they are.
        from: GpuVa,
        /// How many, at most 1 GiB.
        bytes: u64,
    },
}

impl Blit {
    pub(crate) const fn bytes(&self) -> u64 {
        match self {
            Self::Fill { bytes, .. } | Self::Copy { bytes, .. } => *bytes,
        }
    }

    /// What it counts for in a process's share, in bytes: a packet is work, too.
    pub(crate) fn cost(&self) -> u64 {
        self.bytes().max(PAGE_SIZE)
    }

    /// Where it writes, and where it reads.
    const fn places(&self) -> [GpuVa; 2] {
        match *self {
            Self::Fill { at, .. } => [at, at],
            Self::Copy { to, from, .. } => [to, from],
        }
    }

    /// Whether all of it lies in a range of addresses.
    pub(crate) fn is_within(&self, range: &Range<u64>) -> bool {
        let within = |at: &GpuVa| {
            let end = at.0.checked_add(self.bytes());
            range.start <= at.0 && end.is_some_and(|end| end <= range.end)
        };
        self.places().iter().all(within)
    }

    /// Whether packets can say it.
    fn is_legal(&self) -> bool {
        let [to, from] = self.places();
        let apart = match self {
            Self::Fill { .. } => true,
            Self::Copy { bytes, .. } => to.0.abs_diff(from.0) >= *bytes,
        };
        let aligned = [to, from]
            .iter()
            .all(|place| place.0.is_multiple_of(submit::BASE_ALIGN));
        let aligned = aligned && self.is_within(&(0..1 << ADDRESS_BITS));
        let size = (1..=BLIT_BYTES).contains(&self.bytes());
        aligned && apart && size && self.bytes().is_multiple_of(submit::SIZE_ALIGN)
    }

    fn write(&self, out: &mut Writer<'_>) {
        match *self {
            Self::Fill { at, bytes, pattern } => submit::fill(out, at, bytes, pattern),
            Self::Copy { to, from, bytes } => submit::copy(out, to, from, bytes),
        }
    }
}

/// Whose work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The manager's: it is done again after whatever cut it off.
    Manager,
    /// Of this process id.
    Process(u8),
}

impl Owner {
    const fn process_id(self) -> u8 {
        match self {
            Self::Manager => 0,
            Self::Process(id) => id,
        }
    }
}

struct Item<S: Primitives> {
    owner: Owner,
    blits: Vec<Blit>,
    /// What it counts for in its process's share, with what was moved for it.
    cost: u64,
    /// How many of them are on the ring, or were.
    next: usize,
    /// The ring's fences behind them: the first that is not judged, and the last.
    pieces: Option<(u64, u64)>,
    /// Nothing more of it goes on the ring; it ends so when what is there is over.
    failed: Option<FenceError>,
    fence: S::Fence,
    /// Whose job it is.
    space: Option<SpaceId>,
    /// In whose share it counts: its process's, or, of the manager's, of whom it is done for.
    charged: Option<SpaceId>,
    /// It did not end, and was begun once more.
    redone: bool,
}

impl<S: Primitives> Item<S> {
    /// What goes on the ring next, behind one fence.
    fn piece(&self) -> &[Blit] {
        let left = self.blits.get(self.next..).unwrap_or_default();
        let mut bytes = 0;
        let fits = |blit: &&Blit| {
            let first = bytes == 0;
            bytes += blit.bytes();
            first || bytes <= PIECE_BYTES
        };
        let count = left.iter().take(PIECE).take_while(fits).count();
        left.get(..count).unwrap_or_default()
    }

    /// Whether nothing more of it is to be put on the ring.
    fn is_on_ring(&self) -> bool {
        self.failed.is_some() || self.next == self.blits.len()
    }
}

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
    pub(super) stands: bool,
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
    pub(super) fn cancel_all(&mut self, sync: &S) {
        self.items.clear();
        self.on_ring = 0;
        let canceled = FenceError::Canceled;
        self.fences.end_all(sync, canceled, canceled);
    }

    /// The GPU is not lost any more.
    pub(super) fn revive(&mut self) {
        self.fences.revive();
        self.lost.store(false, Ordering::Release);
    }

    /// It stands no more.
    pub(super) fn go_on(&mut self, sync: &S) {
        self.stands = false;
        self.advance(sync);
    }

    /// The fence of the last item.
    pub(super) fn newest(&self) -> Option<S::Fence> {
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

    /// Whether the first piece on the ring has been that for too long.
    fn is_hung(&mut self) -> bool {
        let now = self.adapter.os().now_ns();
        match self.first_unjudged() {
            Some(first) if first == self.first.0 => {
                now.saturating_sub(self.first.1) >= self.deadline_ns
            }
            other => {
                self.first = (other.unwrap_or(0), now);
                false
            }
        }
    }

    /// Writes down what the ring was doing, and starts it anew. Of a process, the job and
    /// those of it behind have ended; others' had not begun, and will be done. What is the
    /// manager's own is begun once more.
    ///
    /// # Errors
    /// [`Error::Lost`] if that does not end either; those of register accesses.
    fn recover(&mut self, sync: &S) -> Result<(), Error> {
        let seen = self.adapter.ring0.look()?;
        self.write_down(sync, 0, seen, Cause::Deadline);
        let Some(item) = self.items.front_mut() else {
            return Ok(());
        };
        let again = item.owner == Owner::Manager;
        if again && core::mem::replace(&mut item.redone, true) {
            return Err(Error::Lost);
        }
        let owner = item.owner;
        self.adapter.ring0.restart_engine(!again)?;
        self.begin_again();
        let own = self.items.iter_mut().filter(|item| item.owner == owner);
        for (n, item) in own.enumerate().filter(|_| !again) {
            item.failed.get_or_insert(match n {
                0 => FenceError::TimedOut,
                _ => FenceError::Canceled,
            });
        }
        Ok(())
    }

    /// Which item a restart of the ring was for: behind it everything was cut off. Jobs
    /// before it that were not judged yet may count as failed, too.
    fn at_fault(&self) -> Option<usize> {
        let timeline = &self.adapter.ring0.timeline;
        let failed = |fence: u64| timeline.verdict(fence) == Some(Err(Error::Io));
        self.items.iter().rposition(|item| {
            let pieces = item.pieces.map(|(first, last)| first..=last);
            pieces.into_iter().flatten().any(failed)
        })
    }

    /// Writes down that an item hangs, and what the ring was doing: its read and write
    /// pointer, and what was busy.
    fn write_down(&mut self, sync: &S, at: usize, [head, tail, busy]: [u32; 3], cause: Cause) {
        let Some(item) = self.items.get(at) else {
            return;
        };
        let hang = Hang {
            number: self.hangs() + 1,
            cause,
            space: item.space,
            process_id: item.owner.process_id(),
            job: sync.identity(&item.fence).1,
            put: item.next,
            blits: item.blits.len(),
            fences: item.pieces.unwrap_or_default(),
            pointers: (head, tail),
            busy,
            behind: self.items.len() - 1 - at,
            deadline_ns: self.deadline_ns,
        };
        self.hang = Some(hang);
        self.adapter
            .os()
            .log(LogLevel::Error, format_args!("GPU: {hang}"));
    }

    /// How often the ring was started anew because a job did not end.
    fn hangs(&self) -> u64 {
        self.hang.as_ref().map_or(0, |hang| hang.number)
    }

    /// What it was doing the last time.
    pub(super) const fn hang(&self) -> Option<Hang> {
        self.hang
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
