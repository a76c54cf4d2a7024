//! 70013: the translation mode changes while a ring has work.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;

pub(super) static TEXT: Text = Text {
    id: RuleId(70013),
    title: "the translation mode changes while a ring has work",
    what: "MMU_MODE goes from PA to VA mode or back while a running ring has packets that it has \
           not begun. Padding and an Indicator off behind a fence that is written are none.",
    why: "Which mode an access uses is a race: addresses of one mode are taken for those of the \
           other.",
    happened: "i915, \"Be paranoid and reset the GPU before release\" (2020-01), is of this kind.",
    mend: "Wait until every ring is idle, or write the mode before a ring is started.",
    limits: "The model goes by the new mode from the next access on (docs/model-choices.md). What a \
           packet in a ring changes is not judged.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        if written.reg != Reg::MmuMode {
            return;
        }
        log.checked();
        let busy = seen.rings.iter().position(|ring| {
            ring.runs() == Some(true) && ring.halted.is_none() && ring.left().is_some()
        });
        let (Some(n), true) = (busy, (written.value & 1 == 1) != seen.va_mode()) else {
            return;
        };
        log.report(vec![("ring", n.to_string())], || Finding {
            now: format!("MMU_MODE = {:#x} while ring {n} has work", written.value),
            before: None,
            history: seen.rings[n].history(),
            would_do: format!("to wait for ring {n}'s last fence before it"),
        });
    }
}
