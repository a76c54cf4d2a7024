//! 60003: a packet that the chip does not have.

use crate::checker::fact::Fact;
use crate::checker::halted;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::{CspError, CspErrorKind};

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
        let blames = |error: &CspError| {
            matches!(
                error.kind,
                CspErrorKind::UnknownOpcode | CspErrorKind::Malformed { .. }
            )
        };
        halted::judge(fact, seen, log, blames, "a packet of hardware reference 10");
    }
}
