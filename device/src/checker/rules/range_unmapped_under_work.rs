//! 20008: addresses are unmapped that queued work names.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::checker::unmapped::said_of;

pub(super) static TEXT: Text = Text {
    id: RuleId(20008),
    title: "addresses are unmapped that queued work names",
    what: "The driver invalidates the TLBs by a register, and a packet that waits in a running ring names \
           an address that the tables led somewhere at its doorbell and lead nowhere now.",
    why: "The work runs later and faults, or its fence is lost.",
    happened: "panthor, \"Evict groups before VM termination\" (2025-12); msm, \"Fix premature purging of \
               BO\" (2020-09).",
    mend: "Wait for the fence behind the work, or reset the engine, before its addresses are unmapped.",
    limits: "The ring's own packets are read at each doorbell, not those in called buffers; of a buffer \
             or surface the page of the first byte is known. Addresses that lead elsewhere by then are \
             not judged: work that stands behind a Wait may be meant for that. A ring that halted or \
             has begun its last packet is not judged.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Invalidated { forgotten, .. } = fact else {
            return;
        };
        log.checked();
        let Some((ring, name)) = forgotten else {
            return;
        };
        let place = vec![
            ("pid", name.process_id.to_string()),
            ("va", format!("{:#x}", name.va.0)),
            ("ring", ring.to_string()),
        ];
        log.report(place, || Finding {
            now: format!("{} of process id {} is unmapped", name.va, name.process_id),
            before: Some((name.since, said_of(*ring, name))),
            history: seen.history(*ring),
            would_do: "the fence behind that work before it".into(),
        });
    }
}
