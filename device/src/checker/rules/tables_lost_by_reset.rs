//! 70015: the L1 registers are used that a reset has taken.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;
use e3k_regs::fields::RingWord;

pub(super) static TEXT: Text = Text {
    id: RuleId(70015),
    title: "the L1 registers are used that a reset has taken",
    what: "A function reset has cleared L1 registers that were written, VA mode is on again, and \
           Tail of a running ring is moved before any L1 register was written.",
    why: "All L1 registers are invalid after the reset: every access faults, the ring's own \
           fetch first.",
    happened: "i915, \"Reapply ppgtt enabling after engine resets\" (2021-01).",
    mend: "Write the L1 registers after every function reset.",
    limits: "L1 registers that a packet writes do not count.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// L1 registers were written since the last reset.
    written: bool,
    lost: Option<u64>,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Reset => {
                self.lost = self.written.then_some(seen.at).or(self.lost);
                self.written = false;
            }
            Fact::Register(written) if written.reg == Reg::Ttbr => {
                *self = Self {
                    written: true,
                    lost: None,
                };
            }
            Fact::Register(written) => {
                let Some((n, RingWord::Tail)) = written.of_ring() else {
                    return;
                };
                let runs = seen
                    .rings
                    .get(n)
                    .and_then(super::super::seen::RingSeen::runs)
                    == Some(true);
                if written.value == 0 || !runs || !seen.va_mode() {
                    return;
                }
                log.checked();
                let Some(at) = self.lost else {
                    return;
                };
                log.report(vec![("register", "TTBR".into())], || Finding {
                    now: format!(
                        "Tail of ring {n} = {:#x}, and every L1 register is invalid",
                        written.value
                    ),
                    before: Some((at, "a function reset took them".into())),
                    history: seen.history(n),
                    would_do: "the L1 registers written before it".into(),
                });
            }
            _ => {}
        }
    }
}
