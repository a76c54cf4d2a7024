//! Clients' work before it is on ring 0: a queue for each client, served in
//! turns and in pieces, so that nobody's work stands behind all of another's.
//!
//! A job's fence is the next number of its client, given when the job is queued.
//! Jobs of one client go on the ring in that order. Between clients there is no
//! order, except that a job waits for those queued before it that use its BOs.

use crate::Error;
use crate::bo::BoId;
use crate::bo::accounts::ClientId;
use crate::sync::ends::{End, Ends};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes that a client's unfinished jobs write, together. One larger job is
/// let in by itself.
pub const CLIENT_BYTES: u64 = 64 << 20;
/// Unfinished jobs of a client.
pub const CLIENT_JOBS: usize = 256;
/// A larger job goes on the ring in pieces of this many bytes; a client whose
/// turn it is puts as much there, or [`TURN_JOBS`], before the next one comes.
pub(crate) const PIECE_BYTES: u64 = 16 << 20;
/// See [`PIECE_BYTES`].
pub(crate) const TURN_JOBS: usize = 32;
/// Bytes of clients' pieces that are on the ring at a time: while one runs, the next is there.
pub(crate) const RING_BYTES: u64 = 2 * PIECE_BYTES;
/// Pieces of clients that are on the ring at a time.
pub(crate) const RING_PIECES: usize = 256;
/// So many pieces may wait for their verdicts before the GPU is asked for them.
pub(crate) const UNJUDGED: usize = 1024;

/// What a job does. Ranges were checked when it was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Zeros before anybody sees a fresh BO.
    Clear { bo: BoId },
    /// A pattern from an offset on.
    Fill(FillWork),
    /// From one BO and offset to another.
    Copy(CopyWork),
}

/// See [`Work::Fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FillWork {
    pub(crate) bo: BoId,
    pub(crate) offset: u64,
    pub(crate) pattern: u32,
}

/// See [`Work::Copy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopyWork {
    pub(crate) dst: (BoId, u64),
    pub(crate) src: (BoId, u64),
}

impl Work {
    /// The BOs that it uses.
    pub(crate) fn bos(self) -> impl Iterator<Item = BoId> {
        let (first, second) = match self {
            Self::Clear { bo } => (bo, None),
            Self::Fill(fill) => (fill.bo, None),
            Self::Copy(copy) => (copy.dst.0, Some(copy.src.0)),
        };
        [Some(first), second].into_iter().flatten()
    }
}

/// A client and the number of a job of its.
pub(crate) type JobId = (ClientId, u64);

#[derive(Debug)]
struct Job {
    fence: u64,
    /// `None`: it never runs. Others that go after it still go after those that it waits for.
    work: Option<Work>,
    bytes: u64,
    /// Bytes that are on the ring already.
    done: u64,
    /// Other clients' jobs that go first.
    after: [Option<JobId>; 2],
}

/// What goes on the ring next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) job: JobId,
    pub(crate) work: Work,
    /// Where in the job it begins.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// The job ends with it.
    pub(crate) last: bool,
}

/// A piece that is on the ring, or was and is not judged.
#[derive(Clone, Copy, Debug)]
struct OnRing {
    fence: u64,
    job: JobId,
    bytes: u64,
    last: bool,
    /// The BO that it clears.
    clears: Option<BoId>,
    /// It only ends its job: nothing of it is on the ring.
    empty: bool,
}

/// One client's work.
///
/// # Invariants
/// - `jobs` and `outstanding` ascend by fence, up to `queued`.
/// - `judged` is less than the first job that is not judged as a whole, of which
///   `failed` is.
struct Queue {
    id: ClientId,
    closed: bool,
    jobs: VecDeque<Job>,
    /// Of jobs that are not over, the oldest first: fence and bytes.
    outstanding: VecDeque<(u64, u64)>,
    /// The newest job.
    queued: u64,
    /// The newest job whose end is known.
    judged: u64,
    /// How the worst piece so far of the job after that ended.
    failed: Option<End>,
    ends: Ends,
}

impl Queue {
    /// Takes the verdict on a piece.
    fn judge(&mut self, piece: &OnRing, verdict: Result<(), Error>) {
        self.failed = match (self.failed, verdict) {
            (failed, Ok(())) => failed,
            (Some(End::Failed), _) => Some(End::Failed),
            (_, Err(Error::Canceled)) => Some(End::Canceled),
            (_, Err(_)) => Some(End::Failed),
        };
        if piece.last {
            if let Some(end) = self.failed.take() {
                self.ends.record(end, piece.job.1, piece.job.1);
            }
            self.judged = piece.job.1;
        }
    }
}

/// All clients' queues, and what of them is on the ring.
///
/// # Invariants
/// - `list` ascends by id; `closed` of them are, and those have jobs.
/// - `turns` has each client that has jobs once, and no other.
/// - `on_ring` is in the order of the ring's fences.
pub(crate) struct Queues {
    /// By id. Boxed, so that a client that goes moves eight bytes for each other.
    #[expect(clippy::vec_box, reason = "a queue is a kilobyte")]
    list: Vec<Box<Queue>>,
    /// How many of them are closed and have jobs.
    closed: usize,
    /// Who has jobs; the first one's turn it is. Has room for all clients.
    turns: VecDeque<ClientId>,
    /// What the first one has put on the ring in this turn: bytes and pieces.
    turn: (u64, usize),
    /// In the order of the ring. Has room for [`UNJUDGED`] pieces once there is a client:
    /// what is queued goes on the ring also when there is no memory.
    on_ring: VecDeque<OnRing>,
}

impl Queues {
    pub(crate) const fn new() -> Self {
        Self {
            list: Vec::new(),
            closed: 0,
            turns: VecDeque::new(),
            turn: (0, 0),
            on_ring: VecDeque::new(),
        }
    }

    /// A new client, whose id is the newest.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn open(&mut self, id: ClientId) -> Result<(), Error> {
        self.list.try_reserve(1)?;
        let room = self.list.len() + 1 - self.turns.len();
        self.turns.try_reserve(room)?;
        let room = UNJUDGED.saturating_sub(self.on_ring.len());
        self.on_ring.try_reserve(room)?;
        self.list.push(Box::new(Queue {
            id,
            closed: false,
            jobs: VecDeque::new(),
            outstanding: VecDeque::new(),
            queued: 0,
            judged: 0,
            failed: None,
            ends: Ends::new(),
        }));
        Ok(())
    }

    /// A client is gone: of its jobs, those that `keep` does not want never
    /// run, or not to their end.
    pub(crate) fn close(&mut self, id: ClientId, mut keep: impl FnMut(Work) -> bool) {
        if let Some(queue) = self.get_mut(id) {
            queue.closed = true;
            for job in &mut queue.jobs {
                job.work = job.work.filter(|work| keep(*work));
            }
            self.closed += 1;
            self.end_if_over(id);
        }
    }

    /// Makes sure that a client may queue a job of `bytes`, and that there is room for it.
    ///
    /// # Errors
    /// [`Error::Busy`] beyond the client's bound; [`Error::NoMemory`],
    /// [`Error::NotFound`].
    pub(crate) fn admit(&mut self, id: ClientId, bytes: u64, completed: u64) -> Result<(), Error> {
        let over = self.over(id, completed);
        let queue = self.get_mut(id).ok_or(Error::NotFound)?;
        while queue.outstanding.front().is_some_and(|job| job.0 <= over) {
            queue.outstanding.pop_front();
        }
        let outstanding: u64 = queue.outstanding.iter().map(|job| job.1).sum();
        let too_much = outstanding.saturating_add(bytes) > CLIENT_BYTES;
        let count = queue.outstanding.len();
        if count > 0 && (too_much || count >= CLIENT_JOBS) {
            return Err(Error::Busy);
        }
        queue.outstanding.try_reserve(1)?;
        queue.jobs.try_reserve(1)?;
        Ok(())
    }

    /// Queues a job that was admitted; returns its number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn push(
        &mut self,
        id: ClientId,
        work: Work,
        bytes: u64,
        mut after: [Option<JobId>; 2],
    ) -> Result<u64, Error> {
        for job in &mut after {
            *job = job.filter(|job| job.0 != id && self.is_queued(*job));
        }
        let queue = self.get_mut(id).ok_or(Error::NotFound)?;
        queue.queued += 1;
        let fence = queue.queued;
        queue.outstanding.push_back((fence, bytes));
        queue.jobs.push_back(Job {
            fence,
            work: Some(work),
            bytes,
            done: 0,
            after,
        });
        // INVARIANT: who has jobs has a turn, for which there is room.
        if queue.jobs.len() == 1 {
            self.turns.push_back(id);
        }
        Ok(fence)
    }

    /// What goes on the ring next, whose turn it is; `None` if nothing is queued.
    pub(crate) fn next(&mut self) -> Option<Piece> {
        while self.drop_what_never_runs() {}
        // Of all jobs, the one that was queued first waits for nobody.
        for _ in 0..self.turns.len() {
            let id = *self.turns.front()?;
            let job = self.get(id)?.jobs.front()?;
            if let Some(work) = job.work
                && !self.waits(job)
            {
                let bytes = (job.bytes - job.done).min(PIECE_BYTES);
                return Some(Piece {
                    job: (id, job.fence),
                    work,
                    offset: job.done,
                    bytes,
                    last: job.done + bytes == job.bytes,
                });
            }
            self.pass_on();
        }
        None
    }

    /// What [`Self::next`] said is on the ring, with a fence of the ring; or, if it is
    /// `empty`, nothing is, and its job ends when that fence is over. The caller
    /// has seen to it that fewer than [`UNJUDGED`] pieces are not judged.
    pub(crate) fn put(&mut self, piece: &Piece, fence: u64, empty: bool) {
        self.on_ring.push_back(OnRing {
            empty,
            fence,
            job: piece.job,
            bytes: piece.bytes,
            last: piece.last,
            clears: match piece.work {
                Work::Clear { bo } => Some(bo),
                _ => None,
            },
        });
        let Some(queue) = self.get_mut(piece.job.0) else {
            return;
        };
        if piece.last {
            queue.jobs.pop_front();
        } else if let Some(job) = queue.jobs.front_mut() {
            job.done += piece.bytes;
        }
        self.turn = (self.turn.0 + piece.bytes, self.turn.1 + 1);
        if self.turn.0 >= PIECE_BYTES || self.turn.1 >= TURN_JOBS {
            self.pass_on();
        }
        self.end_if_over(piece.job.0);
    }

    /// Takes the verdicts on pieces, as far as they are known, and tells those on
    /// pieces that clear a BO.
    pub(crate) fn judge(
        &mut self,
        verdict: impl Fn(u64) -> Option<Result<(), Error>>,
        mut cleared: impl FnMut(BoId, Result<(), Error>),
    ) {
        while let Some(piece) = self.on_ring.front().copied()
            && let Some(verdict) = verdict(piece.fence)
        {
            self.on_ring.pop_front();
            // How the work before it ended is others' affair.
            let verdict = if piece.empty { Ok(()) } else { verdict };
            if let Some(bo) = piece.clears.filter(|_| !piece.empty) {
                cleared(bo, verdict);
            }
            if let Some(queue) = self.get_mut(piece.job.0) {
                queue.judge(&piece, verdict);
            }
        }
    }

    /// Bytes and pieces on the ring that are not done.
    pub(crate) fn running(&self, completed: u64) -> (u64, usize) {
        let pieces = self.on_ring.iter().rev();
        pieces
            .take_while(|piece| piece.fence > completed)
            .filter(|piece| !piece.empty)
            .fold((0, 0), |(bytes, count), piece| {
                (bytes + piece.bytes, count + 1)
            })
    }

    /// Whether a piece of a job is known to have had an error.
    pub(crate) fn has_failed(&self, job: JobId) -> bool {
        let queue = self.get(job.0);
        queue.is_some_and(|queue| queue.judged + 1 == job.1 && queue.failed == Some(End::Failed))
    }

    /// How many pieces are on the ring or not judged, and the oldest one's fence.
    pub(crate) fn unjudged(&self) -> (usize, u64) {
        let oldest = self.on_ring.front().map_or(0, |piece| piece.fence);
        (self.on_ring.len(), oldest)
    }

    /// How a job ended; `None` if that is not known yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a job never queued.
    pub(crate) fn verdict(&self, job: JobId) -> Result<Option<Result<(), Error>>, Error> {
        let queue = self.get(job.0).ok_or(Error::NotFound)?;
        if job.1 > queue.queued {
            return Err(Error::Invalid);
        }
        Ok((job.1 <= queue.judged).then(|| queue.ends.of(job.1)))
    }

    /// The ring's fence of a job's last piece, if that is on the ring or not judged.
    pub(crate) fn on_ring(&self, job: JobId) -> Option<u64> {
        let mut pieces = self.on_ring.iter();
        pieces
            .find(|piece| piece.job == job && piece.last)
            .map(|piece| piece.fence)
    }

    /// How many jobs a client has queued, and how many of them are over.
    pub(crate) fn jobs(&self, id: ClientId, completed: u64) -> (u64, u64) {
        let queued = self.get(id).map_or(0, |queue| queue.queued);
        (queued, self.over(id, completed))
    }

    /// Whether anything is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The newest job of a client that is over, and all before it.
    fn over(&self, id: ClientId, completed: u64) -> u64 {
        let mut pieces = self.on_ring.iter();
        let first = pieces.find(|piece| piece.job.0 == id && piece.fence > completed);
        let Some(queue) = self.get(id) else {
            return 0;
        };
        let unfinished = first
            .map(|piece| piece.job.1)
            .or(queue.jobs.front().map(|job| job.fence));
        unfinished.map_or(queue.queued, |fence| fence - 1)
    }

    /// Whether a job has a piece that is not on the ring.
    fn is_queued(&self, job: JobId) -> bool {
        let oldest = self.get(job.0).and_then(|queue| queue.jobs.front());
        oldest.is_some_and(|oldest| oldest.fence <= job.1)
    }

    /// Whether a job has to wait for another client's.
    fn waits(&self, job: &Job) -> bool {
        job.after.iter().flatten().any(|job| self.is_queued(*job))
    }

    /// Forgets the jobs of clients that are gone, as far as they are first and do
    /// not wait. True if there were any: others may have waited for them.
    fn drop_what_never_runs(&mut self) -> bool {
        if self.closed == 0 {
            return false;
        }
        let never = |queue: &Queue| {
            let first = queue.jobs.front()?;
            (first.work.is_none() && !self.waits(first)).then_some(queue.id)
        };
        let Some(id) = self
            .list
            .iter()
            .filter(|queue| queue.closed)
            .find_map(|queue| never(queue))
        else {
            return false;
        };
        if let Some(queue) = self.get_mut(id) {
            queue.jobs.pop_front();
        }
        self.end_if_over(id);
        true
    }

    /// It is the next client's turn.
    fn pass_on(&mut self) {
        self.turn = (0, 0);
        if let Some(id) = self.turns.pop_front() {
            self.turns.push_back(id);
        }
    }

    /// INVARIANT: a client without jobs has no turn; one that is closed, no queue.
    fn end_if_over(&mut self, id: ClientId) {
        let Some(index) = self.index(id) else { return };
        if !self.list[index].jobs.is_empty() {
            return;
        }
        if self.turns.front() == Some(&id) {
            self.turn = (0, 0);
        }
        self.turns.retain(|other| *other != id);
        if self.list[index].closed {
            self.list.remove(index);
            self.closed -= 1;
        }
    }

    fn index(&self, id: ClientId) -> Option<usize> {
        self.list.binary_search_by_key(&id, |queue| queue.id).ok()
    }

    fn get(&self, id: ClientId) -> Option<&Queue> {
        self.index(id).map(|index| &*self.list[index])
    }

    fn get_mut(&mut self, id: ClientId) -> Option<&mut Queue> {
        self.index(id).map(|index| &mut *self.list[index])
    }
}
