//! 60006: the base, size or Head of a ring changes while it runs.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::fields::RingWord;

pub(super) static TEXT: Text = Text {
    id: RuleId(60006),
    title: "the base, size or Head of a ring changes while it runs",
    what: "Address, Size or Head of a ring is written while its Kickoff bit is 1, with another \
           value; Head with any.",
    why: "The chip takes each at some moment of its own. It may read a packet at the new base \
           with the old Head.",
    happened: "i915, \"Disable the ring before resetting HEAD/TAIL\" (2021-01).",
    mend: "Write Address with Kickoff 0 first; set up; then Kickoff 1 (hardware reference 10.1).",
    limits: "The model takes the new values at the next packet (docs/model-choices.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        let Some((n, word)) = written.of_ring() else {
            return;
        };
        let Some(ring) = seen.rings.get(n).filter(|ring| ring.held.is_none()) else {
            return;
        };
        if word == RingWord::Tail || ring.runs() != Some(true) {
            return;
        }
        log.checked();
        let same = written.before == Some(written.value);
        let harmless = match word {
            RingWord::Address => same || written.value >> 31 == 0,
            RingWord::Head => false,
            RingWord::Size | RingWord::Tail => same,
        };
        if harmless {
            return;
        }
        let place = vec![("ring", n.to_string()), ("register", written.name())];
        log.report(place, || Finding {
            now: format!(
                "{} = {:#x} while ring {n} runs",
                written.name(),
                written.value
            ),
            before: None,
            history: ring.history(),
            would_do: format!("Kickoff 0 in the address of ring {n} before it"),
        });
    }
}
