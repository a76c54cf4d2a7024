//! Translation: from a client's address to a place in memory, by its UTLB, the
//! shared TLB, or a walk (hardware reference 4.6, 5).

use super::fault::{FaultCause, FaultPlace};
use super::tlb::{LINE_ENTRIES, Spot, entry_of};
use super::{Mxu, Place, Request, Stop, utlb, walk};
use crate::memory::Target;
use crate::planted::planted;
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::pte::L3Entry;
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

pub(super) type Failure = (FaultCause, FaultPlace);

impl Mxu {
    /// Where `va` leads for this request. A failure is on record when this returns.
    #[inline]
    pub(crate) fn translate(&mut self, request: Request, va: GpuVa) -> Result<Place, Stop> {
        let va = if planted!(WideAddressWraps) {
            GpuVa(va.0 & 0xff_ffff_ffff)
        } else {
            va
        };
        if va.0 >> ADDRESS_BITS != 0 {
            return self.too_wide(request, va);
        }
        let process_id = if self.mode.va_mode() {
            request.process_id & 0xf
        } else if va.0 < self.untranslated_bytes() {
            return self.local(request, va, VramOffset(va.0), None);
        } else {
            0
        };
        let key = self.utlb.key(request.client, process_id, va);
        match self.utlb.lookup(key) {
            Some(entry) => {
                self.counters.utlb_hits += 1;
                self.place(request, va, entry)
            }
            None => self.missed(request, va, key),
        }
    }

    /// Where an entry leads.
    #[inline]
    fn place(&mut self, request: Request, va: GpuVa, entry: L3Entry) -> Result<Place, Stop> {
        if entry.segment() || self.defects.ignore_segments {
            let page = VramOffset::from_page(entry.page().into());
            return self.local(request, va, page.add(va.in_page()), Some(entry));
        }
        Ok(Place {
            target: walk::page_of(entry).add(va.in_page()),
            non_secure: entry.ns(),
        })
    }

    /// The end of what PA mode does not translate.
    fn untranslated_bytes(&self) -> u64 {
        let less = if planted!(VideoSizeTooSmall) {
            PAGE_SIZE
        } else {
            0
        };
        self.mode.video_bytes() - less
    }

    /// A place in VRAM, to which `entry` has led if there was one.
    #[inline]
    fn local(
        &mut self,
        request: Request,
        va: GpuVa,
        at: VramOffset,
        entry: Option<L3Entry>,
    ) -> Result<Place, Stop> {
        let target = Target::Vram(at);
        if at.0 >= self.memory.vram.bytes() {
            return self.outside_vram(request, va, target, entry.is_some());
        }
        Ok(Place {
            target,
            non_secure: entry.is_some_and(|entry| entry.ns()),
        })
    }

    /// As [`Self::translate`], where the client's UTLB has nothing for `key`. An
    /// invalid entry in the DTLB does not count as cached: the tables are walked
    /// again before a fault is reported.
    #[inline(never)]
    fn missed(&mut self, request: Request, va: GpuVa, key: utlb::Key) -> Result<Place, Stop> {
        let process_id = key.process_id();
        let spot = self.dtlb.find(process_id, va);
        let held = self.dtlb.entry(spot, va);
        let held = held.filter(|entry| entry.valid() || planted!(InvalidEntryCached));
        let entry = match held {
            Some(entry) => {
                self.counters.dtlb_hits += 1;
                entry
            }
            None => self.walked(request, process_id, va, spot)?,
        };
        if !entry.valid() {
            let failure = (FaultCause::InvalidL3, FaultPlace::level(3));
            return Err(self.failed(request, va, failure));
        }
        self.utlb.insert(key, entry);
        self.place(request, va, entry)
    }

    /// What the tables have for `va`; its line is then in the DTLB.
    #[inline(never)]
    fn walked(
        &mut self,
        request: Request,
        process_id: u8,
        va: GpuVa,
        spot: Spot,
    ) -> Result<L3Entry, Stop> {
        self.counters.walks += 1;
        let mut line = [0; LINE_ENTRIES];
        let tables = self.tables();
        if let Err(failure) = tables.line(process_id, va, request.client, &mut line) {
            return Err(self.failed(request, va, failure));
        }
        self.dtlb.insert(spot, &line);
        Ok(entry_of(&line, va))
    }

    #[cold]
    fn too_wide(&mut self, request: Request, va: GpuVa) -> Result<Place, Stop> {
        let failure = (FaultCause::AddressTooWide, FaultPlace::default());
        Err(self.failed(request, va, failure))
    }

    #[cold]
    fn outside_vram(
        &mut self,
        request: Request,
        va: GpuVa,
        target: Target,
        by_entry: bool,
    ) -> Result<Place, Stop> {
        let level = if by_entry { 3 } else { 0 };
        let place = FaultPlace::level(level).with_target(target);
        Err(self.failed(request, va, (FaultCause::OutsideVram, place)))
    }

    #[cold]
    fn failed(&mut self, request: Request, va: GpuVa, (cause, place): Failure) -> Stop {
        self.counters.faults += 1;
        self.counters.fault_overflows += u64::from(self.faults.pending());
        self.faults
            .record(self.as_recorded(request), va, cause, place)
    }
}
