//! 70006: interrupts are acknowledged and never looked at.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;

pub(super) static TEXT: Text = Text {
    id: RuleId(70006),
    title: "interrupts are acknowledged and never looked at",
    what: "BIU_SHADOW is written while the interrupt line is up, and written again before either \
           shadow was read.",
    why: "The first latch cleared the sources; the second one overwrites the shadows: what \
           happened is lost.",
    happened: "panthor, a fix of 2025-04 about interrupts that could not come again, is of this kind.",
    mend: "In the handler: write BIU_SHADOW, read BIU_SHADOW and ADVANCED_SHADOW, handle what \
           they say.",
    limits: "A latch while the driver has all sources off, or the gate closed, is part of set-up \
           and not judged, nor is the first one behind a write to an enable or the gate: what was \
           pending before is cleared so. A kernel that crashes between its write and its reads is blamed when the \
           next one writes.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// The latch whose shadows nobody has read.
    unread: Option<u64>,
    /// Enables or the gate were written, and nothing latched since.
    opening: bool,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Read {
                reg: Reg::BiuShadow | Reg::AdvancedShadow,
                ..
            }
            | Fact::Reset => {
                self.unread = None;
            }
            Fact::Latched => self.unread = None,
            Fact::Register(written) if written.reg == Reg::BiuShadow => self.latched(seen, log),
            // Whoever closes everything does not want to know.
            Fact::Register(written) => {
                if matches!(
                    written.reg,
                    Reg::BiuEnable | Reg::AdvancedEnable | Reg::AdapterControl
                ) {
                    *self = Self {
                        unread: None,
                        opening: true,
                    };
                }
            }
            _ => {}
        }
    }
}

impl State {
    fn latched(&mut self, seen: &Seen, log: &Log<'_>) {
        log.checked();
        let before = self.unread.take();
        let opening = std::mem::take(&mut self.opening);
        self.unread = seen
            .risen
            .filter(|_| seen.gate() == Some(true) && !opening)
            .map(|_| seen.at);
        let Some(at) = before else {
            return;
        };
        log.report(vec![("register", "BIU_SHADOW".into())], || Finding {
            now: "BIU_SHADOW is written".into(),
            before: Some((
                at,
                "it was written while an interrupt was pending, and not read since".into(),
            )),
            history: Vec::new(),
            would_do: "reads of BIU_SHADOW and ADVANCED_SHADOW between them".into(),
        });
    }
}
