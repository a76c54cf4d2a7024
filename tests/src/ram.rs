//! The machine's RAM: page frames full of garbage, handed out in no order.

use presil_device::{BusAddr, BusError, DmaAccess, Snoop, SystemMemory};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use vidmm::Caching;

const PAGE: usize = 4096;
const FRAMES: usize = 8192;
/// Half of the frames are low, half beyond 4 GiB, as in a real PC; between
/// them nobody answers.
const LOW_AT: u64 = 0x0100_0000;
const HIGH_AT: u64 = 0x12_0000_0000;
const HALF: usize = FRAMES / 2;

struct Frames {
    bytes: Vec<u8>,
    /// Frames nobody owns, in the order in which they go out.
    free: VecDeque<usize>,
    /// How the owner of a frame maps it.
    owned: BTreeMap<usize, Caching>,
    /// GPU accesses whose snoop attribute contradicts the CPU's caching, or
    /// that hit a frame without an owner.
    violations: Vec<String>,
}

/// RAM; clones are the same RAM.
#[derive(Clone)]
pub struct Ram(Arc<Mutex<Frames>>);

fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (x ^ x >> 27).wrapping_mul(0x81da_def4_bc2d_d44d)
}

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
            free: free.into(),
            owned: BTreeMap::new(),
            violations: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// `count` zeroed frames, or `None`.
    pub(crate) fn alloc(&self, count: usize, caching: Caching) -> Option<Vec<u64>> {
        let frames = self.take(count, caching, u64::MAX)?;
        for at in &frames {
            self.cpu_write(*at, &[0; PAGE]);
        }
        Some(frames)
    }

    /// `count` frames below `limit` with what they happen to hold, or `None`.
    pub(crate) fn take(&self, count: usize, caching: Caching, limit: u64) -> Option<Vec<u64>> {
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
            ram.owned.insert(*frame, caching);
        }
        Some(taken.into_iter().map(address).collect())
    }

    /// Takes frames back and fills them with garbage, so that a late access shows.
    pub(crate) fn free(&self, addresses: Vec<u64>) {
        let mut ram = self.lock();
        for frame in addresses.into_iter().filter_map(frame_at) {
            if ram.owned.remove(&frame).is_none() {
                ram.violations.push(format!("frame {frame} freed twice"));
                continue;
            }
            ram.bytes[frame * PAGE..][..PAGE].fill(0xEE);
            ram.free.push_front(frame);
        }
    }

    /// The owner of a frame maps it so from now on.
    pub(crate) fn set_caching(&self, at: u64, caching: Caching) {
        let mut ram = self.lock();
        if let Some(owned) = frame_at(at).and_then(|frame| ram.owned.get_mut(&frame)) {
            *owned = caching;
        }
    }

    /// Frames that are handed out.
    pub fn owned(&self) -> usize {
        self.lock().owned.len()
    }

    /// Everything wrong that was seen so far.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Forgets who owned what, as a reboot does. Contents stay.
    pub fn reboot(&self) {
        let mut ram = self.lock();
        let owned = std::mem::take(&mut ram.owned);
        ram.free.extend(owned.into_keys());
    }

    /// The CPU reads, inside one frame.
    pub(crate) fn cpu_read(&self, at: u64, buf: &mut [u8]) {
        if let Some(bytes) = self.lock().slice(at, buf.len()) {
            buf.copy_from_slice(bytes);
        }
    }

    /// The CPU writes, inside one frame.
    pub(crate) fn cpu_write(&self, at: u64, buf: &[u8]) {
        if let Some(bytes) = self.lock().slice(at, buf.len()) {
            bytes.copy_from_slice(buf);
        }
    }
}

impl Frames {
    fn slice(&mut self, at: u64, len: usize) -> Option<&mut [u8]> {
        let start = frame_at(at)? * PAGE + usize::try_from(at).ok()? % PAGE;
        self.bytes.get_mut(start..start.checked_add(len)?)
    }

    fn dma(&mut self, at: BusAddr, len: usize, access: DmaAccess) -> Result<&mut [u8], BusError> {
        let frame = frame_at(at.0).ok_or(BusError)?;
        let wanted = match access.snoop {
            Snoop::Snooped => Caching::Cached,
            Snoop::Unsnooped => Caching::WriteCombined,
        };
        let client = access.client.name();
        match self.owned.get(&frame) {
            Some(caching) if *caching == wanted => {}
            Some(caching) => self.violations.push(format!(
                "{client} at {at}: {:?}, but the page is {caching:?}",
                access.snoop
            )),
            None => self
                .violations
                .push(format!("{client} at {at}: the page is free")),
        }
        self.slice(at.0, len).ok_or(BusError)
    }
}

impl SystemMemory for Ram {
    fn read(&self, at: BusAddr, buf: &mut [u8], access: DmaAccess) -> Result<(), BusError> {
        buf.copy_from_slice(self.lock().dma(at, buf.len(), access)?);
        Ok(())
    }

    fn write(&self, at: BusAddr, buf: &[u8], access: DmaAccess) -> Result<(), BusError> {
        self.lock().dma(at, buf.len(), access)?.copy_from_slice(buf);
        Ok(())
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
