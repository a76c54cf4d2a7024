//! The machine's memory as the client lends it: ranges of bus addresses with
//! the files behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e3k_regs::BusAddr;
use e3k_regs::addr::ADDRESS_BITS;
use parking_lot::RwLock;
use presil_device::{BusError, DmaAccess, DmaMapping, SystemMemory, Vram};
use rustix::io::Errno;
use vm_memory::{Bytes, VolatileSlice};

use super::lent_files::{LentFiles, Place};
use super::page_by_page::PageByPage;
use super::wire::{DmaMap, DmaUnmap};
use crate::doors::lent::{Lent, LentMemory};
use crate::doors::system_memory::{FileKey, MEMORY_NOT_SHARED, NEVER_WRITTEN};
use crate::sigbus;

/// Most ranges at a time: 1 GiB of single pages, which a virtual IOMMU maps.
const MAX_RANGES: usize = 1 << 18;
/// What clients are told of it. QEMU 11.1 leaves a server that says more than the
/// protocol's default, and itself maps as many as there are.
pub(super) const ANNOUNCED_RANGES: usize = 65_535;
/// What a range begins and ends at.
const PAGE_BYTES: u64 = 4096;
/// Behind the last address that the GPU's bus can say.
const BUS_END: u64 = 1 << ADDRESS_BITS;

/// The ranges of one connection. An access holds the lock that a change of the
/// ranges waits for: once a range is taken away nothing touches it any more.
pub(super) struct Dma {
    table: RwLock<Table>,
    /// The GPU's own VRAM: the CPU's window on it is a range, too.
    vram: Option<FileKey>,
    used: AtomicBool,
    said: AtomicBool,
}

#[derive(Default)]
struct Table {
    /// By their first address; they do not overlap.
    ranges: BTreeMap<u64, Range>,
    files: LentFiles,
    pages: PageByPage,
    /// The function is a bus master.
    enabled: bool,
}

struct Range {
    /// Its last byte's address.
    last: u64,
    readable: bool,
    writable: bool,
    /// Without it the range is known, but out of reach.
    place: Option<Place>,
}

/// The last address of `bytes` bytes at `start`, which may be that of the address
/// space; `None` where it is beyond, or there are no bytes.
fn last_of(start: u64, bytes: u64) -> Option<u64> {
    start.checked_add(bytes.checked_sub(1)?)
}

impl Dma {
    /// No ranges, for a GPU with this VRAM.
    pub(super) fn new(vram: &Vram) -> Self {
        Self {
            table: RwLock::default(),
            vram: FileKey::of(vram.file()).ok(),
            used: AtomicBool::new(false),
            said: AtomicBool::new(false),
        }
    }

    /// Lets the function use memory, or not.
    pub(super) fn set_enabled(&self, enabled: bool) {
        self.table.write().enabled = enabled;
    }

    /// Nothing is reached any more.
    pub(super) fn clear(&self) {
        *self.table.write() = Table::default();
    }

    /// A new range, with the file that holds it.
    ///
    /// # Errors
    /// `EINVAL`: no pages, or not all of the file's; `EEXIST`: a part of it is
    /// mapped; `ENOSPC`: too many, or what [`LentFiles::place`] says.
    pub(super) fn map(&self, request: DmaMap, file: Option<LentMemory>) -> Result<(), Errno> {
        let DmaMap { address, bytes, .. } = request;
        let last = last_of(address, bytes).ok_or(Errno::INVAL)?;
        let aligned = (address | bytes | request.offset).is_multiple_of(PAGE_BYTES);
        if file.is_some() && !aligned {
            return Err(Errno::INVAL);
        }
        let mut table = self.table.write();
        if table.overlaps(address, last) {
            return Err(Errno::EXIST);
        }
        if table.ranges.len() >= MAX_RANGES {
            return Err(Errno::NOSPC);
        }
        // The address space of this process has an end, too.
        let file = file.filter(|_| last < BUS_END);
        let place = file
            .map(|file| table.files.place(&request, file))
            .transpose()?;
        let range = Range {
            last,
            readable: request.readable,
            writable: request.writable,
            place,
        };
        table.ranges.insert(address, range);
        table.pages.lent(address, last);
        Ok(())
    }

    /// The first and the last address that a request takes away; `None`: it is for none.
    ///
    /// # Errors
    /// `EINVAL`: it would cut a range in two, or ends beyond the address space.
    pub(super) fn taken_by(&self, request: DmaUnmap) -> Result<Option<(u64, u64)>, Errno> {
        self.table.read().taken_by(request)
    }

    /// Takes every range inside the request's away.
    ///
    /// # Errors
    /// As [`Self::taken_by`].
    pub(super) fn unmap(&self, request: DmaUnmap) -> Result<(), Errno> {
        let mut table = self.table.write();
        let Some((start, end)) = table.taken_by(request)? else {
            return Ok(());
        };
        while let Some((&first, &Range { last, .. })) = table.ranges.range(start..=end).next() {
            table.ranges.remove(&first);
            table.pages.taken(first, last);
        }
        Ok(())
    }

    /// Lets `body` use the memory at `at`, piece by piece: each with its place in
    /// the access. Ranges that follow each other may hold parts of it.
    fn access(
        &self,
        at: BusAddr,
        bytes: usize,
        write: bool,
        mut body: impl FnMut(usize, VolatileSlice<'_>) -> Option<()>,
    ) -> Result<(), BusError> {
        let table = self.table.read();
        if !table.reaches(at, bytes) {
            return Err(BusError);
        }
        if !self.used.swap(true, Ordering::Relaxed) && !table.files.have_content() {
            tracing::warn!("{NEVER_WRITTEN}");
        }
        let mut done = 0;
        while done < bytes {
            let address = at.0 + done as u64;
            let (first, range) = table.find(address).ok_or(BusError)?;
            let Some(slice) = range.slice(first, address, bytes - done, write) else {
                if range.place.is_none() && range.writable && range.readable {
                    self.say_not_shared();
                }
                return Err(BusError);
            };
            body(done, slice).ok_or(BusError)?;
            done += slice.len();
        }
        if sigbus::is_lost() {
            return Err(BusError);
        }
        Ok(())
    }

    /// Lets `body` use the first piece of the memory at `at`, if it may and if that
    /// is not VRAM.
    fn first_piece(
        &self,
        at: BusAddr,
        bytes: usize,
        write: bool,
        body: &mut dyn FnMut(VolatileSlice<'_>),
    ) -> Result<(), BusError> {
        let table = self.table.read();
        if table.reaches(at, bytes)
            && let Some((first, range)) = table.find(at.0)
            && range
                .place
                .as_ref()
                .is_some_and(|place| Some(place.file()) != self.vram)
            && let Some(slice) = range.slice(first, at.0, bytes, write)
        {
            body(slice);
        }
        if sigbus::is_lost() {
            return Err(BusError);
        }
        Ok(())
    }

    /// Where in the ranges the address `host` of this process is.
    pub(super) fn find(&self, host: usize) -> Option<Lent> {
        let table = self.table.read();
        table.ranges.iter().find_map(|(first, range)| {
            let place = range.place.as_ref()?;
            let offset = host.checked_sub(place.address()?)? as u64;
            (offset <= range.last - first).then(|| Lent {
                guest: first + offset,
                in_file: place.in_file() + offset,
            })
        })
    }

    fn say_not_shared(&self) {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::error!("{MEMORY_NOT_SHARED}");
        }
    }
}

impl Range {
    /// What is there from address `at` on, at most so many bytes, if it may be
    /// accessed so. `first` is its own first address.
    fn slice(&self, first: u64, at: u64, bytes: usize, write: bool) -> Option<VolatileSlice<'_>> {
        let allowed = if write { self.writable } else { self.readable };
        let place = self.place.as_ref().filter(|_| allowed)?;
        let here = usize::try_from(self.last - at).ok()?;
        place.slice(at - first, bytes.min(here.saturating_add(1)))
    }
}

impl Table {
    /// Whether the function may say these addresses.
    fn reaches(&self, at: BusAddr, bytes: usize) -> bool {
        let end = at.0.checked_add(bytes as u64);
        self.enabled && end.is_some_and(|end| end <= BUS_END)
    }

    /// As [`Dma::taken_by`].
    fn taken_by(&self, request: DmaUnmap) -> Result<Option<(u64, u64)>, Errno> {
        if request.is_all() {
            return Ok(Some((0, u64::MAX)));
        }
        if request.bytes == 0 {
            return Ok(None);
        }
        let start = request.address;
        let last = last_of(start, request.bytes).ok_or(Errno::INVAL)?;
        let cuts_first = self.find(start).is_some_and(|(first, _)| first != start);
        let cuts_last = self.find(last).is_some_and(|(_, range)| range.last != last);
        if cuts_first || cuts_last {
            return Err(Errno::INVAL);
        }
        Ok(Some((start, last)))
    }

    /// The range that contains `at`, with its first address.
    fn find(&self, at: u64) -> Option<(u64, &Range)> {
        let (first, range) = self.ranges.range(..=at).next_back()?;
        (at <= range.last).then_some((*first, range))
    }

    fn overlaps(&self, start: u64, last: u64) -> bool {
        self.find(start).is_some() || self.ranges.range(start..=last).next().is_some()
    }
}

/// [`Dma`] as the GPU holds it.
pub(super) struct Bus(pub(super) Arc<Dma>);

impl SystemMemory for Bus {
    fn bus_master(&self) -> bool {
        self.0.table.read().enabled
    }

    fn dma_mapping(&self, at: BusAddr) -> DmaMapping {
        let table = self.0.table.read();
        table.pages.says(table.find(at.0).is_some())
    }

    fn read(&self, at: BusAddr, buf: &mut [u8], _: DmaAccess) -> Result<(), BusError> {
        self.0.access(at, buf.len(), false, |done, memory| {
            let piece = buf.get_mut(done..done + memory.len())?;
            memory.read_slice(piece, 0).ok()
        })
    }

    fn write(&self, at: BusAddr, buf: &[u8], _: DmaAccess) -> Result<(), BusError> {
        self.0.access(at, buf.len(), true, |done, memory| {
            memory
                .write_slice(buf.get(done..done + memory.len())?, 0)
                .ok()
        })
    }

    fn with_mapped(
        &self,
        at: BusAddr,
        bytes: usize,
        write: bool,
        _: DmaAccess,
        body: &mut dyn FnMut(VolatileSlice<'_>),
    ) -> Result<(), BusError> {
        self.0.first_piece(at, bytes, write, body)
    }

    fn load_u32(&self, at: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        let mut value = 0;
        self.0.access(at, size_of::<u32>(), false, |_, memory| {
            value = memory.load(0, Ordering::Acquire).map(u32::from_le).ok()?;
            Some(())
        })?;
        Ok(value)
    }

    fn store_u64(&self, at: BusAddr, value: u64, _: DmaAccess) -> Result<(), BusError> {
        self.0.access(at, size_of::<u64>(), true, |_, memory| {
            memory.store(value.to_le(), 0, Ordering::Release).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use presil_device::{Chip, Config, FaultClient, Gpu, NoInterrupts, Snoop};
    use proptest::prelude::*;
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    const PAGES: u64 = 24;
    /// Room for what begins at the last of them.
    const BUS_PAGES: usize = 32;
    const ACCESS: DmaAccess = DmaAccess {
        client: FaultClient::RingFetch,
        snoop: Snoop::Snooped,
        non_secure: false,
    };

    /// Pages begin at this bus address.
    const START: u64 = 0x10_0000;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Map(u64, u64, u64, bool),
        Unmap(u64, u64),
        Read(u64, u64),
        Write(u64, u64, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let page = 0..PAGES;
        let few = 1..6_u64;
        prop_oneof![
            (page.clone(), few.clone(), page.clone(), any::<bool>())
                .prop_map(|(at, number, file, writable)| Step::Map(at, number, file, writable)),
            (page, few).prop_map(|(at, number)| Step::Unmap(at, number)),
            (0..PAGES * PAGE_BYTES, 1..20_000_u64).prop_map(|(at, bytes)| Step::Read(at, bytes)),
            (0..PAGES * PAGE_BYTES, 1..20_000_u64, any::<u8>())
                .prop_map(|(at, bytes, value)| Step::Write(at, bytes, value)),
        ]
    }

    /// One page of the bus as it must be: the range's first page, the page of the
    /// file, and whether it may be written.
    #[derive(Clone, Copy)]
    struct Page {
        range: u64,
        last: u64,
        file: u64,
        writable: bool,
    }

    fn gpu() -> Gpu {
        let config = Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true).unwrap();
        Gpu::new(&config, Box::new(NoInterrupts)).unwrap()
    }

    /// Writes as a copy to mapped memory does, piece by piece.
    fn write_pieces(bus: &Bus, at: BusAddr, data: &[u8]) -> Result<(), BusError> {
        let mut done = 0;
        while done < data.len() {
            let mut written = 0;
            let mut body = |memory: VolatileSlice<'_>| {
                memory.copy_from(&data[done..]);
                written = memory.len();
            };
            let rest = data.len() - done;
            bus.with_mapped(at.add(done as u64), rest, true, ACCESS, &mut body)?;
            if written == 0 {
                return Err(BusError);
            }
            done += written;
        }
        Ok(())
    }

    #[test]
    fn an_address_of_this_process_is_found_in_its_range_and_file() {
        let gpu = gpu();
        let dma = Arc::new(Dma::new(gpu.vram()));
        dma.set_enabled(true);
        let ram = File::from(memfd_create("ram", MemfdFlags::CLOEXEC).unwrap());
        ram.set_len(4 * PAGE_BYTES).unwrap();
        for (address, offset) in [(0, 3 * PAGE_BYTES), (START, 2 * PAGE_BYTES)] {
            let request = DmaMap {
                readable: true,
                writable: true,
                offset,
                address,
                bytes: PAGE_BYTES,
            };
            let file = LentMemory::new(ram.try_clone().unwrap().into()).unwrap();
            dma.map(request, Some(file)).unwrap();
        }
        for (guest, in_file) in [(0x10, 3 * PAGE_BYTES + 0x10), (START, 2 * PAGE_BYTES)] {
            let mut host = 0;
            let mut body = |memory: VolatileSlice<'_>| host = memory.ptr_guard().as_ptr().addr();
            dma.first_piece(BusAddr(guest), 4, true, &mut body).unwrap();
            assert_eq!(dma.find(host), Some(Lent { guest, in_file }));
        }
        assert_eq!(dma.find(0x1000), None);
    }

    #[test]
    fn the_window_on_vram_is_reached_but_never_used_as_memory_that_is_mapped() {
        let gpu = gpu();
        let dma = Arc::new(Dma::new(gpu.vram()));
        dma.set_enabled(true);
        let vram = gpu.vram().file();
        let ram = File::from(memfd_create("ram", MemfdFlags::CLOEXEC).unwrap());
        ram.set_len(PAGE_BYTES).unwrap();
        for (file, address) in [(vram, 0), (&ram, PAGE_BYTES)] {
            let request = DmaMap {
                readable: true,
                writable: true,
                offset: 0,
                address,
                bytes: PAGE_BYTES,
            };
            let file = LentMemory::new(file.try_clone().unwrap().into()).unwrap();
            dma.map(request, Some(file)).unwrap();
        }
        let bus = Bus(dma);
        let lent = [0, PAGE_BYTES].map(|at| {
            bus.write(BusAddr(at), &[1; 16], ACCESS).unwrap();
            let mut lent = 0;
            let mut body = |memory: VolatileSlice<'_>| lent = memory.len();
            bus.with_mapped(BusAddr(at), 16, false, ACCESS, &mut body)
                .unwrap();
            lent
        });
        assert_eq!(lent, [0, 16]);
    }

    proptest! {
        /// Random ranges, against a list of pages and the file's own bytes.
        #[test]
        fn ranges_are_what_a_list_of_pages_says(steps in prop::collection::vec(step(), 1..60)) {
            let gpu = gpu();
            let file = File::from(memfd_create("ram", MemfdFlags::CLOEXEC).unwrap());
            file.set_len(2 * PAGES * PAGE_BYTES).unwrap();
            let mut bytes: Vec<u8> = (0..2 * PAGES * PAGE_BYTES)
                .map(|at| (at / PAGE_BYTES * 37 + at % 251).to_le_bytes()[0])
                .collect();
            file.write_all_at(&bytes, 0).unwrap();
            let dma = Arc::new(Dma::new(gpu.vram()));
            dma.set_enabled(true);
            let bus = Bus(Arc::clone(&dma));
            let mut pages = [None::<Page>; BUS_PAGES];
            let index = |page: u64| usize::try_from(page).unwrap();
            for step in steps {
                match step {
                    Step::Map(at, number, from, writable) => {
                        let taken = (at..at + number).any(|page| pages[index(page)].is_some());
                        let request = DmaMap {
                            readable: true,
                            writable,
                            offset: from * PAGE_BYTES,
                            address: START + at * PAGE_BYTES,
                            bytes: number * PAGE_BYTES,
                        };
                        let done = dma.map(request, Some(LentMemory::new(file.try_clone().unwrap().into()).unwrap()));
                        prop_assert_eq!(done.is_err(), taken);
                        if !taken {
                            for page in at..at + number {
                                let file = from + page - at;
                                let last = at + number - 1;
                                pages[index(page)] = Some(Page { range: at, last, file, writable });
                            }
                        }
                    }
                    Step::Unmap(at, number) => {
                        let last = at + number - 1;
                        let cut = pages[index(at)].is_some_and(|page| page.range != at)
                            || pages[index(last)].is_some_and(|page| page.last != last);
                        let request = DmaUnmap {
                            argsz: 24,
                            flags: 0,
                            address: START + at * PAGE_BYTES,
                            bytes: number * PAGE_BYTES,
                        };
                        prop_assert_eq!(dma.unmap(request).is_err(), cut);
                        if !cut {
                            pages[index(at)..=index(last)].fill(None);
                        }
                    }
                    Step::Read(at, number) => {
                        let mut found = vec![0; index(number)];
                        let done = bus.read(BusAddr(START + at), &mut found, ACCESS);
                        let wanted: Option<Vec<u8>> = (at..at + number)
                            .map(|byte| {
                                let page = pages.get(index(byte / PAGE_BYTES)).copied().flatten()?;
                                Some(bytes[index(page.file * PAGE_BYTES + byte % PAGE_BYTES)])
                            })
                            .collect();
                        prop_assert_eq!(done.ok().map(|()| found), wanted);
                    }
                    Step::Write(at, number, value) => {
                        let data = vec![value; index(number)];
                        let to = BusAddr(START + at);
                        let done = if value % 2 == 0 {
                            bus.write(to, &data, ACCESS)
                        } else {
                            write_pieces(&bus, to, &data)
                        };
                        let mut whole = true;
                        for byte in at..at + number {
                            let page = pages.get(index(byte / PAGE_BYTES)).copied().flatten();
                            let Some(page) = page.filter(|page| page.writable) else {
                                whole = false;
                                break;
                            };
                            bytes[index(page.file * PAGE_BYTES + byte % PAGE_BYTES)] = value;
                        }
                        prop_assert_eq!(done.is_ok(), whole);
                        let mut held = vec![0; bytes.len()];
                        file.read_exact_at(&mut held, 0).unwrap();
                        prop_assert!(held == bytes, "and nothing else was written");
                    }
                }
            }
        }
    }
}
