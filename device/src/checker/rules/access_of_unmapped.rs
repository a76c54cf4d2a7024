//! 20003: a bus address is used that is not mapped for DMA.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::memory::{DmaMapping, Target};
use crate::mmu::look::Look;
use e3k_regs::BusAddr;

pub(super) static TEXT: Text = Text {
    id: RuleId(20003),
    title: "a bus address is used that is not mapped for DMA",
    what: "An entry of the page tables leads to a bus address that is in no DMA mapping, and an \
           access goes there. Where the same address is mapped with bits above the 32nd, those \
           were lost, and the report says so.",
    why: "Without an IOMMU the access goes to whatever is at that address; with one it faults.",
    happened: "msm, \"Fix 32b size truncation\"; radeon, \"fix scatter-gather mapping with user pages\" \
               (2020-03).",
    mend: "Write the address that the DMA API returned, all 40 bits of it, and only while the \
           mapping lives.",
    limits: "Only accesses are judged, not entries that nothing uses, and no tables. Needs a machine that tells \
             of DMA mappings (scripts/run --iommu); else it has nothing to judge.",
    level: Level::Warn,
};

/// Addresses of the bus have 8 bits more.
const ABOVE: u64 = 1 << 8;

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        if !seen.owners.known {
            return;
        }
        let Fact::Access(access, look) = fact else {
            return;
        };
        let Target::System(at, _) = access.target else {
            return;
        };
        log.checked();
        if look.dma_mapping(at) != DmaMapping::Unmapped || !look.bus_master() {
            return;
        }
        let page = BusAddr(at.page() << 12);
        let place = vec![
            ("bus", format!("{:#x}", page.0)),
            ("pid", access.process_id.to_string()),
            ("client", access.client.name().replace(' ', "-")),
        ];
        log.report(place, || Finding {
            now: format!(
                "{} {} {}, which is not mapped for DMA, at {}, process id {}, ring {} offset {:#x}",
                access.client.name(),
                if access.write { "writes" } else { "reads" },
                access.target,
                access.va,
                access.process_id,
                access.ring,
                access.ring_offset
            ),
            before: None,
            history: cut(page, look).into_iter().collect(),
            would_do: "an entry with the address that the DMA API returned".into(),
        });
    }

    fn hears_accesses(&self) -> bool {
        true
    }
}

/// The mapping whose upper bits were lost, if it is one.
fn cut(page: BusAddr, look: &Look<'_>) -> Option<String> {
    let low = page.0 >> 32 == 0;
    let mut whole = (1..ABOVE).map(|bits| BusAddr(bits << 32 | page.0));
    let found = whole.find(|at| low && look.dma_mapping(*at) == DmaMapping::Mapped)?;
    Some(format!(
        "{found} is mapped, which is the same in its low 32 bits"
    ))
}
