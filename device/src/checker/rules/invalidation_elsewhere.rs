//! 10003: an invalidation was for something else.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::stale::{self, Reason};
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(10003),
    title: "an invalidation was for something else",
    what: "An access is answered by a stale TLB entry, and since the tables changed an \
           invalidation came that agrees with it but for the TLB, the process id or the page.",
    why: "The driver believes that it has invalidated. The entry stays until something else \
           takes its place.",
    happened: "amdgpu, \"flush the correct vmid tlb for specific pasid\" (2023-10); i915, \
           \"Invalidate TLB of the OA unit\" (2022-07).",
    mend: "Take the process id, the pages and the TLBs of the invalidation from what was changed.",
    limits: "An invalidation that was meant for something else, and had nothing to do there, is \
           taken for one that missed. Tables are compared at doorbells and invalidations. What \
           changed behind the last doorbell may still be under way and is not reported; a page \
           that was only unmapped is reported from the second doorbell on. 384 lines of the shared TLB \
           and 256 of the clients' own ones are remembered; with larger TLBs \
           some uses are missed.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        stale::judge(fact, log, Reason::Elsewhere);
    }
}
