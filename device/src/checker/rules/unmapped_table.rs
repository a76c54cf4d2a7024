//! 20004: a page table is unmapped for DMA while an entry leads to it.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::owners::Lead;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::checker::unmapped;

pub(super) static TEXT: Text = Text {
    id: RuleId(20004),
    title: "a page table is unmapped for DMA while an entry leads to it",
    what: "A bus page is unmapped for DMA that is a table: an L1 register, or an L2 entry below one, leads there.",
    why: "The next walk reads whatever lies at that bus address then, and takes it for entries.",
    happened: "amdgpu, \"sync page table freeing with tlb flush\" (2024-03).",
    mend: "Clear the entry or L1 register that leads to the table and invalidate, then give the table back.",
    limits: "Only tables are known that a walk has read, 4096 of them. Needs a machine that tells of DMA mappings (scripts/run --iommu); else it has nothing to judge.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        unmapped::judge(
            fact,
            log,
            |lead| matches!(lead, Lead::Table),
            "the entry that leads to the table cleared before it",
        );
    }
}
