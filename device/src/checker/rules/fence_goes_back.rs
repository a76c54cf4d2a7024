//! 50001: a fence goes back or repeats.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::seen::holds;
use crate::checker::text::{RuleId, Text};
use crate::csp::fences::FenceRecord;
use crate::mmu::access::Access;
use crate::mmu::look::Look;
use e3k_regs::Reg;
use e3k_regs::fields::{EngineReset, FaultClient, RingWord};
use e3k_regs::packet::halves;
use std::collections::BTreeMap;

pub(super) static TEXT: Text = Text {
    id: RuleId(50001),
    title: "a fence goes back or repeats",
    what: "A ring writes a 64-bit fence, at an address where its last one was, that is not \
           larger.",
    why: "Whoever waits for a larger value than the last one waits for ever, or takes work for \
           done that is not.",
    happened: "msm/adreno, \"fix updating ring fence\" (2020-08).",
    mend: "Give each submission of a ring a value of its own that is larger than all before; \
           after a reset go on where it was.",
    limits: "Fences in called buffers may be anything a process likes, and fences that or bits are \
           not counters: neither is judged. What was written is forgotten when a ring is stopped \
           or reset, because a driver may begin anew then, and when the CPU has written something \
           else there.",
    level: Level::Warn,
};

/// Addresses that are remembered.
const KEPT: usize = 256;

/// By address: the ring, the value, the event.
#[derive(Default)]
pub(super) struct State {
    last: BTreeMap<u64, (u8, u64, u64)>,
    /// The header of the packet in execution ors.
    or: bool,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Reset => self.last.clear(),
            Fact::Register(written) => match (written.of_ring(), written.reg) {
                (Some((ring, RingWord::Address)), _) if written.value >> 31 == 0 => {
                    self.last.retain(|_, (of, ..)| usize::from(*of) != ring);
                }
                (_, Reg::EngineReset) => {
                    let units = EngineReset::from_bits(written.value);
                    self.last
                        .retain(|_, (of, ..)| !holds(units, usize::from(*of)));
                }
                _ => {}
            },
            Fact::Packet(command) => {
                if let Some(fence) = command.external_fence() {
                    self.or = fence.or();
                }
            }
            Fact::Access(access, look) if access.client == FaultClient::Fence => {
                let last = self.last.get(&access.va.0);
                if last.is_some_and(|(_, value, _)| !holds_value(access, *value, look)) {
                    self.last.remove(&access.va.0);
                }
            }
            Fact::Fence(fence) => self.judge(fence, seen, log),
            _ => {}
        }
    }

    fn hears_accesses(&self) -> bool {
        true
    }
}

/// Whether the word that is about to be written still has this value.
fn holds_value(access: &Access, value: u64, look: &Look<'_>) -> bool {
    let word = |at| look.dword(access.target.add(at));
    [word(0), word(4)] == halves(value).map(Some)
}

impl State {
    fn judge(&mut self, fence: &FenceRecord, seen: &Seen, log: &Log<'_>) {
        if fence.in_buffer || fence.bytes != 8 || self.or {
            return;
        }
        let &FenceRecord {
            ring,
            va,
            value,
            ring_offset,
            ..
        } = fence;
        let now = (ring, value, seen.at);
        if self.last.len() == KEPT && !self.last.contains_key(&va) {
            self.last.pop_first();
        }
        let Some((other, last, at)) = self.last.insert(va, now) else {
            return;
        };
        if other != ring {
            return; // 50006 says so
        }
        log.checked();
        if value > last {
            return;
        }
        let place = vec![("ring", ring.to_string()), ("va", format!("{va:#x}"))];
        log.report(place, || Finding {
            now: format!(
                "ring {ring} offset {ring_offset:#x} writes fence {value:#x} at GPU VA {va:#x}"
            ),
            before: Some((at, format!("the last fence there was {last:#x}"))),
            history: seen.history(ring.into()),
            would_do: format!("a value above {last:#x}"),
        });
    }
}
