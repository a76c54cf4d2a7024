//! Walking the tables: TTBR register, L2 table, L3 table (hardware reference 4).

use super::access::EntryAt;
use super::fault::{Failure, FaultPlace};
use super::look::Look;
use super::record::FaultCause;
use super::tlb::{LINE_ENTRIES, Line};
use crate::config::LargePage;
use crate::defect::Defect;
use crate::memory::{Origin, Snoop, Target};
use crate::watch::{Event, Onlooker};
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::fields::FaultClient;
use e3k_regs::pte::{ENTRY_BYTES, L2Entry, L3Entry, L3Entry64K, Ttbr};
use e3k_regs::register::L1_PER_PROCESS;
use e3k_regs::{BusAddr, GpuVa, PAGE_SHIFT, Reg, VramOffset};
use serde::Serialize;
use std::collections::BTreeMap;

/// Who walks, for which address.
#[derive(Clone, Copy)]
pub(super) struct Walker {
    pub(super) client: FaultClient,
    pub(super) process_id: u8,
    pub(super) va: GpuVa,
}

/// A table, and whether its entry says non-secure.
#[derive(Clone, Copy)]
struct Table {
    at: Target,
    non_secure: bool,
}

impl Table {
    fn entry(self, index: u64) -> Target {
        self.at.add(index * ENTRY_BYTES)
    }

    fn origin(self, client: FaultClient) -> Origin {
        Origin {
            client,
            non_secure: self.non_secure,
        }
    }
}

/// What lies below an L2 entry.
enum Below {
    /// An L3 table of 4 KiB pages.
    Pages(Table),
    /// An L3 table of 64 KiB pages.
    LargePages(Table),
    /// The entry is a page itself; its first 4 KiB.
    Leaf(L3Entry),
}

impl Look<'_> {
    /// Loads the line of 64 KiB around the address, as entries of 4 KiB pages.
    #[inline]
    pub(super) fn line<W: Onlooker>(
        self,
        walker: Walker,
        line: &mut Line,
        watch: W,
    ) -> Result<(), Failure> {
        let Walker { client, va, .. } = walker;
        match self.below(walker, watch)? {
            Below::Pages(table) => {
                let first = va.l3_index() / LINE_ENTRIES as u64 * LINE_ENTRIES as u64;
                self.memory
                    .load_entries(table.entry(first), line, table.origin(client))
                    .map_err(|_| unreadable(table.entry(va.l3_index()), FaultPlace::level(3)))?;
                let at = EntryAt::Memory(table.entry(first));
                self.read(walker, 3, at, line, watch);
                Ok(())
            }
            Below::LargePages(table) => {
                let index = if watch.bends(Defect::LargeIndexOf4K) {
                    va.l3_index()
                } else {
                    va.l3_index_64k()
                };
                let raw = self
                    .load(table, index, client)
                    .map_err(|at| unreadable(at, FaultPlace::level(3)))?;
                let at = EntryAt::Memory(table.entry(index));
                self.read(walker, 3, at, &[raw], watch);
                *line = pieces(first_piece(L3Entry64K::from_bits(raw)));
                Ok(())
            }
            Below::Leaf(first) => {
                let piece = u32::try_from(va.l3_index()).unwrap_or(0) & !0xf;
                *line = pieces(first.with_page(first.page() | piece));
                Ok(())
            }
        }
    }

    /// Tells of an entry that has been read.
    #[inline]
    fn read<W: Onlooker>(&self, walker: Walker, level: u8, at: EntryAt, entries: &[u32], watch: W) {
        let Walker {
            client,
            process_id,
            va,
        } = walker;
        let event = Event::Walked {
            client,
            process_id,
            va,
            level,
            at,
            entries,
        };
        watch.saw(&event, self);
    }

    #[inline]
    fn below<W: Onlooker>(self, walker: Walker, watch: W) -> Result<Below, Failure> {
        let Walker {
            client,
            mut process_id,
            va,
        } = walker;
        if watch.bends(Defect::ProcessIgnored) {
            process_id = 0;
        }
        let mut high = va;
        if watch.bends(Defect::HighAddressIgnored) {
            high = GpuVa(va.0 & 0xffff_ffff);
        }
        let (index, l1) = self.l1_entry(process_id, high);
        let at = EntryAt::Register(register(index));
        self.read(walker, 1, at, &[l1.into_bits()], watch);
        if !l1.valid() {
            return Err((FaultCause::InvalidL1, at_level_1(index)));
        }
        let table = below_l1(l1);
        let place = || at_level_1(index).below(table.entry(va.l2_index()));
        let l2 = self
            .load(table, va.l2_index(), client)
            .map_err(|at| unreadable(at, place()))?;
        let at = EntryAt::Memory(table.entry(va.l2_index()));
        self.read(walker, 2, at, &[l2], watch);
        let l2 = L2Entry::from_bits(l2);
        if !l2.valid() {
            return Err((FaultCause::InvalidL2, place()));
        }
        let l2 = if watch.bends(Defect::TableSegmentInverted) {
            l2.with_segment(!l2.segment())
        } else {
            l2
        };
        let low_bits = watch.bends(Defect::LeafKeepsLowBits);
        let below = self
            .below_l2(l2, low_bits)
            .ok_or_else(|| (FaultCause::LargePage, place()))?;
        // In the TLB a page of 4 MiB is L3 entries: here is the last place that
        // knows its level.
        if let Below::Leaf(first) = below
            && let Target::Vram(at) = page_of(first)
            && at.0 >= self.memory.vram.bytes()
        {
            let place = place().with_target(Target::Vram(at));
            return Err((FaultCause::OutsideVram, place));
        }
        Ok(below)
    }

    /// `low_bits`: those of the page of a leaf count.
    #[inline]
    fn below_l2(self, l2: L2Entry, low_bits: bool) -> Option<Below> {
        let table = Table {
            at: target(l2.segment(), l2.snoop(), u64::from(l2.page())),
            non_secure: l2.ns(),
        };
        if !l2.large_page() {
            return Some(Below::Pages(table));
        }
        match self.large_page {
            LargePage::Table64K => Some(Below::LargePages(table)),
            LargePage::Leaf4M => Some(Below::Leaf(
                L3Entry::new()
                    .with_valid(true)
                    .with_ns(l2.ns())
                    .with_snoop(l2.snoop())
                    .with_segment(l2.segment())
                    .with_page(l2.page() & !if low_bits { 0 } else { 0x3ff }),
            )),
            LargePage::Fault => None,
        }
    }

    fn l1_entry(self, process_id: u8, va: GpuVa) -> (usize, Ttbr) {
        let index = usize::from(process_id & 0xf) * L1_PER_PROCESS as usize + va.l1_index();
        let raw = self.bank.get(index).copied().unwrap_or(0);
        (index, Ttbr::from_bits(raw))
    }

    /// An entry, or where nothing could be loaded.
    #[inline]
    fn load(self, table: Table, index: u64, client: FaultClient) -> Result<u32, Target> {
        let at = table.entry(index);
        let entry = self.memory.load_u32(at, table.origin(client));
        entry.map_err(|_| at)
    }
}

impl Look<'_> {
    /// The L3 entry that a TLB would hold of a translated address's page by what the
    /// tables say now; `None`: no valid one.
    pub fn entry(&self, process_id: u8, va: GpuVa) -> Option<u32> {
        Walk::leaf(*self, process_id, va).map(L3Entry::into_bits)
    }

    /// The L3 entries of the 64 KiB around an address below an L2 entry, as a line of a
    /// TLB has them; some may be invalid. `None`: there are none. One look into memory.
    pub(crate) fn entries_below(&self, l2: u32, va: GpuVa) -> Option<[u32; LINE_ENTRIES]> {
        let l2 = Some(L2Entry::from_bits(l2)).filter(L2Entry::valid)?;
        match self.below_l2(l2, false)? {
            Below::Pages(table) => {
                let first = va.l3_index() & !(LINE_ENTRIES as u64 - 1);
                let mut line = [0; LINE_ENTRIES];
                let origin = table.origin(FaultClient::RingFetch);
                let read = self
                    .memory
                    .load_entries(table.entry(first), &mut line, origin);
                read.ok().map(|()| line)
            }
            Below::LargePages(table) => {
                let raw = self
                    .load(table, va.l3_index_64k(), FaultClient::RingFetch)
                    .ok()?;
                Some(pieces(first_piece(L3Entry64K::from_bits(raw))))
            }
            Below::Leaf(first) => {
                let piece = u32::try_from(va.l3_index()).ok()? & !0xf;
                Some(pieces(first.with_page(first.page() | piece)))
            }
        }
    }
}

/// A failure at L1 register `index`.
#[cold]
fn at_level_1(index: usize) -> FaultPlace {
    FaultPlace::level(1).with_l1(register(index))
}

/// Byte offset in BAR0 of L1 register `index`.
fn register(index: usize) -> u32 {
    Reg::Ttbr.at(u32::try_from(index).unwrap_or(0))
}

fn below_l1(l1: Ttbr) -> Table {
    Table {
        at: target(l1.segment(), l1.snoop(), u64::from(l1.page())),
        non_secure: l1.ns(),
    }
}

fn target(segment: bool, snoop: bool, page: u64) -> Target {
    if segment {
        Target::Vram(VramOffset::from_page(page))
    } else {
        Target::System(BusAddr::from_page(page), Snoop::from_bit(snoop))
    }
}

/// Where an L3 entry's page lies.
pub(super) fn page_of(entry: L3Entry) -> Target {
    target(entry.segment(), entry.snoop(), u64::from(entry.page()))
}

/// The first 4 KiB of a 64 KiB page.
fn first_piece(entry: L3Entry64K) -> L3Entry {
    L3Entry::new()
        .with_valid(entry.valid())
        .with_ns(entry.ns())
        .with_snoop(entry.snoop())
        .with_segment(entry.segment())
        .with_page(entry.page() << 4)
}

/// 64 KiB in one piece, from `first` on.
fn pieces(first: L3Entry) -> Line {
    let mut line = [first.into_bits(); LINE_ENTRIES];
    for (entry, n) in line.iter_mut().zip(0..) {
        *entry = first.with_page(first.page() | n).into_bits();
    }
    line
}

#[cold]
fn unreadable(at: Target, place: FaultPlace) -> Failure {
    let cause = match at {
        Target::Vram(_) => FaultCause::OutsideVram,
        Target::System(..) => FaultCause::Bus,
    };
    (cause, place.with_target(at))
}

/// What the tables in memory say about an address, level by level, and what the
/// TLBs hold of it; raw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// The process id's L1 register.
    pub l1: u32,
    /// The L2 entry, if the L1 register led to one.
    pub l2: Option<u32>,
    /// The L3 entry, if the L2 entry led to one; of a 64 KiB page, if it said so.
    pub l3: Option<u32>,
    /// Bytes of the page that the last entry is of, valid or not: that of L3, or an L2
    /// entry that maps one itself. `None` where the tables end before.
    pub page_bytes: Option<u64>,
    /// Where the address leads, as text; `None` if nowhere.
    pub target: Option<String>,
    /// The L3 entry of this page in the shared TLB, valid or not, if its line is there.
    pub dtlb: Option<u32>,
    /// The L3 entries of this page in the clients' own TLBs, by the client's name. Like
    /// that in the shared TLB they may be older than what the tables say.
    pub utlb: BTreeMap<&'static str, u32>,
}

impl Walk {
    pub(super) fn new(tables: Look<'_>, process_id: u8, va: GpuVa) -> Self {
        let mode = tables.mode;
        let untranslated = !mode.va_mode() && va.0 < mode.video_bytes();
        let process_id = if mode.va_mode() { process_id } else { 0 };
        let (_, l1) = tables.l1_entry(process_id, va);
        let mut walk = Self::at(l1);
        let target = if untranslated {
            Some(Target::Vram(VramOffset(va.0)))
        } else if va.0 >> ADDRESS_BITS == 0 && l1.valid() {
            let leaf = walk.descend(tables, l1, va);
            leaf.map(|(page, bytes)| page_of(page).add(va.0 % bytes))
        } else {
            None
        };
        walk.target = target
            .filter(|target| match target {
                Target::Vram(at) => at.0 < tables.memory.vram.bytes(),
                Target::System(..) => true,
            })
            .map(|target| target.to_string());
        walk
    }

    fn at(l1: Ttbr) -> Self {
        Self {
            l1: l1.into_bits(),
            l2: None,
            l3: None,
            page_bytes: None,
            target: None,
            dtlb: None,
            utlb: BTreeMap::new(),
        }
    }

    /// The valid L3 entry of a translated address, of a larger page what a TLB would
    /// hold of it. Not [`Look::line`]: that is in a walk's way, and for it alone.
    fn leaf(tables: Look<'_>, process_id: u8, va: GpuVa) -> Option<L3Entry> {
        let (_, l1) = tables.l1_entry(process_id, va);
        let mut walk = Self::at(l1);
        let leaf = l1.valid().then(|| walk.descend(tables, l1, va));
        let (first, bytes) = leaf.flatten()?;
        let piece = u32::try_from((va.0 % bytes) >> PAGE_SHIFT).ok()?;
        Some(first.with_page(first.page() | piece))
    }

    /// The first 4 KiB of the page that the address is in, and its bytes.
    fn descend(&mut self, tables: Look<'_>, l1: Ttbr, va: GpuVa) -> Option<(L3Entry, u64)> {
        let load = |table: Table, index| {
            let origin = table.origin(FaultClient::RingFetch);
            tables.memory.load_u32(table.entry(index), origin).ok()
        };
        self.l2 = load(below_l1(l1), va.l2_index());
        let l2 = self.l2.map(L2Entry::from_bits).filter(L2Entry::valid)?;
        let (page, page_bytes) = match tables.below_l2(l2, false)? {
            Below::Pages(table) => {
                self.l3 = load(table, va.l3_index());
                (L3Entry::from_bits(self.l3?), 1 << PAGE_SHIFT)
            }
            Below::LargePages(table) => {
                self.l3 = load(table, va.l3_index_64k());
                (first_piece(L3Entry64K::from_bits(self.l3?)), 1 << 16)
            }
            Below::Leaf(first) => (first, 1 << 22),
        };
        self.page_bytes = Some(page_bytes);
        page.valid().then_some((page, page_bytes))
    }
}

const _: () = assert!(1 << PAGE_SHIFT == 1024 * ENTRY_BYTES, "a table is one page");
