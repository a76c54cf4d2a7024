//! The UTLBs: a small TLB in front of each client. An entry is one page of
//! 4 KiB, or a 4 KiB piece of a larger one, in the one place that its page
//! number gives it; it stays until it is invalidated or replaced.

#![expect(
    clippy::inline_always,
    reason = "a hit takes as long as its calls; see docs/performance.md"
)]

use super::access::Invalidation;
use crate::config::UtlbSize;
use crate::index::index;
use crate::saved::mxu::UtlbEntry;
use crate::saved::{Damage, ensure};
use e3k_regs::fields::FaultClient;
use e3k_regs::pte::L3Entry;
use e3k_regs::{GpuVa, PAGE_SIZE};

const PAGE_BITS: u32 = 28;
const PAGE_MASK: u64 = (1 << PAGE_BITS) - 1;

/// What the next page's entry has more than a page's.
const NEXT_PAGE: u32 = L3Entry::new().with_page(1).into_bits();

/// The entry of the page that is so many pages behind that of `entry`.
pub(super) fn behind(entry: u32, pages: u32) -> u32 {
    entry.wrapping_add(NEXT_PAGE.wrapping_mul(pages))
}

/// Empty while its entry is not valid.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Slot {
    key: u32,
    entry: L3Entry,
}

/// A page as one client knows it; made by [`Utlb::key`].
#[derive(Clone, Copy)]
pub(super) struct Key {
    key: u32,
    place: usize,
}

impl Key {
    pub(super) fn process_id(self) -> u8 {
        (self.key >> PAGE_BITS) as u8
    }
}

pub(super) struct Utlb {
    /// `entries` slots of client 0, then those of client 1, ...
    slots: Box<[Slot]>,
    entries: usize,
}

impl Utlb {
    pub(super) fn new(size: UtlbSize) -> Self {
        let entries = index(size.entries().into());
        Self {
            slots: vec![Slot::default(); entries * FaultClient::COUNT].into(),
            entries,
        }
    }

    pub(super) fn save(&self) -> Vec<UtlbEntry> {
        let held = self.held();
        held.map(|(client, process_id, page, entry)| UtlbEntry {
            client,
            process_id,
            va: GpuVa(page * PAGE_SIZE),
            entry,
        })
        .collect()
    }

    /// # Errors
    /// An entry that is not valid.
    pub(super) fn restore(size: UtlbSize, saved: Vec<UtlbEntry>) -> Result<Self, Damage> {
        let mut utlb = Self::new(size);
        for UtlbEntry {
            client,
            process_id,
            va,
            entry,
        } in saved
        {
            ensure(entry.valid(), || {
                format!("a UTLB has an entry for {va} that is not valid")
            })?;
            utlb.insert(utlb.key(client, process_id, va), entry);
        }
        Ok(utlb)
    }

    /// As after power-on.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Slot::default());
    }

    /// The key of a page, and its place among the client's slots.
    #[inline(always)]
    pub(super) fn key(&self, client: FaultClient, process_id: u8, va: GpuVa) -> Key {
        let key = compose(process_id, va.page());
        let low = index(key.into()) & self.entries.wrapping_sub(1);
        let place = client as usize * self.entries + low;
        Key { key, place }
    }

    /// How many pages from `key` on `entries` map without a gap and this UTLB does
    /// not hold. All are in the same 64 KiB, and in slots that follow each other.
    #[inline]
    pub(super) fn lacks(&self, Key { key, place }: Key, entries: &[u32]) -> usize {
        let slots = self.slots.get(place..self.end(place)).unwrap_or_default();
        let mut next = (key, entries.first().copied().unwrap_or_default());
        let mut pages = 0;
        for (raw, slot) in entries.iter().zip(slots) {
            let here = slot.key == next.0 && slot.entry.valid();
            if here || *raw != next.1 {
                break;
            }
            next = (next.0.wrapping_add(1), next.1.wrapping_add(NEXT_PAGE));
            pages += 1;
        }
        pages
    }

    /// Keeps the entry of this page, and of so many pages in all that follow it.
    #[inline]
    pub(super) fn insert_all(&mut self, Key { key, place }: Key, first: L3Entry, pages: usize) {
        let slots = self.slots.get_mut(place..).unwrap_or_default();
        let mut next = (key, first.into_bits());
        for slot in slots.iter_mut().take(pages) {
            let (key, entry) = (next.0, L3Entry::from_bits(next.1));
            *slot = Slot { key, entry };
            next = (next.0.wrapping_add(1), next.1.wrapping_add(NEXT_PAGE));
        }
    }

    /// The end of the client's slots.
    fn end(&self, place: usize) -> usize {
        (place | self.entries.wrapping_sub(1)).wrapping_add(1)
    }

    #[inline(always)]
    pub(super) fn lookup(&self, Key { key, place }: Key) -> Option<L3Entry> {
        let slot = self.slots.get(place)?;
        (slot.key == key && slot.entry.valid()).then_some(slot.entry)
    }

    /// Keeps a valid entry.
    #[inline(always)]
    pub(super) fn insert(&mut self, Key { key, place }: Key, entry: L3Entry) {
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Slot { key, entry };
        }
    }

    /// Every entry: client, process id, page number, entry.
    pub(super) fn held(&self) -> impl Iterator<Item = (FaultClient, u8, u64, L3Entry)> {
        let clients = self.slots.chunks_exact(self.entries.max(1));
        let all = FaultClient::ALL.iter().zip(clients);
        all.flat_map(|(client, slots)| slots.iter().map(|slot| (*client, slot)))
            .filter(|(_, slot)| slot.entry.valid())
            .map(|(client, Slot { key, entry })| {
                let page = u64::from(*key) & PAGE_MASK;
                (client, (key >> PAGE_BITS).to_le_bytes()[0], page, *entry)
            })
    }

    /// Drops the entries of all clients that agree in every compared bit.
    pub(super) fn invalidate(&mut self, what: Invalidation) {
        let [mask, wanted] = [
            compose(what.process_mask, what.page_mask),
            compose(what.process_id, what.page),
        ];
        for slot in &mut self.slots {
            if (slot.key ^ wanted) & mask == 0 {
                *slot = Slot::default();
            }
        }
    }
}

/// Process id in bits 31:28, page number below, as `PT_INV_ADDR` has them.
#[inline]
fn compose(process_id: u8, page: u64) -> u32 {
    u32::from(process_id) << PAGE_BITS | (page & PAGE_MASK) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use FaultClient::{BlitSource, Fence};

    const VALID: L3Entry = L3Entry::new().with_valid(true);

    #[test]
    fn each_client_and_process_has_its_own_entries() {
        let mut utlb = Utlb::new(UtlbSize::default());
        utlb.insert(utlb.key(Fence, 3, GpuVa(0x5000)), VALID);
        assert_eq!(utlb.lookup(utlb.key(Fence, 3, GpuVa(0x5fff))), Some(VALID));
        assert_eq!(utlb.lookup(utlb.key(BlitSource, 3, GpuVa(0x5000))), None);
        assert_eq!(utlb.lookup(utlb.key(Fence, 4, GpuVa(0x5000))), None);
        assert_eq!(utlb.lookup(utlb.key(Fence, 3, GpuVa(0x6000))), None);
    }

    #[test]
    fn a_size_of_zero_keeps_nothing() {
        let mut utlb = Utlb::new(UtlbSize::OFF);
        utlb.insert(utlb.key(Fence, 0, GpuVa(0)), VALID);
        assert_eq!(utlb.lookup(utlb.key(Fence, 0, GpuVa(0))), None);
    }

    #[test]
    fn one_page_among_16_can_be_invalidated() {
        let mut utlb = Utlb::new(UtlbSize::default());
        for page in 0..16 {
            utlb.insert(utlb.key(Fence, 1, GpuVa(page << 12)), VALID);
        }
        utlb.invalidate(Invalidation {
            page: 5,
            page_mask: !0,
            process_id: 1,
            process_mask: 0xf,
        });
        let left =
            (0..16).filter(|page| utlb.lookup(utlb.key(Fence, 1, GpuVa(page << 12))).is_some());
        assert_eq!(
            left.collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
        );
    }
}
