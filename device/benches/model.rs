//! What the model costs, as ratios within one run, so that machines compare:
//! `cargo bench -p presil-device`. Not run by the tests.
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail by panicking")]

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use e3k_regs::fields::RingWord;
use e3k_regs::packet::Writer;
use e3k_regs::pte::{L2Entry, L3Entry, Ttbr};
use e3k_regs::{PAGE_SIZE, Reg, VramOffset};
use presil_device::{Chip, Config, Gpu, GpuVa, InterruptSink, Progress, Width};
use std::hint::black_box;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const VRAM_BYTES: u64 = 256 * MIB;
const RING_AT: u64 = MIB;
const TABLES_AT: u64 = 2 * MIB;
const SOURCE: u64 = 16 * MIB;
const DESTINATION: u64 = 32 * MIB;
/// Address space that is mapped in VA mode, each page to itself.
const MAPPED: u64 = 64 * MIB;
/// One full-width copy of 1 MiB: 16 rows of 64 KiB.
const COPY: (u16, u16) = (16384, 16);
/// Fills in pieces of one pixel.
const THIN: (u16, u16) = (1, 16384);

struct NoInterrupts;

impl InterruptSink for NoInterrupts {
    fn raise(&mut self) {}
}

fn gpu(va_mode: bool) -> Gpu {
    let config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true).unwrap();
    let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).unwrap();
    if va_mode {
        let l3 = TABLES_AT + PAGE_SIZE;
        for page in 0..MAPPED / PAGE_SIZE {
            let entry = L3Entry::new().with_valid(true).with_segment(true);
            let entry = entry.with_page(u32::try_from(page).unwrap());
            store(&gpu, l3 + page * 4, entry.into_bits());
        }
        for table in 0..MAPPED >> 22 {
            let entry = L2Entry::new().with_valid(true).with_segment(true);
            let page = u32::try_from((l3 >> 12) + table).unwrap();
            store(
                &gpu,
                TABLES_AT + table * 4,
                entry.with_page(page).into_bits(),
            );
        }
        let page = u32::try_from(TABLES_AT >> 12).unwrap();
        let ttbr = Ttbr::new()
            .with_valid(true)
            .with_segment(true)
            .with_page(page);
        set(&mut gpu, Reg::Ttbr.offset(), ttbr.into_bits());
        set(&mut gpu, Reg::MmuMode.offset(), 1);
    }
    set(&mut gpu, RingWord::Size.offset(0), 0x1000);
    set(
        &mut gpu,
        RingWord::Address.offset(0),
        1 << 31 | u32::try_from(RING_AT >> 12).unwrap(),
    );
    gpu
}

fn set(gpu: &mut Gpu, offset: u32, value: u32) {
    gpu.write(offset, Width::B4, value.into());
}

fn store(gpu: &Gpu, at: u64, value: u32) {
    gpu.vram().store_u32(VramOffset(at), value).unwrap();
}

/// Puts packets at the ring's start; returns the Tail that runs them.
fn load_ring(gpu: &Gpu, build: impl FnOnce(&mut Writer<'_>)) -> u32 {
    let mut dwords = [0; 256];
    let mut writer = Writer::new(&mut dwords);
    build(&mut writer);
    let len = writer.len();
    for (dword, at) in dwords[..len].iter().zip((RING_AT..).step_by(4)) {
        store(gpu, at, *dword);
    }
    u32::try_from(len * 4).unwrap()
}

fn run_ring(gpu: &mut Gpu, tail: u32) {
    set(gpu, RingWord::Head.offset(0), 0);
    set(gpu, RingWord::Tail.offset(0), tail);
    while gpu.step(64 << 10) == Progress::Pending {}
}

/// Benchmarks `work`; returns the time of its fastest sample.
fn measure(
    group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    mut work: impl FnMut(),
) -> Duration {
    let mut best = Duration::MAX;
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let start = Instant::now();
            for _ in 0..times {
                work();
            }
            let elapsed = start.elapsed();
            best = best.min(elapsed / u32::try_from(times).unwrap());
            elapsed
        });
    });
    best
}

fn copies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy 1 MiB, VRAM to VRAM");
    group.throughput(Throughput::Bytes(MIB));
    let bytes = usize::try_from(MIB).unwrap();
    let (source, mut destination) = (vec![1_u8; bytes], vec![0_u8; bytes]);
    let memcpy = measure(&mut group, "memcpy", || {
        black_box(&mut destination).copy_from_slice(black_box(&source));
    });
    for (name, va_mode) in [("PA mode", false), ("VA mode", true)] {
        let mut gpu = gpu(va_mode);
        let tail = load_ring(&gpu, |w| {
            w.surface(0, GpuVa(DESTINATION), COPY.0, COPY.1);
            w.surface(1, GpuVa(SOURCE), COPY.0, COPY.1);
            w.blit(COPY.0, COPY.1);
        });
        let model = measure(&mut group, name, || run_ring(&mut gpu, tail));
        assert_eq!(gpu.faults().count() + gpu.ring_errors().count(), 0);
        let percent = memcpy.div_duration_f64(model) * 100.0;
        println!("copy, {name}: {percent:.0} % of memcpy's speed");
    }
}

fn accesses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access");
    let mut idle = gpu(false);
    let mut read = |name: &str, offset| {
        measure(&mut group, name, || {
            black_box(idle.read(black_box(offset), Width::B4));
        })
    };
    let plain = read("register read, plain storage", 0x1000);
    let ring = read("register read, ring Tail", RingWord::Tail.offset(0));
    println!(
        "register read: Tail {:.1} x plain storage",
        ring.div_duration_f64(plain)
    );

    let mut piece = |name: &str, va_mode| {
        let mut gpu = gpu(va_mode);
        let tail = load_ring(&gpu, |w| {
            w.surface(0, GpuVa(DESTINATION), THIN.0, THIN.1);
            w.clear(THIN.0, THIN.1, 0x55);
        });
        let total = measure(&mut group, name, || run_ring(&mut gpu, tail));
        assert_eq!(gpu.faults().count() + gpu.ring_errors().count(), 0);
        total / THIN.1.into()
    };
    let untranslated = piece("16384 pixels one by one, untranslated", false);
    let hit = piece("16384 pixels one by one, TLB hits", true);
    println!(
        "translation: {hit:?} a piece with a TLB hit, {:.2} x one without; {:.2} x a register read",
        hit.div_duration_f64(untranslated),
        hit.div_duration_f64(plain),
    );
}

criterion_group!(benches, copies, accesses);
criterion_main!(benches);
