//! The checker itself: tells each rule what it is to judge.

use crate::checker::fact::{Command, Fact};
use crate::checker::level::Level;
use crate::checker::levels::Levels;
use crate::checker::log::{Armed, Log, Reports, Shared};
use crate::checker::report::Unwatched;
use crate::checker::rule::Rule;
use crate::checker::rules;
use crate::checker::seen::Seen;
use crate::checker::suppressions::Suppressions;
use crate::mmu::look::Look;
use crate::watch::{Event, Watch};
use crate::width::Width;
use e3k_regs::Reg;
use e3k_regs::packet::halves;
use e3k_regs::register::Word;
use std::sync::Arc;

/// What a checker is to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Levels of groups and rules.
    pub levels: Levels,
    /// Findings that are known.
    pub suppressions: Suppressions,
}

/// The driver checker. Give it to [`Gpu::set_watch`](crate::Gpu::set_watch); keep its
/// [`Reports`]. What only the end can tell is reported when it is dropped.
pub struct Checker {
    shared: Arc<Shared>,
    rules: Vec<Box<dyn Rule>>,
    seen: Seen,
}

impl Checker {
    /// Arms every rule whose level is not off. Nothing is known of what happened before.
    pub fn new(options: &Options) -> Self {
        let (mut armed, mut rules, mut off) = (Vec::new(), Vec::new(), Vec::new());
        for (text, make) in rules::ALL {
            match options.levels.of(text.id.0, text.level) {
                Level::Off => off.push(text.id),
                level => {
                    armed.push(Armed::new(text, level));
                    rules.push(make());
                }
            }
        }
        let known = options.suppressions.0.clone();
        Self {
            shared: Arc::new(Shared::new(armed, off, known, UNWATCHED.to_vec())),
            rules,
            seen: Seen::default(),
        }
    }

    /// What it finds.
    pub fn reports(&self) -> Reports {
        Reports(Arc::clone(&self.shared))
    }

    fn tell(&mut self, fact: &Fact<'_>) {
        let Self {
            shared,
            rules,
            seen,
        } = self;
        for (rule, judge) in rules.iter_mut().enumerate() {
            let log = Log {
                shared,
                rule,
                at: seen.at,
            };
            judge.saw(fact, seen, &log);
        }
        seen.note(fact);
    }

    fn write(&mut self, offset: u32, width: Width, value: u64) {
        let shift = offset % 4 * 8;
        let [low, high] = halves(value << shift);
        let [lanes, above] = halves(width.ones() << shift);
        for (word, value, lanes) in [(offset & !3, low, lanes), ((offset & !3) + 4, high, above)] {
            if lanes == 0 {
                continue;
            }
            if Reg::word(word) == Word::Undeclared {
                self.tell(&Fact::Undeclared {
                    offset: word,
                    write: true,
                });
            }
            for written in self.seen.written(word, value, lanes) {
                self.tell(&Fact::Register(written));
            }
            self.seen.store(word, value, lanes);
        }
    }

    fn read(&mut self, offset: u32, value: u64, busy: bool) {
        match Reg::find(offset) {
            Some((reg, index)) => self.tell(&Fact::Read {
                reg,
                index,
                value,
                busy,
            }),
            None => self.tell(&Fact::Undeclared {
                offset: offset & !3,
                write: false,
            }),
        }
    }
}

impl Watch for Checker {
    fn saw(&mut self, event: &Event<'_>, _: &Look<'_>) {
        self.seen.at = self.shared.event();
        match *event {
            Event::Write {
                offset,
                width,
                value,
            } => self.write(offset, width, value),
            Event::Read {
                offset,
                value,
                busy,
                ..
            } => self.read(offset, value, busy),
            Event::Misuse {
                reg,
                index,
                kind,
                bits,
            } => self.tell(&Fact::Misuse {
                reg,
                index,
                kind,
                bits,
            }),
            Event::Reset => self.tell(&Fact::Reset),
            Event::Packet {
                ring,
                offset,
                in_buffer,
                dwords,
                len,
            } => {
                self.shared.packet();
                self.tell(&Fact::Packet(Command {
                    ring: ring.into(),
                    offset,
                    in_buffer,
                    dwords,
                    len,
                }));
            }
            Event::Halted(error) => self.tell(&Fact::Halted(error)),
            Event::Unmet(wait) => self.tell(&Fact::Unmet(wait)),
            Event::Fence(fence) => self.tell(&Fact::Fence(fence)),
            Event::Interrupt => self.tell(&Fact::Interrupt),
            Event::Latched(_) => self.tell(&Fact::Latched),
            // Tables, TLBs and memory: no rule is about them yet.
            _ => {}
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.seen.at = self.shared.event();
        self.tell(&Fact::End);
    }
}

/// What no rule has the knowledge for.
const UNWATCHED: &[Unwatched] = &[
    Unwatched {
        what: "what the driver did before the checker began to look",
        why: "it is not known",
    },
    Unwatched {
        what: "owners of pages: memory given away while the GPU may still use it",
        why: "the guest's IOMMU does not tell of mappings",
    },
    Unwatched {
        what: "CPU caches of unsnooped memory",
        why: "the model does not see the CPU's accesses",
    },
];
