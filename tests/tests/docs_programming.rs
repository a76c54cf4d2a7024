//! The example of docs/programming.md, run as it stands there.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{
    BusAddr, BusError, Chip, Config, DmaAccess, Gpu, NoInterrupts, Progress, Snoop, SystemMemory,
    VramOffset, Width,
};
use std::sync::{Arc, Mutex};

const PAGE: &str = include_str!("../../docs/programming.md");
const RAM_AT: u64 = 0x1234_5000;

/// Two pages of RAM that only snooped accesses reach.
#[derive(Clone)]
struct Ram(Arc<Mutex<[u8; 8192]>>);

impl Ram {
    fn at(at: BusAddr, len: usize, access: DmaAccess) -> Result<std::ops::Range<usize>, BusError> {
        let start = at.0.checked_sub(RAM_AT).ok_or(BusError)?;
        let start = usize::try_from(start).map_err(|_| BusError)?;
        let fits = start + len <= 8192 && access.snoop == Snoop::Snooped;
        fits.then_some(start..start + len).ok_or(BusError)
    }
}

impl SystemMemory for Ram {
    fn read(&self, at: BusAddr, buf: &mut [u8], access: DmaAccess) -> Result<(), BusError> {
        let range = Self::at(at, buf.len(), access)?;
        buf.copy_from_slice(&self.0.lock().unwrap()[range]);
        Ok(())
    }

    fn write(&self, at: BusAddr, buf: &[u8], access: DmaAccess) -> Result<(), BusError> {
        let range = Self::at(at, buf.len(), access)?;
        self.0.lock().unwrap()[range].copy_from_slice(buf);
        Ok(())
    }

    fn load_u32(&self, _: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        Err(BusError)
    }

    fn store_u64(&self, at: BusAddr, value: u64, access: DmaAccess) -> Result<(), BusError> {
        self.write(at, &value.to_le_bytes(), access)
    }
}

/// The words of a block, comments left out.
fn words(block: &str) -> Vec<u32> {
    let (_, rest) = PAGE.split_once(&format!("```{block}\n")).unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let code = text.lines().map(|line| line.split('#').next().unwrap());
    let numbers = code.flat_map(str::split_whitespace);
    numbers
        .map(|word| u32::from_str_radix(word.trim_start_matches("0x"), 16).unwrap())
        .collect()
}

fn pairs(block: &str) -> Vec<(u32, u32)> {
    let words = words(block);
    words.chunks(2).map(|pair| (pair[0], pair[1])).collect()
}

#[test]
fn the_example_does_what_the_page_says() {
    let config = Config::new(Chip::Arise10c0, 1 << 30, 64 << 20, false).unwrap();
    let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).unwrap();
    let ram = Ram(Arc::new(Mutex::new([0xEE; 8192])));
    gpu.set_memory(Box::new(ram.clone()));
    let vram = Arc::clone(gpu.vram());
    let ring = (0x10_0000..).step_by(4).zip(words("ring"));
    for (at, word) in pairs("vram").into_iter().chain(ring) {
        vram.store_u32(VramOffset(at.into()), word).unwrap();
    }
    for (at, value) in pairs("registers") {
        gpu.write(at, Width::B4, value.into());
    }
    while gpu.step(65536) == Progress::Pending {}
    let ring_errors: Vec<_> = gpu.ring_errors().collect();
    assert!(ring_errors.is_empty(), "{ring_errors:?}");
    let counters = gpu.counters();
    assert_eq!((counters.faults, counters.bus_errors), (0, 0));
    assert_eq!((counters.fills, counters.copies), (1, 1));
    let mut wanted = [0xEE; 8192];
    for pixel in wanted[..4096].chunks_mut(4) {
        pixel.copy_from_slice(&0xCAFE_F00D_u32.to_le_bytes());
    }
    wanted[4096..4104].copy_from_slice(&1_u64.to_le_bytes());
    assert!(*ram.0.lock().unwrap() == wanted, "RAM and its guard bytes");
}
