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
use std::collections::{HashMap, VecDeque};

/// Lines of the shared TLB that are remembered, and pages of the clients' own ones.
pub(crate) const LINES: usize = 384;
pub(crate) const PAGES: usize = 512;
const LINE_PAGES: usize = 16;
/// Bits of a page's number (hardware reference 4.1).
const PAGE_NUMBERS: u64 = (1 << 28) - 1;
/// Invalidations that are remembered of one that they missed.
const MISSED: usize = 2;

/// Which TLB.
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

#[derive(Debug)]
struct Entry {
    path: Path,
    entries: Vec<u32>,
    /// When it was filled, and when it was last seen to be right.
    filled: u64,
    agreed: u64,
    /// For each page, if it is wrong.
    changes: Vec<Option<Box<Change>>>,
}

/// Where it is: which TLB, process id, number of the first page.
type Key = (Tlb, u8, u64);

#[derive(Default)]
struct Table {
    all: HashMap<Key, Entry>,
    order: VecDeque<(u64, Key)>,
}

impl Table {
    fn insert(&mut self, key: Key, entry: Entry, most: usize) {
        self.order.push_back((entry.filled, key));
        self.all.insert(key, entry);
        while self.all.len() > most || self.order.len() > 4 * most {
            let Some((filled, key)) = self.order.pop_front() else {
                return;
            };
            // Filled anew since: its place is further on.
            if self
                .all
                .get(&key)
                .is_some_and(|entry| entry.filled == filled)
            {
                self.all.remove(&key);
            }
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
    lines: Table,
    pages: Table,
    /// Some entry is due.
    due: bool,
}

impl Tlbs {
    /// A TLB got entries.
    pub(crate) fn filled(
        &mut self,
        at: u64,
        (tlb, process_id): (Tlb, u8),
        va: GpuVa,
        entries: &[u32],
        look: &Look<'_>,
    ) {
        let page = va.0 >> 12;
        if tlb.is_none() {
            let entry = Entry::new(at, Path::now(look, process_id, va), entries);
            self.lines.insert((None, process_id, page), entry, LINES);
            return;
        }
        // From the shared TLB, which may have been wrong already, or from a walk.
        let line = self.lines.all.get(&(None, process_id, page & !15));
        for (page, raw) in (page..).zip(entries) {
            let va = GpuVa(page << 12);
            let known = line.filter(|line| line.entries.get(index(page & 15)) == Some(raw));
            let mut entry = match known {
                Some(line) => Entry {
                    filled: at,
                    agreed: line.agreed,
                    ..Entry::new(at, line.path, &[*raw])
                },
                None => Entry::new(at, Path::now(look, process_id, va), &[*raw]),
            };
            let change = known.and_then(|line| line.changes.get(index(page & 15))?.clone());
            entry.changes = vec![change];
            self.pages.insert((tlb, process_id, page), entry, PAGES);
        }
    }

    /// All TLBs are empty.
    pub(crate) fn flushed(&mut self) {
        *self = Self::default();
    }

    /// Compares everything with the tables.
    fn compare(&mut self, at: u64, look: &Look<'_>) {
        let all = self.lines.all.iter_mut().chain(&mut self.pages.all);
        for ((_, process_id, page), entry) in all {
            entry.compare(at, *process_id, GpuVa(page << 12), look);
        }
    }

    /// The driver has rung a doorbell: what is wrong now is due.
    pub(crate) fn doorbell(&mut self, at: u64, look: &Look<'_>) {
        self.compare(at, look);
        self.due = false;
        let all = self
            .lines
            .all
            .values_mut()
            .chain(self.pages.all.values_mut());
        for change in all.flat_map(|entry| &mut entry.changes).flatten() {
            // A page that was only unmapped may be used until its memory is given away,
            // which the next submission at the earliest does.
            change.due = change.now.is_some() || change.doorbell.is_some();
            change.doorbell.get_or_insert(at);
            self.due |= change.due;
        }
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
        let hits = |key: &Key| {
            let (tlb, process_id, page) = *key;
            let unit = match tlb {
                None => target == TlbTarget::Dtlb,
                Some(_) => target == TlbTarget::Utlb || both,
            };
            let line = if target == TlbTarget::Dtlb { !0xf } else { !0 };
            let process = (process_id ^ what.process_id) & what.process_mask == 0;
            let pages = (page ^ what.page) & what.page_mask & line & PAGE_NUMBERS == 0;
            (unit, process, pages)
        };
        let all = || self.lines.all.iter().chain(&self.pages.all);
        let changed = |entry: &Entry| entry.changes.iter().any(Option::is_some);
        let part = all().any(|(key, entry)| hits(key) == (true, true, true) && changed(entry));
        let mut dropped = 0;
        for table in [&mut self.lines, &mut self.pages] {
            table.all.retain(|key, entry| {
                // What misses by one thing may have been meant for it.
                let how = match hits(key) {
                    (true, true, true) => {
                        dropped += 1;
                        return false;
                    }
                    (true, true, false) if part => Missed::Part,
                    (true, true, false) => Missed::Page,
                    (true, false, true) if !part => Missed::Process,
                    (false, true, true) => Missed::Unit,
                    _ => return true,
                };
                for change in entry.changes.iter_mut().flatten() {
                    if let Some(free) = change.missed.iter_mut().find(|missed| missed.is_none()) {
                        *free = Some((at, how));
                    }
                }
                true
            });
        }
        dropped
    }

    /// The first page of an access that uses an entry which was due, and which the tables
    /// still do not say.
    pub(crate) fn stale(&self, access: &Access, look: &Look<'_>) -> Option<StaleUse> {
        if !self.due {
            return None;
        }
        let (table, tlb) = match access.by {
            Hit::Utlb => (&self.pages, Some(access.client)),
            Hit::Dtlb => (&self.lines, None),
            Hit::Walk | Hit::Untranslated => return None,
        };
        let pages = access.va.0 >> 12..=access.va.0.wrapping_add(access.bytes.max(1) - 1) >> 12;
        pages.into_iter().find_map(|page| {
            let first = if tlb.is_none() { page & !15 } else { page };
            let held = table.all.get(&(tlb, access.process_id, first))?;
            let n = index(page - first);
            let (entry, change) = (*held.entries.get(n)?, held.changes.get(n)?.as_ref()?);
            let va = GpuVa(page << 12);
            let now = look.entry(access.process_id, va);
            (change.due && now != Some(entry)).then(|| StaleUse {
                va,
                entry,
                filled: held.filled,
                change: Change::clone(change),
            })
        })
    }
}

impl Entry {
    fn new(at: u64, path: Path, entries: &[u32]) -> Self {
        Self {
            path,
            entries: entries.to_vec(),
            filled: at,
            agreed: at,
            changes: vec![None; entries.len()],
        }
    }

    fn compare(&mut self, at: u64, process_id: u8, va: GpuVa, look: &Look<'_>) {
        let now = Path::now(look, process_id, va);
        if now == self.path && self.is_in_memory(va, look) {
            self.agreed = at;
            self.changes.fill(None);
            return;
        }
        let level = self.path.differs(now);
        let pages = self.entries.iter().zip(&mut self.changes);
        for (n, (entry, change)) in (0..).zip(pages) {
            let found = look.entry(process_id, GpuVa(va.0 + (n << 12)));
            if leads_to(*entry).is_none() || found == Some(*entry) {
                *change = None;
            } else if let Some(change) = change {
                change.now = found;
            } else {
                *change = Some(Box::new(Change {
                    between: (self.agreed, at),
                    level,
                    now: found,
                    doorbell: None,
                    due: false,
                    missed: [None; MISSED],
                }));
            }
        }
        if self.changes.iter().all(Option::is_none) {
            self.agreed = at;
        }
    }

    /// Whether the entries are those in the table, with the path unchanged.
    fn is_in_memory(&self, va: GpuVa, look: &Look<'_>) -> bool {
        let line = GpuVa(va.0 & !0xffff);
        let Some(table) = self.path.line_at(line) else {
            return false;
        };
        let first = va.0 >> 12 & 15;
        let mut bytes = [0; LINE_PAGES * 4];
        let bytes = &mut bytes[..self.entries.len() * 4];
        let Target::Vram(at) = table.add(first * 4) else {
            return false;
        };
        let read = look.vram().read(at, bytes).is_ok();
        let words = bytes
            .as_chunks()
            .0
            .iter()
            .map(|raw| u32::from_le_bytes(*raw));
        read && words.eq(self.entries.iter().copied())
    }
}
