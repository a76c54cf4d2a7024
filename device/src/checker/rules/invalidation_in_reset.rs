//! 70008: an invalidation is posted while everything is in reset.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;
use e3k_regs::fields::EngineReset;

pub(super) static TEXT: Text = Text {
    id: RuleId(70008),
    title: "an invalidation is posted while everything is in reset",
    what: "PT_INV_TRIG is written while ENGINE_RESET bit 0 (all) is 1.",
    why: "A unit in reset does not take it: entries that a reset leaves are stale afterwards.",
    happened: "i915, \"Serialize TLB invalidates with GT resets\" (2022-07).",
    mend: "Invalidate after ENGINE_RESET was written 0.",
    limits: "The model empties the TLBs in this reset, so nothing is seen to break here. What the \
           chip does is not known.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        if written.reg != Reg::PtInvTrig {
            return;
        }
        log.checked();
        let units = seen.register(Reg::EngineReset).unwrap_or(0);
        if !EngineReset::from_bits(units).all() {
            return;
        }
        log.report(vec![("register", "PT_INV_TRIG".into())], || Finding {
            now: format!("PT_INV_TRIG = {:#x}", written.value),
            before: seen.rings[0]
                .held
                .map(|at| (at, format!("ENGINE_RESET = {units:#x}"))),
            history: Vec::new(),
            would_do: "the invalidation behind ENGINE_RESET = 0".into(),
        });
    }
}
