//! Guest RAM as the GPU's bus reaches it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use e3k_regs::BusAddr;
use e3k_regs::addr::ADDRESS_BITS;
use presil_device::{BusError, DmaAccess, SystemMemory, Vram};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    VolatileSlice,
};

use crate::doors::lent::Lent;
use crate::sigbus;

/// What to do when guest memory comes without files behind it.
pub(crate) const MEMORY_NOT_SHARED: &str = "guest RAM is not shared with this process, so the GPU \
    cannot reach it: start QEMU with a memory-backend-memfd that has share=on, and with -machine \
    memory-backend=… naming it (see --print-qemu-args)";

/// What to think of guest memory that comes with files that nobody ever wrote to.
pub(crate) const NEVER_WRITTEN: &str = "the GPU uses guest RAM, and nothing was ever written to \
    the files that hold it. If a guest is running, its RAM is not shared: start QEMU with \
    share=on (see --print-qemu-args)";

/// Which file one is, however often it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileKey(u64, u64);

impl FileKey {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self(data.dev(), data.ino()))
    }
}

/// Where in `table` the address `at` of this process is.
pub(crate) fn find(table: &GuestMemoryMmap, at: usize) -> Option<Lent> {
    table.iter().find_map(|region| {
        let offset = at.checked_sub(region.as_ptr().addr())? as u64;
        let start = region.file_offset().map_or(0, FileOffset::start);
        (offset < region.len()).then(|| Lent {
            guest: region.start_addr().0 + offset,
            in_file: start + offset,
        })
    })
}

/// One table of the guest memory that QEMU shares with us. It keeps its
/// mappings alive, so it is replaced under the GPU's lock and never while a
/// transfer runs.
pub struct GuestRam {
    memory: Arc<GuestMemoryMmap>,
    /// What of it is not the GPU's own VRAM: the CPU's window on that may be in the
    /// table, too.
    foreign: GuestMemoryMmap,
}

impl GuestRam {
    /// Bus addresses are guest-physical addresses in `memory`; the GPU has this VRAM.
    pub fn new(memory: Arc<GuestMemoryMmap>, vram: &Vram) -> Self {
        let own = FileKey::of(vram.file()).ok();
        let mut foreign = GuestMemoryMmap::clone(&memory);
        for region in memory.iter() {
            let file = region
                .file_offset()
                .map(|place| FileKey::of(place.file()).ok());
            // A file that cannot be told counts as VRAM's.
            if file.is_some_and(|file| file.is_none() || file == own)
                && let Ok((rest, _)) = foreign.remove_region(region.start_addr(), region.len())
            {
                foreign = rest;
            }
        }
        Self { memory, foreign }
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
        checked(self.memory.read_slice(buf, at))
    }

    fn write(&self, at: BusAddr, buf: &[u8], _: DmaAccess) -> Result<(), BusError> {
        let at = on_bus(at, buf.len())?;
        checked(self.memory.write_slice(buf, at))
    }

    fn with_mapped(
        &self,
        at: BusAddr,
        bytes: usize,
        _write: bool,
        _: DmaAccess,
        body: &mut dyn FnMut(VolatileSlice<'_>),
    ) -> Result<(), BusError> {
        let at = on_bus(at, bytes)?;
        let mut slices = GuestMemoryBackend::get_slices(&self.foreign, at, bytes);
        if let Some(Ok(memory)) = slices.next() {
            body(memory);
        }
        checked(Ok(()))
    }

    fn load_u32(&self, at: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        let at = on_bus(at, size_of::<u32>())?;
        checked(self.memory.load(at, Ordering::Acquire)).map(u32::from_le)
    }

    fn store_u64(&self, at: BusAddr, value: u64, _: DmaAccess) -> Result<(), BusError> {
        let at = on_bus(at, size_of::<u64>())?;
        checked(self.memory.store(value.to_le(), at, Ordering::Release))
    }
}

#[cfg(test)]
mod tests {
    use e3k_regs::fields::FaultClient;
    use presil_device::{Chip, Config, Gpu, NoInterrupts, Snoop, VramOffset};

    use super::*;

    fn gpu() -> Gpu {
        let config = Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true).unwrap();
        Gpu::new(&config, Box::new(NoInterrupts)).unwrap()
    }

    /// RAM at 0..64K and 1M..1M+64K, a hole between them.
    fn ram() -> GuestRam {
        let ranges = [
            (GuestAddress(0), 0x1_0000),
            (GuestAddress(0x10_0000), 0x1_0000),
        ];
        GuestRam::new(
            Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap()),
            gpu().vram(),
        )
    }

    fn access() -> DmaAccess {
        DmaAccess {
            client: FaultClient::RingFetch,
            snoop: Snoop::Snooped,
            non_secure: false,
        }
    }

    #[test]
    fn memory_is_used_itself_as_far_as_it_is_in_one_piece_and_not_vram() {
        let gpu = gpu();
        let vram = gpu.vram().file().try_clone().unwrap();
        let window = Some(FileOffset::new(vram, 0));
        let ranges = [
            (GuestAddress(0), 0x1_0000, None),
            (GuestAddress(0x1_0000), 0x1_0000, None),
            (GuestAddress(0x2_0000), 0x1_0000, window),
        ];
        let ram = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
        let ram = GuestRam::new(Arc::new(ram), gpu.vram());
        let end = 1 << ADDRESS_BITS;
        for (at, bytes, found) in [
            (0xFFF0, 16, Some(16)),
            (0xFFF0, 32, Some(16)),
            (0x1_FFF0, 32, Some(16)),
            (0x2_0000, 16, None),
            (0x3_0000, 16, None),
            (end - 16, 32, None),
            (u64::MAX - 15, 16, None),
        ] {
            let mut lent = None;
            let mut body = |memory: VolatileSlice<'_>| {
                memory.copy_from(&[9_u8; 64]);
                lent = Some(memory.len());
            };
            let _ = ram.with_mapped(BusAddr(at), bytes, true, access(), &mut body);
            assert_eq!(lent, found, "{bytes} bytes at {at:#x}");
        }
        let mut buf = [0; 34];
        ram.read(BusAddr(0xFFEF), &mut buf, access()).unwrap();
        assert_eq!(
            (buf[0], &buf[1..17], &buf[17..]),
            (0, &[9; 16][..], &[0; 17][..])
        );
        // The window on VRAM is reached, only not so.
        ram.write(BusAddr(0x2_0000), &[7; 4], access()).unwrap();
        gpu.vram().read(VramOffset(0), &mut buf[..4]).unwrap();
        assert_eq!(buf[..4], [7; 4]);
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
        let ram = GuestRam::new(
            Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap()),
            gpu().vram(),
        );
        let mut buf = [0; 16];
        assert!(ram.read(BusAddr(at - 16), &mut buf, access()).is_ok());
        assert!(ram.read(BusAddr(at - 8), &mut buf, access()).is_err());
        assert!(ram.load_u32(BusAddr(at), access()).is_err());
        assert!(ram.write(BusAddr(u64::MAX), &buf, access()).is_err());
    }
}
