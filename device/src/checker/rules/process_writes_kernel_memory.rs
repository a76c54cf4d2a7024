//! 40004: a process writes tables, a ring or the kernel's fences.

use crate::checker::fact::Fact;
use crate::checker::kernel::Kernels;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::{RingSeen, Seen};
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(40004),
    title: "a process writes tables, a ring or the kernel's fences",
    what: "In VA mode, an access of a process id other than 0 writes a page table that an L1 \
           register leads to, memory that a running ring has read, or a fence that a ring wrote.",
    why: "Whoever writes tables owns all memory; whoever writes a ring is the kernel.",
    happened: "msm, \"make ringbuffer readonly\" (2020-08); Imagination, CVE-2024-43703, is of this \
           kind.",
    mend: "Do not map such pages for processes. Entries of this chip have no bit that forbids \
           writes.",
    limits: "Process id 0 is taken for the kernel's. Only what walks, rings and fences have used is \
           known: 4096 tables, 1024 pages of rings, 256 fences.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Access(access, look) = fact else {
            return;
        };
        if !access.write || access.process_id == 0 {
            return;
        }
        log.checked();
        let runs = |ring| seen.rings.get(ring).and_then(RingSeen::runs) != Some(false);
        let Some(hit) = seen.kernel.hit(access, runs, look) else {
            return;
        };
        let (what, name) = match hit {
            Kernels::Table => ("table", "a page table".to_owned()),
            Kernels::Ring(ring) => ("ring", format!("ring {ring}")),
            Kernels::Fence(at) => ("fence", format!("the fence of event {at}")),
        };
        let place = vec![
            ("pid", access.process_id.to_string()),
            ("what", what.to_owned()),
            ("client", access.client.name().replace(' ', "-")),
        ];
        log.report(place, || Finding {
            now: format!(
                "{} writes {} bytes at {}, process id {}, which are {}: {name}",
                access.client.name(),
                access.bytes,
                access.va,
                access.process_id,
                access.target
            ),
            before: None,
            history: Vec::new(),
            would_do: "no mapping of it in the tables of a process".into(),
        });
    }

    fn hears_accesses(&self) -> bool {
        true
    }
}
