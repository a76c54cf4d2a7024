//! 60013: work for an engine whose clock is off.

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
    id: RuleId(60013),
    title: "work for an engine whose clock is off",
    what: "Tail of a ring is moved while the clock gates (0x8A01), which the driver has written, \
           stop the ring's engine: bits 6:4 for ring 0, 3 for ring 7, 2 for ring 8, 1 for ring 9.",
    why: "A unit without its clock does not run: the ring stands.",
    happened: "No public fix is known; the family's own driver sets the bit before each doorbell and \
           clears it when the engine is idle.",
    mend: "Set the engine's bit before Tail (hardware reference 9.3, 10.1).",
    limits: "The gates' state at power-on is not known, so a driver that never writes them is not \
           judged. In the model every ring runs whatever they say.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        let (Some((n, RingWord::Tail)), Some(gates)) =
            (written.of_ring(), seen.byte(Reg::ClockGates))
        else {
            return;
        };
        if written.value == 0 {
            return; // set-up
        }
        let needed = match n {
            0..=6 => 0x70,
            7 => 1 << 3,
            8 => 1 << 2,
            _ => 1 << 1,
        };
        log.checked();
        if gates & needed != 0 {
            return;
        }
        log.report(vec![("ring", n.to_string())], || Finding {
            now: format!(
                "Tail of ring {n} = {:#x} while CLOCK_GATES is {gates:#04x}",
                written.value
            ),
            before: None,
            history: seen.history(n),
            would_do: format!("CLOCK_GATES with a bit of {needed:#04x} before it"),
        });
    }
}
