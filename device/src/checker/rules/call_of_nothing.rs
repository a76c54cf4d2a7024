//! 60012: a call of an empty buffer.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(60012),
    title: "a call of an empty buffer",
    what: "A Dma packet calls a buffer of 0 dwords.",
    why: "What the chip does with a length of 0 is not known: nothing, 65536 dwords, or a hang.",
    happened: "etnaviv, a fix of a prefetch that was off by one, is of this kind: a length that was \
           not the buffer's.",
    mend: "Leave the call out, or put zero dwords (skips) in its place.",
    limits: "The model calls nothing (docs/model-choices.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        let Fact::Packet(command) = fact else {
            return;
        };
        let Some(call) = command.call() else {
            return;
        };
        log.checked();
        if call.dwords() > 0 {
            return;
        }
        log.report(vec![("ring", command.ring.to_string())], || Finding {
            now: format!("{}: a Dma of 0 dwords", command.place()),
            before: None,
            history: Vec::new(),
            would_do: "no Dma".into(),
        });
    }
}
