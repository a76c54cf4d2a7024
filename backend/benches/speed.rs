//! Translation, copies and fills as ratios to what the host can do at best,
//! both measured in one run.
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail by panicking")]

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use e3k_regs::fields::FaultClient;
use presil::doors::system_memory::GuestRam;
use presil_device::{Gpu, GpuVa, MmuOptions};
use std::fs::File;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use support::timing::{measure, percent};
use support::{DESTINATION, MIB, Map, SOURCE, VRAM_BYTES};
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, VolatileMemory};

/// Pixels of a row; a row is 64 KiB.
const ROW: u16 = 16384;
/// Lines of 64 KiB that are translated in turn: four times what the DTLB holds.
const LINES: u64 = 1024;

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(700));
    group
}

/// A walk against three loads of the same kind, each of whose addresses
/// needs the value before: L1 register, L2 entry, and the L3 entry's line.
fn walks(criterion: &mut Criterion) {
    let mut group = group(criterion, "translation");
    let mut gpu = support::gpu(MmuOptions::default(), Some(support::in_place));
    let before = gpu.counters().walks;
    let walk = measure(&mut group, "1024 walks", || {
        for line in 0..LINES {
            let at = black_box(GpuVa(line << 16));
            black_box(gpu.translate(FaultClient::BlitSource, 0, at));
        }
    });
    assert!(gpu.counters().walks - before >= LINES);
    assert_eq!(gpu.counters().dtlb_hits + gpu.counters().utlb_hits, 0);
    let bank = black_box(vec![0_usize; 4096]);
    let l2 = black_box(vec![0_usize; 1024]);
    let l3 = black_box(vec![[0_usize; 8]; usize::try_from(LINES).unwrap()]);
    let mut value = 0;
    let loads = measure(&mut group, "1024 times three dependent loads", || {
        for line in 0..usize::try_from(LINES).unwrap() {
            let first = bank[value];
            let second = l2[first + (line >> 6)];
            value = l3[second + line][0];
        }
        black_box(value);
    });
    let ratio = walk.div_duration_f64(loads);
    println!("walk: {ratio:.1} x three dependent loads (limit 4)");
}

/// Memory of the GPU's and of the machine's, as a file behind it: its pages are
/// mapped once more, to copy and fill them without the model.
struct Bare {
    from: MmapRegion,
    to: MmapRegion,
}

impl Bare {
    fn new([from, to]: [(&File, u64); 2], bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap();
        let [from, to] = [from, to].map(|(file, at)| {
            let place = FileOffset::new(file.try_clone().unwrap(), at);
            MmapRegion::from_file(place, bytes).unwrap()
        });
        Self { from, to }
    }

    fn memcpy(&self) {
        let to = black_box(self.to.as_volatile_slice());
        black_box(self.from.as_volatile_slice()).copy_to_volatile_slice(to);
    }

    fn memset(&self) {
        let to = black_box(self.to.as_volatile_slice()).ptr_guard_mut();
        // SAFETY: the slice is the mapping, which nothing else uses now.
        unsafe { to.as_ptr().write_bytes(black_box(3), to.len()) };
    }
}

/// The surfaces' pages, mapped once more, in the order in which a map scatters them: what
/// the host itself can do where no two pages are neighbours.
struct Scattered {
    all: Bare,
    pages: Vec<usize>,
}

impl Scattered {
    fn new(vram: &File, map: Map, bytes: u64) -> Self {
        let place = |va| u64::from(map(va).page()) << 12;
        let pages = (0..bytes)
            .step_by(4096)
            .map(|at| usize::try_from(place(DESTINATION + at) - DESTINATION).unwrap())
            .collect();
        let all = Bare::new([(vram, SOURCE), (vram, DESTINATION)], SOURCE);
        Self { all, pages }
    }

    fn memcpy(&self) {
        let [from, to] =
            [&self.all.from, &self.all.to].map(|all| black_box(all.as_volatile_slice()));
        for at in &self.pages {
            let [from, to] = [&from, &to].map(|all| all.subslice(*at, 4096).unwrap());
            from.copy_to_volatile_slice(to);
        }
    }

    fn memset(&self) {
        let to = black_box(self.all.to.as_volatile_slice());
        for at in &self.pages {
            let to = to.subslice(*at, 4096).unwrap().ptr_guard_mut();
            // SAFETY: the slice is a page of the mapping, which nothing else uses now.
            unsafe { to.as_ptr().write_bytes(black_box(3), to.len()) };
        }
    }
}

/// A GPU, and memory of the machine's, of which QEMU would share the file.
fn gpu_with_ram(map: Option<Map>) -> (Gpu, File) {
    let mut gpu = support::gpu(MmuOptions::default(), map);
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = File::from(rustix::fs::memfd_create("ram", flags).unwrap());
    file.set_len(VRAM_BYTES).unwrap();
    let bytes = usize::try_from(VRAM_BYTES).unwrap();
    let behind = FileOffset::new(file.try_clone().unwrap(), 0);
    let ranges = [(GuestAddress(0), bytes, Some(behind))];
    let ram = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
    ram.write_slice(&vec![1; bytes], GuestAddress(0)).unwrap();
    let memory = GuestRam::new(Arc::new(ram), gpu.vram());
    gpu.set_memory(Box::new(memory));
    (gpu, file)
}

/// What the ring's last packet, of so many dwords, takes, in percent of `best`.
fn last_packet(gpu: &mut Gpu, tail: u32, dwords: u32, best: impl FnMut()) -> f64 {
    support::run_ring(gpu, tail);
    let speed = percent(best, || support::run_from(gpu, tail - dwords * 4, tail));
    assert_eq!(gpu.faults().count() + gpu.ring_errors().count(), 0);
    speed
}

fn transfers(_: &mut Criterion) {
    let maps: [(&str, Option<Map>, u32); 4] = [
        ("PA mode", None, 90),
        ("VA mode, contiguous", Some(support::in_place), 90),
        (
            "VA mode, to the machine's memory",
            Some(support::to_ram),
            80,
        ),
        (
            "VA mode, from the machine's memory",
            Some(support::from_ram),
            80,
        ),
    ];
    for mib in [1, 4, 16] {
        let bytes = mib * MIB;
        let rows = u16::try_from(mib * 16).unwrap();
        for (name, map, limit) in maps {
            let (mut gpu, ram) = gpu_with_ram(map);
            let vram = gpu.vram().file().try_clone().unwrap();
            // Where pages lie decides what stays in the caches: both sides have the same.
            let in_ram = |at| {
                let entry = map.map(|map| map(at));
                entry.is_some_and(|entry| !entry.segment())
            };
            let place = |at| if in_ram(at) { (&ram, 0) } else { (&vram, at) };
            let bare = Bare::new([place(SOURCE), place(DESTINATION)], bytes);
            let copy = copy(&mut gpu, rows, || bare.memcpy());
            let fill = fill(&mut gpu, rows, || bare.memset());
            println!(
                "{mib} MiB, {name}: copy {copy:.0} % of memcpy, fill {fill:.0} % of memset (limit {limit})"
            );
        }
        scattered(mib);
        checked(mib);
    }
}

/// With the driver checker, of what the tables map page by page.
fn checked(mib: u64) {
    let (bytes, rows) = (mib * MIB, u16::try_from(mib * 16).unwrap());
    let mut gpu = support::gpu(MmuOptions::default(), Some(support::in_place));
    support::watch(&mut gpu);
    let vram = gpu.vram().file().try_clone().unwrap();
    let bare = Bare::new([(&vram, SOURCE), (&vram, DESTINATION)], bytes);
    let copy = copy(&mut gpu, rows, || bare.memcpy());
    let fill = fill(&mut gpu, rows, || bare.memset());
    println!(
        "{mib} MiB, VA mode, with the driver checker: copy {copy:.0} % of memcpy, fill {fill:.0} % of memset (limit 50)"
    );
}

/// Against neighbours of as many pages, and against the same pages one by one.
fn scattered(mib: u64) {
    let map: Map = support::scattered;
    let (bytes, rows) = (mib * MIB, u16::try_from(mib * 16).unwrap());
    let mut gpu = support::gpu(MmuOptions::default(), Some(map));
    let vram = gpu.vram().file().try_clone().unwrap();
    let near = Bare::new([(&vram, SOURCE), (&vram, DESTINATION)], bytes);
    let far = Scattered::new(&vram, map, bytes);
    let copies = [
        copy(&mut gpu, rows, || near.memcpy()),
        copy(&mut gpu, rows, || far.memcpy()),
    ];
    let fills = [
        fill(&mut gpu, rows, || near.memset()),
        fill(&mut gpu, rows, || far.memset()),
    ];
    println!(
        "{mib} MiB, VA mode, scattered pages: copy {:.0} % of memcpy, {:.0} % of memcpy page by page; \
         fill {:.0} % of memset, {:.0} % of memset page by page (limit 60, or 75 page by page)",
        copies[0], copies[1], fills[0], fills[1]
    );
}

/// A copy of so many rows, in percent of `best`.
fn copy(gpu: &mut Gpu, rows: u16, best: impl FnMut()) -> f64 {
    let tail = support::load_ring(gpu, |w| {
        w.surface(0, GpuVa(DESTINATION), ROW, rows);
        w.surface(1, GpuVa(SOURCE), ROW, rows);
        w.blit(ROW, rows);
    });
    last_packet(gpu, tail, 4, best)
}

/// The same of a fill.
fn fill(gpu: &mut Gpu, rows: u16, best: impl FnMut()) -> f64 {
    let tail = support::load_ring(gpu, |w| {
        w.surface(0, GpuVa(DESTINATION), ROW, rows);
        w.clear(ROW, rows, 0x0102_0304);
    });
    last_packet(gpu, tail, 3, best)
}

/// Blits of one page each, with the packets that set each of them up.
fn small_blits(criterion: &mut Criterion) {
    const BLITS: u16 = 16;
    let mut group = group(criterion, "small");
    let mut gpu = support::gpu(MmuOptions::default(), Some(support::in_place));
    let tail = support::load_ring(&gpu, |w| {
        for at in (0..).step_by(8192).take(BLITS.into()) {
            w.surface(0, GpuVa(DESTINATION + at), 1024, 1);
            w.surface(1, GpuVa(SOURCE + at), 1024, 1);
            w.blit(1024, 1);
        }
    });
    let work = || support::run_ring(&mut gpu, tail);
    let time = measure(&mut group, "16 blits of 4 KiB", work);
    let rate = f64::from(BLITS) / time.as_secs_f64();
    println!("blits of 4 KiB: {rate:.0} a second");
}

criterion_group!(benches, walks, transfers, small_blits);
criterion_main!(benches);
