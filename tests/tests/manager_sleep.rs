//! The memory manager on the model when the GPU sleeps: contents outlive local memory.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config};
use presil_tests::manager::Managed;
use presil_tests::{Process, assert_all};
use vidmm::placement::{Flags, Place};
use vidmm::{Blit, BoId, Caching, Error, LocalMemory, Options, SegmentId, TablePages};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Of the machine's RAM.
const FRAMES: usize = 8192;

fn managed() -> Managed {
    with_tables(TablePages { all: 128, each: 64 })
}

fn with_tables(tables: TablePages) -> Managed {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 32 * MIB, true).unwrap();
    config.vram_seed = Some(9);
    let options = Options {
        snoop_bytes: 8 * MIB,
        unsnoop_bytes: 8 * MIB,
        ..Options::default()
    };
    Managed::with_tables(&config, options, tables).unwrap()
}

/// Buffers of all memory types with contents of their own, one of them swapped out, and
/// more processes than process ids.
#[test]
fn contents_of_all_memory_types_and_processes_outlive_a_sleep_d_6() {
    let gpu = managed();
    let mm = &gpu.mm;
    let homes = [
        (Caching::WriteCombined, SegmentId::LocalVisible),
        (Caching::WriteCombined, SegmentId::LocalInvisible),
        (Caching::Cached, SegmentId::LocalInvisible),
        (Caching::Cached, SegmentId::PcieSnoop),
        (Caching::WriteCombined, SegmentId::PcieUnsnoop),
    ];
    let processes: Vec<_> = (0..20)
        .map(|n| {
            let (caching, segment) = homes[n % homes.len()];
            let place = Place::anywhere(segment, Flags::NONE);
            let bo = gpu.create_as(caching, 60, &[place]).unwrap();
            Process::of(&gpu, bo, 60)
        })
        .collect();
    let fill_all = |first: u32| {
        for (n, process) in (first..).zip(&processes) {
            process.fill(&gpu, 60, n);
        }
    };
    fill_all(0x1000);
    let [parked, swapped] = [(); 2].map(|()| Process::local(&gpu, 8));
    parked.fill(&gpu, 8, 0x77);
    swapped.fill(&gpu, 8, 0x78);
    gpu.run();
    // The processes' jobs have put them all where there is room: back where they belong.
    for (n, process) in processes.iter().enumerate() {
        gpu.place(process.bo, homes[n % homes.len()].1).unwrap();
    }
    for bo in [parked.bo, swapped.bo] {
        gpu.place(bo, SegmentId::System).unwrap();
    }
    let reservation = mm.reservation(swapped.bo).unwrap();
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        mm.swap_out(set, swapped.bo, &mut Managed::ctx())
    })
    .unwrap();

    for round in 0..2 {
        // It ends before the sleep begins.
        let last = processes[19].fill(&gpu, 60, 0x1000 + 19 + round);
        mm.world().suspend(mm, &mut Managed::ctx()).unwrap();
        assert!(gpu.has_ended(&last));
        gpu.lose_power();
        mm.world().resume(mm, LocalMemory::Lost).unwrap();
        for (n, process) in (0x1000..).zip(&processes) {
            let more = if n == 0x1000 + 19 { round } else { 0 };
            assert_all(&gpu, process.bo, n + more);
        }
        assert_all(&gpu, parked.bo, 0x77);
        assert_all(&gpu, swapped.bo, 0x78);
        // Back by the GPU's copies, which read through the GART what it led to before.
        for (n, process) in (0..).zip(&processes) {
            let more = if n == 19 { round } else { 0 };
            gpu.place(process.bo, homes[n as usize % homes.len()].1)
                .unwrap();
            assert_all(&gpu, process.bo, 0x1000 + n + more);
        }
        // Everybody goes on, where he was.
        fill_all(0x2000 + round);
        for (n, process) in (0x2000 + round..).zip(&processes) {
            assert_all(&gpu, process.bo, n);
        }
        fill_all(0x1000);
        gpu.run();
    }
    let fresh = gpu.create(60, &[Place::anywhere(SegmentId::LocalVisible, Flags::NONE)]);
    assert_all(&gpu, fresh.unwrap(), 0);
}

/// What RAM there is goes into buffers of others.
fn take_ram(gpu: &Managed, but: usize) -> Vec<BoId> {
    let mut taken = Vec::new();
    loop {
        let left = FRAMES - gpu.machine.ram().owned();
        let Some(pages) = left.checked_sub(but).filter(|pages| *pages > 0) else {
            return taken;
        };
        let place = Place::anywhere(SegmentId::PcieUnsnoop, Flags::NONE);
        let bo = gpu.create(pages.min(512) as u64, &[place]).unwrap();
        gpu.place(bo, SegmentId::PcieUnsnoop).unwrap();
        taken.push(bo);
    }
}

/// What one sees of a manager from outside.
fn figures(gpu: &Managed) -> ([u64; 5], usize, u64, String) {
    let usage = SegmentId::TYPES.map(|segment| gpu.mm.usage(segment));
    let owned = gpu.machine.ram().owned();
    (usage, owned, gpu.bytes_copied(), gpu.picture())
}

/// Three processes with 200 pages each, full of 1, 2 and 3.
fn three_filled(gpu: &Managed) -> [Process; 3] {
    let processes = [(); 3].map(|()| Process::local(gpu, 200));
    for (n, process) in (1..).zip(&processes) {
        process.fill(gpu, 200, n);
    }
    gpu.run();
    processes
}

#[test]
fn a_sleep_for_which_ram_is_short_is_refused_before_anything_is_touched_d_6() {
    let gpu = managed();
    let mm = &gpu.mm;
    let processes = three_filled(&gpu);
    // Enough for two of the three.
    let mut taken = take_ram(&gpu, 450);
    let before = figures(&gpu);
    let refused = mm.world().suspend(mm, &mut Managed::ctx());
    assert_eq!(refused, Err(Error::NoMemory));
    gpu.empty_pool();
    assert_eq!(figures(&gpu), before);
    for (n, process) in (11..).zip(&processes) {
        let fence = process.fill(&gpu, 100, n);
        assert_eq!(gpu.wait(&fence), Ok(()));
    }
    mm.release(taken.swap_remove(0)).unwrap();
    mm.world().suspend(mm, &mut Managed::ctx()).unwrap();
    gpu.lose_power();
    mm.world().resume(mm, LocalMemory::Lost).unwrap();
    for (n, process) in (1..).zip(&processes) {
        let words = gpu.words(process.bo).unwrap();
        assert!(words[..100].iter().all(|word| *word == 10 + n));
        assert!(words[100..].iter().all(|word| *word == n));
    }
}

#[test]
fn a_buffer_that_does_not_fit_through_its_pcie_segment_is_said_before_anything_is_touched() {
    let gpu = managed();
    let mm = &gpu.mm;
    let small = Process::local(&gpu, 8);
    let large = Process::local(&gpu, 9 * MIB / PAGE);
    small.fill(&gpu, 8, 5);
    large.fill(&gpu, 8, 6);
    gpu.run();
    let before = figures(&gpu);
    let refused = mm.world().suspend(mm, &mut Managed::ctx());
    assert_eq!(refused, Err(Error::NoMemory));
    gpu.empty_pool();
    assert_eq!(figures(&gpu), before);
}

/// Pages that were reserved early are there when RAM has become short meanwhile, and nobody
/// stays in the other part of local memory.
#[test]
fn what_was_reserved_is_enough_d_6() {
    let gpu = managed();
    let mm = &gpu.mm;
    let processes = three_filled(&gpu);
    mm.reserve_ram(&mut Managed::ctx()).unwrap();
    let taken = take_ram(&gpu, 0);
    let copied = gpu.bytes_copied();
    mm.world().suspend(mm, &mut Managed::ctx()).unwrap();
    assert_eq!(gpu.bytes_copied() - copied, 600 * PAGE, "each page once");
    gpu.lose_power();
    mm.world().resume(mm, LocalMemory::Lost).unwrap();
    for (n, process) in (1..).zip(&processes) {
        assert_all(&gpu, process.bo, n);
    }
    // What was reserved and not needed goes back.
    for bo in taken {
        mm.release(bo).unwrap();
    }
    gpu.run();
    mm.reap();
    gpu.empty_pool();
    let owned = gpu.machine.ram().owned();
    for process in &processes {
        gpu.place(process.bo, SegmentId::LocalVisible).unwrap();
    }
    gpu.run();
    mm.reap();
    let home = gpu.machine.ram().owned();
    assert_eq!(owned - home, 600);
    mm.reserve_ram(&mut Managed::ctx()).unwrap();
    mm.reserve_ram(&mut Managed::ctx()).unwrap();
    assert_eq!(gpu.machine.ram().owned(), owned, "once, however often");
    mm.unreserve_ram();
    assert_eq!(gpu.machine.ram().owned(), home);
}

/// Only who pinned a buffer can let it move: it is asked to before the sleep.
#[test]
fn a_buffer_that_a_user_has_pinned_in_local_memory_refuses_a_sleep_until_it_is_let_go() {
    let gpu = managed();
    let mm = &gpu.mm;
    let [pinned, other] = [(); 2].map(|()| Process::local(&gpu, 8));
    pinned.fill(&gpu, 8, 5);
    other.fill(&gpu, 8, 6);
    gpu.run();
    let reservation = mm.reservation(pinned.bo).unwrap();
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        mm.pin(set, pinned.bo)
    })
    .unwrap();
    gpu.empty_pool();
    let before = figures(&gpu);
    let refused = mm.world().suspend(mm, &mut Managed::ctx());
    assert_eq!(refused, Err(Error::Busy));
    gpu.empty_pool();
    assert_eq!(figures(&gpu), before);
    assert_eq!(gpu.wait(&other.fill(&gpu, 8, 7)), Ok(()));
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        mm.unpin(set, pinned.bo)
    })
    .unwrap();
    mm.world().suspend(mm, &mut Managed::ctx()).unwrap();
    gpu.lose_power();
    mm.world().resume(mm, LocalMemory::Lost).unwrap();
    assert_all(&gpu, pinned.bo, 5);
    assert_all(&gpu, other.bo, 7);
}

/// There are tables for one of three at a time: whoever has a job first after a sleep has them
/// first, and the others get them from him, at once.
#[test]
fn tables_that_others_have_after_a_sleep_come_back_with_the_next_job_r_19_13() {
    let gpu = with_tables(TablePages { all: 8, each: 8 });
    let mm = &gpu.mm;
    let world = mm.world();
    let far = |process: &Process, n: u64| process.at.add(n * 4 * MIB);
    let processes = [(); 3].map(|()| {
        let process = Process::local(&gpu, 4);
        for n in 1..4 {
            let there = far(&process, n);
            world
                .map(
                    mm,
                    process.space,
                    there,
                    PAGE,
                    (process.bo, n * PAGE),
                    &Managed::ctx(),
                )
                .unwrap();
        }
        process
    });
    let fill = |process: &Process, pattern: u32| {
        let bytes = PAGE;
        let fills = (0..4).map(|n| Blit::Fill {
            at: far(process, n),
            bytes,
            pattern,
        });
        gpu.job(process.space, &fills.collect::<Vec<_>>())
    };
    for (round, first) in (1..).zip([0, 1, 2, 0]) {
        for n in 0..3 {
            let at = (first + n) % 3;
            let pattern = round << 8 | u32::try_from(at).unwrap();
            // Behind each other's, at once and without a pause.
            fill(&processes[at], pattern).unwrap();
        }
        mm.world().suspend(mm, &mut Managed::ctx()).unwrap();
        gpu.lose_power();
        mm.world().resume(mm, LocalMemory::Lost).unwrap();
        for (at, process) in (0..).zip(&processes) {
            assert_all(&gpu, process.bo, round << 8 | at);
        }
    }
}
