//! 10021: the process ids of an invalidation disagree.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;

pub(super) static TEXT: Text = Text {
    id: RuleId(10021),
    title: "the process ids of an invalidation disagree",
    what: "PT_INV_TRIG is written with a process id that is not 0 and not that of PT_INV_ADDR, \
           while PT_INV_MASK compares process ids.",
    why: "An invalidation for another process leaves the stale entry where it is.",
    happened: "amdgpu, \"flush the correct vmid tlb for specific pasid\" (2023-10).",
    mend: "Put the process id into PT_INV_ADDR, ones over it into PT_INV_MASK, and the same id or \
           0 into PT_INV_TRIG.",
    limits: "Which of the two fields the chip takes is not known; the model takes that of \
           PT_INV_ADDR (docs/model-choices.md). Where both say the same it does not matter.",
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
        let known = (seen.register(Reg::PtInvAddr), seen.register(Reg::PtInvMask));
        let (Some(address), Some(mask)) = known else {
            return;
        };
        log.checked();
        let (id, other) = (written.value & 0xf, address >> 28);
        if id == 0 || (id ^ other) & mask >> 28 == 0 {
            return;
        }
        let place = vec![("pid", other.to_string()), ("trigger_pid", id.to_string())];
        log.report(place, || Finding {
            now: format!("PT_INV_TRIG = {:#x} names process id {id}", written.value),
            before: None,
            history: vec![format!(
                "PT_INV_ADDR = {address:#x} names {other}, PT_INV_MASK = {mask:#x}"
            )],
            would_do: format!("process id {id} in PT_INV_ADDR as well, or 0 in PT_INV_TRIG"),
        });
    }
}
