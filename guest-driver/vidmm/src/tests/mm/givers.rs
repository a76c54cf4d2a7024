//! Those who have pages of RAM that others need, and who are locked or hang: passed by, and
//! waited for in the end, with the operation's deadline.

use super::{anywhere, at_once, create, ctx, info, job, manager_with, validate, with, word};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Context, Mm, Options, Promotion, World};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::{Caller, Primitives};
use presil_allocator::{Refuse, refusing};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

type Machine = super::Machine;

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;
const SYSTEM: SegmentId = SegmentId::System;
const SIZES: [u64; 4] = [32, 32, 48, 48];
/// When a lock is let go that somebody has.
const LET_GO_NS: u64 = 5_000_000;

fn manager() -> Rc<Mm<Machine>> {
    Rc::new(manager_with(SIZES, Options::default()))
}

/// A buffer of eight pages, with a word in the fourth, that nobody works on.
fn filled(mm: &Mm<Machine>, to: SegmentId, word: u64) -> Id {
    let bo = create(mm, &info(8), &[anywhere(to)]).unwrap();
    job(mm, bo, 3, word, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    bo
}

fn within_a_millisecond(mm: &Mm<Machine>) -> Context {
    Context::until(mm.world().after(1_000_000), Patience::Patient)
}

/// Somebody has a buffer locked, until [`LET_GO_NS`] or for ever. The GPU goes on.
fn lock(mm: &Mm<Machine>, bo: Id, for_ever: bool) {
    let machine = mm.world();
    let locked = mm.reservation(bo).unwrap();
    assert!(machine.sync.try_lock(&locked, None));
    let holder = (Arc::clone(&machine.sync), locked, Cell::new(!for_ever));
    let gpu = Arc::clone(&machine.gpu);
    machine.sync.host().on_poll(move |now| {
        gpu.step();
        if now >= LET_GO_NS && holder.2.take() {
            holder.0.unlock(&holder.1, None);
        }
        (now < 1_000_000_000).then_some(now + 1000)
    });
}

/// The GPU never ends what it does with a buffer.
fn hang(mm: &Mm<Machine>, bo: Id) {
    mm.world().gpu.hung.set([true; 2]);
    job(mm, bo, 3, 99, Ok(())).unwrap();
}

fn now(mm: &Mm<Machine>) -> u64 {
    mm.world().after(0).0
}

fn are_stored<const N: usize>(mm: &Mm<Machine>, bos: [Id; N]) -> [bool; N] {
    bos.map(|bo| mm.is_swapped(bo))
}

fn hibernate(mm: &Mm<Machine>, ctx: &mut Context) -> Result<usize, Error> {
    mm.hibernate(&mut Caller::enter(mm.world().sync()), ctx)
}

#[test]
fn before_a_hibernation_who_is_locked_is_waited_for_r_13_4() {
    for to in [PCIE, SYSTEM] {
        let mm = manager();
        let bos = [71, 72].map(|word| filled(&mm, PCIE, word));
        for bo in bos {
            validate(&mm, bo, to).unwrap();
        }
        lock(&mm, bos[0], false);
        let mut soon = within_a_millisecond(&mm);
        assert_eq!(hibernate(&mm, &mut soon), Err(Error::Busy), "{to:?}");
        assert_eq!(now(&mm), soon.deadline.0);
        assert_eq!(hibernate(&mm, &mut at_once()), Err(Error::Busy), "{to:?}");
        assert_eq!(now(&mm), soon.deadline.0);
        hibernate(&mm, &mut ctx()).unwrap();
        assert_eq!(are_stored(&mm, bos), [true; 2], "{to:?}");
        assert!((LET_GO_NS..LET_GO_NS + 3_000_000).contains(&now(&mm)));
        assert_eq!(bos.map(|bo| word(&mm, bo, 3)), [Ok(71), Ok(72)]);
        mm.check();
    }
}

/// Pages that come back while it is looked for them are in nobody's books.
#[test]
fn a_hibernation_does_not_end_well_while_somebody_has_pages_in_hand_r_13_4() {
    let mm = manager();
    let bo = filled(&mm, PCIE, 71);
    validate(&mm, bo, SYSTEM).unwrap();
    assert_eq!(hibernate(&mm, &mut ctx()), Ok(8));
    let told = Rc::new(Cell::new(None));
    let (other, tell) = (Rc::downgrade(&mm), Rc::clone(&told));
    *mm.world().ram.at_store.borrow_mut() = Some(Box::new(move || {
        let mm = other.upgrade().unwrap();
        tell.set(Some(hibernate(&mm, &mut at_once())));
    }));
    assert_eq!(word(&mm, bo, 3), Ok(71));
    assert_eq!(told.take(), Some(Err(Error::Busy)));
    assert_eq!(hibernate(&mm, &mut ctx()), Ok(8));
}

#[test]
fn before_a_sleep_who_has_pages_and_is_locked_is_waited_for_d_6() {
    let mm = manager();
    let parked = filled(&mm, PCIE, 71);
    let local = filled(&mm, VISIBLE, 72);
    mm.limit_ram(8);
    lock(&mm, parked, false);
    assert_eq!(mm.reserve_ram(&mut at_once()), Err(Error::Busy));
    let mut soon = within_a_millisecond(&mm);
    assert_eq!(mm.reserve_ram(&mut soon), Err(Error::Busy));
    assert_eq!((now(&mm), mm.held_pages()), (soon.deadline.0, 8));
    mm.reserve_ram(&mut ctx()).unwrap();
    assert!((LET_GO_NS..LET_GO_NS + 3_000_000).contains(&now(&mm)));
    assert_eq!(are_stored(&mm, [parked, local]), [true, false]);
    mm.check();
}

#[test]
fn before_a_sleep_who_hangs_keeps_nobody_from_the_pages_of_others_d_6() {
    let mm = manager();
    let [hung, idle] = [71, 72].map(|word| filled(&mm, PCIE, word));
    filled(&mm, VISIBLE, 73);
    mm.limit_ram(16);
    hang(&mm, hung);
    let began = now(&mm);
    assert_eq!(mm.reserve_ram(&mut within_a_millisecond(&mm)), Ok(()));
    assert_eq!(now(&mm), began, "nobody was waited for");
    assert_eq!(are_stored(&mm, [hung, idle]), [false, true]);
    mm.check();
}

#[test]
fn who_hangs_keeps_the_system_from_nobody_elses_pages_r_13_10() {
    let mm = manager();
    let [hung, idle, locked] = [71, 72, 73].map(|word| filled(&mm, PCIE, word));
    hang(&mm, hung);
    lock(&mm, locked, true);
    let began = now(&mm);
    assert_eq!(mm.shrink(8, &mut within_a_millisecond(&mm)), Ok(8));
    assert_eq!((now(&mm), mm.segment(idle)), (began, Ok(Some(SYSTEM))));
    let mut soon = within_a_millisecond(&mm);
    assert_eq!(mm.shrink(8, &mut soon), Ok(0), "all that is left is busy");
    assert_eq!(now(&mm), soon.deadline.0);
    // Its holder may wait for what is reclaimed.
    mm.world().gpu.hung.set([false; 2]);
    assert_eq!(mm.shrink(24, &mut ctx()), Ok(8));
    let stand = [hung, locked].map(|bo| mm.segment(bo));
    assert_eq!(stand, [Ok(Some(SYSTEM)), Ok(Some(PCIE))]);
    mm.check();
}

/// Whatever the switches say of those who are in the way of a place.
#[test]
fn who_has_pages_and_hangs_is_passed_by_also_where_victims_are_waited_for_d_17() {
    for wait_last in [true, false] {
        let options = Options {
            wait_last,
            ..Options::default()
        };
        let mm = manager_with(SIZES, options);
        let [hung, idle] = [71, 72].map(|word| filled(&mm, PCIE, word));
        let local = filled(&mm, VISIBLE, 73);
        mm.limit_ram(16);
        hang(&mm, hung);
        let (began, mut soon) = (now(&mm), within_a_millisecond(&mm));
        let moved = with(&mm, local, |set| {
            mm.validate(set, local, &[anywhere(PCIE)], &mut soon)
        });
        assert_eq!(moved, Ok(()), "{wait_last}");
        assert_eq!(now(&mm), began, "{wait_last}: nobody was waited for");
        assert_eq!(are_stored(&mm, [hung, idle]), [false, true]);
        mm.check();
    }
}

/// To wait does not make the store larger.
#[test]
fn pages_that_cannot_be_stored_are_not_waited_for_r_13_2() {
    let mm = manager();
    filled(&mm, PCIE, 71);
    let new = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    mm.limit_ram(8);
    mm.world().ram.shelf.puts_until_failure.set(0);
    let began = now(&mm);
    let made = with(&mm, new, |set| mm.make_resident(set, new, &mut ctx()));
    assert_eq!(made, Err(Error::Busy));
    assert_eq!(hibernate(&mm, &mut ctx()), Err(Error::Busy));
    assert_eq!(now(&mm), began);
}

/// Two transactions have each other's pages locked: the younger one unlocks what it has, and
/// the older one just waits.
#[test]
fn of_two_who_hold_each_others_pages_the_younger_backs_off_r_9_8() {
    for other_is_older in [true, false] {
        let mm = manager();
        let [theirs, own] = [71, 72].map(|word| filled(&mm, PCIE, word));
        let wanted = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
        mm.limit_ram(16);
        let sync = Arc::clone(&mm.world().sync);
        let [theirs, own, wanted_lock] =
            [theirs, own, wanted].map(|bo| mm.reservation(bo).unwrap());
        let older = other_is_older.then(|| sync.draw().unwrap());
        let mut caller = Caller::enter(&*sync);
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let mut ticket = older.unwrap_or_else(|| sync.draw().unwrap());
        assert!(sync.try_lock(&theirs, Some(&mut ticket)));
        let seen = Rc::new(RefCell::new(Vec::new()));
        let other = (Arc::clone(&sync), Rc::clone(&seen), own.clone());
        let mut holds = Some((theirs, ticket));
        sync.host().on_poll(move |now| {
            let (sync, seen, own) = &other;
            if let Some((theirs, mut ticket)) = holds.take() {
                let free = sync.try_lock(own, Some(&mut ticket));
                seen.borrow_mut().push(free);
                if free {
                    sync.unlock(own, Some(&mut ticket));
                }
                sync.unlock(&theirs, Some(&mut ticket));
            }
            Some(now + 1000)
        });
        let made = set.run(|set| {
            set.lock(&own, 1)?;
            set.lock(&wanted_lock, 1)?;
            mm.make_resident(set, wanted, &mut ctx())
        });
        assert_eq!(made, Ok(()));
        assert_eq!(
            *seen.borrow(),
            [other_is_older],
            "what the other could lock"
        );
        assert_eq!(set.back_offs(), u64::from(other_is_older));
        drop(set);
        mm.check();
    }
}

/// A buffer in local memory that shares its reservation, and that nobody works on.
fn sharing(mm: &Mm<Machine>, to: SegmentId) -> Id {
    let machine = mm.world();
    let shared = machine.sync.new_reservation().unwrap();
    let mut caller = Caller::enter(&*machine.sync);
    let mut set = caller.transaction(Patience::Patient).unwrap();
    let bo = set.run(|set| mm.create(set, &info(8), Some(&shared), &[anywhere(to)], &mut ctx()));
    drop(set);
    let bo = bo.unwrap();
    job(mm, bo, 3, 71, Ok(())).unwrap();
    machine.work(usize::MAX);
    bo
}

type Hook = RefCell<Option<Box<dyn FnOnce()>>>;

/// While `make_room` has a reference of a buffer, at `when`, its owner gives up his own, and
/// there is no memory for the fences that it shares: nobody is waited for.
fn goes_meanwhile(
    scene: impl Fn() -> (Rc<Mm<Machine>>, Id),
    when: impl Fn(&Machine) -> &Hook,
    make_room: impl Fn(&Mm<Machine>),
) {
    let mut gone = 0;
    for nth in 1.. {
        let (mm, victim) = scene();
        let machine = mm.world();
        let (other, ended) = (Rc::downgrade(&mm), machine.gpu.ended.get());
        *when(machine).borrow_mut() = Some(Box::new(move || {
            other.upgrade().unwrap().release(victim).unwrap();
        }));
        let ((), refused) = refusing(Refuse::From(nth), || make_room(&mm));
        assert_eq!(
            machine.gpu.ended.get(),
            ended,
            "allocation {nth}: it waited"
        );
        if when(machine).borrow_mut().take().is_some() {
            mm.release(victim).unwrap();
        } else {
            gone += 1;
        }
        machine.work(usize::MAX);
        mm.reap();
        mm.check();
        let end = (mm.dying(), mm.is_pinned(victim));
        assert_eq!(end, (0, Err(Error::NotFound)));
        if refused == 0 {
            break;
        }
    }
    assert!(gone > 1, "it went without and with memory for its fences");
}

#[test]
fn a_reclaim_waits_for_no_buffer_that_goes_meanwhile() {
    let scene = || {
        let mm = manager();
        let bo = sharing(&mm, PCIE);
        job(&mm, bo, 3, 72, Ok(())).unwrap();
        (mm, bo)
    };
    goes_meanwhile(
        scene,
        |machine| &machine.at_unmap,
        |mm| _ = mm.shrink(8, &mut at_once()),
    );
}

#[test]
fn a_promotion_waits_for_no_buffer_that_goes_meanwhile_d_3() {
    let scene = || {
        let options = Options {
            promotion: Some(Promotion {
                spare_percent: 0,
                rest_ns: 0,
                ..Promotion::default()
            }),
            ..Options::default()
        };
        let mm = Rc::new(manager_with(SIZES, options));
        let bo = sharing(&mm, VISIBLE);
        let all = create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
        mm.release(all).unwrap();
        mm.world().work(usize::MAX);
        mm.reap();
        (mm, bo)
    };
    goes_meanwhile(
        scene,
        |machine| &machine.meanwhile,
        |mm| {
            let mut caller = Caller::enter(mm.world().sync());
            _ = mm.promote(&mut caller, &mut ctx());
        },
    );
}
