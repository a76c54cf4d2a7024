//! 60005: a ring or called buffer is not mapped.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::CspErrorKind;

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
        let error = match fact {
            Fact::Halted(error) => error,
            Fact::Packet(_) => return log.checked(),
            _ => return,
        };
        log.checked();
        if !(matches!(error.kind, CspErrorKind::FetchFault)) {
            return;
        }
        let place = vec![
            ("ring", error.ring.to_string()),
            ("dword", format!("{:#010x}", error.dword)),
        ];
        log.report(place, || Finding {
            now: error.to_string(),
            before: None,
            history: seen.history(error.ring.into()),
            would_do: "the page mapped until the ring is done with it".into(),
        });
    }
}
