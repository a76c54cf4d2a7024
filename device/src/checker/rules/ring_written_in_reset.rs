//! 70009: a ring register is written while its engine is in reset.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(70009),
    title: "a ring register is written while its engine is in reset",
    what: "A register of a ring is written while the ENGINE_RESET bit of its unit is 1.",
    why: "A unit in reset does not listen: the value is lost, and the ring is not set up.",
    happened: "i915, \"Serialize TLB invalidates with GT resets\" (2022-07), is of this kind.",
    mend: "Write ENGINE_RESET = 0 first.",
    limits: "That such writes are lost is the model's choice (docs/model-choices.md).",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        let Some((n, _)) = written.of_ring() else {
            return;
        };
        log.checked();
        let Some(at) = seen.rings.get(n).and_then(|ring| ring.held) else {
            return;
        };
        log.report(vec![("register", written.name())], || Finding {
            now: format!("{} = {:#x}", written.name(), written.value),
            before: Some((at, format!("ENGINE_RESET holds ring {n}"))),
            history: Vec::new(),
            would_do: "ENGINE_RESET = 0 before it".into(),
        });
    }
}
