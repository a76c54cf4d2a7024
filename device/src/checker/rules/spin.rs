//! 70011: a register is polled for ever.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;

pub(super) static TEXT: Text = Text {
    id: RuleId(70011),
    title: "a register is polled for ever",
    what: "One register is read 100000 times with the same value, no ring has work meanwhile, and \
           nothing else happens in between: no other access, no packet, no fence, no interrupt.",
    why: "Nothing that the model does will change the value. On silicon the CPU spins, perhaps \
           with interrupts off.",
    happened: "No public fix is known; rocjitsu, a simulator of another chip, ends such runs.",
    mend: "Give the poll a limit, and look at what it waits for: a halted ring, a unit in reset, \
           an enable that is missing.",
    limits: "Reads are counted and not time: a poll of a microsecond is found after 0.1 s, one that \
             sleeps a millisecond between its reads after 100 s. Waits in memory are not seen. A ring with work that goes on may still change the value: \
             such reads are not counted.",
    level: Level::Warn,
};

/// Reads after which nothing comes any more.
const PATIENCE: u64 = 100_000;

#[derive(Default)]
pub(super) struct State {
    last: Option<(Reg, u32, u64)>,
    count: u64,
    since: u64,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Read {
            reg,
            index,
            value,
            busy,
        } = *fact
        else {
            if !matches!(fact, Fact::End) {
                self.last = None;
            }
            return;
        };
        log.checked();
        if busy {
            self.last = None;
            return;
        }
        let now = Some((reg, index, value));
        if self.last != now {
            *self = Self {
                last: now,
                count: 0,
                since: seen.at,
            };
        }
        self.count += 1;
        if self.count != PATIENCE {
            return;
        }
        let name = reg.info().label(index).to_string();
        log.report(
            vec![("register", name.clone()), ("value", format!("{value:#x}"))],
            || Finding {
                now: format!("{name} was read {PATIENCE} times in a row and is {value:#x}"),
                before: Some((self.since, "the first of these reads".into())),
                history: Vec::new(),
                would_do: "a limit, and a look at why it does not change".into(),
            },
        );
    }
}
