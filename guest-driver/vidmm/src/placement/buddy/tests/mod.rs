//! The buddy: its rules one by one, and all of them against a map of pages.
//! `PROPTEST_CASES=100000 cargo nextest run -p vidmm map_of_pages` looks longer.

mod known;
mod model;
mod random;
mod rules;

use super::layers::Layers;
use super::{Buddy, Options};
use crate::placement::Extent;

pub(super) const PLAIN: Options = Options {
    chunk: 1,
    fit: crate::placement::Fit::Low,
    track_clear: true,
    reserve: 0,
};

impl<F: Clone + PartialEq> Layers<F> {
    /// Every invariant that the type states.
    fn check(&self, all: Extent) {
        self.free.check();
        let room = |set: &crate::placement::holes::Holes| {
            let back = set.ranges() + self.booked + self.fenced.len();
            assert!(set.memory().1 >= back / 4 + 2, "room for {back} ranges");
        };
        room(&self.free);
        assert!(self.fenced.capacity() >= self.fenced.len() + self.booked);
        let mut busy: Vec<Extent> = self.fenced.iter().map(|f| f.extent).collect();
        busy.sort_unstable();
        busy.extend(self.free.iter());
        busy.sort_unstable();
        assert!(
            busy.windows(2).all(|pair| pair[0].end <= pair[1].first),
            "{busy:?}"
        );
        assert!(busy.iter().all(|extent| all.contains(*extent)));
        let Some(states) = &self.states else {
            return;
        };
        states.clear.check();
        states.dirty.check();
        room(&states.clear);
        room(&states.dirty);
        assert_eq!(
            states.clear.pages() + states.dirty.pages(),
            self.free.pages()
        );
        for run in states.clear.iter().chain(states.dirty.iter()) {
            assert!(self.free.lowest_in(run) == Some(run), "{run:?} is not free");
        }
    }
}

impl<F: Clone + PartialEq> Buddy<F> {
    pub(super) fn check(&self) {
        self.layers.check(Extent::new(0, self.pages));
        let stats = self.stats();
        assert!(stats.clear_avail <= stats.avail && stats.avail <= stats.total);
        let blocks = stats.free_blocks.iter().enumerate();
        let in_blocks: u64 = blocks
            .map(|(order, n)| (n * self.options.chunk) << order)
            .sum();
        assert_eq!(in_blocks, stats.avail - stats.fenced);
    }
}
