//! What the CPUs' caches of a guest hold, as a plugin of QEMU's keeps it in a file
//! (`backend/cache-plugin/layout.h` says how).
//!
//! The plugin is in QEMU's process, which the guest may have taken over: what it writes is
//! a claim about that guest, is only ever read word by word, and leads to no address.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use presil_device::checker::{CacheLines, Follows, LINE_BYTES, OldLoad};
use presil_device::{BusAddr, Snoop};
use vm_memory::mmap::MmapRegion;
use vm_memory::{FileOffset, VolatileMemory};

const MAGIC: u64 = 0x3153_4548_4341_4350;
const HEADER_MAGIC: u64 = 0;
const HEADER_LINES: u64 = 8;
const HEADER_ATTACHED: u64 = 16;
const HEADER_LOADS: u64 = 24;
const LOADS: u64 = 4096;
const LOAD_SLOTS: u64 = 4096;
const LINES: u64 = 69632;
const LINE_HELD: u8 = 1;
const LINE_MIXED: u8 = 2;

/// Bytes of a slot, and of a line's masks.
const RECORD: u64 = 16;
const PAGE_BYTES: u64 = 4096;

/// The file, for all GPUs of one QEMU.
#[derive(Debug)]
pub struct CacheFile {
    region: MmapRegion,
    lines: u64,
}

impl CacheFile {
    /// Makes it, for a q35 machine with `ram` bytes of memory. It takes as much of the disk
    /// as the guest touches of its memory, a quarter of that.
    ///
    /// # Errors
    /// The file cannot be made or mapped.
    pub fn create(path: &Path, ram: u64) -> io::Result<Self> {
        let lines = end_of_ram(ram).div_ceil(LINE_BYTES);
        let bytes = LINES + lines * (RECORD + 1);
        let size = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options.mode(0o600).open(path)?;
        file.set_len(bytes)?;
        let region =
            MmapRegion::from_file(FileOffset::new(file, 0), size).map_err(io::Error::other)?;
        let made = Self { region, lines };
        made.store(HEADER_LINES, lines);
        made.store(HEADER_MAGIC, MAGIC);
        Ok(made)
    }

    /// What one GPU's checker looks through.
    pub(crate) fn follower(self: &Arc<Self>) -> Follower {
        Follower {
            file: Arc::clone(self),
            next: 0,
        }
    }

    /// A word, or nothing beyond the file.
    fn word(&self, at: u64) -> Option<&AtomicU64> {
        self.region.get_atomic_ref(usize::try_from(at).ok()?).ok()
    }

    fn load(&self, at: u64) -> u64 {
        let word = self.word(at);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, at: u64, value: u64) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Release);
        }
    }

    /// The number of an address's line, if that is in RAM.
    fn line(&self, at: BusAddr) -> Option<u64> {
        let line = at.0 / LINE_BYTES;
        (line < self.lines).then_some(line)
    }

    /// What the plugin says of lines that follow each other, LINE_ bits.
    fn state(&self, line: u64) -> Option<&AtomicU8> {
        let at = LINES + self.lines * RECORD + line;
        self.region.get_atomic_ref(usize::try_from(at).ok()?).ok()
    }

    fn state_of(&self, line: u64) -> u8 {
        let state = self.state(line);
        state.map_or(0, |state| state.load(Ordering::Acquire))
    }
}

/// Where RAM ends in a q35 machine of QEMU's, which has a hole below 4 GiB.
fn end_of_ram(bytes: u64) -> u64 {
    const LOW: u64 = 2 << 30;
    if bytes < 0xB000_0000 {
        bytes
    } else {
        (4 << 30) + (bytes - LOW)
    }
}

/// One GPU's view of the file.
pub(crate) struct Follower {
    file: Arc<CacheFile>,
    /// The number of the load that is told next.
    next: u64,
}

impl CacheLines for Follower {
    fn follows(&self) -> Follows {
        match self.file.load(HEADER_ATTACHED) {
            1 => Follows::Stores,
            2 => Follows::StoresAndLoads,
            _ => Follows::Nothing,
        }
    }

    fn dirty(&self, line: BusAddr) -> u64 {
        let line = self.file.line(line);
        line.map_or(0, |line| self.file.load(LINES + line * RECORD))
    }

    fn mixed(&self, page: BusAddr) -> bool {
        let lines = (page.0..page.0.saturating_add(PAGE_BYTES)).step_by(64);
        let mut known = lines.filter_map(|at| self.file.line(BusAddr(at)));
        known.any(|line| self.file.state_of(line) & LINE_MIXED != 0)
    }

    fn written(&mut self, line: BusAddr, bytes: u64, snoop: Snoop) {
        let Some(line) = self.file.line(line) else {
            return;
        };
        let at = LINES + line * RECORD;
        let (Some(dirty), Some(old)) = (self.file.word(at), self.file.word(at + 8)) else {
            return;
        };
        match snoop {
            Snoop::Snooped => {
                dirty.fetch_and(!bytes, Ordering::AcqRel);
                old.fetch_and(!bytes, Ordering::AcqRel);
            }
            Snoop::Unsnooped if self.file.state_of(line) & LINE_HELD != 0 => {
                old.fetch_or(bytes, Ordering::AcqRel);
            }
            Snoop::Unsnooped => {}
        }
    }

    fn next_load(&mut self) -> Option<OldLoad> {
        let made = self.file.load(HEADER_LOADS);
        if self.next >= made {
            return None;
        }
        // Those that others have taken the place of are lost.
        self.next = self.next.max(made.saturating_sub(LOAD_SLOTS));
        let at = LOADS + self.next % LOAD_SLOTS * RECORD;
        let mark = self.next + 1;
        let (before, load) = (self.file.load(at), self.file.load(at + 8));
        if before != mark || self.file.load(at) != mark {
            return None; // on its way, or gone: then `made` says so the next time
        }
        self.next = mark;
        Some(OldLoad {
            at: BusAddr(load >> 8),
            bytes: load & 0xff,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, Arc<CacheFile>) {
        let dir = tempfile::tempdir().unwrap();
        let file = CacheFile::create(&dir.path().join("lines"), 1 << 20).unwrap();
        (dir, Arc::new(file))
    }

    /// The numbers of the plugin's layout.
    #[test]
    fn both_sides_have_one_layout() {
        let header = include_str!("../cache-plugin/layout.h");
        let of = |name: &str| {
            let lines = header
                .lines()
                .map(|line| line.trim().replace("#define ", ""));
            let mut found = lines.filter_map(|line| {
                let rest = line.strip_prefix(name)?.strip_prefix([' '])?.to_owned();
                let number = rest
                    .trim_start_matches("= ")
                    .split([',', ' '])
                    .next()?
                    .to_owned();
                Some(number)
            });
            found
                .next()
                .unwrap_or_else(|| panic!("{name} is not there"))
        };
        for (name, here) in [
            ("HEADER_MAGIC", HEADER_MAGIC),
            ("HEADER_LINES", HEADER_LINES),
            ("HEADER_ATTACHED", HEADER_ATTACHED),
            ("HEADER_LOADS", HEADER_LOADS),
            ("LOADS", LOADS),
            ("LOAD_SLOTS", LOAD_SLOTS),
            ("LINES", LINES),
            ("LINE_HELD", LINE_HELD.into()),
            ("LINE_MIXED", LINE_MIXED.into()),
        ] {
            assert_eq!(of(name), here.to_string(), "{name}");
        }
        assert_eq!(of("MAGIC"), format!("{MAGIC:#x}ull"));
        const { assert!(LOADS + LOAD_SLOTS * RECORD <= LINES) };
    }

    #[test]
    fn ram_of_a_q35_machine_goes_on_behind_a_hole() {
        assert_eq!(end_of_ram(1 << 30), 1 << 30);
        assert_eq!(end_of_ram(0xB000_0000), 0x1_3000_0000);
        assert_eq!(end_of_ram(4 << 30), 6 << 30);
    }

    #[test]
    fn what_the_plugin_says_is_seen_and_what_the_gpu_writes_is_told() {
        let (_dir, file) = file();
        let mut follower = file.follower();
        assert_eq!(follower.follows(), Follows::Nothing);
        file.store(HEADER_ATTACHED, 2);
        assert_eq!(follower.follows(), Follows::StoresAndLoads);
        let (at, record) = (BusAddr(128), LINES + 2 * RECORD);
        follower.written(at, 0xF0, Snoop::Unsnooped);
        assert_eq!(file.load(record + 8), 0, "nobody holds it");
        file.store(record, 0xFF);
        file.state(2).unwrap().store(LINE_HELD, Ordering::Release);
        follower.written(at, 0xF0, Snoop::Unsnooped);
        assert_eq!((follower.dirty(at), file.load(record + 8)), (0xFF, 0xF0));
        follower.written(at, 0x3C, Snoop::Snooped);
        assert_eq!((follower.dirty(at), file.load(record + 8)), (0xC3, 0xC0));
        assert!(!follower.mixed(BusAddr(0)));
        file.state(63).unwrap().store(LINE_MIXED, Ordering::Release);
        assert!(follower.mixed(BusAddr(0)) && !follower.mixed(BusAddr(4096)));
    }

    #[test]
    fn what_is_not_ram_is_nobody_s() {
        let (_dir, file) = file();
        let mut follower = file.follower();
        for at in [1 << 20, 1 << 40, !63] {
            follower.written(BusAddr(at), u64::MAX, Snoop::Unsnooped);
            assert_eq!(follower.dirty(BusAddr(at)), 0);
            assert!(!follower.mixed(BusAddr(at & !4095)));
        }
    }

    /// Makes load number `n`.
    fn made(file: &CacheFile, n: u64) {
        let slot = LOADS + n % LOAD_SLOTS * RECORD;
        file.store(slot + 8, n << 8 | 4);
        file.store(slot, n + 1);
        file.store(HEADER_LOADS, n + 1);
    }

    #[test]
    fn every_gpu_is_told_of_every_load_once_and_too_many_lose_the_oldest() {
        let (_dir, file) = file();
        let mut gpus = [file.follower(), file.follower()];
        let all = |follower: &mut Follower| -> Vec<u64> {
            std::iter::from_fn(|| follower.next_load())
                .map(|load| load.at.0)
                .collect()
        };
        (0..3).for_each(|n| made(&file, n));
        for gpu in &mut gpus {
            assert_eq!(all(gpu), [0, 1, 2]);
            assert_eq!(all(gpu), [0; 0]);
        }
        (3..9000).for_each(|n| made(&file, n));
        assert_eq!(
            all(&mut gpus[0]),
            (9000 - LOAD_SLOTS..9000).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_plugin_that_lies_gets_nowhere() {
        let (_dir, file) = file();
        let mut follower = file.follower();
        file.store(HEADER_LOADS, u64::MAX);
        file.store(HEADER_ATTACHED, 77);
        file.store(HEADER_LINES, u64::MAX);
        assert_eq!(follower.next_load(), None);
        assert_eq!(follower.follows(), Follows::Nothing);
        assert_eq!(follower.dirty(BusAddr(1 << 30)), 0);
    }
}
