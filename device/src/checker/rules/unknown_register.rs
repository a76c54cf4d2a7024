//! 70004: a register that nobody declares.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(70004),
    title: "a register that nobody declares",
    what: "An offset of BAR0 is read or written that docs/registers.md does not have.",
    why: "What it does is not known: the model stores what is written.",
    happened: "None known.",
    mend: "If the register matters, it is missing in the model: say so.",
    limits: "It is off unless asked for: whole drivers use thousands of such registers, rightly. \
           One report for each 4 KiB of BAR0.",
    level: Level::Off,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        let (offset, write) = match fact {
            Fact::Undeclared { offset, write } => (offset, *write),
            Fact::Register(_) | Fact::Read { .. } => return log.checked(),
            _ => return,
        };
        let how = if write { "written" } else { "read" };
        log.report(vec![("page", format!("{:#x}", offset & !0xfff))], || {
            Finding {
                now: format!("offset {offset:#x} is {how}"),
                before: None,
                history: Vec::new(),
                would_do: "a declaration in docs/registers.md".into(),
            }
        });
    }
}
