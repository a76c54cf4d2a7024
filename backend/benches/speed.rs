//! Translation, copies and fills as ratios to what the host can do at best,
//! both measured in one run.
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail by panicking")]

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use e3k_regs::fields::FaultClient;
use presil::system_memory::GuestRam;
use presil_device::{Gpu, GpuVa, MmuOptions};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use support::timing::measure;
use support::{DESTINATION, MIB, Map, SOURCE, VRAM_BYTES};
use vm_memory::mmap::MmapRegion;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap, VolatileMemory, VolatileSlice};

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

/// VRAM mapped once more, to copy and fill it without the model.
struct Bare(MmapRegion);

impl Bare {
    fn new(gpu: &Gpu) -> Self {
        let file = gpu.vram().file().try_clone().unwrap();
        let bytes = usize::try_from(VRAM_BYTES).unwrap();
        Self(MmapRegion::from_file(FileOffset::new(file, 0), bytes).unwrap())
    }

    fn slice(&self, at: u64, bytes: u64) -> VolatileSlice<'_> {
        let [at, bytes] = [at, bytes].map(|n| usize::try_from(n).unwrap());
        self.0.get_slice(at, bytes).unwrap()
    }

    fn memcpy(&self, bytes: u64) {
        let to = black_box(self.slice(DESTINATION, bytes));
        black_box(self.slice(SOURCE, bytes)).copy_to_volatile_slice(to);
    }

    fn memset(&self, bytes: u64) {
        let to = black_box(self.slice(DESTINATION, bytes)).ptr_guard_mut();
        // SAFETY: the slice is inside the mapping, which nothing else uses now.
        unsafe { to.as_ptr().write_bytes(black_box(3), to.len()) };
    }
}

/// A GPU, and memory of the machine's, of which QEMU would share the file.
fn gpu_with_ram(map: Option<Map>) -> Gpu {
    let mut gpu = support::gpu(MmuOptions::default(), map);
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::memfd_create("ram", flags).unwrap());
    file.set_len(VRAM_BYTES).unwrap();
    let bytes = usize::try_from(VRAM_BYTES).unwrap();
    let ranges = [(GuestAddress(0), bytes, Some(FileOffset::new(file, 0)))];
    let ram = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
    ram.write_slice(&vec![1; bytes], GuestAddress(0)).unwrap();
    gpu.set_memory(Box::new(GuestRam::new(Arc::new(ram))));
    gpu
}

/// Runs the ring, then measures its last packet, of so many dwords.
fn measure_last(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    gpu: &mut Gpu,
    tail: u32,
    dwords: u32,
) -> Duration {
    support::run_ring(gpu, tail);
    let packet = || support::run_from(gpu, tail - dwords * 4, tail);
    measure(group, name, packet)
}

fn transfers(criterion: &mut Criterion) {
    let maps: [(&str, Option<Map>, u32); 4] = [
        ("PA mode", None, 90),
        ("VA mode, contiguous", Some(support::in_place), 90),
        ("VA mode, scattered pages", Some(support::scattered), 60),
        ("VA mode, to the machine's memory", Some(support::to_ram), 0),
    ];
    for mib in [1, 4, 16] {
        let bytes = mib * MIB;
        let mut group = group(criterion, &format!("{mib} MiB"));
        let rows = u16::try_from(mib * 16).unwrap();
        for (name, map, limit) in maps {
            let mut gpu = gpu_with_ram(map);
            // Where pages lie decides what stays in the caches: both sides have the same.
            let bare = Bare::new(&gpu);
            let tail = support::load_ring(&gpu, |w| {
                w.surface(0, GpuVa(DESTINATION), ROW, rows);
                w.surface(1, GpuVa(SOURCE), ROW, rows);
                w.blit(ROW, rows);
            });
            let copy = measure_last(&mut group, &format!("copy, {name}"), &mut gpu, tail, 4);
            let memcpy = format!("memcpy, {name}");
            let memcpy = measure(&mut group, &memcpy, || bare.memcpy(bytes));
            let tail = support::load_ring(&gpu, |w| {
                w.surface(0, GpuVa(DESTINATION), ROW, rows);
                w.clear(ROW, rows, 0x0102_0304);
            });
            let fill = measure_last(&mut group, &format!("fill, {name}"), &mut gpu, tail, 3);
            let memset = format!("memset, {name}");
            let memset = measure(&mut group, &memset, || bare.memset(bytes));
            assert_eq!(gpu.faults().count() + gpu.ring_errors().count(), 0);
            let [copy, fill] = [(memcpy, copy), (memset, fill)]
                .map(|(bare, model)| bare.div_duration_f64(model) * 100.0);
            println!(
                "{mib} MiB, {name}: copy {copy:.0} % of memcpy, fill {fill:.0} % of memset (limit {limit})"
            );
        }
    }
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
