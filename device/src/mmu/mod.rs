//! The MMU and the memory crossbar (MXU) around it: the one translation path
//! for every client, the L1 register bank, the TLB, faults.

mod fault;
mod tlb;
mod walk;

pub use fault::{FaultCause, FaultRecord};
pub use walk::Walk;

use crate::config::Defects;
use crate::counters::Counters;
use crate::memory::{BusError, Memory, Target};
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::fields::{FaultClient, InvalidateAddress, InvalidateTrigger, MmuMode, TlbTarget};
use e3k_regs::pte::L3Entry;
use e3k_regs::register::{L1_PER_PROCESS, PROCESS_IDS};
use e3k_regs::{GpuVa, PAGE_SIZE, Reg, VramOffset};
use fault::{FaultLog, FaultPlace};
use tlb::Tlb;

/// L1 registers in the bank.
pub(crate) const L1_REGISTERS: usize = (PROCESS_IDS * L1_PER_PROCESS) as usize;

/// One client access: who, for which process, and whether it writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) client: FaultClient,
    pub(crate) process_id: u8,
    pub(crate) write: bool,
}

/// An access was dropped; the fault is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped;

/// Which TLB lines an invalidation drops: those whose page number and process
/// id agree with the wanted ones in every compared bit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invalidation {
    pub(crate) page: u64,
    pub(crate) page_mask: u64,
    pub(crate) process_id: u8,
    pub(crate) process_mask: u8,
}

/// The crossbar with all memory behind it.
pub(crate) struct Mxu {
    pub(crate) memory: Memory,
    pub(crate) counters: Counters,
    pub(crate) faults: FaultLog,
    ttbr: Box<[u32; L1_REGISTERS]>,
    mode: MmuMode,
    invalidate_page: InvalidateAddress,
    invalidate_mask: InvalidateAddress,
    tlb: Tlb,
    defects: Defects,
}

impl Mxu {
    pub(crate) fn new(memory: Memory, defects: Defects) -> Self {
        Self {
            memory,
            counters: Counters::default(),
            faults: FaultLog::default(),
            ttbr: Box::new([0; L1_REGISTERS]),
            mode: MmuMode::new(),
            invalidate_page: InvalidateAddress::new(),
            invalidate_mask: InvalidateAddress::new(),
            tlb: Tlb::new(),
            defects,
        }
    }

    /// Registers and TLB to their reset values; memory and the fault history stay.
    pub(crate) fn reset(&mut self) {
        self.ttbr.fill(0);
        self.mode = MmuMode::new();
        self.invalidate_page = InvalidateAddress::new();
        self.invalidate_mask = InvalidateAddress::new();
        self.tlb.clear();
        self.faults.reset_registers();
    }

    /// Drops every TLB line.
    pub(crate) fn flush(&mut self) {
        if !self.defects.ignore_invalidations {
            self.tlb.clear();
        }
    }

    /// L1 register `index` of the whole bank; 0 beyond it.
    pub(crate) fn ttbr(&self, index: usize) -> u32 {
        self.ttbr.get(index).copied().unwrap_or(0)
    }

    /// Writes L1 register `index`; beyond the bank nothing happens. The TLB is
    /// not flushed (docs/model-choices.md).
    pub(crate) fn set_ttbr(&mut self, index: usize, value: u32) {
        if let Some(register) = self.ttbr.get_mut(index) {
            *register = value;
        }
    }

    /// Value of one of this block's registers; `None` if it is not one.
    pub(crate) fn read_register(&self, reg: Reg, index: u32) -> Option<u32> {
        Some(match reg {
            Reg::Ttbr => self.ttbr(index as usize),
            Reg::MmuMode => self.mode.into_bits(),
            Reg::PtInvAddr => self.invalidate_page.into_bits(),
            Reg::PtInvMask => self.invalidate_mask.into_bits(),
            Reg::PtInvTrig => 0,
            _ => return self.faults.read_register(reg),
        })
    }

    /// Writes one of this block's registers; `false` if it is not one.
    pub(crate) fn write_register(&mut self, reg: Reg, index: u32, value: u32) -> bool {
        match reg {
            Reg::Ttbr => self.set_ttbr(index as usize, value),
            Reg::MmuMode => self.mode = MmuMode::from_bits(value),
            Reg::PtInvAddr => self.invalidate_page = InvalidateAddress::from_bits(value),
            Reg::PtInvMask => self.invalidate_mask = InvalidateAddress::from_bits(value),
            Reg::PtInvTrig => self.trigger_invalidation(InvalidateTrigger::from_bits(value)),
            _ => return self.faults.write_register(reg, value),
        }
        true
    }

    /// Drops the TLB lines that `what` describes.
    pub(crate) fn invalidate(&mut self, target: TlbTarget, what: Invalidation) {
        // The UTLB is not modelled: only the shared TLB keeps anything.
        if target != TlbTarget::Dtlb {
            return;
        }
        self.counters.invalidations += 1;
        if !self.defects.ignore_invalidations {
            self.tlb.invalidate(what);
        }
    }

    fn trigger_invalidation(&mut self, trigger: InvalidateTrigger) {
        self.invalidate(
            trigger.target(),
            Invalidation {
                page: self.invalidate_page.page().into(),
                page_mask: self.invalidate_mask.page().into(),
                process_id: self.invalidate_page.process_id(),
                process_mask: self.invalidate_mask.process_id(),
            },
        );
    }

    /// Where `va` leads for this request (hardware reference 4.6). A failure is
    /// on record when this returns.
    pub(crate) fn translate(&mut self, request: Request, va: GpuVa) -> Result<Target, Dropped> {
        self.find(request, va).map_err(|(cause, place)| {
            self.counters.faults += 1;
            self.faults
                .record(self.effective(request), va, cause, place);
            Dropped
        })
    }

    /// Reads `buf.len()` bytes, page by page. On a fault the rest is not read.
    pub(crate) fn read(
        &mut self,
        request: Request,
        va: GpuVa,
        buf: &mut [u8],
    ) -> Result<(), Dropped> {
        let mut at = va;
        let mut rest = buf;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at_mut(piece_len(at, rest.len()));
            let target = self.translate(request, at)?;
            let result = self.memory.read(target, piece, request.client);
            self.answered(request, at, target, result)?;
            at = at.add(piece.len() as u64);
            rest = tail;
        }
        Ok(())
    }

    /// Writes `buf`, page by page. On a fault the rest is not written.
    pub(crate) fn write(&mut self, request: Request, va: GpuVa, buf: &[u8]) -> Result<(), Dropped> {
        let mut at = va;
        let mut rest = buf;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(piece_len(at, rest.len()));
            let target = self.translate(request, at)?;
            let result = self.memory.write(target, piece, request.client);
            self.answered(request, at, target, result)?;
            at = at.add(piece.len() as u64);
            rest = tail;
        }
        Ok(())
    }

    /// Stores one 64-bit word; `va` is a multiple of 8.
    pub(crate) fn store_u64(
        &mut self,
        request: Request,
        va: GpuVa,
        value: u64,
    ) -> Result<(), Dropped> {
        let target = self.translate(request, va)?;
        let result = self.memory.store_u64(target, value, request.client);
        self.answered(request, va, target, result)
    }

    /// Records a bus error of a data access.
    fn answered(
        &mut self,
        request: Request,
        va: GpuVa,
        target: Target,
        result: Result<(), BusError>,
    ) -> Result<(), Dropped> {
        result.map_err(|BusError| {
            self.counters.bus_errors += 1;
            self.faults.record(
                self.effective(request),
                va,
                FaultCause::Bus,
                FaultPlace::page(target),
            );
            Dropped
        })
    }

    /// PA mode has one address space: every client is process 0.
    fn effective(&self, request: Request) -> Request {
        let process_id = if self.mode.va_mode() {
            request.process_id
        } else {
            0
        };
        Request {
            process_id,
            ..request
        }
    }

    fn find(&mut self, request: Request, va: GpuVa) -> Result<Target, (FaultCause, FaultPlace)> {
        if va.0 >> ADDRESS_BITS != 0 {
            return Err((FaultCause::AddressTooWide, FaultPlace::default()));
        }
        if !self.mode.va_mode() && va.0 < self.mode.video_bytes() {
            return self.local(VramOffset(va.0), FaultPlace::default());
        }
        let entry = self.leaf(self.effective(request), va)?;
        let page = u64::from(entry.page());
        if entry.segment() || self.defects.ignore_segments {
            let at = VramOffset::from_page(page).add(va.in_page());
            return self.local(at, FaultPlace::level(3));
        }
        let at = e3k_regs::BusAddr::from_page(page).add(va.in_page());
        Ok(Target::System(
            at,
            crate::memory::Snoop::from_bit(entry.snoop()),
        ))
    }

    fn local(&self, at: VramOffset, place: FaultPlace) -> Result<Target, (FaultCause, FaultPlace)> {
        if at.0 < self.memory.vram.bytes() {
            Ok(Target::Vram(at))
        } else {
            Err((FaultCause::OutsideVram, place.with_target(Target::Vram(at))))
        }
    }

    /// The valid L3 entry for `va`. An invalid entry in the TLB does not count
    /// as cached: the tables are walked again before a fault is reported.
    fn leaf(&mut self, request: Request, va: GpuVa) -> Result<L3Entry, (FaultCause, FaultPlace)> {
        let process_id = request.process_id;
        if let Some(entry) = self.tlb.lookup(process_id, va).filter(L3Entry::valid) {
            self.counters.tlb_hits += 1;
            return Ok(entry);
        }
        self.counters.walks += 1;
        let table = walk::l3_table(&self.memory, &self.ttbr, process_id, va, request.client)?;
        let line = walk::l3_line(&self.memory, table, va, request.client)?;
        self.tlb.insert(process_id, va, line);
        let entry = tlb::entry_of(&line, va);
        if entry.valid() {
            Ok(entry)
        } else {
            Err((FaultCause::InvalidL3, FaultPlace::level(3)))
        }
    }

    /// What the tables say now, without TLB, counters or faults.
    pub(crate) fn inspect(&self, process_id: u8, va: GpuVa) -> Walk {
        Walk::new(&self.memory, &self.ttbr, self.mode, process_id, va)
    }
}

/// Bytes from `va` to the end of its page, at most `len`.
fn piece_len(va: GpuVa, len: usize) -> usize {
    usize::try_from(PAGE_SIZE - va.in_page()).map_or(len, |to_end| len.min(to_end))
}
