//! Planned eviction (D-23).

use super::mm::{Machine, anywhere, create, ctx, info, manager_with, with};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Mm, Options};
use crate::placement::{Flags, Place, SegmentId, Window};

const VISIBLE: SegmentId = SegmentId::LocalVisible;

/// A heap of eight buffers of four pages each, in the order of their addresses.
fn full(plan: bool) -> (Mm<Machine>, [Id; 8]) {
    let options = Options {
        plan,
        ..Options::default()
    };
    let mm = manager_with([32, 64, 64, 64], options);
    let bos = [(); 8].map(|()| create(&mm, &info(4), &[anywhere(VISIBLE)]).unwrap());
    (mm, bos)
}

fn contiguous(mm: &Mm<Machine>, pages: u64) -> Result<Id, Error> {
    create(
        mm,
        &info(pages),
        &[Place::anywhere(VISIBLE, Flags::CONTIGUOUS)],
    )
}

/// Used now, in this order.
fn touch(mm: &Mm<Machine>, bos: &[Id]) {
    for bo in bos {
        with(mm, *bo, |set| mm.pin(set, *bo)).unwrap();
        with(mm, *bo, |set| mm.unpin(set, *bo)).unwrap();
    }
}

/// Which of them are there no more.
fn gone(mm: &Mm<Machine>, bos: &[Id]) -> Vec<usize> {
    let gone = |n: &usize| mm.segment(bos[*n]).unwrap() != Some(VISIBLE);
    (0..bos.len()).filter(gone).collect()
}

#[test]
fn only_those_leave_whose_pages_are_needed_d_23() {
    for (plan, left) in [(true, vec![2, 3]), (false, vec![0, 2, 3, 6])] {
        let (mm, bos) = full(plan);
        // One by one, two leave in vain before there are two neighbours.
        touch(&mm, &[6, 0, 3, 2, 1, 4, 5, 7].map(|n| bos[n]));
        contiguous(&mm, 8).unwrap();
        assert_eq!(gone(&mm, &bos), left, "{plan}");
    }
}

#[test]
fn who_was_used_last_stays_where_others_suffice_d_23() {
    let (mm, bos) = full(true);
    create(&mm, &info(6), &[anywhere(VISIBLE)]).unwrap();
    assert_eq!(gone(&mm, &bos), [0, 1]);
    // A small request first had one leave that a larger one does not need.
    let (mm, bos) = full(true);
    mm.release(bos[1]).unwrap();
    mm.world().work(usize::MAX);
    mm.reap();
    touch(&mm, &[4, 0, 2, 3, 5, 6, 7].map(|n| bos[n]));
    contiguous(&mm, 8).unwrap();
    let stays = [0, 2, 3, 4, 5, 6, 7].map(|n| bos[n]);
    assert_eq!(gone(&mm, &stays), [0], "the neighbour of the hole");
}

#[test]
fn who_is_not_needed_once_others_leave_stays_d_23() {
    let mm = manager_with([32, 64, 64, 64], Options::default());
    let at = |first, last| Place {
        window: Window::new(first, last),
        ..anywhere(VISIBLE)
    };
    let [small, large, rest] = [(0, 4), (4, 12), (12, 32)]
        .map(|(first, last)| create(&mm, &info(last - first), &[at(first, last)]).unwrap());
    with(&mm, rest, |set| mm.pin(set, rest)).unwrap();
    // Blocks of both would be taken, but the second has enough of them.
    create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    assert_eq!(gone(&mm, &[small, large]), [1]);
}

#[test]
fn nobody_leaves_for_a_request_that_does_not_fit_in_any_case_d_23() {
    for (plan, left) in [(true, 0), (false, 6)] {
        let (mm, bos) = full(plan);
        for bo in [bos[2], bos[5]] {
            with(&mm, bo, |set| mm.pin(set, bo)).unwrap();
        }
        assert_eq!(contiguous(&mm, 16), Err(Error::NoMemory));
        assert_eq!(gone(&mm, &bos).len(), left, "{plan}");
    }
}

#[test]
fn a_plan_goes_round_those_that_cannot_leave_d_23() {
    let (mm, bos) = full(true);
    let mut context = crate::evict::Context {
        no_wait: true,
        ..ctx()
    };
    mm.world().work(usize::MAX);
    // Somebody has the least recently used one in hand.
    let reservation = mm.reservation(bos[0]).unwrap();
    let mut holder = crate::sync::Caller::enter(mm.world().sync.as_ref());
    let held = holder.try_lock(&reservation).unwrap();
    let mut caller = crate::sync::Caller::enter(mm.world().sync.as_ref());
    let mut set = caller.transaction(crate::Patience::Patient).unwrap();
    let places = [anywhere(VISIBLE)];
    let kernel = crate::evict::Info {
        kind: crate::bo::Kind::Kernel,
        ..info(4)
    };
    let made = set.run(|set| mm.create(set, &kernel, None, &places, &mut context));
    // Its range is not to be waited for by who may not: the copy has not ended.
    assert_eq!(made, Err(Error::Busy));
    assert_eq!(gone(&mm, &bos), [1], "the next one left");
    drop(held);
}
