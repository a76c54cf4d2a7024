//! 20002: memory is unmapped for DMA while a TLB has it.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::owners::Lead;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::checker::unmapped;

pub(super) static TEXT: Text = Text {
    id: RuleId(20002),
    title: "memory is unmapped for DMA while a TLB has it",
    what: "A bus page is unmapped for DMA. The tables lead there no more, and a TLB entry that was filled before still does: nothing has invalidated it.",
    why: "The bus address is soon another buffer's, and the GPU still reaches it by the old translation.",
    happened: "amdkfd, \"Move dma unmapping after TLB flush\" (2023-09); i915, \"Flush TLBs before releasing backing store\" (2021-10).",
    mend: "Invalidate the address for its process id in the DTLB and the UTLBs before the page is unmapped.",
    limits: "A TLB may have dropped the entry for others: that is luck. What is remembered of TLBs and entries is bounded (10001, 20001). Needs a machine that tells of DMA mappings (scripts/run --iommu); else it has nothing to judge.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        unmapped::judge(
            fact,
            log,
            |lead| matches!(lead, Lead::Tlb(..)),
            "an invalidation of that address before it",
        );
    }
}
