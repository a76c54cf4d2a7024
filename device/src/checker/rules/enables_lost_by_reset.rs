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
    what: "A function reset has cleared the enable of fence interrupts, and a fence interrupts \
           before ADVANCED_ENABLE was written again.",
    why: "Nobody is woken, and the driver waits for its timeout.",
    happened: "panthor, a fix of 2025-04 about interrupts that could not come again.",
    mend: "Write the enables and the gate after every function reset, before work is submitted.",
    limits: "A driver that has enabled nothing since the reset and polls on purpose is reported as \
           well, if another one had enabled interrupts before.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    lost: Option<u64>,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Reset => {
                let enabled = seen.register(Reg::AdvancedEnable).unwrap_or(0);
                let was = AdvancedInterrupts::from_bits(enabled).fence();
                self.lost = was.then_some(seen.at).or(self.lost);
            }
            Fact::Register(written) if written.reg == Reg::AdvancedEnable => self.lost = None,
            Fact::Fence(fence) if fence.interrupt => {
                log.checked();
                let Some(at) = self.lost else {
                    return;
                };
                log.report(vec![("register", "ADVANCED_ENABLE".into())], || Finding {
                    now: format!(
                        "ring {} offset {:#x}: a fence that interrupts nobody",
                        fence.ring, fence.ring_offset
                    ),
                    before: Some((at, "a function reset closed the source".into())),
                    history: Vec::new(),
                    would_do: "ADVANCED_ENABLE written before it".into(),
                });
            }
            _ => {}
        }
    }
}
