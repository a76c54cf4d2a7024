//! 20005: a ring is unmapped for DMA while it runs.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::owners::Lead;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::checker::unmapped;

pub(super) static TEXT: Text = Text {
    id: RuleId(20005),
    title: "a ring is unmapped for DMA while it runs",
    what: "A bus page is unmapped for DMA that a ring has read packets from, and the Kickoff bit of that ring is 1.",
    why: "The chip may fetch at any time, ahead as well. It takes what lies there for packets.",
    happened: "xe, CVE-2025-68193, is of this kind.",
    mend: "Stop the ring (Kickoff 0, or an engine reset) before its memory is given back.",
    limits: "Only pages are known that the ring has read, 1024 of all rings. Needs a machine that tells of DMA mappings (scripts/run --iommu); else it has nothing to judge.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        unmapped::judge(
            fact,
            log,
            |lead| matches!(lead, Lead::Ring(_)),
            "Kickoff 0 in the address of the ring before it",
        );
    }
}
