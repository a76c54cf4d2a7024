//! The rules of moves: what comes along, what stays behind, what a failure leaves.

use super::machine::Spot;
use super::{
    SIZES, anywhere, at_once, create, create_in, ctx, info, job, kernel, manager, soon, touch,
    validate, validate_in, whole, with, word,
};
use crate::Error;
use crate::bo::Kind;
use crate::evict::{Budget, Info};
use crate::placement::SegmentId;
use crate::platform::Caching;

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;

#[test]
fn a_move_that_fails_leaves_contents_where_they_were_or_at_a_stop_r_11_2() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    let machine = mm.world();
    machine.work(usize::MAX);
    machine.jobs_until_failure.set(0);
    let moved = validate_in(&mm, bo, PCIE, &mut soon(&mm));
    assert_eq!(moved, Err(Error::Busy));
    assert_eq!(mm.segment(bo), Ok(Some(VISIBLE)));
    assert_eq!(word(&mm, bo, 3), Ok(77));
    mm.check();
    machine.mend();
    validate(&mm, bo, SegmentId::System).unwrap();
    // The way back is over a stop, to which pages need no copy.
    machine.jobs_until_failure.set(0);
    let moved = validate_in(&mm, bo, VISIBLE, &mut soon(&mm));
    assert_eq!(moved, Err(Error::Busy));
    assert_eq!(mm.segment(bo), Ok(Some(PCIE)));
    assert_eq!(word(&mm, bo, 3), Ok(77));
    mm.check();
    machine.mend();
    // A stop is good enough for nobody.
    assert_eq!(validate(&mm, bo, PCIE).unwrap().moved_pages, 8);
    validate(&mm, bo, VISIBLE).unwrap();
    assert_eq!(word(&mm, bo, 3), Ok(77));
}

/// There is not as much room again in the memory type of the stop.
#[test]
fn a_buffer_stays_at_a_stop_that_will_do_r_11_2() {
    let mm = manager(SIZES);
    let owner = mm.open_account().unwrap();
    let theirs = Info {
        owner: Some(owner),
        ..info(30)
    };
    let limit = |pages: u64| {
        let budget = Budget {
            limit: pages * 4096,
            ..Budget::OPEN
        };
        mm.set_budget(owner, PCIE, budget).unwrap();
    };
    mm.set_budget(owner, VISIBLE, Budget::OPEN).unwrap();
    limit(30);
    let bo = create(&mm, &theirs, &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    let stopped = validate_in(&mm, bo, SegmentId::System, &mut at_once());
    assert_eq!(
        (stopped, mm.segment(bo)),
        (Err(Error::Busy), Ok(Some(PCIE)))
    );
    mm.world().work(usize::MAX);
    // Nobody is refused a stop; to stay there is booked.
    limit(29);
    let beyond = validate(&mm, bo, PCIE).err();
    assert!(matches!(beyond, Some(Error::Limit { .. })), "{beyond:?}");
    mm.check();
    limit(30);
    let stays = validate(&mm, bo, PCIE);
    assert_eq!(stays.map(|it| it.moved_pages), Ok(0));
    let balance = mm.balance(owner, PCIE).unwrap();
    assert_eq!((balance.passing, balance.live()), (0, 30 * 4096));
    assert_eq!(word(&mm, bo, 3), Ok(77));
    mm.check();
}

#[test]
fn without_room_at_the_stop_a_buffer_stays_r_12_3() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    let full = create(&mm, &info(48), &[anywhere(PCIE)]).unwrap();
    with(&mm, full, |set| mm.pin(set, full)).unwrap();
    let usage = mm.usage(SegmentId::System);
    let moved = validate(&mm, bo, SegmentId::System);
    assert_eq!(moved.err(), Some(Error::NoMemory));
    assert_eq!(mm.usage(SegmentId::System), usage);
    assert_eq!(
        (mm.segment(bo), word(&mm, bo, 3)),
        (Ok(Some(VISIBLE)), Ok(77))
    );
    mm.check();
}

#[test]
fn a_move_takes_every_cpu_mapping_away_r_15_6() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    let gpu = &mm.world().gpu;
    for to in [PCIE, SegmentId::System, PCIE, VISIBLE, PCIE] {
        touch(&mm, bo, 2, &mut ctx()).unwrap();
        touch(&mm, bo, 5, &mut ctx()).unwrap();
        assert_eq!(gpu.mapped.borrow()[&bo].len(), 2);
        validate(&mm, bo, to).unwrap();
        assert!(gpu.mapped.borrow().is_empty(), "{to:?}");
    }
    touch(&mm, bo, 2, &mut ctx()).unwrap();
    with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())).unwrap();
    assert!(gpu.mapped.borrow().is_empty(), "by a swap");
    touch(&mm, bo, 2, &mut ctx()).unwrap();
    mm.release(bo).unwrap();
    assert!(gpu.mapped.borrow().is_empty(), "at the end");
}

#[test]
fn between_the_gart_and_system_pages_stay_what_they_are_r_16_3_r_16_5() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    let page = touch(&mm, bo, 4, &mut ctx()).unwrap();
    let gpu = &mm.world().gpu;
    assert_eq!(gpu.gart.borrow().len(), 8);
    for (to, entries) in [(SegmentId::System, 0), (PCIE, 8)] {
        validate(&mm, bo, to).unwrap();
        assert_eq!(touch(&mm, bo, 4, &mut ctx()), Ok(page), "{to:?}");
        assert_eq!(gpu.gart.borrow().len(), entries, "{to:?}");
    }
    assert_eq!(
        gpu.ended.get() + gpu.queued() as u64,
        0,
        "nothing was copied"
    );
}

#[test]
fn pages_of_ram_go_with_the_memory_type_r_8_1_r_8_2() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    assert_eq!(mm.held_pages(), 0, "an empty page vector");
    with(&mm, bo, |set| mm.make_resident(set, bo, &mut ctx())).unwrap();
    assert_eq!(mm.held_pages(), 8);
    validate(&mm, bo, VISIBLE).unwrap();
    assert_eq!(mm.held_pages(), 8, "until the copy has read them");
    mm.world().work(usize::MAX);
    mm.reap();
    assert_eq!(mm.held_pages(), 0);
    validate(&mm, bo, SegmentId::System).unwrap();
    assert_eq!(mm.held_pages(), 8);
}

#[test]
fn a_fault_during_a_move_waits_and_sees_the_new_place_r_15_4() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    validate(&mm, bo, PCIE).unwrap();
    assert_eq!(touch(&mm, bo, 3, &mut at_once()), Err(Error::Busy));
    let spot = touch(&mm, bo, 3, &mut ctx()).unwrap();
    assert!(matches!(spot, Spot::Ram(_)));
    assert_eq!(mm.world().gpu.peek(spot), 77);
}

#[test]
fn who_needs_zeros_gets_them_and_nobody_else_r_7_9() {
    let cleared = |info: &Info, to| {
        let mm = manager(SIZES);
        let bo = create(&mm, info, &[anywhere(to)]).unwrap();
        with(&mm, bo, |set| mm.make_resident(set, bo, &mut ctx())).unwrap();
        let machine = mm.world();
        (machine.gpu.queued(), machine.ram.system.cleared.get())
    };
    assert_eq!(cleared(&info(8), VISIBLE), (1, 0));
    assert_eq!(cleared(&kernel(8), VISIBLE), (0, 0));
    let cached = |kind| Info {
        kind,
        caching: Caching::Cached,
        ..info(8)
    };
    let snoop = SegmentId::PcieSnoop;
    assert_eq!(cleared(&cached(Kind::Device), snoop), (0, 8));
    assert_eq!(cleared(&cached(Kind::Kernel), snoop), (0, 0));
}

#[test]
fn the_gpu_has_no_addresses_in_system_r_5_3() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(SegmentId::System)]).unwrap();
    let resident = with(&mm, bo, |set| mm.make_resident(set, bo, &mut ctx()));
    assert_eq!(resident, Err(Error::Invalid));
    assert_eq!(mm.held_pages(), 0);
}

#[test]
fn what_is_swapped_out_is_in_ram_already_r_12_2() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    let swap = |context: &mut _| with(&mm, bo, |set| mm.swap_out(set, bo, context));
    assert_eq!(swap(&mut ctx()), Err(Error::Busy));
    assert_eq!(mm.segment(bo), Ok(Some(VISIBLE)));
    validate(&mm, bo, PCIE).unwrap();
    let mut context = ctx();
    assert_eq!(swap(&mut context), Ok(8));
    assert_eq!(context.moved_pages, 8, "no stop on the way to SYSTEM");
}

#[test]
fn a_new_place_of_what_is_swapped_out_can_be_evicted_r_6_4() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(48), &[anywhere(PCIE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())).unwrap();
    // Back in a type of its own, with the contents still stored.
    validate(&mm, bo, PCIE).unwrap();
    assert_eq!(mm.world().ram.shelf.stored.borrow().len(), 48);
    create(&mm, &info(48), &[anywhere(PCIE)]).unwrap();
    assert_eq!(mm.segment(bo), Ok(Some(SegmentId::System)));
    assert_eq!(word(&mm, bo, 3), Ok(77));
    mm.check();
}

/// The copy of one buffer and the clearing of another are cut off by a GPU that is
/// lost: in the memory where they are now lies what others left there.
#[test]
fn what_a_lost_gpu_did_not_bring_is_shown_to_nobody_r_7_8() {
    let mm = manager(SIZES);
    let machine = mm.world();
    let [moving, safe] = [(); 2].map(|()| create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap());
    job(&mm, moving, 3, 77, Ok(())).unwrap();
    job(&mm, safe, 3, 78, Ok(())).unwrap();
    machine.work(usize::MAX);
    validate(&mm, moving, PCIE).unwrap();
    let fresh = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    machine.gpu.lose();
    for lost in [moving, fresh] {
        assert_eq!(touch(&mm, lost, 3, &mut ctx()), Err(Error::Lost));
        assert_eq!(validate(&mm, lost, VISIBLE).err(), Some(Error::Lost));
        let resident = with(&mm, lost, |set| mm.make_resident(set, lost, &mut ctx()));
        assert_eq!(resident, Err(Error::Lost));
    }
    assert_eq!(word(&mm, safe, 3), Ok(78));
    assert_eq!(
        with(&mm, moving, |set| mm.swap_out(set, moving, &mut ctx())),
        Err(Error::Lost)
    );
    // Others get the room; nothing is copied for it, and it stays lost.
    let copied = machine.gpu.copied.get();
    let all = create(&mm, &kernel(32), &[anywhere(VISIBLE)]).unwrap();
    machine.work(usize::MAX);
    assert_eq!(machine.gpu.copied.get() - copied, 8, "the safe one alone");
    assert_ne!(mm.segment(fresh), Ok(Some(VISIBLE)));
    assert_eq!(touch(&mm, fresh, 3, &mut ctx()).err(), Some(Error::Lost));
    mm.check();
    for bo in [moving, safe, fresh, all] {
        mm.release(bo).unwrap();
    }
    machine.work(usize::MAX);
    mm.reap();
    assert_eq!(mm.held_pages(), 0);
    assert_eq!(mm.fini(), Ok(()));
}

/// Copies of two rings do not end in the order in which they began. Who gets a range
/// that two of them still work on waits for both.
#[test]
fn a_range_waits_for_the_copies_of_every_ring() {
    let mm = manager(SIZES);
    let machine = mm.world();
    let bos = [70, 71].map(|word| {
        let bo = create(&mm, &info(16), &[anywhere(VISIBLE)]).unwrap();
        job(&mm, bo, 3, word, Ok(())).unwrap();
        bo
    });
    machine.work(usize::MAX);
    for (ring, bo) in bos.into_iter().enumerate() {
        machine.ring.set(Some(ring));
        validate(&mm, bo, SegmentId::LocalInvisible).unwrap();
    }
    // A booking in vain keeps them as they are.
    let vain = create_in(&mm, &info(32), &[anywhere(VISIBLE)], &mut at_once());
    assert_eq!(vain, Err(Error::Busy));
    machine.gpu.hung.set([true, false]);
    let next = create(&mm, &kernel(32), &[anywhere(VISIBLE)]).unwrap();
    machine.work(usize::MAX);
    assert_eq!(
        touch(&mm, next, 3, &mut at_once()),
        Err(Error::Busy),
        "one has not ended"
    );
    machine.gpu.hung.set([false; 2]);
    let first = touch(&mm, next, 3, &mut ctx()).unwrap();
    machine.gpu.poke(first, 1);
    for (n, bo) in (0..).zip(bos) {
        assert_eq!(
            machine.gpu.peek(Spot::Local(whole(&mm, bo).unwrap()[3])),
            70 + n
        );
    }
}
