//! 70007: the translation mode is used that a reset took.

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
    id: RuleId(70007),
    title: "the translation mode is used that a reset took",
    what: "A function reset has taken VA mode, and Tail of a running ring is moved before \
           MMU_MODE was written again.",
    why: "After the reset the chip is in PA mode: addresses that were virtual ones are taken for \
           places in memory.",
    happened: "i915, \"Reapply ppgtt enabling after engine resets\" (2021-01).",
    mend: "Write MMU_MODE and the L1 registers after every function reset, before a ring is \
           started.",
    limits: "Another driver that follows in PA mode and relies on the reset value of MMU_MODE is \
           reported, too; hardware reference 12.1 writes it always.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// The reset that took it.
    lost: Option<u64>,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Reset if seen.va_mode() => self.lost = Some(seen.at),
            Fact::Register(written) if written.reg == Reg::MmuMode => self.lost = None,
            Fact::Register(written) => {
                let Some((n, RingWord::Tail)) = written.of_ring() else {
                    return;
                };
                if written.value == 0
                    || seen
                        .rings
                        .get(n)
                        .and_then(super::super::seen::RingSeen::runs)
                        != Some(true)
                {
                    return;
                }
                log.checked();
                let Some(at) = self.lost else {
                    return;
                };
                log.report(vec![("register", "MMU_MODE".into())], || Finding {
                    now: format!("Tail of ring {n} = {:#x}, in PA mode", written.value),
                    before: Some((at, "a function reset took VA mode".into())),
                    history: seen.history(n),
                    would_do: "MMU_MODE written before it".into(),
                });
            }
            _ => {}
        }
    }
}
