//! 60010: work for a ring that does not run.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::RINGS;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::fields::RingWord;

pub(super) static TEXT: Text = Text {
    id: RuleId(60010),
    title: "work for a ring that does not run",
    what: "Tail of a ring is moved for the second time while its Kickoff bit is 0, to other \
           values than 0.",
    why: "The chip does not look at the ring: nothing is executed, and no fence comes.",
    happened: "panthor, a fix of 2025-04 about interrupts that could not come again, is of this kind: \
           what was stopped was not started again.",
    mend: "Write Address with Kickoff 1 behind the set-up (hardware reference 10.1).",
    limits: "One Tail before Kickoff is let pass: whether a ring may be filled before it is started \
           is not known. A ring that a reset has taken is 70010.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// By ring: the first Tail while it is stopped.
    first: [Option<(u64, u32)>; RINGS],
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let written = match fact {
            Fact::Register(written) => written,
            Fact::Reset => return *self = Self::default(),
            _ => return,
        };
        let Some((n, word)) = written.of_ring() else {
            return;
        };
        let (Some(ring), Some(first)) = (seen.rings.get(n), self.first.get_mut(n)) else {
            return;
        };
        if word != RingWord::Tail {
            *first = first.filter(|_| word != RingWord::Address);
            return;
        }
        if ring.runs() != Some(false) || ring.lost.is_some() || ring.held.is_some() {
            *first = None;
            return;
        }
        log.checked();
        if written.value == 0 {
            return;
        }
        let Some((at, tail)) = first.replace((seen.at, written.value)) else {
            return;
        };
        log.report(vec![("ring", n.to_string())], || Finding {
            now: format!(
                "Tail of ring {n} = {:#x}, and the ring is stopped",
                written.value
            ),
            before: Some((at, format!("Tail was {tail:#x} already"))),
            history: ring.history(),
            would_do: "Kickoff 1 in its address".into(),
        });
    }
}
