//! 20007: memory is unmapped for DMA that queued work names.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::owners::Lead;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::checker::unmapped;

pub(super) static TEXT: Text = Text {
    id: RuleId(20007),
    title: "memory is unmapped for DMA that queued work names",
    what: "A bus page is unmapped for DMA, and a packet that waits in a running ring calls a buffer there, or sets a surface that begins there.",
    why: "The work runs later and finds nothing, or another buffer.",
    happened: "panthor, \"Evict groups before VM termination\" (2025-12); msm, \"Fix premature purging of BO\" (2020-09).",
    mend: "Wait for the fence behind the work before its memory is given back.",
    limits: "As 20006. Of a buffer or surface the page of the first byte is known. A name whose entry leads to another page by then is not judged. Needs a machine that tells of DMA mappings (scripts/run --iommu); else it has nothing to judge.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        unmapped::judge(
            fact,
            log,
            |lead| matches!(lead, Lead::Name(..)) && !lead.is_fence(),
            "the fence behind that work before it",
        );
    }
}
