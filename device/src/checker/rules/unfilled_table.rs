//! 10007: a page table is linked before it is filled.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(10007),
    title: "a page table is linked before it is filled",
    what: "A walk reads an entry of level 2 or 3 from VRAM that still is as it was at power-on.",
    why: "What lies there is taken for an entry: the GPU reaches any page, or faults. On most boots it is zeros, and nobody notices.",
    happened: "i915, \"drop the page table optimisation\" (2021-07), is of this kind.",
    mend: "Fill a table, also the entries that are not valid, before an entry or L1 register leads to it.",
    limits: "Only the entries of the address that is translated are judged, not their neighbours in the TLB's line. Needs VRAM with a pattern (--vram-seed, which scripts/run has); else it has nothing to judge. A word that was written with its own pattern counts as not written.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        let Fact::Walked(entry) = fact else {
            return;
        };
        log.checked();
        if !entry.untouched {
            return;
        }
        let place = vec![
            ("pid", entry.process_id.to_string()),
            ("level", entry.level.to_string()),
            ("table", format!("{:#x}", entry.at.0 & !0xfff)),
        ];
        log.report(place, || Finding {
            now: format!(
                "a walk for {} of process id {} reads an entry of level {} at {}, which nobody has written since power-on",
                entry.va, entry.process_id, entry.level, entry.at
            ),
            before: None,
            history: Vec::new(),
            would_do: "all 1024 entries of the table written before something leads there".into(),
        });
    }
}
