//! Guest RAM as the GPU's bus reaches it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use e3k_regs::BusAddr;
use e3k_regs::addr::ADDRESS_BITS;
use presil_device::{BusError, DmaAccess, SystemMemory};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

use crate::sigbus;

/// What to do when guest memory comes without files behind it.
pub(crate) const MEMORY_NOT_SHARED: &str = "guest RAM is not shared with this process, so the GPU \
    cannot reach it: start QEMU with a memory-backend-memfd that has share=on, and with -machine \
    memory-backend=… naming it (see --print-qemu-args)";

/// What to think of guest memory that comes with files that nobody ever wrote to.
pub(crate) const NEVER_WRITTEN: &str = "the GPU uses guest RAM, and nothing was ever written to \
    the files that hold it. If a guest is running, its RAM is not shared: start QEMU with \
    share=on (see --print-qemu-args)";

/// One table of the guest memory that QEMU shares with us. It keeps its
/// mappings alive, so it is replaced under the GPU's lock and never while a
/// transfer runs.
pub struct GuestRam(Arc<GuestMemoryMmap>);

impl GuestRam {
    /// Bus addresses are guest-physical addresses in `memory`.
    pub fn new(memory: Arc<GuestMemoryMmap>) -> Self {
        Self(memory)
    }
}

/// The guest address of `bytes` bytes at `at`, if the bus has that many wires.
fn on_bus(at: BusAddr, bytes: usize) -> Result<GuestAddress, BusError> {
    let end = u64::try_from(bytes)
        .ok()
        .and_then(|bytes| at.0.checked_add(bytes));
    if end.is_some_and(|end| end <= 1 << ADDRESS_BITS) {
        Ok(GuestAddress(at.0))
    } else {
        Err(BusError)
    }
}

/// What came of an access: nothing good where the memory is gone.
fn checked<T>(done: Result<T, vm_memory::GuestMemoryError>) -> Result<T, BusError> {
    if sigbus::is_lost() {
        return Err(BusError);
    }
    done.map_err(|_| BusError)
}

impl SystemMemory for GuestRam {
    fn read(&self, at: BusAddr, buf: &mut [u8], _: DmaAccess) -> Result<(), BusError> {
        let at = on_bus(at, buf.len())?;
        checked(self.0.read_slice(buf, at))
    }

    fn write(&self, at: BusAddr, buf: &[u8], _: DmaAccess) -> Result<(), BusError> {
        let at = on_bus(at, buf.len())?;
        checked(self.0.write_slice(buf, at))
    }

    fn write_from(
        &self,
        at: BusAddr,
        from: VolatileSlice<'_>,
        _: DmaAccess,
    ) -> Result<(), BusError> {
        let at = on_bus(at, from.len())?;
        let mut done = 0;
        for to in checked(self.0.get_slices(at, from.len(), Permissions::Write))? {
            let to = checked(to)?;
            let rest = from.offset(done).map_err(|_| BusError)?;
            rest.copy_to_volatile_slice(to);
            done += to.len();
        }
        checked(Ok(()))
    }

    fn load_u32(&self, at: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        let at = on_bus(at, size_of::<u32>())?;
        checked(self.0.load(at, Ordering::Acquire)).map(u32::from_le)
    }

    fn store_u64(&self, at: BusAddr, value: u64, _: DmaAccess) -> Result<(), BusError> {
        let at = on_bus(at, size_of::<u64>())?;
        checked(self.0.store(value.to_le(), at, Ordering::Release))
    }
}

#[cfg(test)]
mod tests {
    use e3k_regs::fields::FaultClient;
    use presil_device::Snoop;

    use super::*;

    /// RAM at 0..64K and 1M..1M+64K, a hole between them.
    fn ram() -> GuestRam {
        let ranges = [
            (GuestAddress(0), 0x1_0000),
            (GuestAddress(0x10_0000), 0x1_0000),
        ];
        GuestRam::new(Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap()))
    }

    fn access() -> DmaAccess {
        DmaAccess {
            client: FaultClient::RingFetch,
            snoop: Snoop::Snooped,
            non_secure: false,
        }
    }

    #[test]
    fn what_is_written_from_other_memory_lies_where_a_write_would_put_it() {
        let ranges = [
            (GuestAddress(0), 0x1_0000),
            (GuestAddress(0x1_0000), 0x1_0000),
        ];
        let ram = GuestRam::new(Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap()));
        let mut bytes: Vec<u8> = (0..32).collect();
        let from = VolatileSlice::from(&mut bytes[..]);
        // Across the end of one region.
        ram.write_from(BusAddr(0xFFF0), from, access()).unwrap();
        let mut buf = [0xAA; 34];
        ram.read(BusAddr(0xFFEF), &mut buf, access()).unwrap();
        assert_eq!([buf[0], buf[33]], [0, 0]);
        assert!((0..32).eq(buf[1..33].iter().copied()));
        // Not all of it is there.
        assert!(ram.write_from(BusAddr(0x1_FFF0), from, access()).is_err());
        let end = BusAddr((1 << ADDRESS_BITS) - 16);
        assert!(ram.write_from(end, from, access()).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let ram = ram();
        ram.write(BusAddr(0xFFF0), &[7; 16], access()).unwrap();
        let mut buf = [0; 16];
        ram.read(BusAddr(0xFFF0), &mut buf, access()).unwrap();
        assert_eq!(buf, [7; 16]);
        ram.store_u64(BusAddr(0x10_0008), 0x1122_3344_5566_7788, access())
            .unwrap();
        assert_eq!(
            ram.load_u32(BusAddr(0x10_0008), access()).unwrap(),
            0x5566_7788
        );
    }

    #[test]
    fn an_access_that_touches_a_hole_is_a_bus_error() {
        let ram = ram();
        let mut buf = [0; 16];
        for at in [0xFFF8, 0x1_0000, 0xF_FFF8, 0x11_0000 - 8, 0x11_0000] {
            assert!(
                ram.read(BusAddr(at), &mut buf, access()).is_err(),
                "read {at:#x}"
            );
            assert!(
                ram.write(BusAddr(at), &buf, access()).is_err(),
                "write {at:#x}"
            );
        }
        assert!(ram.load_u32(BusAddr(0x1_0000), access()).is_err());
        assert!(ram.store_u64(BusAddr(0x1_0000), 1, access()).is_err());
    }

    #[test]
    fn a_misaligned_atomic_is_a_bus_error() {
        let ram = ram();
        assert!(ram.load_u32(BusAddr(2), access()).is_err());
        assert!(ram.store_u64(BusAddr(4), 1, access()).is_err());
    }

    #[test]
    fn an_address_beyond_40_bits_is_a_bus_error_even_where_there_is_ram() {
        let at = 1 << ADDRESS_BITS;
        let ranges = [(GuestAddress(at - 0x1000), 0x2000)];
        let ram = GuestRam::new(Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap()));
        let mut buf = [0; 16];
        assert!(ram.read(BusAddr(at - 16), &mut buf, access()).is_ok());
        assert!(ram.read(BusAddr(at - 8), &mut buf, access()).is_err());
        assert!(ram.load_u32(BusAddr(at), access()).is_err());
        assert!(ram.write(BusAddr(u64::MAX), &buf, access()).is_err());
    }
}
