//! 60017: packets are executed that nobody wrote.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::memory::Target;
use e3k_regs::fields::FaultClient;

pub(super) static TEXT: Text = Text {
    id: RuleId(60017),
    title: "packets are executed that nobody wrote",
    what: "A ring, or a buffer that it calls, fetches packets from VRAM that still is as it was at power-on.",
    why: "Tail was moved too far, the packets went elsewhere, or they were not visible yet when it was moved: the chip executes what lies there.",
    happened: "etnaviv, the off-by-one of its prefetch; i915, \"Ensure H2G buffer updates visible before tail update\".",
    mend: "Move Tail exactly behind what was written, and only behind a write barrier.",
    limits: "What an earlier lap left in the ring is not told from new packets. Needs VRAM with a pattern (--vram-seed, which scripts/run has); else it has nothing to judge. A word that was written with its own pattern counts as not written.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Access(access, look) = fact else {
            return;
        };
        let Target::Vram(at) = access.target else {
            return;
        };
        let in_buffer = match access.client {
            FaultClient::RingFetch => false,
            FaultClient::BufferFetch => true,
            _ => return,
        };
        if look.vram().is_untouched(at).is_none() {
            return;
        }
        log.checked();
        let mut dwords = (0..access.bytes).step_by(4).map(|n| at.add(n));
        let Some(unwritten) = dwords.find(|at| look.vram().is_untouched(*at) == Some(true)) else {
            return;
        };
        let place = vec![
            ("ring", access.ring.to_string()),
            ("client", access.client.name().replace(' ', "-")),
        ];
        log.report(place, || Finding {
            now: format!(
                "ring {} fetches {} at {}, {}, which nobody has written since power-on",
                access.ring,
                unwritten,
                access.va.add(unwritten.0 - at.0),
                if in_buffer {
                    format!("in a buffer called at offset {:#x}", access.ring_offset)
                } else {
                    "in the ring itself".to_owned()
                }
            ),
            before: None,
            history: seen.history(access.ring.into()),
            would_do: "packets there before Tail is moved".into(),
        });
    }

    fn hears_accesses(&self) -> bool {
        true
    }
}
