//! 60001: Tail is moved onto half a packet.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::csp::error::CspErrorKind;

pub(super) static TEXT: Text = Text {
    id: RuleId(60001),
    title: "Tail is moved onto half a packet",
    what: "A ring reads a packet that is longer than what lies before Tail, or before the ring's \
           end.",
    why: "The chip takes what is behind Tail for the rest of the packet: old contents of the \
           ring.",
    happened: "i915/guc, \"Ensure H2G buffer updates visible before tail update\", is of this kind: \
           Tail told of what was not there.",
    mend: "Move Tail over whole packets. A packet is never split at the ring's end: fill the rest \
           with zero dwords and begin at 0.",
    limits: "The model halts the ring and signals its unit's error; what the chip does is not known \
           (docs/model-choices.md).",
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
        if !matches!(error.kind, CspErrorKind::Truncated { .. }) || error.in_buffer {
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
            would_do: "Tail behind the whole packet".into(),
        });
    }
}
