//! The system has no pages left, but buffers that are gone, and the pool, have some.

use super::{SIZES, anywhere, at_once, create, ctx, info, job, manager, soon, with, word};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Context, Info, Mm, World};
use crate::placement::SegmentId;
use crate::platform::Caching;
use crate::sync::Primitives;

type Machine = super::Machine;

const PCIE: SegmentId = SegmentId::PcieUnsnoop;

/// All pages that there are belong to a buffer that is gone, and that the GPU works on.
fn full() -> Mm<Machine> {
    let mm = manager(SIZES);
    let gone = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    job(&mm, gone, 3, 71, Ok(())).unwrap();
    mm.release(gone).unwrap();
    mm.world().ram.system.budget.set(0);
    assert_eq!((mm.dying(), mm.held_pages()), (1, 8));
    mm
}

fn resident(mm: &Mm<Machine>, info: &Info, ctx: &mut Context) -> Result<Id, Error> {
    let bo = create(mm, info, &[anywhere(info.pcie())]).unwrap();
    let made = with(mm, bo, |set| mm.make_resident(set, bo, ctx));
    mm.check();
    made.map(|()| bo)
}

#[test]
fn what_is_gone_and_idle_gives_its_pages_to_who_needs_some_r_17_1() {
    let mm = full();
    mm.world().work(usize::MAX);
    resident(&mm, &info(8), &mut at_once()).unwrap();
    assert_eq!((mm.dying(), mm.held_pages()), (0, 8));
    let none = resident(&mm, &info(8), &mut ctx());
    assert_eq!(none, Err(Error::NoMemory), "nothing is left over");
}

#[test]
fn what_is_gone_and_busy_is_waited_for_and_is_no_shortage_r_17_1() {
    let mm = full();
    let at_once = resident(&mm, &info(8), &mut at_once());
    assert_eq!((at_once, mm.world().gpu.queued()), (Err(Error::Busy), 1));
    mm.world().gpu.hung.set([true; 2]);
    let mut soon = soon(&mm);
    assert_eq!(resident(&mm, &info(8), &mut soon), Err(Error::Busy));
    assert_eq!(mm.world().after(0), soon.deadline);
    mm.world().gpu.hung.set([false; 2]);
    resident(&mm, &info(8), &mut ctx()).unwrap();
    assert_eq!((mm.dying(), mm.held_pages()), (0, 8));
}

#[test]
fn what_is_gone_and_locked_is_waited_for_and_is_no_shortage_r_17_1() {
    let mm = full();
    let machine = mm.world();
    machine.work(usize::MAX);
    let gone = mm.seen().into_iter().find(|it| mm.hold(it.id).is_err());
    let locked = gone.unwrap().reservation;
    assert!(machine.sync.try_lock(&locked, None));
    let busy = resident(&mm, &info(8), &mut at_once());
    assert_eq!((busy, mm.dying()), (Err(Error::Busy), 1));
    let mut soon = soon(&mm);
    assert_eq!(resident(&mm, &info(8), &mut soon), Err(Error::Busy));
    machine.sync.unlock(&locked, None);
    resident(&mm, &info(8), &mut ctx()).unwrap();
    assert_eq!((mm.dying(), mm.held_pages()), (0, 8));
}

/// Contents of local memory need pages where they go.
#[test]
fn a_move_gets_pages_of_what_is_gone_r_17_1() {
    let mm = full();
    let local = create(&mm, &info(8), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    job(&mm, local, 3, 72, Ok(())).unwrap();
    with(&mm, local, |set| {
        mm.validate(set, local, &[anywhere(PCIE)], &mut ctx())
    })
    .unwrap();
    assert_eq!((mm.dying(), word(&mm, local, 3)), (0, Ok(72)));
    mm.check();
}

/// They wait there with another caching mode.
#[test]
fn pages_of_the_pool_are_no_shortage_r_14_2() {
    let mm = full();
    mm.world().work(usize::MAX);
    mm.reap();
    let cached = Info {
        caching: Caching::Cached,
        ..info(8)
    };
    resident(&mm, &cached, &mut at_once()).unwrap();
    assert_eq!(mm.held_pages(), 8);
}
