//! What the manager asks the driver for.

use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::{PageVector, Ram};
use crate::bo::pool::{Linked, SmallLock};
use crate::placement::{Extent, SegmentId};
use crate::sync::{Deadline, Primitives};
use e3k_regs::BusAddr;

/// A fence of this driver.
pub type FenceOf<W> = <<W as World>::Sync as Primitives>::Fence;
/// A reservation of this driver.
pub type ReservationOf<W> = <<W as World>::Sync as Primitives>::Reservation;
/// A block of RAM of this driver.
pub type BlockOf<W> = <<W as World>::Ram as Ram>::Block;

/// Where contents are, as a copy engine finds them.
#[derive(Debug)]
pub struct Side<'a, B> {
    /// The memory type.
    pub segment: SegmentId,
    /// Its pages, in order.
    pub extents: &'a [Extent],
    /// The RAM behind them; none in local memory. The GART points at it.
    pub pages: Option<&'a PageVector<B>>,
}

/// A page of memory, as the GPU's page-table entries name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuPage {
    /// In local memory: the page of the segment.
    Local(SegmentId, u64),
    /// In RAM, with the memory type that says how it is reached.
    Ram(SegmentId, BusAddr),
}

impl<B: Linked> Side<'_, B> {
    /// Its pages, from number `first` on.
    pub fn gpu_pages(&self, first: u64) -> impl Iterator<Item = GpuPage> {
        let segment = self.segment;
        let ram = self.pages.into_iter().flat_map(move |pages| {
            let indices = usize::try_from(first).into_iter().flat_map(|first| first..);
            let found = indices.map_while(|index| pages.bus_addr(index));
            found.map(move |at| GpuPage::Ram(segment, at))
        });
        let mut before = first;
        let extents = self.extents.iter().flat_map(move |extent| {
            let skipped = before.min(extent.pages());
            before -= skipped;
            extent.first + skipped..extent.end
        });
        let local = extents.map(move |page| GpuPage::Local(segment, page));
        let in_ram = self.pages.is_some();
        ram.chain(local.take(if in_ram { 0 } else { usize::MAX }))
    }
}

/// Rings that copies and clears are on at most.
pub const COPY_RINGS: usize = 2;

/// The driver's half. Its calls are made with the reservation of the buffer held
/// and no other lock.
pub trait World: Sized {
    /// Locks, fences and waits.
    type Sync: Primitives;
    /// Pages of RAM.
    type Ram: Ram;
    /// The lock around the manager's books. Memory may be allocated under it, but
    /// not in a way that makes the system ask this manager for some.
    type Lock<T>: SmallLock<T>;

    /// Locks, fences and waits.
    fn sync(&self) -> &Self::Sync;

    /// Pages of RAM.
    fn ram(&self) -> &Self::Ram;

    /// Such a lock around a value.
    fn lock<T>(&self, value: T) -> Self::Lock<T>;

    /// The point in time that is so many nanoseconds away.
    fn after(&self, ns: u64) -> Deadline;

    /// Whether the GPU is gone or has given up. All its fences have ended then, in an
    /// error ([`crate::sync::FenceContext::end_lost`]), so that whoever waits stops
    /// waiting; every call but those that give back says [`Error::Lost`] (D-17).
    fn is_lost(&self) -> bool;

    /// A stop that contents must make between two memory types, because the copy
    /// engine does not reach one from the other (12.3).
    fn hop(&self, from: SegmentId, to: SegmentId) -> Option<SegmentId>;

    /// Copies pages. The fence ends well only when the bytes are there: what a reset has
    /// cut off is begun again behind it, and only a GPU that is lost ends it badly;
    /// then contents are lost with the GPU. It begins after all fences of the
    /// buffer's `reservation`: the work on it, and the moves of what was in that memory
    /// before. What may fail is done before anything is copied. Copies and clears are
    /// on at most [`COPY_RINGS`] rings; the fences of each are of a context of its own.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Busy`], [`Error::Lost`].
    fn copy(
        &self,
        reservation: &ReservationOf<Self>,
        from: &Side<'_, BlockOf<Self>>,
        to: &Side<'_, BlockOf<Self>>,
    ) -> Result<FenceOf<Self>, Error>;

    /// Fills pages of local memory with zeros, as [`Self::copy`] copies.
    ///
    /// # Errors
    /// As [`Self::copy`].
    fn clear(
        &self,
        reservation: &ReservationOf<Self>,
        to: &Side<'_, BlockOf<Self>>,
    ) -> Result<FenceOf<Self>, Error>;

    /// Makes the GART point at the pages; done when it returns.
    ///
    /// # Errors
    /// [`Error::Fault`], [`Error::Lost`]; the entries lead nowhere then.
    fn bind(
        &self,
        segment: SegmentId,
        extents: &[Extent],
        pages: &PageVector<BlockOf<Self>>,
    ) -> Result<(), Error>;

    /// Makes the GART entries lead nowhere; done when it returns, TLBs included
    /// . On a GPU that is lost nothing is reached any more.
    fn unbind(&self, segment: SegmentId, extents: &[Extent]);

    /// Removes every CPU mapping of the buffer, and what programs have stored
    /// through them is in memory when it returns, whatever CPU they ran on. (In Linux
    /// `unmap_mapping_range`: on x86 its TLB flush interrupts those CPUs, which empties
    /// their write-combining buffers.)
    fn unmap_user(&self, bo: Id);

    /// Whether an address space of the GPU's maps the buffer.
    fn is_mapped(&self, bo: Id) -> bool;

    /// No address space of the GPU's leads to the buffer any more when this returns, TLBs
    /// included. The GPU has no work on it.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Io`]: the GPU may still reach it.
    fn unmap_gpu(&self, bo: Id) -> Result<(), Error>;
}
