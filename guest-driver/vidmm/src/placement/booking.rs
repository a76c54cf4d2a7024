//! What a manager hands out.

use crate::Error;
use crate::placement::{Extent, Flags, SegmentId};
use alloc::vec::Vec;
use e3k_regs::PAGE_SIZE;

/// The fence tag of a manager whose ranges never carry one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFence {}

/// Ranges that an allocator has booked. Given back to the same allocator, as a whole.
///
/// ```
/// use vidmm::placement::{Buddy, BuddyOptions, Extent, Flags, Freed, NoFence, Request, Window};
/// let mut heap = Buddy::<NoFence>::new(16, BuddyOptions::default())?;
/// let four = heap.book(&Request::new(4), Window::ALL, Flags::NONE)?;
/// heap.give_back(four, Freed { cleared: true, fence: None })?;
/// let request = Request { clear: true, ..Request::new(12) };
/// let booking = heap.book(&request, Window::ALL, Flags::NONE)?;
/// assert_eq!(booking.extents(), [Extent::new(0, 12)]);
/// assert_eq!(booking.dirty(), [Extent::new(4, 12)], "all that has to be cleared");
/// # Ok::<(), vidmm::Error>(())
/// ```
///
/// # Invariants
/// `extents` do not overlap, and no two neighbours in the list touch. `dirty`
/// are runs of their pages.
#[derive(Debug)]
pub struct Booking<F = NoFence> {
    pub(crate) extents: Vec<Extent>,
    pub(crate) dirty: Vec<Extent>,
    pub(crate) fences: Vec<F>,
}

impl<F> Booking<F> {
    pub(crate) const fn new() -> Self {
        Self {
            extents: Vec::new(),
            dirty: Vec::new(),
            fences: Vec::new(),
        }
    }

    /// One extent, of whose contents nothing is known.
    pub(crate) fn one(extent: Extent) -> Result<Self, Error> {
        let mut booking = Self::new();
        booking.extents.try_reserve_exact(1)?;
        booking.dirty.try_reserve_exact(1)?;
        booking.extents.push(extent);
        booking.dirty.push(extent);
        Ok(booking)
    }

    /// The runs of pages, in the order in which they are to be used.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Those of its pages that are not known to be zero: all that has to be
    /// cleared where zeros are needed.
    pub fn dirty(&self) -> &[Extent] {
        &self.dirty
    }

    /// What has to be done before the pages may be touched, each once.
    pub fn fences(&self) -> &[F] {
        &self.fences
    }

    /// Its pages.
    pub fn pages(&self) -> u64 {
        self.extents.iter().map(|extent| extent.pages()).sum()
    }
}

/// Proof that pages of a memory type are booked for a buffer. No mapping, no
/// pages of RAM (R-1.4).
///
/// # Invariants
/// The manager of `segment` has booked exactly these pages, for nobody else, until it is
/// given this value back. It cannot be copied.
#[derive(Debug)]
pub struct Resource<F = NoFence> {
    pub(crate) segment: SegmentId,
    pub(crate) flags: Flags,
    pub(crate) pages: u64,
    pub(crate) booking: Booking<F>,
}

impl<F> Resource<F> {
    /// Which memory type.
    pub const fn segment(&self) -> SegmentId {
        self.segment
    }

    /// The flags of the place that was chosen (R-5.8).
    pub const fn flags(&self) -> Flags {
        self.flags
    }

    /// Its size.
    pub const fn bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE_SIZE)
    }

    /// What is booked; empty in SYSTEM, which has no addresses.
    pub const fn booking(&self) -> &Booking<F> {
        &self.booking
    }

    /// The page at which its first extent begins.
    pub fn first_page(&self) -> Option<u64> {
        self.booking.extents.first().map(|extent| extent.first)
    }

    /// True if it is one run of pages, whether or not that was asked for (R-6.5).
    pub fn is_contiguous(&self) -> bool {
        self.booking.extents.len() == 1
    }
}
