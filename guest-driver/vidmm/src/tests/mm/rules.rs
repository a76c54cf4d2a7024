//! The rules, each in a scene of its own.

use super::{SIZES, anywhere, at_once, create, ctx, first_page, info, kernel, manager, with, word};
use crate::Error;
use crate::evict::World;
use crate::placement::{Flags, Place, SegmentId, Window};
use crate::platform::Patience;
use crate::sync::{Caller, Primitives, Usage};

#[test]
fn the_worked_example_with_eviction() {
    const K: u64 = 1024;
    let windows = [(64 * K, 68 * K), (88 * K, 92 * K), (100 * K, 104 * K)];
    let places = windows.map(|(first, last)| Place {
        window: Window::new(first, last),
        ..anywhere(SegmentId::LocalVisible)
    });
    for (pinned, expected) in [(0, Some(64 * K)), (4, Some(88 * K)), (12, None)] {
        let mm = manager([128 * K, 16 * K, 16 * K, 16 * K]);
        let mut bos = Vec::new();
        for n in 0..12 {
            let bo = create(&mm, &info(K), &places).unwrap();
            let window = windows[n / 4];
            assert_eq!(
                first_page(&mm, bo),
                window.0 + (n as u64 % 4) * K,
                "number {n}"
            );
            bos.push(bo);
        }
        for bo in &bos[..pinned] {
            with(&mm, *bo, |set| mm.pin(set, *bo)).unwrap();
        }
        let last = create(&mm, &info(K), &places);
        assert_eq!(
            last.map(|bo| first_page(&mm, bo)).ok(),
            expected,
            "{pinned} pinned"
        );
        if expected.is_some() {
            assert_eq!(mm.segment(bos[pinned]), Ok(Some(SegmentId::LocalInvisible)));
        } else {
            assert_eq!(last, Err(Error::NoMemory));
        }
    }
}

#[test]
fn contents_go_down_to_swap_and_come_back_up() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    assert_eq!(word(&mm, bo, 7), Ok(0), "R-7.8");
    let machine = mm.world();
    for page in 0..8 {
        let at = (SegmentId::LocalVisible, first_page(&mm, bo) + page);
        machine.gpu.write(at, 100 + page);
    }
    for to in [
        SegmentId::LocalInvisible,
        SegmentId::PcieUnsnoop,
        SegmentId::LocalVisible,
        SegmentId::System,
    ] {
        let mut context = ctx();
        with(&mm, bo, |set| {
            mm.validate(set, bo, &[anywhere(to)], &mut context)
        })
        .unwrap();
        assert_eq!(mm.segment(bo), Ok(Some(to)));
        let hops = if to == SegmentId::System { 2 } else { 1 };
        assert_eq!(context.moved_pages, 8 * hops, "R-12.1, R-8.8");
    }
    assert_eq!(with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())), Ok(8));
    assert_eq!(machine.ram.shelf.stored.borrow().len(), 8);
    assert_eq!(
        with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())),
        Err(Error::Busy)
    );
    with(&mm, bo, |set| {
        mm.validate(set, bo, &[anywhere(SegmentId::LocalVisible)], &mut ctx())
    })
    .unwrap();
    for page in 0..8 {
        assert_eq!(word(&mm, bo, page), Ok(100 + page));
    }
    mm.release(bo).unwrap();
    machine.work(100);
    assert_eq!(mm.fini().err(), None);
}

#[test]
fn validate_with_nothing_to_do_changes_nothing_r_11_3() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(4), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    mm.world().work(10);
    let mut context = ctx();
    let places = [
        Place::anywhere(SegmentId::LocalInvisible, Flags::FALLBACK),
        anywhere(SegmentId::LocalVisible),
    ];
    with(&mm, bo, |set| mm.validate(set, bo, &places, &mut context)).unwrap();
    assert_eq!((context.moved_pages, mm.world().gpu.queued()), (0, 0));
}

#[test]
fn a_pinned_buffer_stays_and_says_so_r_8_5_d_27() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(4), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    with(&mm, bo, |set| mm.pin(set, bo)).unwrap();
    let fall_back = [
        anywhere(SegmentId::LocalInvisible),
        Place::anywhere(SegmentId::LocalVisible, Flags::FALLBACK),
    ];
    let validate = |places: &[Place]| with(&mm, bo, |set| mm.validate(set, bo, places, &mut ctx()));
    assert_eq!(validate(&fall_back), Ok(()));
    assert_eq!(validate(&fall_back[..1]), Err(Error::Invalid));
    with(&mm, bo, |set| mm.unpin(set, bo)).unwrap();
    assert_eq!(
        with(&mm, bo, |set| mm.unpin(set, bo)),
        Err(Error::Invalid),
        "R-8.4"
    );
    assert_eq!(validate(&fall_back[..1]), Ok(()));
}

#[test]
fn a_buffer_that_the_gpu_uses_is_freed_when_it_is_idle_r_17_1() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    mm.release(bo).unwrap();
    mm.reap();
    assert_eq!(
        (mm.dying(), mm.usage(SegmentId::LocalVisible)),
        (1, 32 * 4096)
    );
    // Its clearing has not ended; who needs the room waits for it and takes it.
    let other = create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    assert_eq!((mm.dying(), mm.len()), (0, 1));
    assert_eq!(word(&mm, other, 31), Ok(0));
    mm.release(other).unwrap();
    assert_eq!(
        (mm.len(), mm.usage(SegmentId::LocalVisible)),
        (0, 0),
        "R-17.4"
    );
}

#[test]
fn who_may_not_wait_is_told_busy_and_not_out_of_memory() {
    let mm = manager(SIZES);
    let first = create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    mm.release(first).unwrap();
    let mut caller = Caller::enter(mm.world().sync());
    let mut set = caller.transaction(Patience::Patient).unwrap();
    let mut context = at_once();
    let places = [anywhere(SegmentId::LocalVisible)];
    let created = set.run(|set| mm.create(set, &info(1), None, &places, &mut context));
    assert_eq!(created, Err(Error::Busy));
}

#[test]
fn a_range_that_was_booked_in_vain_still_has_to_be_waited_for() {
    let mm = manager(SIZES);
    let machine = mm.world();
    let old = create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    machine.work(usize::MAX);
    machine.gpu.write((SegmentId::LocalVisible, 9), 77);
    let out = [anywhere(SegmentId::LocalInvisible)];
    with(&mm, old, |set| mm.validate(set, old, &out, &mut ctx())).unwrap();
    let kernel = kernel(32);
    let places = [anywhere(SegmentId::LocalVisible)];
    let mut context = at_once();
    let mut caller = Caller::enter(machine.sync());
    let mut set = caller.transaction(Patience::Patient).unwrap();
    let created = set.run(|set| mm.create(set, &kernel, None, &places, &mut context));
    assert_eq!(created, Err(Error::Busy), "the copy has not ended");
    drop(set);
    let new = create(&mm, &kernel, &places).unwrap();
    let idle = machine
        .sync
        .is_idle(&mm.reservation(new).unwrap(), Usage::Kernel);
    assert!(!idle, "nor has it now");
    // The fault waits for the copy, so that this does not come before it.
    assert!(word(&mm, new, 9).is_ok());
    machine.gpu.write((SegmentId::LocalVisible, 9), 0);
    machine.work(usize::MAX);
    assert_eq!(machine.gpu.read((SegmentId::LocalInvisible, 9)), 77);
}

#[test]
fn local_memory_is_emptied_before_a_sleep_and_its_contents_come_back_r_5_12() {
    let mm = manager(SIZES);
    let local = [SegmentId::LocalVisible, SegmentId::LocalInvisible];
    let mut bos: Vec<_> = (0..6)
        .map(|n| create(&mm, &info(8), &[anywhere(local[n % 2])]).unwrap())
        .collect();
    let machine = mm.world();
    for (n, bo) in (0..).zip(&bos) {
        let at = (mm.segment(*bo).unwrap().unwrap(), first_page(&mm, *bo) + 3);
        machine.work(usize::MAX);
        machine.gpu.write(at, 70 + n);
    }
    // Gone, and still in use: it does not keep the memory.
    mm.release(bos.pop().unwrap()).unwrap();
    with(&mm, bos[0], |set| mm.pin(set, bos[0])).unwrap();
    let mut caller = Caller::enter(machine.sync());
    // What leaves visible memory may go to the invisible part: that one comes last.
    for segment in local {
        mm.evict_all(&mut caller, segment, &mut ctx()).unwrap();
    }
    assert_eq!(machine.gpu.queued(), 0, "all copies were waited for");
    let left = local.map(|segment| mm.usage(segment));
    assert_eq!(left, [8 * 4096, 0], "what is pinned stays");
    machine
        .gpu
        .local
        .borrow()
        .retain(|at, _| at.0 == SegmentId::LocalVisible);
    for (n, bo) in (0..).zip(&bos) {
        assert_eq!(word(&mm, *bo, 3), Ok(70 + n));
    }
    let system = mm.evict_all(&mut caller, SegmentId::System, &mut ctx());
    assert_eq!(system, Err(Error::Invalid));
}
