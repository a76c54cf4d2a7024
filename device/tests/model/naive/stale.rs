//! What the TLB rules allow a program to see that does not invalidate: the
//! page that the tables say now; one that an entry of the same line said at an
//! access since the DTLB's line was last invalidated; or the one that the same
//! client's last access to the page went to, since the UTLB's entry was last
//! invalidated. Nothing else, ever.

use super::Choices;
use super::compare::{PAGES, Pair};
use super::mmu::Place;
use super::program::{Leaf, Step, low};
use super::random_programs::leaf;
use crate::rig::{SURFACES_AT, fill, packets};
use crate::tables::{LARGE, plus, vram};
use presil_device::{Broken, Defect, DtlbShape, FaultCause, GpuVa, UtlbSize};
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

/// Who writes: a fence or a clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    Fence,
    Clear,
}

/// Which TLB an invalidation is for, by its number in register and packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tlb {
    Utlb = 1,
    Dtlb = 2,
}

/// What of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    All,
    Process,
    Page(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// The page's L3 entry, without an invalidation.
    Map(u64, Leaf),
    /// The pages' L2 entry: they are parts of one page of 64 KiB, or their own.
    Large(bool),
    Write(u64, Client),
    Invalidate(Tlb, Extent),
    /// The process's entries, by the ring.
    InvalidateByRing(Tlb),
}

/// One act.
pub(crate) fn act() -> impl Strategy<Value = Act> {
    let tlb = prop_oneof![Just(Tlb::Utlb), Just(Tlb::Dtlb)];
    let client = prop_oneof![Just(Client::Fence), Just(Client::Clear)];
    let extent = prop_oneof![
        Just(Extent::All),
        Just(Extent::Process),
        (0..PAGES).prop_map(Extent::Page),
    ];
    prop_oneof![
        4 => (0..PAGES, leaf()).prop_map(|(page, leaf)| Act::Map(page, leaf)),
        1 => any::<bool>().prop_map(Act::Large),
        6 => (0..PAGES, client).prop_map(|(page, client)| Act::Write(page, client)),
        1 => (tlb.clone(), extent).prop_map(|(tlb, extent)| Act::Invalidate(tlb, extent)),
        1 => tlb.prop_map(Act::InvalidateByRing),
    ]
}

/// With and without each TLB, and with `--strict-utlb`.
pub(crate) fn tlbs() -> impl Strategy<Value = Choices> {
    let utlb = prop_oneof![1 => Just(UtlbSize::OFF), 2 => Just(UtlbSize::default())];
    let dtlb = prop_oneof![1 => Just(DtlbShape::OFF), 2 => Just(DtlbShape::default())];
    (utlb, dtlb, any::<bool>()).prop_map(|(utlb, dtlb, strict_utlb)| {
        let mut choices = Choices::default();
        choices.mmu.utlb = utlb;
        choices.mmu.dtlb = dtlb;
        choices.mmu.strict_utlb = strict_utlb;
        choices
    })
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

/// What the TLBs may know.
#[derive(Default)]
struct Known {
    lines: HashMap<u64, Vec<Leads>>,
    pages: HashMap<(Client, u64), Leads>,
}

impl Known {
    fn of(&self, client: Client, page: u64) -> Vec<Leads> {
        let mut known = self.lines.get(&page).cloned().unwrap_or_default();
        known.extend(self.pages.get(&(client, page)));
        known
    }

    /// An access went to `found`, a place of a valid entry.
    fn learn(&mut self, pair: &mut Pair, client: Client, page: u64, found: Option<Leads>) {
        let mmu = pair.choices.mmu;
        self.pages.remove(&(client, page));
        if let Some(found) = found.filter(|_| mmu.utlb != UtlbSize::OFF) {
            self.pages.insert((client, page), found);
        }
        if mmu.dtlb != DtlbShape::OFF {
            // It may have loaded the whole line.
            for page in 0..PAGES {
                let place = now(pair, page);
                self.lines.entry(page).or_default().extend(place);
            }
        }
    }

    /// A DTLB entry is dropped with its line, which all pages here share.
    fn forget(&mut self, tlb: Tlb, strict: bool, extent: Extent) {
        match (tlb, extent) {
            (Tlb::Utlb, Extent::Page(page)) => self.pages.retain(|(_, known), _| *known != page),
            (Tlb::Utlb, _) => self.pages.clear(),
            (Tlb::Dtlb, _) => {
                self.lines.clear();
                if !strict {
                    self.pages.clear();
                }
            }
        }
    }
}

fn write(pair: &mut Pair, page: u64, client: Client, value: u64) {
    let va = SURFACES_AT + page * 4096;
    let dwords = packets(|w| {
        w.indicator(3, PROCESS);
        match client {
            Client::Fence => w.fence(GpuVa(va), value, false),
            Client::Clear => fill(w, va, 1, 1, low(value)),
        }
    });
    Step::Call(0, 0, dwords).apply(pair);
}

fn invalidate(pair: &mut Pair, tlb: Tlb, extent: Extent) {
    let process = u32::from(PROCESS) << 28;
    let (address, mask) = match extent {
        Extent::All => (0, 0),
        Extent::Process => (process, 0xf000_0000),
        Extent::Page(page) => (process | low((SURFACES_AT >> 12) + page), u32::MAX),
    };
    pair.set(0x49018, address);
    pair.set(0x4901C, mask);
    pair.set(0x49020, (tlb as u32) << 5);
}

/// Fails where an access goes where the TLB rules do not let it, of a GPU that is broken so.
pub(crate) fn check(
    choices: Choices,
    acts: &[Act],
    defect: Option<Defect>,
) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(choices);
    pair.rig.gpu.set_watch(Some(Box::new(Broken::new(defect))));
    let strict = choices.mmu.strict_utlb;
    let mut known = Known::default();
    for (act, value) in acts.iter().zip(1_u64..) {
        match *act {
            Act::Map(page, ref leaf) => {
                let at = pair.l3_entries[8 + 2 * usize::try_from(page).unwrap()];
                pair.poke(at, &[leaf.entry()]);
            }
            Act::Large(large) => {
                let at = plus(
                    pair.l2_tables[usize::from(PROCESS)],
                    (SURFACES_AT >> 22) * 4,
                );
                let entry = pair.rig.load(at) & !LARGE;
                pair.poke(at, &[entry | if large { LARGE } else { 0 }]);
            }
            Act::Invalidate(tlb, extent) => {
                invalidate(&mut pair, tlb, extent);
                known.forget(tlb, strict, extent);
            }
            Act::InvalidateByRing(tlb) => {
                let header = 9 << 28 | 12 << 23 | u32::from(PROCESS) << 18 | 4;
                pair.queue(0, &[header | (tlb as u32 + 1) << 12, 0, 0, 0, 0]);
                pair.run(1 << 16);
                known.forget(tlb, strict, Extent::Process);
            }
            Act::Write(page, client) => {
                let mut valid = known.of(client, page);
                valid.extend(now(&mut pair, page));
                write(&mut pair, page, client, value);
                let found = holder(&pair, value);
                prop_assert!(found.len() <= 1, "{found:?}");
                let found = found.first().map_or(Leads::Nowhere, |n| Leads::To(*n));
                let is_valid = valid.contains(&found);
                // Only what the tables do not say now may fault for them.
                let faults = found == Leads::Nowhere && now(&mut pair, page).is_none();
                prop_assert!(is_valid || faults, "{found:?}, allowed {valid:?}");
                known.learn(&mut pair, client, page, is_valid.then_some(found));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_program_that_does_not_invalidate_sees_only_what_the_tlb_may_know(
        tlbs in tlbs(), acts in prop::collection::vec(act(), 1..60))
    {
        check(tlbs, &acts, None)?;
    }
}
