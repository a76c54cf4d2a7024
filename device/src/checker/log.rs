//! What was found so far, shared with whoever reads it. Bounded: repeats and what is
//! too much are counted.

use crate::checker::cache_lines::Follows;
use crate::checker::level::Level;
use crate::checker::report::{Finding, Place, Report, RuleSummary, Summary, Unwatched};
use crate::checker::suppression::Suppression;
use crate::checker::text::{RuleId, Text};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places of one rule that are listed.
pub(crate) const PLACES: usize = 16;

/// What the checker knows of each rule.
pub(crate) struct Armed {
    pub(crate) text: &'static Text,
    pub(crate) level: Level,
    checked: AtomicU64,
}

impl Armed {
    pub(crate) fn new(text: &'static Text, level: Level) -> Self {
        Self {
            text,
            level,
            checked: AtomicU64::new(0),
        }
    }
}

/// Of one rule.
#[derive(Clone, Default)]
struct Found {
    reports: Vec<Report>,
    count: u64,
    unlisted: u64,
}

#[derive(Default)]
struct Lists {
    found: Vec<Found>,
    suppressed: u64,
    /// What was followed of the CPU last.
    follows: Follows,
    unwatched: Vec<Unwatched>,
    /// How often each suppression covered something.
    covered: Vec<u64>,
}

pub(crate) struct Shared {
    pub(crate) rules: Vec<Armed>,
    off: Vec<RuleId>,
    suppressions: Vec<Suppression>,
    events: AtomicU64,
    packets: AtomicU64,
    accesses: AtomicU64,
    lists: Mutex<Lists>,
}

/// One more, of a count that one thread writes.
fn count(counter: &AtomicU64) -> u64 {
    let next = counter.load(Ordering::Relaxed) + 1;
    counter.store(next, Ordering::Relaxed);
    next
}

impl Shared {
    pub(crate) fn new(
        rules: Vec<Armed>,
        off: Vec<RuleId>,
        suppressions: Vec<Suppression>,
        unwatched: Vec<Unwatched>,
    ) -> Self {
        let lists = Lists {
            found: vec![Found::default(); rules.len()],
            suppressed: 0,
            follows: Follows::Nothing,
            unwatched,
            covered: vec![0; suppressions.len()],
        };
        Self {
            rules,
            off,
            suppressions,
            events: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            accesses: AtomicU64::new(0),
            lists: Mutex::new(lists),
        }
    }

    /// The number of an event that is told now.
    pub(crate) fn event(&self) -> u64 {
        count(&self.events)
    }

    pub(crate) fn access(&self) {
        count(&self.accesses);
    }

    /// So much is followed of the CPU from now on.
    pub(crate) fn follow(&self, follows: Follows) {
        self.lists().follows = follows;
    }

    pub(crate) fn packet(&self) {
        count(&self.packets);
    }

    /// From now on this is watched.
    pub(crate) fn watches(&self, what: &Unwatched) {
        self.lists().unwatched.retain(|other| other != what);
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a finding; false if a suppression covers it.
    fn record(
        &self,
        rule: usize,
        at: u64,
        place: Place,
        finding: impl FnOnce() -> Finding,
    ) -> bool {
        let armed = &self.rules[rule];
        let mut lists = self.lists();
        let lists = &mut *lists;
        lists.found[rule].count += 1;
        let mut all = self.suppressions.iter();
        if let Some(known) = all.position(|known| known.covers(armed.text.id, &place)) {
            lists.covered[known] += 1;
            lists.suppressed += 1;
            return false;
        }
        let found = &mut lists.found[rule];
        if let Some(report) = found
            .reports
            .iter_mut()
            .find(|report| report.place == place)
        {
            report.count += 1;
            return true;
        }
        if found.reports.len() == PLACES {
            found.unlisted += 1;
            return true;
        }
        let finding = finding();
        let (before_event, before) = finding.before.unzip();
        let report = Report {
            rule: armed.text.id,
            title: armed.text.title,
            level: armed.level,
            event: at,
            count: 1,
            now: finding.now,
            before,
            before_event,
            history: finding.history,
            would_do: finding.would_do,
            place,
        };
        tracing::warn!("{report}");
        found.reports.push(report);
        true
    }
}

/// Where one rule says what it has seen.
pub(crate) struct Log<'a> {
    pub(crate) shared: &'a Shared,
    /// Its place among the armed ones.
    pub(crate) rule: usize,
    /// The number of the event.
    pub(crate) at: u64,
    /// Whether what happens is to be refused.
    pub(crate) refuse: &'a Cell<bool>,
}

impl Log<'_> {
    /// There was something to judge.
    pub(crate) fn checked(&self) {
        count(&self.shared.rules[self.rule].checked);
    }

    /// It was wrong.
    pub(crate) fn report(&self, place: Place, finding: impl FnOnce() -> Finding) {
        let counts = self.shared.record(self.rule, self.at, place, finding);
        if counts && self.shared.rules[self.rule].level == Level::Fault {
            self.refuse.set(true);
        }
    }
}

/// What is not known of the CPU.
fn unwatched(follows: Follows) -> Vec<Unwatched> {
    match follows {
        Follows::Nothing => vec![Unwatched {
            what: "CPU caches of unsnooped memory",
            why: "the model does not see the CPU's accesses",
        }],
        Follows::Stores => vec![Unwatched {
            what: "what the CPU reads from its caches of unsnooped memory",
            why: "its stores and flushes are followed, its loads are not",
        }],
        Follows::StoresAndLoads => Vec::new(),
    }
}

/// A handle to what a [`Checker`](super::Checker) finds, in any thread, at any time, also
/// when the checker is gone.
#[derive(Clone)]
pub struct Reports(pub(crate) Arc<Shared>);

impl Reports {
    /// Every report so far, in the order in which they were found first. At most 16 for
    /// each rule; [`RuleSummary::unlisted`] counts the others.
    pub fn list(&self) -> Vec<Report> {
        let lists = self.0.lists();
        let all = lists.found.iter().flat_map(|found| &found.reports);
        let mut all: Vec<_> = all.cloned().collect();
        all.sort_by_key(|report| report.event);
        all
    }

    /// What the run is worth so far.
    pub fn summary(&self) -> Summary {
        let shared = &*self.0;
        let lists = shared.lists();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rules = shared.rules.iter().zip(&lists.found);
        let suppressions = shared.suppressions.iter().zip(&lists.covered);
        let unmatched = suppressions.filter(|(_, covered)| **covered == 0);
        Summary {
            events: load(&shared.events),
            packets: load(&shared.packets),
            accesses: load(&shared.accesses),
            rules: rules
                .map(|(armed, found)| RuleSummary {
                    rule: armed.text.id,
                    level: armed.level,
                    checked: load(&armed.checked),
                    found: found.count,
                    unlisted: found.unlisted,
                })
                .collect(),
            off: shared.off.clone(),
            unwatched: [lists.unwatched.clone(), unwatched(lists.follows)].concat(),
            suppressed: lists.suppressed,
            unmatched: unmatched.map(|(known, _)| known.clone()).collect(),
        }
    }
}
