//! A run of pages.

/// Pages `[first, end)` of one memory type; never empty where a type here holds it.
///
/// ```
/// use vidmm::placement::Extent;
/// let extent = Extent::new(16, 24);
/// assert_eq!(extent.pages(), 8);
/// assert_eq!(extent.common(Extent::new(20, 99)), Some(Extent::new(20, 24)));
/// assert_eq!(extent.common(Extent::new(24, 99)), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// First page.
    pub first: u64,
    /// Page after the last one.
    pub end: u64,
}

impl Extent {
    /// Pages `[first, end)`.
    pub const fn new(first: u64, end: u64) -> Self {
        Self { first, end }
    }

    /// How many; 0 for what is empty or reversed.
    pub const fn pages(self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// True if it has no page.
    pub const fn is_empty(self) -> bool {
        self.first >= self.end
    }

    /// True if all pages of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.end <= self.end
    }

    /// The pages that both have.
    pub fn common(self, other: Self) -> Option<Self> {
        let both = Self::new(self.first.max(other.first), self.end.min(other.end));
        (!both.is_empty()).then_some(both)
    }
}
