//! Budgets of clients (D-20).

use super::mm::{Machine, SIZES, anywhere, create, ctx, info, job, manager, manager_with, with};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Budget, Info, Mm, Options, OwnerId};
use crate::placement::{Place, SegmentId};

const PAGE: u64 = 4096;
const VISIBLE: SegmentId = SegmentId::LocalVisible;
const INVISIBLE: SegmentId = SegmentId::LocalInvisible;

/// A client that may book everything.
fn client(mm: &Mm<Machine>) -> OwnerId {
    let owner = mm.open_account().unwrap();
    for segment in SegmentId::ALL {
        mm.set_budget(owner, segment, Budget::OPEN).unwrap();
    }
    owner
}

fn promise(mm: &Mm<Machine>, owner: OwnerId, min: u64, low: u64) {
    let budget = Budget {
        min: min * PAGE,
        low: low * PAGE,
        ..Budget::OPEN
    };
    mm.set_budget(owner, VISIBLE, budget).unwrap();
}

fn book(mm: &Mm<Machine>, owner: Option<OwnerId>, pages: u64, at: &[Place]) -> Result<Id, Error> {
    let info = Info {
        owner,
        ..info(pages)
    };
    create(mm, &info, at)
}

fn visible(mm: &Mm<Machine>, owner: OwnerId, pages: u64) -> Id {
    book(mm, Some(owner), pages, &[anywhere(VISIBLE)]).unwrap()
}

fn segments<const N: usize>(mm: &Mm<Machine>, bos: [Id; N]) -> [SegmentId; N] {
    bos.map(|bo| mm.segment(bo).unwrap().unwrap())
}

#[test]
fn nobody_else_evicts_a_client_below_its_min_d_20() {
    let mm = manager(SIZES);
    let (front, back) = (client(&mm), client(&mm));
    promise(&mm, front, 16, 16);
    // The least recently used, and all that was promised.
    let mine = [visible(&mm, front, 8), visible(&mm, front, 8)];
    let other = visible(&mm, back, 16);
    let more = visible(&mm, back, 8);
    assert_eq!(segments(&mm, mine), [VISIBLE; 2]);
    assert_eq!(segments(&mm, [other, more]), [INVISIBLE, VISIBLE]);
    let kernel = book(&mm, None, 32, &[anywhere(VISIBLE)]);
    assert_eq!(kernel, Err(Error::NoMemory), "not for the driver either");
    // What it has beyond that may go.
    let third = visible(&mm, front, 8);
    visible(&mm, back, 16);
    let stays = segments(&mm, mine)
        .iter()
        .filter(|at| **at == VISIBLE)
        .count();
    let third = usize::from(segments(&mm, [third]) == [VISIBLE]);
    assert_eq!(stays + third, 2);
}

#[test]
fn a_client_makes_room_for_itself_also_below_its_min() {
    let mm = manager(SIZES);
    let owner = client(&mm);
    promise(&mm, owner, 32, 32);
    let old = visible(&mm, owner, 32);
    let new = visible(&mm, owner, 32);
    assert_eq!(segments(&mm, [old, new]), [INVISIBLE, VISIBLE]);
}

#[test]
fn what_is_below_low_goes_last_d_20() {
    let mm = manager(SIZES);
    let (front, back) = (client(&mm), client(&mm));
    promise(&mm, front, 0, 16);
    let mine = visible(&mm, front, 16);
    let other = visible(&mm, back, 16);
    let more = visible(&mm, back, 16);
    let now = segments(&mm, [mine, other, more]);
    assert_eq!(
        now,
        [VISIBLE, INVISIBLE, VISIBLE],
        "though it was used last"
    );
    visible(&mm, back, 32);
    let now = segments(&mm, [mine]);
    assert_ne!(now, [VISIBLE], "nothing else could leave");
}

#[test]
fn who_takes_no_more_than_was_promised_makes_others_leave_before_it_looks_elsewhere_d_20() {
    let mm = manager(SIZES);
    let (front, back) = (client(&mm), client(&mm));
    promise(&mm, front, 8, 0);
    visible(&mm, back, 32);
    let places = [anywhere(VISIBLE), anywhere(INVISIBLE)];
    let beyond = book(&mm, Some(front), 9, &places).unwrap();
    assert_eq!(segments(&mm, [beyond]), [INVISIBLE]);
    let within = book(&mm, Some(front), 8, &places).unwrap();
    assert_eq!(segments(&mm, [within]), [VISIBLE]);
}

#[test]
fn no_client_books_more_than_its_limit_unless_the_owner_of_the_device_says_so() {
    let mm = manager(SIZES);
    let owner = mm.open_account().unwrap();
    let half = SIZES[0] / 2;
    let old = visible(&mm, owner, half);
    // At its limit it makes room for itself, and nobody else has to.
    let bystander = book(&mm, None, half, &[anywhere(VISIBLE)]).unwrap();
    let new = visible(&mm, owner, half);
    let now = segments(&mm, [bystander, old, new]);
    assert_eq!(now, [VISIBLE, INVISIBLE, VISIBLE]);
    with(&mm, new, |set| mm.pin(set, new)).unwrap();
    let refused = book(&mm, Some(owner), 1, &[anywhere(VISIBLE)]).unwrap_err();
    let limit = Error::Limit {
        segment: VISIBLE,
        limit: half * PAGE,
        booked: half * PAGE,
    };
    assert_eq!(refused, limit);
    let text = refused.to_string();
    for said in ["local-visible", "booked 65536", "65536 bytes"] {
        assert!(text.contains(said), "{text}");
    }
    mm.set_budget(owner, VISIBLE, Budget::OPEN).unwrap();
    assert!(book(&mm, Some(owner), 1, &[anywhere(VISIBLE)]).is_ok());
}

#[test]
fn at_its_limit_a_client_is_given_the_next_place() {
    let mm = manager(SIZES);
    let owner = mm.open_account().unwrap();
    let first = visible(&mm, owner, 16);
    let places = [anywhere(VISIBLE), anywhere(INVISIBLE)];
    let second = book(&mm, Some(owner), 8, &places).unwrap();
    assert_eq!(segments(&mm, [first, second]), [VISIBLE, INVISIBLE]);
}

#[test]
fn no_limit_keeps_a_buffer_from_being_evicted() {
    let options = Options {
        wait_last: false,
        ..Options::default()
    };
    let mm = manager_with(SIZES, options);
    let owner = client(&mm);
    let closed = Budget {
        limit: 0,
        ..Budget::OPEN
    };
    for segment in [INVISIBLE, SegmentId::PcieUnsnoop, SegmentId::System] {
        mm.set_budget(owner, segment, closed).unwrap();
    }
    let mine = visible(&mm, owner, 32);
    book(&mm, None, 32, &[anywhere(VISIBLE)]).unwrap();
    assert_eq!(segments(&mm, [mine]), [SegmentId::System]);
    let back = with(&mm, mine, |set| {
        mm.validate(set, mine, &[anywhere(VISIBLE)], &mut ctx())
    });
    assert_eq!(back, Ok(()), "its stop in a PCIe type is not refused");
}

#[test]
fn a_charge_stays_with_the_range_until_the_gpu_is_done_with_it() {
    let mm = manager(SIZES);
    let owner = client(&mm);
    let balance = |segment| mm.balance(owner, segment).map(|it| (it.booked, it.dying));
    let pcie = SegmentId::PcieUnsnoop;
    let moved = book(&mm, Some(owner), 8, &[anywhere(pcie)]).unwrap();
    with(&mm, moved, |set| mm.make_resident(set, moved, &mut ctx())).unwrap();
    with(&mm, moved, |set| {
        mm.validate(set, moved, &[anywhere(VISIBLE)], &mut ctx())
    })
    .unwrap();
    assert_eq!(balance(pcie), Ok((8 * PAGE, 8 * PAGE)), "the ghost has it");
    assert_eq!(balance(VISIBLE), Ok((8 * PAGE, 0)));
    mm.release(moved).unwrap();
    assert_eq!(
        balance(VISIBLE),
        Ok((8 * PAGE, 8 * PAGE)),
        "the zombie has it"
    );
    mm.close_account(owner).unwrap();
    assert!(balance(VISIBLE).is_ok(), "the account is still needed");
    let late = book(&mm, Some(owner), 1, &[]);
    assert_eq!(late, Err(Error::NotFound), "but nothing new is for it");
    mm.world().work(usize::MAX);
    mm.reap();
    assert_eq!(balance(VISIBLE), Err(Error::NotFound));
    mm.check();
}

/// An account is there as long as its client or one buffer that is for it, be it nowhere.
#[test]
fn an_account_is_there_while_its_client_or_a_buffer_of_it_is() {
    let mm = manager(SIZES);
    let owner = client(&mm);
    let booked = || mm.balance(owner, VISIBLE).map(|it| it.booked);
    let first = visible(&mm, owner, 8);
    mm.world().work(usize::MAX);
    mm.release(first).unwrap();
    assert_eq!(booked(), Ok(0), "its client is there");
    let placed = visible(&mm, owner, 8);
    let nowhere = book(&mm, Some(owner), 4, &[]).unwrap();
    mm.close_account(owner).unwrap();
    mm.world().work(usize::MAX);
    mm.release(placed).unwrap();
    assert_eq!(booked(), Ok(0), "a buffer is there");
    with(&mm, nowhere, |set| {
        mm.validate(set, nowhere, &[anywhere(VISIBLE)], &mut ctx())
    })
    .unwrap();
    assert_eq!(booked(), Ok(4 * PAGE));
    mm.world().work(usize::MAX);
    mm.release(nowhere).unwrap();
    assert_eq!(booked(), Err(Error::NotFound));
    mm.check();
}

/// A stop on the way is booked as one, and not after it was left.
#[test]
fn a_stop_counts_as_passing_until_it_is_left() {
    let mm = manager(SIZES);
    let owner = client(&mm);
    let info = Info {
        owner: Some(owner),
        ..info(8)
    };
    let bo = create(&mm, &info, &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 71, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    let parked = [anywhere(SegmentId::System)];
    with(&mm, bo, |set| mm.validate(set, bo, &parked, &mut ctx())).unwrap();
    mm.world().work(usize::MAX);
    mm.reap();
    let balance = mm.balance(owner, SegmentId::PcieUnsnoop).unwrap();
    assert_eq!((balance.booked, balance.passing), (0, 0));
    mm.check();
}

#[test]
fn no_more_is_promised_than_there_is() {
    let mm = manager(SIZES);
    let (one, other) = (client(&mm), client(&mm));
    promise(&mm, one, 20, 20);
    let promise = |min| {
        let budget = Budget {
            min: min * PAGE,
            ..Budget::OPEN
        };
        mm.set_budget(other, VISIBLE, budget)
    };
    let refused = Error::Limit {
        segment: VISIBLE,
        limit: 32 * PAGE,
        booked: 20 * PAGE,
    };
    assert_eq!(promise(13), Err(refused));
    assert_eq!(promise(12), Ok(()));
    let beyond = Budget {
        min: 2,
        low: 0,
        limit: 1,
    };
    assert_eq!(mm.set_budget(one, VISIBLE, beyond), Err(Error::Invalid));
    mm.close_account(one).unwrap();
    assert_eq!(promise(32), Ok(()), "its promise is over");
}
