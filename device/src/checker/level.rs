//! What is done about a finding.

use serde::Serialize;
use std::fmt;

/// What is done when a rule finds something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing: the rule is not armed.
    Off,
    /// It is reported.
    #[default]
    Warn,
    /// It is reported, and the access is made to fault where one is to blame.
    Fault,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Fault => "fault",
        })
    }
}
