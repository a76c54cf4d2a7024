//! Local memory: a sealed, sparse memfd, so that a door can map its beginning
//! into the guest. Both sides use it at once; every access here is volatile
//! or atomic.

use super::system::BusError;
use crate::index::index;
use e3k_regs::VramOffset;
use presil_fill::{expect, fill};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, FileOffset, VolatileMemory, VolatileSlice};

/// Local memory.
#[derive(Debug)]
pub struct Vram {
    region: MmapRegion,
    visible_bytes: u64,
    file: File,
    /// What it was filled with at power-on.
    seed: Option<u64>,
}

impl Vram {
    /// `bytes` of memory that nothing has touched, zeros that take no space;
    /// with a seed, [`Vram::pattern`] everywhere.
    pub(crate) fn new(bytes: u64, visible_bytes: u64, seed: Option<u64>) -> io::Result<Self> {
        let fd = memfd_create(
            "presil-vram",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        ftruncate(&fd, bytes)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let file = File::from(fd);
        let region = MmapRegion::from_file(FileOffset::new(file.try_clone()?, 0), index(bytes))
            .map_err(io::Error::other)?;
        let vram = Self {
            region,
            visible_bytes,
            file,
            seed,
        };
        if let Some(seed) = seed {
            vram.fill_with_pattern(seed)?;
        }
        Ok(vram)
    }

    /// The memfd behind it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// All of it, in bytes.
    pub fn bytes(&self) -> u64 {
        self.region.size() as u64
    }

    /// The part the CPU sees, in bytes from offset 0.
    pub fn visible_bytes(&self) -> u64 {
        self.visible_bytes
    }

    /// The 64-bit word at byte `offset` (a multiple of 8) of VRAM that was
    /// seeded with `seed`: a bit mixer, so that no two words are alike.
    pub const fn pattern(seed: u64, offset: u64) -> u64 {
        let mut x = seed ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^ x >> 32
    }

    /// Whether the aligned 8 bytes around `at` still are what VRAM was seeded with: then
    /// nobody has written any of them since power-on, or only the same. `None`: without a
    /// seed, as also in a GPU that was restored, and beyond the end.
    pub fn is_untouched(&self, at: VramOffset) -> Option<bool> {
        let seed = self.seed?;
        let word = at.0 & !7;
        let mut bytes = [0; 8];
        self.read(VramOffset(word), &mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes) == Self::pattern(seed, word))
    }

    /// Reads; the range must lie in VRAM.
    pub fn read(&self, at: VramOffset, buf: &mut [u8]) -> Result<(), BusError> {
        let slice = self.region.as_volatile_slice();
        slice.read_slice(buf, index(at.0)).map_err(|_| BusError)
    }

    /// A range, which must lie in VRAM.
    pub(super) fn slice(
        &self,
        at: VramOffset,
        bytes: usize,
    ) -> Result<VolatileSlice<'_>, BusError> {
        let slice = self.region.get_slice(index(at.0), bytes);
        slice.map_err(|_| BusError)
    }

    /// Writes; the range must lie in VRAM.
    pub fn write(&self, at: VramOffset, buf: &[u8]) -> Result<(), BusError> {
        let slice = self.region.as_volatile_slice();
        slice.write_slice(buf, index(at.0)).map_err(|_| BusError)
    }

    /// Copies; both ranges must lie in VRAM. Where they overlap, it is as if all
    /// were read before it is written.
    pub(crate) fn copy(
        &self,
        from: VramOffset,
        to: VramOffset,
        bytes: usize,
    ) -> Result<(), BusError> {
        let to = self.slice(to, bytes)?;
        self.slice(from, bytes)?.copy_to_volatile_slice(to);
        Ok(())
    }

    /// Fills, as [`fill`]; the range must lie in VRAM.
    pub(crate) fn fill(
        &self,
        at: VramOffset,
        bytes: usize,
        colour: &[u8],
        all: u64,
    ) -> Result<(), BusError> {
        fill(&self.slice(at, bytes)?, colour, all);
        Ok(())
    }

    /// Says what is moved next, which may make it faster and has no other effect.
    pub(crate) fn expect(&self, from: Option<VramOffset>, to: VramOffset) {
        let first = |at| self.slice(at, 1).ok();
        if let Some(to) = first(to) {
            expect(from.and_then(first).as_ref(), &to);
        }
    }

    /// One aligned atomic load.
    #[inline]
    pub fn load_u32(&self, at: VramOffset) -> Result<u32, BusError> {
        let word = self
            .region
            .get_atomic_ref::<AtomicU32>(index(at.0))
            .map_err(|_| BusError)?;
        Ok(u32::from_le(word.load(Ordering::Acquire)))
    }

    /// Aligned atomic loads, one for each entry; the range must lie in VRAM.
    #[inline]
    pub(crate) fn load_entries<const N: usize>(
        &self,
        at: VramOffset,
        entries: &mut [u32; N],
    ) -> Result<(), BusError> {
        let words = self
            .region
            .get_slice(index(at.0), N * size_of::<u32>())
            .map_err(|_| BusError)?;
        for (n, entry) in entries.iter_mut().enumerate() {
            let word = words
                .get_atomic_ref::<AtomicU32>(n * size_of::<u32>())
                .map_err(|_| BusError)?;
            *entry = u32::from_le(word.load(Ordering::Relaxed));
        }
        // The entries were loaded before anything that they lead to.
        fence(Ordering::Acquire);
        Ok(())
    }

    /// One aligned atomic store.
    pub fn store_u32(&self, at: VramOffset, value: u32) -> Result<(), BusError> {
        let word = self
            .region
            .get_atomic_ref::<AtomicU32>(index(at.0))
            .map_err(|_| BusError)?;
        word.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    /// One aligned atomic store.
    pub fn store_u64(&self, at: VramOffset, value: u64) -> Result<(), BusError> {
        let word = self
            .region
            .get_atomic_ref::<AtomicU64>(index(at.0))
            .map_err(|_| BusError)?;
        word.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    fn fill_with_pattern(&self, seed: u64) -> io::Result<()> {
        let mut chunk = vec![0_u8; 1 << 20];
        for start in (0..self.bytes()).step_by(chunk.len()) {
            for (word, at) in chunk.chunks_exact_mut(8).zip((start..).step_by(8)) {
                word.copy_from_slice(&Self::pattern(seed, at).to_le_bytes());
            }
            self.write(VramOffset(start), &chunk)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_cannot_be_resized_under_a_guest() {
        let vram = Vram::new(1 << 20, 1 << 20, None).unwrap();
        assert!(vram.file().set_len(1 << 21).is_err());
        assert!(vram.file().set_len(1 << 19).is_err());
    }

    #[test]
    fn accesses_beyond_the_end_are_errors() {
        let vram = Vram::new(1 << 20, 1 << 20, None).unwrap();
        let end = 1 << 20;
        assert!(vram.read(VramOffset(end - 4), &mut [0; 4]).is_ok());
        assert!(vram.read(VramOffset(end - 3), &mut [0; 4]).is_err());
        assert!(vram.write(VramOffset(u64::MAX), &[0; 4]).is_err());
        assert!(vram.load_u32(VramOffset(end)).is_err());
        assert!(vram.load_u32(VramOffset(2)).is_err(), "misaligned");
        assert!(vram.store_u64(VramOffset(end - 4), 0).is_err());
    }

    #[test]
    fn what_was_written_is_told_from_the_pattern_by_words() {
        let vram = Vram::new(1 << 20, 1 << 20, Some(7)).unwrap();
        vram.write(VramOffset(17), &[!Vram::pattern(7, 16).to_le_bytes()[1]])
            .unwrap();
        let untouched = [8, 15, 16, 23, 24].map(|at| vram.is_untouched(VramOffset(at)));
        assert_eq!(untouched, [true, true, false, false, true].map(Some));
        assert_eq!(vram.is_untouched(VramOffset(1 << 20)), None);
        let zeros = Vram::new(1 << 20, 1 << 20, None).unwrap();
        assert_eq!(zeros.is_untouched(VramOffset(0)), None);
    }

    #[test]
    fn a_seed_fills_every_word_with_its_pattern() {
        let vram = Vram::new(2 << 20, 1 << 20, Some(7)).unwrap();
        for at in [0, 8, (1 << 20) - 8, 1 << 20, (2 << 20) - 8] {
            let mut word = [0; 8];
            vram.read(VramOffset(at), &mut word).unwrap();
            assert_eq!(u64::from_le_bytes(word), Vram::pattern(7, at));
        }
    }
}
