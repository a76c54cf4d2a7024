//! The set against a map of pages.

use super::Holes;
use super::checker::{naive_find, naive_runs};
use crate::placement::{Extent, Fit};
use proptest::prelude::*;

const PAGES: usize = 700;
const FITS: [Fit; 3] = [Fit::Low, Fit::High, Fit::Best];

/// Every second of `count` pages.
fn comb(count: u64) -> Holes {
    let mut holes = Holes::new();
    holes.reserve(usize::try_from(count).unwrap()).unwrap();
    for n in 0..count {
        // Not in order: 2^k pages by an odd stride reach each once.
        let page = n.wrapping_mul(0x9E37_79B1) % count * 2;
        holes.insert(Extent::new(page, page + 1));
    }
    holes
}

#[test]
fn what_touches_is_one_range() {
    let mut holes = Holes::new();
    holes.reserve(3).unwrap();
    for range in [Extent::new(0, 1), Extent::new(2, 3), Extent::new(1, 2)] {
        holes.insert(range);
        holes.check();
    }
    assert_eq!(holes.iter().collect::<Vec<_>>(), [Extent::new(0, 3)]);
    holes.take(Extent::new(1, 2));
    assert_eq!((holes.ranges(), holes.longest()), (2, 1));
}

#[test]
fn a_set_that_reserved_needs_no_memory_to_change() {
    let mut holes = Holes::new();
    holes.reserve(4096).unwrap();
    let (_, capacity) = holes.memory();
    holes.insert(Extent::new(0, 8192));
    for page in (1..8192).step_by(2) {
        holes.take(Extent::new(page, page + 1));
        assert_eq!(holes.memory().1, capacity);
    }
    assert_eq!(holes.ranges(), 4096);
    for page in (1..8192).step_by(2) {
        holes.insert(Extent::new(page, page + 1));
    }
    holes.check();
    assert_eq!((holes.ranges(), holes.memory().1), (1, capacity));
}

#[test]
fn a_search_among_a_million_ranges_takes_log_n_steps() {
    const RANGES: u64 = 1 << 20;
    let mut holes = comb(RANGES);
    let depth = u64::from(holes.depth());
    assert!(depth <= 24, "{depth} high");
    let all = Extent::new(0, u64::MAX);
    let window = Extent::new(99_999, 1_999_999);
    // The one hole that is longer, and the one that is aligned, are found without looking at others.
    holes.insert(Extent::new(1_234_567, 1_234_568));
    for fit in [Fit::Low, Fit::High] {
        for (pages, align, window, found) in [
            (3, 1, all, Some(1_234_566)),
            (3, 1, window, Some(1_234_566)),
            (4, 1, all, None),
            (2, 4, all, None),
            (2, 2, window, Some(1_234_566)),
            (1, 1 << 20, Extent::new(3, 1_999_999), Some(1 << 20)),
        ] {
            holes.take_steps();
            assert_eq!(holes.find(pages, align, window, fit), found);
            let steps = holes.take_steps();
            assert!(
                steps <= 3 * depth,
                "{steps} steps for {pages} pages at {align}"
            );
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(usize, usize),
    Take(usize, usize),
    Find(u64, u64, u64, u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..PAGES, 1_usize..6).prop_map(|(first, pages)| Op::Insert(first, pages)),
        (0..PAGES, 1_usize..90).prop_map(|(first, pages)| Op::Insert(first, pages)),
        (0..PAGES, 1_usize..6).prop_map(|(first, pages)| Op::Take(first, pages)),
        (0..PAGES, 1_usize..90).prop_map(|(first, pages)| Op::Take(first, pages)),
        (1_u64..40, 1_u64..70, 0_u64..720, 0_u64..720)
            .prop_map(|(p, a, f, e)| Op::Find(p, a, f, e)),
        (0_u64..6, 0_u64..9, 0_u64..720, 0_u64..720).prop_map(|(p, a, f, e)| Op::Find(
            1 << p,
            1 << a,
            f,
            e
        )),
    ]
}

proptest! {
    #[test]
    fn the_set_is_what_a_map_of_pages_is_r_18_1(
        comb in 1..9_usize, ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut map = [false; PAGES];
        let mut holes = Holes::new();
        holes.reserve(PAGES).unwrap();
        // A start with many ranges, so that the tree has levels.
        for page in (0..PAGES).step_by(comb + 1) {
            holes.insert(Extent::new(page as u64, page as u64 + 1));
            map[page] = true;
        }
        for op in ops {
            match op {
                Op::Insert(first, pages) => {
                    let all = map.iter_mut().enumerate();
                    for (page, free) in all.skip(first).take(pages) {
                        if !core::mem::replace(free, true) {
                            holes.insert(Extent::new(page as u64, page as u64 + 1));
                        }
                    }
                }
                Op::Take(first, pages) => {
                    let end = (first + pages).min(PAGES);
                    let window = Extent::new(first as u64, end as u64);
                    holes.take_all(window);
                    map[first..end].fill(false);
                }
                Op::Find(pages, align, first, end) => {
                    let window = Extent::new(first, end);
                    for fit in FITS {
                        let want = naive_find(&map, pages, align, window, fit);
                        prop_assert_eq!(holes.find(pages, align, window, fit), want, "{:?}", fit);
                    }
                }
            }
            holes.check();
            prop_assert_eq!(holes.iter().collect::<Vec<_>>(), naive_runs(&map));
        }
    }
}
