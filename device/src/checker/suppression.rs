//! One finding that is known.

use crate::checker::text::RuleId;
use serde::Serialize;

/// One line of a file of suppressions: `RULE [KEY=VALUE ...] # REASON`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suppression {
    /// The rule.
    pub rule: RuleId,
    /// What a report's line must have.
    pub place: Vec<(String, String)>,
    /// Why the finding is known.
    pub reason: String,
}

impl Suppression {
    /// Whether it covers a finding of this rule at this place.
    pub(crate) fn covers(&self, rule: RuleId, place: &[(&'static str, String)]) -> bool {
        let has = |(key, value): &(String, String)| {
            let mut pairs = place.iter();
            pairs.any(|(k, v)| k == key && v == value)
        };
        self.rule == rule && self.place.iter().all(has)
    }
}
