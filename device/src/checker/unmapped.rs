//! Memory that is unmapped for DMA too early: what leads there, and what rules say of it.

use crate::checker::fact::Fact;
use crate::checker::log::Log;
use crate::checker::owners::{Key, Lead, Name, Named, Owners, Unmapped};
use crate::checker::path::leads_to;
use crate::checker::report::{Finding, Place};
use crate::checker::seen::{RingSeen, Seen};
use crate::memory::{DmaMapping, Target};
use crate::mmu::look::Look;
use e3k_regs::BusAddr;

/// No page of an IOMMU is larger. What is unmapped beyond that is an address space that
/// goes, with the guest or its IOMMU.
const LARGEST: u64 = 1 << 30;

/// Bus addresses that are about to be unmapped.
pub(crate) struct Unmapping {
    first: BusAddr,
    last: BusAddr,
    entries: Vec<(BusAddr, Key, u64)>,
}

impl Unmapping {
    /// The addresses `first..=last`; `None`: that says nothing of the driver.
    pub(crate) fn of_driver(
        owners: &mut Owners,
        (first, last): (BusAddr, BusAddr),
        look: &Look<'_>,
    ) -> Option<Self> {
        if last.0.saturating_sub(first.0) >= LARGEST {
            owners.reset();
            return None;
        }
        let entries = owners.take(first, last);
        let told = look.dma_mapping(first) != DmaMapping::Unknown;
        (told && look.bus_master()).then_some(Self {
            first,
            last,
            entries,
        })
    }

    /// What leads there, if anything does.
    pub(crate) fn lead(self, seen: &Seen, look: &Look<'_>) -> Option<Unmapped> {
        let Self {
            first,
            last,
            entries,
        } = self;
        let ring = || {
            let mut rings = seen.kernel.rings_in(first, last);
            let (page, ring) = rings.find(|(_, ring)| runs(seen, *ring))?;
            let lead = Lead::Ring(ring);
            Some(Unmapped { page, lead })
        };
        let table = || {
            let page = seen.kernel.table_in(first, last, look)?;
            let lead = Lead::Table;
            Some(Unmapped { page, lead })
        };
        let entry = || {
            let mut entries = entries.into_iter();
            entries.find_map(|entry| entry_leads(seen, entry, look))
        };
        ring()
            .or_else(|| name_in(seen, first, last, look))
            .or_else(table)
            .or_else(entry)
    }
}

fn runs(seen: &Seen, ring: usize) -> bool {
    let ring = seen.rings.get(ring);
    ring.and_then(RingSeen::runs) == Some(true)
}

/// A name in a ring that goes on by itself, if the tables do not say meanwhile that it is
/// of another page.
fn name_in(seen: &Seen, first: BusAddr, last: BusAddr, look: &Look<'_>) -> Option<Unmapped> {
    let stands = |name: &&Name| {
        let page = name.at.page();
        let now = look.entry(name.process_id, name.va).and_then(leads_to);
        let same = now.is_none_or(|now| matches!(now, Target::System(to, _) if to.page() == page));
        (first.page()..=last.page()).contains(&page) && same
    };
    seen.rings.iter().enumerate().find_map(|(n, ring)| {
        let goes_on = ring.runs() == Some(true) && ring.halted.is_none() && ring.held.is_none();
        let waits = goes_on && ring.left().is_some();
        let name = waits.then(|| ring.queued.iter().find(stands)).flatten()?;
        Some(Unmapped {
            page: BusAddr(name.at.page() << 12),
            lead: Lead::Name(n, *name),
        })
    })
}

/// An entry that was read of a page, if the tables or a TLB still have it.
fn entry_leads(
    seen: &Seen,
    (page, key, at): (BusAddr, Key, u64),
    look: &Look<'_>,
) -> Option<Unmapped> {
    let leads = |entry: Option<u32>| {
        let target = entry.and_then(leads_to);
        matches!(target, Some(Target::System(to, _)) if to == page)
    };
    let Key { process_id, va } = key;
    let lead = if leads(look.entry(process_id, va)) {
        Lead::Entry(key, at)
    } else if seen.tlbs.hold(process_id, va, |entry| leads(Some(entry))) {
        Lead::Tlb(key, at)
    } else {
        return None;
    };
    Some(Unmapped { page, lead })
}

/// Reports memory that is unmapped although a lead of the rule's goes there.
pub(crate) fn judge(
    fact: &Fact<'_>,
    log: &Log<'_>,
    is_mine: impl FnOnce(&Lead) -> bool,
    would_do: &str,
) {
    let Fact::DmaUnmaps(found) = fact else {
        return;
    };
    log.checked();
    let Some(unmapped) = found.filter(|unmapped| is_mine(&unmapped.lead)) else {
        return;
    };
    log.report(place(&unmapped), || Finding {
        now: format!("{} is unmapped for DMA", unmapped.page),
        before: before(&unmapped.lead),
        history: Vec::new(),
        would_do: would_do.into(),
    });
}

fn place(unmapped: &Unmapped) -> Place {
    let mut place = vec![("bus", format!("{:#x}", unmapped.page.0))];
    match unmapped.lead {
        Lead::Ring(ring) => place.push(("ring", ring.to_string())),
        Lead::Name(ring, name) => {
            place.push(("ring", ring.to_string()));
            place.push(("va", format!("{:#x}", name.va.0)));
        }
        Lead::Table => {}
        Lead::Entry(key, _) | Lead::Tlb(key, _) => {
            place.push(("pid", key.process_id.to_string()));
            place.push(("va", format!("{:#x}", key.va.0)));
        }
    }
    place
}

fn before(lead: &Lead) -> Option<(u64, String)> {
    Some(match lead {
        Lead::Ring(_) | Lead::Table => return None,
        Lead::Name(ring, name) => {
            let what = match name.named {
                Named::Fence => "a fence is to be written",
                Named::Buffer => "a buffer is to be called",
                Named::Surface => "a surface is to be used",
            };
            let said = format!(
                "{what} at {}, process id {}, by the packet at offset {:#x} of ring {ring}, which was submitted",
                name.va, name.process_id, name.offset
            );
            (name.since, said)
        }
        Lead::Entry(key, at) => {
            let said = format!(
                "the tables still lead there from {}, process id {}, and a walk has read that",
                key.va, key.process_id
            );
            (*at, said)
        }
        Lead::Tlb(key, at) => {
            let said = format!(
                "a TLB still leads there from {}, process id {}, by a walk",
                key.va, key.process_id
            );
            (*at, said)
        }
    })
}
