//! 70017: the function sleeps with work in flight.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(70017),
    title: "the function sleeps with work in flight",
    what: "The function leaves D0 while a ring that runs has packets left that are more than padding.",
    why: "The work stops wherever it is, and waking is a reset: it is lost with its fences, and whoever waits for them waits for ever.",
    happened: "xe, CVE-2026-23466, is of this kind.",
    mend: "Wait for the last fence, or stop the rings, before the function is put to sleep.",
    limits: "A ring that halted, or has begun its last packet, is not judged. The virtio device does not sleep.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Sleeps = fact else {
            return;
        };
        log.checked();
        for (n, ring) in seen.rings.iter().enumerate() {
            let goes_on = ring.runs() == Some(true) && ring.halted.is_none() && ring.held.is_none();
            if !goes_on || ring.left().is_none() {
                continue;
            }
            log.report(vec![("ring", n.to_string())], || Finding {
                now: format!("the function leaves D0, and ring {n} has packets left"),
                before: None,
                history: ring.history(),
                would_do: format!("Head of ring {n} at its Tail, or Kickoff 0, before it"),
            });
        }
    }
}
