//! What a job is made of.

use crate::engine::submit;
use core::ops::Range;
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::packet::Writer;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// The most that a blit of the manager's own is.
pub(crate) const MOVE_BYTES: u64 = 64 << 20;
/// The most that one blit may be.
const BLIT_BYTES: u64 = 1 << 30;
/// A copy or a fill, by GPU addresses of whoever's job it is. Addresses are multiples
/// of 256, sizes of 4, and not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blit {
    /// Writes a pattern to every four bytes.
    Fill {
        /// Where.
        at: GpuVa,
        /// How many, at most 1 GiB.
        bytes: u64,
        /// What.
        pattern: u32,
    },
    /// Copies bytes; the ranges do not overlap.
    Copy {
        /// Where they go.
        to: GpuVa,
        /// Where they are.
        from: GpuVa,
        /// How many, at most 1 GiB.
        bytes: u64,
    },
}

impl Blit {
    pub(crate) const fn bytes(&self) -> u64 {
        match self {
            Self::Fill { bytes, .. } | Self::Copy { bytes, .. } => *bytes,
        }
    }

    /// What it counts for in a process's share, in bytes: a packet is work, too.
    pub(crate) fn cost(&self) -> u64 {
        self.bytes().max(PAGE_SIZE)
    }

    /// Where it writes, and where it reads.
    const fn places(&self) -> [GpuVa; 2] {
        match *self {
            Self::Fill { at, .. } => [at, at],
            Self::Copy { to, from, .. } => [to, from],
        }
    }

    /// Whether all of it lies in a range of addresses.
    pub(crate) fn is_within(&self, range: &Range<u64>) -> bool {
        let within = |at: &GpuVa| {
            let end = at.0.checked_add(self.bytes());
            range.start <= at.0 && end.is_some_and(|end| end <= range.end)
        };
        self.places().iter().all(within)
    }

    /// Whether packets can say it.
    pub(super) fn is_legal(&self) -> bool {
        let [to, from] = self.places();
        let apart = match self {
            Self::Fill { .. } => true,
            Self::Copy { bytes, .. } => to.0.abs_diff(from.0) >= *bytes,
        };
        let aligned = [to, from]
            .iter()
            .all(|place| place.0.is_multiple_of(submit::BASE_ALIGN));
        let aligned = aligned && self.is_within(&(0..1 << ADDRESS_BITS));
        let size = (1..=BLIT_BYTES).contains(&self.bytes());
        aligned && apart && size && self.bytes().is_multiple_of(submit::SIZE_ALIGN)
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        match *self {
            Self::Fill { at, bytes, pattern } => submit::fill(out, at, bytes, pattern),
            Self::Copy { to, from, bytes } => submit::copy(out, to, from, bytes),
        }
    }
}
