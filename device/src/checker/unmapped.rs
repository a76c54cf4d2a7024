//! Memory that is unmapped for DMA too early: what leads there, and what rules say of it.

use crate::checker::fact::Fact;
use crate::checker::log::Log;
use crate::checker::owners::{Key, Lead, Name, Named, Owners, Unmapped};
use crate::checker::path::{leads_to, place};
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
        let Target::System(at, _) = name.at else {
            return false;
        };
        let page = at.page();
        let same = |now| matches!(now, Target::System(to, _) if to.page() == page);
        (first.page()..=last.page()).contains(&page)
            && place(look, name.process_id, name.va).is_none_or(same)
    };
    let (ring, name) = waiting(seen).find(|(_, name)| stands(name))?;
    Some(Unmapped {
        page: BusAddr(name.at.address() & !0xfff),
        lead: Lead::Name(ring, *name),
    })
}

/// What packets name that wait in rings which go on by themselves, with their ring.
fn waiting(seen: &Seen) -> impl Iterator<Item = (usize, &Name)> {
    let rings = seen.rings.iter().enumerate().filter(|(_, ring)| {
        let goes_on = ring.runs() == Some(true) && ring.halted.is_none() && ring.held.is_none();
        goes_on && ring.left().is_some()
    });
    rings.flat_map(|(n, ring)| ring.queued.iter().map(move |name| (n, name)))
}

/// A name that waits and that the tables do not know any more.
pub(crate) fn forgotten(seen: &Seen, look: &Look<'_>) -> Option<(usize, Name)> {
    let mut all = waiting(seen);
    let (ring, name) = all.find(|(_, name)| place(look, name.process_id, name.va).is_none())?;
    Some((ring, *name))
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
    log.report(keys(&unmapped), || Finding {
        now: format!("{} is unmapped for DMA", unmapped.page),
        before: before(&unmapped.lead),
        history: Vec::new(),
        would_do: would_do.into(),
    });
}

fn keys(unmapped: &Unmapped) -> Place {
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
        Lead::Name(ring, name) => (name.since, said_of(*ring, name)),
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

/// What a packet that waits does, in words.
pub(crate) fn said_of(ring: usize, name: &Name) -> String {
    let what = match name.named {
        Named::Fence => "a fence is to be written",
        Named::Buffer => "a buffer is to be called",
        Named::Surface => "a surface is to be used",
    };
    format!(
        "{what} at {}, process id {}, by the packet at offset {:#x} of ring {ring}, which was submitted",
        name.va, name.process_id, name.offset
    )
}
