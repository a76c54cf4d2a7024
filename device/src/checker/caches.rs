//! The GPU's accesses meet what the CPU's caches hold.

use crate::checker::cache_lines::{CacheLines, Follows, OldLoad, lines};
use crate::checker::unsnooped::{Unsnooped, Who};
use crate::memory::{Snoop, Target};
use crate::mmu::access::{Access, EntryAt};
use crate::watch::Event;
use e3k_regs::pte::ENTRY_BYTES;
use e3k_regs::{BusAddr, PAGE_SHIFT};
use std::collections::BTreeMap;

/// Pages of which the last unsnooped write is remembered.
const WRITTEN: usize = 4096;

/// The GPU's last unsnooped write to a page.
#[derive(Clone, Copy)]
pub(crate) struct Wrote {
    pub(crate) event: u64,
    who: Who,
}

impl Wrote {
    /// It, in words.
    pub(crate) fn words(&self) -> String {
        format!("{} wrote there unsnooped", self.who.words())
    }
}

/// What is known of the CPU's caches: nothing, unless somebody follows them.
#[derive(Default)]
pub(crate) struct Caches {
    lines: Option<Box<dyn CacheLines>>,
    /// By page.
    wrote: BTreeMap<u64, Wrote>,
}

impl Caches {
    pub(crate) fn of(lines: Box<dyn CacheLines>) -> Self {
        Self {
            lines: Some(lines),
            wrote: BTreeMap::new(),
        }
    }

    pub(crate) fn follows(&self) -> Follows {
        let lines = self.lines.as_ref();
        lines.map_or(Follows::Nothing, |lines| lines.follows())
    }

    pub(crate) fn next_load(&mut self) -> Option<OldLoad> {
        self.lines.as_mut()?.next_load()
    }

    /// The write that made what is loaded old.
    pub(crate) fn made_old(&self, load: &OldLoad) -> Option<&Wrote> {
        self.wrote.get(&load.at.page())
    }

    /// What an access of a client's meets.
    pub(crate) fn meet(&self, access: &Access) -> Option<Unsnooped> {
        self.met(Who::of(access), access.target, access.bytes, access.write)
    }

    /// What a walk has met: of a line of entries, that of its address.
    pub(crate) fn walk(&self, event: &Event<'_>) -> Option<Unsnooped> {
        let Event::Walked {
            client,
            process_id,
            va,
            level,
            at: EntryAt::Memory(at),
            entries,
        } = *event
        else {
            return None;
        };
        let who = Who {
            client,
            process_id,
            va,
            level: Some(level),
        };
        let entry = va.page() % entries.len().max(1) as u64;
        self.met(who, at.add(entry * ENTRY_BYTES), ENTRY_BYTES, false)
    }

    fn met(&self, who: Who, target: Target, bytes: u64, write: bool) -> Option<Unsnooped> {
        let held = self.lines.as_ref()?;
        let Target::System(at, Snoop::Unsnooped) = target else {
            return None;
        };
        let follows = held.follows();
        if follows == Follows::Nothing {
            return None;
        }
        let dirty = |(line, touched): (BusAddr, u64)| {
            let touched = if write { u64::MAX } else { touched };
            let dirty = held.dirty(line) & touched;
            (dirty != 0).then_some((line, dirty))
        };
        let mut all = lines(at, bytes).filter_map(dirty);
        let first = all.next();
        let mut pages = at.page()..=at.add(bytes.max(1) - 1).page();
        let mixed = pages.find(|page| held.mixed(BusAddr(page << PAGE_SHIFT)));
        Some(Unsnooped {
            who,
            at,
            bytes,
            write,
            dirty: first,
            dirty_lines: u64::from(first.is_some()) + all.count() as u64,
            mixed: mixed.map(|page| BusAddr(page << PAGE_SHIFT)),
            loads: follows == Follows::StoresAndLoads,
        })
    }

    /// An access of a client's is made.
    pub(crate) fn made(&mut self, event: u64, access: &Access) {
        let (Some(held), true) = (&mut self.lines, access.write) else {
            return;
        };
        let Target::System(at, snoop) = access.target else {
            return;
        };
        for (line, bytes) in lines(at, access.bytes) {
            held.written(line, bytes, snoop);
        }
        if snoop == Snoop::Unsnooped && held.follows() == Follows::StoresAndLoads {
            self.remember(event, at, access);
        }
    }

    fn remember(&mut self, event: u64, at: BusAddr, access: &Access) {
        let who = Who::of(access);
        for page in at.page()..=at.add(access.bytes.max(1) - 1).page() {
            if self.wrote.len() >= WRITTEN {
                self.wrote.clear();
            }
            self.wrote.insert(page, Wrote { event, who });
        }
    }
}
