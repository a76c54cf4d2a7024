//! The MMU and the memory crossbar (MXU) around it: the one translation path
//! for every client, the L1 register bank, the TLBs, faults.

pub(crate) mod access;
mod entry;
mod fault;
mod held;
pub(crate) mod look;
pub(crate) mod record;
mod tlb;
mod translate;
mod utlb;
mod walk;

pub use access::{Access, EntryAt, Hit, Invalidation};
pub(crate) use access::{Place, Request, Stop};
pub use entry::TlbEntry;
pub use look::Look;
pub use record::{FaultCause, FaultRecord};
pub use walk::Walk;

use crate::config::Config;
use crate::counters::Counters;
use crate::defect::Defect;
use crate::memory::{BusError, Memory, Target};
use crate::saved::mxu::Crossbar;
use crate::saved::{Damage, sparse};
use crate::watch::{Event, Onlooker};
use e3k_regs::fields::{FaultClient, InvalidateAddress, InvalidateTrigger, MmuMode, TlbTarget};
use e3k_regs::pte::L3Entry;
use e3k_regs::register::{L1_PER_PROCESS, PROCESS_IDS};
use e3k_regs::{GpuVa, PAGE_SIZE, Reg};
use fault::{FaultLog, FaultPlace};
use std::io;
use tlb::Dtlb;
use utlb::Utlb;

/// L1 registers in the bank.
pub(crate) const L1_REGISTERS: usize = (PROCESS_IDS * L1_PER_PROCESS) as usize;

/// The crossbar with all memory behind it.
pub(crate) struct Mxu {
    /// Of the whole GPU.
    config: Config,
    pub(crate) memory: Memory,
    pub(crate) counters: Counters,
    pub(crate) faults: FaultLog,
    ttbr: Box<[u32]>,
    mode: MmuMode,
    invalidate_page: InvalidateAddress,
    invalidate_mask: InvalidateAddress,
    utlb: Utlb,
    dtlb: Dtlb,
}

impl Mxu {
    /// With VRAM of the seed's pattern or zeros, and no system memory.
    ///
    /// # Errors
    /// VRAM could not be made.
    pub(crate) fn new(config: Config, vram_seed: Option<u64>) -> io::Result<Self> {
        let memory = Memory::new(config.vram_bytes, config.visible_bytes, vram_seed)?;
        let options = config.mmu;
        Ok(Self {
            config,
            memory,
            counters: Counters::default(),
            faults: FaultLog::default(),
            ttbr: vec![0; L1_REGISTERS].into(),
            mode: MmuMode::new(),
            invalidate_page: InvalidateAddress::new(),
            invalidate_mask: InvalidateAddress::new(),
            utlb: Utlb::new(options.utlb),
            dtlb: Dtlb::new(options.dtlb),
        })
    }

    /// Without what the whole GPU was made from, the counters, and memory.
    pub(crate) fn save(&self) -> Crossbar {
        Crossbar {
            ttbr: sparse::save(&self.ttbr),
            mode: self.mode,
            invalidate_page: self.invalidate_page,
            invalidate_mask: self.invalidate_mask,
            utlb: self.utlb.save(),
            dtlb: self.dtlb.save(),
            faults: self.faults.save(),
        }
    }

    /// Into a new one.
    ///
    /// # Errors
    /// It cannot have been one of the same configuration.
    pub(crate) fn restore(&mut self, saved: Crossbar) -> Result<(), Damage> {
        let Crossbar {
            ttbr,
            mode,
            invalidate_page,
            invalidate_mask,
            utlb,
            dtlb,
            faults,
        } = saved;
        let options = self.config.mmu;
        sparse::restore(&mut self.ttbr, ttbr, "L1 register")?;
        self.mode = mode;
        self.invalidate_page = invalidate_page;
        self.invalidate_mask = invalidate_mask;
        self.utlb = Utlb::restore(options.utlb, utlb)?;
        self.dtlb = Dtlb::restore(options.dtlb, dtlb)?;
        self.faults = FaultLog::restore(faults)?;
        Ok(())
    }

    /// What the whole GPU was made from.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Registers and TLBs to their reset values; memory and the fault history stay.
    pub(crate) fn reset(&mut self, watch: impl Onlooker) {
        let Self {
            config: _,
            memory: _,
            counters: _,
            faults,
            ttbr,
            mode,
            invalidate_page,
            invalidate_mask,
            utlb,
            dtlb,
        } = self;
        if !watch.bends(Defect::ResetKeepsL1) {
            ttbr.fill(0);
        }
        *mode = MmuMode::new();
        *invalidate_page = InvalidateAddress::new();
        *invalidate_mask = InvalidateAddress::new();
        if !watch.bends(Defect::ResetKeepsTlbs) {
            utlb.clear();
            dtlb.clear();
        }
        if !watch.bends(Defect::ResetKeepsFaults) {
            faults.reset_registers();
        }
    }

    /// Empties the TLBs.
    pub(crate) fn flush<W: Onlooker>(&mut self, watch: W) {
        watch.saw(&Event::Flushed, &self.look());
        if !watch.bends(Defect::Invalidations) {
            self.utlb.clear();
            self.dtlb.clear();
        }
    }

    /// Whether a page fault is on display that software has not cleared.
    pub(crate) fn fault_pending(&self) -> bool {
        self.faults.pending()
    }

    /// Whether there was a page fault since the last call behind which its ring
    /// stands until no fault is pending.
    pub(crate) fn take_stand(&mut self) -> bool {
        self.faults.take_stand()
    }

    /// Value of one of this block's registers; `None` if it is not one.
    pub(crate) fn read_register(&self, reg: Reg, index: u32) -> Option<u32> {
        Some(match reg {
            Reg::Ttbr => *self.ttbr.get(index as usize)?,
            Reg::MmuMode => self.mode.into_bits(),
            Reg::PtInvAddr => self.invalidate_page.into_bits(),
            Reg::PtInvMask => self.invalidate_mask.into_bits(),
            Reg::PtInvTrig => 0,
            _ => return self.faults.read_register(reg),
        })
    }

    /// Writes one of this block's registers; `false` if it is not one.
    pub(crate) fn write_register<W: Onlooker>(
        &mut self,
        watch: W,
        reg: Reg,
        index: u32,
        value: u32,
    ) -> bool {
        match reg {
            // Neither this nor a new mode flushes the TLBs (docs/model-choices.md).
            Reg::Ttbr => {
                if let Some(register) = self.ttbr.get_mut(index as usize) {
                    *register = value;
                }
            }
            Reg::MmuMode => self.mode = MmuMode::from_bits(value),
            Reg::PtInvAddr => self.invalidate_page = InvalidateAddress::from_bits(value),
            Reg::PtInvMask => self.invalidate_mask = InvalidateAddress::from_bits(value),
            Reg::PtInvTrig => self.trigger_invalidation(watch, InvalidateTrigger::from_bits(value)),
            _ => return self.faults.write_register(watch, reg, value),
        }
        true
    }

    /// Drops the TLB entries that `what` describes.
    pub(crate) fn invalidate<W: Onlooker>(
        &mut self,
        watch: W,
        target: TlbTarget,
        what: Invalidation,
    ) {
        if !matches!(target, TlbTarget::Utlb | TlbTarget::Dtlb) {
            return;
        }
        let both = target == TlbTarget::Dtlb && !self.config().mmu.strict_utlb;
        let event = Event::Invalidated { target, what, both };
        watch.saw(&event, &self.look());
        self.counters.invalidations += 1;
        if watch.bends(Defect::Invalidations) {
            return;
        }
        let what = bent(watch, what);
        if target == TlbTarget::Utlb {
            self.utlb.invalidate(what);
            return;
        }
        self.dtlb.invalidate(what);
        if both {
            // Whole lines, so the pages inside one are not compared.
            self.utlb.invalidate(Invalidation {
                page_mask: what.page_mask & !0xf,
                ..what
            });
        }
    }

    fn trigger_invalidation<W: Onlooker>(&mut self, watch: W, trigger: InvalidateTrigger) {
        if watch.bends(Defect::RegisterInvalidationLost) {
            return;
        }
        self.invalidate(
            watch,
            trigger.target(),
            Invalidation {
                page: self.invalidate_page.page().into(),
                page_mask: self.invalidate_mask.page().into(),
                process_id: self.invalidate_page.process_id(),
                process_mask: self.invalidate_mask.process_id(),
            },
        );
    }

    /// Reads `buf.len()` bytes, page by page. On a fault the rest is not read.
    pub(crate) fn read<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        buf: &mut [u8],
    ) -> Result<(), Stop> {
        let mut at = va;
        let mut rest = buf;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at_mut(piece_len(at, rest.len()));
            let place = self.reach(watch, request, at, piece.len() as u64)?;
            self.read_at(watch, request, at, place, piece)?;
            at = at.add(piece.len() as u64);
            rest = tail;
        }
        Ok(())
    }

    /// Writes `buf`, page by page. On a fault the rest is not written.
    pub(crate) fn write<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        buf: &[u8],
    ) -> Result<(), Stop> {
        let mut at = va;
        let mut rest = buf;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(piece_len(at, rest.len()));
            let place = self.reach(watch, request, at, piece.len() as u64)?;
            self.write_at(watch, request, at, place, piece)?;
            at = at.add(piece.len() as u64);
            rest = tail;
        }
        Ok(())
    }

    /// Reads at a place that [`Self::reach`] has said. It ends in the page.
    pub(crate) fn read_at<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        place: Place,
        buf: &mut [u8],
    ) -> Result<(), Stop> {
        let result = self.memory.read(place.target, buf, place.origin(request));
        self.answered(watch, request, va, place, result)
    }

    /// Writes at a place that [`Self::reach`] has said. It ends in the page.
    pub(crate) fn write_at<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        place: Place,
        buf: &[u8],
    ) -> Result<(), Stop> {
        let result = self.memory.write(place.target, buf, place.origin(request));
        self.answered(watch, request, va, place, result)
    }

    /// Stores one 64-bit word; `va` is a multiple of 8. Returns where it went.
    pub(crate) fn store_u64<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        value: u64,
    ) -> Result<Target, Stop> {
        let value = if watch.bends(Defect::FenceHighHalfLost) {
            value & 0xffff_ffff
        } else {
            value
        };
        let place = self.reach(watch, request, va, 8)?;
        let origin = place.origin(request);
        let result = self.memory.store_u64(place.target, value, origin);
        self.answered(watch, request, va, place, result)?;
        Ok(place.target)
    }

    /// Writes bytes that lie in one page. Returns where they went.
    pub(crate) fn store_bytes<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        bytes: &[u8],
    ) -> Result<Target, Stop> {
        let place = self.reach(watch, request, va, bytes.len() as u64)?;
        self.write_at(watch, request, va, place, bytes)?;
        Ok(place.target)
    }

    /// Where `va` leads for an access of so many bytes, which whoever watches admits. A
    /// failure is on record when this returns.
    pub(crate) fn reach<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        bytes: u64,
    ) -> Result<Place, Stop> {
        let before = self.counters;
        let place = self.translate(watch, request, va)?;
        let by = if self.counters.walks > before.walks {
            Hit::Walk
        } else if self.counters.dtlb_hits > before.dtlb_hits {
            Hit::Dtlb
        } else if self.counters.utlb_hits > before.utlb_hits {
            Hit::Utlb
        } else {
            Hit::Untranslated
        };
        if self.admits(watch, request, va, bytes, place, by) {
            return Ok(place);
        }
        let place = FaultPlace::page(place.target);
        Err(self.failed(watch, request, va, (FaultCause::Refused, place)))
    }

    /// Whether whoever watches admits an access.
    #[inline]
    pub(crate) fn admits<W: Onlooker>(
        &self,
        watch: W,
        request: Request,
        va: GpuVa,
        bytes: u64,
        place: Place,
        by: Hit,
    ) -> bool {
        let Request {
            client,
            process_id,
            write,
        } = self.as_recorded(request);
        let access = Access {
            client,
            process_id,
            write,
            ring: self.faults.ring,
            ring_offset: self.faults.ring_offset,
            va,
            bytes,
            target: place.target,
            non_secure: place.non_secure,
            by,
        };
        watch.admits(&access, &self.look())
    }

    /// The process id whose tables translate a request.
    pub(crate) fn process_of(&self, request: Request) -> u8 {
        self.as_recorded(request).process_id
    }

    /// Records a bus error of a data access.
    fn answered<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        place: Place,
        result: Result<(), BusError>,
    ) -> Result<(), Stop> {
        result.map_err(|BusError| {
            self.counters.bus_errors += 1;
            let place = FaultPlace::page(place.target);
            self.record(watch, request, va, FaultCause::Bus, place)
        })
    }

    /// Records a fault and says what becomes of the access.
    fn record<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        cause: FaultCause,
        place: FaultPlace,
    ) -> Stop {
        let cause = match cause {
            FaultCause::Bus if !self.memory.system.bus_master() => FaultCause::BusMasterOff,
            cause => cause,
        };
        let on_fault = self.config().mmu.on_fault;
        let request = if watch.bends(Defect::ProcessInPaMode) {
            request
        } else {
            self.as_recorded(request)
        };
        let stop = self
            .faults
            .record(watch, request, va, cause, place, on_fault);
        if let Some(record) = self.faults.last() {
            watch.saw(&Event::Fault(record), &self.look());
        }
        stop
    }

    /// A request as the records have it: PA mode has one address space, so
    /// every client is process 0.
    fn as_recorded(&self, request: Request) -> Request {
        let process_id = if self.mode.va_mode() {
            request.process_id & 0xf
        } else {
            0
        };
        Request {
            process_id,
            ..request
        }
    }

    /// What a walk reads from, and whoever watches sees.
    pub(crate) fn look(&self) -> Look<'_> {
        Look {
            memory: &self.memory,
            bank: &self.ttbr,
            mode: self.mode,
            large_page: self.config.mmu.large_page,
        }
    }

    /// What the tables say now, and what the TLBs hold; nothing is counted and
    /// nothing faults.
    pub(crate) fn inspect(&self, process_id: u8, va: GpuVa) -> Walk {
        let walk = Walk::new(self.look(), process_id, va);
        let process_id = if self.mode.va_mode() { process_id } else { 0 };
        let own = |client: &FaultClient| {
            let entry = self.utlb.lookup(self.utlb.key(*client, process_id, va))?;
            Some((client.name(), entry.into_bits()))
        };
        let shared = self.dtlb.entry(self.dtlb.find(process_id, va), va);
        Walk {
            dtlb: shared.map(L3Entry::into_bits),
            utlb: FaultClient::ALL.iter().filter_map(own).collect(),
            ..walk
        }
    }
}

/// An invalidation as a defect leaves it.
fn bent(watch: impl Onlooker, mut what: Invalidation) -> Invalidation {
    for (defect, bit) in [
        (Defect::MaskBit4Stuck, 4),
        (Defect::MaskBit10Stuck, 10),
        (Defect::MaskBit20Stuck, 20),
    ] {
        what.page_mask |= u64::from(watch.bends(defect)) << bit;
    }
    if watch.bends(Defect::ProcessMaskStuck) {
        what.process_mask = 0xf;
    }
    what
}

/// Bytes from `va` to the end of its page, at most `len`.
fn piece_len(va: GpuVa, len: usize) -> usize {
    usize::try_from(PAGE_SIZE - va.in_page()).map_or(len, |to_end| len.min(to_end))
}
