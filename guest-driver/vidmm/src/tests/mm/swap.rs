//! The rules of pages that are given up: beyond the limit, for the system, before a
//! sleep.

use super::{
    SIZES, Work, anywhere, at_once, create, ctx, first_page, info, job, manager, touch, validate,
    with, word,
};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::{Budget, Context, Info, Mm, Options, Used, World};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::{Caller, Primitives, Usage};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;
const SYSTEM: SegmentId = SegmentId::System;

type Machine = super::Machine;

/// A buffer of eight pages, with a word in the fourth, that nobody works on.
fn filled(mm: &Mm<Machine>, info: &Info, to: SegmentId, word: u64) -> Id {
    let place = if to == SYSTEM { PCIE } else { to };
    let bo = create(mm, info, &[anywhere(place)]).unwrap();
    job(mm, bo, 3, word, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    if to == SYSTEM {
        validate(mm, bo, to).unwrap();
    }
    bo
}

/// Eight pages of a client to which as many are promised in RAM.
fn promised(mm: &Mm<Machine>) -> Info {
    let owner = mm.open_account().unwrap();
    let budget = Budget {
        min: 8 * 4096,
        ..Budget::OPEN
    };
    mm.set_budget(owner, PCIE, budget).unwrap();
    Info {
        owner: Some(owner),
        ..info(8)
    }
}

fn resident(mm: &Mm<Machine>, bo: Id) -> Result<(), Error> {
    with(mm, bo, |set| mm.make_resident(set, bo, &mut ctx()))
}

fn are_stored<const N: usize>(mm: &Mm<Machine>, bos: [Id; N]) -> [bool; N] {
    bos.map(|bo| mm.is_swapped(bo))
}

fn shrink(mm: &Mm<Machine>, pages: usize) -> Result<usize, Error> {
    let shrunk = mm.shrink(pages, &mut at_once());
    mm.check();
    shrunk
}

/// Nothing waits in the pool.
fn empty_pool(mm: &Mm<Machine>) {
    let pooled = mm.world().ram.pool.with(|pool| pool.pages());
    assert_eq!(shrink(mm, pooled), Ok(pooled));
}

#[test]
fn beyond_the_limit_of_pages_what_was_used_least_recently_is_stored_r_13_2_r_7_13() {
    let mm = manager(SIZES);
    mm.limit_ram(24);
    let first = filled(&mm, &info(8), PCIE, 71);
    let second = filled(&mm, &info(8), PCIE, 72);
    let parked = filled(&mm, &info(8), SYSTEM, 73);
    let new = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    for (stored, bo) in [
        ([false, false, false], None),
        // What is parked goes first.
        ([false, false, true], Some(new)),
        ([true, false, false], Some(parked)),
    ] {
        if let Some(bo) = bo {
            assert!(word(&mm, bo, 3).is_ok());
        }
        assert_eq!(are_stored(&mm, [first, second, parked]), stored);
        assert!(mm.held_pages() <= 24);
        mm.check();
    }
    assert_eq!(
        [first, second, parked].map(|bo| word(&mm, bo, 3)),
        [Ok(71), Ok(72), Ok(73)]
    );
}

/// Every candidate fails, and each search ends.
#[test]
fn a_search_for_pages_that_finds_nobody_ends_r_13_2() {
    let mm = manager(SIZES);
    let machine = mm.world();
    mm.limit_ram(16);
    let bos = [71, 72].map(|word| filled(&mm, &info(8), PCIE, word));
    let new = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    machine.ram.shelf.puts_until_failure.set(0);
    assert_eq!(resident(&mm, new), Err(Error::Busy), "the store is full");
    machine.mend();
    for bo in bos {
        with(&mm, bo, |set| {
            mm.validate(set, bo, &[anywhere(PCIE)], &mut ctx())?;
            mm.pin(set, bo)
        })
        .unwrap();
    }
    assert_eq!(resident(&mm, new), Err(Error::NoMemory), "all are pinned");
    with(&mm, bos[0], |set| mm.unpin(set, bos[0])).unwrap();
    let locked = mm.reservation(bos[0]).unwrap();
    assert!(machine.sync.try_lock(&locked, None));
    assert_eq!(resident(&mm, new), Err(Error::Busy), "one is locked");
    machine.sync.unlock(&locked, None);
    resident(&mm, new).unwrap();
    assert_eq!(are_stored(&mm, bos), [true, false]);
    // Nobody gives up pages for what does not go at all.
    mm.limit_ram(16);
    let large = create(&mm, &info(17), &[anywhere(PCIE)]).unwrap();
    assert_eq!(resident(&mm, large), Err(Error::NoMemory));
    assert_eq!(are_stored(&mm, [bos[1], new]), [false; 2]);
    mm.check();
}

#[test]
fn who_may_wait_for_pages_waits_for_the_gpu_and_who_may_not_is_told_busy() {
    let mm = manager(SIZES);
    mm.limit_ram(8);
    let old = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    job(&mm, old, 3, 77, Ok(())).unwrap();
    let new = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    let at_once = with(&mm, new, |set| mm.make_resident(set, new, &mut at_once()));
    assert_eq!((at_once, mm.world().gpu.queued()), (Err(Error::Busy), 1));
    resident(&mm, new).unwrap();
    assert_eq!(are_stored(&mm, [old]), [true]);
    assert_eq!(word(&mm, old, 3), Ok(77));
}

type Call = fn(&Mm<Machine>, Id, &mut Context) -> Result<(), Error>;

/// Whatever makes pages exist for a buffer in the GART.
const CALLS: [Call; 3] = [
    |mm, bo, ctx| with(mm, bo, |set| mm.make_resident(set, bo, ctx)),
    |mm, bo, ctx| with(mm, bo, |set| mm.map_kernel(set, bo, 0..8, ctx, |_| Ok(()))),
    |mm, bo, ctx| touch(mm, bo, 0, ctx).map(drop),
];

fn within_a_millisecond(mm: &Mm<Machine>) -> Context {
    Context::until(mm.world().after(1_000_000), Patience::Patient)
}

/// A lock that others have for a while is no shortage, and has the operation's deadline.
#[test]
fn who_has_pages_and_is_locked_is_waited_for_r_13_2() {
    let moves: Call =
        |mm, bo, ctx| with(mm, bo, |set| mm.validate(set, bo, &[anywhere(PCIE)], ctx));
    let cases = CALLS.map(|call| (call, PCIE));
    for (n, (call, at)) in cases.into_iter().chain([(moves, VISIBLE)]).enumerate() {
        let mm = manager(SIZES);
        let needy = create(&mm, &info(8), &[anywhere(at)]).unwrap();
        let other = filled(&mm, &info(8), PCIE, 72);
        mm.limit_ram(8);
        let machine = mm.world();
        let locked = mm.reservation(other).unwrap();
        assert!(machine.sync.try_lock(&locked, None));
        assert_eq!(call(&mm, needy, &mut at_once()), Err(Error::Busy), "{n}");
        let mut soon = within_a_millisecond(&mm);
        assert_eq!(call(&mm, needy, &mut soon), Err(Error::Busy), "{n}");
        let holder = (Arc::clone(&machine.sync), locked, Cell::new(true));
        let (gpu, free_at) = (Arc::clone(&machine.gpu), machine.after(5_000_000));
        machine.sync.host().on_poll(move |now| {
            gpu.step();
            if now >= free_at.0 && holder.2.take() {
                holder.0.unlock(&holder.1, None);
            }
            Some(now + 1000)
        });
        assert_eq!(call(&mm, needy, &mut ctx()), Ok(()), "{n}");
        assert!(machine.after(0) >= free_at, "it was waited for");
        assert_eq!(are_stored(&mm, [other]), [true]);
        mm.check();
    }
}

/// He may hang: who gives pages up at once comes first, and then the deadline.
#[test]
fn who_has_pages_and_never_ends_keeps_nobody_from_those_of_others_r_13_2() {
    for (n, call) in CALLS.into_iter().enumerate() {
        let mm = manager(SIZES);
        let [hung, idle] = [71, 72].map(|word| filled(&mm, &info(8), PCIE, word));
        let [new, last] = [(); 2].map(|()| create(&mm, &info(8), &[anywhere(PCIE)]).unwrap());
        mm.limit_ram(16);
        mm.world().gpu.hung.set([true; 2]);
        job(&mm, hung, 3, 77, Ok(())).unwrap();
        let began = mm.world().after(0);
        let mut soon = within_a_millisecond(&mm);
        assert_eq!(call(&mm, new, &mut soon), Ok(()), "{n}");
        assert_eq!(
            (mm.world().after(0), are_stored(&mm, [hung, idle])),
            (began, [false, true])
        );
        with(&mm, new, |set| mm.pin(set, new)).unwrap();
        assert_eq!(call(&mm, last, &mut soon), Err(Error::Busy), "{n}");
        assert!(mm.world().after(0) >= soon.deadline);
        mm.check();
    }
}

/// To wait for oneself would not help.
#[test]
fn who_shares_a_reservation_gives_no_pages_up_to_who_has_it_locked() {
    let mm = manager(SIZES);
    let shared = mm.world().sync.new_reservation().unwrap();
    let mut caller = Caller::enter(&*mm.world().sync);
    let mut set = caller.transaction(Patience::Patient).unwrap();
    let [first, second] = set
        .run(|set| {
            let place = [anywhere(PCIE)];
            let mut create = || mm.create(set, &info(8), Some(&shared), &place, &mut ctx());
            Ok([create()?, create()?])
        })
        .unwrap();
    mm.limit_ram(8);
    mm.make_resident(&mut set, first, &mut ctx()).unwrap();
    let made = mm.make_resident(&mut set, second, &mut ctx());
    assert_eq!(made, Err(Error::NoMemory), "and not busy");
    drop(set);
    assert_eq!((are_stored(&mm, [first]), mm.held_pages()), ([false], 8));
    mm.check();
}

/// It would be busy each time that it is tried.
#[test]
fn who_has_all_pages_in_its_own_set_is_told_that_there_are_none() {
    let mm = manager(SIZES);
    let local = filled(&mm, &info(8), VISIBLE, 71);
    let other = filled(&mm, &info(8), PCIE, 72);
    let new = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    mm.limit_ram(8);
    let all = [local, other, new].map(|bo| mm.reservation(bo).unwrap());
    let mut caller = Caller::enter(&*mm.world().sync);
    let mut set = caller.transaction(Patience::Patient).unwrap();
    set.lock_all(&all, 1).unwrap();
    let moved = mm.validate(&mut set, local, &[anywhere(PCIE)], &mut ctx());
    assert_eq!(moved, Err(Error::NoMemory));
    let made = mm.make_resident(&mut set, new, &mut ctx());
    assert_eq!(made, Err(Error::NoMemory));
    let mapped = mm.map_kernel(&mut set, new, 0..8, &mut ctx(), |_| Ok(()));
    assert_eq!(mapped, Err(Error::NoMemory));
    drop(set);
    assert_eq!(word(&mm, local, 3), Ok(71));
    mm.check();
}

/// Of those who share a reservation, as all of a process may, some wait in RAM.
#[test]
fn before_a_sleep_who_shares_a_reservation_gives_pages_up_for_local_memory() {
    let mm = manager(SIZES);
    let shared = mm.world().sync.new_reservation().unwrap();
    let [parked, local] = [(PCIE, 71), (VISIBLE, 72)].map(|(to, word)| {
        let mut caller = Caller::enter(&*mm.world().sync);
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let bo =
            set.run(|set| mm.create(set, &info(8), Some(&shared), &[anywhere(to)], &mut ctx()));
        drop(set);
        let bo = bo.unwrap();
        job(&mm, bo, 3, word, Ok(())).unwrap();
        mm.world().work(usize::MAX);
        bo
    });
    mm.limit_ram(8);
    mm.reserve_ram(&mut ctx()).unwrap();
    assert_eq!(are_stored(&mm, [parked, local]), [true, false]);
    mm.check();
    mm.unreserve_ram();
    assert_eq!([parked, local].map(|bo| word(&mm, bo, 3)), [Ok(71), Ok(72)]);
}

#[test]
fn what_cannot_be_stored_is_trouble_only_where_nobody_else_can_be() {
    let mm = manager(SIZES);
    mm.limit_ram(16);
    let [bad, good] = [71, 72].map(|word| filled(&mm, &info(8), PCIE, word));
    mm.world().ram.shelf.bad.set(Some(71));
    let new = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    resident(&mm, new).unwrap();
    assert_eq!(are_stored(&mm, [bad, good]), [false, true]);
    with(&mm, new, |set| mm.pin(set, new)).unwrap();
    let more = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    assert_eq!(resident(&mm, more), Err(Error::Io));
    mm.world().ram.shelf.bad.set(None);
    assert_eq!([bad, good].map(|bo| word(&mm, bo, 3)), [Ok(71), Ok(72)]);
    mm.check();
}

/// Contents of local memory need pages where they go.
#[test]
fn a_buffer_that_leaves_local_memory_makes_others_give_pages_up() {
    let mm = manager(SIZES);
    mm.limit_ram(8);
    let parked = filled(&mm, &info(8), SYSTEM, 71);
    let local = filled(&mm, &info(8), VISIBLE, 72);
    validate(&mm, local, PCIE).unwrap();
    mm.world().work(usize::MAX);
    assert_eq!(are_stored(&mm, [parked]), [true]);
    assert_eq!(word(&mm, local, 3), Ok(72));
    // Once nobody is in the way, it comes back.
    assert_eq!(word(&mm, parked, 3), Ok(71));
    mm.check();
}

#[test]
fn what_is_promised_to_a_client_is_not_stored_for_another() {
    let mm = manager(SIZES);
    mm.limit_ram(16);
    let theirs = promised(&mm);
    let theirs = filled(&mm, &theirs, PCIE, 71);
    let other = filled(&mm, &info(8), PCIE, 72);
    filled(&mm, &info(8), PCIE, 73);
    assert_eq!(are_stored(&mm, [theirs, other]), [false, true]);
}

/// What a client has only on its way through a memory type is not what it was promised
/// there: it is gone with the next step, or when that fails (D-20).
#[test]
fn what_is_on_its_way_protects_nothing_from_being_stored() {
    for to in [PCIE, SYSTEM] {
        let mm = manager(SIZES);
        let theirs = promised(&mm);
        let stays = filled(&mm, &theirs, PCIE, 71);
        let moves = filled(&mm, &theirs, VISIBLE, 72);
        mm.limit_ram(8);
        assert_eq!(validate(&mm, moves, to).err(), Some(Error::NoMemory));
        assert_eq!(are_stored(&mm, [stays]), [false], "{to:?}");
        assert_eq!(mm.segment(moves), Ok(Some(VISIBLE)));
        mm.check();
    }
}

/// Nor is it protected itself by what its client has there to stay.
#[test]
fn what_only_stops_somewhere_is_stored_before_what_was_promised_there() {
    let mm = manager(SIZES);
    let theirs = promised(&mm);
    let stays = filled(&mm, &theirs, PCIE, 71);
    let stops = filled(&mm, &theirs, VISIBLE, 72);
    let moved = with(&mm, stops, |set| {
        mm.validate(set, stops, &[anywhere(SYSTEM)], &mut at_once())
    });
    assert_eq!(
        (moved, mm.segment(stops)),
        (Err(Error::Busy), Ok(Some(PCIE)))
    );
    mm.world().work(usize::MAX);
    mm.limit_ram(16);
    filled(&mm, &info(8), PCIE, 73);
    assert_eq!(are_stored(&mm, [stays, stops]), [false, true]);
    assert_eq!([stays, stops].map(|bo| word(&mm, bo, 3)), [Ok(71), Ok(72)]);
    mm.check();
}

#[test]
fn what_comes_back_by_itself_makes_nobody_give_pages_up() {
    let options = Options {
        promotion: Some(crate::evict::Promotion {
            spare_percent: 0,
            rest_ns: 0,
            ..Default::default()
        }),
        ..Options::default()
    };
    let mm = super::manager_with(SIZES, options);
    let displaced = filled(&mm, &info(8), VISIBLE, 71);
    let all = create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
    mm.world().work(usize::MAX);
    let mut caller = Caller::enter(&*mm.world().sync);
    let away = SegmentId::LocalInvisible;
    mm.evict_all(&mut caller, away, &mut ctx()).unwrap();
    empty_pool(&mm);
    // A part of it; what is stored as a whole does not come back by itself at all.
    assert_eq!(shrink(&mm, 3), Ok(3));
    let other = filled(&mm, &info(8), PCIE, 72);
    mm.limit_ram(13);
    mm.release(all).unwrap();
    mm.promote(&mut caller, &mut ctx()).unwrap();
    assert_eq!(mm.segment(displaced), Ok(Some(SYSTEM)));
    assert_eq!((are_stored(&mm, [other]), mm.held_pages()), ([false], 13));
    mm.limit_ram(16);
    mm.promote(&mut caller, &mut ctx()).unwrap();
    assert_eq!(mm.segment(displaced), Ok(Some(VISIBLE)));
    assert_eq!(are_stored(&mm, [other]), [false]);
    mm.check();
}

#[test]
fn the_system_gets_the_pools_pages_then_those_of_who_was_used_least_recently_r_13_10() {
    let mm = manager(SIZES);
    let gone = filled(&mm, &info(4), PCIE, 70);
    mm.release(gone).unwrap();
    assert_eq!(mm.world().ram.pool.with(|pool| pool.pages()), 4);
    let [first, second] = [71, 72].map(|word| filled(&mm, &info(8), PCIE, word));
    assert_eq!(mm.shrinkable(), 20);
    assert_eq!(shrink(&mm, 4), Ok(4));
    assert_eq!(mm.held_pages(), 16, "the pool was enough");
    // As many as are asked for, and the rest where it was.
    assert_eq!(shrink(&mm, 5), Ok(5));
    assert_eq!((mm.held_pages(), mm.report().ram.swapped), (11, 5));
    assert_eq!(mm.segment(second), Ok(Some(PCIE)));
    assert_eq!(shrink(&mm, 5), Ok(5), "it goes on where it was");
    assert_eq!((mm.held_pages(), mm.report().ram.swapped), (6, 10));
    assert_eq!(shrink(&mm, 100), Ok(6));
    assert_eq!(shrink(&mm, 100), Ok(0), "there is nothing to give");
    assert_eq!([first, second].map(|bo| word(&mm, bo, 3)), [Ok(71), Ok(72)]);
    assert!(mm.world().ram.shelf.stored.borrow().is_empty());
    mm.check();
}

#[test]
fn who_is_pinned_without_pages_or_in_use_gives_none_r_13_10() {
    let mm = manager(SIZES);
    let pinned = filled(&mm, &info(8), PCIE, 71);
    with(&mm, pinned, |set| mm.pin(set, pinned)).unwrap();
    let empty = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    let local = filled(&mm, &info(8), VISIBLE, 73);
    // The GPU works on what shares its reservation.
    let parked = filled(&mm, &info(8), SYSTEM, 75);
    let fence = mm.world().submit(Work::Fill(vec![], 0)).unwrap();
    with(&mm, parked, |set| {
        let held = set.get(&mm.reservation(parked)?).unwrap();
        held.add(&fence, Usage::Read)
    })
    .unwrap();
    let busy = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    job(&mm, busy, 3, 74, Ok(())).unwrap();
    let swap = with(&mm, pinned, |set| mm.swap_out(set, pinned, &mut ctx()));
    assert_eq!(swap, Err(Error::Busy));
    let before = [pinned, empty, local, busy].map(|bo| mm.segment(bo));
    assert_eq!(shrink(&mm, 100), Ok(0), "a direct reclaim does not wait");
    let after = [pinned, empty, local, busy].map(|bo| mm.segment(bo));
    assert_eq!((after, mm.world().gpu.queued()), (before, 2));
    assert_eq!(mm.shrink(100, &mut ctx()), Ok(16), "another one may");
    assert_eq!(word(&mm, busy, 3), Ok(74));
    mm.check();
}

/// Whoever is gone gives his pages without a store.
#[test]
fn what_is_gone_or_lost_is_not_stored() {
    let mm = manager(SIZES);
    let gone = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    job(&mm, gone, 3, 71, Ok(())).unwrap();
    mm.release(gone).unwrap();
    mm.world().work(usize::MAX);
    assert_eq!((mm.dying(), shrink(&mm, 1)), (1, Ok(8)));
    assert_eq!(mm.dying(), 0);
    empty_pool(&mm);
    let lost = filled(&mm, &info(8), VISIBLE, 72);
    validate(&mm, lost, PCIE).unwrap();
    mm.world().gpu.lose();
    assert_eq!(shrink(&mm, 1), Ok(8));
    assert_eq!(word(&mm, lost, 3), Err(Error::Lost));
    assert!(mm.world().ram.shelf.stored.borrow().is_empty());
}

/// In its group until all of it is stored, at the place where it was, and again as
/// the last that was used.
#[test]
fn a_group_changes_after_a_backup_and_not_before_r_13_9() {
    let mm = manager(SIZES);
    let machine = mm.world();
    let shared = machine.sync.new_reservation().unwrap();
    let group = mm.new_group(&shared).unwrap();
    let [first, second] = [71, 72].map(|word| {
        let mut caller = Caller::enter(&*machine.sync);
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let bo = set.run(|set| {
            let bo = mm.create(set, &info(8), Some(&shared), &[anywhere(PCIE)], &mut ctx())?;
            mm.join(set, bo, Some(group))?;
            Ok(bo)
        });
        drop(set);
        let bo = bo.unwrap();
        job(&mm, bo, 3, word, Ok(())).unwrap();
        machine.work(usize::MAX);
        validate(&mm, bo, SYSTEM).unwrap();
        bo
    });
    let stamps = mm.stamps();
    machine.ram.shelf.puts_until_failure.set(0);
    assert_eq!(shrink(&mm, 8), Ok(0), "the store is full");
    machine.mend();
    assert_eq!((mm.report().unevictable, mm.stamps()), (0, stamps));
    assert_eq!(shrink(&mm, 5), Ok(5));
    assert_eq!(
        (mm.report().unevictable, mm.stamps()),
        (0, stamps),
        "a part of it"
    );
    assert_eq!(shrink(&mm, 3), Ok(3), "the same one");
    assert_eq!(mm.report().unevictable, 1);
    assert_eq!((mm.held_pages(), mm.is_swapped(second)), (8, false));
    // To touch the group does not bring back what is stored (D-4).
    let mut caller = Caller::enter(&*machine.sync);
    let mut set = caller.transaction(Patience::Patient).unwrap();
    set.lock_all([&shared], 1).unwrap();
    let groups = [group];
    mm.unreserve(
        set,
        Used {
            buffers: &[],
            groups: &groups,
        },
    );
    assert_eq!(mm.report().unevictable, 1);
    assert_eq!(word(&mm, first, 3), Ok(71));
    assert_eq!(mm.report().unevictable, 0);
    assert_eq!(shrink(&mm, 1), Ok(1));
    assert_eq!(mm.held_pages(), 15);
    assert_eq!(word(&mm, first, 3), Ok(71), "it was the other one's page");
    mm.check();
    assert_eq!(mm.destroy_group(group), Err(Error::Busy));
    for bo in [first, second] {
        mm.release(bo).unwrap();
    }
    mm.destroy_group(group).unwrap();
}

/// The system is short of pages in the middle of a move.
#[test]
fn a_reclaim_in_the_middle_of_a_move_takes_nothing_of_what_moves() {
    let mm = Rc::new(manager(SIZES));
    let other = filled(&mm, &info(8), PCIE, 71);
    let moving = filled(&mm, &info(8), VISIBLE, 72);
    let given = Rc::new(Cell::new(None));
    let reclaim = (Rc::downgrade(&mm), Rc::clone(&given));
    let meanwhile = move || {
        let mm = reclaim.0.upgrade().unwrap();
        reclaim.1.set(Some(mm.shrink(100, &mut at_once())));
    };
    *mm.world().meanwhile.borrow_mut() = Some(Box::new(meanwhile));
    validate(&mm, moving, PCIE).unwrap();
    assert_eq!(given.take(), Some(Ok(8)));
    assert_eq!(are_stored(&mm, [other, moving]), [false; 2], "page by page");
    assert_eq!(mm.report().ram.swapped, 8);
    mm.check();
    mm.world().work(usize::MAX);
    assert_eq!([other, moving].map(|bo| word(&mm, bo, 3)), [Ok(71), Ok(72)]);
}

#[test]
fn before_a_hibernation_everything_is_stored_and_comes_back_r_13_4() {
    let mm = manager(SIZES);
    let machine = mm.world();
    let homes = [VISIBLE, SegmentId::LocalInvisible, PCIE, SYSTEM];
    let mut word_of = 70;
    let bos = homes.map(|to| {
        word_of += 1;
        filled(&mm, &info(8), to, word_of)
    });
    let pinned = filled(&mm, &info(8), PCIE, 75);
    with(&mm, pinned, |set| mm.pin(set, pinned)).unwrap();
    let gone = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    mm.release(gone).unwrap();
    let mut caller = Caller::enter(&*machine.sync);
    machine.ram.shelf.puts_until_failure.set(9);
    assert_eq!(mm.hibernate(&mut caller, &mut ctx()), Err(Error::Busy));
    mm.check();
    machine.mend();
    let stored = mm.hibernate(&mut caller, &mut ctx());
    assert_eq!(stored, Ok(24), "beside those that were stored already");
    assert_eq!(machine.ram.shelf.stored.borrow().len(), 32);
    assert_eq!(mm.held_pages(), 8, "what is pinned");
    mm.check();
    // The machine is off, the GPU and its memory with it.
    machine.gpu.local.borrow().clear();
    for (bo, expected) in bos.into_iter().zip(71..) {
        assert_eq!(word(&mm, bo, 3), Ok(expected));
    }
    assert_eq!(word(&mm, pinned, 3), Ok(75));
    let again = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    assert_eq!(first_page(&mm, again), 0);
}
