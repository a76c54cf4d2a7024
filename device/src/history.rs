//! The last records of one kind: faults, ring errors, unmet waits.

use crate::log_limit::worth_a_line;
use crate::saved::history as saved;
use crate::saved::{Damage, countable, ensure};
use std::collections::VecDeque;
use std::fmt;

/// Records kept; older ones are dropped.
const KEPT: usize = 1024;

#[derive(Debug)]
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

impl<T: Clone> History<T> {
    pub(crate) fn save(&self) -> saved::History<T> {
        let Self { records, total } = self;
        saved::History {
            records: records.iter().cloned().collect(),
            total: *total,
        }
    }

    /// # Errors
    /// More records than are kept, or than anybody counts.
    pub(crate) fn restore(saved: saved::History<T>) -> Result<Self, Damage> {
        let saved::History { records, total } = saved;
        ensure(records.len() <= KEPT, || {
            format!("{} records, expected at most {KEPT}", records.len())
        })?;
        Ok(Self {
            records: records.into(),
            total: countable("records", total)?,
        })
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

    pub(crate) fn last(&self) -> Option<&T> {
        self.records.back()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.records.iter()
    }
}
