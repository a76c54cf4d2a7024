//! The rules of memory that goes at once, and of pages that come at once.

use super::{
    SIZES, anywhere, at_once, create, create_in, ctx, info, job, kernel, manager, manager_with,
    touch, validate, with, word,
};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Context, Info, Mm, Options, Page};
use crate::placement::SegmentId;
use crate::platform::{Caching, Patience};
use crate::sync::{Caller, Deadline};
use presil_allocator::{Refuse, refusing};

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;

type Machine = super::Machine;

fn purge(mm: &Mm<Machine>, bo: Id, context: &mut Context) -> Result<(), Error> {
    with(mm, bo, |set| mm.validate(set, bo, &[], context))
}

#[test]
fn without_a_place_the_memory_goes_and_the_buffer_stays_r_5_9() {
    for to in [VISIBLE, PCIE, SegmentId::System] {
        let mm = manager(SIZES);
        let place = if to == SegmentId::System { PCIE } else { to };
        let bo = create(&mm, &info(8), &[anywhere(place)]).unwrap();
        job(&mm, bo, 3, 77, Ok(())).unwrap();
        validate(&mm, bo, to).unwrap();
        mm.world().work(usize::MAX);
        touch(&mm, bo, 3, &mut ctx()).unwrap();
        let mut context = ctx();
        purge(&mm, bo, &mut context).unwrap();
        assert_eq!((mm.segment(bo), mm.usage(to)), (Ok(None), 0), "{to:?}");
        assert_eq!((mm.held_pages(), mm.len()), (0, 1));
        assert!(mm.world().gpu.mapped.borrow().is_empty());
        assert_eq!(context.moved_pages, 0, "R-8.8: nothing moved");
        assert_eq!(touch(&mm, bo, 3, &mut ctx()), Err(Error::Fault));
        mm.check();
        purge(&mm, bo, &mut ctx()).unwrap();
        // As new.
        validate(&mm, bo, place).unwrap();
        assert_eq!(word(&mm, bo, 3), Ok(0), "R-7.8");
        mm.check();
    }
}

#[test]
fn what_is_stored_goes_with_a_purge() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())).unwrap();
    purge(&mm, bo, &mut ctx()).unwrap();
    assert!(mm.world().ram.shelf.stored.borrow().is_empty());
    mm.check();
}

#[test]
fn what_the_gpu_still_works_on_is_free_when_it_has_ended() {
    for to in [VISIBLE, PCIE] {
        let mm = manager(SIZES);
        let bo = create(&mm, &info(8), &[anywhere(to)]).unwrap();
        job(&mm, bo, 3, 77, Ok(())).unwrap();
        purge(&mm, bo, &mut at_once()).unwrap();
        assert_eq!(mm.segment(bo), Ok(None));
        assert_eq!((mm.usage(to), mm.dying()), (8 * 4096, 1), "{to:?}");
        mm.check();
        // Its next place is another one, and the job does not write there.
        validate(&mm, bo, to).unwrap();
        mm.world().work(usize::MAX);
        mm.reap();
        assert_eq!((mm.usage(to), mm.dying()), (8 * 4096, 0), "{to:?}");
        assert_eq!(word(&mm, bo, 3), Ok(0), "{to:?}");
        mm.check();
    }
}

/// Who needs the room of what was thrown away waits for it and has it.
#[test]
fn what_was_thrown_away_is_in_nobodys_way() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    purge(&mm, bo, &mut ctx()).unwrap();
    let mut context = ctx();
    create_in(&mm, &kernel(32), &[anywhere(VISIBLE)], &mut context).unwrap();
    assert_eq!((mm.dying(), context.moved_pages), (0, 32), "nothing moved");
}

#[test]
fn without_memory_for_what_is_left_a_purge_waits() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    let reservation = mm.reservation(bo).unwrap();
    let mut caller = Caller::enter(&*mm.world().sync);
    let mut set = caller.transaction(Patience::Patient).unwrap();
    set.lock_all([&reservation], 1).unwrap();
    let hung = |hung| mm.world().gpu.hung.set([hung; 2]);
    hung(true);
    for (mut context, end) in [
        (at_once(), Err(Error::Busy)),
        (
            Context::until(Deadline(1_000_000), Patience::Patient),
            Err(Error::Busy),
        ),
        (ctx(), Ok(())),
    ] {
        hung(end.is_err());
        let (purged, _) = refusing(Refuse::From(1), || {
            mm.validate(&mut set, bo, &[], &mut context)
        });
        assert_eq!(purged, end);
        let there = if end.is_ok() { None } else { Some(PCIE) };
        assert_eq!((mm.segment(bo), mm.dying()), (Ok(there), 0));
    }
    drop(set);
    mm.check();
}

#[test]
fn what_is_pinned_is_not_thrown_away() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    with(&mm, bo, |set| mm.pin(set, bo)).unwrap();
    assert_eq!(purge(&mm, bo, &mut ctx()), Err(Error::Invalid));
    assert_eq!(word(&mm, bo, 3), Ok(77));
}

/// Who has lost what was in it can use the buffer again by throwing that away.
#[test]
fn a_buffer_whose_contents_were_lost_is_as_new_without_them() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    mm.world().gpu.lose();
    assert_eq!(word(&mm, bo, 3), Err(Error::Lost));
    purge(&mm, bo, &mut ctx()).unwrap();
    validate(&mm, bo, VISIBLE).unwrap();
    assert_eq!(word(&mm, bo, 3), Ok(0));
}

/// What gives back is not refused on a GPU that is gone for good (D-17).
#[test]
fn a_lost_gpu_keeps_nobodys_memory() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    mm.world().gpu.go();
    purge(&mm, bo, &mut ctx()).unwrap();
    assert_eq!((mm.usage(PCIE), mm.held_pages()), (0, 0));
}

fn eager(eager_pages: bool) -> Mm<Machine> {
    let options = Options {
        eager_pages,
        ..Options::default()
    };
    manager_with(SIZES, options)
}

#[test]
fn pages_come_at_once_where_that_is_on_r_7_11() {
    let cached = Info {
        caching: Caching::Cached,
        ..info(8)
    };
    for on in [true, false] {
        for info in [info(8), cached] {
            let mm = eager(on);
            let pages = if on { 8 } else { 0 };
            let bo = create(&mm, &info, &[anywhere(VISIBLE)]).unwrap();
            assert_eq!(mm.held_pages(), 0);
            purge(&mm, bo, &mut ctx()).unwrap();
            validate(&mm, bo, info.pcie()).unwrap();
            let bound = mm.world().gpu.gart.borrow().len();
            assert_eq!((mm.held_pages(), bound), (pages, pages), "{on}");
            // There is nothing to bind in SYSTEM.
            validate(&mm, bo, SegmentId::System).unwrap();
            validate(&mm, bo, info.pcie()).unwrap();
            assert_eq!(mm.world().gpu.gart.borrow().len(), pages, "{on}");
            mm.check();
        }
    }
}

#[test]
fn a_buffer_that_gets_no_pages_at_once_is_where_it_was_put() {
    let mm = eager(true);
    let bo = create(&mm, &info(8), &[anywhere(SegmentId::System)]).unwrap();
    mm.world().ram.system.budget.set(0);
    assert_eq!(validate(&mm, bo, PCIE).err(), Some(Error::NoMemory));
    assert_eq!((mm.segment(bo), mm.held_pages()), (Ok(Some(PCIE)), 0));
    mm.world().mend();
    validate(&mm, bo, PCIE).unwrap();
    assert_eq!(mm.held_pages(), 8);
}

#[test]
fn a_mapping_is_lazy_or_all_of_it_at_once_r_1_6() {
    let mm = manager(SIZES);
    for to in [VISIBLE, PCIE] {
        let bo = create(&mm, &info(24), &[anywhere(to)]).unwrap();
        job(&mm, bo, 23, 77, Ok(())).unwrap();
        mm.world().work(usize::MAX);
        let mut caller = Caller::enter(&*mm.world().sync);
        let mut last = None;
        let mut next = 0;
        let mapped = mm.map_whole(&mut caller, bo, &mut ctx(), |run| {
            assert_eq!(run.page, next, "page after page");
            next += run.pages;
            last = Some(match run.at {
                Page::Ram(block, page) => {
                    super::Spot::Ram(block.page + page as u64 + run.pages - 1)
                }
                Page::Local(segment, page) => super::Spot::Local((segment, page + run.pages - 1)),
            });
            true
        });
        assert_eq!((mapped, next), (Ok(24), 24));
        assert_eq!(mm.world().gpu.peek(last.unwrap()), 77);
        // A fault maps less.
        let around = mm.fault_around(&mut caller, bo, 0, &mut ctx(), |_| true);
        assert_eq!(around, Ok(16));
        let stopped = mm.map_whole(&mut caller, bo, &mut ctx(), |_| false);
        assert_eq!(stopped, Ok(0));
    }
    let nowhere = create(&mm, &info(8), &[]).unwrap();
    let mut caller = Caller::enter(&*mm.world().sync);
    let mapped = mm.map_whole(&mut caller, nowhere, &mut ctx(), |_| true);
    assert_eq!(mapped, Err(Error::Fault));
}
