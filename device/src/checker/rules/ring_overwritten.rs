//! 60009: packets are overwritten before they were fetched.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::fields::RingWord;

pub(super) static TEXT: Text = Text {
    id: RuleId(60009),
    title: "packets are overwritten before they were fetched",
    what: "Tail of a running ring is moved so far that it reaches or passes Head: what it has \
           passed was not fetched yet.",
    why: "The chip executes the new contents where old ones were meant, or takes the ring for \
           empty and loses everything.",
    happened: "msm, \"Handle ringbuffer overflow\" (2021-04).",
    mend: "Keep at least one dword free between Tail and Head; read Head when there seems to be \
           no room.",
    limits: "Head is what the model has begun, so a driver that is too early by one packet may \
           pass. A Tail that is moved backwards over an empty ring counts as a whole lap, and is \
           not seen.",
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
        let Some(ring) = seen.rings.get(n) else {
            return;
        };
        let runs = ring.runs() == Some(true) && ring.halted.is_none() && ring.held.is_none();
        let known = (
            ring.position,
            ring.word(RingWord::Tail),
            ring.word(RingWord::Size),
        );
        let (true, (Some(head), Some(tail), Some(size))) = (runs, known) else {
            return;
        };
        let new = written.value;
        if head >= size || tail >= size || new >= size {
            return; // 60004 says so
        }
        log.checked();
        let distance = |from: u32, to: u32| {
            (u64::from(to) + u64::from(size) - u64::from(from)) % u64::from(size)
        };
        let used = distance(head, tail);
        if used == 0 || used + distance(tail, new) < size.into() {
            return;
        }
        log.report(vec![("ring", n.to_string())], || Finding {
            now: format!("Tail of ring {n} goes from {tail:#x} to {new:#x} over Head, {head:#x}"),
            before: None,
            history: ring.history(),
            would_do: format!("to wait until Head is behind {new:#x}"),
        });
    }
}
