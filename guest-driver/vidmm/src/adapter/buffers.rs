//! Buffers of the running driver: made, touched by the CPU, used by the GPU, gone.

use crate::Error;
use crate::adapter::Adapter;
use crate::bo::accounts::ClientId;
use crate::bo::{Backing, Bo, BoId, Kind};
use crate::engine::ring::KERNEL_PROCESS;
use crate::engine::submit::{self, BASE_ALIGN, SIZE_ALIGN};
use crate::placement::segments::{Bus, SegmentId};
use crate::placement::{self, CreateRequest};
use crate::platform::{Caching, Os};
use alloc::sync::Arc;
use core::cmp::Reverse;
use e3k_regs::packet::Writer;
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

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

impl<O: Os> Adapter<O> {
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
    pub(super) fn book(
        &mut self,
        owner: Option<ClientId>,
        request: &CreateRequest<'_>,
    ) -> Result<BoId, Error> {
        let places = placement::places(request)?;
        if request.bytes == 0 {
            return Err(Error::Invalid);
        }
        self.reap();
        // INVARIANT: room for all BOs, the one to come included.
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
    pub(super) fn copy_ranges(
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

    /// Gives back the memory of destroyed BOs whose fences are done.
    pub fn reap(&mut self) {
        while let Some(&Reverse((last_use, bo))) = self.zombies.peek() {
            if self.ring0.timeline.is_lost() || last_use > self.ring0.timeline.completed() {
                return;
            }
            // What cannot be unbound stays a zombie: the BO list and fini show it.
            if self.give_back(BoId::from_bits(bo)).is_err() {
                return;
            }
            self.zombies.pop();
        }
    }

    /// A BO that its user may still name.
    pub(super) fn user_bo(&self, id: BoId) -> Result<&Bo<O::Pages>, Error> {
        let bo = self.memory.bos.get(id)?;
        let usable = bo.kind == Kind::Device && !bo.zombie;
        usable.then_some(bo).ok_or(Error::NotFound)
    }

    /// The GPU address of a range that a packet can name.
    pub(super) fn gpu_range(&self, id: BoId, offset: u64, bytes: u64) -> Result<GpuVa, Error> {
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
    pub(super) fn make_resident(&mut self, id: BoId) -> Result<Option<Arc<O::Pages>>, Error> {
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

    /// Submits the kernel's own work and adds its fence to the BOs it uses.
    pub(super) fn submit(
        &mut self,
        uses: impl IntoIterator<Item = BoId>,
        work: impl Fn(&mut Writer<'_>),
    ) -> Result<u64, Error> {
        let fence = self.ring0.submit(KERNEL_PROCESS, work)?;
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
