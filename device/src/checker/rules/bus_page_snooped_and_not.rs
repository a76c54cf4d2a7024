//! 30001: one page of system memory is mapped snooped and unsnooped at once.

use crate::checker::fact::{Fact, Written};
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::path::leads_to;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::{RINGS, Seen};
use crate::checker::text::{RuleId, Text};
use crate::memory::{Snoop, Target};
use crate::mmu::look::Look;
use e3k_regs::fields::RingWord;
use e3k_regs::{BusAddr, GpuVa};
use std::collections::HashMap;

pub(super) static TEXT: Text = Text {
    id: RuleId(30001),
    title: "one page of system memory is mapped snooped and unsnooped at once",
    what: "A page of system memory is read or written through one mapping and was through \
           another with the other Snoop bit, which the tables still have, and at least one of \
           them was a write. Both were since the ring was set up that they were made for.",
    why: "What one mapping wrote through the CPU's caches the other does not see, in either \
           direction.",
    happened: "amdgpu, \"set snoop bit in pde/pte entries\" (2021-02), and \"Fix GART page table \
           s-bit\" (2021-01).",
    mend: "Map a page with one attribute, that of the CPU's own mapping.",
    limits: "4096 pages are remembered, each with its last use. What was used before a ring was \
             set up anew is forgotten with that: its pages may be another kernel's by now, which \
             has not come to the old tables yet. Mappings that nothing uses are not \
             judged: known drivers map one dummy page everywhere.",
    level: Level::Warn,
};

/// Pages that are remembered.
const KEPT: usize = 4096;

/// A use of a page.
#[derive(Clone, Copy)]
struct Use {
    snoop: Snoop,
    process_id: u8,
    va: GpuVa,
    write: bool,
    ring: u8,
    at: u64,
}

impl Use {
    /// Whether the tables still have the mapping that it was made through.
    fn stands(&self, page: u64, look: &Look<'_>) -> bool {
        let entry = look.entry(self.process_id, self.va);
        let to = entry.and_then(leads_to);
        to == Some(Target::System(BusAddr(page << 12), self.snoop))
    }
}

/// By page, its last use; by ring, when it was set up.
#[derive(Default)]
pub(super) struct State {
    last: HashMap<u64, Use>,
    set_up: [u64; RINGS],
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let (access, look) = match fact {
            Fact::Access(access, look) => (access, look),
            Fact::Register(written) => return self.register(written, seen),
            _ => return,
        };
        let Target::System(first, snoop) = access.target else {
            return;
        };
        log.checked();
        let last = first.add(access.bytes.max(1) - 1);
        for (page, n) in (first.page()..=last.page()).zip(0..) {
            if self.last.len() >= KEPT {
                self.last.clear();
            }
            let now = Use {
                snoop,
                process_id: access.process_id,
                va: GpuVa((access.va.page() + n) << 12),
                write: access.write,
                ring: access.ring,
                at: seen.at,
            };
            let before = self.last.insert(page, now);
            let wrong = before.filter(|before| {
                let set_up = self.set_up.get(usize::from(before.ring));
                set_up.is_none_or(|set_up| *set_up < before.at)
                    && before.snoop != snoop
                    && (before.write || now.write)
                    && before.stands(page, look)
            });
            if let Some(before) = wrong {
                let place = vec![("bus", format!("{:#x}", page << 12))];
                log.report(place, || finding(page, &now, &before));
            }
        }
    }

    fn hears_accesses(&self) -> bool {
        true
    }
}

impl State {
    fn register(&mut self, written: &Written, seen: &Seen) {
        let Some((n, RingWord::Address)) = written.of_ring() else {
            return;
        };
        if written.before != Some(written.value)
            && let Some(set_up) = self.set_up.get_mut(n)
        {
            *set_up = seen.at;
        }
    }
}

fn finding(page: u64, now: &Use, before: &Use) -> Finding {
    let word = |used: &Use| match used.snoop {
        Snoop::Snooped => "snooped",
        Snoop::Unsnooped => "unsnooped",
    };
    let how = |used: &Use| if used.write { "written" } else { "read" };
    let of = |used: &Use| format!("{} of process id {}", used.va, used.process_id);
    Finding {
        now: format!(
            "bus page {:#x} is {} {}, at {}",
            page << 12,
            how(now),
            word(now),
            of(now)
        ),
        before: Some((
            before.at,
            format!(
                "it was {} {}, at {}, which still maps it",
                how(before),
                word(before),
                of(before)
            ),
        )),
        history: Vec::new(),
        would_do: "one Snoop bit for the page".into(),
    }
}
