//! What the TLBs hold, as far as was told, and since when the tables say otherwise.
//!
//! The CPU writes tables and nobody is told. So they are compared where a driver must be
//! done: at each doorbell and each invalidation. An entry that a doorbell finds to be other
//! than the tables is due: whoever uses it from then on uses a stale translation. What
//! was changed behind the last doorbell may still be under way, and is nobody's mistake.

use crate::index::index;
use crate::memory::{Snoop, Target};
use crate::mmu::access::{Access, Hit, Invalidation};
use crate::mmu::look::Look;
use e3k_regs::fields::{FaultClient, TlbTarget};
use e3k_regs::pte::{L2Entry, L3Entry, Ttbr};
use e3k_regs::{BusAddr, GpuVa, VramOffset};
use std::collections::{BTreeMap, VecDeque};

/// Lines of the shared TLB that are remembered, and for each client lines of which its own
/// one has pages: what one client uses much does not push out another's.
const LINES: usize = 384;
const PAGES: usize = 36;
const LINE_PAGES: usize = 16;
/// Bits of a page's number (hardware reference 4.1).
const PAGE_NUMBERS: u64 = (1 << 28) - 1;
/// Invalidations that are remembered of one that they missed.
const MISSED: usize = 2;

/// A client's own one; `None`: the shared one.
pub(crate) type Tlb = Option<FaultClient>;

/// The entries that a walk reads before the last one, and where the second is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    l1: u32,
    l2: Option<(Target, u32)>,
}

impl Path {
    fn now(look: &Look<'_>, process_id: u8, va: GpuVa) -> Self {
        let index = usize::from(process_id) * 256 + index(va.0 >> 32 & 0xff);
        let raw = look.l1(index).unwrap_or(0);
        let l1 = Ttbr::from_bits(raw);
        let at = target(l1.segment(), l1.snoop(), u64::from(l1.page()) << 12);
        let at = at.add((va.0 >> 22 & 0x3ff) * 4);
        let l2 = l1.valid().then(|| Some((at, look.dword(at)?))).flatten();
        Self { l1: raw, l2 }
    }

    /// Where the line's L3 entries are, if it has 16 of them.
    fn line_at(self, va: GpuVa) -> Option<Target> {
        let l2 = L2Entry::from_bits(self.l2?.1);
        let at = target(l2.segment(), l2.snoop(), u64::from(l2.page()) << 12);
        (l2.valid() && !l2.large_page()).then(|| at.add((va.0 >> 12 & 0x3f0) * 4))
    }

    /// The first level where they differ; 3: not in these.
    fn differs(self, now: Self) -> u8 {
        if self.l1 != now.l1 {
            1
        } else if self.l2 != now.l2 {
            2
        } else {
            3
        }
    }
}

/// Where an entry leads.
pub(crate) fn target(local: bool, snoop: bool, at: u64) -> Target {
    let snoop = if snoop {
        Snoop::Snooped
    } else {
        Snoop::Unsnooped
    };
    if local {
        Target::Vram(VramOffset(at))
    } else {
        Target::System(BusAddr(at), snoop)
    }
}

/// Where a TLB's entry leads; `None`: it is not valid.
pub(crate) fn leads_to(entry: u32) -> Option<Target> {
    let entry = L3Entry::from_bits(entry);
    let to = || {
        target(
            entry.segment(),
            entry.snoop(),
            u64::from(entry.page()) << 12,
        )
    };
    entry.valid().then(to)
}

/// How an invalidation missed an entry that the tables did not say any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// It was for the other TLBs.
    Unit,
    /// It was for another process id.
    Process,
    /// It was for other pages.
    Page,
    /// It was for a part of what had changed.
    Part,
}

/// The tables say something else.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// They agreed at this event, and did not at that one.
    pub(crate) between: (u64, u64),
    /// The level of the entry that changed.
    pub(crate) level: u8,
    /// What they say of the page; `None`: nothing valid.
    pub(crate) now: Option<u32>,
    /// The first doorbell since.
    pub(crate) doorbell: Option<u64>,
    /// Whether an access is wrong.
    pub(crate) due: bool,
    /// Invalidations since, that missed it.
    pub(crate) missed: [Option<(u64, Missed)>; MISSED],
}

/// The entry of one page.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// Not valid: nothing that a TLB would answer with.
    entry: u32,
    /// When it was filled, and when it was last seen to be right.
    filled: u64,
    agreed: u64,
    /// If it is wrong.
    change: Option<Box<Change>>,
}

/// The pages of one line, or those of them that a client's own TLB holds.
#[derive(Debug)]
struct Line {
    path: Path,
    slots: [Slot; LINE_PAGES],
    /// When it was inserted.
    since: u64,
}

/// Where it is: process id, number of its first page.
type Key = (u8, u64);

/// Those of one TLB, by their places, so that lines with one path are neighbours.
#[derive(Default)]
struct Table {
    all: BTreeMap<Key, Box<Line>>,
    order: VecDeque<(u64, Key)>,
}

impl Table {
    fn insert(&mut self, key: Key, line: Box<Line>, most: usize) {
        self.order.push_back((line.since, key));
        self.all.insert(key, line);
        if self.order.len() > 4 * most {
            let all = &self.all;
            self.order
                .retain(|(since, key)| all.get(key).is_some_and(|line| line.since == *since));
        }
        while self.all.len() > most {
            let Some((since, key)) = self.order.pop_front() else {
                return;
            };
            // Inserted anew since: its place is further on.
            if self.all.get(&key).is_some_and(|line| line.since == since) {
                self.all.remove(&key);
            }
        }
    }

    fn changes(&mut self) -> impl Iterator<Item = &mut Change> {
        let slots = self.all.values_mut().flat_map(|line| &mut line.slots);
        slots.filter_map(|slot| slot.change.as_deref_mut())
    }

    /// Compares everything with the tables.
    fn compare(&mut self, at: u64, look: &Look<'_>) {
        let mut last = None;
        for ((process_id, page), line) in &mut self.all {
            let va = GpuVa(page << 12);
            let span = (*process_id, va.0 >> 22);
            let path = match last {
                Some((same, path)) if same == span => path,
                _ => Path::now(look, *process_id, va),
            };
            last = Some((span, path));
            line.compare(at, *process_id, va, path, look);
        }
    }
}

/// A use of an entry that the tables do not say any more.
#[derive(Clone, Debug)]
pub(crate) struct StaleUse {
    /// Of the page.
    pub(crate) va: GpuVa,
    pub(crate) entry: u32,
    pub(crate) filled: u64,
    pub(crate) change: Change,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Tlbs {
    tables: BTreeMap<Tlb, Table>,
    /// Some entry is due.
    due: bool,
}

impl Tlbs {
    /// A TLB got entries, of pages of one line.
    pub(crate) fn filled(
        &mut self,
        at: u64,
        (tlb, process_id): (Tlb, u8),
        va: GpuVa,
        entries: &[u32],
        look: &Look<'_>,
    ) {
        let page = va.0 >> 12;
        let (first, n) = (page & !15, index(page & 15));
        let fresh = |entry| Slot {
            entry,
            filled: at,
            agreed: at,
            change: None,
        };
        let key = (process_id, first);
        // A client's comes from the shared TLB, which may have been wrong already, or from
        // a walk, and leaves it the line's other pages.
        let own = tlb.and_then(|_| self.tables.get_mut(&tlb)?.all.remove(&key));
        let shared = tlb.and_then(|_| self.tables.get(&None)?.all.get(&key));
        let mut line = Box::new(Line {
            path: shared.map_or_else(|| Path::now(look, process_id, va), |shared| shared.path),
            slots: own.map_or_else(Default::default, |own| own.slots),
            since: at,
        });
        let slots = line.slots.iter_mut().enumerate().skip(n);
        for ((n, slot), entry) in slots.zip(entries) {
            let known = shared.and_then(|shared| shared.slots.get(n));
            *slot = match known.filter(|known| known.entry == *entry) {
                Some(known) => Slot {
                    filled: at,
                    ..known.clone()
                },
                None => fresh(*entry),
            };
        }
        let most = if tlb.is_some() { PAGES } else { LINES };
        self.tables.entry(tlb).or_default().insert(key, line, most);
    }

    /// All TLBs are empty.
    pub(crate) fn flushed(&mut self) {
        *self = Self::default();
    }

    fn compare(&mut self, at: u64, look: &Look<'_>) {
        for table in self.tables.values_mut() {
            table.compare(at, look);
        }
    }

    /// The driver has rung a doorbell: what is wrong now is due.
    pub(crate) fn doorbell(&mut self, at: u64, look: &Look<'_>) {
        self.compare(at, look);
        let mut due = false;
        for change in self.tables.values_mut().flat_map(Table::changes) {
            // A page that was only unmapped may be used until its memory is given away,
            // which the next submission at the earliest does.
            change.due = change.now.is_some() || change.doorbell.is_some();
            change.doorbell.get_or_insert(at);
            due |= change.due;
        }
        self.due = due;
    }

    /// An invalidation is done. Says how many entries it drops.
    pub(crate) fn invalidated(
        &mut self,
        at: u64,
        (target, both): (TlbTarget, bool),
        what: Invalidation,
        look: &Look<'_>,
    ) -> usize {
        self.compare(at, look);
        // Which of its criteria a page meets: TLB, process id, page number.
        let meets = |tlb: Tlb, (process_id, first): Key, n: u64| {
            let unit = match tlb {
                None => target == TlbTarget::Dtlb,
                Some(_) => target == TlbTarget::Utlb || both,
            };
            let compared = if target == TlbTarget::Dtlb { !0xf } else { !0 };
            let process = (process_id ^ what.process_id) & what.process_mask == 0;
            let page = (first + n) ^ what.page;
            (
                unit,
                process,
                page & what.page_mask & compared & PAGE_NUMBERS == 0,
            )
        };
        let part = self.tables.iter().any(|(tlb, table)| {
            table.all.iter().any(|(key, line)| {
                (0..).zip(&line.slots).any(|(n, slot)| {
                    slot.change.is_some() && meets(*tlb, *key, n) == (true, true, true)
                })
            })
        });
        let mut dropped = 0;
        let tables = self.tables.iter_mut();
        let lines = tables.flat_map(|(tlb, table)| table.all.iter_mut().map(|line| (*tlb, line)));
        for (tlb, (key, line)) in lines {
            for (n, slot) in (0..).zip(&mut line.slots) {
                // What misses by one thing may have been meant for it.
                let how = match meets(tlb, *key, n) {
                    (true, true, true) => {
                        dropped += usize::from(leads_to(slot.entry).is_some());
                        *slot = Slot::default();
                        continue;
                    }
                    (true, true, false) if part => Missed::Part,
                    (true, true, false) => Missed::Page,
                    (true, false, true) if !part => Missed::Process,
                    (false, true, true) => Missed::Unit,
                    _ => continue,
                };
                let missed = slot.change.iter_mut().flat_map(|change| &mut change.missed);
                if let Some(free) = { missed }.find(|missed| missed.is_none()) {
                    *free = Some((at, how));
                }
            }
        }
        let held = |line: &Line| line.slots.iter().any(|slot| leads_to(slot.entry).is_some());
        for table in self.tables.values_mut() {
            table.all.retain(|_, line| held(line));
        }
        dropped
    }

    /// The first page of an access that uses an entry which was due, and which the tables
    /// still do not say.
    pub(crate) fn stale(&self, access: &Access, look: &Look<'_>) -> Option<StaleUse> {
        if !self.due {
            return None;
        }
        let tlb = match access.by {
            Hit::Utlb => Some(access.client),
            Hit::Dtlb => None,
            Hit::Walk | Hit::Untranslated => return None,
        };
        let table = self.tables.get(&tlb)?;
        let pages = access.va.0 >> 12..=access.va.0.wrapping_add(access.bytes.max(1) - 1) >> 12;
        pages.into_iter().find_map(|page| {
            let held = table.all.get(&(access.process_id, page & !15))?;
            let slot = held.slots.get(index(page & 15))?;
            let change = slot.change.as_deref().filter(|change| change.due)?;
            let va = GpuVa(page << 12);
            let now = look.entry(access.process_id, va);
            (now != Some(slot.entry)).then(|| StaleUse {
                va,
                entry: slot.entry,
                filled: slot.filled,
                change: change.clone(),
            })
        })
    }
}

impl Line {
    /// Compares it with what the tables say, on their path of now.
    fn compare(&mut self, at: u64, process_id: u8, va: GpuVa, now: Path, look: &Look<'_>) {
        if now == self.path && self.is_in_memory(va, look) {
            for slot in &mut self.slots {
                slot.agreed = at;
                slot.change = None;
            }
            return;
        }
        let level = self.path.differs(now);
        let mut right = true;
        for (n, slot) in (0..).zip(&mut self.slots) {
            if leads_to(slot.entry).is_none() {
                continue;
            }
            let found = look.entry(process_id, GpuVa(va.0 + (n << 12)));
            if found == Some(slot.entry) {
                slot.agreed = at;
                slot.change = None;
                continue;
            }
            right = false;
            if let Some(change) = &mut slot.change {
                change.now = found;
            } else {
                slot.change = Some(Box::new(Change {
                    between: (slot.agreed, at),
                    level,
                    now: found,
                    doorbell: None,
                    due: false,
                    missed: [None; MISSED],
                }));
            }
        }
        if right {
            self.path = now;
        }
    }

    /// Whether the valid entries are those in the table, with the path unchanged.
    fn is_in_memory(&self, va: GpuVa, look: &Look<'_>) -> bool {
        let Some(Target::Vram(at)) = self.path.line_at(va) else {
            return false;
        };
        let mut bytes = [0; LINE_PAGES * 4];
        let read = look.vram().read(at, &mut bytes).is_ok();
        let words = bytes
            .as_chunks()
            .0
            .iter()
            .map(|raw| u32::from_le_bytes(*raw));
        let mut both = self.slots.iter().zip(words);
        read && both.all(|(slot, word)| slot.entry == word || leads_to(slot.entry).is_none())
    }
}
