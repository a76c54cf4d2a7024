//! The rules of the end of a buffer, and of pins.

use super::{
    SIZES, anywhere, at_once, create, create_in, ctx, info, job, manager, manager_with, touch,
    validate, with,
};
use crate::Error;
use crate::evict::{Context, Options, World};
use crate::placement::{Place, SegmentId, Window};
use crate::platform::Patience;
use crate::sync::{Caller, Deadline, FenceError, Primitives, Usage};
use presil_allocator::{Refuse, refusing};
use std::rc::Rc;

const VISIBLE: SegmentId = SegmentId::LocalVisible;

#[test]
fn a_buffer_outlives_what_needs_its_memory_r_2_3() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(SegmentId::PcieUnsnoop)]).unwrap();
    mm.hold(bo).unwrap();
    mm.release(bo).unwrap();
    assert!(
        touch(&mm, bo, 0, &mut ctx()).is_ok(),
        "one reference is left"
    );
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    mm.release(bo).unwrap();
    mm.reap();
    assert_eq!(
        (mm.dying(), mm.held_pages()),
        (1, 8),
        "the GPU writes there"
    );
    mm.world().work(usize::MAX);
    mm.reap();
    assert_eq!((mm.len(), mm.held_pages()), (0, 0));
}

#[test]
fn who_is_dying_gets_no_reference_and_no_work_r_17_5() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    mm.release(bo).unwrap();
    assert_eq!(mm.dying(), 1, "its clearing has not ended");
    assert_eq!(mm.hold(bo), Err(Error::NotFound));
    assert_eq!(mm.release(bo), Err(Error::NotFound));
}

/// What a buffer was made of goes while no lock is held: the machine looks at each call.
#[test]
fn a_buffer_is_destroyed_once_and_not_under_the_lock_r_17_2_r_2_4() {
    let mm = manager(SIZES);
    for to in [VISIBLE, SegmentId::PcieUnsnoop, SegmentId::System] {
        let bo = create(&mm, &info(8), &[anywhere(to)]).unwrap();
        _ = touch(&mm, bo, 0, &mut ctx());
        mm.release(bo).unwrap();
        assert_eq!(mm.release(bo), Err(Error::NotFound), "{to:?}");
        assert_eq!(
            (mm.len(), mm.held_pages(), mm.usage(to)),
            (0, 0, 0),
            "{to:?}"
        );
    }
}

#[test]
fn a_pin_ends_with_the_last_reference_r_8_7() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
    with(&mm, bo, |set| mm.pin(set, bo)).unwrap();
    mm.release(bo).unwrap();
    mm.check();
    create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
}

#[test]
fn the_end_says_what_is_left_and_takes_what_is_idle_r_4_5_r_17_3() {
    let mm = manager(SIZES);
    let [gone, left] = [(); 2].map(|()| create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap());
    mm.release(gone).unwrap();
    mm.world().work(usize::MAX);
    assert!(mm.is_pinned(left).is_ok());
    assert_eq!(mm.fini(), Err([8 * 4096, 0, 0, 0, 0]));
}

#[test]
fn pins_nest_and_the_last_one_leads_to_the_tail_r_8_3() {
    let mm = manager(SIZES);
    let [first, second] = [(); 2].map(|()| create(&mm, &info(16), &[anywhere(VISIBLE)]).unwrap());
    with(&mm, first, |set| {
        mm.pin(set, first).and_then(|()| mm.pin(set, first))
    })
    .unwrap();
    with(&mm, first, |set| mm.unpin(set, first)).unwrap();
    assert_eq!(mm.is_pinned(first), Ok(true));
    let third = create(&mm, &info(16), &[anywhere(VISIBLE)]).unwrap();
    assert_ne!(mm.segment(second), Ok(Some(VISIBLE)));
    with(&mm, first, |set| mm.unpin(set, first)).unwrap();
    // Older, and used more recently.
    create(&mm, &info(16), &[anywhere(VISIBLE)]).unwrap();
    assert_eq!(mm.segment(first), Ok(Some(VISIBLE)));
    assert_ne!(mm.segment(third), Ok(Some(VISIBLE)));
}

#[test]
fn a_pin_does_not_place_r_8_6() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[]).unwrap();
    assert_eq!(with(&mm, bo, |set| mm.pin(set, bo)), Err(Error::Invalid));
    assert_eq!((mm.segment(bo), mm.is_pinned(bo)), (Ok(None), Ok(false)));
    validate(&mm, bo, VISIBLE).unwrap();
    with(&mm, bo, |set| mm.pin(set, bo)).unwrap();
}

#[test]
fn what_a_transaction_holds_is_no_victim_of_it_r_11_5() {
    let mm = manager(SIZES);
    let held = create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
    let created = with(&mm, held, |set| {
        mm.create(set, &info(8), None, &[anywhere(VISIBLE)], &mut ctx())
    });
    assert_eq!(created, Err(Error::NoMemory));
    assert_eq!((mm.segment(held), mm.len()), (Ok(Some(VISIBLE)), 1));
}

#[test]
fn nobody_evicts_itself_r_11_7() {
    let mm = manager(SIZES);
    let window = |first, last| Place {
        window: Window::new(first, last),
        ..anywhere(VISIBLE)
    };
    let bo = create(&mm, &info(20), &[window(0, 20)]).unwrap();
    let mut context = ctx();
    let moved = with(&mm, bo, |set| {
        mm.validate(set, bo, &[window(12, 32)], &mut context)
    });
    assert_eq!(moved, Err(Error::NoMemory));
    assert_eq!((context.evicted, context.moved_pages), (0, 0));
    assert_eq!(mm.extents(bo).unwrap()[0].first, 0);
}

#[test]
fn who_is_busy_is_waited_for_or_skipped_r_11_4() {
    // Not in the end (D-1), but where it is met.
    let options = Options {
        wait_last: false,
        ..Options::default()
    };
    let mm = manager_with(SIZES, options);
    let machine = mm.world();
    let pcie = SegmentId::PcieUnsnoop;
    let [busy, idle] = [(); 2].map(|()| create(&mm, &info(24), &[anywhere(pcie)]).unwrap());
    job(&mm, busy, 3, 77, Ok(())).unwrap();
    with(&mm, idle, |set| mm.make_resident(set, idle, &mut ctx())).unwrap();
    let at = |context: &mut _| create_in(&mm, &info(24), &[anywhere(pcie)], context);
    at(&mut at_once()).unwrap();
    let system = Ok(Some(SegmentId::System));
    assert_eq!(
        (mm.segment(busy), mm.segment(idle)),
        (Ok(Some(pcie)), system)
    );
    assert_eq!(machine.gpu.queued(), 1, "nobody waited");
    at(&mut ctx()).unwrap();
    assert_eq!(mm.segment(busy), system);
}

/// A late fence is busy, not out of memory, and who waited has changed nothing.
#[test]
fn a_fence_that_is_late_is_busy_and_one_that_ends_badly_is_an_end() {
    let mm = manager(SIZES);
    let machine = mm.world();
    let pcie = SegmentId::PcieUnsnoop;
    let bo = create(&mm, &info(48), &[anywhere(pcie)]).unwrap();
    job(&mm, bo, 3, 77, Err(FenceError::Failed)).unwrap();
    machine.gpu.hung.set([true; 2]);
    let mut context = Context::until(Deadline(1_000_000), Patience::Patient);
    let early = create_in(&mm, &info(8), &[anywhere(pcie)], &mut context);
    assert_eq!(early, Err(Error::Busy));
    assert_eq!((mm.segment(bo), mm.len()), (Ok(Some(pcie)), 1));
    mm.check();
    machine.gpu.hung.set([false; 2]);
    create(&mm, &info(8), &[anywhere(pcie)]).unwrap();
    let reservation = mm.reservation(bo).unwrap();
    assert!(machine.sync().is_idle(&reservation, Usage::Bookkeep));
}

/// It may be the last to let go of a victim, with no memory for the fences that it shares.
#[test]
fn who_makes_room_waits_for_no_victim_that_goes_meanwhile() {
    for nth in 1.. {
        let mm = Rc::new(manager(SIZES));
        let machine = mm.world();
        let shared = machine.sync.new_reservation().unwrap();
        let mut caller = Caller::enter(&*machine.sync);
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let place = [anywhere(VISIBLE)];
        let victim = set
            .run(|set| mm.create(set, &info(32), Some(&shared), &place, &mut ctx()))
            .unwrap();
        drop(set);
        machine.work(usize::MAX);
        let (other, ended) = (Rc::downgrade(&mm), machine.gpu.ended.get());
        *machine.meanwhile.borrow_mut() = Some(Box::new(move || {
            other.upgrade().unwrap().release(victim).unwrap();
        }));
        let (_, refused) = refusing(Refuse::From(nth), || {
            create_in(&mm, &info(8), &place, &mut at_once())
        });
        assert_eq!(
            machine.gpu.ended.get(),
            ended,
            "allocation {nth}: it waited"
        );
        if machine.meanwhile.borrow_mut().take().is_some() {
            mm.release(victim).unwrap();
        }
        machine.work(usize::MAX);
        mm.reap();
        mm.check();
        assert_eq!(
            (mm.dying(), mm.is_pinned(victim)),
            (0, Err(Error::NotFound))
        );
        if refused == 0 {
            return;
        }
    }
}
