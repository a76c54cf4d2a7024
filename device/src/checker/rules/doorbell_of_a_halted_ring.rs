//! 60008: work for a ring that has halted.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::RINGS;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;
use e3k_regs::fields::RingWord;

pub(super) static TEXT: Text = Text {
    id: RuleId(60008),
    title: "work for a ring that has halted",
    what: "A ring has halted with an error, the driver has been told (its interrupt was enabled, \
           and latched since), and Tail is moved again without an engine reset.",
    why: "The ring does nothing until its engine is reset. Whoever waits for the new work waits \
           for ever.",
    happened: "amdgpu and the scheduler, \"deadlock caused by unsignaled fences\" (2017-09).",
    mend: "Handle the error: reset the engine (0x8524), set the ring up again, complete or repeat \
           what was lost.",
    limits: "A driver that has not enabled the source of the error is not judged by this rule. What \
           a chip does after such an error is not known.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// By ring: when the driver was told, and when the ring halted.
    told: [Option<(u64, u64)>; RINGS],
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Latched => self.latched(seen),
            Fact::Register(written) if written.reg == Reg::BiuShadow => self.latched(seen),
            Fact::Register(written) => {
                let Some((n, RingWord::Tail)) = written.of_ring() else {
                    return;
                };
                let Some(ring) = seen.rings.get(n) else {
                    return;
                };
                log.checked();
                let told = self.told.get(n).copied().flatten();
                let Some((told, halted)) = told.filter(|_| ring.halted.is_some()) else {
                    return;
                };
                log.report(vec![("ring", n.to_string())], || Finding {
                    now: format!(
                        "Tail of ring {n} = {:#x}, and the ring does nothing",
                        written.value
                    ),
                    before: Some((halted, "it halted".into())),
                    history: [
                        vec![format!("the interrupt was latched at event {told}")],
                        ring.history(),
                    ]
                    .concat(),
                    would_do: "an engine reset and a new set-up".into(),
                });
            }
            Fact::Reset => *self = Self::default(),
            _ => {}
        }
    }
}

impl State {
    fn latched(&mut self, seen: &Seen) {
        let enabled = seen.register(Reg::AdvancedEnable).unwrap_or(0);
        for (n, (ring, told)) in seen.rings.iter().zip(&mut self.told).enumerate() {
            let source = match n {
                7 => 2,
                8 => 6,
                9 => 18,
                _ => 16,
            };
            *told = match (ring.halted, *told) {
                (None, _) => None,
                (Some(halted), None) if enabled >> source & 1 == 1 => Some((seen.at, halted)),
                (_, told) => told,
            };
        }
    }
}
