//! Maps and unmaps of an address space, beside a map of its pages.

use crate::Error;
use crate::vm::{Mapping, Op, Space};
use e3k_regs::{GpuVa, PAGE_SIZE};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

const PAGES: Range<u64> = 16..64;
const RESERVED: Range<u64> = 60..62;

type Object = (char, u64);
type Map = Mapping<char, u8>;

/// In pages.
fn mapping(pages: Range<u64>, object: Option<Object>, flags: u8) -> Map {
    Mapping {
        at: GpuVa(pages.start * PAGE_SIZE),
        bytes: (pages.end - pages.start) * PAGE_SIZE,
        object: object.map(|(name, page)| (name, page * PAGE_SIZE)),
        flags,
    }
}

fn a(pages: Range<u64>, page: u64) -> Map {
    mapping(pages, Some(('a', page)), 0)
}

fn b(pages: Range<u64>, page: u64) -> Map {
    mapping(pages, Some(('b', page)), 0)
}

fn space() -> Space<char, u8> {
    let bytes = |pages: Range<u64>| pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
    Space::new(bytes(PAGES), Some(bytes(RESERVED)))
}

fn with(old: &[Map]) -> Space<char, u8> {
    let mut space = space();
    for mapping in old {
        space.map(*mapping).unwrap().apply();
    }
    space
}

/// One way in which a request meets a mapping: what is there, the request, what
/// is left before and behind, and whether its entries may stay.
type Case = (&'static str, Map, Map, Option<Map>, Option<Map>, bool);

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_way_in_which_a_request_meets_a_mapping_r_19_2() {
    let cases: [Case; 17] = [
        (
            "the same range, another flag",
            a(20..24, 0),
            mapping(20..24, Some(('a', 0)), 1),
            None,
            None,
            false,
        ),
        (
            "the same range, another offset",
            a(20..24, 0),
            a(20..24, 4),
            None,
            None,
            false,
        ),
        (
            "the same range, another object",
            a(20..24, 0),
            b(20..24, 0),
            None,
            None,
            false,
        ),
        (
            "its left part, the same line",
            a(20..24, 0),
            a(20..22, 0),
            None,
            Some(a(22..24, 2)),
            true,
        ),
        (
            "its left part, another object",
            a(20..24, 0),
            b(20..22, 0),
            None,
            Some(a(22..24, 2)),
            false,
        ),
        (
            "its right part, the same line",
            a(20..24, 0),
            a(22..24, 2),
            Some(a(20..22, 0)),
            None,
            true,
        ),
        (
            "its right part, another object",
            a(20..24, 0),
            b(22..24, 2),
            Some(a(20..22, 0)),
            None,
            false,
        ),
        (
            "its middle, the same line",
            a(20..24, 0),
            a(21..23, 1),
            Some(a(20..21, 0)),
            Some(a(23..24, 3)),
            true,
        ),
        (
            "its middle, another object",
            a(20..24, 0),
            b(21..23, 1),
            Some(a(20..21, 0)),
            Some(a(23..24, 3)),
            false,
        ),
        (
            "more on the right, the same line",
            a(20..22, 0),
            a(20..24, 0),
            None,
            None,
            true,
        ),
        (
            "more on both sides, another object",
            a(21..22, 1),
            b(20..24, 0),
            None,
            None,
            false,
        ),
        (
            "more on both sides, the same line",
            a(21..22, 1),
            a(20..24, 0),
            None,
            None,
            true,
        ),
        (
            "over its end, the same line",
            a(20..23, 0),
            a(22..24, 2),
            Some(a(20..22, 0)),
            None,
            true,
        ),
        (
            "over its end, another object",
            a(20..23, 0),
            b(22..24, 2),
            Some(a(20..22, 0)),
            None,
            false,
        ),
        (
            "over its beginning, the same line",
            a(21..24, 1),
            a(20..22, 0),
            None,
            Some(a(22..24, 2)),
            true,
        ),
        (
            "over its beginning, another object",
            a(21..24, 1),
            b(20..22, 0),
            None,
            Some(a(22..24, 2)),
            false,
        ),
        (
            "a line that begins below 0",
            a(24..28, 0),
            a(26..30, 2),
            Some(a(24..26, 0)),
            None,
            true,
        ),
    ];
    for (name, old, new, before, behind, keep) in cases {
        let mut space = with(&[old]);
        let plan = space.map(new).unwrap();
        let first = if before.is_none() && behind.is_none() {
            Op::Unmap { old, keep }
        } else {
            Op::Remap {
                old,
                before,
                behind,
                keep,
            }
        };
        assert_eq!(
            plan.ops().collect::<Vec<_>>(),
            [first, Op::Map(new)],
            "{name}"
        );
        plan.apply();
        let mut expected: Vec<_> = [before, Some(new), behind].into_iter().flatten().collect();
        expected.sort_by_key(|mapping| mapping.at);
        assert_eq!(
            space.iter().copied().collect::<Vec<_>>(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn what_is_there_already_is_not_done_again_r_19_4() {
    let old = mapping(20..24, Some(('a', 3)), 5);
    let mut space = with(&[old]);
    let plan = space.map(old).unwrap();
    assert_eq!(plan.ops().count(), 0);
    plan.apply();
    assert_eq!(space.iter().copied().collect::<Vec<_>>(), [old]);
}

#[test]
fn a_request_over_many_mappings_cuts_the_first_and_the_last_at_most() {
    let old = [
        a(20..22, 0),
        b(22..24, 0),
        mapping(25..27, None, 0),
        a(27..30, 9),
    ];
    let mut space = with(&old);
    let plan = space.map(b(21..28, 7)).unwrap();
    let kinds: Vec<_> = plan
        .ops()
        .map(|op| matches!(op, Op::Remap { .. }))
        .collect();
    assert_eq!(kinds, [true, false, false, true, false]);
    plan.apply();
    let expected = [a(20..21, 0), b(21..28, 7), a(28..30, 10)];
    assert_eq!(space.iter().copied().collect::<Vec<_>>(), expected);
}

/// Whoever mapped two pieces finds two, also where one continues the other, and may cut
/// across both.
#[test]
fn neighbours_that_continue_each_other_stay_two_r_19_3() {
    let mut space = with(&[a(20..22, 0), a(22..24, 2), a(18..20, 64)]);
    let all = [a(18..20, 64), a(20..22, 0), a(22..24, 2)];
    assert_eq!(space.iter().copied().collect::<Vec<_>>(), all);
    space
        .unmap(GpuVa(21 * PAGE_SIZE), 2 * PAGE_SIZE)
        .unwrap()
        .apply();
    let cut = [a(18..20, 64), a(20..21, 0), a(23..24, 3)];
    assert_eq!(space.iter().copied().collect::<Vec<_>>(), cut);
    // The piece in between continues both, and they stay three.
    space.map(a(21..23, 1)).unwrap().apply();
    let whole = [all[0], cut[1], a(21..23, 1), cut[2]];
    assert_eq!(space.iter().copied().collect::<Vec<_>>(), whole);
}

#[test]
fn a_sparse_range_is_cut_like_any_other_and_has_no_entries_to_keep() {
    let mut space = with(&[mapping(20..24, None, 0)]);
    let plan = space.map(mapping(21..22, None, 0)).unwrap();
    assert!(
        plan.ops()
            .all(|op| !matches!(op, Op::Remap { keep: true, .. }))
    );
    plan.apply();
    assert_eq!(space.len(), 3);
}

#[test]
fn an_unmap_of_nothing_is_no_error_and_does_nothing() {
    let mut space = with(&[a(20..22, 0)]);
    let plan = space.unmap(GpuVa(30 * PAGE_SIZE), PAGE_SIZE).unwrap();
    assert_eq!(plan.ops().count(), 0);
    plan.apply();
    assert_eq!(space.len(), 1);
}

#[test]
fn a_plan_that_is_dropped_changes_nothing_r_19_5() {
    let mut space = with(&[a(20..22, 0)]);
    assert_eq!(space.map(b(20..24, 0)).unwrap().ops().count(), 2);
    assert_eq!(space.iter().copied().collect::<Vec<_>>(), [a(20..22, 0)]);
}

#[test]
fn what_is_not_the_users_is_refused_before_anything_changes_r_19_1() {
    let mut space = with(&[a(20..22, 0)]);
    let page = PAGE_SIZE;
    for (at, bytes) in [
        (20 * page, 0),
        (20 * page + 1, page),
        (20 * page, page + 1),
        (15 * page, 2 * page),
        (63 * page, 2 * page),
        (59 * page, 2 * page),
        (61 * page, 2 * page),
        (u64::MAX - page + 1, page),
        (u64::MAX - page + 1, 2 * page),
        (page, u64::MAX - page + 1),
    ] {
        assert_eq!(
            space.unmap(GpuVa(at), bytes).err(),
            Some(Error::Invalid),
            "{at:#x} {bytes:#x}"
        );
    }
    for offset in [1, page - 1, u64::MAX, u64::MAX - page + 1] {
        let new = Mapping {
            at: GpuVa(20 * page),
            bytes: page,
            object: Some(('a', offset)),
            flags: 0,
        };
        assert_eq!(space.map(new).err(), Some(Error::Invalid), "{offset:#x}");
    }
    assert_eq!(space.iter().copied().collect::<Vec<_>>(), [a(20..22, 0)]);
    assert_eq!(space.find(GpuVa(22 * page)), None);
    assert_eq!(space.find(GpuVa(22 * page - 1)), Some(&a(20..22, 0)));
}

/// What a page leads to: the object and its page, or nothing, and the flags.
type Page = (Option<Object>, u8);

/// A map of pages.
#[derive(Debug, Default)]
struct Naive(BTreeMap<u64, Page>);

impl Naive {
    fn set(&mut self, mapping: &Map) {
        let first = mapping.at.page();
        for n in 0..mapping.bytes / PAGE_SIZE {
            let object = mapping
                .object
                .map(|(name, offset)| (name, offset / PAGE_SIZE + n));
            self.0.insert(first + n, (object, mapping.flags));
        }
    }

    fn clear(&mut self, range: Range<u64>) {
        self.0.retain(|page, _| !range.contains(page));
    }
}

/// Page-table entries, changed by the steps alone.
fn run(tables: &mut BTreeMap<u64, Page>, range: &Range<u64>, op: &Op<char, u8>) {
    let gone = |old: &Map| {
        let from = old.at.page().max(range.start);
        from..(old.end() / PAGE_SIZE).min(range.end)
    };
    match op {
        Op::Unmap { old, keep } | Op::Remap { old, keep, .. } => {
            if !keep {
                gone(old).for_each(|page| assert!(tables.remove(&page).is_some()));
            }
        }
        Op::Map(new) => {
            let mut naive = Naive::default();
            naive.set(new);
            for (page, entry) in naive.0 {
                // An entry that was kept is right already.
                if let Some(kept) = tables.insert(page, entry) {
                    assert_eq!(kept, entry, "page {page}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn steps_and_mappings_agree_with_a_map_of_pages(
        requests in prop::collection::vec(
            (PAGES, 1..20_u64, prop::option::weighted(0.8, (prop::char::range('a', 'b'), 0..6_u64)), 0..2_u8, prop::bool::weighted(0.7)),
            1..80,
        ),
    ) {
        let mut space = space();
        let (mut naive, mut tables) = (Naive::default(), BTreeMap::new());
        for (first, pages, object, flags, map) in requests {
            let range = first..first + pages;
            // Most objects lie on few lines, so that requests often continue each other.
            let object = object.map(|(name, line)| (name, first - PAGES.start + 10 * line));
            let new = mapping(range.clone(), object, flags);
            let valid = range.end <= PAGES.end && (range.end <= RESERVED.start || first >= RESERVED.end);
            let plan = if map { space.map(new) } else { space.unmap(new.at, new.bytes) };
            let Ok(plan) = plan else {
                prop_assert!(!valid);
                continue;
            };
            prop_assert!(valid);
            let ops: Vec<_> = plan.ops().collect();
            plan.apply();
            let cuts = ops.iter().filter(|op| matches!(op, Op::Remap { .. })).count();
            let maps = ops.iter().filter(|op| matches!(op, Op::Map(_))).count();
            prop_assert!(cuts <= 2 && maps <= usize::from(map));
            for op in &ops {
                run(&mut tables, &range, op);
            }
            if map { naive.set(&new) } else { naive.clear(range) }
            prop_assert_eq!(&tables, &naive.0);
            let mut mapped = Naive::default();
            let mut end = 0;
            for mapping in space.iter() {
                prop_assert!(mapping.bytes > 0 && mapping.at.0 >= end, "sorted, disjoint");
                end = mapping.end();
                mapped.set(mapping);
                prop_assert_eq!(space.find(mapping.at), Some(mapping));
            }
            prop_assert_eq!(&mapped.0, &naive.0);
        }
    }
}
