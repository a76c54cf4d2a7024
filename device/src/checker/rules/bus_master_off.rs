//! 70016: memory is used while the function is no bus master.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::mmu::record::FaultCause;

pub(super) static TEXT: Text = Text {
    id: RuleId(70016),
    title: "memory is used while the function is no bus master",
    what: "An access of system memory ends because bus mastering is off in the PCI command \
           register.",
    why: "Work was in flight when the driver took bus mastering away, or never gave it: reads \
           return all ones, fences and interrupts are lost.",
    happened: "i915, \"Be paranoid and reset the GPU before release\" (2020-01); xe, CVE-2026-23466, \
           is of this kind.",
    mend: "Enable bus mastering before the first ring is started; before it is taken away, wait \
           for the last fence or reset the engine.",
    limits: "A machine that cuts a GPU off without its driver's doing looks the same. The virtio \
           device has no such bit.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let fault = match fact {
            Fact::Doorbell => return log.checked(),
            Fact::Fault(fault) if fault.cause == FaultCause::BusMasterOff => fault,
            _ => return,
        };
        let place = vec![
            ("client", fault.client.name().replace(' ', "-")),
            ("ring", fault.ring.to_string()),
        ];
        log.report(place, || Finding {
            now: fault.to_string(),
            before: None,
            history: seen.history(fault.ring.into()),
            would_do: "bus mastering until the ring is idle".into(),
        });
    }
}
