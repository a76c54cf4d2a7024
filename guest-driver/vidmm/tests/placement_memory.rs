//! Bookkeeping memory: any allocation may fail while pages are booked, and none
//! is needed to give them back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use vidmm::Error;
use vidmm::placement::{
    Booking, Buddy, BuddyOptions, Fit, Flags, Freed, RangeManager, Request, Window,
};

thread_local! {
    /// Allocations that this thread may still make.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

struct Limited;

#[global_allocator]
static LIMITED: Limited = Limited;

fn spend() -> bool {
    LEFT.with(|left| {
        let some = left.get() > 0;
        left.set(left.get().saturating_sub(1));
        some
    })
}

// SAFETY: the system's allocator, or null, which every caller must expect.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !spend() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: it came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if !spend() {
            return core::ptr::null_mut();
        }
        // SAFETY: it came from `System`, with this layout.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

/// What `run` says when it may allocate so many times.
fn with_allocations<T>(allowed: u64, run: impl FnOnce() -> T) -> T {
    LEFT.set(allowed);
    let result = run();
    LEFT.set(u64::MAX);
    result
}

const PAGES: u64 = 1024;

/// Every second page is free, every fourth clear, some with a fence.
fn comb() -> (Buddy<u64>, Vec<Booking<u64>>) {
    let mut heap = Buddy::new(PAGES, BuddyOptions::default()).unwrap();
    let mut kept = Vec::new();
    let all: Vec<_> = (0..PAGES)
        .map(|_| {
            heap.book(&Request::new(1), Window::ALL, Flags::NONE)
                .unwrap()
        })
        .collect();
    for (page, booking) in (0..).zip(all) {
        let freed = Freed {
            cleared: page % 4 == 0,
            fence: (page % 64 == 0).then_some(page),
        };
        match page % 2 {
            0 => heap.give_back(booking, freed).unwrap(),
            _ => kept.push(booking),
        }
    }
    (heap, kept)
}

#[test]
fn a_booking_without_memory_for_it_changes_nothing() {
    let free = PAGES / 2;
    // The last needs the pages that have a fence, too.
    for (pages, fences) in [(1, false), (100, false), (free, true)] {
        let mut failures = 0;
        for allowed in 0.. {
            let (mut heap, kept) = comb();
            let before = heap.stats();
            let request = Request {
                clear: true,
                ..Request::new(pages)
            };
            let booked =
                with_allocations(allowed, || heap.book(&request, Window::ALL, Flags::NONE));
            match booked {
                Ok(booking) => {
                    assert_eq!(booking.pages(), pages);
                    assert_eq!(booking.fences().is_empty(), !fences);
                    break;
                }
                Err(error) => assert_eq!(error, Error::NoMemory),
            }
            assert_eq!(
                heap.stats(),
                before,
                "allocation {allowed} of {pages} pages"
            );
            let whole = heap
                .book(&Request::new(free), Window::ALL, Flags::NONE)
                .unwrap();
            assert_eq!(whole.fences().len(), usize::try_from(PAGES / 64).unwrap());
            drop(kept);
            failures += 1;
        }
        assert!(failures > 0, "{pages} pages");
    }
}

#[test]
fn giving_back_needs_no_memory() {
    let (mut heap, mut kept) = comb();
    kept.extend((0..100).map(|_| {
        heap.book(&Request::new(3), Window::ALL, Flags::NONE)
            .unwrap()
    }));
    with_allocations(0, || {
        // The odd ones first: as many runs as there can be.
        let mut odd = 0;
        while odd < kept.len() {
            let fence = (odd % 3 == 0).then_some(odd as u64);
            let cleared = odd % 2 == 0;
            assert_eq!(
                heap.give_back(kept.remove(odd), Freed { cleared, fence }),
                Ok(())
            );
            odd += 1;
        }
        for booking in kept.drain(..) {
            assert_eq!(heap.give_back(booking, Freed::default()), Ok(()));
        }
        heap.retire(|fence| fence % 2 == 0);
        heap.retire(|_| true);
    });
    assert_eq!(heap.stats().largest_free_run, PAGES);
    assert_eq!(heap.fini(), Ok(()));
}

#[test]
fn a_range_without_memory_for_it_is_not_booked_and_comes_back_without() {
    let mut ranges = RangeManager::new(PAGES).unwrap();
    let mut failures = 0;
    for page in 0..PAGES {
        let book = |ranges: &mut RangeManager| ranges.book(1, 1, Window::ALL, Fit::Low);
        if with_allocations(0, || book(&mut ranges)) == Err(Error::NoMemory) {
            failures += 1;
            assert_eq!((ranges.booked_pages(), book(&mut ranges)), (page, Ok(page)));
        }
    }
    assert!(failures > 0);
    with_allocations(0, || {
        for page in (0..PAGES).step_by(2).chain((1..PAGES).step_by(2)) {
            assert_eq!(ranges.give_back(page, 1), Ok(()));
        }
    });
    assert_eq!(ranges.longest_hole(), PAGES);
}
