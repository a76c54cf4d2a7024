//! The range manager: books runs of pages of one memory type, one extent each.

use crate::Error;
use crate::placement::holes::Holes;
use crate::placement::manager::write_free;
use crate::placement::{Booking, Extent, Fit, Flags, Freed, Place, Request, Resource};
use crate::placement::{ResourceManager, Window};
use core::fmt;
use e3k_regs::PAGE_SIZE;

/// Books page ranges of an address space of a fixed size, each in one piece.
/// Knows nothing of what lies in them. Booking and giving back take log n steps
/// for n holes; giving back never needs memory.
///
/// ```
/// use vidmm::placement::{Fit, RangeManager, Window};
/// let mut ranges = RangeManager::new(100)?;
/// assert_eq!(ranges.book(10, 1, Window::ALL, Fit::Low), Ok(0));
/// assert_eq!(ranges.book(10, 16, Window::new(20, 60), Fit::High), Ok(48));
/// assert_eq!(ranges.give_back(0, 10), Ok(()));
/// assert_eq!(ranges.booked_pages(), 10);
/// # Ok::<(), vidmm::Error>(())
/// ```
///
/// # Invariants
/// What is booked and the holes are all pages. `holes` has reserved room for
/// one hole more than there are bookings, so that giving back cannot fail.
#[derive(Debug)]
pub struct RangeManager {
    pages: u64,
    holes: Holes,
    bookings: usize,
    fit: Fit,
}

impl RangeManager {
    /// An empty manager of `pages` pages, the lowest of which are taken first.
    ///
    /// # Errors
    /// [`Error::NoMemory`] for the bookkeeping.
    pub fn new(pages: u64) -> Result<Self, Error> {
        Self::with_fit(pages, Fit::Low)
    }

    /// An empty manager that takes the place `fit` says for whatever is not TOPDOWN.
    ///
    /// # Errors
    /// [`Error::NoMemory`] for the bookkeeping.
    pub fn with_fit(pages: u64, fit: Fit) -> Result<Self, Error> {
        let mut holes = Holes::new();
        holes.reserve(1)?;
        if pages > 0 {
            holes.insert(Extent::new(0, pages));
        }
        Ok(Self {
            pages,
            holes,
            bookings: 0,
            fit,
        })
    }

    /// Pages it manages.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that are booked.
    pub const fn booked_pages(&self) -> u64 {
        self.pages - self.holes.pages()
    }

    /// Pages of the longest hole.
    pub fn longest_hole(&self) -> u64 {
        self.holes.longest()
    }

    /// The holes, ascending; none touches another.
    pub fn holes(&self) -> impl Iterator<Item = Extent> {
        self.holes.iter()
    }

    /// Books `pages` pages inside `window` at a multiple of `align`. Returns the
    /// first page.
    ///
    /// # Errors
    /// [`Error::NeverFits`] when even an empty manager could not (R-5.6),
    /// [`Error::NoSpace`] when what is booked leaves no hole,
    /// [`Error::NoMemory`] for the bookkeeping. Nothing is booked then.
    pub fn book(&mut self, pages: u64, align: u64, window: Window, fit: Fit) -> Result<u64, Error> {
        let window = window.within(self.pages).ok_or(Error::NeverFits)?;
        let highest = window.end.checked_sub(pages).ok_or(Error::NeverFits)?;
        let lowest = window.first.checked_next_multiple_of(align);
        if pages == 0 || lowest.is_none_or(|lowest| lowest > highest) {
            return Err(Error::NeverFits);
        }
        let first = self.holes.find(pages, align, window, fit);
        let first = first.ok_or(Error::NoSpace)?;
        // INVARIANT: one hole more than bookings, this one included.
        self.holes.reserve(self.bookings + 2)?;
        self.holes.take(Extent::new(first, first + pages));
        self.bookings += 1;
        Ok(first)
    }

    /// Gives back what [`Self::book`] booked.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a page of it is not booked; nothing has changed then.
    pub fn give_back(&mut self, first: u64, pages: u64) -> Result<(), Error> {
        let end = first.checked_add(pages).ok_or(Error::Invalid)?;
        let range = Extent::new(first, end);
        let all = Extent::new(0, self.pages);
        let booked = self.bookings > 0 && self.holes.lowest_in(range).is_none();
        if range.is_empty() || !all.contains(range) || !booked {
            return Err(Error::Invalid);
        }
        // INVARIANT: a booking goes and at most a hole comes, for which there is room.
        self.bookings -= 1;
        self.holes.insert(range);
        Ok(())
    }
}

/// Each resource is one extent. Of contents and waiting it knows nothing: what is
/// freed must be idle.
impl<F> ResourceManager<F> for RangeManager {
    fn alloc(&mut self, request: &Request, place: &Place) -> Result<Resource<F>, Error> {
        if request.pages == 0 || !request.align.is_power_of_two() {
            return Err(Error::Invalid);
        }
        let mut booking = Booking::one(Extent::new(0, 0))?;
        let topdown = place.flags.has(Flags::TOPDOWN);
        let fit = if topdown { Fit::High } else { self.fit };
        let first = self.book(request.pages, request.align, place.window, fit)?;
        let extent = Extent::new(first, first + request.pages);
        booking.extents.fill(extent);
        booking.dirty.fill(extent);
        Ok(Resource {
            segment: place.segment,
            flags: place.flags,
            pages: request.pages,
            booking,
        })
    }

    fn free(&mut self, resource: Resource<F>, freed: Freed<F>) {
        debug_assert!(freed.fence.is_none(), "somebody still works on it");
        if freed.fence.is_some() {
            // Lost for good rather than given to somebody else meanwhile.
            return;
        }
        for extent in resource.booking.extents {
            let given_back = self.give_back(extent.first, extent.pages());
            debug_assert_eq!(given_back, Ok(()), "of another manager");
        }
    }

    fn debug(&self, to: &mut dyn fmt::Write) -> fmt::Result {
        let (booked, longest) = (self.booked_pages(), self.longest_hole());
        writeln!(to, "pages {} booked {booked} longest {longest}", self.pages)?;
        write_free(to, self.holes())
    }

    fn capacity(&self) -> u64 {
        self.pages.saturating_mul(PAGE_SIZE)
    }

    fn usage(&self) -> u64 {
        self.booked_pages().saturating_mul(PAGE_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::holes::checker::{naive_find, naive_runs};
    use Fit::{Best, High, Low};
    use proptest::prelude::*;

    fn manager(pages: u64) -> RangeManager {
        RangeManager::new(pages).unwrap()
    }

    #[test]
    fn the_lowest_hole_that_fits_wins_r_18_8() {
        let mut m = manager(100);
        assert_eq!(m.book(10, 1, Window::ALL, Low), Ok(0));
        assert_eq!(m.book(10, 1, Window::ALL, Low), Ok(10));
        assert_eq!(m.book(10, 1, Window::ALL, Low), Ok(20));
        assert_eq!(m.give_back(10, 10), Ok(()));
        assert_eq!(
            m.book(11, 1, Window::ALL, Low),
            Ok(30),
            "the hole is too small"
        );
        assert_eq!(m.book(4, 1, Window::ALL, Low), Ok(10));
    }

    #[test]
    fn topdown_takes_the_highest_address_and_is_no_reason_to_fail_r_18_8() {
        let mut m = manager(100);
        assert_eq!(m.book(10, 1, Window::ALL, High), Ok(90));
        assert_eq!(m.book(10, 16, Window::ALL, High), Ok(80));
        assert_eq!(m.book(70, 1, Window::ALL, High), Ok(10));
        assert_eq!(m.book(10, 1, Window::ALL, High), Ok(0));
        assert_eq!(m.book(1, 1, Window::ALL, High), Err(Error::NoSpace));
    }

    #[test]
    fn best_takes_the_smallest_hole_that_fits() {
        let mut m = manager(100);
        for (first, pages) in [(20, 10), (35, 10), (60, 10)] {
            let window = Window::new(first, first + pages);
            assert_eq!(m.book(pages, 1, window, Low), Ok(first));
        }
        // Holes of 20, 5, 15 and 30 pages.
        assert_eq!(m.book(5, 1, Window::ALL, Best), Ok(30));
        assert_eq!(m.book(12, 1, Window::ALL, Best), Ok(45));
        assert_eq!(m.book(12, 1, Window::new(0, 60), Best), Ok(0));
        assert_eq!(m.book(30, 1, Window::ALL, Best), Ok(70));
    }

    #[test]
    fn a_window_that_cannot_hold_the_request_never_fits_r_5_6() {
        let mut m = manager(100);
        for (pages, align, first, last) in [
            (101, 1, 0, 0),
            (0, 1, 0, 0),
            (1, 1, 5, 5),
            (1, 1, 6, 5),
            (1, 1, 0, 101),
            (1, 1, 100, 0),
            (1, 0, 0, 0),
            (4, 1, 10, 13),
            (1, 64, 65, 100),
            (1, u64::MAX, 1, 0),
            (u64::MAX, 1, u64::MAX, u64::MAX),
        ] {
            for fit in [Low, Best, High] {
                assert_eq!(
                    m.book(pages, align, Window::new(first, last), fit),
                    Err(Error::NeverFits),
                    "{pages} pages, align {align}, [{first}, {last}), {fit:?}"
                );
            }
        }
        assert_eq!(m.booked_pages(), 0);
        assert_eq!(
            manager(0).book(1, 1, Window::ALL, Low),
            Err(Error::NeverFits)
        );
    }

    #[test]
    fn full_u64_alignment_works() {
        let mut m = manager(u64::MAX);
        let above = Window::new(1, 0);
        assert_eq!(m.book(1, 1 << 63, above, Low), Ok(1 << 63));
        assert_eq!(m.book(1, 1 << 63, above, Low), Err(Error::NoSpace));
        assert_eq!(m.book(1, u64::MAX, Window::ALL, High), Ok(0));
    }

    #[test]
    fn giving_back_what_is_not_booked_changes_nothing() {
        let mut m = manager(8);
        assert_eq!(m.book(4, 1, Window::ALL, Low), Ok(0));
        for (first, pages) in [(1, 4), (4, 1), (0, 0), (7, 2), (9, 1), (3, u64::MAX)] {
            assert_eq!(
                m.give_back(first, pages),
                Err(Error::Invalid),
                "{first}, {pages}"
            );
        }
        assert_eq!(m.booked_pages(), 4);
        assert_eq!(m.give_back(0, 4), Ok(()));
        assert_eq!(m.give_back(0, 4), Err(Error::Invalid));
        assert_eq!(m.longest_hole(), 8, "neighbours are one hole again");
    }

    /// In pieces it could be more holes than there is room for.
    #[test]
    fn what_was_booked_as_one_is_given_back_once() {
        let mut m = manager(8);
        assert_eq!(m.book(4, 1, Window::ALL, Low), Ok(0));
        assert_eq!(m.book(2, 1, Window::ALL, Low), Ok(4));
        for (piece, given) in [(0, Ok(())), (2, Ok(())), (4, Err(Error::Invalid))] {
            assert_eq!(m.give_back(piece, 2), given, "{piece}");
        }
        assert_eq!(m.booked_pages(), 2);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_pages_r_18_1(ops in prop::collection::vec(
            (any::<bool>(), 0u64..20, 0u64..9, 0u64..70, 0u64..66, 0..3_usize), 1..80,
        )) {
            let mut manager = manager(64);
            let mut free = [true; 64];
            let mut live: Vec<(u64, u64)> = Vec::new();
            for (back, pages, align, first, last, fit) in ops {
                if back && !live.is_empty() {
                    let (start, pages) = live.swap_remove(usize::try_from(first).unwrap() % live.len());
                    prop_assert_eq!(manager.give_back(start, pages), Ok(()));
                    (start..start + pages).for_each(|page| free[usize::try_from(page).unwrap()] = true);
                } else {
                    let fit = [Low, High, Best][fit];
                    let end = if last == 0 { 64 } else { last };
                    let window = Extent::new(first, end);
                    let find = |free: &[bool]| match (pages, align) {
                        (0, _) | (_, 0) => None,
                        _ if end > 64 => None,
                        _ => naive_find(free, pages, align, window, fit),
                    };
                    match manager.book(pages, align, Window::new(first, last), fit) {
                        Ok(start) => {
                            prop_assert_eq!(Some(start), find(&free));
                            (start..start + pages).for_each(|page| free[usize::try_from(page).unwrap()] = false);
                            live.push((start, pages));
                        }
                        Err(Error::NoSpace) => {
                            prop_assert_eq!(find(&free), None);
                            prop_assert!(find(&[true; 64]).is_some());
                        }
                        Err(error) => {
                            prop_assert_eq!(error, Error::NeverFits);
                            prop_assert_eq!(find(&[true; 64]), None);
                        }
                    }
                }
                manager.holes.check();
                prop_assert_eq!(manager.holes().collect::<Vec<_>>(), naive_runs(&free));
                let booked: u64 = live.iter().map(|(_, pages)| pages).sum();
                prop_assert_eq!(manager.booked_pages(), booked);
            }
        }
    }
}
