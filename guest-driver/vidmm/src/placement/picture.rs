//! A segment as a line of text: what lies where, at a glance.

use core::fmt::{self, Write};
use core::ops::Range;

/// Characters of a bar.
pub const WIDTH: usize = 64;

/// A bar of a segment, lowest address first. Each character stands for the same
/// number of pages: `.` if all are free, else who has most of those in use.
///
/// ```
/// use vidmm::placement::picture::Bar;
/// let mut bar = Bar::new(6400);
/// bar.add(0..1600, 'K');
/// bar.add(6399..6400, 'a');
/// assert_eq!(bar.to_string(), format!("[{}{}a]", "K".repeat(16), ".".repeat(47)));
/// ```
///
/// # Invariants
/// Whose letter has more than half of the pages that were added to a cell, that one's leads
/// there.
#[derive(Clone, Debug)]
pub struct Bar {
    pages: u64,
    /// The letter that leads in each cell, and by how many pages.
    cells: [(char, u64); WIDTH],
}

impl Bar {
    /// The bar of a segment of `pages` pages, all of them free. It has at most 2^58.
    pub fn new(pages: u64) -> Self {
        Self {
            // Products with WIDTH fit then.
            pages: pages.min(u64::MAX / WIDTH as u64),
            cells: [('.', 0); WIDTH],
        }
    }

    /// Pages that are in use, by whom a letter says. What lies outside the segment
    /// is left out.
    pub fn add(&mut self, pages: Range<u64>, letter: char) {
        let end = pages.end.min(self.pages);
        let mut at = pages.start;
        while at < end {
            let cell = at * WIDTH as u64 / self.pages;
            let next = (self.pages * (cell + 1)).div_ceil(WIDTH as u64).min(end);
            let cell = usize::try_from(cell).unwrap_or(WIDTH);
            if let Some(cell) = self.cells.get_mut(cell) {
                vote(cell, letter, next - at);
            }
            at = next;
        }
    }
}

/// One pass finds who has the majority, if anybody has.
fn vote((leader, lead): &mut (char, u64), letter: char, pages: u64) {
    if *leader == letter {
        *lead += pages;
    } else if *lead < pages {
        (*leader, *lead) = (letter, pages - *lead);
    } else {
        *lead -= pages;
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        for (letter, _) in self.cells {
            f.write_char(letter)?;
        }
        f.write_char(']')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cell_shows_who_has_most_of_it_and_a_dot_only_if_all_of_it_is_free() {
        let mut bar = Bar::new(64 * 10);
        bar.add(0..1, 'a');
        bar.add(10..13, 'a');
        bar.add(13..17, 'b');
        bar.add(20..26, 'c');
        bar.add(26..28, 'd');
        bar.add(28..30, 'c');
        assert_eq!(bar.to_string(), format!("[abc{}]", ".".repeat(61)));
    }

    /// The first cell after each of these, in the order in which they come.
    #[test]
    fn a_letter_leads_by_what_it_has_more_than_others() {
        let mut bar = Bar::new(64 * 100);
        let mut at = 0;
        for (pages, letter, leads) in [
            (3, 'a', 'a'),
            (5, 'b', 'b'),
            (1, 'b', 'b'),
            (3, 'a', 'b'),
            (1, 'a', 'a'),
            (4, 'b', 'b'),
            (4, 'a', 'a'),
            (2, 'a', 'a'),
            (2, 'b', 'a'),
        ] {
            bar.add(at..at + pages, letter);
            at += pages;
            assert_eq!(bar.cells[0].0, leads, "after page {at}");
        }
    }

    proptest! {
        #[test]
        fn every_page_in_use_shows_and_nothing_else_does(
            pages in 1..5000_usize,
            uses in prop::collection::vec((0..6000_usize, 1..200_usize), 0..5),
        ) {
            let mut bar = Bar::new(pages as u64);
            let mut used = vec![false; pages];
            for (first, count) in uses {
                let end = first + count;
                bar.add(first as u64..end as u64, 'x');
                used[first.min(pages)..end.min(pages)].fill(true);
            }
            let mut expected = ['.'; WIDTH];
            for (page, _) in used.iter().enumerate().filter(|(_, used)| **used) {
                expected[page * WIDTH / pages] = 'x';
            }
            let expected: String = expected.iter().collect();
            prop_assert_eq!(bar.to_string(), format!("[{expected}]"));
        }

        #[test]
        fn any_numbers_end(pages in 0..=u64::MAX / 64, first in any::<u64>(), end in any::<u64>()) {
            let mut bar = Bar::new(pages);
            bar.add(first..end, 'x');
            prop_assert_eq!(bar.to_string().contains('x'), first < end.min(pages));
        }
    }
}
