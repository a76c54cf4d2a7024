//! 30020: the GPU reads memory unsnooped of which the CPU has dirty lines.

use crate::checker::dirty;
use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(30020),
    title: "the GPU reads unsnooped what only the CPU's caches have",
    what: "The GPU reads system memory unsnooped (data, packets or page tables), and the CPU has \
           stored some of these bytes through a write-back mapping and not flushed them since.",
    why: "The GPU reads what was in memory before. Whether it does depends on what the caches \
         happened to write back by themselves, so it shows now and then.",
    happened: "panthor, \"Flush shmem writes before mapping buffers CPU-uncached\" (2025-11); Mali, \
               CVE-2023-4272.",
    mend: "Before the doorbell flush the lines (clflush), or map the page write-combined for its \
           whole life with the GPU (set_pages_array_wc, which flushes), or map it snooped.",
    limits: "Needs somebody who follows the CPU's stores: the tests' machine, or a virtual machine \
             under TCG (docs/checker.md). What was dirty before the checker began to look counts \
             as flushed. Real caches write lines back by themselves: the bytes may be old, and are \
             not always.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        dirty::judge(fact, log, false);
    }
}
