//! 60004: ring registers that cannot be.

use crate::checker::fact::Fact;
use crate::checker::halted;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::{CspError, CspErrorKind};

pub(super) static TEXT: Text = Text {
    id: RuleId(60004),
    title: "ring registers that cannot be",
    what: "A ring is to run whose Size, Head or Tail is no multiple of 4, or whose Head or Tail \
           is not below Size.",
    why: "The chip reads beyond the ring's memory.",
    happened: "i915, \"Disable the ring before resetting HEAD/TAIL\" (2021-01), is of this kind.",
    mend: "Size in bytes, as much as is mapped; Tail wraps to 0 before it reaches Size.",
    limits: "The model halts the ring and signals its unit's error; what the chip does is not known \
           (docs/model-choices.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let blames = |error: &CspError| matches!(error.kind, CspErrorKind::BadRing { .. });
        halted::judge(
            fact,
            seen,
            log,
            blames,
            "Head and Tail below Size, all multiples of 4",
        );
    }
}
