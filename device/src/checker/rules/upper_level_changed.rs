//! 10002: a table was replaced and the TLBs were not told.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::stale::{self, Reason};
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(10002),
    title: "a table was replaced and the TLBs were not told",
    what: "An access is answered by a TLB entry from below an L2 entry that changed before the \
           last doorbell, and nothing was invalidated that could have been meant for it.",
    why: "A whole 4 MiB of address space goes on through the old table.",
    happened: "amdgpu, \"flush TLB if valid PDE turns into PTE\" (2021-05), and \"Update PDEs flush \
           TLB if PTB/PDB moved\" (2022-06).",
    mend: "Invalidate the 4 MiB behind the L2 entry.",
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
        stale::judge(fact, log, Reason::UpperLevel);
    }
}
