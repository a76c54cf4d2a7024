//! 10005: a process id has another address space and the TLBs were not told.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::stale::{self, Reason};
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(10005),
    title: "a process id has another address space and the TLBs were not told",
    what: "An access is answered by a TLB entry that was filled through an L1 register which \
           changed before the last doorbell, and nothing was invalidated that could have been \
           meant for it.",
    why: "One process reads and writes the memory of another.",
    happened: "amdgpu, CVE-2026-31462, is of this kind.",
    mend: "Invalidate everything of a process id before another address space gets it.",
    limits: "Tables are compared at doorbells and invalidations. What changed behind the last \
           doorbell may still be under way and is not reported; a page that was only unmapped is \
           reported from the second doorbell on. 384 lines of the shared TLB \
           and 256 of the clients' own ones are remembered; with larger TLBs some uses are missed.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        stale::judge(fact, log, Reason::Space);
    }
}
