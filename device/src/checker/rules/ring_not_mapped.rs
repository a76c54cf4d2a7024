//! 60005: a ring or called buffer is not mapped.

use crate::checker::fact::Fact;
use crate::checker::halted;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::{CspError, CspErrorKind};

pub(super) static TEXT: Text = Text {
    id: RuleId(60005),
    title: "a ring or called buffer is not mapped",
    what: "A packet cannot be fetched: the ring's or the called buffer's address has no \
           translation, or no memory.",
    why: "The ring stands at the fault until somebody resets it; with a stale translation it \
           executes whatever lies there.",
    happened: "xe, CVE-2025-68193, is of this kind.",
    mend: "Keep the ring, and every buffer that was called, mapped until the fence behind it has \
           come; invalidate what was cached of addresses that were mapped anew.",
    limits: "The page fault itself is in the fault history (`presil query CONTROL faults`). Under \
           `--on-fault halt` and `retry` the ring waits, and nothing is reported.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let blames = |error: &CspError| matches!(error.kind, CspErrorKind::FetchFault);
        halted::judge(
            fact,
            seen,
            log,
            blames,
            "the page mapped until the ring is done with it",
        );
    }
}
