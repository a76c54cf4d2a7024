//! What a place costs: the buddy and the range manager against a `BTreeMap` that
//! holds as many ranges, in one run.
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail by panicking")]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};
use vidmm::placement::{
    Buddy, BuddyOptions, Fit, Flags, Freed, NoFence, RangeManager, Request, Window,
};

type Heap = Buddy<NoFence>;

/// Pages of a GiB.
const GIB: u64 = 1 << 18;
/// Pages of a block of 8 KiB.
const BLOCK: u64 = 2;
/// Pages of a request of 64 KiB.
const REQUEST: u64 = 16;
/// Blocks of 8 KiB that it takes.
const BLOCKS: usize = 8;
/// 64 KiB requests that are held while one after the other is replaced.
const HELD: usize = 4096;

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(1));
    group.sample_size(20);
    group
}

/// Benchmarks `work`; returns the time of its fastest sample.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: impl Into<String>,
    mut work: impl FnMut(),
) -> Duration {
    let mut best = Duration::MAX;
    group.bench_function(name.into(), |bencher| {
        bencher.iter_custom(|times| {
            let begin = Instant::now();
            for _ in 0..times {
                work();
            }
            let took = begin.elapsed();
            best = best.min(took / u32::try_from(times).unwrap());
            took
        });
    });
    best
}

fn heap(pages: u64) -> Heap {
    Heap::new(pages, BuddyOptions::default()).unwrap()
}

/// A heap of blocks of 8 KiB, of which those are free that `free` says. What is
/// not is never given back.
fn comb(pages: u64, free: impl Fn(u64) -> bool) -> Heap {
    let mut heap = heap(pages);
    for at in 0..pages / BLOCK {
        let window = Window::new(at * BLOCK, (at + 1) * BLOCK);
        let block = heap.book(&Request::new(BLOCK), window, Flags::NONE);
        if free(at) {
            heap.give_back(block.unwrap(), Freed::default()).unwrap();
        }
    }
    heap
}

/// Numbers below `below` in no order, the same in every run.
fn scattered(below: usize) -> impl FnMut() -> usize {
    let mut state = 1_u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    }
}

/// One of many requests of 64 KiB, each of eight blocks, is given back and booked
/// again: the time of the buddy, of a map of blocks that hands out the lowest, and
/// of one block that is put into the map, and taken out, anywhere.
fn fragmented(group: &mut BenchmarkGroup<'_, WallTime>, gib: u64) -> [Duration; 3] {
    let mut heap = comb(gib * GIB, |at| at % 2 == 0);
    let book = |heap: &mut Heap| {
        let booking = heap.book(&Request::new(REQUEST), Window::ALL, Flags::NONE);
        booking.unwrap()
    };
    let mut held: Vec<_> = (0..HELD).map(|_| book(&mut heap)).collect();
    let mut next = scattered(HELD);
    let buddy = measure(group, format!("buddy {gib} GiB"), || {
        let given_back = held.swap_remove(next());
        heap.give_back(given_back, Freed::default()).unwrap();
        held.push(black_box(book(&mut heap)));
    });
    assert_eq!(held[0].extents().len(), BLOCKS);
    let all = (0..gib * GIB).step_by(4).map(|page| (page, BLOCK));
    let mut map: BTreeMap<u64, u64> = all.collect();
    let take = |map: &mut BTreeMap<u64, u64>| [0; BLOCKS].map(|_| map.pop_first().unwrap());
    let mut held: Vec<_> = (0..HELD).map(|_| take(&mut map)).collect();
    let mut next = scattered(HELD);
    let lowest = measure(group, format!("map, lowest, {gib} GiB"), || {
        map.extend(held.swap_remove(next()));
        held.push(black_box(take(&mut map)));
    });
    let mut next = scattered(usize::try_from(gib * GIB / 4).unwrap());
    let anywhere = measure(group, format!("map, anywhere, {gib} GiB"), || {
        let block = next() as u64 * 4 + 1;
        map.insert(black_box(block), BLOCK);
        black_box(map.remove(&black_box(block)));
    });
    [buddy / 8, lowest / 8, anywhere]
}

fn blocks(criterion: &mut Criterion) {
    let mut group = group(criterion, "fragmented");
    for gib in [1, 4, 16, 64] {
        let [buddy, lowest, anywhere] = fragmented(&mut group, gib);
        let ratio = buddy.div_duration_f64(anywhere);
        println!(
            "{gib} GiB of 8 KiB blocks, 64 KiB requests: {buddy:?} a block; BTreeMap insert \
             and remove {anywhere:?}: {ratio:.2} (at its lowest end {lowest:?})"
        );
    }
}

/// A million buffers of 4 to 64 KiB; one is given back and booked again.
fn a_million(criterion: &mut Criterion) {
    const LIVE: usize = 1 << 20;
    let mut group = group(criterion, "a million buffers");
    let mut heap = heap(64 * GIB);
    let mut size = scattered(16);
    let mut book = |heap: &mut Heap| {
        let request = Request::new(1 + size() as u64);
        heap.book(&request, Window::ALL, Flags::NONE).unwrap()
    };
    let mut held: Vec<_> = (0..LIVE).map(|_| book(&mut heap)).collect();
    let mut next = scattered(LIVE);
    let mut replace = || {
        let given_back = held.swap_remove(next());
        heap.give_back(given_back, Freed::default()).unwrap();
        held.push(black_box(book(&mut heap)));
    };
    (0..LIVE).for_each(|_| replace());
    let buddy = measure(&mut group, "buddy", &mut replace);
    let mut map: BTreeMap<u64, u64> = (0..LIVE as u64).map(|n| (n, n)).collect();
    let mut next = scattered(LIVE);
    let map = measure(&mut group, "map", || {
        let key = next() as u64;
        let value = map.remove(&key).unwrap();
        map.insert(black_box(key), value);
    });
    let ratio = buddy.div_duration_f64(map);
    println!("a million buffers: {buddy:?}, one BTreeMap insert and remove {map:?}: {ratio:.2}");
}

/// 8 KiB at a multiple of 256 KiB, of which there is one, the last.
fn aligned(criterion: &mut Criterion) {
    let mut group = group(criterion, "aligned");
    let request = Request {
        align: 64,
        ..Request::new(BLOCK)
    };
    for gib in [1, 4, 16, 64] {
        let only = (gib * GIB - 64) / BLOCK;
        let mut heap = comb(gib * GIB, |at| at % 2 == 1 || at == only);
        let took = measure(&mut group, format!("{gib} GiB"), || {
            let block = heap.book(black_box(&request), Window::ALL, Flags::NONE);
            let block = block.unwrap();
            assert_eq!(block.extents()[0].first, only * BLOCK);
            heap.give_back(block, Freed::default()).unwrap();
        });
        println!("{gib} GiB: the only 8 KiB at a multiple of 256 KiB: {took:?}");
    }
}

/// The first place for two pages, where only the last hole has two.
fn ranges(criterion: &mut Criterion) {
    let mut group = group(criterion, "ranges");
    for order in [14, 17, 20] {
        let end = 2_u64 << order;
        let mut ranges = RangeManager::new(end).unwrap();
        for _ in 0..end {
            ranges.book(1, 1, Window::ALL, Fit::Low).unwrap();
        }
        for page in (1..end).step_by(2).chain([end - 2]) {
            ranges.give_back(page, 1).unwrap();
        }
        let window = Window::new(9, end);
        let took = measure(&mut group, format!("2^{order} extents"), || {
            let first = ranges.book(black_box(2), 1, window, Fit::Low).unwrap();
            assert_eq!(first, end - 3);
            ranges.give_back(first, 2).unwrap();
        });
        println!("first fit among 2^{order} extents: {took:?}");
    }
}

criterion_group!(benches, blocks, a_million, aligned, ranges);
criterion_main!(benches);
