//! 70005: an interrupt is never acknowledged.

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
    id: RuleId(70005),
    title: "an interrupt is never acknowledged",
    what: "The interrupt line has risen, the driver moves Tail 64 times or more, and a function \
           reset or the end comes without its having latched (BIU_SHADOW).",
    why: "The line rises when the first enabled source becomes pending. Until the latch clears \
           them, no interrupt comes again: every wait ends in its timeout.",
    happened: "amdgpu, \"Reset IH OVERFLOW_CLEAR bit\" (2024-01).",
    mend: "Write BIU_SHADOW in the handler, then read both shadows.",
    limits: "On the virtio door, the door latches for the driver. When the chip signals again is \
           inferred (hardware reference 7.3).",
    level: Level::Warn,
};

/// Doorbells after which it will not come any more.
const PATIENCE: u32 = 64;

#[derive(Default)]
pub(super) struct State {
    doorbells: u32,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Latched | Fact::Interrupt => self.doorbells = 0,
            Fact::Register(written) if written.reg == Reg::BiuShadow => self.doorbells = 0,
            Fact::Register(written) => {
                let doorbell = matches!(written.of_ring(), Some((_, RingWord::Tail)));
                if doorbell && seen.risen.is_some() {
                    log.checked();
                    self.doorbells = self.doorbells.saturating_add(1);
                }
            }
            Fact::Reset | Fact::End => {
                let doorbells = std::mem::take(&mut self.doorbells);
                let Some(risen) = seen.risen.filter(|_| doorbells >= PATIENCE) else {
                    return;
                };
                log.report(vec![("register", "BIU_SHADOW".into())], || Finding {
                    now: format!("{doorbells} times Tail was moved since the interrupt"),
                    before: Some((risen, "the interrupt, never latched".into())),
                    history: Vec::new(),
                    would_do: "a write to BIU_SHADOW".into(),
                });
            }
            _ => {}
        }
    }
}
