//! Random use against the map of pages, garbage included.

use super::super::{Buddy, Options};
use super::model::{Booked, Model, Page};
use crate::Error;
use crate::placement::holes::checker::naive_runs;
use crate::placement::{Booking, Extent, Fit, Flags, Freed, Request, Window};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Book(Request, Window, Flags),
    GiveBack(usize, Freed<u8>),
    Trim(usize, Option<u64>, u64),
    Retire(u8),
    Reset(bool),
}

fn number(most: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..most,
        4 => (0_u32..7).prop_map(|order| 1 << order),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let align = prop_oneof![12 => (0_u32..5).prop_map(|a| 1 << a), 1 => number(9)];
    let pages = prop_oneof![8 => 1_u64..24, 1 => number(140)];
    (pages, align, any::<[bool; 2]>(), prop::bool::weighted(0.1)).prop_map(
        |(pages, align, [clear, kernel], untrimmed)| Request {
            pages,
            align,
            clear,
            kernel,
            untrimmed,
        },
    )
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        2 => Just(Window::ALL),
        // Exactly so many pages, somewhere.
        1 => (0_u64..20, 1_u64..6).prop_map(|(at, pages)| Window::new(at * 4, at * 4 + pages * 4)),
        2 => (number(120), number(120)).prop_map(|(first, last)| Window::new(first, last)),
    ]
}

fn flags() -> impl Strategy<Value = Flags> {
    any::<[bool; 2]>().prop_map(|[contiguous, topdown]| {
        let contiguous = if contiguous {
            Flags::CONTIGUOUS
        } else {
            Flags::NONE
        };
        contiguous | if topdown { Flags::TOPDOWN } else { Flags::NONE }
    })
}

fn freed() -> impl Strategy<Value = Freed<u8>> {
    let fence = prop::option::weighted(0.3, 0_u8..4);
    (any::<bool>(), fence).prop_map(|(cleared, fence)| Freed { cleared, fence })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (request(), window(), flags()).prop_map(|(r, w, f)| Op::Book(r, w, f)),
        6 => (any::<usize>(), freed()).prop_map(|(at, freed)| Op::GiveBack(at, freed)),
        2 => (any::<usize>(), prop::option::of(number(120)), number(20))
            .prop_map(|(at, first, pages)| Op::Trim(at, first, pages)),
        1 => (0_u8..4).prop_map(Op::Retire),
        1 => any::<bool>().prop_map(Op::Reset),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let fits = prop_oneof![Just(Fit::Low), Just(Fit::High), Just(Fit::Best)];
    (0_u32..3, fits, prop::bool::weighted(0.8), 0_u64..8).prop_map(
        |(chunk, fit, track_clear, reserve)| Options {
            chunk: 1 << chunk,
            fit,
            track_clear,
            reserve,
        },
    )
}

/// The heap and the map, side by side.
struct Both {
    heap: Buddy<u8>,
    model: Model,
    live: Vec<Booking<u8>>,
    options: Options,
}

impl Both {
    #[expect(clippy::needless_pass_by_value, reason = "an operation is done once")]
    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Book(request, window, flags) => {
                let booked = self.heap.book(&request, window, flags);
                let wanted = self.model.book(&request, window, flags);
                let got = booked.map(|booking| {
                    let mut fences = booking.fences().to_vec();
                    fences.sort_unstable();
                    let booked = Booked {
                        extents: booking.extents().to_vec(),
                        dirty: booking.dirty().to_vec(),
                        fences,
                    };
                    self.live.push(booking);
                    booked
                });
                prop_assert_eq!(got, wanted);
            }
            Op::GiveBack(at, freed) if !self.live.is_empty() => {
                let booking = self.live.swap_remove(at % self.live.len());
                for extent in booking.extents() {
                    self.model.slice(*extent).fill(Page::Free {
                        clear: freed.cleared && self.options.track_clear,
                        fence: freed.fence,
                    });
                }
                prop_assert_eq!(self.heap.give_back(booking, freed), Ok(()));
            }
            Op::Trim(at, first, pages) if !self.live.is_empty() => {
                let at = at % self.live.len();
                self.trim(at, first, pages)?;
            }
            Op::Retire(below) => {
                self.heap.retire(|fence| *fence < below);
                for page in &mut self.model.pages {
                    if let Page::Free { fence, .. } = page {
                        *fence = fence.filter(|fence| *fence >= below);
                    }
                }
            }
            Op::Reset(to) => {
                prop_assert_eq!(self.heap.reset_clear(to), Ok(()));
                for page in &mut self.model.pages {
                    if let Page::Free { clear, .. } = page {
                        *clear = to && self.options.track_clear;
                    }
                }
            }
            Op::GiveBack(..) | Op::Trim(..) => {}
        }
        Ok(())
    }

    fn trim(&mut self, at: usize, first: Option<u64>, pages: u64) -> Result<(), TestCaseError> {
        let before = self.live[at].extents().to_vec();
        let trimmed = self.heap.trim(&mut self.live[at], first, pages);
        let whole = |n: u64| n.is_multiple_of(self.options.chunk);
        let begin = first.unwrap_or(before[0].first);
        let valid = before.len() == 1
            && pages > 0
            && whole(pages)
            && whole(begin)
            && begin >= before[0].first
            && pages <= before[0].end.saturating_sub(begin);
        prop_assert_eq!(trimmed, if valid { Ok(()) } else { Err(Error::Invalid) });
        if !valid {
            prop_assert_eq!(self.live[at].extents(), &before[..]);
            return Ok(());
        }
        let kept = Extent::new(begin, begin + pages);
        prop_assert_eq!(self.live[at].extents(), &[kept][..]);
        prop_assert!(self.live[at].dirty().iter().all(|run| kept.contains(*run)));
        self.model.slice(before[0]).fill(Page::Free {
            clear: false,
            fence: None,
        });
        self.model.slice(kept).fill(Page::Booked);
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        self.heap.check();
        let stats = self.heap.stats();
        let model = &self.model;
        let runs = naive_runs(&model.idle());
        prop_assert_eq!(
            self.heap.layers.free.iter().collect::<Vec<_>>(),
            runs.clone()
        );
        prop_assert_eq!(stats.avail, model.count(|page| page != Page::Booked));
        let is_clear = Page::Free {
            clear: true,
            fence: None,
        };
        prop_assert_eq!(stats.clear_avail, model.count(|page| page == is_clear));
        let longest = runs.iter().map(|run| run.pages()).max().unwrap_or(0);
        prop_assert_eq!(stats.largest_free_run, longest);
        for order in 0..7_u32 {
            let counted = stats.free_blocks[order as usize];
            prop_assert_eq!(counted, model.free_blocks(order), "order {}", order);
        }
        let booked: u64 = self.live.iter().map(Booking::pages).sum();
        prop_assert_eq!(stats.avail + booked, stats.total);
        prop_assert!(stats.fragmentation() <= 1000);
        Ok(())
    }
}

proptest! {
    #[test]
    fn agrees_with_a_map_of_pages_r_18_1_to_r_18_9(
        pages in 8_u64..120, options in options(), ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut both = Both {
            heap: Buddy::new(pages, options).unwrap(),
            model: Model::new(pages, options),
            live: Vec::new(),
            options,
        };
        both.compare()?;
        for op in ops {
            both.apply(op)?;
            both.compare()?;
        }
        let left = both.live.iter().map(Booking::pages).sum();
        let ended = both.heap.fini();
        prop_assert_eq!(ended, if left == 0 { Ok(()) } else { Err(left) });
    }
}
