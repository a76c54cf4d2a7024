//! Operations on budgets.

use super::{TYPES, Test};
use crate::evict::Budget;

impl Test {
    pub(super) fn budget(&self, owner: usize, segment: usize, pages: [u64; 3]) {
        let [min, low, limit] = pages.map(|pages| pages * 4096);
        let budget = Budget { min, low, limit };
        let _ = self
            .mm
            .set_budget(self.owners[owner], TYPES[segment], budget);
    }
}
