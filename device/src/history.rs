//! The last records of one kind: faults, ring errors, unmet waits.

use crate::counters::COUNT_MAX;
use crate::log_limit::worth_a_line;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;

/// Records kept; older ones are dropped.
const KEPT: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct History<T> {
    records: VecDeque<T>,
    /// Those that were dropped as well.
    total: u64,
}

impl<T> Default for History<T> {
    fn default() -> Self {
        Self {
            records: VecDeque::new(),
            total: 0,
        }
    }
}

impl<T: fmt::Display> History<T> {
    pub(crate) fn record(&mut self, record: T) {
        self.total += 1;
        if worth_a_line(self.total) {
            tracing::warn!(count = self.total, "{record}");
        }
        if self.records.len() == KEPT {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Whether a restored one keeps what the rest of the model relies on.
    pub(crate) fn is_sound(&self) -> bool {
        self.records.len() <= KEPT && self.total <= COUNT_MAX
    }

    pub(crate) fn last(&self) -> Option<&T> {
        self.records.back()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.records.iter()
    }
}
