//! What is done about findings, by rule and by group.

use crate::checker::level::Level;
use crate::checker::rules::text;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Levels as they are chosen: `warn`, `10001=off,6=fault`. A word alone is for all
/// rules but those that are off by themselves; a digit is a group. A rule's own choice
/// counts before its group's, that before the word alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    all: Option<Level>,
    groups: BTreeMap<u32, Level>,
    rules: BTreeMap<u32, Level>,
}

/// Why levels are not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelsError {
    /// No level has this name.
    #[error("`{0}` is no level: off, warn or fault")]
    Level(String),
    /// Neither a group nor a rule.
    #[error("`{0}` is neither a group (1 to 7) nor a rule (five digits, docs/rules/)")]
    Target(String),
}

impl Levels {
    /// The level of a rule, which by itself has level `own`.
    pub fn of(&self, rule: u32, own: Level) -> Level {
        let all = self.all.filter(|all| own != Level::Off || *all == own);
        let chosen = self.rules.get(&rule).copied();
        chosen
            .or_else(|| self.groups.get(&(rule / 10_000)).copied())
            .or(all)
            .unwrap_or(own)
    }

    /// Rules that are named.
    pub fn named(&self) -> impl Iterator<Item = u32> {
        self.rules.keys().copied()
    }
}

impl FromStr for Levels {
    type Err = LevelsError;

    fn from_str(chosen: &str) -> Result<Self, LevelsError> {
        let mut levels = Self::default();
        let parts = chosen.split(',').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            let (target, level) = match part.split_once('=') {
                Some((target, level)) => (Some(target.trim()), level.trim()),
                None => (None, part),
            };
            let level = match level {
                "off" => Level::Off,
                "warn" => Level::Warn,
                "fault" => Level::Fault,
                other => return Err(LevelsError::Level(other.into())),
            };
            let Some(target) = target else {
                levels.all = Some(level);
                continue;
            };
            match (target.len(), target.parse::<u32>()) {
                (1, Ok(group @ 1..=7)) => levels.groups.insert(group, level),
                (5, Ok(rule)) if text(rule).is_some() => levels.rules.insert(rule, level),
                _ => return Err(LevelsError::Target(target.into())),
            };
        }
        Ok(levels)
    }
}
