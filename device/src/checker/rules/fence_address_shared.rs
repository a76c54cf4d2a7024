//! 50006: two rings write their fences to one address.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;
use e3k_regs::fields::RingWord;
use std::collections::BTreeMap;

pub(super) static TEXT: Text = Text {
    id: RuleId(50006),
    title: "two rings write their fences to one address",
    what: "A ring writes a fence where the fence of another one was written last.",
    why: "Rings do not run in any order to each other: the word may go back, and whoever waits \
           for one ring takes the other one's work for it.",
    happened: "msm/adreno, \"fix updating ring fence\" (2020-08), is of this kind.",
    mend: "Give each ring a fence of its own.",
    limits: "Fences in called buffers are not judged. What was written is forgotten at a reset, and \
           when a ring is set up.",
    level: Level::Warn,
};

/// Addresses that are remembered.
const KEPT: usize = 256;

/// By address: the ring, the event.
#[derive(Default)]
pub(super) struct State {
    last: BTreeMap<u64, (u8, u64)>,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let fence = match fact {
            Fact::Fence(fence) if !fence.in_buffer => fence,
            Fact::Register(written) => {
                let set_up = matches!(written.of_ring(), Some((_, RingWord::Address)));
                if set_up || written.reg == Reg::EngineReset {
                    self.last.clear();
                }
                return;
            }
            Fact::Reset => return self.last.clear(),
            _ => return,
        };
        if self.last.len() == KEPT && !self.last.contains_key(&fence.va) {
            self.last.pop_first();
        }
        let Some((other, at)) = self.last.insert(fence.va, (fence.ring, seen.at)) else {
            return;
        };
        log.checked();
        let (ring, va) = (fence.ring, fence.va);
        if other == ring {
            return;
        }
        let [first, second] = [other.min(ring), other.max(ring)];
        let place = vec![
            ("va", format!("{va:#x}")),
            ("rings", format!("{first},{second}")),
        ];
        log.report(place, || Finding {
            now: format!(
                "ring {ring} offset {:#x} writes its fence at GPU VA {va:#x}",
                fence.ring_offset
            ),
            before: Some((at, format!("ring {other} wrote its own there"))),
            history: Vec::new(),
            would_do: "an address for each ring".into(),
        });
    }
}
