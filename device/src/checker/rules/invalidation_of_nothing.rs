//! 10020: an invalidation names no TLB.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;

pub(super) static TEXT: Text = Text {
    id: RuleId(10020),
    title: "an invalidation names no TLB",
    what: "PT_INV_TRIG is written with Target 0 or 3.",
    why: "Target 1 is the UTLBs, 2 the DTLB; with another one nothing is invalidated, and \
           engines go on with old translations.",
    happened: "i915, \"Invalidate TLB of the OA unit\" (2022-07), is of this kind: one of the TLBs \
           was left out.",
    mend: "Write PT_INV_TRIG once with Target 2 and once with Target 1 (docs/programming.md).",
    limits: "Hardware reference 5 calls 0 off and 3 reserved.",
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
        // Zeros in all three ask for nothing: registers that are set up.
        let set = |reg| seen.register(reg).unwrap_or(0) != 0;
        if written.value == 0 && !set(Reg::PtInvAddr) && !set(Reg::PtInvMask) {
            return log.checked();
        }
        log.checked();
        let target = written.value >> 5 & 3;
        if target == 1 || target == 2 {
            return;
        }
        let page = seen.register(Reg::PtInvAddr).unwrap_or(0);
        log.report(vec![("target", target.to_string())], || Finding {
            now: format!(
                "PT_INV_TRIG = {:#x}: Target {target} is no TLB",
                written.value
            ),
            before: None,
            history: vec![format!("PT_INV_ADDR was {page:#x}")],
            would_do: "Target 2 for the DTLB, then Target 1 for the UTLBs".into(),
        });
    }
}
