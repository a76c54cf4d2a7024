//! One rule after the other, in words and numbers.

use super::super::{Buddy, Options};
use super::PLAIN;
use crate::Error;
use crate::placement::{Booking, Extent, Fit, Flags, Freed, NoFence, Request, Window};

pub(super) type Heap = Buddy<u32>;

pub(super) const DIRTY: Freed<u32> = Freed {
    cleared: false,
    fence: None,
};
pub(super) const CLEAR: Freed<u32> = Freed {
    cleared: true,
    fence: None,
};

pub(super) fn heap(pages: u64) -> Heap {
    Buddy::new(pages, PLAIN).unwrap()
}

pub(super) fn book(heap: &mut Heap, pages: u64) -> Booking<u32> {
    heap.book(&Request::new(pages), Window::ALL, Flags::NONE)
        .unwrap()
}

/// Books exactly these pages.
pub(super) fn book_at(heap: &mut Heap, first: u64, end: u64) -> Booking<u32> {
    let window = Window::new(first, end);
    heap.book(&Request::new(end - first), window, Flags::NONE)
        .unwrap()
}

/// A heap in which every second run of `pages` pages is free.
pub(super) fn comb(total: u64, pages: u64) -> (Heap, Vec<Booking<u32>>) {
    let mut heap = heap(total);
    let runs = (0..total / pages).map(|n| book_at(&mut heap, n * pages, (n + 1) * pages));
    let runs: Vec<_> = runs.collect();
    let mut kept = Vec::new();
    for (n, run) in runs.into_iter().enumerate() {
        if n % 2 == 0 {
            heap.give_back(run, DIRTY).unwrap();
        } else {
            kept.push(run);
        }
    }
    (heap, kept)
}

#[test]
fn a_heap_is_made_of_whole_chunks() {
    for (pages, chunk) in [(0, 1), (3, 4), (8, 0), (8, 3)] {
        let options = Options { chunk, ..PLAIN };
        let made = Buddy::<NoFence>::new(pages, options);
        assert_eq!(
            made.err(),
            Some(Error::Invalid),
            "{pages} pages, chunk {chunk}"
        );
    }
    let made = Heap::new(11, Options { chunk: 4, ..PLAIN }).unwrap();
    assert_eq!(made.pages(), 8, "rounded down");
}

#[test]
fn seven_mib_are_a_block_of_four_of_two_and_of_one() {
    let mut heap = heap(1792);
    let blocks = heap.stats().free_blocks;
    assert_eq!((blocks[10], blocks[9], blocks[8]), (1, 1, 1));
    assert_eq!(blocks.iter().sum::<u64>(), 3);
    let all = book(&mut heap, 1792);
    assert_eq!(
        all.extents(),
        [Extent::new(0, 1792)],
        "in order, so one run"
    );
    heap.give_back(all, DIRTY).unwrap();
    assert_eq!(
        heap.stats().free_blocks,
        blocks,
        "merged up to the roots (R-18.3)"
    );
}

#[test]
fn a_heap_as_large_as_an_address_space_costs_no_more() {
    let mut heap = heap(1 << 51);
    assert_eq!(heap.stats().free_blocks[51], 1);
    let all = book(&mut heap, 1 << 51);
    assert_eq!(all.extents(), [Extent::new(0, 1 << 51)]);
    heap.give_back(all, DIRTY).unwrap();
    assert_eq!(heap.fini(), Ok(()));
}

#[test]
fn what_means_nothing_is_invalid_and_what_is_too_large_never_fits_r_5_6() {
    use Error::{Invalid, NeverFits};
    let options = Options { chunk: 2, ..PLAIN };
    let mut heap = Heap::new(64, options).unwrap();
    for (pages, align, first, last, contiguous, error) in [
        (0, 2, 0, 0, false, Invalid),
        (3, 2, 0, 0, false, Invalid),
        (4, 0, 0, 0, false, Invalid),
        (4, 1, 0, 0, false, Invalid),
        (4, 6, 0, 0, false, Invalid),
        (4, 2, 1, 0, false, Invalid),
        (4, 2, 0, 9, false, Invalid),
        (4, 4, 2, 6, false, Invalid),
        (66, 2, 0, 0, false, NeverFits),
        (66, 2, 0, 0, true, NeverFits),
        (u64::MAX - 1, 2, 0, 0, false, NeverFits),
        (4, 2, 0, 66, false, NeverFits),
        (4, 2, 64, 0, false, NeverFits),
        (4, 2, 8, 8, false, NeverFits),
        (4, 2, 10, 8, false, NeverFits),
        (6, 2, 8, 12, false, NeverFits),
        (12, 16, 2, 30, false, NeverFits),
        (2, 1 << 63, 2, 0, false, NeverFits),
        (4, 2, u64::MAX - 1, 0, false, NeverFits),
    ] {
        let request = Request {
            align,
            ..Request::new(pages)
        };
        let flags = if contiguous {
            Flags::CONTIGUOUS
        } else {
            Flags::NONE
        };
        let booked = heap.book(&request, Window::new(first, last), flags);
        assert_eq!(
            booked.err(),
            Some(error),
            "{pages} at {align} in [{first}, {last})"
        );
        heap.check();
    }
    assert_eq!(heap.stats().avail, 64);
}

#[test]
fn a_window_of_exactly_that_size_is_taken_whole_or_not_at_all() {
    let mut heap = heap(1792);
    let over_roots = book_at(&mut heap, 1000, 1600);
    assert_eq!(over_roots.extents(), [Extent::new(1000, 1600)]);
    let taken = heap.book(&Request::new(600), Window::new(1599, 1792), Flags::NONE);
    assert_eq!(taken.err(), Some(Error::NeverFits));
    let overlap = heap.book(&Request::new(100), Window::new(950, 1050), Flags::NONE);
    assert_eq!(overlap.err(), Some(Error::NoSpace));
    assert_eq!(heap.stats().avail, 1192, "nothing was taken");
}

#[test]
fn the_lowest_address_is_taken_and_with_topdown_the_highest_r_18_8() {
    for (fit, flags, order) in [
        (Fit::Low, Flags::NONE, [0, 4, 8]),
        (Fit::Low, Flags::TOPDOWN, [60, 56, 52]),
        (Fit::High, Flags::NONE, [60, 56, 52]),
        // Of holes of 31, 4 and 27 pages.
        (Fit::Best, Flags::NONE, [32, 40, 44]),
    ] {
        for flags in [flags, flags | Flags::CONTIGUOUS] {
            let mut heap = Heap::new(64, Options { fit, ..PLAIN }).unwrap();
            let _left = book_at(&mut heap, 31, 32);
            let _right = book_at(&mut heap, 36, 37);
            let firsts = order.map(|_| {
                let request = Request {
                    align: 4,
                    ..Request::new(4)
                };
                heap.book(&request, Window::ALL, flags).unwrap().extents()[0].first
            });
            assert_eq!(firsts, order, "{fit:?} {flags:?}");
        }
    }
}

#[test]
fn blocks_are_powers_of_two_largest_first_and_smaller_ones_when_those_are_used_up() {
    let mut heap = heap(64);
    let _hole = [book_at(&mut heap, 4, 6), book_at(&mut heap, 16, 32)];
    let booking = book(&mut heap, 44);
    let extents = [(32, 64), (8, 16), (0, 4)].map(|(first, end)| Extent::new(first, end));
    assert_eq!(booking.extents(), extents);
}

#[test]
fn what_rounding_up_gave_too_much_is_given_back_r_18_1() {
    let mut heap = heap(64);
    let request = Request {
        align: 8,
        ..Request::new(13)
    };
    let trimmed = heap.book(&request, Window::ALL, Flags::NONE).unwrap();
    assert_eq!(trimmed.extents(), [Extent::new(0, 13)]);
    let untrimmed = Request {
        untrimmed: true,
        ..request
    };
    let whole = heap.book(&untrimmed, Window::ALL, Flags::NONE).unwrap();
    assert_eq!(whole.extents(), [Extent::new(16, 32)]);
    assert_eq!(heap.stats().avail, 64 - 13 - 16);
}

#[test]
fn a_small_power_of_two_keeps_its_alignment_inside_a_window_too_r_18_9() {
    for window in [Window::ALL, Window::new(2, 60)] {
        let mut heap = heap(64);
        let _low = book_at(&mut heap, 0, 1);
        let request = Request {
            align: 16,
            ..Request::new(2)
        };
        let starts = [0; 3].map(|_| heap.book(&request, window, Flags::NONE).unwrap().extents()[0]);
        let wanted = [16, 32, 48].map(|first| Extent::new(first, first + 2));
        assert_eq!(starts, wanted, "{window:?}");
        let full = heap.book(&request, window, Flags::NONE);
        assert_eq!(full.err(), Some(Error::NoSpace));
    }
}

#[test]
fn a_contiguous_request_finds_a_run_of_blocks_that_are_no_buddies() {
    let mut heap = heap(64);
    let _kept = [book_at(&mut heap, 0, 13), book_at(&mut heap, 30, 64)];
    assert_eq!(
        heap.stats().free_blocks[..5],
        [1, 2, 1, 1, 0],
        "1 + 2 + 8 + 4 + 2"
    );
    let run = heap
        .book(&Request::new(17), Window::new(13, 31), Flags::CONTIGUOUS)
        .unwrap();
    assert_eq!(run.extents(), [Extent::new(13, 30)]);
    heap.give_back(run, DIRTY).unwrap();
    let longer = heap.book(&Request::new(18), Window::ALL, Flags::CONTIGUOUS);
    assert_eq!(longer.err(), Some(Error::NoSpace));
}

#[test]
fn trim_gives_back_the_rest_or_changes_nothing_r_18_2() {
    let options = Options { chunk: 2, ..PLAIN };
    let mut heap = Heap::new(64, options).unwrap();
    let mut booking = heap
        .book(
            &Request {
                align: 2,
                ..Request::new(16)
            },
            Window::ALL,
            Flags::NONE,
        )
        .unwrap();
    for (first, pages) in [
        (None, 0),
        (None, 3),
        (None, 18),
        (Some(1), 2),
        (Some(15), 2),
        (Some(14), 4),
        (Some(16), 2),
        (Some(u64::MAX - 1), 2),
        (Some(2), u64::MAX - 1),
    ] {
        let trimmed = heap.trim(&mut booking, first, pages);
        assert_eq!(trimmed, Err(Error::Invalid), "{pages} from {first:?}");
        assert_eq!(booking.extents(), [Extent::new(0, 16)]);
    }
    assert_eq!(heap.trim(&mut booking, None, 16), Ok(()), "as it is");
    assert_eq!(heap.trim(&mut booking, Some(4), 8), Ok(()));
    assert_eq!(booking.extents(), [Extent::new(4, 12)]);
    assert_eq!(heap.stats().avail, 56);
    heap.check();
    heap.give_back(booking, DIRTY).unwrap();
    let (mut split, _kept) = comb(16, 4);
    let mut two = book(&mut split, 8);
    assert_eq!(two.extents().len(), 2);
    assert_eq!(
        split.trim(&mut two, None, 4),
        Err(Error::Invalid),
        "two extents"
    );
}

#[test]
fn an_end_with_pages_booked_says_how_many_r_18_7() {
    let mut heap = heap(64);
    let _lost = book(&mut heap, 5);
    assert_eq!(heap.fini(), Err(5));
}

#[test]
fn a_reserve_is_for_the_kernel() {
    let mut heap = Heap::new(
        64,
        Options {
            reserve: 8,
            ..PLAIN
        },
    )
    .unwrap();
    let kernel = |pages| Request {
        kernel: true,
        ..Request::new(pages)
    };
    let refused = |heap: &mut Heap, pages| {
        heap.book(&Request::new(pages), Window::ALL, Flags::NONE)
            .err()
    };
    assert_eq!(refused(&mut heap, 57), Some(Error::NeverFits));
    let _most = book(&mut heap, 56);
    assert_eq!(refused(&mut heap, 1), Some(Error::NoSpace));
    let table = heap.book(&kernel(8), Window::ALL, Flags::NONE).unwrap();
    assert_eq!(table.pages(), 8);
}

#[test]
fn what_is_not_booked_here_is_not_taken_back() {
    let mut small = heap(16);
    let mut large = heap(64);
    let beyond = book_at(&mut large, 32, 40);
    assert_eq!(small.give_back(beyond, DIRTY), Err(Error::Invalid));
    let free_there = book_at(&mut large, 0, 8);
    assert_eq!(small.give_back(free_there, DIRTY), Err(Error::Invalid));
    small.check();
    assert_eq!(small.stats().avail, 16);
}

#[test]
fn fragmentation_is_the_share_outside_the_longest_run() {
    let (comb, kept) = comb(64, 2);
    let stats = comb.stats();
    assert_eq!((stats.largest_free_run, stats.free_blocks[1]), (2, 16));
    assert_eq!(stats.fragmentation(), 937);
    assert_eq!(heap(64).stats().fragmentation(), 0);
    drop(kept);
}
