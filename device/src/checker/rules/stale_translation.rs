//! 10001: a stale translation is used.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::stale::{self, Reason};
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(10001),
    title: "a stale translation is used",
    what: "An access is answered by a TLB entry that the L3 entry in the tables did not say any \
           more when the last doorbell was rung, and nothing was invalidated that could have been \
           meant for it.",
    why: "The GPU reads or writes a page that is somebody else's by now. On silicon it depends \
           on what else the TLB had to hold, so it shows under load only.",
    happened: "amdgpu, \"fix TLB flushing during eviction\" (2022-03).",
    mend: "Behind a change of a valid entry, and before the next doorbell, invalidate its address \
           for its process id in the DTLB and the UTLBs.",
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
        stale::judge(fact, log, Reason::Page);
    }
}
