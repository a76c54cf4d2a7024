//! Translation: from a client's address to a place in memory, by its UTLB, the
//! shared TLB, or a walk (hardware reference 4.6, 5).

#![expect(
    clippy::inline_always,
    reason = "what a call hands back in memory is read only when the page stored before is; see docs/performance.md"
)]

use super::access::{Place, Request, Stop};
use super::fault::{Failure, FaultCause, FaultPlace};
use super::tlb::{LINE_ENTRIES, entry_of};
use super::{Mxu, utlb, walk};
use crate::index::index;
use crate::memory::Target;
use crate::planted::planted;
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::pte::L3Entry;
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

/// Pages that the TLBs know; see [`Mxu::peek`].
pub(crate) struct Peeked {
    pub(crate) place: Place,
    pub(crate) pages: u64,
    hit: Hit,
}

/// Which level answered.
enum Hit {
    Untranslated,
    /// One page.
    Utlb,
    /// The first page's key and entry.
    Dtlb(utlb::Key, L3Entry),
}

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
        let target = self.leads_to(entry).add(va.in_page());
        if let Target::Vram(at) = target {
            return self.local(request, va, at, Some(entry));
        }
        Ok(Place {
            target,
            non_secure: entry.ns(),
        })
    }

    /// Where `va` leads, if that can be told without reading a table,
    /// and how many pages, at most `pages`, follow each other from there in both.
    /// Changes nothing: [`Self::take`] with the pages that are really used does the
    /// TLB fills and counts them.
    #[inline(always)]
    pub(crate) fn peek(&self, request: Request, va: GpuVa, pages: u64) -> Option<Peeked> {
        if va.0 >> ADDRESS_BITS != 0 {
            return None;
        }
        let process_id = if self.mode.va_mode() {
            request.process_id & 0xf
        } else if va.0 < self.untranslated_bytes() {
            let pages = pages.min((self.untranslated_bytes() - va.0).div_ceil(PAGE_SIZE));
            let place = Place {
                target: Target::Vram(VramOffset(va.0)),
                non_secure: false,
            };
            return self.peeked(place, pages, Hit::Untranslated);
        } else {
            0
        };
        let key = self.utlb.key(request.client, process_id, va);
        let (entry, entries, hit) = if let Some(entry) = self.utlb.lookup(key) {
            (entry, &[][..], Hit::Utlb)
        } else {
            let spot = self.dtlb.find(process_id, va);
            let entries = self.dtlb.entries(spot, va)?;
            let entry = L3Entry::from_bits(*entries.first()?);
            if !entry.valid() {
                return None;
            }
            let entries = &entries[..entries.len().min(index(pages))];
            (entry, entries, Hit::Dtlb(key, entry))
        };
        let pages = self.utlb.lacks(key, entries).max(1) as u64;
        let place = Place {
            target: self.leads_to(entry).add(va.in_page()),
            non_secure: entry.ns(),
        };
        self.peeked(place, pages, hit)
    }

    #[inline(always)]
    fn peeked(&self, place: Place, pages: u64, hit: Hit) -> Option<Peeked> {
        let end = match place.target {
            Target::Vram(_) => self.memory.vram.bytes(),
            Target::System(..) => 1 << ADDRESS_BITS,
        };
        let inside = end.checked_sub(place.target.address())?;
        let pages = pages.min(inside.div_ceil(PAGE_SIZE));
        (pages > 0).then_some(Peeked { place, pages, hit })
    }

    /// The page of a leaf.
    #[inline]
    fn leads_to(&self, entry: L3Entry) -> Target {
        if self.config().defects.ignore_segments {
            Target::Vram(VramOffset::from_page(entry.page().into()))
        } else {
            walk::page_of(entry)
        }
    }

    /// Does to the TLBs and counters what translating so many of the pages would.
    #[inline]
    pub(crate) fn take(&mut self, peeked: &Peeked, pages: u64) {
        match peeked.hit {
            Hit::Untranslated => {}
            Hit::Utlb => self.counters.utlb_hits += 1,
            Hit::Dtlb(key, entry) => {
                self.counters.dtlb_hits += pages;
                self.utlb.insert_all(key, entry, index(pages));
            }
        }
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
        match self.dtlb.entry(spot, va) {
            Some(entry) if entry.valid() || planted!(InvalidEntryCached) => {
                self.counters.dtlb_hits += 1;
                self.leaf(request, va, key, entry)
            }
            _ => self.walked(request, process_id, va, spot.line),
        }
    }

    /// Where an L3 entry leads, which the UTLB then has.
    #[inline]
    fn leaf(
        &mut self,
        request: Request,
        va: GpuVa,
        key: utlb::Key,
        entry: L3Entry,
    ) -> Result<Place, Stop> {
        if !entry.valid() {
            return self.invalid_leaf(request, va);
        }
        self.utlb.insert(key, entry);
        self.place(request, va, entry)
    }

    /// As [`Self::translate`], by the tables; the line is then in the DTLB, at
    /// `line` if it was there.
    #[inline(never)]
    fn walked(
        &mut self,
        request: Request,
        process_id: u8,
        va: GpuVa,
        line: usize,
    ) -> Result<Place, Stop> {
        self.counters.walks += 1;
        let mut entries = [0; LINE_ENTRIES];
        let tables = self.tables();
        if let Err(failure) = tables.line(process_id, va, request.client, &mut entries) {
            return Err(self.failed(request, va, failure));
        }
        let spot = self.dtlb.spot(process_id, va, line);
        self.dtlb.insert(spot, &entries);
        let key = self.utlb.key(request.client, process_id, va);
        self.leaf(request, va, key, entry_of(&entries, va))
    }

    #[cold]
    fn too_wide(&mut self, request: Request, va: GpuVa) -> Result<Place, Stop> {
        let failure = (FaultCause::AddressTooWide, FaultPlace::default());
        Err(self.failed(request, va, failure))
    }

    #[cold]
    fn invalid_leaf(&mut self, request: Request, va: GpuVa) -> Result<Place, Stop> {
        let failure = (FaultCause::InvalidL3, FaultPlace::level(3));
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
        self.record(request, va, cause, place)
    }
}
