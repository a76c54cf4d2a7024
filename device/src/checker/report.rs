//! What a finding looks like: two events, the history of the thing, and what would do.

use crate::checker::level::Level;
use crate::checker::suppression::Suppression;
use crate::checker::text::RuleId;
use serde::{Serialize, Serializer};
use std::fmt::{self, Write as _};

/// Where something was found, as `key=value` of the report's line.
pub(crate) type Place = Vec<(&'static str, String)>;

/// What a rule has found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// What happens now.
    pub(crate) now: String,
    /// What makes it wrong, and the number of the event that was.
    pub(crate) before: Option<(u64, String)>,
    /// What happened to the thing, oldest first.
    pub(crate) history: Vec<String>,
    /// What would have been enough.
    pub(crate) would_do: String,
}

/// One finding, and how often it was found at the same place.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The rule.
    pub rule: RuleId,
    /// Its title.
    pub title: &'static str,
    /// Its level.
    pub level: Level,
    /// The number of the event, counted from 1 since the checker began to look.
    pub event: u64,
    /// How often it was found at this place.
    pub count: u64,
    /// What happened.
    pub now: String,
    /// What makes it wrong.
    pub before: Option<String>,
    /// The number of the event that was.
    pub before_event: Option<u64>,
    /// What happened to the thing, oldest first.
    pub history: Vec<String>,
    /// What would have been enough.
    pub would_do: String,
    /// Where: stable keys.
    #[serde(serialize_with = "map")]
    pub place: Vec<(&'static str, String)>,
}

fn map<S: Serializer>(place: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(place.iter().map(|(key, value)| (key, value)))
}

impl Report {
    /// The line for programs: `rule=60001 level=warn event=12 count=1 ring=0 ...`. Keys do
    /// not change their meaning.
    pub fn line(&self) -> String {
        let Self {
            rule,
            level,
            event,
            count,
            ..
        } = self;
        let mut line = format!("rule={rule} level={level} event={event} count={count}");
        for (key, value) in &self.place {
            // Writing to a string cannot fail.
            let _ = write!(line, " {key}={value}");
        }
        line
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "presil[{}] {}", self.rule, self.title)?;
        writeln!(f, "  {} (event {})", self.now, self.event)?;
        if let Some(before) = &self.before {
            write!(f, "  {before}")?;
            match self.before_event {
                Some(event) => writeln!(f, " (event {event})")?,
                None => writeln!(f)?,
            }
        }
        if !self.history.is_empty() {
            writeln!(f, "  history    {}", self.history.join(" · "))?;
        }
        writeln!(f, "  would do   {}", self.would_do)?;
        if self.count > 1 {
            writeln!(f, "  found {} times here", self.count)?;
        }
        write!(f, "  {}", self.line())
    }
}

/// One rule in a run.
#[derive(Clone, Debug, Serialize)]
pub struct RuleSummary {
    /// The rule.
    pub rule: RuleId,
    /// Its level; not off.
    pub level: Level,
    /// How often it had something to judge; 0: it says nothing about this driver.
    pub checked: u64,
    /// How often it found something, suppressed ones too.
    pub found: u64,
    /// Findings at further places, when it had too many to list.
    pub unlisted: u64,
}

/// What was not watched, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unwatched {
    /// What.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
}

/// What a run of the checker is worth: no green by accident.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Events that were told.
    pub events: u64,
    /// Packets among them: work of the driver's.
    pub packets: u64,
    /// Accesses of memory among them.
    pub accesses: u64,
    /// The rules that are armed.
    pub rules: Vec<RuleSummary>,
    /// Rules that are off.
    pub off: Vec<RuleId>,
    /// What no armed rule looks at.
    pub unwatched: Vec<Unwatched>,
    /// Findings that a suppression covered.
    pub suppressed: u64,
    /// Suppressions that covered nothing.
    pub unmatched: Vec<Suppression>,
}

impl Summary {
    /// The armed rules that had nothing to judge.
    pub fn without_input(&self) -> impl Iterator<Item = RuleId> {
        let idle = self.rules.iter().filter(|rule| rule.checked == 0);
        idle.map(|rule| rule.rule)
    }

    /// Whether a driver was seen to do anything at all: without that, no reports say
    /// nothing.
    pub fn saw_work(&self) -> bool {
        self.packets > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            events,
            packets,
            accesses,
            rules,
            suppressed,
            ..
        } = self;
        let (armed, off) = (rules.len(), self.off.len());
        let found: u64 = rules.iter().map(|rule| rule.found).sum();
        let unlisted: u64 = rules.iter().map(|rule| rule.unlisted).sum();
        writeln!(
            f,
            "driver checker: {armed} rules armed, {off} off; {events} events, {packets} packets, {accesses} accesses checked"
        )?;
        write!(f, "  found {found}, of them suppressed {suppressed}")?;
        if unlisted > 0 {
            write!(f, ", not listed {unlisted}")?;
        }
        writeln!(f)?;
        let idle: Vec<_> = self.without_input().map(|rule| rule.to_string()).collect();
        if !idle.is_empty() {
            writeln!(f, "  nothing to judge for {}", idle.join(" "))?;
        }
        for Unwatched { what, why } in &self.unwatched {
            writeln!(f, "  not watched: {what}: {why}")?;
        }
        for Suppression { rule, reason, .. } in &self.unmatched {
            writeln!(f, "  a suppression of {rule} matched nothing: {reason}")?;
        }
        if !self.saw_work() {
            writeln!(
                f,
                "  no work was seen: this run says nothing about a driver"
            )?;
        }
        Ok(())
    }
}
