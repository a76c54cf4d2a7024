//! 60007: a ring is stopped while it has work.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::fields::RingWord;

pub(super) static TEXT: Text = Text {
    id: RuleId(60007),
    title: "a ring is stopped while it has work",
    what: "Kickoff 0 is written to a ring that has not halted and still has packets before Tail.",
    why: "What is left is dropped, its fences never come, and a copy in flight ends half way.",
    happened: "i915, \"Be paranoid and reset the GPU before release\" (2020-01), is of this kind.",
    mend: "Wait for the last fence before the ring is stopped. After a hang, reset the engine \
           first (0x8524), and complete the fences of what was lost.",
    limits: "A copy whose packet was the last before Tail may still be in flight; that is not seen.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        let Some((n, RingWord::Address)) = written.of_ring() else {
            return;
        };
        let Some(ring) = seen.rings.get(n).filter(|ring| ring.held.is_none()) else {
            return;
        };
        if written.value >> 31 == 1 || ring.runs() != Some(true) || ring.halted.is_some() {
            return;
        }
        let Some(has_packets) = ring.has_packets() else {
            return;
        };
        log.checked();
        if !has_packets {
            return;
        }
        log.report(vec![("ring", n.to_string())], || Finding {
            now: format!(
                "ring {n} is stopped with packets from {:#x} to Tail {:#x}",
                ring.position.unwrap_or(0),
                ring.word(RingWord::Tail).unwrap_or(0)
            ),
            before: None,
            history: ring.history(),
            would_do: "to wait for the ring's last fence, or an engine reset".into(),
        });
    }
}
