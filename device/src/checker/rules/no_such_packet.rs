//! 60003: a packet that the chip does not have.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::CspErrorKind;

pub(super) static TEXT: Text = Text {
    id: RuleId(60003),
    title: "a packet that the chip does not have",
    what: "A ring or a called buffer has a packet with an unknown opcode, or one that contradicts \
           its own form: a count that is not that of the form, an address that is not aligned, a \
           command or type that does not exist.",
    why: "The command processor hangs, or takes the following dwords for packets.",
    happened: "msm, \"Handle ringbuffer overflow\" (2021-04), is of this kind: what the chip read was \
           not what was meant.",
    mend: "Look at the dword in hardware reference 10; docs/programming.md has every packet a \
           memory manager needs. An overwritten ring shows itself so, too.",
    limits: "The model halts the ring and signals its unit's error; what the chip does is not known \
           (docs/model-choices.md). Packets that the chip has and the model has not are not \
           reported.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let error = match fact {
            Fact::Halted(error) => error,
            Fact::Packet(_) => return log.checked(),
            _ => return,
        };
        log.checked();
        if !(matches!(
            error.kind,
            CspErrorKind::UnknownOpcode | CspErrorKind::Malformed { .. }
        )) {
            return;
        }
        let place = vec![
            ("ring", error.ring.to_string()),
            ("dword", format!("{:#010x}", error.dword)),
        ];
        log.report(place, || Finding {
            now: error.to_string(),
            before: None,
            history: seen.history(error.ring.into()),
            would_do: "a packet of hardware reference 10".into(),
        });
    }
}
