//! The memory manager on the model: eviction by the GPU's own copies, processes with
//! tables and process ids of their own, jobs that fail.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::GpuVa;
use presil_device::{Chip, Config, OnFault};
use presil_tests::manager::{Fence, Managed, Set};
use presil_tests::{Process, assert_all, assert_tlbs_agree};
use std::cell::Cell;
use std::rc::Rc;
use vidmm::evict::Context;
use vidmm::placement::{Flags, Place};
use vidmm::sync::Caller;
use vidmm::vm::SpaceId;
use vidmm::{Blit, BoId, Error, Host, Options, SegmentId, TablePages};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Pages of a large buffer.
const PAGES: u64 = 1024;

fn managed(on_fault: OnFault) -> Managed {
    managed_with(on_fault, TablePages { all: 128, each: 64 })
}

fn managed_with(on_fault: OnFault, tables: TablePages) -> Managed {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 32 * MIB, true).unwrap();
    config.vram_seed = Some(77);
    config.mmu.on_fault = on_fault;
    let options = Options {
        snoop_bytes: 64 * MIB,
        unsnoop_bytes: 64 * MIB,
        ..Options::default()
    };
    Managed::with_tables(&config, options, tables).unwrap()
}

fn anywhere(segment: SegmentId) -> Place {
    Place::anywhere(segment, Flags::NONE)
}

/// A process, where its addresses begin, and a buffer of its there.
fn process(gpu: &Managed, pages: u64) -> (SpaceId, GpuVa, BoId) {
    let Process { space, at, bo } = Process::local(gpu, pages);
    (space, at, bo)
}

fn fill(gpu: &Managed, space: SpaceId, at: GpuVa, pages: u64, pattern: u32) -> Fence {
    let bytes = pages * PAGE;
    gpu.job(space, &[Blit::Fill { at, bytes, pattern }])
        .unwrap()
}

#[test]
fn local_memory_is_filled_evicted_and_read_back() {
    let gpu = managed(OnFault::default());
    let world = gpu.mm.world();
    let places = [
        anywhere(SegmentId::LocalVisible),
        anywhere(SegmentId::LocalInvisible),
    ];
    // As many as there is room for, and what was there before is gone.
    let mut buffers = Vec::new();
    let free = |segment: SegmentId, bytes: u64| bytes - gpu.mm.usage(segment);
    let room = free(SegmentId::LocalVisible, 32 * MIB) / (PAGES * PAGE)
        + free(SegmentId::LocalInvisible, 224 * MIB) / (PAGES * PAGE);
    for n in 0..room {
        // Not at once: what is cleared first must not hide what is not cleared.
        let bo = gpu.create(PAGES, &places).unwrap();
        if n % 8 == 0 {
            assert_all(&gpu, bo, 0);
        }
        buffers.push(bo);
    }
    assert!(buffers.len() > 50, "{room}");
    // A process writes them through its own addresses.
    let space = world.start_process(&gpu.mm).unwrap();
    let at = world.private_zone();
    for (n, bo) in (0..).zip(&buffers) {
        let here = at.add(u64::from(n) * PAGES * PAGE);
        world
            .map(
                &gpu.mm,
                space,
                here,
                PAGES * PAGE,
                (*bo, 0),
                &Managed::ctx(),
            )
            .unwrap();
        fill(&gpu, space, here, PAGES, 0x1000 + n);
    }
    gpu.run();
    let before = gpu.bytes_copied();
    let more: Vec<_> = (0..4)
        .map(|_| gpu.create(PAGES, &places[..1]).unwrap())
        .collect();
    gpu.run();
    let copied = gpu.bytes_copied() - before;
    assert!(copied >= 4 * PAGES * PAGE, "by the GPU: {copied}");
    let mut moved = 0;
    for (n, bo) in (0..).zip(&buffers) {
        let segment = gpu.mm.segment(*bo).unwrap().unwrap();
        moved += u32::from(segment.uses_tt());
        assert_all(&gpu, *bo, 0x1000 + n);
    }
    assert!(moved >= 4, "{moved} went to RAM");
    for bo in more {
        assert_all(&gpu, bo, 0);
    }
}

#[test]
fn two_processes_one_address_two_contents() {
    let gpu = managed(OnFault::default());
    let processes = [process(&gpu, 16), process(&gpu, 16)];
    assert_eq!(processes[0].1, processes[1].1);
    for (n, (space, at, _)) in (1..).zip(processes) {
        fill(&gpu, space, at, 16, n);
    }
    for (n, (_, _, bo)) in (1..).zip(processes) {
        assert_all(&gpu, bo, n);
    }
    // Under pressure, one of them leaves, and its next job has it back.
    let (space, at, bo) = processes[0];
    let elsewhere = [anywhere(SegmentId::PcieUnsnoop)];
    let reservation = gpu.mm.reservation(bo).unwrap();
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        gpu.mm.validate(set, bo, &elsewhere, &mut Managed::ctx())
    })
    .unwrap();
    assert_all(&gpu, bo, 1);
    fill(&gpu, space, at, 8, 3);
    let words = gpu.words(bo).unwrap();
    assert!(words[..8].iter().all(|word| *word == 3) && words[8..].iter().all(|word| *word == 1));
    assert_all(&gpu, processes[1].2, 2);
}

#[test]
fn more_processes_than_process_ids_take_turns() {
    let gpu = managed(OnFault::default());
    let processes: Vec<_> = (0..20).map(|_| process(&gpu, 4)).collect();
    for round in 0..3 {
        for (n, (space, at, _)) in (0..).zip(&processes) {
            fill(&gpu, *space, *at, 4, round << 8 | n);
        }
        for (n, (_, _, bo)) in (0..).zip(&processes) {
            assert_all(&gpu, *bo, round << 8 | n);
        }
    }
}

/// A process that has no process id any more does not write the registers of who has it
/// now.
#[test]
fn a_process_id_that_was_lost_is_left_alone() {
    let gpu = managed(OnFault::default());
    let processes: Vec<_> = (0..16).map(|_| process(&gpu, 4)).collect();
    for (n, (space, at, _)) in (0..).zip(&processes) {
        fill(&gpu, *space, *at, 4, n);
    }
    gpu.run();
    // The last one has the first one's id, which gets a second L1 register meanwhile.
    let far = processes[0].1.add(4 << 30);
    let more = gpu.create(4, &[anywhere(SegmentId::LocalVisible)]).unwrap();
    let world = gpu.mm.world();
    world
        .map(
            &gpu.mm,
            processes[0].0,
            far,
            4 * PAGE,
            (more, 0),
            &Managed::ctx(),
        )
        .unwrap();
    let stray = fill(&gpu, processes[15].0, far, 4, 99);
    assert_eq!(gpu.wait(&stray), Err(Error::Io));
    assert_all(&gpu, more, 0);
    assert_eq!(gpu.wait(&fill(&gpu, processes[0].0, far, 4, 98)), Ok(()));
    assert_all(&gpu, more, 98);
}

/// What a buffer has left in the GART leads to the dummy page, for everybody.
#[test]
fn a_range_of_the_gart_that_was_left_leads_to_the_dummy_page_r_16_2() {
    let gpu = managed(OnFault::default());
    let mm = &gpu.mm;
    let bo = gpu.create(16, &[anywhere(SegmentId::PcieUnsnoop)]).unwrap();
    let reservation = mm.reservation(bo).unwrap();
    let with = |place: Option<SegmentId>| {
        gpu.with(|set| {
            set.lock(&reservation, 1)?;
            match place {
                None => mm.make_resident(set, bo, &mut Managed::ctx()),
                Some(to) => mm.validate(set, bo, &[anywhere(to)], &mut Managed::ctx()),
            }
        })
    };
    with(None).unwrap();
    let pages = mm.with_extents(bo, |extents| {
        let pages = extents.iter().flat_map(|extent| extent.first..extent.end);
        pages.collect::<Vec<_>>()
    });
    // The unsnooped segment is behind the snooped one of 64 MiB, in the zone of 4 GiB
    // before the private one.
    let unsnooped = mm.world().private_zone().0 - (4 << 30) + 64 * MIB;
    let entry = |page: u64| {
        gpu.machine
            .gpu(|gpu| gpu.walk(0, GpuVa(unsnooped + page * PAGE)).l3)
    };
    let dummy = entry((64 * MIB) / PAGE - 1);
    let pages = pages.unwrap();
    assert!(pages.len() == 16 && pages.iter().all(|page| entry(*page) != dummy));
    with(Some(SegmentId::LocalVisible)).unwrap();
    gpu.run();
    mm.reap();
    assert!(pages.iter().all(|page| entry(*page) == dummy));
}

/// A TLB line is sixteen pages: what a buffer finds in the GART is there for the GPU, also
/// where a neighbour's copies have brought the line before, and what it leaves is not (R-16.1,
///
#[test]
fn no_tlb_holds_what_the_gart_does_not_say_r_16_2() {
    let gpu = managed(OnFault::default());
    let mm = &gpu.mm;
    let pages_of = |bo| {
        let all = |extents: &[vidmm::placement::Extent]| {
            let pages = extents.iter().flat_map(|extent| extent.first..extent.end);
            pages.collect::<Vec<_>>()
        };
        mm.with_extents(bo, all).unwrap()
    };
    let start = |word: u32| {
        let bo = gpu.create(4, &[anywhere(SegmentId::PcieUnsnoop)]).unwrap();
        gpu.place(bo, SegmentId::PcieUnsnoop).unwrap();
        for page in 0..4 {
            gpu.program_stores(bo, page, word).unwrap();
        }
        gpu.program_barrier();
        (bo, pages_of(bo))
    };
    let leave = |bo| {
        gpu.place(bo, SegmentId::LocalVisible).unwrap();
        gpu.run();
        mm.reap();
        assert_tlbs_agree(&gpu);
    };
    let (first, at) = start(0x11);
    leave(first);
    // The same place, other pages of RAM.
    gpu.empty_pool();
    let (second, there) = start(0x22);
    assert_eq!(at, there);
    let (third, beside) = start(0x33);
    assert_eq!(beside[0] / 16, at[0] / 16, "in the same line");
    leave(second);
    // It was bound before the line was brought, this one after.
    let (fourth, _) = start(0x44);
    assert_tlbs_agree(&gpu);
    leave(third);
    leave(fourth);
    for (bo, word) in [(first, 0x11), (second, 0x22), (third, 0x33), (fourth, 0x44)] {
        assert_all(&gpu, bo, word);
    }
}

/// With any fault policy: the job that goes where nothing is mapped is told so, and
/// nobody else.
#[test]
fn a_job_that_goes_astray_fails_alone() {
    for on_fault in [OnFault::Report, OnFault::Halt, OnFault::Retry] {
        let gpu = managed(on_fault);
        let [good, bad, other] = [(); 3].map(|()| process(&gpu, 8));
        let before = fill(&gpu, good.0, good.1, 8, 1);
        let nowhere = bad.1.add(64 * MIB);
        let astray = fill(&gpu, bad.0, nowhere, 8, 2);
        let late = fill(&gpu, bad.0, bad.1, 8, 5);
        let behind = fill(&gpu, other.0, other.1, 8, 3);
        let again = fill(&gpu, good.0, good.1, 4, 4);
        gpu.run();
        assert_eq!(gpu.wait(&before), Ok(()), "{on_fault:?}");
        assert_eq!(gpu.wait(&astray), Err(Error::Io), "{on_fault:?}");
        assert_eq!(gpu.wait(&behind), Ok(()), "{on_fault:?}");
        assert_eq!(gpu.wait(&again), Ok(()), "{on_fault:?}");
        assert_all(&gpu, other.2, 3);
        let words = gpu.words(good.2).unwrap();
        assert_eq!(words, [4, 4, 4, 4, 1, 1, 1, 1], "{on_fault:?}");
        // Of one process, the GPU does not tell which of two jobs it was, unless the
        // ring stood at the first: then the second had not begun, and is done again.
        let told = gpu.wait(&late);
        assert!(told == Ok(()) || (told == Err(Error::Io) && on_fault == OnFault::Report));
        assert_all(&gpu, bad.2, 5);
    }
}

/// The shared zones lead to all of VRAM and to every page of RAM that is bound: a job has no
/// business there, nor beyond the end of all addresses, which packets would cut off.
#[test]
fn a_job_names_addresses_of_its_process_only() {
    let gpu = managed(OnFault::default());
    let (space, at, bo) = process(&gpu, 4);
    let zone = gpu.mm.world().private_zone();
    let fills = [
        GpuVa(0),
        GpuVa(zone.0 - PAGE),
        GpuVa((1 << 40) - PAGE),
        GpuVa(1 << 40),
        GpuVa((1 << 40) + at.0),
        GpuVa(u64::MAX - 255),
    ];
    gpu.run();
    let before = gpu.machine.gpu(|gpu| gpu.counters().bytes_filled);
    let (pattern, bytes) = (1, 2 * PAGE);
    for there in fills {
        let fill = gpu.job(
            space,
            &[Blit::Fill {
                at: there,
                bytes,
                pattern,
            }],
        );
        assert_eq!(fill.err(), Some(Error::Invalid), "{there}");
        for (to, from) in [(at, there), (there, at)] {
            let copy = gpu.job(space, &[Blit::Copy { to, from, bytes }]);
            assert_eq!(copy.err(), Some(Error::Invalid), "{there}");
        }
    }
    gpu.run();
    assert_eq!(gpu.machine.gpu(|gpu| gpu.counters().bytes_filled), before);
    assert_all(&gpu, bo, 0);
}

/// When a job's fence says that it has failed, the GPU works on nothing of it any more:
/// its process id and its memory may be others' from then on.
#[test]
fn a_job_that_fails_early_ends_when_all_of_it_has() {
    let gpu = managed(OnFault::Report);
    let (space, at, bo) = process(&gpu, 128);
    gpu.run();
    let (bytes, pattern) = (128 * PAGE, 7);
    let astray = Blit::Fill {
        at: at.add(64 * MIB),
        bytes: PAGE,
        pattern,
    };
    // Several pieces of 64.
    let mut blits = vec![astray];
    blits.resize(120, Blit::Fill { at, bytes, pattern });
    let fence = gpu.job(space, &blits).unwrap();
    let mut steps = 0;
    while !gpu.has_ended(&fence) {
        assert!(gpu.machine.step(), "something goes on");
        gpu.mm.world().advance();
        steps += 1;
    }
    assert!(steps > 20, "{steps}");
    assert!(!gpu.machine.gpu(|gpu| gpu.has_work()), "it is at rest");
    assert_eq!(gpu.wait(&fence), Err(Error::Io));
    assert_all(&gpu, bo, 7);
}

/// However much a process queues, another one waits for its share of it and no more.
#[test]
fn a_process_that_queues_much_waits_for_its_own_work_and_others_do_not() {
    let gpu = managed(OnFault::default());
    let [busy, other] = [process(&gpu, 1024), process(&gpu, 1024)];
    gpu.run();
    let filled = || gpu.machine.gpu(|gpu| gpu.counters().bytes_filled);
    let before = filled();
    for n in 0..60 {
        fill(&gpu, busy.0, busy.1, 1024, n);
    }
    let queued = 60 * 4 * MIB - (filled() - before);
    assert!(queued <= 64 * MIB, "{} MiB are in line", queued / MIB);
    assert!(queued >= 32 * MIB, "work is queued: {} MiB", queued / MIB);
    let before = filled();
    let fence = fill(&gpu, other.0, other.1, 1024, 7);
    while !gpu.has_ended(&fence) {
        assert!(gpu.machine.step(), "something goes on");
        gpu.mm.world().advance();
    }
    let waited = filled() - before;
    assert!(waited <= 68 * MIB, "{} MiB came first", waited / MIB);
    let much = [Blit::Fill {
        at: busy.1,
        bytes: 4 * MIB,
        pattern: 1,
    }; 65];
    assert_eq!(
        gpu.job(busy.0, &much).err(),
        Some(Error::Invalid),
        "one job is too large"
    );
    gpu.run();
    assert_all(&gpu, busy.2, 59);
}

/// Fourteen others queue all that they may, in the largest jobs and in the smallest blits:
/// whoever comes then waits for the share of each, counted in bytes of theirs, and no more.
#[test]
fn a_job_waits_for_the_share_of_each_other_process_and_no_more() {
    const SHARE: u64 = 64 * MIB;
    let gpu = managed(OnFault::default());
    let all: Vec<_> = (0..15).map(|_| process(&gpu, 256)).collect();
    for (space, at, _) in &all {
        fill(&gpu, *space, *at, 256, 1);
    }
    gpu.run();
    let mut at_once = Managed::ctx();
    at_once.no_wait = true;
    let counters = || gpu.machine.gpu(|gpu| gpu.counters());
    let mut small = 0;
    for (n, (space, at, _)) in all[1..].iter().enumerate() {
        let mut blits = |bytes: u64, count: usize| {
            let (at, pattern) = (*at, 2);
            let blits = vec![Blit::Fill { at, bytes, pattern }; count];
            gpu.job_in(*space, &blits, &mut at_once).map(drop)
        };
        if n == 0 {
            assert_eq!(blits(4, 20_000), Err(Error::Invalid), "64 MiB of pages");
            while blits(4, 1000) == Ok(()) {
                small += 1000;
            }
        } else {
            assert_eq!(blits(MIB, 65), Err(Error::Invalid), "more than a share");
            assert_eq!(blits(MIB, 64), Ok(()));
        }
        assert_eq!(blits(MIB, 64), Err(Error::Busy), "its share is in line");
    }
    assert!(
        (1000..=SHARE / PAGE).contains(&small),
        "{small} small blits"
    );
    let before = counters().bytes_filled;
    let (space, at, bo) = all[0];
    let fence = fill(&gpu, space, at, 256, 3);
    while !gpu.has_ended(&fence) {
        assert!(gpu.machine.step(), "something goes on");
        gpu.mm.world().advance();
    }
    let others = counters().bytes_filled - before - MIB;
    assert!(others <= 14 * SHARE, "{} MiB came first", others / MIB);
    assert!(
        others >= 13 * SHARE,
        "{} MiB: they had queued",
        others / MIB
    );
    assert_all(&gpu, bo, 3);
}

/// Whether a buffer could be had while something was waited for, if anything was.
fn looks_while_it_waits(gpu: &Managed, bo: BoId) -> Rc<Cell<Option<bool>>> {
    let found = Rc::new(Cell::new(None));
    let (mm, says) = (Rc::clone(&gpu.mm), Rc::clone(&found));
    gpu.meanwhile(move || {
        let mut caller = Caller::enter(mm.world().host().sync());
        let free = caller.try_lock(&mm.reservation(bo).unwrap()).is_ok();
        says.set(Some(free));
    });
    found
}

/// Who waits for a process id, or for its share of the line, keeps nobody from its buffers.
#[test]
fn nothing_is_locked_while_a_job_waits_for_its_turn() {
    let gpu = managed(OnFault::default());
    let all: Vec<_> = (0..16).map(|_| process(&gpu, 4)).collect();
    gpu.run();
    for (space, at, _) in &all[..15] {
        fill(&gpu, *space, *at, 4, 1);
    }
    let (space, at, bo) = all[15];
    let found = looks_while_it_waits(&gpu, bo);
    fill(&gpu, space, at, 4, 2);
    assert_eq!(found.get(), Some(true), "it waited for a process id");
    gpu.run();
    let mut at_once = Managed::ctx();
    at_once.no_wait = true;
    let (bytes, pattern) = (4 * PAGE, 3);
    let job = [Blit::Fill { at, bytes, pattern }];
    while gpu.job_in(space, &job, &mut at_once).is_ok() {}
    let found = looks_while_it_waits(&gpu, bo);
    fill(&gpu, space, at, 4, 4);
    assert_eq!(found.get(), Some(true), "it waited in line");
    gpu.run();
    assert_all(&gpu, bo, 4);
}

/// What the manager moves for a job is its process's: no other waits for more of it than for
/// jobs.
#[test]
fn moves_for_a_job_count_in_its_process_s_share() {
    const LARGE: u64 = 15 * MIB / PAGE;
    let gpu = managed(OnFault::default());
    let world = gpu.mm.world();
    let (space, at) = (world.start_process(&gpu.mm).unwrap(), world.private_zone());
    let bo = gpu
        .create(LARGE, &[anywhere(SegmentId::LocalInvisible)])
        .unwrap();
    world
        .map(&gpu.mm, space, at, LARGE * PAGE, (bo, 0), &Managed::ctx())
        .unwrap();
    gpu.run();
    let mut at_once = Managed::ctx();
    at_once.no_wait = true;
    let bytes = 15 * MIB;
    let fill = |pattern, to: SegmentId, ctx: &mut Context| {
        let job = vec![Blit::Fill { at, bytes, pattern }; 2];
        let place = |set: &mut Set<'_>, bo, ctx: &mut Context| {
            gpu.mm.validate(set, bo, &[anywhere(to)], ctx)
        };
        world.run(&gpu.mm, space, job, ctx, place).map(drop)
    };
    let there = SegmentId::LocalInvisible;
    assert_eq!(fill(1, there, &mut at_once), Ok(()));
    assert_eq!(
        fill(2, there, &mut at_once),
        Ok(()),
        "there is room for two"
    );
    assert_eq!(fill(3, there, &mut at_once), Err(Error::Busy));
    gpu.run();
    gpu.place(bo, SegmentId::PcieUnsnoop).unwrap();
    gpu.run();
    assert_eq!(fill(4, there, &mut at_once), Ok(()));
    assert_eq!(gpu.mm.segment(bo), Ok(Some(there)), "it was moved for it");
    assert_eq!(fill(5, there, &mut at_once), Err(Error::Busy));
    assert_eq!(fill(6, there, &mut Managed::ctx()), Ok(()));
    gpu.run();
}

/// the private buffers of a process were used with its last job, and leave after
/// what was used before that.
#[test]
fn a_job_uses_the_private_buffers_of_its_process() {
    let gpu = managed(OnFault::default());
    let visible = [anywhere(SegmentId::LocalVisible)];
    let world = gpu.mm.world();
    let (space, at) = (world.start_process(&gpu.mm).unwrap(), world.private_zone());
    let owns = [0, 1].map(|n| {
        let own = gpu.create_private(space, PAGES, &visible).unwrap();
        let here = at.add(n * PAGES * PAGE);
        world
            .map(
                &gpu.mm,
                space,
                here,
                PAGES * PAGE,
                (own, 0),
                &Managed::ctx(),
            )
            .unwrap();
        own
    });
    let mut others = Vec::new();
    while gpu.mm.usage(SegmentId::LocalVisible) + PAGES * PAGE <= 32 * MIB {
        others.push(gpu.create(PAGES, &visible).unwrap());
    }
    assert_eq!(gpu.wait(&fill(&gpu, space, at, 2 * PAGES, 5)), Ok(()));
    for other in &others {
        gpu.create(PAGES, &visible).unwrap();
        assert_ne!(gpu.mm.segment(*other), Ok(Some(SegmentId::LocalVisible)));
        for own in owns {
            assert_eq!(gpu.mm.segment(own), Ok(Some(SegmentId::LocalVisible)));
        }
    }
    gpu.create(PAGES, &visible).unwrap();
    assert_ne!(gpu.mm.segment(owns[0]), Ok(Some(SegmentId::LocalVisible)));
    assert_all(&gpu, owns[0], 5);
    assert_all(&gpu, owns[1], 5);
}

/// However thinly a process spreads what it maps, it has its share of the tables and no
/// more; and what two of them have together, a third gets when it needs it.
#[test]
fn nobody_takes_the_tables_of_all() {
    let gpu = managed_with(OnFault::default(), TablePages { all: 8, each: 5 });
    let world = gpu.mm.world();
    let used = gpu.mm.usage(SegmentId::LocalVisible);
    let greedy = [1, 2].map(|n| {
        let (space, at, bo) = process(&gpu, 4);
        assert_eq!(gpu.wait(&fill(&gpu, space, at, 4, n)), Ok(()));
        // A table for each page. The L2 table and one L3 table are there.
        let spread = |n: u64| {
            let there = at.add(n * 4 * MIB);
            world.map(
                &gpu.mm,
                space,
                there,
                PAGE,
                (bo, n % 4 * PAGE),
                &Managed::ctx(),
            )
        };
        for n in 1..4 {
            spread(n).unwrap();
        }
        (space, at, bo, spread(4))
    });
    let limit = Error::Limit {
        segment: SegmentId::LocalVisible,
        limit: 5 * PAGE,
        booked: 5 * PAGE,
    };
    // The second one has the three that are left, and its last pages lead nowhere yet.
    assert_eq!(greedy.map(|it| it.3), [Err(limit), Ok(())]);
    let (space, at, bo) = process(&gpu, 4);
    assert_eq!(gpu.wait(&fill(&gpu, space, at, 4, 3)), Ok(()));
    assert_all(&gpu, bo, 3);
    // Its jobs need more than it may have.
    let fill_all = |n: u32, pages: u64| {
        let (space, at, ..) = greedy[usize::try_from(n).unwrap() - 1];
        let bytes = PAGE;
        let fills = (0..pages).map(|page| Blit::Fill {
            at: at.add(page * 4 * MIB),
            bytes,
            pattern: n << 8,
        });
        gpu.job(space, &fills.collect::<Vec<_>>())
    };
    assert_eq!(fill_all(2, 5).err(), Some(limit));
    // The other's do not: what was taken comes back.
    assert_eq!(gpu.wait(&fill_all(1, 4).unwrap()), Ok(()));
    assert_all(&gpu, greedy[0].2, 1 << 8);
    assert_all(&gpu, greedy[1].2, 2);
    assert_all(&gpu, bo, 3);
    let buffers = 3 * 4 * PAGE;
    let now = gpu.mm.usage(SegmentId::LocalVisible);
    assert_eq!(now, used + buffers, "tables are pages that were set aside");
}

/// What another process has mapped is not there for this one.
#[test]
fn a_copy_from_somebody_elses_address_fails() {
    let gpu = managed(OnFault::default());
    let (victim, at, secret) = process(&gpu, 4);
    fill(&gpu, victim, at, 4, 0x005E_C4E7);
    let world = gpu.mm.world();
    let thief = world.start_process(&gpu.mm).unwrap();
    let loot = gpu.create(4, &[anywhere(SegmentId::LocalVisible)]).unwrap();
    let own = at.add(MIB);
    world
        .map(&gpu.mm, thief, own, 4 * PAGE, (loot, 0), &Managed::ctx())
        .unwrap();
    let steal = Blit::Copy {
        to: own,
        from: at,
        bytes: 4 * PAGE,
    };
    let fence = gpu.job(thief, &[steal]).unwrap();
    assert_eq!(gpu.wait(&fence), Err(Error::Io));
    assert_all(&gpu, loot, 0);
    assert_all(&gpu, secret, 0x005E_C4E7);
}

/// A process that has as much cleared as it may have in line waits, for buffers and for jobs;
/// another does not.
#[test]
fn what_is_cleared_for_new_buffers_counts_in_the_share_of_their_process() {
    for private in [true, false] {
        let gpu = managed(OnFault::default());
        let (mm, world) = (&gpu.mm, gpu.mm.world());
        let (small, at, _) = process(&gpu, 2 * MIB / PAGE);
        let other = world.start_process(mm).unwrap();
        gpu.run();
        let invisible = [anywhere(SegmentId::LocalInvisible)];
        let create = |space, mib: u64, no_wait| {
            let info = Managed::info(mib * MIB / PAGE);
            let ctx = &mut Context {
                no_wait,
                ..Managed::ctx()
            };
            let made = world.create(mm, space, &info, private, &invisible, ctx);
            made.map(|_| ctx.moved_pages * PAGE / MIB)
        };
        let fill = || {
            let ctx = &mut Context {
                no_wait: true,
                ..Managed::ctx()
            };
            let (bytes, pattern) = (2 * MIB, 7);
            let fill = Blit::Fill { at, bytes, pattern };
            gpu.job_in(small, &[fill], ctx).map(drop)
        };
        assert_eq!(create(small, 40, true), Ok(40));
        assert_eq!(fill(), Ok(()), "there is room in its share");
        assert_eq!(create(small, 40, true), Err(Error::Busy));
        assert_eq!(create(other, 40, true), Ok(40), "it is another's");
        assert_eq!(create(small, 21, true), Ok(21));
        assert_eq!(fill(), Err(Error::Busy), "nor does a job go in line");
        assert_eq!(create(small, 40, false), Ok(40), "who may wait does");
        gpu.run();
        assert_eq!(fill(), Ok(()));
        gpu.run();
    }
}
