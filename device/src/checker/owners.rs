//! What leads to a page of system memory that the driver unmaps for DMA.

use crate::checker::path::leads_to;
use crate::memory::{DmaMapping, Target};
use crate::mmu::look::Look;
use e3k_regs::{BusAddr, GpuVa};
use std::collections::BTreeMap;

/// Entries that are remembered.
const ENTRIES: usize = 8192;

/// How a packet uses what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A fence is written there.
    Fence,
    /// It is called.
    Buffer,
    /// A surface begins there.
    Surface,
}

/// One name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    /// Byte offset in the ring of the packet.
    pub(crate) offset: u32,
    pub(crate) process_id: u8,
    pub(crate) va: GpuVa,
    pub(crate) named: Named,
    /// Where it was by the tables of the doorbell.
    pub(crate) at: Target,
    /// The doorbell's event.
    pub(crate) since: u64,
}

/// What still leads to a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lead {
    /// A ring that runs has read packets from it.
    Ring(usize),
    /// A packet in a ring names it.
    Name(usize, Name),
    /// It is a page table, and an entry leads there.
    Table,
    /// An entry of the tables, read by a walk at this event.
    Entry(Key, u64),
    /// The same of an entry that only a TLB has.
    Tlb(Key, u64),
}

/// Of which address it is the translation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) process_id: u8,
    pub(crate) va: GpuVa,
}

/// A page that is unmapped, and what leads to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unmapped {
    pub(crate) page: BusAddr,
    pub(crate) lead: Lead,
}

/// Which pages the GPU has found in tables, as far as the machine tells of DMA mappings.
#[derive(Default)]
pub(crate) struct Owners {
    /// The machine tells of them, as of the last doorbell.
    pub(crate) known: bool,
    /// The event, by page (28 bits), process id (4) and page of the address (28): packed,
    /// as they are many.
    entries: BTreeMap<u64, u64>,
}

fn packed(page: BusAddr, process_id: u8, va: GpuVa) -> u64 {
    page.page() << 32 | u64::from(process_id & 0xf) << 28 | va.page() & 0xfff_ffff
}

fn unpacked(packed: u64) -> (BusAddr, Key) {
    let key = Key {
        process_id: (packed >> 28 & 0xf) as u8,
        va: GpuVa((packed & 0xfff_ffff) << 12),
    };
    (BusAddr(packed >> 32 << 12), key)
}

impl Owners {
    /// A doorbell was rung.
    pub(crate) fn doorbell(&mut self, look: &Look<'_>) {
        self.known = look.dma_mapping(BusAddr(0)) != DmaMapping::Unknown;
    }

    /// A walk has read the entries of pages that follow each other.
    pub(crate) fn walked(
        &mut self,
        at: u64,
        process_id: u8,
        va: GpuVa,
        entries: &[u32],
        look: &Look<'_>,
    ) {
        for (entry, n) in entries.iter().zip(0..) {
            let Some(Target::System(page, _)) = leads_to(*entry) else {
                continue;
            };
            if look.dma_mapping(page) == DmaMapping::Unknown {
                return;
            }
            if self.entries.len() >= ENTRIES {
                self.entries.clear();
            }
            let key = packed(page, process_id, GpuVa(va.0 + (n << 12)));
            self.entries.entry(key).or_insert(at);
        }
    }

    /// Nothing is translated any more.
    pub(crate) fn reset(&mut self) {
        self.entries.clear();
    }

    /// Forgets the entries that lead to these pages.
    pub(crate) fn take(&mut self, first: BusAddr, last: BusAddr) -> Vec<(BusAddr, Key, u64)> {
        let all = packed(first, 0, GpuVa(0))..=packed(last, 0xf, GpuVa(u64::MAX));
        let taken: Vec<_> = self
            .entries
            .range(all)
            .map(|(key, at)| (*key, *at))
            .collect();
        for (key, _) in &taken {
            self.entries.remove(key);
        }
        let taken = taken.into_iter();
        taken
            .map(|(key, at)| {
                let (page, key) = unpacked(key);
                (page, key, at)
            })
            .collect()
    }
}

impl Lead {
    /// Whether it is a fence that is still to be written.
    pub(crate) fn is_fence(&self) -> bool {
        matches!(self, Self::Name(_, name) if name.named == Named::Fence)
    }
}
