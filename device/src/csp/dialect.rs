//! The rings that the chip has, and which packets each takes.

/// Rings that the chip has; video core 0's is the first of the video rings.
pub(super) const RINGS: usize = 10;
pub(super) const VCP0: usize = 7;
pub(super) const VCP1: usize = 8;
pub(super) const VPP: usize = 9;

/// Which packets a ring takes (hardware reference 10.1, 10.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Ring 0: all of 10.2.
    Graphics,
    /// Rings 1 to 6: none.
    Disabled,
    /// Rings 7 and 8: the video cores' own.
    Video,
    /// Ring 9: as ring 0, but it has no 3D pipe.
    Post,
}

impl Dialect {
    pub(super) const fn of(ring: usize) -> Self {
        match ring {
            0 => Self::Graphics,
            VCP0 | VCP1 => Self::Video,
            VPP => Self::Post,
            _ => Self::Disabled,
        }
    }
}
