//! Random changes of tables, invalidations and writes, judged by looking at all memory
//! after each step: where a write went, against what the tables said at its doorbell. It
//! reads tables and memory by hand and knows nothing of TLBs, so it is the naive checker.

use crate::bench::watched_on;
use crate::rig::{MIB, Rig, write_as};
use crate::tables::{LARGE, LOCAL, VALID, entry, l1_offset, plus, vram};
use e3k_regs::packet::block;
use presil_device::checker::Reports;
use presil_device::{MmuOptions, Target};
use proptest::prelude::*;

/// Pages of memory that tables of each kind lead to.
const PLACES: u64 = 6;
/// Pages of address space: some in one line of the shared TLB, some not; from `LARGE_VAS`
/// on in a table of 64 KiB pages, two of them pieces of one.
const VAS: [u64; 6] = [
    0,
    0x1000,
    0x1_0000,
    LARGE_VAS,
    LARGE_VAS + 0x1000,
    LARGE_VAS + 0x1_0000,
];
const LARGE_VAS: u64 = 0x40_0000;
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
        by_ring: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let process = || 1..=PROCESSES;
    let va = || prop::sample::select(&VAS[..]).prop_map(|va| VA + va);
    let masks = prop::sample::select(&[0, 0xFFF_FFF0, 0xFFF_FC00][..]);
    prop_oneof![
        4 => (process(), va(), 0..PLACES).prop_map(|(process, va, place)| Act::Map { process, va, place }),
        1 => (process(), va()).prop_map(|(process, va)| Act::Unmap { process, va }),
        1 => (process(), process()).prop_map(|(from, to)| Act::Give { from, to }),
        8 => (process(), va()).prop_map(|(process, va)| Act::Write { process, va }),
        3 => (process(), va(), masks, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(process, va, page_mask, any_process, dtlb, by_ring)| {
                Act::Invalidate { process, va, page_mask, any_process, dtlb, by_ring }
            }),
    ]
}

fn is_large(va: u64) -> bool {
    va >= VA + LARGE_VAS
}

/// Where the n-th page of memory is, of either kind.
fn place(large: bool, n: u64) -> u64 {
    if large {
        32 * MIB + n * 0x1_0000
    } else {
        16 * MIB + n * 0x1000
    }
}

/// Where in memory a write went: the first words of all pages, and of large ones' pieces.
fn found_at(rig: &Rig, value: u32) -> Option<u64> {
    let pages = (0..PLACES).flat_map(|n| {
        let large = place(true, n);
        [place(false, n), large, large + 0x1000]
    });
    { pages }.find(|at| rig.load(vram(*at)) == value)
}

/// The place of the entry that maps an address, of either kind.
fn entry_at(rig: &mut Rig, process: u32, va: u64) -> Target {
    let l3 = rig.l3_entry_at(process, va);
    if !is_large(va) {
        return l3;
    }
    let l2 = plus(
        below(rig.reg(l1_offset(process, va))),
        (va >> 22 & 0x3ff) * 4,
    );
    rig.store(l2, rig.load(l2) | LARGE);
    plus(below(rig.load(l2)), (va >> 16 & 0x3f) * 4)
}

fn below(entry: u32) -> Target {
    vram(u64::from(entry >> 4 & 0xff_ffff) << 12)
}

/// Where the tables lead, read by hand.
fn says(rig: &mut Rig, process: u32, va: u64) -> Option<u64> {
    let l1 = rig.reg(l1_offset(process, va));
    let l2 = (l1 & 1 == 1).then(|| rig.load(plus(below(l1), (va >> 22 & 0x3ff) * 4)))?;
    let index = if l2 & LARGE == 0 {
        va >> 12 & 0x3ff
    } else {
        va >> 16 & 0x3f
    };
    let l3 = (l2 & 1 == 1).then(|| rig.load(plus(below(l2), index * 4)))?;
    let large = u64::from(l3 >> 8) << 16 | va & 0xf000;
    let small = u64::from(l3 >> 4 & 0xff_ffff) << 12;
    (l3 & 1 == 1).then_some(if l2 & LARGE == 0 { small } else { large })
}

/// What the tables said at a moment at which the checker may look, by process and page.
struct Moment {
    doorbell: bool,
    said: Vec<Option<u64>>,
}

impl Moment {
    fn now(rig: &mut Rig, doorbell: bool) -> Self {
        let all = (1..=PROCESSES).flat_map(|process| VAS.map(|va| (process, VA + va)));
        let said = all.map(|(process, va)| says(rig, process, va)).collect();
        Self { doorbell, said }
    }

    fn of(&self, process: u32, va: u64) -> Option<u64> {
        let page = VAS.iter().position(|one| VA + one == va).unwrap();
        self.said[(process as usize - 1) * VAS.len() + page]
    }
}

/// Whether a write through what the tables said last, `went`, is to be reported, now that
/// they say something else. Where they say nothing, its memory can have been given away
/// only if a doorbell before this one found it so.
fn is_stale(moments: &[Moment], process: u32, va: u64, went: u64) -> bool {
    let (now, before) = moments.split_last().unwrap();
    if let Some(said) = now.of(process, va) {
        return said != went;
    }
    let mut before = before.iter().rev();
    let wrong = |moment: &&Moment| moment.of(process, va) != Some(went);
    before
        .by_ref()
        .take_while(wrong)
        .any(|moment| moment.doorbell)
}

/// How often rules about stale uses have found something.
fn found(reports: &Reports) -> u64 {
    let rules = reports.summary().rules.into_iter();
    let stale = rules.filter(|rule| (10001..=10005).contains(&rule.rule.0));
    stale.map(|rule| rule.found).sum()
}

/// Does one act. Of a write: whether a stale use is to be reported.
fn step(rig: &mut Rig, act: Act, value: u32, moments: &mut Vec<Moment>) -> bool {
    match act {
        Act::Map {
            process,
            va,
            place: n,
        } => {
            let at = entry_at(rig, process, va);
            let to = place(is_large(va), n);
            let large = VALID | LOCAL | u32::try_from(to >> 16).unwrap() << 8;
            rig.store(at, if is_large(va) { large } else { entry(vram(to)) });
        }
        Act::Unmap { process, va } => {
            let at = entry_at(rig, process, va);
            rig.store(at, 0);
        }
        Act::Give { from, to } => {
            entry_at(rig, from, VA);
            let l1 = rig.reg(l1_offset(from, VA));
            rig.set(l1_offset(to, VA), l1);
        }
        Act::Write { process, va } => {
            moments.push(Moment::now(rig, true));
            write_as(rig, process.to_le_bytes()[0], va, value);
            let went = found_at(rig, value);
            return went.is_some_and(|went| is_stale(moments, process, va, went));
        }
        Act::Invalidate {
            process,
            va,
            page_mask,
            any_process,
            dtlb,
            by_ring,
        } => {
            moments.push(Moment::now(rig, by_ring));
            let page = u32::try_from(va >> 12).unwrap();
            let posted = [
                process << 28 | page,
                if any_process { 0 } else { 0xF << 28 } | page_mask,
                if dtlb { 2 << 5 } else { 1 << 5 },
            ];
            if by_ring {
                rig.submit(|w| w.set_register(block::MXU, 6, &posted));
            } else {
                for (register, value) in (0x49018..).step_by(4).zip(posted) {
                    rig.set(register, value);
                }
            }
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_stale_use_is_reported_where_a_write_goes_astray_and_nowhere_else(
        strict_utlb in any::<bool>(),
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let options = MmuOptions { strict_utlb, ..MmuOptions::default() };
        let (mut rig, reports) = watched_on(Rig::with_mmu(options), "");
        rig.enter_va_mode();
        let mut moments = Vec::new();
        for (act, value) in acts.into_iter().zip(1..) {
            let before = found(&reports);
            let stale = step(&mut rig, act, value, &mut moments);
            prop_assert_eq!(found(&reports) > before, stale, "{:?}", act);
        }
        let others: Vec<_> = reports.list().into_iter().filter(|report| report.rule.0 > 10005).collect();
        prop_assert!(others.is_empty(), "{:?}", others);
    }
}
