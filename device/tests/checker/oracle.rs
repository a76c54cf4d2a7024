//! Random changes of tables, invalidations and writes, judged by looking at all memory
//! after each step: where a write went, against what the tables said at its doorbell.

use crate::bench::watched;
use crate::rig::{MIB, Rig, nth_page, write_as};
use crate::tables::{entry, l1_offset, plus, vram};
use presil_device::Target;
use presil_device::checker::Reports;
use proptest::prelude::*;

/// Pages of memory, and of address space: some in one line of the shared TLB, some not.
const PLACES: u64 = 6;
const VAS: [u64; 4] = [0, 0x1000, 0x1_0000, 0x40_0000];
const PROCESSES: u32 = 3;
const VA: u64 = 64 * MIB;

#[derive(Clone, Copy, Debug)]
enum Act {
    Map {
        process: u32,
        va: u64,
        place: u64,
    },
    Unmap {
        process: u32,
        va: u64,
    },
    /// The L1 register of one process for another.
    Give {
        from: u32,
        to: u32,
    },
    Write {
        process: u32,
        va: u64,
    },
    Invalidate {
        process: u32,
        va: u64,
        page_mask: u32,
        any_process: bool,
        dtlb: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let process = || 1..=PROCESSES;
    let va = || prop::sample::select(&VAS[..]).prop_map(|va| VA + va);
    prop_oneof![
        4 => (process(), va(), 0..PLACES).prop_map(|(process, va, place)| Act::Map { process, va, place }),
        1 => (process(), va()).prop_map(|(process, va)| Act::Unmap { process, va }),
        1 => (process(), process()).prop_map(|(from, to)| Act::Give { from, to }),
        8 => (process(), va()).prop_map(|(process, va)| Act::Write { process, va }),
        3 => (process(), va(), prop::sample::select(&[0, 0xFFF_FFF0, 0xFFF_FC00][..]), any::<bool>(), any::<bool>())
            .prop_map(|(process, va, page_mask, any_process, dtlb)| {
                Act::Invalidate { process, va, page_mask, any_process, dtlb }
            }),
    ]
}

fn place(n: u64) -> Target {
    nth_page(vram(16 * MIB), n)
}

/// The first word of every page of memory that a write may go to.
fn memory(rig: &Rig) -> Vec<u32> {
    (0..PLACES).map(|n| rig.load(place(n))).collect()
}

/// What the tables say, read by hand.
fn says(rig: &mut Rig, process: u32, va: u64) -> Option<u64> {
    let next = |entry: u32| vram(u64::from(entry >> 4 & 0xff_ffff) << 12);
    let l1 = rig.reg(l1_offset(process, va));
    let l2 = (l1 & 1 == 1).then(|| rig.load(plus(next(l1), (va >> 22 & 0x3ff) * 4)))?;
    let l3 = (l2 & 1 == 1).then(|| rig.load(plus(next(l2), (va >> 12 & 0x3ff) * 4)))?;
    (0..PLACES).find(|n| l3 == entry(place(*n)))
}

/// How often rules about stale uses have found something.
fn found(reports: &Reports) -> u64 {
    let rules = reports.summary().rules.into_iter();
    let stale = rules.filter(|rule| (10001..=10005).contains(&rule.rule.0));
    stale.map(|rule| rule.found).sum()
}

/// Does one act. Of a write: the page that the tables say, and the one where it went.
fn step(rig: &mut Rig, act: Act, value: u32) -> (Option<u64>, Option<u64>) {
    match act {
        Act::Map {
            process,
            va,
            place: n,
        } => rig.map(process, va, place(n)),
        Act::Unmap { process, va } => {
            let at = rig.l3_entry_at(process, va);
            rig.store(at, 0);
        }
        Act::Give { from, to } => {
            rig.l3_entry_at(from, VA);
            let l1 = rig.reg(l1_offset(from, VA));
            rig.set(l1_offset(to, VA), l1);
        }
        Act::Write { process, va } => {
            let said = says(rig, process, va);
            write_as(rig, process.to_le_bytes()[0], va, value);
            let went = memory(rig).iter().position(|word| *word == value);
            return (said, went.map(|n| n as u64));
        }
        Act::Invalidate {
            process,
            va,
            page_mask,
            any_process,
            dtlb,
        } => {
            let page = u32::try_from(va >> 12).unwrap();
            rig.set(0x49018, process << 28 | page);
            rig.set(0x4901C, if any_process { 0 } else { 0xF << 28 } | page_mask);
            rig.set(0x49020, if dtlb { 2 << 5 } else { 1 << 5 });
        }
    }
    (None, None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_stale_use_is_reported_where_a_write_goes_astray_and_nowhere_else(
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let (mut rig, reports) = watched("");
        rig.enter_va_mode();
        for (act, value) in acts.into_iter().zip(1..) {
            let before = found(&reports);
            let (said, went) = step(&mut rig, act, value);
            let reported = found(&reports) > before;
            match (said, went) {
                // A page that was only unmapped: the second doorbell decides.
                (None, Some(_)) => {}
                (said, went) => prop_assert_eq!(
                    reported,
                    went.is_some() && said != went,
                    "{:?}: the tables say {:?}, the write went to {:?}", act, said, went
                ),
            }
        }
        let others: Vec<_> = reports.list().into_iter().filter(|report| report.rule.0 > 10005).collect();
        prop_assert!(others.is_empty(), "{:?}", others);
    }
}
