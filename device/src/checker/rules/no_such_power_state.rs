//! 70012: a power state is asked for that does not exist.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;

pub(super) static TEXT: Text = Text {
    id: RuleId(70012),
    title: "a power state is asked for that does not exist",
    what: "The doorbell of the power states is rung, and the code in POWER_STATE is none of 0x00, \
           0x10, 0x12, 0x22, 0x24 and 0x44.",
    why: "The handshake answers \"failed\", or never.",
    happened: "None known.",
    mend: "Write one of the six codes (hardware reference 9.3) before the doorbell.",
    limits: "A doorbell before POWER_STATE was written asks for state 0, as known drivers do at \
           load.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        if written.reg != Reg::PowerDoorbell || written.value & 1 == 0 {
            return;
        }
        log.checked();
        let code = seen.register(Reg::PowerState).unwrap_or(0) & 0xff;
        if matches!(code, 0x00 | 0x10 | 0x12 | 0x22 | 0x24 | 0x44) {
            return;
        }
        log.report(vec![("state", format!("{code:#04x}"))], || Finding {
            now: format!("POWER_DOORBELL is rung for state {code:#04x}"),
            before: None,
            history: Vec::new(),
            would_do: "one of 0x00, 0x10, 0x12, 0x22, 0x24, 0x44".into(),
        });
    }
}
