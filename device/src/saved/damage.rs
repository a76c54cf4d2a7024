//! Why no GPU can be what a saved state says.

use crate::counters::COUNT_MAX;

/// What is wrong with it, and what could be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(String);

impl Damage {
    pub(crate) fn new(told: impl Into<String>) -> Self {
        Self(told.into())
    }

    /// With what it is of, in front.
    pub(crate) fn of(self, what: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {self}"))
    }
}

/// Refuses what is not so; `told` says what it is, and what could be.
pub(crate) fn ensure(so: bool, told: impl FnOnce() -> String) -> Result<(), Damage> {
    if so { Ok(()) } else { Err(Damage(told())) }
}

/// Refuses a count that no GPU reaches.
pub(crate) fn countable(name: &str, count: u64) -> Result<u64, Damage> {
    ensure(count <= COUNT_MAX, || {
        format!("a count of {count} {name}, expected at most {COUNT_MAX}")
    })?;
    Ok(count)
}
