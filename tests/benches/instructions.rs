//! Instructions of the memory manager on the model, beside their limits.
#![allow(missing_docs, reason = "a benchmark is a program")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark may fail by panicking"
)]

#[path = "../../backend/benches/support/steps.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared, and not all of it used")]
mod steps;

use presil_device::{Chip, Config};
use presil_tests::manager::Managed;
use std::hint::black_box;
use std::process::ExitCode;
use steps::{instructions, instructions_once, report, table};
use vidmm::evict::Used;
use vidmm::placement::{Buddy, BuddyOptions, Flags, Freed, NoFence, Place, Request, Window};
use vidmm::sync::{Caller, FenceContext, LockSet, Primitives, Usage};
use vidmm::{BoId, Host as _, Options, Patience, SegmentId};

const MIB: u64 = 1 << 20;
/// Pages of a GiB.
const GIB: u64 = 1 << 18;
/// Buffers of a job: at one instruction more for each other buffer of the job, a
/// buffer is above its limit.
const BUFFERS: u16 = 200;
/// Members of the larger bulk group.
const MEMBERS: u64 = 1000;
/// Most for a buffer that is where it should be: a sixth of what a CPU does in a
/// microsecond.
const VALIDATE: f64 = 500.0;
/// Most for a buffer of a job: its fence, its place among those used last, its lock.
const SUBMIT: f64 = 345.0;
/// Of a bulk group of 1,000 and one of 10. No more is the C library's, whose `memcpy` and
/// allocator differ from machine to machine.
const GROUPS: f64 = 1.2;
/// Free ranges of the smaller and the larger heap: 2^16 and 2^20.
const LOG_N: f64 = 20.0 / 16.0;

fn main() -> ExitCode {
    table(|| jobs() & groups() & buddy())
}

fn config() -> Config {
    Config::new(Chip::Arise10c0, 256 * MIB, 64 * MIB, true).unwrap()
}

fn options() -> Options {
    Options {
        snoop_bytes: 64 * MIB,
        unsnoop_bytes: 64 * MIB,
        ..Options::default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// A buffer, and what a job does to many.
fn jobs() -> bool {
    let gpu = Managed::new(&config(), options()).unwrap();
    let mm = &gpu.mm;
    let places = [
        Place::anywhere(SegmentId::LocalInvisible, Flags::NONE),
        Place::anywhere(SegmentId::LocalVisible, Flags::FALLBACK),
        Place::anywhere(SegmentId::PcieUnsnoop, Flags::FALLBACK),
    ];
    let all = f64::from(BUFFERS);
    let buffers: Vec<BoId> = (0..BUFFERS)
        .map(|_| gpu.create(1, &places).unwrap())
        .collect();
    gpu.run();
    let reservations: Vec<_> = buffers
        .iter()
        .map(|bo| mm.reservation(*bo).unwrap())
        .collect();
    let sync = mm.world().host().sync();
    let mut caller = Caller::enter(sync);
    let mut ring = FenceContext::new(sync);
    let memory = ring.prepare(sync).unwrap();
    let fence = ring.arm(sync, memory);

    let mut set = caller.transaction(Patience::Patient).unwrap();
    set.lock(&reservations[0], 1).unwrap();
    let validate = |set: &mut LockSet<'_, _>, bo| {
        let ctx = &mut Managed::ctx();
        mm.validate(set, bo, black_box(&places), ctx).unwrap();
    };
    let one = instructions(16, || validate(&mut set, buffers[0]));
    let mut within = report("validate, nothing to do", one, VALIDATE);

    drop(set);
    let mut set = caller.transaction(Patience::Patient).unwrap();
    set.lock_all(&reservations, 1).unwrap();
    // It is noticed once that they were cleared.
    for bo in &buffers {
        validate(&mut set, *bo);
    }
    let many = instructions_once(|| {
        for bo in &buffers {
            validate(&mut set, *bo);
        }
    });
    let each = float(many) / all;
    within &= report("the same, each of 200", each, VALIDATE);

    let added = instructions_once(|| {
        for reservation in &reservations {
            sync.add_fence(reservation, &fence, Usage::Write);
        }
    });
    let added = float(added) / all;
    report("a fence added", added, f64::INFINITY);
    let used = Used {
        buffers: &buffers,
        groups: &[],
    };
    let submitted = instructions_once(|| mm.submit(set, &fence, |_| Usage::Write, used).unwrap());
    let submitted = float(submitted) / all;
    within &= report("submit 200 buffers, each", submitted, SUBMIT);
    within
}

/// A bulk group is used, whatever the number of its members.
fn groups() -> bool {
    let [few, many] = [10, MEMBERS].map(|members| {
        let gpu = Managed::new(&config(), options()).unwrap();
        let mm = &gpu.mm;
        let sync = mm.world().host().sync();
        let shared = sync.new_reservation().unwrap();
        let group = mm.new_group(&shared).unwrap();
        let places = [Place::anywhere(SegmentId::LocalInvisible, Flags::NONE)];
        let mut caller = Caller::enter(sync);
        for _ in 0..members {
            let mut set = caller.transaction(Patience::Patient).unwrap();
            let ctx = &mut Managed::ctx();
            let info = Managed::info(1);
            let bo = mm.create(&mut set, &info, Some(&shared), &places, ctx);
            mm.join(&mut set, bo.unwrap(), Some(group)).unwrap();
        }
        gpu.run();
        let mut set = caller.transaction(Patience::Patient).unwrap();
        set.lock(&shared, 1).unwrap();
        let used = Used {
            buffers: &[],
            groups: &[group],
        };
        float(instructions_once(|| mm.unreserve(set, used)))
    });
    report("a group of 10 is used", few, f64::INFINITY) & report("one of 1,000", many, GROUPS * few)
}

/// 64 KiB of a heap in which every second block of 8 KiB is booked: a heap of 16 times
/// the ranges costs no more than the logarithm says.
fn buddy() -> bool {
    let [small, large] = [1, 16].map(fragmented);

    report("buddy, a block, 1 GiB", small, f64::INFINITY)
        & report("buddy, a block, 16 GiB", large, LOG_N * small)
}

/// Instructions of a block that is given back and booked again, of so many GiB.
fn fragmented(gib: u64) -> f64 {
    let mut heap = Buddy::<NoFence>::new(gib * GIB, BuddyOptions::default()).unwrap();
    for at in 0..gib * GIB / 2 {
        let window = Window::new(at * 2, (at + 1) * 2);
        let block = heap.book(&Request::new(2), window, Flags::NONE).unwrap();
        if at % 2 == 0 {
            heap.give_back(block, Freed::default()).unwrap();
        }
    }
    let book = |heap: &mut Buddy<NoFence>| {
        heap.book(&Request::new(16), Window::ALL, Flags::NONE)
            .unwrap()
    };
    let mut held: Vec<_> = (0..4096).map(|_| book(&mut heap)).collect();
    let mut state = 1_u64;
    let mut replace = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let at = usize::try_from(state >> 33).unwrap() % held.len();
        let given_back = held.swap_remove(at);
        heap.give_back(given_back, Freed::default()).unwrap();
        held.push(black_box(book(&mut heap)));
    };
    float(instructions_once(|| (0..8).for_each(|_| replace()))) / 64.0
}
