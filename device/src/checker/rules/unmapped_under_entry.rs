//! 20001: memory is unmapped for DMA while the page tables lead to it.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::owners::Lead;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::checker::unmapped;

pub(super) static TEXT: Text = Text {
    id: RuleId(20001),
    title: "memory is unmapped for DMA while the page tables lead to it",
    what: "A bus page is unmapped for DMA, and a valid entry of the tables, below a live L1 register, leads to it.",
    why: "The bus address is soon another buffer's. Until the entry is gone, whatever uses it reads or writes that buffer, or faults in the IOMMU.",
    happened: "amdkfd, \"Move dma unmapping after TLB flush\" (2023-09); Mali, CVE-2022-33917, is of this kind.",
    mend: "First the entry, then the TLB invalidation, then the DMA mapping.",
    limits: "Only entries are known that a walk has read, 8192 of them; a walk reads the 16 entries of 64 KiB. A function that is no bus master reaches nothing and is not judged. Needs a machine that tells of DMA mappings (scripts/run --iommu); else it has nothing to judge.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        unmapped::judge(
            fact,
            log,
            |lead| matches!(lead, Lead::Entry(..)),
            "an entry that leads elsewhere, and an invalidation, before it",
        );
    }
}
