//! Translation: from a client's address to a place in memory, by its UTLB, the
//! shared TLB, or a walk (hardware reference 4.6, 5).

#![expect(
    clippy::inline_always,
    reason = "what a call hands back in memory is read only when the page stored before is; see docs/performance.md"
)]

use super::access::{Hit, Place, Request, Stop};
use super::fault::{Failure, FaultPlace};
use super::record::FaultCause;
use super::tlb::{LINE_ENTRIES, entry_of};
use super::walk::Walker;
use super::{Mxu, utlb, walk};
use crate::defect::Defect;
use crate::index::index;
use crate::memory::Target;
use crate::watch::{Event, Onlooker};
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::fields::FaultClient;
use e3k_regs::pte::L3Entry;
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

/// Pages that the TLBs know; see [`Mxu::peek`].
pub(crate) struct Peeked {
    pub(crate) place: Place,
    pub(crate) pages: u64,
    /// Of the first page's first byte that is used.
    va: GpuVa,
    known: Known,
}

/// Which level answers, and what is needed to fill the client's TLB.
enum Known {
    Untranslated,
    /// One page.
    Utlb,
    /// The first page's key and entry.
    Dtlb(utlb::Key, L3Entry),
}

impl Mxu {
    /// Where `va` leads for this request. A failure is on record when this returns.
    #[inline]
    pub(crate) fn translate<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
    ) -> Result<Place, Stop> {
        let va = if watch.bends(Defect::WideAddressWraps) {
            GpuVa(va.0 & 0xff_ffff_ffff)
        } else {
            va
        };
        if va.0 >> ADDRESS_BITS != 0 {
            return self.too_wide(watch, request, va);
        }
        let process_id = if self.mode.va_mode() {
            request.process_id & 0xf
        } else if va.0 < self.untranslated_bytes(watch) {
            return self.local(watch, request, va, VramOffset(va.0), None);
        } else {
            0
        };
        let key = self.utlb.key(request.client, process_id, va);
        match self.utlb.lookup(key) {
            Some(entry) => {
                self.counters.utlb_hits += 1;
                self.place(watch, request, va, entry)
            }
            None => self.missed(watch, request, va, key),
        }
    }

    /// Where an entry leads.
    #[inline]
    fn place<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        entry: L3Entry,
    ) -> Result<Place, Stop> {
        let target = leads_to(watch, entry).add(va.in_page());
        if let Target::Vram(at) = target {
            return self.local(watch, request, va, at, Some(entry));
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
    pub(crate) fn peek<W: Onlooker>(
        &self,
        watch: W,
        request: Request,
        va: GpuVa,
        pages: u64,
    ) -> Option<Peeked> {
        if va.0 >> ADDRESS_BITS != 0 {
            return None;
        }
        let process_id = if self.mode.va_mode() {
            request.process_id & 0xf
        } else if va.0 < self.untranslated_bytes(watch) {
            let pages = pages.min((self.untranslated_bytes(watch) - va.0).div_ceil(PAGE_SIZE));
            let place = Place {
                target: Target::Vram(VramOffset(va.0)),
                non_secure: false,
            };
            return self.peeked(va, place, pages, Known::Untranslated);
        } else {
            0
        };
        let key = self.utlb.key(request.client, process_id, va);
        let (entry, entries, known) = if let Some(entry) = self.utlb.lookup(key) {
            (entry, &[][..], Known::Utlb)
        } else {
            let spot = self.dtlb.find(process_id, va);
            let entries = self.dtlb.entries(spot, va)?;
            let entry = L3Entry::from_bits(*entries.first()?);
            if !entry.valid() {
                return None;
            }
            let entries = &entries[..entries.len().min(index(pages))];
            (entry, entries, Known::Dtlb(key, entry))
        };
        let pages = self.utlb.lacks(key, entries).max(1) as u64;
        let place = Place {
            target: leads_to(watch, entry).add(va.in_page()),
            non_secure: entry.ns(),
        };
        self.peeked(va, place, pages, known)
    }

    #[inline(always)]
    fn peeked(&self, va: GpuVa, place: Place, pages: u64, known: Known) -> Option<Peeked> {
        let end = match place.target {
            Target::Vram(_) => self.memory.vram.bytes(),
            Target::System(..) => 1 << ADDRESS_BITS,
        };
        let inside = end.checked_sub(place.target.address())?;
        let pages = pages.min(inside.div_ceil(PAGE_SIZE));
        (pages > 0).then_some(Peeked {
            place,
            pages,
            va,
            known,
        })
    }

    /// Whether whoever watches admits an access to pages that are known.
    #[inline(always)]
    pub(crate) fn admits_known<W: Onlooker>(
        &self,
        watch: W,
        request: Request,
        peeked: &Peeked,
        bytes: u64,
    ) -> bool {
        let by = match peeked.known {
            Known::Untranslated => Hit::Untranslated,
            Known::Utlb => Hit::Utlb,
            Known::Dtlb(..) => Hit::Dtlb,
        };
        self.admits(watch, request, peeked.va, bytes, peeked.place, by)
    }

    /// Does to the TLBs and counters what translating so many of the pages would.
    #[inline]
    pub(crate) fn take<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        peeked: &Peeked,
        pages: u64,
    ) {
        match peeked.known {
            Known::Untranslated => {}
            Known::Utlb => self.counters.utlb_hits += 1,
            Known::Dtlb(key, entry) => {
                self.counters.dtlb_hits += pages;
                let mut entries = [entry.into_bits(); LINE_ENTRIES];
                for (entry, page) in entries.iter_mut().zip(0..) {
                    *entry = utlb::behind(*entry, page);
                }
                let entries = entries.get(..index(pages)).unwrap_or(&entries);
                let page = GpuVa(peeked.va.0 - peeked.va.in_page());
                let (client, process_id) = (Some(request.client), key.process_id());
                self.filled(watch, client, process_id, page, entries);
                self.utlb.insert_all(key, entry, index(pages));
            }
        }
    }

    /// The end of what PA mode does not translate.
    #[inline]
    fn untranslated_bytes(&self, watch: impl Onlooker) -> u64 {
        let less = if watch.bends(Defect::VideoSizeTooSmall) {
            PAGE_SIZE
        } else {
            0
        };
        self.mode.video_bytes() - less
    }

    /// A place in VRAM, to which `entry` has led if there was one.
    #[inline]
    fn local<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        at: VramOffset,
        entry: Option<L3Entry>,
    ) -> Result<Place, Stop> {
        let target = Target::Vram(at);
        if at.0 >= self.memory.vram.bytes() {
            return self.outside_vram(watch, request, va, target, entry.is_some());
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
    fn missed<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        key: utlb::Key,
    ) -> Result<Place, Stop> {
        let process_id = key.process_id();
        let spot = self.dtlb.find(process_id, va);
        match self.dtlb.entry(spot, va) {
            Some(entry) if entry.valid() || watch.bends(Defect::InvalidEntryCached) => {
                self.counters.dtlb_hits += 1;
                self.leaf(watch, request, va, key, entry)
            }
            _ => self.walked(watch, request, process_id, va, spot.line),
        }
    }

    /// Where an L3 entry leads, which the UTLB then has.
    #[inline]
    fn leaf<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        key: utlb::Key,
        entry: L3Entry,
    ) -> Result<Place, Stop> {
        if !entry.valid() {
            return self.invalid_leaf(watch, request, va);
        }
        let page = GpuVa(va.0 - va.in_page());
        let (client, process_id) = (Some(request.client), key.process_id());
        self.filled(watch, client, process_id, page, &[entry.into_bits()]);
        self.utlb.insert(key, entry);
        self.place(watch, request, va, entry)
    }

    /// As [`Self::translate`], by the tables; the line is then in the DTLB, at
    /// `line` if it was there.
    #[inline(never)]
    fn walked<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        process_id: u8,
        va: GpuVa,
        line: usize,
    ) -> Result<Place, Stop> {
        self.counters.walks += 1;
        let mut entries = [0; LINE_ENTRIES];
        let walker = Walker {
            client: request.client,
            process_id,
            va,
        };
        if let Err(failure) = self.look().line(walker, &mut entries, watch) {
            return Err(self.failed(watch, request, va, failure));
        }
        let first = GpuVa(va.0 & !0xffff);
        self.filled(watch, None, process_id, first, &entries);
        let spot = self.dtlb.spot(process_id, va, line);
        self.dtlb.insert(spot, &entries);
        let key = self.utlb.key(request.client, process_id, va);
        self.leaf(watch, request, va, key, entry_of(&entries, va))
    }

    /// Tells of a fill.
    #[inline(always)]
    fn filled<W: Onlooker>(
        &self,
        watch: W,
        client: Option<FaultClient>,
        process_id: u8,
        va: GpuVa,
        entries: &[u32],
    ) {
        let event = Event::Filled {
            client,
            process_id,
            va,
            entries,
        };
        watch.saw(&event, &self.look());
    }

    #[cold]
    fn too_wide<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
    ) -> Result<Place, Stop> {
        let failure = (FaultCause::AddressTooWide, FaultPlace::default());
        Err(self.failed(watch, request, va, failure))
    }

    #[cold]
    fn invalid_leaf<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
    ) -> Result<Place, Stop> {
        let failure = (FaultCause::InvalidL3, FaultPlace::level(3));
        Err(self.failed(watch, request, va, failure))
    }

    #[cold]
    fn outside_vram<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        target: Target,
        by_entry: bool,
    ) -> Result<Place, Stop> {
        let level = if by_entry { 3 } else { 0 };
        let place = FaultPlace::level(level).with_target(target);
        Err(self.failed(watch, request, va, (FaultCause::OutsideVram, place)))
    }

    #[cold]
    pub(super) fn failed<W: Onlooker>(
        &mut self,
        watch: W,
        request: Request,
        va: GpuVa,
        (cause, place): Failure,
    ) -> Stop {
        self.counters.faults += 1;
        self.counters.fault_overflows += u64::from(self.faults.pending());
        self.record(watch, request, va, cause, place)
    }
}

/// The page of a leaf.
#[inline]
fn leads_to(watch: impl Onlooker, entry: L3Entry) -> Target {
    let mut entry = entry;
    if watch.bends(Defect::Segments) {
        entry.set_segment(true);
    }
    if watch.bends(Defect::SnoopInverted) {
        entry.set_snoop(!entry.snoop());
    }
    walk::page_of(entry)
}
