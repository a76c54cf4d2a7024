//! The machine's memory as the client lends it: ranges of bus addresses with
//! the files behind them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use e3k_regs::BusAddr;
use e3k_regs::addr::ADDRESS_BITS;
use parking_lot::RwLock;
use presil_device::{BusError, DmaAccess, SystemMemory};
use rustix::fs::OFlags;
use rustix::io::Errno;
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, FileOffset, VolatileMemory, VolatileSlice};

use super::wire::{DmaMap, DmaUnmap};
use crate::lent::is_held;
use crate::sigbus;
use crate::system_memory::MEMORY_NOT_SHARED;

/// Most ranges at a time.
pub(super) const MAX_RANGES: usize = 4096;
/// Most files behind them. Each keeps a descriptor open, of which a process has few.
const MAX_FILES: usize = 128;
/// What a range begins and ends at.
const PAGE_BYTES: u64 = 4096;
/// Behind the last address that the GPU's bus can say.
const BUS_END: u64 = 1 << ADDRESS_BITS;

/// The ranges of one connection. An access holds the lock that a change of the
/// ranges waits for: once a range is taken away nothing touches it any more.
#[derive(Default)]
pub(super) struct Dma {
    table: RwLock<Table>,
    said: AtomicBool,
}

#[derive(Default)]
struct Table {
    /// By their first address; they do not overlap.
    ranges: BTreeMap<u64, Range>,
    /// The files behind them, each opened once however often it comes.
    files: BTreeMap<FileId, Weak<File>>,
    /// The function is a bus master.
    enabled: bool,
}

/// Device, inode, and whether it was opened for writing.
type FileId = (u64, u64, bool);

struct Range {
    bytes: u64,
    readable: bool,
    writable: bool,
    /// Without it the range is known, but out of reach.
    mapping: Option<Mapping>,
}

/// The pages that hold a range.
struct Mapping {
    region: MmapRegion,
    /// Where in them it begins: ranges know nothing of huge pages.
    start: usize,
}

impl Range {
    /// Whether the guest's writes can be seen in its file: of RAM that QEMU has
    /// mapped privately the file comes all the same, and stays empty.
    fn is_shared(&self) -> bool {
        let file = self.mapping.as_ref().and_then(|it| it.region.file_offset());
        let data = file.and_then(|file| file.file().metadata().ok());
        data.is_some_and(|data| !data.is_file() || data.blocks() != 0)
    }
}

impl Dma {
    /// Lets the function use memory, or not.
    pub(super) fn set_enabled(&self, enabled: bool) {
        let mut table = self.table.write();
        table.enabled = enabled;
        if enabled && !table.ranges.values().any(Range::is_shared) {
            self.say_not_shared();
        }
    }

    /// Nothing is reached any more.
    pub(super) fn clear(&self) {
        *self.table.write() = Table::default();
    }

    /// A new range, with the file that holds it.
    ///
    /// # Errors
    /// `EINVAL`: no pages, or not all of the file's; `EEXIST`: a part of it is
    /// mapped; `ENOSPC`: too many, or from too many files; or what `mmap` says.
    pub(super) fn map(&self, request: DmaMap, fd: Option<OwnedFd>) -> Result<(), Errno> {
        let DmaMap { address, bytes, .. } = request;
        let end = address.checked_add(bytes).ok_or(Errno::INVAL)?;
        let aligned = (address | bytes | request.offset).is_multiple_of(PAGE_BYTES);
        if bytes == 0 || (fd.is_some() && !aligned) {
            return Err(Errno::INVAL);
        }
        let mut table = self.table.write();
        if table.overlaps(address, end) {
            return Err(Errno::EXIST);
        }
        if table.ranges.len() >= MAX_RANGES {
            return Err(Errno::NOSPC);
        }
        // The address space of this process has an end, too.
        let fd = fd.filter(|_| end <= BUS_END);
        let mapping = fd.map(|fd| table.mmap(&request, fd)).transpose()?;
        let range = Range {
            bytes,
            readable: request.readable,
            writable: request.writable,
            mapping,
        };
        table.ranges.insert(address, range);
        Ok(())
    }

    /// Takes every range inside the request's away.
    ///
    /// # Errors
    /// `EINVAL`: it would cut one in two, or ends beyond the address space.
    pub(super) fn unmap(&self, request: DmaUnmap) -> Result<(), Errno> {
        let mut table = self.table.write();
        if request.is_all() {
            table.ranges.clear();
            return Ok(());
        }
        let start = request.address;
        let end = start.checked_add(request.bytes).ok_or(Errno::INVAL)?;
        let cut = |at: u64| table.find(at).is_some_and(|(first, _)| first != at);
        if cut(start) || cut(end) {
            return Err(Errno::INVAL);
        }
        table
            .ranges
            .retain(|first, _| !(start..end).contains(first));
        Ok(())
    }

    fn say_not_shared(&self) {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::error!("{MEMORY_NOT_SHARED}");
        }
    }

    /// Lets `body` use `bytes` bytes at `at`, if there is memory for it.
    fn access<T>(
        &self,
        at: BusAddr,
        bytes: usize,
        write: bool,
        body: impl FnOnce(VolatileSlice<'_>) -> Option<T>,
    ) -> Result<T, BusError> {
        let length = u64::try_from(bytes).map_err(|_| BusError)?;
        let end = at.0.checked_add(length).ok_or(BusError)?;
        let table = self.table.read();
        if !table.enabled || end > BUS_END {
            return Err(BusError);
        }
        let (first, range) = table.find(at.0).ok_or(BusError)?;
        let allowed = if write {
            range.writable
        } else {
            range.readable
        };
        if !allowed {
            return Err(BusError);
        }
        let Some(mapping) = &range.mapping else {
            if range.writable && range.readable {
                self.say_not_shared();
            }
            return Err(BusError);
        };
        if end - first > range.bytes {
            return Err(BusError);
        }
        let offset = usize::try_from(at.0 - first).map_err(|_| BusError)? + mapping.start;
        let slice = mapping.region.get_slice(offset, bytes);
        let done = body(slice.map_err(|_| BusError)?).ok_or(BusError);
        if sigbus::is_lost() {
            return Err(BusError);
        }
        done
    }
}

impl Table {
    /// The range that contains `at`, with its first address.
    fn find(&self, at: u64) -> Option<(u64, &Range)> {
        let (first, range) = self.ranges.range(..=at).next_back()?;
        (at - first < range.bytes).then_some((*first, range))
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.find(start).is_some() || self.ranges.range(start..end).next().is_some()
    }

    fn mmap(&mut self, request: &DmaMap, fd: OwnedFd) -> Result<Mapping, Errno> {
        let file = self.open(File::from(fd))?;
        let mut protection = 0;
        if request.readable || request.writable {
            protection |= libc::PROT_READ;
        }
        if request.writable {
            protection |= libc::PROT_WRITE;
        }
        let held = is_held(&file, request.offset, request.bytes);
        if !held.map_err(|_| Errno::BADF)? {
            return Err(Errno::INVAL);
        }
        let page = page_bytes(&file)?;
        let start = request.offset % page;
        let size = (start + request.bytes).next_multiple_of(page);
        let [start, size] = [start, size].map(|bytes| usize::try_from(bytes).ok());
        let (start, size) = start.zip(size).ok_or(Errno::INVAL)?;
        let backing = FileOffset::from_arc(file, request.offset / page * page);
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let region = MmapRegion::build(Some(backing), size, protection, flags);
        let region = region.map_err(|error| match error {
            vm_memory::mmap::MmapRegionError::Mmap(error) => {
                Errno::from_io_error(&error).unwrap_or(Errno::NOMEM)
            }
            _ => Errno::INVAL,
        })?;
        Ok(Mapping { region, start })
    }

    /// The file, or the same one that is open already.
    fn open(&mut self, file: File) -> Result<Arc<File>, Errno> {
        let data = file.metadata().map_err(|_| Errno::BADF)?;
        let mode = rustix::fs::fcntl_getfl(&file)? & OFlags::ACCMODE;
        let id = (data.dev(), data.ino(), mode == OFlags::RDWR);
        self.files.retain(|_, file| file.strong_count() != 0);
        if let Some(known) = self.files.get(&id).and_then(Weak::upgrade) {
            return Ok(known);
        }
        if self.files.len() >= MAX_FILES {
            return Err(Errno::NOSPC);
        }
        let file = Arc::new(file);
        self.files.insert(id, Arc::downgrade(&file));
        Ok(file)
    }
}

/// What a mapping of it begins and ends at: of a file of huge pages, theirs.
fn page_bytes(file: &File) -> Result<u64, Errno> {
    let system = rustix::fs::fstatfs(file)?;
    let is_huge = system.f_type == libc::HUGETLBFS_MAGIC;
    let bytes = u64::try_from(system.f_bsize).ok().filter(|_| is_huge);
    Ok(bytes.unwrap_or(PAGE_BYTES).max(PAGE_BYTES))
}

/// [`Dma`] as the GPU holds it.
pub(super) struct Bus(pub(super) Arc<Dma>);

impl SystemMemory for Bus {
    fn read(&self, at: BusAddr, buf: &mut [u8], _: DmaAccess) -> Result<(), BusError> {
        self.0.access(at, buf.len(), false, |memory| {
            memory.read_slice(buf, 0).ok()
        })
    }

    fn write(&self, at: BusAddr, buf: &[u8], _: DmaAccess) -> Result<(), BusError> {
        self.0.access(at, buf.len(), true, |memory| {
            memory.write_slice(buf, 0).ok()
        })
    }

    fn load_u32(&self, at: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        self.0.access(at, size_of::<u32>(), false, |memory| {
            memory.load(0, Ordering::Acquire).map(u32::from_le).ok()
        })
    }

    fn store_u64(&self, at: BusAddr, value: u64, _: DmaAccess) -> Result<(), BusError> {
        self.0.access(at, size_of::<u64>(), true, |memory| {
            memory.store(value.to_le(), 0, Ordering::Release).ok()
        })
    }
}
