//! Where a buffer may go: windows, flags, places.

use crate::placement::Extent;
use crate::placement::segments::SegmentId;

/// Pages `[first_page, last_page)` of a memory type; `last_page` 0 means to its end.
///
/// ```
/// use vidmm::placement::{Extent, Window};
/// assert_eq!(Window::new(8, 0).within(64), Some(Extent::new(8, 64)));
/// assert_eq!(Window::new(8, 65).within(64), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First page.
    pub first_page: u64,
    /// Page after the last one.
    pub last_page: u64,
}

impl Window {
    /// All pages.
    pub const ALL: Self = Self::new(0, 0);

    /// Pages `[first_page, last_page)`; `last_page` 0: to the end.
    pub const fn new(first_page: u64, last_page: u64) -> Self {
        Self {
            first_page,
            last_page,
        }
    }

    /// Its pages in a memory type of `pages` pages; `None` if it is empty, reversed
    /// or reaches beyond (R-5.6).
    pub const fn within(self, pages: u64) -> Option<Extent> {
        let end = if self.last_page == 0 {
            pages
        } else {
            self.last_page
        };
        if self.first_page >= end || end > pages {
            return None;
        }
        Some(Extent::new(self.first_page, end))
    }

    /// True if some page of `extent` is in it.
    pub const fn intersects(self, extent: Extent) -> bool {
        self.first_page < extent.end && (self.last_page == 0 || self.last_page > extent.first)
    }

    /// True if every page of `extent` is in it.
    pub const fn contains(self, extent: Extent) -> bool {
        extent.first >= self.first_page && (self.last_page == 0 || extent.end <= self.last_page)
    }
}

/// Which of the places that fit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The lowest address (R-18.8).
    Low,
    /// The smallest hole, in it the lowest address.
    Best,
    /// The highest address.
    High,
}

/// In which search a place counts (R-5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The first, which evicts nobody.
    Free,
    /// The second, which may evict.
    Evict,
}

/// What a place asks for beside its window.
///
/// ```
/// use vidmm::placement::{Flags, Pass};
/// let flags = Flags::CONTIGUOUS | Flags::DESIRED;
/// assert!(flags.has(Flags::CONTIGUOUS) && !flags.has(Flags::TOPDOWN));
/// assert!(flags.counts_in(Pass::Free) && !flags.counts_in(Pass::Evict));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// One extent only.
    pub const CONTIGUOUS: Self = Self(1 << 0);
    /// High addresses are preferred; never a reason to fail.
    pub const TOPDOWN: Self = Self(1 << 1);
    /// A stop on the way to another place: never good enough to stay.
    pub const TEMPORARY: Self = Self(1 << 2);
    /// Counts only in the pass that evicts nobody.
    pub const DESIRED: Self = Self(1 << 3);
    /// Counts only in the pass that may evict.
    pub const FALLBACK: Self = Self(1 << 4);

    /// True if every flag of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These, but for those.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True if a place with these flags is asked in `pass` (R-5.7).
    pub const fn counts_in(self, pass: Pass) -> bool {
        let excluded = match pass {
            Pass::Free => Self::FALLBACK,
            Pass::Evict => Self::DESIRED,
        };
        !self.has(excluded)
    }
}

impl core::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

/// One acceptable memory type with a window in it. A placement is a slice of
/// places, asked in order.
///
/// ```
/// use vidmm::placement::{Flags, Place, SegmentId, Window};
/// let visible = Place {
///     segment: SegmentId::LocalVisible,
///     window: Window::new(0x100, 0x200),
///     flags: Flags::CONTIGUOUS,
/// };
/// let placement = [visible, Place::anywhere(SegmentId::PcieUnsnoop, Flags::FALLBACK)];
/// # assert_eq!(placement.len(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The memory type.
    pub segment: SegmentId,
    /// Every extent lies in it (R-5.5).
    pub window: Window,
    /// What else is asked for.
    pub flags: Flags,
}

impl Place {
    /// Anywhere in a memory type.
    pub const fn anywhere(segment: SegmentId, flags: Flags) -> Self {
        Self {
            segment,
            window: Window::ALL,
            flags,
        }
    }

    /// For kernel objects: in one piece, away from everything else.
    pub const fn kernel(segment: SegmentId) -> Self {
        Self::anywhere(segment, Flags::CONTIGUOUS.with(Flags::TOPDOWN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_is_empty_reversed_or_beyond_the_end_has_no_pages_r_5_6() {
        for (first, last) in [
            (5, 5),
            (6, 5),
            (0, 65),
            (64, 0),
            (u64::MAX, 0),
            (1, u64::MAX),
        ] {
            assert_eq!(
                Window::new(first, last).within(64),
                None,
                "[{first}, {last})"
            );
        }
        assert_eq!(Window::new(63, 64).within(64), Some(Extent::new(63, 64)));
        assert_eq!(Window::ALL.within(64), Some(Extent::new(0, 64)));
    }

    #[test]
    fn a_place_counts_in_both_passes_unless_its_flags_say_otherwise_r_5_7() {
        for (flags, passes) in [
            (Flags::NONE, [true, true]),
            (Flags::TOPDOWN, [true, true]),
            (Flags::DESIRED, [true, false]),
            (Flags::FALLBACK, [false, true]),
        ] {
            let counts = [Pass::Free, Pass::Evict].map(|pass| flags.counts_in(pass));
            assert_eq!(counts, passes, "{flags:?}");
        }
    }
}
