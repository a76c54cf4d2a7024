//! The last records of one kind.

use serde::{Deserialize, Serialize};

/// Oldest first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct History<T> {
    pub(crate) records: Vec<T>,
    /// Those that were dropped as well.
    pub(crate) total: u64,
}
