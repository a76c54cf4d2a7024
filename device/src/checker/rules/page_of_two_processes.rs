//! 40005: two processes write one page.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::path::leads_to;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::memory::Target;
use e3k_regs::GpuVa;
use std::collections::HashMap;

pub(super) static TEXT: Text = Text {
    id: RuleId(40005),
    title: "two processes write one page",
    what: "In VA mode a process id other than 0 writes a page that another one has written, through a mapping that the tables still have.",
    why: "Unless both are meant to share it, the page was given away twice, and each destroys what the other stores.",
    happened: "xe, CVE-2026-31479, is of this kind.",
    mend: "Take the page out of the first process's tables, and invalidate, before another gets it.",
    limits: "Off by itself: drivers share memory between processes, and nothing tells whether that is meant. 1024 pages are remembered, each with its last writer.",
    level: Level::Off,
};

/// Pages that are remembered.
const KEPT: usize = 1024;

/// A write of a page.
#[derive(Clone, Copy)]
struct Write {
    process_id: u8,
    va: GpuVa,
    at: u64,
}

/// By page, in VRAM or not, its last write.
#[derive(Default)]
pub(super) struct State {
    last: HashMap<(bool, u64), Write>,
}

fn page_of(target: Target) -> (bool, u64) {
    (matches!(target, Target::Vram(_)), target.address() >> 12)
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Access(access, look) = fact else {
            return;
        };
        if !access.write || access.process_id == 0 {
            return;
        }
        log.checked();
        let (local, first) = page_of(access.target);
        let (_, last) = page_of(access.target.add(access.bytes.max(1) - 1));
        for (page, n) in (first..=last).zip(0..) {
            if self.last.len() >= KEPT {
                self.last.clear();
            }
            let now = Write {
                process_id: access.process_id,
                va: GpuVa((access.va.page() + n) << 12),
                at: seen.at,
            };
            let Some(before) = self.last.insert((local, page), now) else {
                continue;
            };
            let to = look.entry(before.process_id, before.va).and_then(leads_to);
            let stands = to.is_some_and(|to| page_of(to) == (local, page));
            if before.process_id == now.process_id || !stands {
                continue;
            }
            let place = vec![
                ("page", format!("{:#x}", page << 12)),
                ("memory", if local { "vram" } else { "bus" }.to_owned()),
            ];
            let of = |write: &Write| format!("{}, process id {}", write.va, write.process_id);
            log.report(place, || Finding {
                now: format!("a page of {} is written at {}", access.target, of(&now)),
                before: Some((
                    before.at,
                    format!("it was written at {}, which still maps it", of(&before)),
                )),
                history: Vec::new(),
                would_do: "one owner, or this rule off where sharing is meant".into(),
            });
        }
    }

    fn hears_accesses(&self) -> bool {
        true
    }
}
