//! 30022: the GPU writes memory unsnooped of which the CPU has dirty lines.

use crate::checker::dirty;
use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(30022),
    title: "the GPU writes unsnooped under dirty lines of the CPU's caches",
    what: "The GPU writes system memory unsnooped, and the CPU has stored to the same lines \
           through a write-back mapping and not flushed them since.",
    why: "A line goes to memory as a whole, when somebody flushes it or the caches need room: what \
         the GPU has written is gone then.",
    happened: "panthor, \"Flush shmem writes before mapping buffers CPU-uncached\" (2025-11).",
    mend: "Flush the lines before the GPU may write there (also those that only the zeroing of \
           fresh pages has made dirty), and let the CPU store nothing until its fence.",
    limits: "It reports at the GPU's write and does not wait for the flush that does the harm. \
             Otherwise those of 30020.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        dirty::judge(fact, log, true);
    }
}
