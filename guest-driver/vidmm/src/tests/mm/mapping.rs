//! The rules of mappings of the kernel, and of the file of a device.

use super::machine::Spot;
use super::{
    SIZES, anywhere, at_once, create, create_in, ctx, info, job, kernel, manager, validate, with,
    word,
};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::{Info, Mm, Options, Page};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::Caller;
use core::ops::Range;

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;

type Machine = super::Machine;
type Set<'c> = crate::sync::LockSet<'c, super::Sync>;

/// Where the kernel finds pages of a buffer that the set holds.
fn mapped(
    mm: &Mm<Machine>,
    set: &mut Set<'_>,
    bo: Id,
    pages: Range<u64>,
) -> Result<Vec<Spot>, Error> {
    let mut spots = Vec::new();
    mm.map_kernel(set, bo, pages, &mut ctx(), |run| {
        spots.extend((0..run.pages).map(|n| match run.at {
            Page::Ram(block, page) => Spot::Ram(block.page + page as u64 + n),
            Page::Local(segment, page) => Spot::Local((segment, page + n)),
        }));
        Ok(())
    })?;
    Ok(spots)
}

fn map(mm: &Mm<Machine>, bo: Id, pages: Range<u64>) -> Result<Vec<Spot>, Error> {
    with(mm, bo, |set| mapped(mm, set, bo, pages.clone()))
}

#[test]
fn a_mapping_of_the_kernel_is_good_while_the_buffer_is_held_or_pinned_r_15_1() {
    for (to, size) in [(VISIBLE, 32), (PCIE, 48)] {
        let mm = manager(SIZES);
        let bo = create(&mm, &info(size), &[anywhere(to)]).unwrap();
        job(&mm, bo, 3, 77, Ok(())).unwrap();
        mm.world().work(usize::MAX);
        let needs_room = |context: &mut _| create_in(&mm, &kernel(size), &[anywhere(to)], context);
        let gpu = &mm.world().gpu;
        let spots = with(&mm, bo, |set| {
            let spots = mapped(&mm, set, bo, 2..5)?;
            assert_eq!((spots.len(), gpu.peek(spots[1])), (3, 77));
            // Nobody moves it while it is held.
            assert_eq!(needs_room(&mut at_once()), Err(Error::Busy), "{to:?}");
            assert_eq!(gpu.peek(spots[1]), 77);
            mm.pin(set, bo)?;
            Ok(spots)
        })
        .unwrap();
        assert_eq!(needs_room(&mut ctx()), Err(Error::NoMemory), "{to:?}");
        assert_eq!(map(&mm, bo, 2..5).as_ref(), Ok(&spots), "pinned");
        // Nothing but the pin keeps it.
        with(&mm, bo, |set| mm.unpin(set, bo)).unwrap();
        needs_room(&mut ctx()).unwrap();
        assert_ne!(mm.segment(bo), Ok(Some(to)));
        assert_eq!(word(&mm, bo, 3), Ok(77));
        mm.check();
    }
}

#[test]
fn the_kernel_sees_contents_that_are_in_place_wherever_they_were() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    job(&mm, bo, 3, 77, Ok(())).unwrap();
    validate(&mm, bo, PCIE).unwrap();
    let at_once = with(&mm, bo, |set| {
        mm.map_kernel(set, bo, 0..8, &mut at_once(), |_| Ok(()))
    });
    assert_eq!(at_once, Err(Error::Busy), "the copy has not ended");
    let gpu = &mm.world().gpu;
    assert_eq!(gpu.peek(map(&mm, bo, 3..4).unwrap()[0]), 77);
    with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())).unwrap();
    assert_eq!(gpu.peek(map(&mm, bo, 3..4).unwrap()[0]), 77);
    mm.check();
}

#[test]
fn a_mapping_of_the_kernel_that_is_not_possible_is_refused() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
    #[expect(clippy::reversed_empty_ranges, reason = "it is one of the mistakes")]
    for pages in [0..0, 5..9, 8..9, 6..5, 0..u64::MAX] {
        assert_eq!(map(&mm, bo, pages), Err(Error::Invalid));
    }
    let mut caller = Caller::enter(&*mm.world().sync);
    let mut set = caller.transaction(Patience::Patient).unwrap();
    let unheld = mapped(&mm, &mut set, bo, 0..8);
    assert_eq!(unheld, Err(Error::Invalid), "not held");
    drop(set);
    let refused = with(&mm, bo, |set| {
        mm.map_kernel(set, bo, 0..8, &mut ctx(), |_| Err(Error::NoMemory))
    });
    assert_eq!(refused, Err(Error::NoMemory), "the driver cannot map it");
    validate(&mm, bo, SegmentId::LocalInvisible).unwrap();
    assert_eq!(map(&mm, bo, 0..8), Err(Error::Fault));
    let nowhere = create(&mm, &info(8), &[]).unwrap();
    assert_eq!(map(&mm, nowhere, 0..8), Err(Error::Fault));
}

#[test]
fn each_device_has_a_file_of_its_own_in_which_buffers_are_found_r_4_1() {
    let devices = [manager(SIZES), manager(SIZES)];
    let buffers = [8, 5].map(|pages| {
        devices
            .each_ref()
            .map(|mm| create(mm, &info(pages), &[anywhere(PCIE)]).unwrap())
    });
    for (which, mm) in devices.iter().enumerate() {
        let [eight, five] = buffers.map(|of| of[which]);
        let [first, second] = [eight, five].map(|bo| mm.file_page(bo).unwrap());
        assert!(first + 8 <= second || second + 5 <= first, "no page twice");
        for (page, pages, found) in [
            (first, 8, Ok((eight, 0))),
            (first + 3, 5, Ok((eight, 3))),
            (second + 4, 1, Ok((five, 4))),
            (first + 3, 6, Err(Error::Invalid)),
            (first, 0, Err(Error::Invalid)),
            (first + 8, 1, Err(Error::Invalid)),
            (first, u64::MAX, Err(Error::Invalid)),
            (0, 1, Err(Error::NotFound)),
            (u64::MAX, 1, Err(Error::NotFound)),
        ] {
            assert_eq!(mm.at_file_page(page, pages), found, "{page:#x} {pages}");
        }
        let own = create(mm, &kernel(8), &[anywhere(PCIE)]).unwrap();
        assert_eq!(mm.file_page(own), Err(Error::Invalid), "the driver's");
    }
    // What happens to one device is nothing to the other.
    let [one, other] = &devices;
    let [bo, theirs] = buffers[0];
    job(one, bo, 3, 77, Ok(())).unwrap();
    let page = one.file_page(bo).unwrap();
    one.release(bo).unwrap();
    assert_eq!(one.at_file_page(page, 1), Err(Error::NotFound), "it dies");
    one.world().work(usize::MAX);
    one.reap();
    one.limit_ram(0);
    let there = other.file_page(theirs).unwrap();
    assert_eq!(other.at_file_page(there, 8), Ok((theirs, 0)));
    assert_eq!(word(other, theirs, 3), Ok(0));
    assert_eq!((one.held_pages(), other.held_pages()), (0, 8));
    let pooled = devices
        .each_ref()
        .map(|mm| mm.world().ram.pool.with(|pool| pool.pages()));
    assert_eq!(pooled, [8, 0]);
    devices.iter().for_each(Mm::check);
}

#[test]
fn a_device_without_memory_is_refused_and_nothing_is_left_r_4_1() {
    let made = Mm::new(Machine::new(), [32, 0, 48, 48], Options::default());
    assert_eq!(made.err(), Some(Error::Invalid));
}

/// Each has a place of 1 TiB in the device's file.
#[test]
fn a_buffer_that_is_larger_than_its_place_in_the_file_has_none() {
    let mm = manager(SIZES);
    let of = |pages| {
        let bo = create(&mm, &info(pages), &[]).unwrap();
        mm.file_page(bo).map(drop)
    };
    assert_eq!(of(1 << 28), Ok(()));
    assert_eq!(of((1 << 28) + 1), Err(Error::NeverFits));
}

#[test]
fn a_buffer_has_pages_and_a_priority_that_exists() {
    let mm = manager(SIZES);
    let last = Info {
        priority: 3,
        ..info(1)
    };
    assert!(create(&mm, &last, &[]).is_ok());
    let beyond = Info {
        priority: 4,
        ..info(1)
    };
    for wrong in [beyond, info(0)] {
        assert_eq!(create(&mm, &wrong, &[]), Err(Error::Invalid));
    }
}
