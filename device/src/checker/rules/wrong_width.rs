//! 70003: a register is accessed in another width than its own.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::misused;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::misuse::Misuse;

pub(super) static TEXT: Text = Text {
    id: RuleId(70003),
    title: "a register is accessed in another width than its own",
    what: "An access has another width than the register's; 64 bits are two times 32.",
    why: "Byte enables inside a register may be ignored: the whole register is written, or \
           nothing.",
    happened: "None known.",
    mend: "Use the width that docs/registers.md gives.",
    limits: "The widths of hardware reference 7.6 are legal and not reported. What the chip does is \
           not known (docs/model-choices.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        misused::judge(fact, log, Misuse::Width, |reg, name, bits| {
            (
                format!("{name} is accessed in bits {bits:#x} only"),
                format!("an access of {} bytes", reg.info().width),
            )
        });
    }
}
