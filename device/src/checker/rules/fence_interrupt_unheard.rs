//! 50005: fences interrupt and nobody has enabled that.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;
use e3k_regs::fields::AdvancedInterrupts;

pub(super) static TEXT: Text = Text {
    id: RuleId(50005),
    title: "fences interrupt and nobody has enabled that",
    what: "Fences asked for an interrupt of the CPU, and at no time before the next reset, or the \
           end, was their source enabled (ADVANCED_ENABLE bit 27).",
    why: "Nobody is woken. A driver that sleeps for its fences wakes at its timeouts only.",
    happened: "panthor, a fix of 2025-04 about interrupts that could not come again, is of this kind.",
    mend: "Enable the source, and the gate in ADAPTER_CONTROL, or leave Irq 0 in fences that \
           somebody polls.",
    limits: "It is off unless asked for: polling is slow, not wrong.",
    level: Level::Off,
};

#[derive(Default)]
pub(super) struct State {
    /// The first fence that asked while the source was disabled, and how many did.
    first: Option<(u64, String)>,
    count: u64,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Fence(fence) if fence.interrupt => {
                log.checked();
                let enabled = seen.register(Reg::AdvancedEnable).unwrap_or(0);
                if !AdvancedInterrupts::from_bits(enabled).fence() {
                    self.count += 1;
                    let place = || format!("ring {} offset {:#x}", fence.ring, fence.ring_offset);
                    self.first.get_or_insert_with(|| (seen.at, place()));
                }
            }
            Fact::Register(written)
                if written.reg == Reg::AdvancedEnable
                    && AdvancedInterrupts::from_bits(written.value).fence() =>
            {
                *self = Self::default();
            }
            Fact::Reset | Fact::End => {
                let Self { first, count } = std::mem::take(self);
                if let Some((at, place)) = first {
                    log.report(vec![("register", "ADVANCED_ENABLE".into())], || Finding {
                        now: format!(
                            "{count} fences asked for an interrupt that was never enabled"
                        ),
                        before: Some((at, format!("the first, {place}"))),
                        history: Vec::new(),
                        would_do: "bit 27 of ADVANCED_ENABLE".into(),
                    });
                }
            }
            _ => {}
        }
    }
}
