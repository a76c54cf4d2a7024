//! What the TLBs hold, as far as was told, and since when the tables say otherwise.
//!
//! The CPU writes tables and nobody is told. So they are compared where a driver must be
//! done: at each doorbell and each invalidation. An entry that a doorbell finds to be other
//! than the tables is due: whoever uses it from then on uses a stale translation. What
//! was changed behind the last doorbell may still be under way, and is nobody's mistake.

use crate::checker::criteria::{Criteria, Key, Tlb};
use crate::checker::held::{Change, Slot};
use crate::checker::path::{LINE_PAGES, Path};
use crate::index::index;
use crate::mmu::access::{Access, Hit};
use crate::mmu::look::Look;
use e3k_regs::GpuVa;
use e3k_regs::fields::FaultClient;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Lines of the shared TLB that are remembered.
const LINES: usize = 384;
/// Pages of each client's own one: by the low bits of their numbers, as there. A larger one
/// has pages that are not remembered.
const PAGES: usize = 64;
/// Entries that are compared for each event at most, where a ring asks for it.
const ENTRIES_PER_EVENT: u64 = 16;

/// A use of an entry that the tables do not say any more.
#[derive(Clone, Debug)]
pub(crate) struct StaleUse {
    /// Of the page.
    pub(crate) va: GpuVa,
    pub(crate) entry: u32,
    pub(crate) filled: u64,
    pub(crate) change: Change,
}

/// The pages of one line of the shared TLB.
#[derive(Debug)]
struct Line {
    path: Path,
    slots: [Slot; LINE_PAGES],
    /// Whether a slot may have a change.
    changed: bool,
    /// When it was inserted.
    since: u64,
}

/// Lines by their first pages. Each fill of a client's own TLB asks for one.
#[derive(Default)]
struct Lines {
    all: HashMap<Key, Box<Line>, BuildHasherDefault<Mixed>>,
    order: VecDeque<(u64, Key)>,
}

/// Hashes a [`Key`] in two multiplications. Whoever chooses keys that collide makes a guest
/// slower by the few hundred lines that there are.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        // The odd number is 2^64 over the golden ratio; the table uses the low bits, too.
        self.0 = (self.0 ^ value)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(32);
    }
}

impl Lines {
    fn insert(&mut self, key: Key, line: Box<Line>) {
        self.order.push_back((line.since, key));
        self.all.insert(key, line);
        if self.order.len() > 4 * LINES {
            let all = &self.all;
            self.order
                .retain(|(since, key)| all.get(key).is_some_and(|line| line.since == *since));
        }
        while self.all.len() > LINES {
            let Some((since, key)) = self.order.pop_front() else {
                return;
            };
            // Inserted anew since: its place is further on.
            if self.all.get(&key).is_some_and(|line| line.since == since) {
                self.all.remove(&key);
            }
        }
    }
}

/// A page in a client's own TLB; none as long as its slot is not valid.
#[derive(Clone, Debug)]
struct Page {
    key: Key,
    slot: Slot,
    path: Path,
}

/// What the tables say of one line after another; a client's pages are often of the same.
struct Walker<'a, 'b> {
    look: &'a Look<'b>,
    last: Option<(Key, Path, [u32; LINE_PAGES])>,
}

impl Walker<'_, '_> {
    /// The way to a line, and its entries.
    fn line(&mut self, key: Key) -> (Path, [u32; LINE_PAGES]) {
        let (same, path, entries) = match self.last {
            Some(last) if last.0 == key => last,
            _ => {
                let va = GpuVa(key.1 << 12);
                let path = Path::now(self.look, key.0, va);
                (key, path, path.entries(va, self.look))
            }
        };
        self.last = Some((same, path, entries));
        (path, entries)
    }
}

/// The first page of the line around one, and the page's place in it.
fn in_line(page: u64) -> (u64, usize) {
    (page & !(LINE_PAGES as u64 - 1), index(page) % LINE_PAGES)
}

/// All of them.
#[derive(Default)]
pub(crate) struct Tlbs {
    shared: Lines,
    /// By client, as far as it has used any.
    own: [Vec<Page>; FaultClient::COUNT],
    /// Some entry may have a change, and some is due.
    changed: bool,
    due: bool,
    /// When they were compared last.
    compared: u64,
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
        let (first, n) = in_line(page);
        let shared = self.shared.all.get(&(process_id, first));
        let path = || shared.map_or_else(|| Path::now(look, process_id, va), |line| line.path);
        let known = |n: usize| shared.and_then(|line| line.slots.get(n));
        let filled = (n..).zip(entries);
        let filled = filled.map(|(n, entry)| (n, Slot::filled(at, *entry, known(n))));
        if let Some(client) = tlb {
            let own = &mut self.own[client as usize];
            let path = path();
            if own.is_empty() {
                let none = Page {
                    key: (0, 0),
                    slot: Slot::default(),
                    path,
                };
                own.resize(PAGES, none);
            }
            for (n, slot) in filled {
                let page = first + n as u64;
                own[index(page) % PAGES] = Page {
                    key: (process_id, page),
                    slot,
                    path,
                };
            }
        } else {
            let mut line = Box::new(Line {
                path: path(),
                slots: Default::default(),
                changed: false,
                since: at,
            });
            for ((_, slot), place) in filled.zip(&mut line.slots[n..]) {
                line.changed |= slot.change.is_some();
                *place = slot;
            }
            self.shared.insert((process_id, first), line);
        }
    }

    /// Whether any TLB has an entry for this page that `is_it`.
    pub(crate) fn hold(&self, process_id: u8, va: GpuVa, is_it: impl Fn(u32) -> bool) -> bool {
        let page = va.0 >> 12;
        let (first, n) = in_line(page);
        let line = self.shared.all.get(&(process_id, first));
        let shared = line.and_then(|line| line.slots.get(n));
        let own = self
            .own
            .iter()
            .filter_map(|own| own.get(index(page) % PAGES));
        let own = own.filter(|own| own.key == (process_id, page));
        let own = own.map(|own| &own.slot);
        shared.into_iter().chain(own).any(|slot| is_it(slot.entry))
    }

    /// All TLBs are empty.
    pub(crate) fn flushed(&mut self) {
        *self = Self::default();
    }

    fn compare(&mut self, at: u64, look: &Look<'_>) {
        self.compared = at;
        let mut walker = Walker { look, last: None };
        self.changed = false;
        for (key, line) in &mut self.shared.all {
            let (path, entries) = walker.line(*key);
            let level = line.path.differs(path);
            line.changed = false;
            for (slot, found) in line.slots.iter_mut().zip(entries) {
                line.changed |= slot.compare(at, level, found);
            }
            if !line.changed {
                line.path = path;
            }
            self.changed |= line.changed;
        }
        for page in self
            .own
            .iter_mut()
            .flatten()
            .filter(|page| page.slot.is_valid())
        {
            let (first, n) = in_line(page.key.1);
            let (path, entries) = walker.line((page.key.0, first));
            if page.slot.compare(at, page.path.differs(path), entries[n]) {
                self.changed = true;
            } else {
                page.path = path;
            }
        }
    }

    /// Whether there were events enough since that comparing adds little to each.
    fn may_compare(&self, at: u64) -> bool {
        let own: usize = self.own.iter().map(Vec::len).sum();
        let entries = self.shared.all.len() * LINE_PAGES + own;
        (at - self.compared) * ENTRIES_PER_EVENT >= entries as u64
    }

    fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        let lines = self.shared.all.values_mut().filter(|line| line.changed);
        let own = self.own.iter_mut().flatten().map(|page| &mut page.slot);
        lines.flat_map(|line| &mut line.slots).chain(own)
    }

    /// The driver has rung a doorbell: what is wrong now is due.
    pub(crate) fn doorbell(&mut self, at: u64, look: &Look<'_>) {
        self.compare(at, look);
        let mut due = false;
        for change in self.slots().filter_map(|slot| slot.change.as_deref_mut()) {
            // A page that was only unmapped may be used until its memory is given away,
            // which the next submission at the earliest does.
            change.due = change.now.is_some() || change.doorbell.is_some();
            change.doorbell.get_or_insert(at);
            due |= change.due;
        }
        self.due = due;
    }

    /// An invalidation is done, by a packet of a ring or over the bus. Says how many
    /// entries it drops.
    pub(crate) fn invalidated(
        &mut self,
        at: u64,
        criteria: &Criteria,
        by_ring: bool,
        look: &Look<'_>,
    ) -> usize {
        // A ring may hold nothing but invalidations, and each would cost more than all
        // else that a packet does. What is not compared now is compared at the next
        // doorbell: only which rule an entry is for may be another one then.
        if !by_ring || self.may_compare(at) {
            self.compare(at, look);
        }
        let changed = self.changed;
        let part = changed && self.drops_a_change(criteria);
        let mut dropped = 0;
        self.shared.all.retain(|key, line| {
            let reached = criteria.reaches(None, *key);
            if !reached && !line.changed {
                return true;
            }
            for (page, slot) in (key.1..).zip(&mut line.slots) {
                let place = (None, (key.0, page));
                dropped += usize::from(criteria.apply(at, place, slot, part));
            }
            line.slots.iter().any(Slot::is_valid)
        });
        for (client, own) in FaultClient::ALL.iter().zip(&mut self.own) {
            let tlb = Some(*client);
            let asked = |page: &&mut Page| changed || criteria.drops(tlb, page.key);
            for page in own.iter_mut().filter(asked) {
                let place = (tlb, page.key);
                dropped += usize::from(criteria.apply(at, place, &mut page.slot, part));
            }
        }
        dropped
    }

    /// Whether an invalidation drops an entry that is wrong.
    fn drops_a_change(&self, criteria: &Criteria) -> bool {
        let lines = self.shared.all.iter().filter(|(_, line)| line.changed);
        let shared = lines.flat_map(|(key, line)| {
            let slots = (key.1..).zip(&line.slots);
            slots.map(|(page, slot)| (None, (key.0, page), slot))
        });
        let own = FaultClient::ALL.iter().zip(&self.own);
        let own = own
            .flat_map(|(client, own)| own.iter().map(|page| (Some(*client), page.key, &page.slot)));
        shared
            .chain(own)
            .any(|(tlb, key, slot)| slot.change.is_some() && criteria.drops(tlb, key))
    }

    /// The first page of an access that uses an entry which was due, and which the tables
    /// still do not say.
    pub(crate) fn stale(&self, access: &Access, look: &Look<'_>) -> Option<StaleUse> {
        if !self.due {
            return None;
        }
        let pages = access.va.0 >> 12..=access.va.0.wrapping_add(access.bytes.max(1) - 1) >> 12;
        pages.into_iter().find_map(|page| {
            let slot = self.slot(access, page)?;
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

    /// What answers an access to a page.
    fn slot(&self, access: &Access, page: u64) -> Option<&Slot> {
        match access.by {
            Hit::Utlb => {
                let own = self
                    .own
                    .get(access.client as usize)?
                    .get(index(page) % PAGES)?;
                (own.key == (access.process_id, page)).then_some(&own.slot)
            }
            Hit::Dtlb => {
                let (first, n) = in_line(page);
                self.shared
                    .all
                    .get(&(access.process_id, first))?
                    .slots
                    .get(n)
            }
            Hit::Walk | Hit::Untranslated => None,
        }
    }
}
