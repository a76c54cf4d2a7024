//! 50004: a Wait that nothing before it satisfies.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::CspErrorKind;

pub(super) static TEXT: Text = Text {
    id: RuleId(50004),
    title: "a Wait that nothing before it satisfies",
    what: "A ring reaches a Wait whose internal fence counter has not its value when all earlier \
           work of the ring is done.",
    why: "Counters belong to one ring, and what follows on it comes later: the ring stands for \
           ever.",
    happened: "amdgpu and the scheduler, \"deadlock caused by unsignaled fences\" (2017-09), is of \
           this kind.",
    mend: "Put the internal fence in front of the Wait, with the value and the slot that it waits \
           for.",
    limits: "Whether rings share counters is not known; the model gives each ring its own \
           (docs/model-choices.md). With `--on-wait halt` the ring halts there as well.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Packet(command) if command.is_wait() => log.checked(),
            Fact::Unmet(wait) => {
                let ring = wait.ring.to_string();
                report(
                    wait.slot,
                    wait.value,
                    wait.counter,
                    (ring, wait.offset),
                    seen,
                    log,
                );
            }
            Fact::Halted(error) => {
                if let CspErrorKind::UnmetWait {
                    slot,
                    value,
                    counter,
                } = error.kind
                {
                    report(
                        slot,
                        value,
                        counter,
                        (error.ring.to_string(), error.offset),
                        seen,
                        log,
                    );
                }
            }
            _ => {}
        }
    }
}

fn report(slot: u8, value: u16, counter: u16, at: (String, u32), seen: &Seen, log: &Log<'_>) {
    let (ring, offset) = at;
    let n: usize = ring.parse().unwrap_or(0);
    let place = vec![
        ("ring", ring),
        ("slot", slot.to_string()),
        ("value", format!("{value:#x}")),
    ];
    log.report(place, || Finding {
        now: format!("ring {n} offset {offset:#x} waits for {value:#x} in slot {slot}, which holds {counter:#x}"),
        before: None,
        history: seen.history(n),
        would_do: format!("an internal fence {value:#x} in slot {slot} before it"),
    });
}
