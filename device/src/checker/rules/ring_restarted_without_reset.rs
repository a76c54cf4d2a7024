//! 60007: a ring that was stopped with work is started again without a reset.

use crate::checker::fact::{Fact, Written};
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::{RINGS, Seen};
use crate::checker::text::{RuleId, Text};
use e3k_regs::fields::RingWord;

pub(super) static TEXT: Text = Text {
    id: RuleId(60007),
    title: "a ring that was stopped with work is started again without a reset",
    what: "Kickoff 0 was written to a ring that had not halted and had packets before Tail, and \
           Kickoff 1 is written without an engine or function reset in between. Padding and an \
           Indicator off behind a fence that is written are no such packets.",
    why: "What was in flight is dropped half way, and on silicon may go on writing for a while: \
          into memory that was given away, over the new work's data. Its fences never come.",
    happened: "i915, \"Be paranoid and reset the GPU before release\" (2020-01), is of this kind.",
    mend: "Wait for the last fence before the ring is stopped. After a hang, stop it, reset the \
           engine (0x8524), and complete the fences of what was lost.",
    limits: "A copy whose packet was the last before Tail may still be in flight; that is not seen. \
             Stopping alone is not reported: that is how a driver gives a GPU up.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// By ring: when it was stopped with work, where it stood, and its Tail.
    stopped: [Option<(u64, u32, u32)>; RINGS],
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Register(written) => self.register(written, seen, log),
            Fact::Reset => *self = Self::default(),
            _ => {}
        }
    }
}

impl State {
    fn register(&mut self, written: &Written, seen: &Seen, log: &Log<'_>) {
        // A reset in between: the ring lost what it had.
        for (stopped, ring) in self.stopped.iter_mut().zip(&seen.rings) {
            *stopped = stopped.filter(|_| ring.held.is_none());
        }
        let Some((n, RingWord::Address)) = written.of_ring() else {
            return;
        };
        let (Some(ring), Some(stopped)) = (seen.rings.get(n), self.stopped.get_mut(n)) else {
            return;
        };
        let kick = written.value >> 31 == 1;
        if !kick {
            let works = ring.runs() == Some(true) && ring.halted.is_none() && ring.held.is_none();
            if let Some((head, tail)) = ring.left().filter(|_| works) {
                *stopped = Some((seen.at, head, tail));
            }
            return;
        }
        log.checked();
        let Some((at, head, tail)) = stopped.take() else {
            return;
        };
        log.report(vec![("ring", n.to_string())], || Finding {
            now: format!("ring {n} is started"),
            before: Some((
                at,
                format!("it was stopped with packets from {head:#x} to Tail {tail:#x}"),
            )),
            history: ring.history(),
            would_do: "to wait for the ring's last fence before it is stopped, or an engine reset"
                .into(),
        });
    }
}
