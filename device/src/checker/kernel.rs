//! Memory that belongs to the kernel and no process may write: tables that are linked,
//! rings that run, the rings' own fences.

use crate::checker::path::{leads_to, target};
use crate::csp::fences::FenceRecord;
use crate::memory::Target;
use crate::mmu::access::{Access, EntryAt};
use crate::mmu::look::Look;
use e3k_regs::pte::{L2Entry, Ttbr};
use e3k_regs::{BusAddr, GpuVa, Reg};
use std::collections::BTreeMap;

/// Tables, pages of rings, and fences that are remembered.
const TABLES: usize = 4096;
const RING_PAGES: usize = 1024;
const FENCES: usize = 256;

/// A place without its attributes: in VRAM or not, address.
type Address = (bool, u64);

fn address(target: Target) -> Address {
    (matches!(target, Target::Vram(_)), target.address())
}

fn page(target: Target) -> Address {
    let (local, at) = address(target);
    (local, at >> 12)
}

/// What a process would overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    Table,
    Ring(usize),
    Fence(u64),
}

#[derive(Default)]
pub(crate) struct Kernel {
    /// By page: the entry that led there, and its place.
    tables: BTreeMap<Address, (EntryAt, u32)>,
    /// By page: the ring.
    rings: BTreeMap<Address, usize>,
    /// By address.
    fences: BTreeMap<Address, Fence>,
}

/// A fence that was written.
struct Fence {
    /// The event.
    at: u64,
    ring: usize,
    process_id: u8,
    va: GpuVa,
}

impl Kernel {
    /// A walk has read an entry.
    pub(crate) fn walked(&mut self, level: u8, at: EntryAt, entries: &[u32]) {
        let (1 | 2, [raw, ..]) = (level, entries) else {
            return;
        };
        let Some(table) = table(level, *raw) else {
            return;
        };
        if self.tables.len() >= TABLES {
            self.tables.clear();
        }
        self.tables.insert(page(table), (at, *raw));
    }

    /// A ring has read its memory.
    pub(crate) fn fetched(&mut self, access: &Access) {
        if self.rings.len() >= RING_PAGES {
            self.rings.clear();
        }
        self.rings.insert(page(access.target), access.ring.into());
    }

    /// A ring has written a fence of its own.
    pub(crate) fn fenced(&mut self, at: u64, fence: &FenceRecord) {
        if fence.in_buffer {
            return;
        }
        if self.fences.len() >= FENCES {
            self.fences.clear();
        }
        let written = Fence {
            at,
            ring: fence.ring.into(),
            process_id: fence.process_id,
            va: GpuVa(fence.va),
        };
        self.fences.insert(address(fence.target), written);
    }

    /// A ring has left its memory, and its fences.
    pub(crate) fn stopped(&mut self, ring: usize) {
        self.rings.retain(|_, of| *of != ring);
        self.fences.retain(|_, fence| fence.ring != ring);
    }

    /// Nothing is known any more.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// What of it a write goes to; `runs` says which rings may.
    pub(crate) fn hit(
        &self,
        access: &Access,
        runs: impl Fn(usize) -> bool,
        look: &Look<'_>,
    ) -> Option<Kernels> {
        let (local, first) = address(access.target);
        let end = first.saturating_add(access.bytes);
        // A fence whose page the tables have given up is nobody's.
        let stands = |(at, fence): &(&Address, &Fence)| {
            let now = look.entry(fence.process_id, fence.va).and_then(leads_to);
            now.map(page) == Some((at.0, at.1 >> 12))
        };
        let mut fences = self
            .fences
            .range((local, first.saturating_sub(7))..(local, end));
        if let Some((_, fence)) = fences.find(stands) {
            return Some(Kernels::Fence(fence.at));
        }
        let pages = (local, first >> 12)..=(local, end.saturating_sub(1) >> 12);
        let mut rings = self.rings.range(pages.clone()).map(|(_, ring)| *ring);
        if let Some(ring) = rings.find(|ring| runs(*ring)) {
            return Some(Kernels::Ring(ring));
        }
        let mut tables = self.tables.range(pages);
        let linked = tables.any(|(page, _)| self.is_linked(*page, look));
        linked.then_some(Kernels::Table)
    }

    /// Pages of these bus addresses that rings have read, with the ring.
    pub(crate) fn rings_in(
        &self,
        first: BusAddr,
        last: BusAddr,
    ) -> impl Iterator<Item = (BusAddr, usize)> {
        let pages = (false, first.page())..=(false, last.page());
        let rings = self.rings.range(pages);
        rings.map(|((_, page), ring)| (BusAddr(page << 12), *ring))
    }

    /// The first page of these bus addresses that is a table.
    pub(crate) fn table_in(
        &self,
        first: BusAddr,
        last: BusAddr,
        look: &Look<'_>,
    ) -> Option<BusAddr> {
        let pages = (false, first.page())..=(false, last.page());
        let mut tables = self.tables.range(pages);
        let (table, _) = tables.find(|(table, _)| self.is_linked(**table, look))?;
        Some(BusAddr(table.1 << 12))
    }

    /// Whether a page still is a table that an L1 register leads to.
    fn is_linked(&self, table: Address, look: &Look<'_>) -> bool {
        let parent = |table| match self.tables.get(&table)? {
            (EntryAt::Register(offset), raw) => {
                let index = (offset.checked_sub(Reg::Ttbr.offset())? / 4) as usize;
                (look.l1(index)? == *raw).then_some(None)
            }
            (EntryAt::Memory(at), raw) => (look.dword(*at)? == *raw).then_some(Some(page(*at))),
        };
        match parent(table) {
            Some(Some(upper)) => parent(upper).is_some(),
            Some(None) => true,
            None => false,
        }
    }
}

/// The table that an entry of level 1 or 2 leads to.
fn table(level: u8, raw: u32) -> Option<Target> {
    if level == 1 {
        let entry = Ttbr::from_bits(raw);
        let at = u64::from(entry.page()) << 12;
        return entry
            .valid()
            .then(|| target(entry.segment(), entry.snoop(), at));
    }
    let entry = L2Entry::from_bits(raw);
    let at = u64::from(entry.page()) << 12;
    let is_table = entry.valid() && !entry.large_page();
    is_table.then(|| target(entry.segment(), entry.snoop(), at))
}
