//! 30023: a page that the GPU uses unsnooped is mapped write-back and write-combined.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(30023),
    title: "a page that the GPU uses unsnooped is mapped write-back and write-combined at once",
    what: "The GPU uses a page of system memory unsnooped, which the CPU has used write-combined \
           while its caches held lines of it from a write-back mapping.",
    why: "CPUs promise nothing for a page with two memory types: a store may miss the line that is \
         held, and the line goes to memory over it later.",
    happened: "panthor, \"Flush shmem writes before mapping buffers CPU-uncached\" (2025-11): pages \
               were mapped write-combined without a flush of what the kernel had stored.",
    mend: "Change the kernel's own mapping first, which flushes (set_pages_array_wc), then map the \
           page write-combined; vmap with pgprot_writecombine flushes nothing.",
    limits: "Mappings that nothing uses are not seen, nor is a line that only a load has brought \
             into the caches unless loads are followed. Otherwise those of 30020.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        let Fact::Unsnooped(met) = fact else {
            return;
        };
        log.checked();
        let Some(page) = met.mixed else {
            return;
        };
        log.report(met.place(page), || Finding {
            now: met.words(),
            before: None,
            history: vec![format!(
                "the CPU has used {page} write-combined while its caches held lines of it"
            )],
            would_do: "a flush of the page before it is mapped write-combined".into(),
        });
    }
}
