//! 60002: the length of a called buffer cuts a packet.

use crate::checker::fact::Fact;
use crate::checker::halted;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::{CspError, CspErrorKind};

pub(super) static TEXT: Text = Text {
    id: RuleId(60002),
    title: "the length of a called buffer cuts a packet",
    what: "A called buffer's last packet is longer than what is left of the buffer.",
    why: "The chip takes whatever lies behind the buffer for the rest of the packet.",
    happened: "etnaviv, a fix of a prefetch that was off by one, is of this kind.",
    mend: "Call with the buffer's whole length in dwords; pad with zero dwords, not by cutting.",
    limits: "The model halts the ring and signals its unit's error; what the chip does is not known \
           (docs/model-choices.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let blames = |error: &CspError| {
            matches!(error.kind, CspErrorKind::Truncated { .. }) && error.in_buffer
        };
        halted::judge(
            fact,
            seen,
            log,
            blames,
            "a Dma with the buffer's whole length",
        );
    }
}
