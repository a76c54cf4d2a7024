//! A heap in figures.

use super::layers::Layers;

/// Orders of blocks that are counted: up to 2^51 chunks.
pub(super) const ORDERS: usize = 52;

/// What is free in a heap, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// All pages.
    pub total: u64,
    /// Those that are free, also while somebody still works on them.
    pub avail: u64,
    /// Those of them that are known to be zero, and that nobody works on.
    pub clear_avail: u64,
    /// Those of them that somebody still works on.
    pub fenced: u64,
    /// The longest run of free pages that nobody works on.
    pub largest_free_run: u64,
    /// Free blocks of 2^n chunks, each as large as it can be at its address; what
    /// somebody works on is left out.
    pub free_blocks: [u64; ORDERS],
}

impl Stats {
    /// The share of free pages that is not in the longest run, in thousandths: 0
    /// when all that is free is one run, or nothing is.
    pub fn fragmentation(&self) -> u64 {
        let idle = self.avail - self.fenced;
        let elsewhere = u128::from(idle - self.largest_free_run) * 1000;
        let share = elsewhere.checked_div(u128::from(idle)).unwrap_or(0);
        u64::try_from(share).unwrap_or(1000)
    }
}

impl<F: Clone + PartialEq> Layers<F> {
    /// Counts blocks run by run.
    pub(super) fn stats(&self, total: u64, chunk: u64) -> Stats {
        let mut free_blocks = [0; ORDERS];
        for run in self.free.iter() {
            let (mut at, end) = (run.first / chunk, run.end / chunk);
            while at < end {
                let order = at.trailing_zeros().min((end - at).ilog2());
                let last = free_blocks.len() - 1;
                let order = (order as usize).min(last);
                free_blocks[order] += 1;
                at += 1 << order;
            }
        }
        Stats {
            total,
            avail: self.pages(),
            clear_avail: self.clear_pages(),
            fenced: self.fenced_pages(),
            largest_free_run: self.free.longest(),
            free_blocks,
        }
    }
}
