//! 70001: a read-only register is written.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::misused;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::misuse::Misuse;

pub(super) static TEXT: Text = Text {
    id: RuleId(70001),
    title: "a read-only register is written",
    what: "A register that is read-only is written, over the bus or by a packet.",
    why: "The write is lost. Whatever it was meant to do does not happen.",
    happened: "amdgpu, \"Reset IH OVERFLOW_CLEAR bit\" (2024-01), is of this kind: a write did not do \
           what it was meant to.",
    mend: "Look the register up: `presil regs NAME`.",
    limits: "As far as registers are declared (docs/registers.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        misused::judge(fact, log, Misuse::ReadOnly, |_, name, bits| {
            (
                format!("{name} is written, bits {bits:#x}"),
                "nothing: it cannot be written".into(),
            )
        });
    }
}
