//! A GPU with its tables and a ring to submit to.
#![allow(dead_code, reason = "each benchmark uses a part")]
#![allow(unreachable_pub, reason = "a module of several programs")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark may fail by panicking"
)]

pub mod steps;
pub mod timing;

use e3k_regs::fields::RingWord;
use e3k_regs::packet::Writer;
use e3k_regs::pte::{L2Entry, L3Entry, Ttbr};
use e3k_regs::{PAGE_SIZE, Reg, VramOffset};
use presil_device::checker::{Checker, Options};
use presil_device::{Chip, Config, Gpu, MmuOptions, NoInterrupts, Progress, Width};

pub const MIB: u64 = 1 << 20;
pub const VRAM_BYTES: u64 = 256 * MIB;
/// Where a copy comes from and goes to. All below is at the same place in VRAM
/// as in GPU address space.
pub const SOURCE: u64 = 64 * MIB;
pub const DESTINATION: u64 = 128 * MIB;
const RING_AT: u64 = MIB;
const RING_BYTES: u32 = 0x1000;
const TABLES_AT: u64 = 2 * MIB;

/// The entry of the page at an address.
pub type Map = fn(u64) -> L3Entry;

/// Each page at its own place in VRAM.
pub fn in_place(va: u64) -> L3Entry {
    let entry = L3Entry::new().with_valid(true).with_segment(true);
    entry.with_page(u32::try_from(va >> 12).unwrap())
}

/// Source and destination in pages of which no two are neighbours.
pub fn scattered(va: u64) -> L3Entry {
    let (surface, page) = (va & !(SOURCE - 1), (va % SOURCE) >> 12);
    // An odd factor: each page of the surface once.
    let page = page * 0x2F35 % (SOURCE >> 12);
    in_place(if va < SOURCE {
        va
    } else {
        surface + (page << 12)
    })
}

/// The destination in the machine's memory, from address 0 on.
pub fn to_ram(va: u64) -> L3Entry {
    match va.checked_sub(DESTINATION) {
        None => in_place(va),
        Some(at) => in_place(at).with_segment(false).with_snoop(true),
    }
}

/// The source in the machine's memory, from address 0 on.
pub fn from_ram(va: u64) -> L3Entry {
    match va.checked_sub(SOURCE) {
        Some(at) if va < DESTINATION => to_ram(DESTINATION + at),
        _ => in_place(va),
    }
}

/// A GPU in VA mode, or, without a map, in PA mode; its ring runs.
pub fn gpu(mmu: MmuOptions, map: Option<Map>) -> Gpu {
    let mut config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true).unwrap();
    config.mmu = mmu;
    let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).unwrap();
    if let Some(map) = map {
        write_tables(&mut gpu, map);
    }
    set(&mut gpu, RingWord::Size.offset(0), RING_BYTES);
    let page = u32::try_from(RING_AT >> 12).unwrap();
    set(&mut gpu, RingWord::Address.offset(0), 1 << 31 | page);
    gpu
}

/// Has the driver checker look.
pub fn watch(gpu: &mut Gpu) {
    let checker = Checker::new(&Options::default());
    gpu.set_watch(Some(Box::new(checker)));
}

fn write_tables(gpu: &mut Gpu, map: Map) {
    let l3 = TABLES_AT + PAGE_SIZE;
    for page in 0..VRAM_BYTES / PAGE_SIZE {
        store(gpu, l3 + page * 4, map(page * PAGE_SIZE).into_bits());
    }
    let l2_entry = L2Entry::new().with_valid(true).with_segment(true);
    for table in 0..VRAM_BYTES >> 22 {
        let page = u32::try_from((l3 >> 12) + table).unwrap();
        let entry = l2_entry.with_page(page);
        store(gpu, TABLES_AT + table * 4, entry.into_bits());
    }
    let ttbr = Ttbr::new().with_valid(true).with_segment(true);
    let page = u32::try_from(TABLES_AT >> 12).unwrap();
    set(gpu, Reg::Ttbr.offset(), ttbr.with_page(page).into_bits());
    set(gpu, Reg::MmuMode.offset(), 1);
}

fn set(gpu: &mut Gpu, offset: u32, value: u32) {
    gpu.write(offset, Width::B4, value.into());
}

fn store(gpu: &Gpu, at: u64, value: u32) {
    gpu.vram().store_u32(VramOffset(at), value).unwrap();
}

/// Puts packets at the ring's start; returns the Tail that runs them.
pub fn load_ring(gpu: &Gpu, build: impl FnOnce(&mut Writer<'_>)) -> u32 {
    let mut dwords = [0; RING_BYTES as usize / 4 - 1];
    let mut writer = Writer::new(&mut dwords);
    build(&mut writer);
    let len = writer.len();
    for (dword, at) in dwords[..len].iter().zip((RING_AT..).step_by(4)) {
        store(gpu, at, *dword);
    }
    u32::try_from(len * 4).unwrap()
}

/// Runs what [`load_ring`] has put there, as the daemon's engine does.
pub fn run_ring(gpu: &mut Gpu, tail: u32) {
    run_from(gpu, 0, tail);
}

/// Runs a part of it, from byte `head` on.
pub fn run_from(gpu: &mut Gpu, head: u32, tail: u32) {
    set(gpu, RingWord::Head.offset(0), head);
    set(gpu, RingWord::Tail.offset(0), tail);
    while gpu.step(64 << 10) == Progress::Pending {}
}
