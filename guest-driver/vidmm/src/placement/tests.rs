//! Places, managers and resources together: the worked example, and what each
//! manager promises.

use super::segments::SegmentId::{self, LocalInvisible, LocalVisible, PcieUnsnoop, System};
use super::{
    Buddy, BuddyOptions, Extent, Flags, Freed, Managers, PARKED, Pass, Place, RangeManager,
    Request, Resource, ResourceManager, SystemManager, Window, book, good_enough,
};
use crate::Error;

/// Pages of 4 MiB, and of the local visible segment of 512 MiB.
const BO: u64 = 1 << 10;
const SEGMENT: u64 = 128 << 10;

fn range(pages: u64) -> RangeManager {
    RangeManager::new(pages).unwrap()
}

fn buddy(pages: u64) -> Buddy<u32> {
    Buddy::new(pages, BuddyOptions::default()).unwrap()
}

/// Only these managers exist.
fn managers<const N: usize>(
    some: [(SegmentId, &mut dyn ResourceManager<u32>); N],
) -> Managers<'_, u32> {
    let mut managers = [const { None }; SegmentId::COUNT];
    for (id, manager) in some {
        managers[id as usize] = Some(manager);
    }
    managers
}

fn place(segment: SegmentId, first: u64, last: u64, flags: Flags) -> Place {
    Place {
        segment,
        window: Window::new(first, last),
        flags,
    }
}

fn first_page(resource: &Resource<u32>) -> u64 {
    resource.first_page().unwrap()
}

/// 4 MiB at a time into `[64K, 68K)`, `[88K, 92K)`, `[100K, 104K)`, in this order.
fn worked_example(local: &mut dyn ResourceManager<u32>) {
    let windows = [(64, 68), (88, 92), (100, 104)]
        .map(|(first, last)| place(LocalVisible, first * BO, last * BO, Flags::NONE));
    let mut managers = managers([(LocalVisible, local)]);
    let starts = [64, 65, 66, 67, 88, 89, 90, 91, 100, 101, 102, 103];
    let mut held = Vec::new();
    for (number, start) in (1..).zip(starts) {
        let resource = book(&mut managers, &windows, &Request::new(BO), Pass::Free).unwrap();
        assert_eq!(first_page(&resource), start * BO, "allocation {number}");
        assert!(resource.is_contiguous());
        held.push(resource);
    }
    for pass in [Pass::Free, Pass::Evict] {
        let thirteenth = book(&mut managers, &windows, &Request::new(BO), pass);
        assert_eq!(thirteenth.err(), Some(Error::NoSpace), "without eviction");
    }
    let local = managers[LocalVisible as usize].as_mut().unwrap();
    assert_eq!(local.usage(), 12 * (4 << 20));
    // Who would have to leave for the thirteenth: those in the first window.
    let helps: Vec<_> = held
        .iter()
        .map(|r| local.intersects(r, Some(&windows[0])))
        .collect();
    assert_eq!(helps, [[true; 4], [false; 4], [false; 4]].concat());
    local.free(held.remove(0), Freed::default());
    let again = book(&mut managers, &windows, &Request::new(BO), Pass::Free).unwrap();
    assert_eq!(first_page(&again), 64 * BO, "where the first was");
}

#[test]
fn four_mib_go_to_the_first_window_with_room_lowest_address_first_r_1_3() {
    worked_example(&mut range(SEGMENT));
    worked_example(&mut buddy(SEGMENT));
}

#[test]
fn a_place_that_is_full_or_too_small_passes_the_request_on_r_11_1() {
    let (mut visible, mut invisible) = (range(8), buddy(8));
    let mut managers = managers([
        (LocalVisible, &mut visible),
        (LocalInvisible, &mut invisible),
    ]);
    let mut ask = |segments: &[SegmentId], pages| {
        let places: Vec<_> = segments
            .iter()
            .map(|s| Place::anywhere(*s, Flags::NONE))
            .collect();
        book(&mut managers, &places, &Request::new(pages), Pass::Free).map(|r| r.segment())
    };
    assert_eq!(
        ask(&[PcieUnsnoop, LocalVisible], 6),
        Ok(LocalVisible),
        "no such manager"
    );
    assert_eq!(
        ask(&[LocalVisible, LocalInvisible], 6),
        Ok(LocalInvisible),
        "full"
    );
    assert_eq!(
        ask(&[LocalVisible, LocalInvisible], 9),
        Err(Error::NoSpace),
        "never fits"
    );
    assert_eq!(
        ask(&[LocalVisible, LocalInvisible], 0),
        Err(Error::Invalid),
        "no question of room"
    );
    assert_eq!(ask(&[], 1), Err(Error::NoSpace));
}

#[test]
fn desired_and_fallback_places_are_asked_in_one_pass_each_r_5_7() {
    let (mut visible, mut invisible) = (range(8), range(8));
    let mut managers = managers([
        (LocalVisible, &mut visible),
        (LocalInvisible, &mut invisible),
    ]);
    let places = [
        Place::anywhere(LocalVisible, Flags::FALLBACK),
        Place::anywhere(LocalInvisible, Flags::DESIRED | Flags::TOPDOWN),
    ];
    let free = book(&mut managers, &places, &Request::new(1), Pass::Free).unwrap();
    assert_eq!((free.segment(), first_page(&free)), (LocalInvisible, 7));
    assert_eq!(
        free.flags(),
        Flags::DESIRED | Flags::TOPDOWN,
        "of its place (R-5.8)"
    );
    let evict = book(&mut managers, &places, &Request::new(1), Pass::Evict).unwrap();
    assert_eq!((evict.segment(), first_page(&evict)), (LocalVisible, 0));
}

#[test]
fn every_extent_lies_in_the_window_r_5_5() {
    let mut heap = buddy(64);
    let anywhere = Place::anywhere(LocalVisible, Flags::NONE);
    let all: Vec<_> = (0..64)
        .map(|_| heap.alloc(&Request::new(1), &anywhere).unwrap())
        .collect();
    for (page, resource) in all.into_iter().enumerate() {
        if page % 2 == 0 {
            heap.free(resource, Freed::default());
        }
    }
    let window = place(LocalVisible, 16, 32, Flags::NONE);
    let resource = heap.alloc(&Request::new(8), &window).unwrap();
    assert_eq!(resource.booking().extents().len(), 8);
    assert!(heap.compatible(&resource, &window) && !resource.is_contiguous());
    assert_eq!(
        heap.alloc(&Request::new(1), &window).err(),
        Some(Error::NoSpace)
    );
    assert!(heap.alloc(&Request::new(1), &anywhere).is_ok());
}

#[test]
fn a_place_is_compared_with_what_is_held() {
    let mut heap = range(64);
    let held = heap
        .alloc(&Request::new(8), &place(LocalVisible, 16, 24, Flags::NONE))
        .unwrap();
    let heap: &dyn ResourceManager<u32> = &heap;
    assert!(heap.intersects(&held, None));
    for (first, last, intersects, compatible) in [
        (0, 0, true, true),
        (16, 24, true, true),
        (0, 24, true, true),
        (17, 0, true, false),
        (0, 23, true, false),
        (0, 17, true, false),
        (0, 16, false, false),
        (24, 0, false, false),
        (40, 30, false, false),
    ] {
        let place = place(LocalVisible, first, last, Flags::NONE);
        let is = (
            heap.intersects(&held, Some(&place)),
            heap.compatible(&held, &place),
        );
        assert_eq!(is, (intersects, compatible), "[{first}, {last})");
    }
}

#[test]
fn one_extent_is_contiguous_whether_or_not_that_was_asked_for_r_6_5() {
    let mut heap = buddy(64);
    let (plain, strict) = (Flags::NONE, Flags::CONTIGUOUS);
    let held = heap
        .alloc(&Request::new(8), &Place::anywhere(LocalVisible, plain))
        .unwrap();
    let enough =
        |flags, pass| good_enough(&heap, &held, &[Place::anywhere(LocalVisible, flags)], pass);
    assert!(enough(strict, Pass::Free));
    assert!(!enough(Flags::FALLBACK, Pass::Free) && enough(Flags::FALLBACK, Pass::Evict));
    let elsewhere = [Place::anywhere(PcieUnsnoop, plain)];
    assert!(!good_enough(&heap, &held, &elsewhere, Pass::Evict));
    let temporary = Place::anywhere(LocalVisible, Flags::TEMPORARY);
    let stop = heap.alloc(&Request::new(8), &temporary).unwrap();
    assert!(
        !good_enough(&heap, &stop, &[temporary], Pass::Free),
        "never good enough"
    );
}

#[test]
fn what_fails_leaves_usage_as_it_was_r_5_11() {
    let mut visible = range(8);
    let mut invisible = buddy(8);
    let both: [&mut dyn ResourceManager<u32>; 2] = [&mut visible, &mut invisible];
    for manager in both {
        let anywhere = Place::anywhere(LocalVisible, Flags::NONE);
        assert_eq!((manager.capacity(), manager.usage()), (32768, 0));
        let five = manager.alloc(&Request::new(5), &anywhere).unwrap();
        for (pages, align, error) in [
            (4, 1, Error::NoSpace),
            (9, 1, Error::NeverFits),
            (0, 1, Error::Invalid),
            (1, 0, Error::Invalid),
            (1, 3, Error::Invalid),
        ] {
            let request = Request {
                align,
                ..Request::new(pages)
            };
            assert_eq!(manager.alloc(&request, &anywhere).err(), Some(error));
            assert_eq!(manager.usage(), five.bytes());
        }
        let mut dump = String::new();
        manager.debug(&mut dump).unwrap();
        assert!(dump.contains("free 0x5 0x8 3"), "{dump}");
        manager.free(five, Freed::default());
        assert_eq!(manager.usage(), 0);
    }
}

#[test]
fn system_is_never_full_and_has_no_addresses_r_5_2() {
    let mut system = SystemManager::default();
    let mut managers = managers([(System, &mut system)]);
    let mut park = |pages| book(&mut managers, PARKED, &Request::new(pages), Pass::Free);
    let parked = park(1 << 40).unwrap();
    assert_eq!((parked.first_page(), parked.bytes()), (None, 1 << 52));
    assert!(parked.booking().extents().is_empty());
    assert!(park(1 << 40).is_ok());
    assert_eq!(
        park(u64::MAX).err(),
        Some(Error::NoSpace),
        "no number of bytes"
    );
    let system: &mut dyn ResourceManager<u32> = &mut system;
    assert_eq!(system.usage(), 1 << 53);
    system.free(parked, Freed::default());
    assert_eq!(system.usage(), 1 << 52);
}

#[test]
fn kernel_objects_are_one_extent_at_the_top() {
    let mut heap = buddy(64);
    let table = heap
        .alloc(&Request::new(5), &Place::kernel(LocalVisible))
        .unwrap();
    assert_eq!(table.booking().extents(), [Extent::new(59, 64)]);
}
