//! 70010: a ring is used that a reset has taken.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::fields::RingWord;

pub(super) static TEXT: Text = Text {
    id: RuleId(70010),
    title: "a ring is used that a reset has taken",
    what: "Tail of a ring that ran before an engine or function reset is moved to another value \
           than 0 and Head, and the ring was not started again.",
    why: "The reset took its address, size and Kickoff: nothing is executed, and no fence comes.",
    happened: "i915, \"Reapply ppgtt enabling after engine resets\" (2021-01).",
    mend: "Set the ring up again after every reset of its engine (hardware reference 9.1, 10.1).",
    limits: "A ring that the checker has not seen running before the reset is 60010.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        let Some((n, RingWord::Tail)) = written.of_ring() else {
            return;
        };
        let Some(ring) = seen.rings.get(n).filter(|ring| ring.held.is_none()) else {
            return;
        };
        log.checked();
        // Where Head is already, nothing is asked for.
        let empty = ring.position == Some(written.value);
        let Some(at) = ring.lost.filter(|_| written.value != 0 && !empty) else {
            return;
        };
        log.report(vec![("ring", n.to_string())], || Finding {
            now: format!(
                "Tail of ring {n} = {:#x}, and the ring is not set up",
                written.value
            ),
            before: Some((at, "a reset took it".into())),
            history: ring.history(),
            would_do: "address, size, Head, Tail and Kickoff written before it".into(),
        });
    }
}
