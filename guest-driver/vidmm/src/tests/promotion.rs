//! What had to leave a better place comes back (D-3).

use super::mm::{Machine, anywhere, create, ctx, info, manager_with, with};
use crate::arena::Id;
use crate::evict::{Mm, Options, Promotion};
use crate::placement::SegmentId;
use crate::sync::{Caller, Primitives};

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PAGE: u64 = 4096;

const TERMS: Promotion = Promotion {
    bytes: 1 << 30,
    interval_ns: 1000,
    spare_percent: 0,
    rest_ns: 0,
};

fn manager(promotion: Option<Promotion>) -> Mm<Machine> {
    let options = Options {
        promotion,
        ..Options::default()
    };
    manager_with([100, 200, 200, 200], options)
}

fn visible(mm: &Mm<Machine>, pages: u64) -> Id {
    create(mm, &info(pages), &[anywhere(VISIBLE)]).unwrap()
}

fn promote(mm: &Mm<Machine>) -> u64 {
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    let bytes = mm.promote(&mut caller, &mut ctx()).unwrap();
    mm.check();
    bytes / PAGE
}

fn are_visible<const N: usize>(mm: &Mm<Machine>, bos: [Id; N]) -> [bool; N] {
    bos.map(|bo| mm.segment(bo) == Ok(Some(VISIBLE)))
}

/// Time passes.
fn sleep(mm: &Mm<Machine>, ns: u64) {
    let sync = &mm.world().sync;
    let host = sync.host().clone();
    let until = crate::sync::Deadline(host.now_ns() + ns);
    let fence = mm.world().submit(super::mm::Work::Fill(vec![], 0)).unwrap();
    host.on_poll(|now| Some(now + 10));
    let waited = sync.wait_fence(&fence, crate::Patience::Patient, until);
    assert_eq!(waited, Err(crate::Error::TimedOut));
    mm.world().work(usize::MAX);
}

/// Two that had to leave, the second of them used last, and the one that took all.
fn displaced(mm: &Mm<Machine>) -> ([Id; 2], Id) {
    let bos = [visible(mm, 40), visible(mm, 40)];
    let all = visible(mm, 100);
    mm.world().work(usize::MAX);
    assert_eq!(are_visible(mm, bos), [false; 2]);
    (bos, all)
}

fn go(mm: &Mm<Machine>, bo: Id) {
    mm.release(bo).unwrap();
    mm.world().work(usize::MAX);
    mm.reap();
}

#[test]
fn who_was_used_last_comes_back_first_when_there_is_room_d_3() {
    let mm = manager(Some(TERMS));
    let (bos, all) = displaced(&mm);
    assert_eq!(promote(&mm), 0, "there is none");
    go(&mm, all);
    let taken = visible(&mm, 50);
    assert_eq!(promote(&mm), 40);
    assert_eq!(are_visible(&mm, bos), [false, true]);
    go(&mm, taken);
    assert_eq!(promote(&mm), 40);
    assert_eq!(are_visible(&mm, bos), [true, true]);
    assert_eq!(mm.report().counters.promoted_pages, 80);
    assert_eq!(promote(&mm), 0, "all are where they want to be");
    let off = manager(None);
    let (bos, all) = displaced(&off);
    go(&off, all);
    assert_eq!((promote(&off), are_visible(&off, bos)), (0, [false; 2]));
}

#[test]
fn no_more_comes_back_in_an_interval_than_the_budget_d_3() {
    let terms = Promotion {
        bytes: 50 * PAGE,
        interval_ns: 1_000_000,
        ..TERMS
    };
    let mm = manager(Some(terms));
    let (_, all) = displaced(&mm);
    go(&mm, all);
    sleep(&mm, 2_000_000);
    assert_eq!((promote(&mm), promote(&mm)), (40, 0));
    sleep(&mm, 500_000);
    assert_eq!(promote(&mm), 0);
    sleep(&mm, 500_000);
    assert_eq!(promote(&mm), 40);
}

#[test]
fn some_stays_free_and_who_had_to_leave_just_now_rests_d_3() {
    let terms = Promotion {
        spare_percent: 30,
        rest_ns: 1_000_000,
        ..TERMS
    };
    let mm = manager(Some(terms));
    let (bos, all) = displaced(&mm);
    go(&mm, all);
    assert_eq!(promote(&mm), 0, "they rest");
    sleep(&mm, 1_000_000);
    assert_eq!(promote(&mm), 40);
    assert_eq!(
        are_visible(&mm, bos),
        [false, true],
        "less than 30 would be left"
    );
}

#[test]
fn nobody_leaves_and_nobody_is_waited_for_d_3() {
    let mm = manager(Some(TERMS));
    let (bos, all) = displaced(&mm);
    let before = mm.report().types.map(|it| it.traffic.evictions);
    let reservation = mm.reservation(bos[1]).unwrap();
    go(&mm, all);
    let mut holder = Caller::enter(mm.world().sync.as_ref());
    let held = holder.try_lock(&reservation).unwrap();
    assert_eq!(promote(&mm), 40, "the one that nobody has in hand");
    drop(held);
    assert_eq!(are_visible(&mm, bos), [true, false]);
    let after = mm.report().types.map(|it| it.traffic.evictions);
    assert_eq!(before, after);
}

#[test]
fn after_a_sleep_buffers_come_back_where_they_were_d_3() {
    let mm = manager(Some(TERMS));
    let bos = [visible(&mm, 40), visible(&mm, 40)];
    with(&mm, bos[0], |set| mm.pin(set, bos[0])).unwrap();
    with(&mm, bos[0], |set| mm.unpin(set, bos[0])).unwrap();
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    for segment in [VISIBLE, SegmentId::LocalInvisible] {
        mm.evict_all(&mut caller, segment, &mut ctx()).unwrap();
    }
    assert_eq!(are_visible(&mm, bos), [false; 2]);
    assert_eq!((promote(&mm), are_visible(&mm, bos)), (80, [true; 2]));
}
