//! CPU accesses: to where the CPU does not reach (D-16), and one after the other (D-15).

use super::mm::{
    Machine, SIZES, anywhere, create, ctx, first_page, info, manager, manager_with, with, word,
};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Context, Mm, Options, Page};
use crate::placement::{Flags, Place, SegmentId};
use crate::sync::Caller;

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const INVISIBLE: SegmentId = SegmentId::LocalInvisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;

/// As the policy has it for what only the GPU uses.
fn gpu_only() -> [Place; 3] {
    [
        anywhere(INVISIBLE),
        Place::anywhere(VISIBLE, Flags::FALLBACK),
        Place::anywhere(PCIE, Flags::FALLBACK),
    ]
}

fn validate(mm: &Mm<Machine>, bo: Id) -> SegmentId {
    with(mm, bo, |set| mm.validate(set, bo, &gpu_only(), &mut ctx())).unwrap();
    mm.segment(bo).unwrap().unwrap()
}

fn pinned(mm: &Mm<Machine>, pages: u64, at: SegmentId) -> Id {
    let bo = create(mm, &info(pages), &[anywhere(at)]).unwrap();
    with(mm, bo, |set| mm.pin(set, bo)).unwrap();
    bo
}

#[test]
fn a_buffer_comes_to_where_the_cpu_reaches_it_and_is_wanted_there_d_16() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &gpu_only()).unwrap();
    assert_eq!(mm.segment(bo), Ok(Some(INVISIBLE)));
    let machine = mm.world();
    machine.work(usize::MAX);
    let at = (INVISIBLE, first_page(&mm, bo) + 5);
    machine.gpu.write(at, 55);
    assert_eq!(word(&mm, bo, 5), Ok(55));
    assert_eq!(mm.segment(bo), Ok(Some(VISIBLE)));
    for _ in 0..64 {
        assert_eq!(validate(&mm, bo), VISIBLE, "no ping-pong");
    }
    assert_eq!(validate(&mm, bo), INVISIBLE, "long ago");
    assert_eq!(word(&mm, bo, 5), Ok(55));
}

#[test]
fn a_buffer_that_the_cpu_uses_does_not_make_others_leave_to_be_near_d_16() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &gpu_only()).unwrap();
    assert_eq!(word(&mm, bo, 0), Ok(0));
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    mm.evict_all(&mut caller, VISIBLE, &mut ctx()).unwrap();
    let other = create(&mm, &info(32), &[anywhere(VISIBLE)]).unwrap();
    let pinned = pinned(&mm, 48, PCIE);
    // Far away is good enough where nothing near is free.
    assert_eq!(validate(&mm, bo), INVISIBLE);
    assert_eq!(mm.segment(other), Ok(Some(VISIBLE)));
    with(&mm, pinned, |set| mm.unpin(set, pinned)).unwrap();
    mm.evict_all(&mut caller, PCIE, &mut ctx()).unwrap();
    assert_eq!(validate(&mm, bo), PCIE);
    assert_eq!(mm.segment(other), Ok(Some(VISIBLE)));
}

/// To be near is a wish: who finds no pages of RAM for it stays where it is good enough.
#[test]
fn a_buffer_that_the_cpu_uses_is_not_refused_for_want_of_pages_to_be_near_d_16() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &gpu_only()).unwrap();
    assert_eq!(word(&mm, bo, 0), Ok(0));
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    mm.evict_all(&mut caller, VISIBLE, &mut ctx()).unwrap();
    pinned(&mm, 32, VISIBLE);
    let full = pinned(&mm, 48, PCIE);
    assert_eq!(validate(&mm, bo), INVISIBLE);
    with(&mm, full, |set| mm.unpin(set, full)).unwrap();
    mm.release(full).unwrap();
    // There is room in the GART, and no page that anybody could give up.
    let pages = pinned(&mm, 8, PCIE);
    with(&mm, pages, |set| mm.make_resident(set, pages, &mut ctx())).unwrap();
    mm.limit_ram(8);
    assert_eq!(validate(&mm, bo), INVISIBLE);
    assert_eq!(word(&mm, pages, 0), Ok(0));
    mm.check();
}

#[test]
fn an_access_faults_only_if_there_is_no_place_that_the_cpu_reaches_d_16() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(INVISIBLE)]).unwrap();
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    let mut no_wait = Context {
        no_wait: true,
        ..ctx()
    };
    let busy = mm.fault(&mut caller, bo, 0, &mut no_wait, |_| ());
    assert_eq!(busy, Err(Error::Busy), "to be tried again");
    pinned(&mm, 32, VISIBLE);
    pinned(&mm, 48, PCIE);
    assert_eq!(word(&mm, bo, 0), Err(Error::Fault));
    let stays = pinned(&mm, 8, INVISIBLE);
    assert_eq!(word(&mm, stays, 0), Err(Error::Fault), "it is pinned");
    let off = manager_with(SIZES, Options::BASE);
    let bo = create(&off, &info(8), &gpu_only()).unwrap();
    assert_eq!(word(&off, bo, 0), Err(Error::Fault));
}

/// Pages that a fault maps, and in how many pieces.
fn around(mm: &Mm<Machine>, bo: Id, page: u64) -> (u64, usize) {
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    let (mut pieces, mut next) = (0, page);
    let mapped = mm.fault_around(&mut caller, bo, page, &mut ctx(), |run| {
        assert_eq!(run.page, next, "no page is left out");
        next += run.pages;
        pieces += 1;
        true
    });
    assert_eq!(mapped, Ok(next - page));
    (next - page, pieces)
}

#[test]
fn accesses_that_follow_each_other_map_more_and_more_d_15() {
    for grows in [true, false] {
        let options = Options {
            grow_prefault: grows,
            ..Options::default()
        };
        let mm = manager_with([4096; 4], options);
        let bo = create(&mm, &info(2000), &[anywhere(VISIBLE)]).unwrap();
        let mut page = 0;
        let mut windows = Vec::new();
        while page < 1100 {
            let (pages, pieces) = around(&mm, bo, page);
            assert_eq!(pieces, 1, "it lies in one piece");
            page += pages;
            windows.push(pages);
        }
        // Each counts once, and so do those that are mapped at once.
        let mapped = || mm.report().counters.mapped_pages;
        assert_eq!(mapped(), page);
        let mut caller = Caller::enter(mm.world().sync.as_ref());
        let whole = mm.map_whole(&mut caller, bo, &mut ctx(), |_| true);
        assert_eq!((whole, mapped()), (Ok(2000), page + 2000));
        if grows {
            assert_eq!(windows, [16, 32, 64, 128, 256, 512, 512]);
        } else {
            assert!(windows.iter().all(|pages| *pages == 16));
        }
        assert_eq!(around(&mm, bo, 7).0, 16, "somewhere else");
        assert_eq!(around(&mm, bo, 1990).0, 10, "not beyond the end");
        assert_eq!(
            mm.fault_around(
                &mut Caller::enter(&*mm.world().sync),
                bo,
                2000,
                &mut ctx(),
                |_| true
            ),
            Err(Error::Fault)
        );
    }
}

/// what lies behind the page is mapped as far as it goes.
#[test]
fn a_fault_maps_each_run_of_pages_at_once_d_15() {
    let mm = manager(SIZES);
    let holes = [(); 8].map(|()| create(&mm, &info(4), &[anywhere(VISIBLE)]).unwrap());
    mm.world().work(usize::MAX);
    for bo in [holes[1], holes[3], holes[4]] {
        mm.release(bo).unwrap();
    }
    let bo = create(&mm, &info(12), &[anywhere(VISIBLE)]).unwrap();
    assert_eq!(mm.extents(bo).unwrap().len(), 2);
    assert_eq!(around(&mm, bo, 1), (11, 2));
    // Pages of RAM come in blocks.
    let ram = create(&mm, &info(12), &[anywhere(PCIE)]).unwrap();
    assert_eq!(around(&mm, ram, 0), (12, 2), "8 and 4");
    assert_eq!(around(&mm, ram, 6), (6, 2));
    // What is mapped is where the page is.
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    let mut at = Vec::new();
    let mapped = mm.fault_around(&mut caller, bo, 6, &mut ctx(), |run| {
        match run.at {
            Page::Local(segment, first) => at.push((segment, first, run.pages)),
            Page::Ram(..) => panic!("in local memory"),
        }
        false
    });
    assert_eq!(mapped, Ok(0), "not even the first");
    let pages: Vec<_> = mm
        .extents(bo)
        .unwrap()
        .iter()
        .flat_map(|extent| extent.first..extent.end)
        .collect();
    assert_eq!((at[0].0, at[0].1), (VISIBLE, pages[6]));
}
