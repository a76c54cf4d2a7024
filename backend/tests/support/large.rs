//! The largest GPU with much of the machine's memory mapped: how much memory
//! of its own that takes.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use e3k_regs::fields::RingWord;
use e3k_regs::packet::Writer;
use e3k_regs::pte::{L1_SPAN, L2Entry, L3Entry, TABLE_ENTRIES, Ttbr};
use e3k_regs::{PAGE_SIZE, Reg, VramOffset};
use presil::doors::system_memory::GuestRam;
use presil_device::{Chip, Config, Gpu, GpuVa, NoInterrupts, Progress, Width};
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

const GIB: u64 = 1 << 30;
const VRAM_BYTES: u64 = 64 * GIB;
const RAM_BYTES: u64 = 8 * GIB;
/// Where the machine's memory is in GPU address space: behind L1 registers 1 and 2.
const GART_AT: u64 = 4 * GIB;
/// Tables lie at VRAM's end, beyond what the CPU sees; the ring before them.
const TABLES_AT: u64 = 63 * GIB;
const RING_AT: u64 = 62 * GIB;
const RING_BYTES: u32 = 0x1000;
/// What an L3 table maps.
const STEP: usize = 4 << 20;
/// Pages of the machine's memory that the GPU fills.
const FILLED: u64 = 64;

/// What it took.
pub(crate) struct Figures {
    /// Anonymous memory, in bytes.
    pub(crate) anonymous: u64,
    /// Of VRAM: bytes that take space, and bytes of the pages that were touched.
    pub(crate) vram: (u64, u64),
    /// The same of the machine's memory.
    pub(crate) ram: (u64, u64),
}

/// Makes the GPU, maps the memory, and lets the GPU fill some pages of it.
pub(crate) fn measure() -> Figures {
    let before = anonymous();
    let config = Config::new(Chip::E3k, VRAM_BYTES, 4 * GIB, true).expect("a legal size");
    let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).expect("address space");
    let ram = File::from(memfd_create("ram", MemfdFlags::CLOEXEC).expect("a memfd"));
    ram.set_len(RAM_BYTES).expect("a sparse file");
    let backing = FileOffset::new(ram.try_clone().expect("a descriptor"), 0);
    let bytes = usize::try_from(RAM_BYTES).expect("a 64-bit host");
    let memory = GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), bytes, Some(backing))]);
    let memory = Arc::new(memory.expect("a mapping"));
    let memory = GuestRam::new(memory, gpu.vram());
    gpu.set_memory(Box::new(memory));
    let pages = map(&mut gpu) + fill(&mut gpu);
    assert_eq!(gpu.faults().count() + gpu.ring_errors().count(), 0);
    let anonymous = anonymous().saturating_sub(before);
    Figures {
        anonymous,
        vram: (taken(gpu.vram().file()), pages * PAGE_SIZE),
        ram: (taken(&ram), FILLED * PAGE_SIZE),
    }
}

/// Writes the tables; returns their pages.
fn map(gpu: &mut Gpu) -> u64 {
    let mut tables = (TABLES_AT..).step_by(0x1000);
    let mut next = || tables.next().expect("more tables");
    // The ring, at its own place.
    let ring = L3Entry::new().with_valid(true).with_segment(true);
    let (mut l2, l3) = (next(), next());
    set_l1(gpu, RING_AT, l2);
    set_l2(gpu, l2, RING_AT, l3);
    let entry = ring.with_page(number(RING_AT));
    store(gpu, l3 + GpuVa(RING_AT).l3_index() * 4, entry.into_bits());
    let mut pages = 2;
    for at in (0..RAM_BYTES).step_by(STEP) {
        let va = GART_AT + at;
        if va.is_multiple_of(L1_SPAN) {
            l2 = next();
            set_l1(gpu, va, l2);
            pages += 1;
        }
        let l3 = next();
        set_l2(gpu, l2, va, l3);
        let first = L3Entry::new().with_valid(true).with_snoop(true);
        let entries = (0..TABLE_ENTRIES).flat_map(|n| {
            let entry = first.with_page(number(at + n * PAGE_SIZE));
            entry.into_bits().to_le_bytes()
        });
        let entries: Vec<u8> = entries.collect();
        let written = gpu.vram().write(VramOffset(l3), &entries);
        written.expect("inside VRAM");
        pages += 1;
    }
    pages
}

/// Runs a ring of fills; returns its pages.
fn fill(gpu: &mut Gpu) -> u64 {
    set(gpu, Reg::MmuMode.offset(), 1);
    set(gpu, RingWord::Size.offset(0), RING_BYTES);
    set(gpu, RingWord::Address.offset(0), 1 << 31 | number(RING_AT));
    for n in 0..FILLED {
        let mut dwords = [0; 64];
        let mut writer = Writer::new(&mut dwords);
        writer.surface(0, GpuVa(GART_AT + n * (RAM_BYTES / FILLED)), 1024, 1);
        writer.clear(1024, 1, 0xA5A5_5A5A);
        let len = writer.len();
        for (dword, at) in dwords[..len].iter().zip((RING_AT..).step_by(4)) {
            store(gpu, at, *dword);
        }
        set(gpu, RingWord::Head.offset(0), 0);
        set(
            gpu,
            RingWord::Tail.offset(0),
            u32::try_from(len * 4).expect("a short ring"),
        );
        while gpu.step(1 << 16) == Progress::Pending {}
    }
    1
}

fn set_l1(gpu: &mut Gpu, va: u64, l2: u64) {
    let ttbr = Ttbr::new().with_valid(true).with_segment(true);
    let index = u32::try_from(va >> 32).expect("40 bits");
    set(
        gpu,
        Reg::Ttbr.at(index),
        ttbr.with_page(number(l2)).into_bits(),
    );
}

fn set_l2(gpu: &mut Gpu, l2: u64, va: u64, l3: u64) {
    let entry = L2Entry::new().with_valid(true).with_segment(true);
    store(
        gpu,
        l2 + GpuVa(va).l2_index() * 4,
        entry.with_page(number(l3)).into_bits(),
    );
}

fn set(gpu: &mut Gpu, offset: u32, value: u32) {
    gpu.write(offset, Width::B4, value.into());
}

fn store(gpu: &Gpu, at: u64, value: u32) {
    gpu.vram()
        .store_u32(VramOffset(at), value)
        .expect("inside VRAM");
}

fn number(at: u64) -> u32 {
    u32::try_from(at / PAGE_SIZE).expect("40 bits")
}

fn taken(file: &File) -> u64 {
    file.metadata().expect("a file").blocks() * 512
}

/// Anonymous memory of this process, in bytes.
fn anonymous() -> u64 {
    anonymous_of("self")
}

/// Anonymous memory of a process, in bytes.
pub(crate) fn anonymous_of(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("RssAnon in kB")
        * 1024
}
