//! What clients ask for: their work is queued ([`queue`](crate::engine::queue)) and put
//! on ring 0 in turns.

use crate::Error;
use crate::adapter::Adapter;
use crate::bo::accounts::{Booking, ClientId};
use crate::bo::{Arena, BoId, Clearing, Contents};
use crate::engine::queue::{CopyWork, FillWork, Piece, RING_BYTES, RING_PIECES, UNJUDGED, Work};
use crate::engine::submit;
use crate::placement::segments::{Bus, SegmentId};
use crate::placement::{self, CreateRequest};
use crate::platform::Os;
use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

/// One client of an adapter, from [`Adapter::open_client`] to
/// [`Adapter::close_client`]. Its fences are its own: numbers from 1 on, one for
/// each job, over in that order.
///
/// # Invariants
/// The adapter that made it has an account and a queue of its number until
/// [`Adapter::close_client`], which takes it away from who has it.
#[derive(Debug)]
pub struct Client {
    pub(crate) id: ClientId,
}

impl<O: Os> Adapter<O> {
    /// A client with nothing booked and nothing queued.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn open_client(&mut self) -> Result<Client, Error> {
        let id = self.memory.accounts.open()?;
        let opened = self.queues.open(id);
        opened.inspect_err(|_| self.memory.accounts.close(id))?;
        Ok(Client { id })
    }

    /// The client is gone, and has destroyed its BOs. What it queued and is not
    /// on the ring never runs, and memory is free when the ring is done with it.
    /// A BO that somebody else still holds stays, and is cleared.
    #[expect(clippy::needless_pass_by_value, reason = "it ends here")]
    pub fn close_client(&mut self, client: Client) {
        let id = client.id;
        self.memory.accounts.close(id);
        let (bos, zombies) = (&mut self.memory.bos, &mut self.zombies);
        self.queues.close(id, |work| {
            let held = |bo| bos.get(bo).is_ok_and(|bo| !bo.zombie);
            if let Work::Clear { bo } = work
                && held(bo)
            {
                return true;
            }
            work.bos().for_each(|bo| let_go(bos, zombies, bo));
            false
        });
        self.advance();
    }

    /// What a client has booked and may book in each segment.
    pub fn bookings(&self, client: &Client) -> [Booking; 4] {
        SegmentId::ALL.map(|id| {
            let segment = self.memory.mm_mgr.segments.get(id);
            self.memory.accounts.booking(client.id, segment)
        })
    }

    /// Makes a BO for a client, on its account: [`Self::create`] within the
    /// client's limits, its clearing queued.
    ///
    /// # Errors
    /// Those of [`Self::create`]. [`Error::Limit`] when a place has room and the
    /// client may not have it. [`Error::Busy`] when it may once the GPU is done
    /// with what it has destroyed, or when it has too much unfinished: wait for a
    /// fence of the ring and try again.
    pub fn create_for(
        &mut self,
        client: &Client,
        request: &CreateRequest<'_>,
    ) -> Result<BoId, Error> {
        let places = placement::places(request)?;
        if places.iter().any(|place| place.segment.bus() == Bus::Io) {
            // Its clearing is work.
            self.admit(client, request.bytes)?;
        }
        let id = self.book(Some(client.id), request)?;
        let bo = self.memory.bos.get_mut(id)?;
        if bo.is_on(Bus::Io) {
            bo.contents = Contents::Clearing(Clearing::default());
            let bytes = bo.booked_bytes();
            self.queue(client, Work::Clear { bo: id }, bytes)?;
        }
        Ok(id)
    }

    /// Lets the GPU fill a range for a client: [`Self::fill`], queued. Returns
    /// the client's fence, for [`Self::ask`].
    ///
    /// # Errors
    /// Those of [`Self::fill`]; [`Error::Busy`] when the client has too much
    /// unfinished: wait for a fence of the ring and try again.
    pub fn fill_for(
        &mut self,
        client: &Client,
        bo: BoId,
        offset: u64,
        bytes: u64,
        pattern: u32,
    ) -> Result<u64, Error> {
        self.gpu_range(bo, offset, bytes)?;
        self.make_ready(bo)?;
        self.admit(client, bytes)?;
        self.make_resident(bo)?;
        let fill = FillWork {
            bo,
            offset,
            pattern,
        };
        self.queue(client, Work::Fill(fill), bytes)
    }

    /// Lets the GPU copy for a client: [`Self::copy`], queued. Returns the
    /// client's fence, for [`Self::ask`].
    ///
    /// # Errors
    /// Those of [`Self::copy`], and as for [`Self::fill_for`].
    pub fn copy_for(
        &mut self,
        client: &Client,
        dst: BoId,
        dst_offset: u64,
        src: BoId,
        src_offset: u64,
        bytes: u64,
    ) -> Result<u64, Error> {
        self.copy_ranges((dst, dst_offset), (src, src_offset), bytes)?;
        self.make_ready(src)?;
        self.make_ready(dst)?;
        self.admit(client, bytes)?;
        self.make_resident(src)?;
        self.make_resident(dst)?;
        let copy = CopyWork {
            dst: (dst, dst_offset),
            src: (src, src_offset),
        };
        self.queue(client, Work::Copy(copy), bytes)
    }

    /// Asks for a client's job. `None`: it has ended well. Otherwise a fence of
    /// the ring: when that is over, ask again.
    ///
    /// # Errors
    /// Those of [`Self::judge`] for any piece of the job; [`Error::Invalid`] for
    /// a fence that the client was never given, [`Error::Lost`]; those of register
    /// accesses, where there is nothing on the ring because of them.
    pub fn ask(&mut self, client: &Client, fence: u64) -> Result<Option<u64>, Error> {
        let job = (client.id, fence);
        let put = self.go_on();
        if let Some(verdict) = self.queues.verdict(job)? {
            return verdict.map(|()| None);
        }
        if self.ring0.timeline.is_lost() {
            return Err(Error::Lost);
        }
        let Some(last) = self.queues.on_ring(job) else {
            let running = self.ring0.timeline.completed() < self.ring0.timeline.submitted();
            return match put {
                Err(error) if error != Error::Busy && !running => Err(error),
                _ => Ok(Some(self.next_on_ring())),
            };
        };
        if last > self.ring0.timeline.completed() {
            return Ok(Some(last));
        }
        // Done, and not judged: now it is, with all pieces before.
        let judged = self.judge(last);
        self.advance();
        match self.queues.verdict(job)? {
            Some(verdict) => verdict.map(|()| None),
            None => Err(judged.err().unwrap_or(Error::Lost)),
        }
    }

    /// How many jobs a client has been given fences for, and how many are over.
    pub fn jobs(&self, client: &Client) -> (u64, u64) {
        self.queues.jobs(client.id, self.ring0.timeline.completed())
    }

    /// Whether clients' work waits for the ring: [`Self::advance`] is due when a
    /// fence of it is over.
    pub fn has_queued(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Puts clients' work on the ring, as far as it may, and gives back the
    /// memory of destroyed BOs that the GPU is done with.
    pub fn advance(&mut self) {
        // What goes wrong is tried again with the next fence.
        let _ = self.go_on();
    }

    /// [`Self::advance`]. On an error the piece whose turn it is is not on the ring.
    fn go_on(&mut self) -> Result<(), Error> {
        // Its registers are not to be touched; [`Self::resume`] goes on.
        if self.ring0.asleep {
            return Ok(());
        }
        let put = self.put_pieces();
        self.reap();
        put
    }

    fn put_pieces(&mut self) -> Result<(), Error> {
        self.judge_pieces();
        let (mut bytes, mut count) = self.queues.running(self.ring0.timeline.completed());
        while let Some(piece) = self.queues.next() {
            let too_much = bytes + piece.bytes > RING_BYTES || count >= RING_PIECES;
            if count > 0 && too_much {
                break;
            }
            self.put(&piece)?;
            (bytes, count) = self.queues.running(self.ring0.timeline.completed());
        }
        Ok(())
    }

    /// The fence of the ring that is over next, or the newest.
    pub(super) fn next_on_ring(&self) -> u64 {
        (self.ring0.timeline.completed() + 1).min(self.ring0.timeline.submitted())
    }

    /// Takes the verdicts on clients' pieces, as far as they are known.
    pub(super) fn judge_pieces(&mut self) {
        let timeline = &self.ring0.timeline;
        let bos = &mut self.memory.bos;
        let cleared = |bo, verdict| {
            if let Ok(bo) = bos.get_mut(bo)
                && let Contents::Clearing(clearing) = &mut bo.contents
            {
                clearing.note(verdict);
            }
        };
        self.queues.judge(|fence| timeline.verdict(fence), cleared);
    }

    fn admit(&mut self, client: &Client, bytes: u64) -> Result<(), Error> {
        if self.ring0.timeline.is_lost() {
            return Err(Error::Lost);
        }
        // Who is told to wait for the ring finds something on it.
        self.advance();
        self.queues
            .admit(client.id, bytes, self.ring0.timeline.completed())
    }

    /// Queues work that was admitted; returns the client's fence.
    fn queue(&mut self, client: &Client, work: Work, bytes: u64) -> Result<u64, Error> {
        let mut after = [None; 2];
        for (after, bo) in after.iter_mut().zip(work.bos()) {
            *after = self.memory.bos.get(bo)?.last_job;
        }
        let fence = self.queues.push(client.id, work, bytes, after)?;
        for bo in work.bos() {
            let bo = self.memory.bos.get_mut(bo)?;
            bo.queued += 1;
            bo.last_job = Some((client.id, fence));
        }
        self.advance();
        Ok(fence)
    }

    /// Puts a piece of a client's work on the ring. A job of which one piece is known
    /// to have failed ends with it: what hangs is not to hang with every piece, and
    /// of a clearing all is to be done again. So does a clearing whose BO is gone.
    fn put(&mut self, piece: &Piece) -> Result<(), Error> {
        let mut piece = *piece;
        // Nobody will see the rest of it.
        let empty = self.queues.has_failed(piece.job)
            || match piece.work {
                Work::Clear { bo } => {
                    let bo = self.memory.bos.get(bo)?;
                    let failed = match bo.contents {
                        Contents::Clearing(clearing) => clearing.error.is_some(),
                        _ => false,
                    };
                    bo.zombie || failed
                }
                _ => false,
            };
        let (unjudged, oldest) = self.queues.unjudged();
        if unjudged >= UNJUDGED {
            // How that one ended is not asked here.
            let _ = self.ring0.learn(oldest)?;
            self.judge_pieces();
        }
        let va = |(bo, offset): (BoId, u64)| {
            let at = self.memory.va(bo);
            at.map(|at| at.add(offset + piece.offset))
        };
        let mut bos = piece.work.bos();
        let uses = [bos.next(), bos.next()];
        let uses = uses.iter().flatten().copied();
        let fence = match piece.work {
            _ if empty => {
                piece.last = true;
                Ok(self.ring0.timeline.submitted())
            }
            Work::Clear { bo } => {
                let at = va((bo, 0))?;
                self.submit(uses, |out| submit::fill(out, at, piece.bytes, 0))
            }
            Work::Fill(fill) => {
                let at = va((fill.bo, fill.offset))?;
                let pattern = fill.pattern;
                self.submit(uses, |out| submit::fill(out, at, piece.bytes, pattern))
            }
            Work::Copy(copy) => {
                let (dst, src) = (va(copy.dst)?, va(copy.src)?);
                self.submit(uses, |out| submit::copy(out, dst, src, piece.bytes))
            }
        }?;
        self.queues.put(&piece, fence, empty);
        if piece.last {
            if let Work::Clear { bo } = piece.work
                && let Contents::Clearing(clearing) = &mut self.memory.bos.get_mut(bo)?.contents
            {
                clearing.last = Some(fence);
            }
            let (bos, zombies) = (&mut self.memory.bos, &mut self.zombies);
            piece.work.bos().for_each(|bo| let_go(bos, zombies, bo));
        }
        Ok(())
    }
}

/// A job that uses a BO is on the ring, or never will be.
fn let_go<P>(bos: &mut Arena<P>, zombies: &mut BinaryHeap<Reverse<(u64, u64)>>, id: BoId) {
    if let Ok(bo) = bos.get_mut(id) {
        bo.queued -= 1;
        if bo.zombie && bo.queued == 0 {
            zombies.push(Reverse((bo.last_use, id.to_bits())));
        }
    }
}
