//! 70014: interrupts are used that a reset has closed.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;
use e3k_regs::fields::AdvancedInterrupts;

pub(super) static TEXT: Text = Text {
    id: RuleId(70014),
    title: "interrupts are used that a reset has closed",
    what: "A function reset has cleared the enable of fence interrupts, a fence interrupts, and \
           until the next reset or the end nobody writes ADVANCED_ENABLE.",
    why: "Nobody is woken, and the driver waits for its timeout.",
    happened: "panthor, a fix of 2025-04 about interrupts that could not come again.",
    mend: "Write the enables and the gate after every function reset, before work is submitted.",
    limits: "A driver that polls its first fences and enables later loses nothing: it is not \
             reported, nor is one that enables late by mistake. A driver that never enables and \
             polls on purpose is, if another one had enabled interrupts before the reset.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// The reset.
    lost: Option<u64>,
    /// The first fence that interrupts since, in words.
    unheard: Option<(u64, String)>,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Reset | Fact::End => {
                self.judge(log);
                let enabled = seen.register(Reg::AdvancedEnable).unwrap_or(0);
                let was = AdvancedInterrupts::from_bits(enabled).fence();
                self.lost = was.then_some(seen.at).or(self.lost);
            }
            Fact::Register(written) if written.reg == Reg::AdvancedEnable => {
                *self = Self::default();
            }
            Fact::Fence(fence) if fence.interrupt => {
                log.checked();
                self.unheard.get_or_insert_with(|| {
                    let place = format!("ring {} offset {:#x}", fence.ring, fence.ring_offset);
                    (seen.at, place)
                });
            }
            _ => {}
        }
    }
}

impl State {
    fn judge(&mut self, log: &Log<'_>) {
        let (Some(reset), Some((at, place))) = (self.lost, self.unheard.take()) else {
            return;
        };
        log.report(vec![("register", "ADVANCED_ENABLE".into())], || Finding {
            now: "nobody has written ADVANCED_ENABLE".into(),
            before: Some((at, format!("{place}: a fence that interrupts nobody"))),
            history: vec![format!(
                "a function reset closed the source at event {reset}"
            )],
            would_do: "ADVANCED_ENABLE written behind the reset".into(),
        });
    }
}
