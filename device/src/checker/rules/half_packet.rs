//! 60001: Tail is moved onto half a packet.

use crate::checker::fact::Fact;
use crate::checker::halted;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::{CspError, CspErrorKind};

pub(super) static TEXT: Text = Text {
    id: RuleId(60001),
    title: "Tail is moved onto half a packet",
    what: "A ring reads a packet that is longer than what lies before Tail, or before the ring's \
           end.",
    why: "The chip takes what is behind Tail for the rest of the packet: old contents of the \
           ring.",
    happened: "i915/guc, \"Ensure H2G buffer updates visible before tail update\", is of this kind: \
           Tail told of what was not there.",
    mend: "Move Tail over whole packets. A packet is never split at the ring's end: fill the rest \
           with zero dwords and begin at 0.",
    limits: "The model halts the ring and signals its unit's error; what the chip does is not known \
           (docs/model-choices.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let blames = |error: &CspError| {
            matches!(error.kind, CspErrorKind::Truncated { .. }) && !error.in_buffer
        };
        halted::judge(fact, seen, log, blames, "Tail behind the whole packet");
    }
}
