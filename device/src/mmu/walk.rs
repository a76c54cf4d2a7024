//! Walking the tables: TTBR register, L2 table, L3 table (hardware reference 4).

use super::L1_REGISTERS;
use super::fault::{FaultCause, FaultPlace};
use super::tlb::{LINE_ENTRIES, Line};
use crate::memory::{Memory, Snoop, Target};
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::fields::{FaultClient, MmuMode};
use e3k_regs::pte::{ENTRY_BYTES, L2Entry, L3Entry, Ttbr};
use e3k_regs::register::L1_PER_PROCESS;
use e3k_regs::{BusAddr, GpuVa, PAGE_SHIFT, Reg, VramOffset};
use serde::Serialize;

type Bank = [u32; L1_REGISTERS];
type Failure = (FaultCause, FaultPlace);

/// The L3 table for `va`, or why there is none.
pub(super) fn l3_table(
    memory: &Memory,
    bank: &Bank,
    process_id: u8,
    va: GpuVa,
    client: FaultClient,
) -> Result<Target, Failure> {
    let (index, l1) = l1_entry(bank, process_id, va);
    let l1_at = Reg::Ttbr.offset() + 4 * u32::try_from(index).unwrap_or(0);
    let place = FaultPlace::level(1).with_l1(l1_at);
    if !l1.valid() {
        return Err((FaultCause::InvalidL1, place));
    }
    let l2_table = table(l1.segment(), l1.snoop(), u64::from(l1.page()));
    let l2_at = entry_at(l2_table, va.l2_index());
    let place = FaultPlace::level(2).with_l1(l1_at).with_l2(l2_at);
    let l2 = L2Entry::from_bits(load(memory, l2_at, client, place)?);
    if !l2.valid() {
        return Err((FaultCause::InvalidL2, place));
    }
    if l2.large_page() {
        return Err((FaultCause::LargePage, place));
    }
    Ok(table(l2.segment(), l2.snoop(), u64::from(l2.page())))
}

/// The 16 entries around `va` in an L3 table.
pub(super) fn l3_line(
    memory: &Memory,
    l3_table: Target,
    va: GpuVa,
    client: FaultClient,
) -> Result<Line, Failure> {
    let first = va.l3_index() / LINE_ENTRIES as u64 * LINE_ENTRIES as u64;
    let mut line = [0; LINE_ENTRIES];
    for (entry, index) in line.iter_mut().zip(first..) {
        *entry = load(
            memory,
            entry_at(l3_table, index),
            client,
            FaultPlace::level(3),
        )?;
    }
    Ok(line)
}

fn l1_entry(bank: &Bank, process_id: u8, va: GpuVa) -> (usize, Ttbr) {
    let index = usize::from(process_id & 0xf) * L1_PER_PROCESS as usize + va.l1_index();
    (
        index,
        Ttbr::from_bits(bank.get(index).copied().unwrap_or(0)),
    )
}

fn table(segment: bool, snoop: bool, page: u64) -> Target {
    if segment {
        Target::Vram(VramOffset::from_page(page))
    } else {
        Target::System(BusAddr::from_page(page), Snoop::from_bit(snoop))
    }
}

fn entry_at(table: Target, index: u64) -> Target {
    match table {
        Target::Vram(at) => Target::Vram(at.add(index * ENTRY_BYTES)),
        Target::System(at, snoop) => Target::System(at.add(index * ENTRY_BYTES), snoop),
    }
}

fn load(
    memory: &Memory,
    at: Target,
    client: FaultClient,
    place: FaultPlace,
) -> Result<u32, Failure> {
    memory.load_u32(at, client).map_err(|_| {
        let cause = match at {
            Target::Vram(_) => FaultCause::OutsideVram,
            Target::System(..) => FaultCause::Bus,
        };
        (cause, place.with_target(at))
    })
}

/// What the tables in memory say about an address, level by level, raw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// The process id's L1 register.
    pub l1: u32,
    /// The L2 entry, if the L1 register led to one.
    pub l2: Option<u32>,
    /// The L3 entry, if the L2 entry led to one.
    pub l3: Option<u32>,
    /// Where the address leads, as text; `None` if nowhere.
    pub target: Option<String>,
}

impl Walk {
    pub(super) fn new(
        memory: &Memory,
        bank: &Bank,
        mode: MmuMode,
        process_id: u8,
        va: GpuVa,
    ) -> Self {
        let untranslated = !mode.va_mode() && va.0 < mode.video_bytes();
        let process_id = if mode.va_mode() { process_id } else { 0 };
        let (_, l1) = l1_entry(bank, process_id, va);
        let mut walk = Self {
            l1: l1.into_bits(),
            l2: None,
            l3: None,
            target: None,
        };
        let target = if untranslated {
            Some(Target::Vram(VramOffset(va.0)))
        } else if va.0 >> ADDRESS_BITS == 0 && l1.valid() {
            walk.descend(memory, l1, va)
        } else {
            None
        };
        walk.target = target
            .filter(|target| match target {
                Target::Vram(at) => at.0 < memory.vram.bytes(),
                Target::System(..) => true,
            })
            .map(|target| target.to_string());
        walk
    }

    fn descend(&mut self, memory: &Memory, l1: Ttbr, va: GpuVa) -> Option<Target> {
        let client = FaultClient::RingFetch;
        let l2_table = table(l1.segment(), l1.snoop(), u64::from(l1.page()));
        self.l2 = memory
            .load_u32(entry_at(l2_table, va.l2_index()), client)
            .ok();
        let l2 = self
            .l2
            .map(L2Entry::from_bits)
            .filter(|l2| l2.valid() && !l2.large_page())?;
        let l3_table = table(l2.segment(), l2.snoop(), u64::from(l2.page()));
        self.l3 = memory
            .load_u32(entry_at(l3_table, va.l3_index()), client)
            .ok();
        let l3 = self.l3.map(L3Entry::from_bits).filter(L3Entry::valid)?;
        let page = table(l3.segment(), l3.snoop(), u64::from(l3.page()));
        Some(match page {
            Target::Vram(at) => Target::Vram(at.add(va.in_page())),
            Target::System(at, snoop) => Target::System(at.add(va.in_page()), snoop),
        })
    }
}

const _: () = assert!(1 << PAGE_SHIFT == 1024 * ENTRY_BYTES, "a table is one page");
