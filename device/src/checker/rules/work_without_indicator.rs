//! 40003: work runs under no Indicator.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(40003),
    title: "work runs under no Indicator",
    what: "In VA mode, ring 0 calls a buffer, copies or fills, and no Indicator is in force that \
           says for which process.",
    why: "Without an Indicator work runs with process id 0: the kernel's address space.",
    happened: "i915, \"don't use a vma that didn't match the context VM\" (2026-04), is of this kind.",
    mend: "Begin every submission with an Indicator that has its process id, and end it with one \
           that says off (hardware reference 10.11).",
    limits: "An Indicator that names process id 0 is enough: that is somebody's choice. PA mode is \
           not judged.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Packet(command) = fact else {
            return;
        };
        let Some(ring) = seen.rings.get(command.ring) else {
            return;
        };
        let work = command.call().is_some_and(|call| call.dwords() > 0) || command.draw().is_some();
        // What was before the ring was set up is not known.
        if !work || command.ring != 0 || !seen.va_mode() || ring.runs() != Some(true) {
            return;
        }
        log.checked();
        if ring.indicator.is_some() {
            return;
        }
        let what = if command.draw().is_some() {
            "a copy or fill"
        } else {
            "a call"
        };
        log.report(
            vec![
                ("ring", command.ring.to_string()),
                ("what", what.replace(' ', "-")),
            ],
            || Finding {
                now: format!("{}: {what} under no Indicator", command.place()),
                before: None,
                history: ring.history(),
                would_do: "an Indicator with the process id in front of it".into(),
            },
        );
    }
}
