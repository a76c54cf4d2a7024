//! The checker itself: tells each rule what it is to judge.

use crate::checker::cache_lines::{CacheLines, Follows};
use crate::checker::caches::Caches;
use crate::checker::criteria::Criteria;
use crate::checker::fact::{Command, Fact, WalkedEntry};
use crate::checker::level::Level;
use crate::checker::levels::Levels;
use crate::checker::log::{Armed, Log, Reports, Shared};
use crate::checker::report::Unwatched;
use crate::checker::rule::Rule;
use crate::checker::rules;
use crate::checker::seen::Seen;
use crate::checker::suppressions::Suppressions;
use crate::checker::unmapped::{self, Unmapping};
use crate::memory::Target;
use crate::mmu::access::{Access, EntryAt};
use crate::mmu::look::Look;
use crate::watch::{Event, Watch};
use crate::width::Width;
use e3k_regs::fields::{FaultClient, RingWord};
use e3k_regs::packet::halves;
use e3k_regs::register::Word;
use e3k_regs::{Reg, VramOffset};
use std::cell::Cell;
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
    /// What happens comes of a register that the CPU has written.
    by_cpu: bool,
    /// The rules that are told of accesses.
    hear_accesses: Vec<usize>,
    /// What of the CPU is followed, as far as was told.
    follows: Follows,
}

impl Checker {
    /// Arms every rule whose level is not off. Nothing is known of what happened before.
    pub fn new(options: &Options) -> Self {
        Self::looking(options, None)
    }

    /// The same, with the caches of the machine's CPUs in view.
    pub fn with_caches(options: &Options, lines: Box<dyn CacheLines>) -> Self {
        Self::looking(options, Some(lines))
    }

    fn looking(options: &Options, lines: Option<Box<dyn CacheLines>>) -> Self {
        let (mut armed, mut off) = (Vec::new(), Vec::new());
        let mut rules: Vec<Box<dyn Rule>> = Vec::new();
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
        let hear = (0..).zip(&rules).filter(|(_, rule)| rule.hears_accesses());
        Self {
            shared: Arc::new(Shared::new(armed, off, known, UNWATCHED.to_vec())),
            hear_accesses: hear.map(|(n, _)| n).collect(),
            follows: Follows::Nothing,
            rules,
            seen: Seen::with(lines.map(Caches::of).unwrap_or_default()),
            by_cpu: false,
        }
    }

    /// What it finds.
    pub fn reports(&self) -> Reports {
        Reports(Arc::clone(&self.shared))
    }

    /// Tells every rule, and says whether one wants it refused.
    fn tell(&mut self, fact: &Fact<'_>) -> bool {
        let refuse = Cell::new(false);
        for rule in 0..self.rules.len() {
            self.tell_one(rule, fact, &refuse);
        }
        self.seen.note(fact);
        refuse.get()
    }

    fn tell_one(&mut self, rule: usize, fact: &Fact<'_>, refuse: &Cell<bool>) {
        let log = Log {
            shared: &self.shared,
            rule,
            at: self.seen.at,
            refuse,
        };
        if let Some(judge) = self.rules.get_mut(rule) {
            judge.saw(fact, &self.seen, &log);
        }
    }

    fn write(&mut self, offset: u32, width: Width, value: u64, look: &Look<'_>) {
        let shift = offset % 4 * 8;
        let [low, high] = halves(value << shift);
        let [lanes, above] = halves(width.ones() << shift);
        let word = offset & !3;
        for (word, value, lanes) in [(word, low, lanes), (word + 4, high, above)] {
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
                let address = matches!(written.of_ring(), Some((_, RingWord::Address)));
                if address || written.reg == Reg::MmuMode {
                    self.seen.look_ahead(look);
                }
                let rung = match written.of_ring() {
                    Some((ring, RingWord::Tail)) => Some(ring),
                    _ => None,
                };
                if let Some(ring) = rung {
                    let knew = self.seen.owners.known;
                    self.seen.doorbell(ring, written.value, look);
                    if self.seen.owners.known && !knew {
                        self.shared.watches(&OWNERS);
                    }
                    if look.vram().is_untouched(VramOffset(0)).is_some() {
                        self.shared.watches(&UNWRITTEN);
                    }
                }
                self.tell(&Fact::Register(written));
                if rung.is_some() {
                    self.tell(&Fact::Doorbell);
                }
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
        };
    }

    /// What the CPU has done since the last event.
    fn hear_cpu(&mut self, limit: usize) {
        let follows = self.seen.caches.follows();
        if follows != self.follows {
            self.follows = follows;
            self.shared.follow(follows);
        }
        for _ in 0..limit {
            let Some(load) = self.seen.caches.next_load() else {
                return;
            };
            self.tell(&Fact::OldLoad(load));
        }
    }

    /// What the MMU does.
    fn translation(&mut self, event: &Event<'_>, look: &Look<'_>) {
        let at = self.seen.at;
        match *event {
            Event::Walked {
                level, at, entries, ..
            } => {
                self.seen.kernel.walked(level, at, entries);
                if let Some(met) = self.seen.caches.walk(event) {
                    self.tell(&Fact::Unsnooped(&met));
                }
                if let Some(entry) = walked_entry(event, look) {
                    self.tell(&Fact::Walked(entry));
                }
            }
            Event::Filled {
                client,
                process_id,
                va,
                entries,
            } => {
                let key = (client, process_id);
                if client.is_none() {
                    let owners = &mut self.seen.owners;
                    owners.walked(at, process_id, va, entries, look);
                }
                self.seen.tlbs.filled(at, key, va, entries, look);
            }
            Event::Invalidated { target, what, both } => {
                let criteria = Criteria { target, both, what };
                let tlbs = &mut self.seen.tlbs;
                let dropped = tlbs.invalidated(at, &criteria, !self.by_cpu, look);
                let by_cpu = self.by_cpu.then_some(());
                let forgotten = by_cpu.and_then(|()| unmapped::forgotten(&self.seen, look));
                self.tell(&Fact::Invalidated {
                    what,
                    dropped,
                    forgotten,
                });
            }
            Event::Flushed => self.seen.tlbs.flushed(),
            Event::DmaUnmaps { first, last } => {
                let owners = &mut self.seen.owners;
                if let Some(unmapping) = Unmapping::of_driver(owners, (first, last), look) {
                    let lead = unmapping.lead(&self.seen, look);
                    self.tell(&Fact::DmaUnmaps(lead));
                }
            }
            Event::Fault(fault) => _ = self.tell(&Fact::Fault(fault)),
            _ => {}
        }
    }
}

impl Watch for Checker {
    fn saw(&mut self, event: &Event<'_>, look: &Look<'_>) {
        self.seen.at = self.shared.event();
        self.hear_cpu(LOADS);
        match event {
            Event::Write { .. } => self.by_cpu = true,
            Event::Packet { .. } | Event::Set { .. } => self.by_cpu = false,
            _ => {}
        }
        let fact = match *event {
            Event::Write {
                offset,
                width,
                value,
            } => {
                return self.write(offset, width, value, look);
            }
            Event::Set {
                reg, index, value, ..
            } => {
                return self.seen.store(reg.at(index), value, u32::MAX);
            }
            Event::Read {
                offset,
                value,
                busy,
                ..
            } => return self.read(offset, value, busy),
            Event::Misuse {
                reg,
                index,
                kind,
                bits,
            } => Fact::Misuse {
                reg,
                index,
                kind,
                bits,
            },
            Event::Reset => Fact::Reset,
            Event::Sleeps => {
                self.seen.look_ahead(look);
                Fact::Sleeps
            }
            Event::Packet {
                ring,
                offset,
                in_buffer,
                dwords,
                len,
            } => {
                self.shared.packet();
                Fact::Packet(Command {
                    ring: ring.into(),
                    offset,
                    in_buffer,
                    dwords,
                    len,
                })
            }
            Event::Halted(error) => Fact::Halted(error),
            Event::Unmet(wait) => Fact::Unmet(wait),
            Event::Fence(fence) => Fact::Fence(fence),
            Event::Interrupt => Fact::Interrupt,
            Event::Latched(_) => Fact::Latched,
            _ => return self.translation(event, look),
        };
        self.tell(&fact);
    }

    fn admits(&mut self, access: &Access, look: &Look<'_>) -> bool {
        self.seen.at = self.shared.event();
        self.shared.access();
        if access.client == FaultClient::RingFetch {
            self.seen.kernel.fetched(access);
        }
        let refuse = Cell::new(false);
        for n in 0..self.hear_accesses.len() {
            self.tell_one(self.hear_accesses[n], &Fact::Access(access, look), &refuse);
        }
        let stale = self.seen.tlbs.stale(access, look);
        let mut refused = stale.is_some_and(|used| self.tell(&Fact::Stale(access, &used)));
        if let Some(met) = self.seen.caches.meet(access) {
            refused |= self.tell(&Fact::Unsnooped(&met));
        }
        let admitted = !(refused || refuse.get());
        if admitted {
            self.seen.caches.made(self.seen.at, access);
        }
        admitted
    }

    fn may_bend(&self) -> bool {
        false
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.seen.at = self.shared.event();
        self.hear_cpu(LAST_LOADS);
        self.tell(&Fact::End);
    }
}

/// The entry that a walk has read of its address, in VRAM that shows whether it is untouched.
fn walked_entry(event: &Event<'_>, look: &Look<'_>) -> Option<WalkedEntry> {
    let Event::Walked {
        process_id,
        va,
        level,
        at: EntryAt::Memory(Target::Vram(first)),
        entries,
        ..
    } = *event
    else {
        return None;
    };
    // Of a line the entry of the address itself.
    let n = if entries.len() > 1 {
        va.page() & 0xf
    } else {
        0
    };
    let at = first.add(4 * n);
    let untouched = look.vram().is_untouched(at)?;
    Some(WalkedEntry {
        process_id,
        va,
        level,
        at,
        untouched,
    })
}

/// Loads of the CPU's that are judged at one event; further ones are at the next.
const LOADS: usize = 256;
/// The same at the end.
const LAST_LOADS: usize = 4096;

/// What only seeded VRAM shows.
const UNWRITTEN: Unwatched = Unwatched {
    what: "VRAM that is read and was never written",
    why: "it has no pattern (--vram-seed)",
};

/// What only an IOMMU tells.
const OWNERS: Unwatched = Unwatched {
    what: "owners of pages of system memory: what is given away while the GPU may still use it",
    why: "the guest's IOMMU does not tell of mappings",
};

/// What no rule has the knowledge for, in any run.
const UNWATCHED: &[Unwatched] = &[
    Unwatched {
        what: "what the driver did before the checker began to look",
        why: "it is not known",
    },
    Unwatched {
        what: "what the last owner left in VRAM, packets of an earlier lap, and values of fences \
               that were never submitted",
        why: "nobody tells who shares what is left or how a driver counts",
    },
    OWNERS,
    UNWRITTEN,
    Unwatched {
        what: "owners of pages of VRAM",
        why: "nobody tells whom a driver gives them",
    },
];
