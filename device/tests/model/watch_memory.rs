//! Whoever watches a GPU is told which tables it reads, what its TLBs hold and which
//! memory it uses, and may refuse that.

use crate::naive::compare::Pair;
use crate::naive::mmu::Place;
use crate::naive::properties::follow;
use crate::naive::random_programs::{choices, program};
use crate::rig::{ENGINE_RESET, MIB, RING_AT, Rig, SURFACES_AT, copy, fill, write_as};
use crate::tables::{plus, snooped, unsnooped, vram};
use presil_device::{
    Access, BusAddr, EntryAt, Event, FaultCause, FaultClient, GpuVa, Hit, Invalidation, Look,
    OnFault, Snoop, Target, TlbTarget, VramOffset, Watch,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

const PAGE: u64 = 4096;

/// A page as a TLB knows it: whose TLB (`None`: the shared one), process id, page number.
type Key = (Option<FaultClient>, u8, u64);

/// What a watch knows of the TLBs by what it was told; it never forgets what only
/// others have replaced.
#[derive(Default)]
struct Told {
    /// Levels of the walk in progress, and the entry of level 3 as it was read.
    levels: Vec<u8>,
    held: HashMap<Key, u32>,
    accesses: Vec<Access>,
    /// Where the tables led at each of them.
    entries: Vec<Option<u32>>,
    faults: Vec<FaultCause>,
    wrong: Vec<String>,
    /// An access of this client's is refused.
    refused: Option<(FaultClient, u64)>,
}

#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Told>>);

impl Witness {
    fn watch(rig: &mut Rig) -> Self {
        let witness = Self::default();
        rig.gpu.set_watch(Some(Box::new(witness.clone())));
        witness
    }

    fn take(&self) -> Told {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Where an entry leads (hardware reference 4.4): Segment is bit 3, Snoop bit 2.
fn leads_to(entry: u32) -> Target {
    let page = u64::from(entry >> 4) * PAGE;
    match (entry >> 3 & 1, entry >> 2 & 1) {
        (1, _) => vram(page),
        (_, 0) => unsnooped(page),
        _ => snooped(page),
    }
}

impl Told {
    fn expect(&mut self, right: bool, what: impl std::fmt::Debug) {
        if !right {
            self.wrong.push(format!("{what:x?}"));
        }
    }

    fn drop_from(&mut self, utlbs: bool, what: Invalidation) {
        self.held.retain(|(client, process, page), _| {
            let same = (page ^ what.page) & what.page_mask == 0
                && (process ^ what.process_id) & what.process_mask == 0;
            client.is_some() != utlbs || !same
        });
    }

    fn walked(&mut self, level: u8, at: EntryAt, entries: &[u32], look: &Look<'_>) {
        if level == 1 {
            self.levels.clear();
        }
        self.levels.push(level);
        self.expect(self.levels == [1, 2, 3][..self.levels.len()], level);
        // Nobody has changed it since it was read.
        let now = match at {
            EntryAt::Register(offset) => look.l1((offset as usize - 0x50000) / 4),
            EntryAt::Memory(at) => look.dword(at),
        };
        self.expect(now == Some(entries[0]), (at, entries));
    }

    fn filled(&mut self, client: Option<FaultClient>, process: u8, va: u64, entries: &[u32]) {
        self.expect(va.is_multiple_of(PAGE), va);
        for (entry, page) in entries.iter().zip(va / PAGE..) {
            if client.is_some() {
                let shared = self.held.get(&(None, process, page)).copied();
                self.expect(entry & 1 == 1, entry);
                self.expect(shared == Some(*entry), (client, page, entry, shared));
            }
            self.held.insert((client, process, page), *entry);
        }
        if client.is_none() {
            self.expect(self.levels.len() >= 2 && entries.len() == 16, va);
            self.levels.clear();
        }
    }
}

impl Watch for Witness {
    fn saw(&mut self, event: &Event<'_>, look: &Look<'_>) {
        let mut told = self.0.lock().unwrap();
        match *event {
            Event::Walked {
                level, at, entries, ..
            } => told.walked(level, at, entries, look),
            Event::Filled {
                client,
                process_id,
                va,
                entries,
            } => told.filled(client, process_id, va.0, entries),
            Event::Invalidated { target, what, both } => {
                let lines = Invalidation {
                    page_mask: what.page_mask & !0xf,
                    ..what
                };
                match target {
                    TlbTarget::Utlb => told.drop_from(true, what),
                    _ => told.drop_from(false, lines),
                }
                if both {
                    told.drop_from(true, lines);
                }
            }
            Event::Reset | Event::Flushed => told.held.clear(),
            Event::Fault(fault) => told.faults.push(fault.cause),
            _ => {}
        }
    }

    fn admits(&mut self, access: &Access, look: &Look<'_>) -> bool {
        let mut told = self.0.lock().unwrap();
        let Access {
            client,
            process_id,
            va,
            bytes,
            target,
            by,
            ..
        } = *access;
        if told.refused == Some((client, va.0 / PAGE)) {
            return false;
        }
        told.expect(bytes > 0, access);
        for page in va.page()..(va.0 + bytes).div_ceil(PAGE) {
            let at = plus(target, (page * PAGE).saturating_sub(va.0));
            let known = match by {
                Hit::Untranslated => Some(vram(va.0.max(page * PAGE))),
                Hit::Utlb => told
                    .held
                    .get(&(Some(client), process_id, page))
                    .copied()
                    .map(leads_to),
                Hit::Dtlb | Hit::Walk => told
                    .held
                    .get(&(None, process_id, page))
                    .copied()
                    .map(leads_to),
            };
            let known = match by {
                Hit::Untranslated => known,
                _ => known.map(|known| plus(known, va.0.max(page * PAGE) % PAGE)),
            };
            told.expect(known == Some(at), (access, page, known));
        }
        told.accesses.push(*access);
        told.entries.push(look.entry(process_id, va));
        true
    }
}

/// Who uses which memory in which way, and how far that is from the address.
type Way = (u32, u8, bool, bool, bool, bool, u64);
/// Of each way the bytes that are used, as ranges of addresses that do not touch.
type Used = BTreeMap<Way, Vec<(u64, u64)>>;

fn used(accesses: impl Iterator<Item = (Way, u64, u64)>) -> Used {
    let mut all: BTreeMap<Way, Vec<(u64, u64)>> = BTreeMap::new();
    for (way, va, bytes) in accesses {
        all.entry(way).or_default().push((va, va + bytes));
    }
    for ranges in all.values_mut() {
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = vec![];
        for (start, end) in ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        *ranges = merged;
    }
    all
}

fn used_by_model(told: &Told) -> Used {
    used(told.accesses.iter().map(|access| {
        let (local, at, snooped) = match access.target {
            Target::Vram(VramOffset(at)) => (true, at, false),
            Target::System(BusAddr(at), snoop) => (false, at, snoop == Snoop::Snooped),
        };
        let Access {
            client,
            process_id,
            write,
            va,
            bytes,
            ..
        } = *access;
        // Of local memory the naive one does not tell NS.
        let non_secure = access.non_secure && !local;
        let far = at.wrapping_sub(va.0);
        let way = (
            client as u32,
            process_id,
            write,
            local,
            snooped,
            non_secure,
            far,
        );
        (way, va.0, bytes)
    }))
}

fn used_by_naive(pair: &Pair) -> Used {
    used(pair.naive.accesses.iter().map(|access| {
        let &(client, process, write, va, bytes, place) = access;
        let (local, at, snooped, non_secure) = match place {
            Place::Local(at) => (true, at, false, false),
            Place::Bus(at, snoop, non_secure) => (false, at, snoop == Snoop::Snooped, non_secure),
        };
        let far = at.wrapping_sub(va);
        (
            (client, process, write, local, snooped, non_secure, far),
            va,
            bytes,
        )
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_time: 20_000, ..ProptestConfig::default() })]

    /// Every access goes where the entry leads that its TLB was told to hold; every entry
    /// of a TLB is from a walk that was told, by what the tables say; and the bytes that
    /// are read and written, by whom and where, are those that the naive model uses.
    #[test]
    fn every_access_and_every_entry_is_told(choices in choices(), program in program()) {
        let mut pair = Pair::new(choices);
        let witness = Witness::watch(&mut pair.rig);
        // What the TLBs hold by now, nobody was told.
        pair.write(ENGINE_RESET, presil_device::Width::B4, 1);
        pair.write(ENGINE_RESET, presil_device::Width::B4, 0);
        pair.start_rings();
        pair.naive.accesses.clear();
        prop_assume!(follow(&mut pair, &program));
        pair.rig.gpu.set_watch(None);
        let told = witness.take();
        prop_assert!(told.wrong.is_empty(), "{}", told.wrong.join("\n"));
        let (model, naive) = (used_by_model(&told), used_by_naive(&pair));
        for way in model.keys().chain(naive.keys()) {
            prop_assert_eq!(model.get(way), naive.get(way), "{:x?}", way);
        }
        let [model, naive] = pair.states();
        let differences = model.differences(&naive);
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// VA mode; process 1 has 16 pages of VRAM from 1 MiB of its addresses on, then 16 of the
/// machine's memory.
fn machine(on_fault: OnFault) -> Rig {
    let mmu = presil_device::MmuOptions {
        on_fault,
        ..presil_device::MmuOptions::default()
    };
    let mut rig = Rig::with_mmu(mmu);
    rig.enter_va_mode();
    rig.enable_interrupts();
    for page in 0..16 {
        rig.map(1, MIB + page * PAGE, vram(SURFACES_AT + page * PAGE));
        rig.page(snooped(page * PAGE));
        rig.map(1, 2 * MIB + page * PAGE, snooped(page * PAGE));
    }
    rig
}

/// As process 1.
fn work(rig: &mut Rig, build: impl FnOnce(&mut e3k_regs::packet::Writer<'_>)) {
    rig.submit(|w| {
        w.indicator(3, 1);
        build(w);
        w.indicator(0, 0);
    });
}

#[test]
fn pages_that_follow_each_other_are_told_together() {
    let mut rig = machine(OnFault::Report);
    let witness = Witness::watch(&mut rig);
    work(&mut rig, |w| fill(w, MIB, 1024, 16, 0x55));
    work(&mut rig, |w| copy(w, MIB, 2 * MIB, 1024, 16));
    let told = witness.take();
    assert_eq!(told.wrong, Vec::<String>::new());
    let of = |client| {
        told.accesses
            .iter()
            .filter(move |access| access.client == client)
    };
    let bytes = |client| of(client).map(|access| access.bytes).sum::<u64>();
    assert_eq!(bytes(FaultClient::BlitSource), 16 * PAGE);
    assert_eq!(bytes(FaultClient::BlitDestination), 32 * PAGE);
    // The first page of each by a walk, what the line has behind it at once.
    let told: Vec<_> = of(FaultClient::BlitDestination)
        .map(|access| (access.va.0, access.bytes / PAGE, access.by))
        .collect();
    let expected = [
        (MIB, 1, Hit::Walk),
        (MIB + PAGE, 15, Hit::Dtlb),
        (2 * MIB, 1, Hit::Walk),
        (2 * MIB + PAGE, 15, Hit::Dtlb),
    ];
    assert_eq!(told, expected);
}

#[test]
fn at_an_access_the_tables_can_be_seen() {
    let mut rig = machine(OnFault::Report);
    write_as(&mut rig, 1, MIB, 0x55);
    let entry_at = rig.l3_entry_at(1, MIB);
    let old = rig.load(entry_at);
    rig.map(1, MIB, vram(SURFACES_AT + 2 * MIB));
    let new = rig.load(entry_at);
    let ring_at = rig.l3_entry_at(0, RING_AT);
    let witness = Witness::watch(&mut rig);
    witness.0.lock().unwrap().held = HashMap::from([
        ((Some(FaultClient::BlitDestination), 1, MIB / PAGE), old),
        (
            (Some(FaultClient::RingFetch), 0, RING_AT / PAGE),
            rig.load(ring_at),
        ),
    ]);
    write_as(&mut rig, 1, MIB, 0x66);
    let told = witness.take();
    assert_eq!(told.wrong, Vec::<String>::new());
    let stale = told
        .accesses
        .iter()
        .zip(&told.entries)
        .find(|(access, _)| access.write)
        .unwrap();
    assert_eq!((stale.0.by, stale.0.target), (Hit::Utlb, vram(SURFACES_AT)));
    assert_eq!(*stale.1, Some(new));
}

#[test]
fn a_refused_access_is_a_page_fault() {
    use FaultClient::{BlitDestination, BlitSource};
    // With and without the pages in the TLBs, where several are told together.
    for known in [false, true] {
        for (client, from, to) in [
            (BlitSource, MIB, 2 * MIB),
            (BlitSource, 2 * MIB, MIB),
            (BlitSource, MIB, MIB + 8 * PAGE),
            (BlitDestination, MIB, 2 * MIB),
            (BlitDestination, 2 * MIB, MIB),
            (BlitDestination, MIB, MIB + 8 * PAGE),
        ] {
            let mut rig = machine(OnFault::Report);
            for (at, byte) in (0..16).map(|page| page * PAGE).zip(1..) {
                rig.put(vram(SURFACES_AT + at), &[byte; 4096]);
                rig.put(snooped(at), &[byte + 100; 4096]);
            }
            if known {
                let before = rig.get(vram(SURFACES_AT), 4096);
                work(&mut rig, |w| copy(w, from, to, 1024, 2));
                rig.put(vram(SURFACES_AT), &before);
            }
            let at = |va: u64| {
                if va < 2 * MIB {
                    vram(va - MIB + SURFACES_AT)
                } else {
                    snooped(va - 2 * MIB)
                }
            };
            rig.put(at(to), &[0xee; 8192]);
            let source = [rig.load(at(from)), rig.load(at(from + PAGE))];
            let witness = Witness::watch(&mut rig);
            let refused = if client == BlitSource { from } else { to };
            witness.0.lock().unwrap().refused = Some((client, refused / PAGE));
            let before = rig.gpu.counters();
            work(&mut rig, |w| copy(w, from, to, 1024, 2));
            let what = format!("{client:?} {from:#x} {to:#x} {known}");
            assert_eq!(witness.take().faults, [FaultCause::Refused], "{what}");
            let fault = rig.gpu.faults().last().unwrap().clone();
            assert_eq!(
                (fault.client, fault.va, fault.level),
                (client, GpuVa(refused), 0)
            );
            assert_eq!(rig.gpu.counters().faults - before.faults, 1);
            assert_eq!(
                rig.load(at(to)),
                0xeeee_eeee,
                "{what}: the rest of the copy is left out"
            );
            assert!(!source.contains(&0xeeee_eeee));
            // The registers have it as a page fault, for which an interrupt came.
            assert_eq!(rig.reg(0x49038), 1 << client as u32);
            assert_eq!(u64::from(rig.reg(0x49044)), refused);
            assert_eq!(
                rig.reg(crate::rig::BIU_RAW) & crate::rig::PAGE_FAULT,
                crate::rig::PAGE_FAULT
            );
        }
    }
}

#[test]
fn a_refused_access_stands_until_the_fault_is_acknowledged() {
    let mut rig = machine(OnFault::Retry);
    let witness = Witness::watch(&mut rig);
    witness.0.lock().unwrap().refused = Some((FaultClient::BlitDestination, MIB / PAGE));
    work(&mut rig, |w| fill(w, MIB, 1, 1, 0x55));
    assert_eq!(rig.load(vram(SURFACES_AT)), 0);
    witness.0.lock().unwrap().refused = None;
    rig.set(0x49038, u32::MAX);
    rig.run();
    assert_eq!(rig.load(vram(SURFACES_AT)), 0x55);
    assert_eq!(witness.take().faults, [FaultCause::Refused]);
}
