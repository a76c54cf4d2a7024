//! The machine's memory, as the device reaches it over PCIe.

use e3k_regs::BusAddr;
use e3k_regs::fields::FaultClient;
use vm_memory::VolatileSlice;

/// Whether a PCIe access looks into the CPU's caches (hardware reference 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Snoop {
    /// Coherent with the caches.
    Snooped,
    /// Past the caches: what they hold is not seen.
    Unsnooped,
}

impl Snoop {
    /// From the Snoop bit of an entry.
    pub(crate) fn from_bit(bit: bool) -> Self {
        if bit { Self::Snooped } else { Self::Unsnooped }
    }
}

/// Who accesses, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaAccess {
    /// The unit on whose behalf it is done.
    pub client: FaultClient,
    /// The snoop attribute.
    pub snoop: Snoop,
    /// The NS bit of the entry that led there: of the page's for data, of the
    /// table's for a table.
    pub non_secure: bool,
}

/// Nobody answered at the address, or not for the whole length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory answers at this bus address")]
pub struct BusError;

/// Whether the driver has mapped a page for the GPU's DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaMapping {
    /// The machine does not tell: without an IOMMU the GPU reaches all memory.
    Unknown,
    /// Not now: its IOMMU lets nothing through there.
    Unmapped,
    /// Yes, by its IOMMU.
    Mapped,
}

/// The machine's memory. An access that is not entirely inside it is a
/// [`BusError`]; then nothing or a part of the buffer has been transferred.
pub trait SystemMemory: Send {
    /// Whether the function may send requests on the bus at all; where it may not,
    /// every access is a [`BusError`].
    fn bus_master(&self) -> bool {
        true
    }

    /// Whether the page at `at` is mapped for DMA; [`crate::Gpu::dma_unmaps`] tells when
    /// that ends. Who cannot tell it of every page says [`DmaMapping::Unknown`] of all.
    fn dma_mapping(&self, at: BusAddr) -> DmaMapping {
        let _ = at;
        DmaMapping::Unknown
    }

    /// Reads `buf.len()` bytes.
    fn read(&self, at: BusAddr, buf: &mut [u8], access: DmaAccess) -> Result<(), BusError>;

    /// Writes `buf.len()` bytes.
    fn write(&self, at: BusAddr, buf: &[u8], access: DmaAccess) -> Result<(), BusError>;

    /// Lets `body` use the memory from `at` on itself: as much of `bytes` bytes as is
    /// mapped in one piece. It is not called where there is none, where the access is
    /// not allowed, and where that might be the GPU's own VRAM by another way. An
    /// error undoes nothing.
    fn with_mapped(
        &self,
        at: BusAddr,
        bytes: usize,
        write: bool,
        access: DmaAccess,
        body: &mut dyn FnMut(VolatileSlice<'_>),
    ) -> Result<(), BusError> {
        let _ = (at, bytes, write, access, body);
        Ok(())
    }

    /// One aligned atomic load with acquire order.
    fn load_u32(&self, at: BusAddr, access: DmaAccess) -> Result<u32, BusError>;

    /// One aligned atomic store with release order.
    fn store_u64(&self, at: BusAddr, value: u64, access: DmaAccess) -> Result<(), BusError>;
}

/// A machine without memory: what a GPU sees that may not do DMA.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

impl SystemMemory for NoMemory {
    fn read(&self, _: BusAddr, _: &mut [u8], _: DmaAccess) -> Result<(), BusError> {
        Err(BusError)
    }

    fn write(&self, _: BusAddr, _: &[u8], _: DmaAccess) -> Result<(), BusError> {
        Err(BusError)
    }

    fn load_u32(&self, _: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        Err(BusError)
    }

    fn store_u64(&self, _: BusAddr, _: u64, _: DmaAccess) -> Result<(), BusError> {
        Err(BusError)
    }
}
