//! What the TLB rules allow a program to see that does not invalidate: the
//! page that the tables say now, or one that an entry of the same line said at
//! an access since the line was last invalidated. Nothing else, ever.

use super::Choices;
use super::compare::{PAGES, Pair};
use super::mmu::Place;
use super::program::{Leaf, Step};
use super::random_programs::leaf;
use crate::rig::SURFACES_AT;
use crate::tables::vram;
use presil_device::FaultCause;
use proptest::prelude::*;
use std::collections::HashMap;

/// Process 1 in VA mode; its pages are those of [`SURFACES_AT`].
const PROCESS: u8 = 1;

/// Where an entry leads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leads {
    To(u64),
    Nowhere,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// The page's L3 entry, without an invalidation.
    Map(u64, Leaf),
    /// A fence to the page.
    Write(u64),
    /// Everything, or this process.
    Invalidate(bool),
}

/// One act.
pub(crate) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..PAGES, leaf()).prop_map(|(page, leaf)| Act::Map(page, leaf)),
        6 => (0..PAGES).prop_map(Act::Write),
        1 => any::<bool>().prop_map(Act::Invalidate),
    ]
}

/// What the tables say now about a page of process 1: the number of a place
/// (see [`holder`]), or a valid entry that leads nowhere. `None`: no valid entry.
fn now(pair: &mut Pair, page: u64) -> Option<Leads> {
    match pair.naive.translate(PROCESS, SURFACES_AT + page * 4096) {
        Ok(Place::Local(at)) => Some(Leads::To((at - SURFACES_AT) / 4096)),
        Ok(Place::Bus(at, ..)) if at < PAGES * 4096 => Some(Leads::To(2 * PAGES + at / 4096)),
        Ok(Place::Bus(..)) => Some(Leads::Nowhere),
        Err(nowhere) if nowhere.cause == FaultCause::OutsideVram => Some(Leads::Nowhere),
        Err(_) => None,
    }
}

/// The page that holds `value` at its place for fences, if any does.
fn holder(pair: &Pair, value: u64) -> Vec<u64> {
    let local = (0..2 * PAGES).map(|n| vram(SURFACES_AT + n * 4096));
    let bus = (0..PAGES).map(|n| crate::tables::snooped(n * 4096));
    (0..)
        .zip(local.chain(bus))
        .filter(|(_, at)| pair.rig.load_u64(*at) == value)
        .map(|(n, _)| n)
        .collect()
}

/// Fails where an access goes where the TLB rules do not let it.
pub(crate) fn check(acts: &[Act]) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(Choices::default());
    // Places that the TLB may know, by page.
    let mut known: HashMap<u64, Vec<Leads>> = HashMap::new();
    for (act, value) in acts.iter().zip(1_u64..) {
        match act {
            Act::Map(page, leaf) => {
                let at = pair.l3_entries[8 + 2 * usize::try_from(*page).unwrap()];
                pair.poke(at, &[leaf.entry()]);
            }
            Act::Invalidate(all) => {
                let mask = if *all { 0 } else { 0xf000_0000 };
                pair.set(0x49018, 1 << 28);
                pair.set(0x4901C, mask);
                pair.set(0x49020, 0x40);
                known.clear();
            }
            Act::Write(page) => {
                let mut allowed = known.get(page).cloned().unwrap_or_default();
                // Only what the tables do not say now may fault for them.
                allowed.push(now(&mut pair, *page).unwrap_or(Leads::Nowhere));
                let va = u32::try_from(SURFACES_AT + page * 4096).unwrap();
                let value32 = u32::try_from(value).unwrap();
                let fence = vec![0x9006_2001, 1, 0x8000_0064, va, 0, value32, 0];
                Step::Call(0, 0, fence).apply(&mut pair);
                let found = holder(&pair, value);
                prop_assert!(found.len() <= 1, "{found:?}");
                let found = found.first().map_or(Leads::Nowhere, |n| Leads::To(*n));
                prop_assert!(allowed.contains(&found), "{found:?}, allowed {allowed:?}");
                // The access may have loaded the whole line.
                for page in 0..PAGES {
                    let place = now(&mut pair, page);
                    known.entry(page).or_default().extend(place);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_program_that_does_not_invalidate_sees_only_what_the_tlb_may_know(
        acts in prop::collection::vec(act(), 1..60))
    {
        check(&acts)?;
    }
}
