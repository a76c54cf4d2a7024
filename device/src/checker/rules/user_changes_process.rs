//! 40002: a buffer of a process changes its process id.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::packet::CspCommand;

pub(super) static TEXT: Text = Text {
    id: RuleId(40002),
    title: "a buffer of a process changes its process id",
    what: "In VA mode, a called buffer that runs with a process id other than 0 has an Indicator \
           with another one, or with Info off, which means process id 0.",
    why: "What follows in the buffer uses the tables of another process, or of the kernel.",
    happened: "i915, \"don't use a vma that didn't match the context VM\" (2026-04), is of this kind: \
           work ran in an address space that was not its own.",
    mend: "Indicators belong into the ring, which processes cannot write. Refuse buffers that \
           have one.",
    limits: "Process id 0 is taken for the kernel's. PA mode is not judged.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Packet(command) = fact else {
            return;
        };
        let Some((ring, id)) = seen.of_process(command) else {
            return;
        };
        log.checked();
        let Some(indicator) = command.indicator() else {
            return;
        };
        let off = indicator.info() == CspCommand::INFO_OFF;
        let next = if off { 0 } else { indicator.process_id() };
        if next == id {
            return;
        }
        let place = vec![
            ("pid", id.to_string()),
            ("new_pid", next.to_string()),
            ("ring", command.ring.to_string()),
        ];
        log.report(place, || Finding {
            now: format!(
                "{}: an Indicator makes process id {id} process id {next}",
                command.place()
            ),
            before: ring
                .indicator
                .map(|(at, _)| (at, format!("the Indicator of its submission said {id}"))),
            history: ring.history(),
            would_do: "to refuse the buffer".into(),
        });
    }
}
