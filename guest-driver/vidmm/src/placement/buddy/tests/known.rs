//! What is known of free pages: which are zero, and which somebody still uses.

use super::rules::{CLEAR, DIRTY, book, book_at, comb, heap};
use crate::Error;
use crate::placement::{Extent, Flags, Freed, Request, Window};

#[test]
fn what_was_used_is_dirty_after_trim() {
    let mut heap = heap(16);
    heap.reset_clear(true).unwrap();
    let request = Request {
        clear: true,
        ..Request::new(16)
    };
    let mut booking = heap.book(&request, Window::ALL, Flags::NONE).unwrap();
    assert!(booking.dirty().is_empty());
    // Somebody may have written to it since.
    heap.trim(&mut booking, None, 8).unwrap();
    assert_eq!(heap.stats().clear_avail, 0);
}

#[test]
fn clear_pages_are_kept_for_those_who_want_them_and_never_a_reason_to_fail_r_18_4() {
    let mut heap = heap(32);
    let clear = Request {
        clear: true,
        ..Request::new(8)
    };
    let first = heap.book(&clear, Window::ALL, Flags::NONE).unwrap();
    assert_eq!(first.dirty(), [Extent::new(0, 8)], "nothing is clear yet");
    heap.give_back(first, CLEAR).unwrap();
    assert_eq!(heap.stats().clear_avail, 8);
    let any = book(&mut heap, 8);
    assert_eq!(
        any.extents(),
        [Extent::new(8, 16)],
        "the clear ones are spared"
    );
    let zero = heap.book(&clear, Window::ALL, Flags::NONE).unwrap();
    assert_eq!(
        (zero.extents(), zero.dirty()),
        (&[Extent::new(0, 8)][..], &[][..])
    );
    heap.give_back(zero, CLEAR).unwrap();
    // 8 clear and 16 dirty pages are left: 24 in all, whatever they hold.
    let rest = heap
        .book(
            &Request {
                clear: true,
                ..Request::new(24)
            },
            Window::ALL,
            Flags::NONE,
        )
        .unwrap();
    assert_eq!(rest.pages(), 24);
    assert_eq!(rest.dirty(), [Extent::new(16, 32)]);
}

#[test]
fn clear_and_dirty_neighbours_are_one_run_of_which_the_dirty_part_is_told_r_18_5() {
    let mut heap = heap(16);
    let runs = [(0, 12, CLEAR), (12, 16, DIRTY)];
    let booked = runs.map(|(first, end, freed)| (book_at(&mut heap, first, end), freed));
    for (booking, freed) in booked {
        heap.give_back(booking, freed).unwrap();
    }
    assert_eq!(heap.stats().free_blocks[4], 1, "one block of 16");
    let request = Request {
        clear: true,
        ..Request::new(16)
    };
    let all = heap.book(&request, Window::ALL, Flags::CONTIGUOUS).unwrap();
    assert_eq!(all.dirty(), [Extent::new(12, 16)]);
}

#[test]
fn reset_clear_counts_for_all_free_pages_r_18_6() {
    let (mut heap, kept) = comb(64, 4);
    for (to, clear) in [(true, 32), (false, 0), (true, 32), (true, 32)] {
        heap.reset_clear(to).unwrap();
        assert_eq!(heap.stats().clear_avail, clear);
        heap.check();
    }
    drop(kept);
}

#[test]
fn pages_that_are_worked_on_are_taken_last_and_only_their_fences_are_waited_for() {
    let mut heap = heap(64);
    let [low, high] = [(0, 16), (32, 48)].map(|(first, end)| book_at(&mut heap, first, end));
    heap.give_back(
        low,
        Freed {
            cleared: false,
            fence: Some(7),
        },
    )
    .unwrap();
    heap.give_back(
        high,
        Freed {
            cleared: false,
            fence: Some(8),
        },
    )
    .unwrap();
    assert_eq!((heap.stats().avail, heap.stats().fenced), (64, 32));
    let idle = book(&mut heap, 16);
    assert_eq!(
        (idle.extents(), idle.fences()),
        (&[Extent::new(16, 32)][..], &[][..])
    );
    let run = heap.book(&Request::new(40), Window::new(8, 0), Flags::CONTIGUOUS);
    assert_eq!(run.err(), Some(Error::NoSpace), "16 to 32 is booked");
    heap.check();
    let waits = heap
        .book(&Request::new(24), Window::ALL, Flags::CONTIGUOUS)
        .unwrap();
    assert_eq!(
        (waits.extents(), waits.fences()),
        (&[Extent::new(32, 56)][..], &[8][..])
    );
    assert_eq!(heap.stats().fenced, 16, "the other range waits on");
    heap.retire(|fence| *fence == 7);
    let low = book(&mut heap, 16);
    assert_eq!(
        (low.extents(), low.fences()),
        (&[Extent::new(0, 16)][..], &[][..])
    );
    heap.check();
}
