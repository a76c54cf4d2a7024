//! 30021: the CPU reads from its caches what the GPU has written since.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(30021),
    title: "the CPU reads lines that are older than a write of the GPU's",
    what: "The CPU loads bytes through a write-back mapping whose line its caches hold since \
           before the GPU wrote these bytes unsnooped.",
    why: "The CPU reads what was there before the GPU's write, for as long as the line happens to \
         stay in a cache.",
    happened: "Mali, CVE-2023-4272: reads of stale data through caches that nobody had maintained.",
    mend: "Drop the lines (clflush) before the GPU writes and again behind its fence, or map the \
           page write-combined or the GPU's mapping snooped.",
    limits: "Needs somebody who follows the CPU's loads: in a virtual machine an option of its own \
             (docs/checker.md). Lines that a CPU fetches ahead, without a load, are not modelled, \
             so a flush before the GPU's write alone is not reported, though it is not enough on \
             silicon.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        match fact {
            Fact::Unsnooped(met) if met.write && met.loads => log.checked(),
            Fact::OldLoad(load) => {
                let page = load.at.page() << e3k_regs::PAGE_SHIFT;
                let place = vec![("bus", format!("{page:#x}"))];
                let before = seen.caches.made_old(load);
                log.report(place, || Finding {
                    now: format!(
                        "the CPU reads {} bytes at {} from a line of its caches",
                        load.bytes, load.at
                    ),
                    before: before.map(|wrote| (wrote.event, wrote.words())),
                    history: Vec::new(),
                    would_do: "a flush of the line behind the fence and before the read".into(),
                });
            }
            _ => {}
        }
    }
}
