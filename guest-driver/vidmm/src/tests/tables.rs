//! Page tables beside a map of pages, as a GPU sees them that walks at any time,
//! keeps lines of 16 entries in its TLB, and sees stores in any order until a
//! barrier.

use crate::Error;
use crate::vm::{INVALID, TableMemory, Tables};
use e3k_regs::pte::{L1_SPAN, L2_SPAN};
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub(super) const ZONE: Range<u64> = 2 * L1_SPAN..5 * L1_SPAN;
const LINE: u64 = 16 * PAGE_SIZE;
/// The bit that marks an entry which points at a table.
const TABLE: u32 = 1 << 31;
/// What a table holds before it is one.
const GARBAGE: u32 = 0x0BAD_0BAD;

#[derive(Default)]
pub(super) struct Gpu {
    /// Tables that are allocated, as the GPU sees them.
    pub(super) tables: RefCell<BTreeMap<u64, Vec<u32>>>,
    /// Stores that no barrier has pushed out: table, entry, value.
    posted: RefCell<Vec<(u64, usize, u32)>>,
    l1: RefCell<BTreeMap<u64, u64>>,
    /// Lines by their first address.
    tlb: RefCell<BTreeMap<u64, Vec<u32>>>,
    next: Cell<u64>,
    pub(super) allocs_until_failure: Cell<Option<u32>>,
    pub(super) deaf: Cell<bool>,
    invalidations: Cell<u32>,
    random: Cell<u64>,
}

impl Gpu {
    /// The GPU works while the driver does: some stores arrive, and it walks to
    /// some page, and to lines that it does not keep.
    fn noise(&self) {
        let random = self.random.get();
        self.random.set(
            random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(7),
        );
        self.drain(random);
        self.walk(page(random >> 40 & 0xFF));
        for edge in [0, 40, 80, 120] {
            let at = page(edge + (random >> 32) % 40);
            let line = self.fetch(at - at % LINE);
            assert!(!line.contains(&GARBAGE), "garbage in an L3 table");
        }
    }

    /// Some of the posted stores arrive, in any order but for those to one entry.
    fn drain(&self, mut random: u64) {
        let mut behind = BTreeSet::new();
        self.posted.borrow_mut().retain(|(table, entry, value)| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let stays = random >> 63 == 0 || behind.contains(&(*table, *entry));
            if stays {
                behind.insert((*table, *entry));
            } else {
                self.tables.borrow_mut().get_mut(table).unwrap()[*entry] = *value;
            }
            stays
        });
    }

    /// What an access to a page finds; a table that is not there is a bug.
    pub(super) fn walk(&self, at: u64) -> u32 {
        let line = at - at % LINE;
        let known = self.tlb.borrow().get(&line).cloned();
        let entries = known.unwrap_or_else(|| {
            let entries = self.fetch(line);
            self.tlb.borrow_mut().insert(line, entries.clone());
            entries
        });
        entries[usize::try_from((at - line) / PAGE_SIZE).unwrap()]
    }

    fn fetch(&self, line: u64) -> Vec<u32> {
        let nothing = vec![INVALID; 16];
        let Some(l2) = self.l1.borrow().get(&(line / L1_SPAN)).copied() else {
            return nothing;
        };
        let tables = self.tables.borrow();
        let l2 = tables.get(&l2).expect("an L2 table that is not allocated");
        let entry = l2[usize::try_from(line / L2_SPAN % 1024).unwrap()];
        if entry == INVALID {
            return nothing;
        }
        assert_ne!(entry & TABLE, 0, "garbage in an L2 table");
        let l3 = tables
            .get(&u64::from(entry & !TABLE))
            .expect("an L3 table that is not allocated");
        let first = usize::try_from(line / PAGE_SIZE % 1024).unwrap();
        l3[first..first + 16].to_vec()
    }
}

impl TableMemory for Gpu {
    fn alloc(&self) -> Result<VramOffset, Error> {
        if let Some(left) = self.allocs_until_failure.get() {
            if left == 0 {
                return Err(Error::NoMemory);
            }
            self.allocs_until_failure.set(Some(left - 1));
        }
        self.next.set(self.next.get() + 1);
        // Tables of an application's data: every entry is garbage.
        self.tables
            .borrow_mut()
            .insert(self.next.get(), vec![GARBAGE; 1024]);
        Ok(VramOffset(self.next.get()))
    }

    fn free(&self, table: VramOffset) {
        self.drain(0);
        self.barrier();
        assert!(
            self.tables.borrow_mut().remove(&table.0).is_some(),
            "freed once"
        );
    }

    fn store(&self, table: VramOffset, first: usize, entries: &[u32]) {
        self.noise();
        assert!(first + entries.len() <= 1024);
        let entries = entries.iter().enumerate();
        let stores = entries.map(|(n, value)| (table.0, first + n, *value));
        self.posted.borrow_mut().extend(stores);
    }

    fn barrier(&self) {
        self.noise();
        for (table, entry, value) in self.posted.take() {
            self.tables.borrow_mut().get_mut(&table).unwrap()[entry] = value;
        }
    }

    fn l2_entry(&self, table: VramOffset) -> u32 {
        TABLE | u32::try_from(table.0).unwrap()
    }

    fn set_l1(&self, index: u64, table: Option<VramOffset>) -> Result<(), Error> {
        self.noise();
        if self.deaf.get() {
            return Err(Error::Lost);
        }
        let register = ZONE.start / L1_SPAN + index;
        // A register write does not push posted stores out of the way.
        match table {
            Some(table) => self.l1.borrow_mut().insert(register, table.0),
            None => self.l1.borrow_mut().remove(&register),
        };
        Ok(())
    }

    fn invalidate(&self, addresses: Range<u64>) -> Result<(), Error> {
        if self.deaf.get() {
            return Err(Error::Lost);
        }
        self.invalidations.set(self.invalidations.get() + 1);
        let kept = |line: &u64| line + LINE <= addresses.start || *line >= addresses.end;
        self.tlb.borrow_mut().retain(|line, _| kept(line));
        Ok(())
    }
}

fn map(tables: &mut Tables, gpu: &Gpu, at: u64, pages: u64) {
    let mut update = tables.update(gpu, GpuVa(at), pages * PAGE_SIZE).unwrap();
    update.map(GpuVa(at), pages, |page| 1 + u32::try_from(page).unwrap());
    update.finish().unwrap();
}

#[test]
fn tables_come_with_the_first_page_and_go_with_the_last_r_19_12() {
    let (gpu, mut tables) = (Gpu::default(), Tables::new(ZONE).unwrap());
    assert_eq!(tables.counts(), (0, 0));
    // Over the end of an L1 register's addresses.
    let at = ZONE.start + L1_SPAN - PAGE_SIZE;
    map(&mut tables, &gpu, at, 2);
    assert_eq!((tables.counts(), gpu.tables.borrow().len()), ((2, 2), 4));
    assert_eq!(
        (
            gpu.walk(at),
            gpu.walk(at + PAGE_SIZE),
            gpu.walk(at - PAGE_SIZE)
        ),
        (1, 2, INVALID)
    );
    let mut update = tables.update(&gpu, GpuVa(at), PAGE_SIZE).unwrap();
    update.unmap(GpuVa(at), 1);
    update.finish().unwrap();
    assert_eq!(
        (tables.counts(), gpu.walk(at), gpu.walk(at + PAGE_SIZE)),
        ((1, 1), INVALID, 2)
    );
    assert_eq!((tables.l1(0), tables.l1(1).is_some()), (None, true));
    tables.clear(&gpu).unwrap();
    assert_eq!((tables.counts(), gpu.tables.borrow().len()), ((0, 0), 0));
    assert!(gpu.l1.borrow().is_empty());
}

#[test]
fn an_update_that_is_forgotten_is_made_known_all_the_same() {
    let (gpu, mut tables) = (Gpu::default(), Tables::new(ZONE).unwrap());
    map(&mut tables, &gpu, ZONE.start, 1);
    assert_eq!(gpu.walk(ZONE.start), 1);
    let before = gpu.invalidations.get();
    let mut update = tables.update(&gpu, GpuVa(ZONE.start), PAGE_SIZE).unwrap();
    update.map(GpuVa(ZONE.start), 1, |_| 7);
    drop(update);
    assert_eq!(
        (gpu.walk(ZONE.start), gpu.invalidations.get()),
        (7, before + 1)
    );
}

#[test]
fn an_update_that_changes_nothing_tells_nobody_and_keeps_no_table() {
    let (gpu, mut tables) = (Gpu::default(), Tables::new(ZONE).unwrap());
    let update = tables.update(&gpu, GpuVa(ZONE.start), PAGE_SIZE).unwrap();
    update.finish().unwrap();
    assert_eq!((gpu.invalidations.get(), gpu.tables.borrow().len()), (0, 0));
}

#[test]
fn without_memory_nothing_has_changed() {
    for allowed in 0..4 {
        let (gpu, mut tables) = (Gpu::default(), Tables::new(ZONE).unwrap());
        gpu.allocs_until_failure.set(Some(allowed));
        let at = GpuVa(ZONE.start + L1_SPAN - PAGE_SIZE);
        let error = tables.update(&gpu, at, 2 * PAGE_SIZE).err();
        assert_eq!(error, Some(Error::NoMemory), "{allowed}");
        assert_eq!((tables.counts(), gpu.tables.borrow().len()), ((0, 0), 0));
    }
}

#[test]
fn a_table_stays_until_the_tlbs_are_known_to_have_forgotten_it() {
    let (gpu, mut tables) = (Gpu::default(), Tables::new(ZONE).unwrap());
    map(&mut tables, &gpu, ZONE.start, 1);
    gpu.deaf.set(true);
    let mut update = tables.update(&gpu, GpuVa(ZONE.start), PAGE_SIZE).unwrap();
    update.unmap(GpuVa(ZONE.start), 1);
    assert_eq!(update.finish(), Err(Error::Lost));
    assert_eq!(gpu.tables.borrow().len(), 2, "nothing was given back");
    gpu.allocs_until_failure.set(Some(0));
    let other = GpuVa(ZONE.start + 2 * L1_SPAN);
    assert!(tables.update(&gpu, other, PAGE_SIZE).is_err());
    assert!(tables.update(&gpu, GpuVa(ZONE.start), 2 * L2_SPAN).is_err());
    assert!(
        gpu.tables.borrow().len() >= 2,
        "a failure gives nothing back either"
    );
    gpu.deaf.set(false);
    gpu.allocs_until_failure.set(None);
    tables
        .update(&gpu, GpuVa(ZONE.start), PAGE_SIZE)
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(
        gpu.tables.borrow().len(),
        0,
        "the next update made up for it"
    );
}

#[test]
fn what_is_not_pages_of_the_zone_is_refused() {
    let (gpu, mut tables) = (Gpu::default(), Tables::new(ZONE).unwrap());
    for (at, bytes) in [
        (ZONE.start, 0),
        (ZONE.start + 1, PAGE_SIZE),
        (ZONE.start, PAGE_SIZE + 1),
        (ZONE.start - PAGE_SIZE, PAGE_SIZE),
        (ZONE.end - PAGE_SIZE, 2 * PAGE_SIZE),
        (u64::MAX - PAGE_SIZE + 1, PAGE_SIZE),
    ] {
        let error = tables.update(&gpu, GpuVa(at), bytes).err();
        assert_eq!(error, Some(Error::Invalid), "{at:#x} {bytes:#x}");
    }
    for zone in [0..0, 1..L1_SPAN, 0..L1_SPAN - 1, L1_SPAN..L1_SPAN] {
        assert_eq!(
            Tables::new(zone.clone()).err(),
            Some(Error::Invalid),
            "{zone:?}"
        );
    }
    let mut update = tables.update(&gpu, GpuVa(ZONE.start), PAGE_SIZE).unwrap();
    update.map(GpuVa(ZONE.start - PAGE_SIZE), 3, |_| 9);
    update.finish().unwrap();
    assert_eq!(gpu.walk(ZONE.start), 9);
    assert_eq!(
        gpu.walk(ZONE.start + PAGE_SIZE),
        INVALID,
        "outside of what was asked for"
    );
}

/// Pages around the ends of tables, so that few random numbers meet often.
pub(super) fn page(n: u64) -> u64 {
    let edges = [0, L2_SPAN, L1_SPAN, 2 * L1_SPAN + L2_SPAN];
    let edge = ZONE.start + edges[usize::try_from(n / 40).unwrap() % 4];
    (edge + n % 40 * PAGE_SIZE)
        .saturating_sub(20 * PAGE_SIZE)
        .max(ZONE.start)
}

#[derive(Clone, Debug)]
enum Op {
    /// Where, how many pages, mapped or not, whether it is finished.
    Change(u64, u64, bool, bool),
    Walk(u64, u64),
    Deaf(bool),
    Memory(Option<u32>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..160_u64, 1..60_u64, any::<bool>(), any::<bool>())
            .prop_map(|(at, pages, map, finish)| Op::Change(at, pages, map, finish)),
        6 => (0..160_u64, any::<u64>()).prop_map(|(at, random)| Op::Walk(at, random)),
        1 => prop::bool::weighted(0.3).prop_map(Op::Deaf),
        1 => prop::option::of(0..4_u32).prop_map(Op::Memory),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn the_gpu_never_sees_more_than_the_old_and_the_new(ops in prop::collection::vec(op(), 1..80)) {
        let (gpu, mut tables) = (Gpu::default(), Tables::new(ZONE).unwrap());
        let mut naive: BTreeMap<u64, u32> = BTreeMap::new();
        // What pages may still look like while the GPU hears nothing.
        let mut stale: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut number = 0;
        for op in ops {
            match op {
                Op::Change(at, pages, map, finish) => {
                    let at = page(at);
                    let Ok(mut update) = tables.update(&gpu, GpuVa(at), pages * PAGE_SIZE) else {
                        prop_assert!(gpu.allocs_until_failure.get().is_some());
                        continue;
                    };
                    let first = number + 1;
                    let entry = |n: u64| if map { first + u32::try_from(n).unwrap() } else { INVALID };
                    update.map(GpuVa(at), pages, entry);
                    number += u32::try_from(pages).unwrap();
                    // The GPU works all the time: old or new, and nothing else.
                    gpu.drain(u64::from(number));
                    for n in 0..pages {
                        let at = at + n * PAGE_SIZE;
                        let old = naive.get(&at).copied().unwrap_or(INVALID);
                        stale.entry(at).or_default().push(old);
                        let found = gpu.walk(at);
                        prop_assert!(found == entry(n) || found == INVALID || stale[&at].contains(&found));
                        naive.insert(at, entry(n));
                    }
                    if finish {
                        // What it could not make known stays pending.
                        let _ = update.finish();
                    } else {
                        drop(update);
                    }
                }
                Op::Walk(at, random) => {
                    gpu.drain(random);
                    let at = page(at);
                    let now = naive.get(&at).copied().unwrap_or(INVALID);
                    let found = gpu.walk(at);
                    let allowed = stale.get(&at).is_some_and(|old| old.contains(&found) || found == INVALID);
                    prop_assert!(found == now || allowed, "{found:#x}");
                }
                Op::Deaf(deaf) => gpu.deaf.set(deaf),
                Op::Memory(left) => gpu.allocs_until_failure.set(left),
            }
            if !gpu.deaf.get() && gpu.allocs_until_failure.get().is_none() {
                // One update that goes through makes up for all before it.
                tables.update(&gpu, GpuVa(ZONE.start), PAGE_SIZE).unwrap().finish().unwrap();
                stale.clear();
                for n in 0..160 {
                    let at = page(n);
                    let now = naive.get(&at).copied().unwrap_or(INVALID);
                    prop_assert_eq!(gpu.walk(at), now);
                }
                let used = |span: u64| {
                    let used = naive.iter().filter(|(_, entry)| **entry != INVALID);
                    used.map(|(at, _)| at / span).collect::<BTreeSet<_>>().len()
                };
                prop_assert_eq!(tables.counts(), (used(L1_SPAN), used(L2_SPAN)));
            }
        }
        gpu.deaf.set(false);
        tables.clear(&gpu).unwrap();
        prop_assert_eq!(gpu.tables.borrow().len(), 0);
    }
}
