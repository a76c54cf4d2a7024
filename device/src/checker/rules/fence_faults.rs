//! 50007: a fence cannot be written.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::mmu::record::FaultCause;
use e3k_regs::fields::FaultClient;

pub(super) static TEXT: Text = Text {
    id: RuleId(50007),
    title: "a fence cannot be written",
    what: "A fence of process id 0 ends in a page fault or a bus error.",
    why: "The value never comes, and the interrupt does: whoever is woken finds nothing, and \
           waits for ever.",
    happened: "amdgpu, \"Prevent race between late signaled fences and GPU reset\" (2022-06), is of \
           this kind: a fence had no memory any more.",
    mend: "Keep the fence's page mapped until the last fence that names it has come.",
    limits: "Fences of processes are theirs, and not judged; 70016 is about bus mastering. Whether the interrupt comes is the \
           model's choice (docs/model-choices.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Fence(_) => log.checked(),
            Fact::Fault(fault) if fault.client == FaultClient::Fence && fault.process_id == 0 => {
                // Other rules' doing and saying.
                if matches!(fault.cause, FaultCause::Refused | FaultCause::BusMasterOff) {
                    return;
                }
                let place = vec![
                    ("va", format!("{:#x}", fault.va.0)),
                    ("ring", fault.ring.to_string()),
                ];
                log.report(place, || Finding {
                    now: fault.to_string(),
                    before: None,
                    history: seen.history(fault.ring.into()),
                    would_do: "the fence's page mapped".into(),
                });
            }
            _ => {}
        }
    }
}
