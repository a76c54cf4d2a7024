//! The machine's RAM: page frames full of garbage, handed out in no order, behind a CPU
//! whose caches do what a driver must not count on. Lines are written back, dropped and
//! fetched at moments that nobody expects; who had a frame before has left dirty lines;
//! a store through a write-combined mapping waits for a barrier. The GPU's snooped
//! accesses look into the caches, its unsnooped ones do not.

#[cfg(test)]
mod tests;

use crate::cpu::{Caches, Lines, PAGE, Random, WriteBuffer, lines_of, mix};
use presil_device::checker::{CacheLines, Follows, OldLoad};
use presil_device::{BusAddr, BusError, DmaAccess, DmaMapping, Snoop, SystemMemory};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use vidmm::Caching;

const FRAMES: usize = 8192;
/// Half of the frames are low, half beyond 4 GiB, as in a real PC; between
/// them nobody answers.
const LOW_AT: u64 = 0x0100_0000;
const HIGH_AT: u64 = 0x12_0000_0000;
const HALF: usize = FRAMES / 2;
/// Of the frames that were used last, the caches do something unexpected to one.
const RECENT: usize = 16;
/// Once in so many accesses.
const RARELY: u64 = 4;
/// The first of many complaints are enough.
const COMPLAINTS: usize = 100;

struct Frames {
    bytes: Vec<u8>,
    caches: Caches,
    buffer: WriteBuffer,
    /// Frames nobody owns, in the order in which they go out.
    free: VecDeque<usize>,
    /// How the owner of a frame maps it. Who owns none is the kernel, which maps all
    /// others cached.
    owned: BTreeMap<usize, Caching>,
    recent: [usize; RECENT],
    random: Random,
    violations: Vec<String>,
    /// The CPU's loads of lines that were stale, for who follows them.
    stale_loads: VecDeque<OldLoad>,
    /// Whether lines stay in the caches when a page's caching mode changes.
    lines_stay: bool,
}

/// RAM; clones are the same RAM.
#[derive(Clone)]
pub struct Ram(Arc<Mutex<Frames>>);

fn address(frame: usize) -> u64 {
    let (base, frame) = if frame < HALF {
        (LOW_AT, frame)
    } else {
        (HIGH_AT, frame - HALF)
    };
    base + (frame * PAGE) as u64
}

fn frame_at(at: u64) -> Option<usize> {
    let inside = |base: u64| {
        let frame = usize::try_from(at.checked_sub(base)? / PAGE as u64).ok()?;
        (frame < HALF).then_some(frame)
    };
    inside(LOW_AT).or_else(|| inside(HIGH_AT).map(|frame| frame + HALF))
}

/// The frame of an address, and the byte in it.
fn place(at: u64) -> Option<(usize, usize)> {
    Some((frame_at(at)?, usize::try_from(at % PAGE as u64).ok()?))
}

impl Default for Ram {
    fn default() -> Self {
        Self::new()
    }
}

impl Ram {
    /// Garbage in every byte, frames shuffled.
    pub fn new() -> Self {
        // Each frame holds another piece of the same noise.
        let words = (0..PAGE as u64 / 4).flat_map(|n| mix(n + 1).to_le_bytes());
        let noise: Vec<u8> = words.collect();
        let mut bytes = Vec::with_capacity(FRAMES * PAGE);
        for frame in 0..FRAMES {
            bytes.extend_from_slice(&noise[frame % PAGE..][..PAGE]);
        }
        let mut free: Vec<usize> = (0..FRAMES).collect();
        free.sort_by_key(|frame| mix(*frame as u64 + 77));
        Self(Arc::new(Mutex::new(Frames {
            bytes,
            caches: Caches::new(FRAMES),
            buffer: WriteBuffer::new(),
            free: free.into(),
            owned: BTreeMap::new(),
            recent: [0; RECENT],
            random: Random(0),
            violations: Vec::new(),
            stale_loads: VecDeque::new(),
            lines_stay: false,
        })))
    }

    /// Another schedule of what the caches do by themselves.
    pub fn shuffle(&self, seed: u64) {
        self.lock().random = Random(seed);
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// `count` zeroed frames that are mapped so, or `None`.
    pub(crate) fn alloc(&self, count: usize, caching: Caching) -> Option<Vec<u64>> {
        let frames = self.take(count, u64::MAX)?;
        for at in &frames {
            self.cpu_write(*at, &[0; PAGE]);
            self.set_caching(*at, caching);
        }
        Some(frames)
    }

    /// `count` frames below `limit`, mapped cached, with what they happen to hold, or
    /// `None`.
    pub(crate) fn take(&self, count: usize, limit: u64) -> Option<Vec<u64>> {
        let mut ram = self.lock();
        let (mut taken, mut high) = (Vec::new(), Vec::new());
        while taken.len() < count {
            match ram.free.pop_back() {
                Some(frame) if address(frame) < limit => taken.push(frame),
                Some(frame) => high.push(frame),
                None => break,
            }
        }
        let short = taken.len() < count;
        let back = if short {
            std::mem::take(&mut taken)
        } else {
            Vec::new()
        };
        ram.free.extend(high.into_iter().rev().chain(back));
        if short {
            return None;
        }
        for frame in &taken {
            ram.owned.insert(*frame, Caching::Cached);
            ram.caches.leave_dirty(*frame, 0xDD);
            ram.used(*frame);
        }
        Some(taken.into_iter().map(address).collect())
    }

    /// Takes frames back, which are mapped cached, and fills them with garbage, so that
    /// a late access shows.
    pub(crate) fn free(&self, addresses: Vec<u64>) {
        let mut ram = self.lock();
        for frame in addresses.into_iter().filter_map(frame_at) {
            match ram.owned.remove(&frame) {
                Some(Caching::Cached) => {}
                Some(mapped) => ram.complain(format!(
                    "frame {frame} is given back {mapped:?}: others map it cached"
                )),
                None => {
                    ram.complain(format!("frame {frame} freed twice"));
                    continue;
                }
            }
            ram.bytes[frame * PAGE..][..PAGE].fill(0xEE);
            ram.caches.invalidate(frame, u64::MAX);
            ram.free.push_front(frame);
        }
    }

    /// The owner of a frame, and the kernel, map it so from now on: what was stored
    /// through the old mapping is in memory, and no line is held.
    pub(crate) fn set_caching(&self, at: u64, caching: Caching) {
        if !self.lock().lines_stay {
            self.flush(at);
            self.invalidate(at);
        }
        let mut ram = self.lock();
        if let Some(owned) = frame_at(at).and_then(|frame| ram.owned.get_mut(&frame)) {
            *owned = caching;
        }
    }

    /// From now on nobody flushes when a page's caching mode changes.
    pub fn forget_to_flush(&self) {
        self.lock().lines_stay = true;
    }

    /// Writes all to memory that was stored to a frame.
    pub fn flush(&self, at: u64) {
        let mut ram = self.lock();
        ram.drain();
        if let Some(frame) = frame_at(at) {
            ram.write_back(frame, u64::MAX);
        }
    }

    /// Drops the lines of a frame, written back or not.
    pub fn invalidate(&self, at: u64) {
        if let Some(frame) = frame_at(at) {
            self.lock().caches.invalidate(frame, u64::MAX);
        }
    }

    /// Stores through write-combined mappings reach memory.
    pub(crate) fn barrier(&self) {
        self.lock().drain();
    }

    /// A write-combined store of another CPU arrives in memory.
    pub(crate) fn arrive(&self, at: u64, data: &[u8]) {
        let mut ram = self.lock();
        if frame_at(at).is_none_or(|frame| !ram.owned.contains_key(&frame)) {
            ram.complain(format!(
                "a program has stored at {at:#x}: the page is free, and was still mapped"
            ));
        }
        to_memory(&mut ram.bytes)(at, data);
    }

    /// What the CPU's caches hold of a frame.
    pub fn lines(&self, at: u64) -> Option<Lines> {
        Some(self.lock().caches.lines(frame_at(at)?))
    }

    /// Frames that are handed out.
    pub fn owned(&self) -> usize {
        self.lock().owned.len()
    }

    /// Everything wrong that was seen so far: accesses of the GPU whose snoop attribute
    /// contradicts the CPU's caching, or that hit a frame without an owner; data that
    /// the GPU or the CPU did not see because nobody had flushed or invalidated lines;
    /// and what `complain` was told.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Adds a violation.
    pub(crate) fn complain(&self, violation: String) {
        self.lock().complain(violation);
    }

    /// Forgets who owned what, as a reboot does. Contents stay.
    pub fn reboot(&self) {
        let mut ram = self.lock();
        let owned = std::mem::take(&mut ram.owned);
        ram.drain();
        for frame in owned.into_keys() {
            ram.write_back(frame, u64::MAX);
            ram.free.push_back(frame);
        }
    }

    /// The CPU reads, inside one frame.
    pub(crate) fn cpu_read(&self, at: u64, buf: &mut [u8]) {
        self.lock().load(at, buf);
    }

    /// The CPU writes, inside one frame.
    pub(crate) fn cpu_write(&self, at: u64, buf: &[u8]) {
        self.lock().store(at, buf);
    }
}

/// The memory of a frame.
fn memory(bytes: &mut [u8], frame: usize) -> &mut [u8] {
    &mut bytes[frame * PAGE..][..PAGE]
}

/// How write-combined stores get there.
fn to_memory(bytes: &mut [u8]) -> impl FnMut(u64, &[u8]) + '_ {
    |at, data| {
        if let Some((frame, at)) = place(at) {
            memory(bytes, frame)[at..][..data.len()].copy_from_slice(data);
        }
    }
}

impl Frames {
    fn complain(&mut self, violation: String) {
        if self.violations.len() < COMPLAINTS {
            self.violations.push(violation);
        }
    }

    fn drain(&mut self) {
        self.buffer.drain(to_memory(&mut self.bytes));
    }

    fn mapped(&self, frame: usize) -> Caching {
        let owned = self.owned.get(&frame);
        owned.copied().unwrap_or(Caching::Cached)
    }

    fn load(&mut self, at: u64, buf: &mut [u8]) {
        let Some((frame, within)) = place(at).filter(|place| place.1 + buf.len() <= PAGE) else {
            return;
        };
        let mapped = self.mapped(frame);
        let memory = memory(&mut self.bytes, frame);
        if mapped == Caching::WriteCombined {
            buf.copy_from_slice(&memory[within..][..buf.len()]);
            self.buffer.load(at, buf);
        } else {
            let stale = self.caches.load(frame, within, buf, memory);
            if stale != 0 {
                self.complain(format!(
                    "the CPU reads at {at:#x} what its caches held before the GPU wrote there \
                     unsnooped: invalidate first"
                ));
                if self.stale_loads.len() < COMPLAINTS {
                    let (at, bytes) = (BusAddr(at), buf.len() as u64);
                    self.stale_loads.push_back(OldLoad { at, bytes });
                }
            }
            self.used(frame);
        }
        self.noise();
    }

    fn store(&mut self, at: u64, buf: &[u8]) {
        let Some((frame, within)) = place(at).filter(|place| place.1 + buf.len() <= PAGE) else {
            return;
        };
        if self.mapped(frame) == Caching::WriteCombined {
            self.buffer.store(at, buf, to_memory(&mut self.bytes));
        } else {
            let memory = memory(&mut self.bytes, frame);
            self.caches.store(frame, within, buf, memory);
            self.used(frame);
        }
        self.noise();
    }

    fn write_back(&mut self, frame: usize, lines: u64) {
        let memory = memory(&mut self.bytes, frame);
        if self.caches.write_back(frame, lines, memory) != 0 {
            let at = address(frame);
            self.complain(format!(
                "dirty lines of the page at {at:#x} go to memory over what the GPU wrote \
                 there unsnooped: flush before it writes"
            ));
        }
    }

    fn used(&mut self, frame: usize) {
        let n = self.random.below(RECENT);
        self.recent[n] = frame;
    }

    /// Now and then the caches do what nobody has asked them for.
    fn noise(&mut self) {
        let random = self.random.next();
        if !random.is_multiple_of(RARELY) {
            return;
        }
        let lines = random.rotate_left(32) | self.random.next();
        let frame = self.recent[self.random.below(RECENT)];
        match random / RARELY % 4 {
            0 => self.write_back(frame, lines),
            1 => {
                self.write_back(frame, lines);
                self.caches.invalidate(frame, lines);
            }
            2 if self.mapped(frame) == Caching::Cached => {
                let memory = memory(&mut self.bytes, frame);
                self.caches.fetch(frame, lines, memory);
            }
            2 => {}
            _ => self.buffer.drain_one(random, to_memory(&mut self.bytes)),
        }
    }

    /// The GPU accesses: `access` is called for the piece in each frame, with its memory
    /// and the place in `0..len`.
    fn dma(
        &mut self,
        at: BusAddr,
        len: usize,
        access: DmaAccess,
        write: bool,
        mut transfer: impl FnMut(&mut [u8], usize),
    ) -> Result<(), BusError> {
        let mut done = 0;
        while done < len {
            let at = at.add(done as u64);
            let (frame, within) = place(at.0).ok_or(BusError)?;
            let piece = (len - done).min(PAGE - within);
            self.judge(at, frame, access);
            self.meet(at, frame, lines_of(within, piece), access, write);
            transfer(&mut memory(&mut self.bytes, frame)[within..][..piece], done);
            done += piece;
        }
        self.noise();
        Ok(())
    }

    /// What the caches hold of these lines meets an access of the GPU.
    fn meet(&mut self, at: BusAddr, frame: usize, lines: u64, access: DmaAccess, write: bool) {
        let held = self.caches.lines(frame);
        if held.held & lines == 0 {
            return;
        }
        match (access.snoop, write) {
            (Snoop::Snooped, false) => self.write_back(frame, lines),
            (Snoop::Snooped, true) => {
                self.write_back(frame, lines);
                self.caches.invalidate(frame, lines);
            }
            (Snoop::Unsnooped, true) => self.caches.written_under(frame, lines),
            (Snoop::Unsnooped, false) if held.dirty & lines != 0 => self.complain(format!(
                "{} reads at {at} unsnooped what only the CPU's caches have: flush first",
                access.client.name()
            )),
            (Snoop::Unsnooped, false) => {}
        }
    }

    /// Whether the GPU may access a frame so.
    fn judge(&mut self, at: BusAddr, frame: usize, access: DmaAccess) {
        let wanted = match access.snoop {
            Snoop::Snooped => Caching::Cached,
            Snoop::Unsnooped => Caching::WriteCombined,
        };
        let client = access.client.name();
        match self.owned.get(&frame) {
            Some(caching) if *caching == wanted => {}
            Some(caching) => self.complain(format!(
                "{client} at {at}: {:?}, but the page is {caching:?}",
                access.snoop
            )),
            None => self.complain(format!("{client} at {at}: the page is free")),
        }
    }
}

impl SystemMemory for Ram {
    /// As an IOMMU would have it: who owns a frame has mapped it.
    fn dma_mapping(&self, at: BusAddr) -> DmaMapping {
        let owned = frame_at(at.0).is_some_and(|frame| self.lock().owned.contains_key(&frame));
        if owned {
            DmaMapping::Mapped
        } else {
            DmaMapping::Unmapped
        }
    }

    fn read(&self, at: BusAddr, buf: &mut [u8], access: DmaAccess) -> Result<(), BusError> {
        let len = buf.len();
        self.lock().dma(at, len, access, false, |memory, done| {
            buf[done..][..memory.len()].copy_from_slice(memory);
        })
    }

    fn write(&self, at: BusAddr, buf: &[u8], access: DmaAccess) -> Result<(), BusError> {
        self.lock()
            .dma(at, buf.len(), access, true, |memory, done| {
                memory.copy_from_slice(&buf[done..][..memory.len()]);
            })
    }

    fn load_u32(&self, at: BusAddr, access: DmaAccess) -> Result<u32, BusError> {
        let mut word = [0; 4];
        self.read(at, &mut word, access)?;
        Ok(u32::from_le_bytes(word))
    }

    fn store_u64(&self, at: BusAddr, value: u64, access: DmaAccess) -> Result<(), BusError> {
        self.write(at, &value.to_le_bytes(), access)
    }
}

/// For the driver checker. Bytes that are dirty and equal what memory has are not: nobody
/// can tell.
impl CacheLines for Ram {
    fn follows(&self) -> Follows {
        Follows::StoresAndLoads
    }

    fn dirty(&self, line: BusAddr) -> u64 {
        let ram = self.lock();
        place(line.0).map_or(0, |(frame, at)| ram.caches.ahead(frame, at, &ram.bytes))
    }

    /// Every frame has one mapping.
    fn mixed(&self, _: BusAddr) -> bool {
        false
    }

    /// The access itself tells.
    fn written(&mut self, _: BusAddr, _: u64, _: Snoop) {}

    fn next_load(&mut self) -> Option<OldLoad> {
        self.lock().stale_loads.pop_front()
    }
}
