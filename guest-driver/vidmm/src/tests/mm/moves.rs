//! The rules of moves: what comes along, what stays behind, what a failure leaves.

use super::machine::{Machine, Work};
use super::{SIZES, anywhere, create, ctx, info, manager, with, word};
use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::evict::{Context, Info, Mm, Page, World};
use crate::placement::SegmentId;
use crate::platform::{Caching, Patience};
use crate::sync::{Caller, Usage};

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;

/// A page as the CPU finds it: in local memory, or its frame of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Local(u64),
    Ram(u64),
}

/// The CPU touches a page, which stays mapped.
pub(super) fn touch(mm: &Mm<Machine>, id: Id, page: u64) -> Result<Spot, Error> {
    let machine = mm.world();
    let mut caller = Caller::enter(machine.sync());
    mm.fault(&mut caller, id, page, &ctx(), |page| {
        machine.mapped.borrow_mut().insert(id);
        match page {
            Page::Ram(block, page) => Spot::Ram(block.page + page as u64),
            Page::Local(_, page) => Spot::Local(page),
        }
    })
}

pub(super) fn validate(mm: &Mm<Machine>, id: Id, to: SegmentId) -> Result<Context, Error> {
    let mut context = ctx();
    with(mm, id, |set| {
        mm.validate(set, id, &[anywhere(to)], &mut context)
    })?;
    Ok(context)
}

/// A job that writes a word to a page, on its way.
pub(super) fn job(mm: &Mm<Machine>, id: Id, page: usize, word: u64) -> Result<(), Error> {
    let machine = mm.world();
    let reservation = mm.reservation(id)?;
    let mut caller = Caller::enter(machine.sync());
    let mut set = caller.transaction(Patience::Patient)?;
    set.run(|set| {
        set.lock(&reservation, 1)?;
        mm.make_resident(set, id)
    })?;
    let extents = mm.extents(id)?;
    let mut pages = extents.iter().flat_map(|it| it.first..it.end);
    let at = (mm.segment(id)?.unwrap(), pages.nth(page).unwrap());
    let fence = machine.submit(Work::Fill(vec![at], word))?;
    set.commit(&fence, |_| Usage::Write)
}

#[test]
fn a_move_that_fails_leaves_contents_where_they_were_or_at_a_stop_r_11_2() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 77).unwrap();
    let machine = mm.world();
    machine.work(usize::MAX);
    machine.copies_until_failure.set(0);
    assert_eq!(validate(&mm, bo, PCIE).err(), Some(Error::Lost));
    assert_eq!(mm.segment(bo), Ok(Some(VISIBLE)));
    assert_eq!(word(&mm, bo, 3), Ok(77));
    mm.check();
    machine.copies_until_failure.set(u32::MAX);
    validate(&mm, bo, SegmentId::System).unwrap();
    // The way back is over a stop, to which pages need no copy.
    machine.copies_until_failure.set(0);
    assert_eq!(validate(&mm, bo, VISIBLE).err(), Some(Error::Lost));
    assert_eq!(mm.segment(bo), Ok(Some(PCIE)));
    assert_eq!(word(&mm, bo, 3), Ok(77));
    mm.check();
    machine.copies_until_failure.set(u32::MAX);
    // A stop is good enough for nobody.
    assert_eq!(validate(&mm, bo, PCIE).unwrap().moved_pages, 8);
    validate(&mm, bo, VISIBLE).unwrap();
    assert_eq!(word(&mm, bo, 3), Ok(77));
}

#[test]
fn without_room_at_the_stop_a_buffer_stays_r_12_3() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 77).unwrap();
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
    let machine = mm.world();
    for to in [PCIE, SegmentId::System, PCIE, VISIBLE, PCIE] {
        touch(&mm, bo, 2).unwrap();
        touch(&mm, bo, 5).unwrap();
        assert!(machine.mapped.borrow().contains(&bo));
        validate(&mm, bo, to).unwrap();
        assert!(machine.mapped.borrow().is_empty(), "{to:?}");
    }
    touch(&mm, bo, 2).unwrap();
    with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())).unwrap();
    assert!(machine.mapped.borrow().is_empty(), "by a swap");
    touch(&mm, bo, 2).unwrap();
    mm.release(bo).unwrap();
    assert!(machine.mapped.borrow().is_empty(), "at the end");
}

#[test]
fn between_the_gart_and_system_pages_stay_what_they_are_r_16_3_r_16_5() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    let page = touch(&mm, bo, 4).unwrap();
    let gpu = &mm.world().gpu;
    assert_eq!(gpu.gart.borrow().len(), 8);
    for (to, entries) in [(SegmentId::System, 0), (PCIE, 8)] {
        validate(&mm, bo, to).unwrap();
        assert_eq!(touch(&mm, bo, 4), Ok(page), "{to:?}");
        assert_eq!(gpu.gart.borrow().len(), entries, "{to:?}");
    }
    let queued = gpu.queue.borrow().len() as u64;
    assert_eq!(gpu.copied.get() + queued, 0, "nothing was copied");
}

#[test]
fn pages_of_ram_go_with_the_memory_type_r_8_1_r_8_2() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    assert_eq!(mm.held_pages(), 0, "an empty page vector");
    with(&mm, bo, |set| mm.make_resident(set, bo)).unwrap();
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
    job(&mm, bo, 3, 77).unwrap();
    validate(&mm, bo, PCIE).unwrap();
    let mut caller = Caller::enter(mm.world().sync());
    let at_once = Context {
        no_wait: true,
        ..ctx()
    };
    let early = mm.fault(&mut caller, bo, 3, &at_once, |_| ());
    assert_eq!(early, Err(Error::Busy));
    assert!(matches!(touch(&mm, bo, 3), Ok(Spot::Ram(_))));
    assert_eq!(word(&mm, bo, 3), Ok(77));
}

#[test]
fn who_needs_zeros_gets_them_and_nobody_else_r_7_9() {
    let cleared = |info: &Info, to| {
        let mm = manager(SIZES);
        let bo = create(&mm, info, &[anywhere(to)]).unwrap();
        with(&mm, bo, |set| mm.make_resident(set, bo)).unwrap();
        let machine = mm.world();
        let jobs = machine.gpu.queue.borrow().len();
        (jobs, machine.ram.system.cleared.get())
    };
    let kernel = Info {
        kind: Kind::Kernel,
        ..info(8)
    };
    assert_eq!(cleared(&info(8), VISIBLE), (1, 0));
    assert_eq!(cleared(&kernel, VISIBLE), (0, 0));
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
    let resident = with(&mm, bo, |set| mm.make_resident(set, bo));
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
