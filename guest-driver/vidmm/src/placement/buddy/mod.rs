//! The buddy manager: books blocks of 2^n pages at multiples of their size, or
//! one run, and knows which free pages are zero and which somebody still uses.

mod blocks;
mod layers;
mod manager;
mod stats;
#[cfg(test)]
mod tests;

pub use stats::Stats;

use crate::Error;
use crate::placement::{Booking, Extent, Fit, Flags, Freed, Request, Window};
use alloc::vec::Vec;
use blocks::Plan;
use layers::Layers;

/// How a [`Buddy`] works. Each is independent of the others.
///
/// ```
/// use vidmm::placement::BuddyOptions;
/// // Blocks of 64 KiB, and 1 MiB for page tables alone.
/// let options = BuddyOptions { chunk: 16, reserve: 256, ..BuddyOptions::default() };
/// # assert!(options.track_clear);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Pages of the smallest block: a power of two.
    pub chunk: u64,
    /// Which block is taken where TOPDOWN does not say so.
    pub fit: Fit,
    /// Whether it keeps apart which free pages are zero.
    pub track_clear: bool,
    /// Pages that only kernel objects get: applications are told that there is no
    /// space while fewer would be left. They may lie anywhere.
    pub reserve: u64,
}

impl Options {
    /// Blocks of a page, the lowest first, zeros known, nothing kept back.
    pub const DEFAULT: Self = Self {
        chunk: 1,
        fit: Fit::Low,
        track_clear: true,
        reserve: 0,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Books pages of a heap as blocks of 2^n pages, each at a multiple of its size,
/// largest first; or as one run (CONTIGUOUS).
///
/// A block is free when all its pages are: there are no block objects that would
/// have to be split and merged, so that free neighbours are always one, whatever
/// is known of them (R-18.3, R-18.5). A block costs log n for n free runs. Giving
/// back never needs memory.
///
/// ```
/// use vidmm::placement::{Buddy, BuddyOptions, Extent, Flags, Freed, NoFence, Request, Window};
/// let mut heap = Buddy::<NoFence>::new(7, BuddyOptions::default())?;
/// let six = heap.book(&Request::new(6), Window::ALL, Flags::NONE)?;
/// assert_eq!(six.extents(), [Extent::new(0, 6)]);
/// assert_eq!(heap.stats().avail, 1);
/// heap.give_back(six, Freed { cleared: true, fence: None })?;
/// assert_eq!(heap.stats().clear_avail, 6);
/// # Ok::<(), vidmm::Error>(())
/// ```
///
/// # Invariants
/// What is booked and what the layers hold are all pages. The layers have
/// reserved room for every extent that is booked to come back.
#[derive(Debug)]
pub struct Buddy<F> {
    pages: u64,
    options: Options,
    layers: Layers<F>,
}

impl<F: Clone + PartialEq> Buddy<F> {
    /// A heap of `pages` pages, rounded down to chunks; all are free, and dirty.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a chunk that is no power of two, or larger than the
    /// heap; [`Error::NoMemory`] for the bookkeeping.
    pub fn new(pages: u64, options: Options) -> Result<Self, Error> {
        let chunk = options.chunk;
        if !chunk.is_power_of_two() || pages < chunk {
            return Err(Error::Invalid);
        }
        let pages = pages - pages % chunk;
        let layers = Layers::new(Extent::new(0, pages), options.track_clear)?;
        Ok(Self {
            pages,
            options,
            layers,
        })
    }

    /// Pages it manages.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Books the pages of `request` in `window`.
    ///
    /// - A window of exactly that size, CONTIGUOUS, or a power of two that is
    ///   smaller than `align`: one run at a multiple of `align`. If there is a free
    ///   one in the window, it is found.
    /// - Otherwise blocks of 2^n pages, none smaller than `align`, the largest that
    ///   are left first. What rounding up to `align` gave too much is given back.
    ///
    /// Pages that somebody still works on are taken only where others do not
    /// suffice; the booking then has the fences of those that it took.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a size of 0, sizes and windows that are not whole
    /// chunks, `align` that is no power of two or smaller than a chunk, and an
    /// exact window that is not aligned; [`Error::NeverFits`] when an empty heap
    /// could not do it either; [`Error::NoSpace`]; [`Error::NoMemory`] for the
    /// bookkeeping. Nothing has changed then.
    pub fn book(
        &mut self,
        request: &Request,
        window: Window,
        flags: Flags,
    ) -> Result<Booking<F>, Error> {
        let plan = self.plan(request, window, flags, 0)?;
        let mut booking = match self.layers.fill(&plan) {
            Err(Error::NoSpace) => self.layers.fill_waiting(&plan)?,
            filled => filled?,
        };
        self.layers.join(&mut booking);
        Ok(booking)
    }

    /// Which pages [`Self::book`] would take if those of `freed`, which are booked here,
    /// were given back. Nothing has changed afterwards.
    ///
    /// # Errors
    /// Those of [`Self::book`].
    pub fn foresee(
        &mut self,
        request: &Request,
        window: Window,
        flags: Flags,
        freed: &[Extent],
    ) -> Result<Vec<Extent>, Error> {
        let more = freed.iter().map(|extent| extent.pages()).sum();
        let plan = self.plan(request, window, flags, more)?;
        self.layers.foresee(&plan, freed)
    }

    /// What a request asks for, if there are pages enough when `more` are free.
    fn plan(
        &self,
        request: &Request,
        window: Window,
        flags: Flags,
        more: u64,
    ) -> Result<Plan, Error> {
        let window = self.chunked(request, window)?;
        let plan = Plan::new(request, window, flags, self.options.fit)?;
        let kept = if request.kernel {
            0
        } else {
            self.options.reserve
        };
        if self.pages.saturating_sub(kept) < plan.pages {
            return Err(Error::NeverFits);
        }
        if (self.layers.pages() + more).saturating_sub(kept) < plan.pages {
            return Err(Error::NoSpace);
        }
        Ok(plan)
    }

    /// Gives pages back.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a page of them is not booked here; nothing has
    /// changed then.
    #[expect(clippy::needless_pass_by_value, reason = "nobody needs it afterwards")]
    pub fn give_back(&mut self, booking: Booking<F>, freed: Freed<F>) -> Result<(), Error> {
        let all = Extent::new(0, self.pages);
        let ours = |extent: &Extent| all.contains(*extent) && self.layers.is_booked(*extent);
        if !booking.extents.iter().all(ours) {
            return Err(Error::Invalid);
        }
        for extent in booking.extents {
            self.layers
                .give(extent, freed.cleared, freed.fence.as_ref());
        }
        Ok(())
    }

    /// Keeps `pages` pages of a booking in one piece, from page `first` or from
    /// its begin, and gives back the rest, as dirty.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a booking that is not one extent, a size of 0, what
    /// is not whole chunks, and what is not all in the booking;
    /// [`Error::NoMemory`] for the bookkeeping. Nothing has changed then.
    pub fn trim(
        &mut self,
        booking: &mut Booking<F>,
        first: Option<u64>,
        pages: u64,
    ) -> Result<(), Error> {
        let [extent] = *booking.extents else {
            return Err(Error::Invalid);
        };
        let first = first.unwrap_or(extent.first);
        let end = first.checked_add(pages).ok_or(Error::Invalid)?;
        let rest = Extent::new(first, end);
        let whole = (first | end).is_multiple_of(self.options.chunk);
        if rest.is_empty() || !whole || !extent.contains(rest) || !self.layers.is_booked(extent) {
            return Err(Error::Invalid);
        }
        self.layers.secure(2)?;
        self.layers.cut(booking, Extent::new(end, extent.end), true);
        self.layers
            .cut(booking, Extent::new(extent.first, first), true);
        Ok(())
    }

    /// Takes back into use what `done` says nobody works on any more.
    pub fn retire(&mut self, done: impl FnMut(&F) -> bool) {
        self.layers.retire(done);
    }

    /// From now on all free pages count as zero, or as dirty (R-18.6).
    ///
    /// # Errors
    /// [`Error::NoMemory`] for the bookkeeping; nothing has changed then.
    pub fn reset_clear(&mut self, clear: bool) -> Result<(), Error> {
        self.layers.reset_clear(clear)
    }

    /// What is free, in figures.
    pub fn stats(&self) -> Stats {
        self.layers.stats(self.pages, self.options.chunk)
    }

    /// The end of the heap.
    ///
    /// # Errors
    /// The pages that were not given back: a bug of whoever booked them (R-18.7).
    pub fn fini(self) -> Result<(), u64> {
        match self.pages - self.layers.pages() {
            0 => Ok(()),
            left => Err(left),
        }
    }

    /// The window in pages, when request and window are whole chunks.
    fn chunked(&self, request: &Request, window: Window) -> Result<Extent, Error> {
        let chunk = self.options.chunk;
        let whole = [request.pages, window.first_page, window.last_page];
        if request.pages == 0
            || request.align < chunk
            || !request.align.is_power_of_two()
            || whole.iter().any(|pages| !pages.is_multiple_of(chunk))
        {
            return Err(Error::Invalid);
        }
        window.within(self.pages).ok_or(Error::NeverFits)
    }
}
