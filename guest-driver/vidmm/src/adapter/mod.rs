//! The driver's front: what the kernel module and the tests call.

use crate::Error;
use crate::bo::accounts::ClientId;
use crate::bo::gart::Gart;
use crate::bo::memory::Memory;
use crate::bo::{Backing, Bo, BoId, Clearing, Contents, Kind};
use crate::engine::queue::Queues;
use crate::engine::ring::{KERNEL_PROCESS, Ring};
use crate::engine::submit::{self, BASE_ALIGN, SIZE_ALIGN};
use crate::engine::trouble::TroubleLog;
use crate::init::report::InitReport;
use crate::init::{self, InitError, Options};
use crate::placement::picture::Bar;
use crate::placement::segments::{Bus, SegmentId, SegmentInfo};
use crate::placement::{self, CreateRequest};
use crate::platform::{Caching, Os, SystemInfo};
use crate::sync::timeline::Timeline;
use alloc::collections::BinaryHeap;
use alloc::sync::Arc;
use core::cmp::Reverse;
use core::fmt;
use e3k_regs::packet::Writer;
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

mod client;

pub use crate::bo::memory::Leftovers;
pub use client::Client;

/// How often an engine is asked whether it is idle after its reset.
const IDLE_READS: u32 = 1000;
/// How many fills that clear a fresh BO may have an error of their own. One that
/// a reset cut off does not count: what caused the reset may be others' work.
const CLEARINGS: u32 = 4;

/// One GPU. Used under one device lock, which the caller holds.
pub struct Adapter<O: Os> {
    pub(crate) memory: Memory<O>,
    pub(crate) gart: Gart,
    pub(crate) ring: Ring,
    pub(crate) timeline: Arc<Timeline<O>>,
    pub(crate) queues: Queues,
    options: Options,
    /// Destroyed BOs whose memory is not given back yet, by last use; not those that
    /// queued jobs use. Has room for all BOs.
    pub(crate) zombies: BinaryHeap<Reverse<(u64, u64)>>,
    pub(crate) trouble: TroubleLog,
    /// The system ends: see [`Self::shut_down`].
    pub(crate) ended: bool,
    /// Between [`Self::suspend`] and [`Self::resume`].
    pub(crate) asleep: bool,
}

/// A page for the CPU's page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Page frame number.
    pub pfn: u64,
    /// How to map it.
    pub caching: Caching,
    /// Device memory, not RAM.
    pub io: bool,
}

/// Where a BO is and in what state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The segment it was placed in.
    pub segment: SegmentId,
    /// First page, counted from the segment's start.
    pub start_page: u64,
    /// Its pages.
    pub pages: u64,
    /// Size as asked for.
    pub bytes: u64,
    /// Where the GPU finds it.
    pub gpu_va: GpuVa,
    /// Which bus the CPU takes.
    pub bus: Bus,
    /// It has RAM pages.
    pub populated: bool,
    /// The GART points at them.
    pub bound: bool,
    /// The page-table entry of its first page, as the CPU reads it.
    pub first_pte: u32,
    /// It is pinned.
    pub pinned: bool,
}

impl<O: Os> Adapter<O> {
    /// `vidmm_init`, its five steps, then interrupts, fences and ring 0.
    ///
    /// # Errors
    /// The step that failed and why. `report` has the steps before it; memory
    /// and registers are as they were.
    pub fn init(os: O, options: Options, report: &mut InitReport) -> Result<Self, InitError> {
        init::init(os, options, report)
    }

    pub(crate) fn new(
        memory: Memory<O>,
        gart: Gart,
        ring: Ring,
        timeline: Arc<Timeline<O>>,
        options: Options,
    ) -> Self {
        Self {
            memory,
            gart,
            ring,
            timeline,
            queues: Queues::new(),
            options,
            zombies: BinaryHeap::new(),
            trouble: TroubleLog::default(),
            ended: false,
            asleep: false,
        }
    }

    /// The world it runs in.
    pub fn os(&self) -> &O {
        &self.memory.os
    }

    /// What the machine had when the driver started.
    pub fn system_info(&self) -> SystemInfo {
        self.memory.mm_mgr.sysinfo
    }

    /// Ring 0's fences; used without the device lock. Drop it before [`Self::fini`].
    pub fn timeline(&self) -> Arc<Timeline<O>> {
        Arc::clone(&self.timeline)
    }

    /// Makes a BO: chooses places by the flags, books a range at the first that
    /// has room. Local memory is cleared by the GPU before anybody sees it
    /// (R-7.8, [`Self::ready_fence`]); RAM pages come later, at the first touch.
    ///
    /// # Errors
    /// [`Error::Invalid`] for size 0 or bad flags or windows, [`Error::NoMemory`]
    /// when no place has room, [`Error::Busy`] when the ring is full.
    pub fn create(&mut self, request: &CreateRequest<'_>) -> Result<BoId, Error> {
        let id = self.book(None, request)?;
        self.clear(id, 0).inspect_err(|_| self.memory.release(id))?;
        Ok(id)
    }

    /// Books a BO, whose contents are not in place.
    pub(crate) fn book(
        &mut self,
        owner: Option<ClientId>,
        request: &CreateRequest<'_>,
    ) -> Result<BoId, Error> {
        let places = placement::places(request)?;
        if request.bytes == 0 {
            return Err(Error::Invalid);
        }
        self.reap();
        let room = self.memory.bos.len() + 1 - self.zombies.len();
        self.zombies.try_reserve(room)?;
        self.memory
            .book(Kind::Device, owner, request.bytes, &places)
    }

    /// The last reference is gone. Idle memory is free when this returns
    /// busy memory is freed by [`Self::reap`] once its fence is done.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn destroy(&mut self, bo: BoId) -> Result<(), Error> {
        self.user_bo(bo)?;
        let gone = self.memory.bury(bo)?;
        if gone.queued == 0 {
            self.zombies.push(Reverse((gone.last_use, bo.to_bits())));
        }
        self.reap();
        Ok(())
    }

    /// The CPU touches page `page` for the first time. In the PCIe segments
    /// the BO gets its RAM pages and its GART binding now, then the page is
    /// found. Never changes the placement.
    ///
    /// # Errors
    /// [`Error::Busy`] while a fresh BO is still being cleared (wait for
    /// [`Self::ready_fence`] and call again), [`Error::Io`] if that fails again
    /// and again, [`Error::Fault`] beyond the BO's end and for memory the CPU
    /// cannot reach, [`Error::NoMemory`], [`Error::Lost`].
    pub fn fault(&mut self, bo: BoId, page: u64) -> Result<Frame, Error> {
        let resource = self.user_bo(bo)?.resource.ok_or(Error::Fault)?;
        if page >= self.user_bo(bo)?.pages {
            return Err(Error::Fault);
        }
        self.make_ready(bo)?;
        let os = &self.memory.os;
        let pfn = match resource.segment {
            SegmentId::LocalVisible => {
                let offset = VramOffset::from_page(resource.first_page + page);
                os.cpu_address(offset) / PAGE_SIZE
            }
            SegmentId::LocalInvisible | SegmentId::System => return Err(Error::Fault),
            SegmentId::PcieSnoop | SegmentId::PcieUnsnoop => {
                let pages = self.make_resident(bo)?.ok_or(Error::Fault)?;
                let index = usize::try_from(page).map_err(|_| Error::Fault)?;
                self.os().frame(&pages, index).ok_or(Error::Fault)?
            }
        };
        Ok(Frame {
            pfn,
            caching: resource.segment.caching(),
            io: resource.segment.bus() == Bus::Io,
        })
    }

    /// The fence of the ring to wait for while a BO's first contents are not known
    /// to be in place (its KERNEL fence). Once it is over [`Self::fault`] finds out
    /// whether they are.
    pub fn ready_fence(&self, bo: BoId) -> Option<u64> {
        let Contents::Clearing(clearing) = self.user_bo(bo).ok()?.contents else {
            return None;
        };
        let Some(last) = clearing.last else {
            return Some(self.next_on_ring());
        };
        match self.timeline.verdict(last) {
            None => Some(last),
            Some(Ok(())) if clearing.error.is_none() => None,
            // It is to be cleared again, once the ring has room.
            Some(_) => Some(self.next_on_ring()),
        }
    }

    /// Lets the GPU write `pattern` to every 4 bytes of a range; `offset` is a
    /// multiple of 256, `bytes` of 4. Returns the fence.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range that is empty, misaligned or not inside
    /// the BO, [`Error::Busy`] when the ring is full or wants
    /// [`Self::attend`], or while a fresh BO is still being cleared;
    /// [`Error::Io`] if that fails again and again, [`Error::NoMemory`],
    /// [`Error::Lost`].
    pub fn fill(&mut self, bo: BoId, offset: u64, bytes: u64, pattern: u32) -> Result<u64, Error> {
        let at = self.gpu_range(bo, offset, bytes)?;
        self.none_queued(&[bo])?;
        self.make_ready(bo)?;
        self.make_resident(bo)?;
        self.submit([bo], |out| submit::fill(out, at, bytes, pattern))
    }

    /// Lets the GPU copy `bytes` (a multiple of 4) from one BO to another, or
    /// inside one; both offsets are multiples of 256. Returns the fence.
    ///
    /// # Errors
    /// As for [`Self::fill`]; also [`Error::Invalid`] for ranges that overlap.
    pub fn copy(
        &mut self,
        dst: BoId,
        dst_offset: u64,
        src: BoId,
        src_offset: u64,
        bytes: u64,
    ) -> Result<u64, Error> {
        let (to, from) = self.copy_ranges((dst, dst_offset), (src, src_offset), bytes)?;
        self.none_queued(&[dst, src])?;
        self.make_ready(src)?;
        self.make_ready(dst)?;
        self.make_resident(src)?;
        self.make_resident(dst)?;
        self.submit([dst, src], |out| submit::copy(out, to, from, bytes))
    }

    /// The GPU addresses of the ranges of a copy, which do not overlap.
    pub(crate) fn copy_ranges(
        &self,
        dst: (BoId, u64),
        src: (BoId, u64),
        bytes: u64,
    ) -> Result<(GpuVa, GpuVa), Error> {
        let to = self.gpu_range(dst.0, dst.1, bytes)?;
        let from = self.gpu_range(src.0, src.1, bytes)?;
        if dst.0 == src.0 && dst.1.abs_diff(src.1) < bytes {
            return Err(Error::Invalid);
        }
        Ok((to, from))
    }

    /// The driver's own work goes straight to the ring: not past what clients
    /// have queued for the same BOs.
    fn none_queued(&self, bos: &[BoId]) -> Result<(), Error> {
        for bo in bos {
            if self.memory.bos.get(*bo)?.queued > 0 {
                return Err(Error::Busy);
            }
        }
        Ok(())
    }

    /// Where a BO is and in what state.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn describe(&self, bo: BoId) -> Result<Description, Error> {
        let gpu_va = self.user_bo(bo).and_then(|_| self.memory.va(bo))?;
        let bo = self.user_bo(bo)?;
        let resource = bo.resource.ok_or(Error::NotFound)?;
        Ok(Description {
            segment: resource.segment,
            start_page: resource.first_page,
            pages: bo.pages,
            bytes: bo.bytes,
            gpu_va,
            bus: resource.segment.bus(),
            populated: bo.backing.pages().is_some(),
            bound: bo.backing.is_bound(),
            first_pte: self.os().load_u32(self.gart.tables.l3_entry(gpu_va)),
            pinned: bo.pins > 0,
        })
    }

    /// The four segments' figures.
    pub fn segments(&self) -> [SegmentInfo; 4] {
        self.memory.mm_mgr.segments.infos()
    }

    /// Gives back the memory of destroyed BOs whose fences are done.
    pub fn reap(&mut self) {
        while let Some(&Reverse((last_use, bo))) = self.zombies.peek() {
            if self.timeline.is_lost() || last_use > self.timeline.completed() {
                return;
            }
            // What cannot be unbound stays a zombie: the BO list and fini show it.
            if self.give_back(BoId::from_bits(bo)).is_err() {
                return;
            }
            self.zombies.pop();
        }
    }

    /// One line for each BO: place, state, owner.
    ///
    /// # Errors
    /// Those of `w`.
    pub fn write_bo_list(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(
            w,
            "id kind segment start_page pages gpu_va state pins last_use"
        )?;
        for (id, bo) in self.memory.bos.iter() {
            let kind = match bo.kind {
                Kind::Kernel => "kernel",
                Kind::Device if bo.zombie => "zombie",
                Kind::Device => "device",
            };
            let state = match (&bo.backing, bo.is_on(Bus::Io)) {
                (_, true) => "local",
                (Backing::Empty, _) => "empty",
                (Backing::Populated(_), _) => "populated",
                (Backing::Bound(_), _) => "bound",
            };
            write!(w, "{:#x} {kind} ", id.to_bits())?;
            match bo.resource {
                Some(at) => {
                    let va = self
                        .memory
                        .mm_mgr
                        .segments
                        .get(at.segment)
                        .va(at.first_page);
                    let (name, first) = (at.segment.name(), at.first_page);
                    write!(w, "{name} {first} {} {:#x}", bo.pages, va.0)?;
                }
                None => write!(w, "system - {} -", bo.pages)?,
            }
            writeln!(w, " {state} {} {}", bo.pins, bo.last_use)?;
        }
        Ok(())
    }

    /// A bar for each segment: what is the kernel's (`K`), pinned (`P`), going (`z`),
    /// each client's (`a` for the first, and so on) and free (`.`).
    ///
    /// # Errors
    /// Those of `w`.
    pub fn write_picture(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        for segment in self.segments() {
            let pages = segment.bytes / PAGE_SIZE;
            let mut bar = Bar::new(pages);
            for (_, bo) in self.memory.bos.iter() {
                if let Some(at) = bo.resource.filter(|at| at.segment == segment.id) {
                    bar.add(at.first_page..at.first_page + bo.pages, bo.letter());
                }
            }
            let (used, pages) = (segment.usage / PAGE_SIZE, pages);
            writeln!(w, "{:<16}{bar} {used} of {pages} pages", segment.name)?;
        }
        Ok(())
    }

    /// Before the function loses its registers, by a reset or in a sleep: waits
    /// until ring 0 is done. The caller lets nobody in before [`Self::resume`].
    ///
    /// # Errors
    /// Those of [`Timeline::wait`]: something is unfinished, and a reset ends it.
    pub fn suspend(&mut self, timeout_ns: u64) -> Result<(), Error> {
        self.drain(timeout_ns)?;
        self.reap();
        // What clients have queued waits; nothing of it is put on a ring that sleeps.
        self.asleep = true;
        Ok(())
    }

    /// After the registers were lost: writes them again (L1 bank, mode,
    /// interrupts, ring 0) and drops what the TLBs hold. VRAM was kept, and so
    /// the tables. Fences that were unfinished end in [`Error::Canceled`].
    ///
    /// # Errors
    /// Those of register accesses, [`Error::Io`] when the GPU does not answer
    /// or is not the same any more; the GPU is lost then. [`Error::Lost`] after
    /// [`Self::shut_down`].
    pub fn resume(&mut self) -> Result<(), Error> {
        if self.ended {
            return Err(Error::Lost);
        }
        self.asleep = false;
        self.restart().inspect_err(|_| self.timeline.mark_lost())
    }

    fn restart(&mut self) -> Result<(), Error> {
        let os = &*self.memory.os;
        let chip = self.memory.mm_mgr.chip;
        let mut identity = chip.identity();
        os.access(&mut identity)?;
        chip.vram_bytes(&identity)?;
        let mut flush = chip.invalidate_all();
        self.memory.registers.replay(os, &mut flush)?;
        self.begin_again(false);
        Ok(())
    }

    /// Ring 0 is empty and stands at its beginning: ends what was unfinished. A
    /// fresh BO whose clearing was cut off is cleared again when somebody wants to
    /// use it. `guilty`: see [`Timeline::restart`].
    pub(crate) fn begin_again(&mut self, guilty: bool) {
        self.ring.restart();
        self.timeline.restart(guilty);
        self.judge_pieces();
        self.advance();
    }

    /// The system ends, and another kernel may follow in the same machine: waits
    /// (bounded) for the ring, then stops it and leaves registers as they were
    /// found, and the GPU without DMA, whatever fails on the way. For users the
    /// GPU is lost from here on. Memory stays theirs: nothing is given back.
    ///
    /// # Errors
    /// [`Error::Io`] when the GPU could not be shown idle.
    pub fn shut_down(&mut self, timeout_ns: u64) -> Result<(), Error> {
        let done = self.drain(timeout_ns);
        self.ended = true;
        self.timeline.mark_lost();
        let idle = self.stop(done.is_ok());
        let restored = self.memory.quiet();
        (idle && restored).then_some(()).ok_or(Error::Io)
    }

    /// Ends the driver: waits (bounded) for the ring, then undoes `vidmm_init`
    /// in reverse. If the GPU cannot be shown idle, the pages it may reach are
    /// lost, never freed.
    ///
    /// # Errors
    /// What was left behind.
    pub fn fini(mut self) -> Result<(), Leftovers> {
        let done = self.drain(self.options.idle_timeout_ns);
        let idle = self.stop(done.is_ok());
        // The timeline shares the fence page, which is given back below.
        drop(self.timeline);
        let left = self.memory.unwind(idle);
        if left.is_any() { Err(left) } else { Ok(()) }
    }

    /// Stops the ring. True if the GPU is shown to do nothing: every fence is
    /// done, or nothing is busy after the engine was reset.
    pub(crate) fn stop(&self, done: bool) -> bool {
        let chip = self.memory.mm_mgr.chip;
        let stopped = self.os().access(&mut chip.stop_ring(self.ring.va));
        if stopped.is_ok() && !done {
            return self.reset_engine().is_ok();
        }
        stopped.is_ok()
    }

    /// Makes the engine behind ring 0 drop what it does.
    ///
    /// # Errors
    /// [`Error::Io`] when it stays busy, and those of register accesses.
    pub(crate) fn reset_engine(&self) -> Result<(), Error> {
        let mut reset = self.memory.mm_mgr.chip.reset_engine();
        self.os().access(&mut reset)?;
        for _ in 0..IDLE_READS {
            if reset[2].value == 0 {
                return Ok(());
            }
            self.os().access(&mut reset[2..])?;
        }
        Err(Error::Io)
    }

    /// A BO that its user may still name.
    fn user_bo(&self, id: BoId) -> Result<&Bo<O::Pages>, Error> {
        let bo = self.memory.bos.get(id)?;
        let usable = bo.kind == Kind::Device && !bo.zombie;
        usable.then_some(bo).ok_or(Error::NotFound)
    }

    /// The GPU address of a range that a packet can name.
    pub(crate) fn gpu_range(&self, id: BoId, offset: u64, bytes: u64) -> Result<GpuVa, Error> {
        let bo = self.user_bo(id)?;
        let end = offset.checked_add(bytes).ok_or(Error::Invalid)?;
        let aligned = offset.is_multiple_of(BASE_ALIGN) && bytes.is_multiple_of(SIZE_ALIGN);
        if bytes == 0 || end > bo.bytes || !aligned {
            return Err(Error::Invalid);
        }
        Ok(self.memory.va(id)?.add(offset))
    }

    /// Makes the GPU able to reach a BO: RAM pages exist and are bound.
    /// Returns the pages, `None` for local memory. On an error the BO is as it was.
    pub(crate) fn make_resident(&mut self, id: BoId) -> Result<Option<Arc<O::Pages>>, Error> {
        let bo = self.memory.bos.get(id)?;
        let Some(segment) = bo.resource.map(|resource| resource.segment) else {
            return Err(Error::Fault);
        };
        if segment.bus() == Bus::Io {
            return Ok(None);
        }
        if let Backing::Bound(pages) = &bo.backing {
            return Ok(Some(Arc::clone(pages)));
        }
        let count = bo.pages;
        let va = self.memory.va(id)?;
        let pages = self.memory.populate(id, segment.caching())?;
        let snoop = segment == SegmentId::PcieSnoop;
        let chip = self.memory.mm_mgr.chip;
        let bound = self
            .gart
            .bind(&*self.memory.os, chip, va, &pages, count, snoop);
        if let Err(error) = bound {
            drop(pages);
            // While the GPU may still reach the pages they stay the BO's.
            if self.gart.unbind(&*self.memory.os, chip, va, count).is_ok() {
                self.memory.unpopulate(id);
            }
            return Err(error);
        }
        self.memory.bos.get_mut(id)?.backing = Backing::Bound(Arc::clone(&pages));
        Ok(Some(pages))
    }

    /// Clears a fresh local BO, after so many fills that failed. RAM pages come zeroed.
    fn clear(&mut self, id: BoId, failed: u32) -> Result<(), Error> {
        let bo = self.memory.bos.get(id)?;
        if !bo.is_on(Bus::Io) {
            return Ok(());
        }
        let bytes = bo.booked_bytes();
        let at = self.memory.va(id)?;
        let fence = self.submit([id], |out| submit::fill(out, at, bytes, 0))?;
        self.memory.bos.get_mut(id)?.contents = Contents::Clearing(Clearing {
            last: Some(fence),
            error: None,
            failed,
        });
        Ok(())
    }

    /// Makes sure that a BO's first contents are in place, before anybody reads,
    /// maps or writes it: what is there before them is another client's, and a
    /// second clearing must not wipe what its user has written.
    ///
    /// # Errors
    /// [`Error::Busy`]: the BO is being cleared, perhaps once more; wait for
    /// [`Self::ready_fence`]. [`Error::Io`] when that has failed too often.
    pub(crate) fn make_ready(&mut self, id: BoId) -> Result<(), Error> {
        let failed = match self.learn_contents(id)? {
            Contents::InPlace => return Ok(()),
            Contents::Unusable => return Err(Error::Io),
            Contents::Clearing(Clearing { error, failed, .. }) => {
                failed + u32::from(error == Some(Error::Io))
            }
        };
        if failed >= CLEARINGS {
            self.memory.bos.get_mut(id)?.contents = Contents::Unusable;
            return Err(Error::Io);
        }
        if self.timeline.has_trouble() {
            self.attend().map_err(|_| Error::Lost)?;
        }
        self.clear(id, failed)?;
        Err(Error::Busy)
    }

    /// A BO's contents; [`Contents::Clearing`] if that has failed.
    ///
    /// # Errors
    /// [`Error::Busy`] while nobody can know; those of [`Self::judge`] that say
    /// nothing of a fence.
    fn learn_contents(&mut self, id: BoId) -> Result<Contents, Error> {
        if let Contents::Clearing(Clearing { last: None, .. }) = self.memory.bos.get(id)?.contents {
            self.advance();
        }
        let last = match self.memory.bos.get(id)?.contents {
            Contents::Clearing(clearing) => clearing.last,
            known => return Ok(known),
        };
        let verdict = match last {
            Some(fence) => self.learn(fence)?,
            None if self.timeline.is_lost() => return Err(Error::Lost),
            None => return Err(Error::Busy),
        };
        // Now all fills before it are known, too.
        self.judge_pieces();
        let bo = self.memory.bos.get_mut(id)?;
        if let Contents::Clearing(clearing) = &mut bo.contents {
            clearing.note(verdict);
            if clearing.error.is_none() {
                bo.contents = Contents::InPlace;
            }
        }
        Ok(bo.contents)
    }

    /// Submits the kernel's own work and adds its fence to the BOs it uses.
    pub(crate) fn submit(
        &mut self,
        uses: impl IntoIterator<Item = BoId>,
        work: impl Fn(&mut Writer<'_>),
    ) -> Result<u64, Error> {
        self.submit_in(KERNEL_PROCESS, uses, work)
    }

    /// The same, by addresses of a process.
    pub(crate) fn submit_in(
        &mut self,
        process_id: u8,
        uses: impl IntoIterator<Item = BoId>,
        work: impl Fn(&mut Writer<'_>),
    ) -> Result<u64, Error> {
        if self.timeline.is_hung() {
            return Err(Error::Busy);
        }
        let os = &*self.memory.os;
        let chip = self.memory.mm_mgr.chip;
        let fence = self
            .ring
            .submit(os, chip, &self.timeline, process_id, work)?;
        for id in uses {
            self.memory.bos.get_mut(id)?.last_use = fence;
        }
        Ok(fence)
    }

    /// Frees an idle zombie: out of the GART first.
    fn give_back(&mut self, id: BoId) -> Result<(), Error> {
        let bo = self.memory.bos.get_mut(id)?;
        bo.backing = core::mem::take(&mut bo.backing).unbound();
        let count = bo.pages;
        if bo.backing.pages().is_some() {
            let va = self.memory.va(id)?;
            let chip = self.memory.mm_mgr.chip;
            self.gart.unbind(&*self.memory.os, chip, va, count)?;
        }
        self.memory.release(id);
        Ok(())
    }
}
