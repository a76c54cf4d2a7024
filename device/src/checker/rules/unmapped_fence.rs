//! 20006: memory of a fence is unmapped for DMA before the fence is written.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::owners::Lead;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::checker::unmapped;

pub(super) static TEXT: Text = Text {
    id: RuleId(20006),
    title: "memory of a fence is unmapped for DMA before the fence is written",
    what: "A bus page is unmapped for DMA, and a packet that waits in a running ring writes a fence there.",
    why: "The fence is lost, or is written into another buffer.",
    happened: "amdgpu, \"Prevent race between late signaled fences and GPU reset\" (2022-06).",
    mend: "Wait for the fence, or reset the engine, before its memory is given back.",
    limits: "The ring's own packets are read at each doorbell, 4096 of them at most, not those in called buffers. A ring that halted or has begun its last packet is not judged. Needs a machine that tells of DMA mappings (scripts/run --iommu); else it has nothing to judge.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        unmapped::judge(
            fact,
            log,
            Lead::is_fence,
            "the fence, or an engine reset, before it",
        );
    }
}
