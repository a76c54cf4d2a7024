//! Why a call was refused.

use crate::placement::segments::SegmentId;
use alloc::collections::TryReserveError;
use core::fmt;

/// Errors of the memory manager, with the Linux errno each corresponds to.
///
/// ```
/// use vidmm::{Error, SegmentId};
/// let (segment, limit, booked) = (SegmentId::LocalVisible, 8192, 8192);
/// let error = Error::Limit { segment, limit, booked };
/// assert_eq!(
///     error.to_string(),
///     "beyond the client's limit in local-visible: it has booked 8192 of at most 8192 bytes"
/// );
/// assert_eq!(error.errno(), 28); // ENOSPC
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A manager has no room in the window; freeing something could help.
    NoSpace,
    /// Larger than the window or the segment; nothing can help.
    NeverFits,
    /// No place, or no bookkeeping memory, or no RAM pages.
    NoMemory,
    /// There is room, but the client may not book more of it.
    Limit {
        /// The first place that had room.
        segment: SegmentId,
        /// The most that a client may book there, in bytes.
        limit: u64,
        /// What this one has booked there, in bytes.
        booked: u64,
    },
    /// It would have to wait: the ring is full, or the contents are not in place yet.
    Busy,
    /// An older transaction has or wants that reservation: release all, take it
    /// first, try again.
    Deadlock,
    /// This transaction holds that reservation.
    Already,
    /// The caller has a signal to handle; call again.
    Interrupted,
    /// The caller's mistake.
    Invalid,
    /// The CPU or the GPU cannot reach that page.
    Fault,
    /// The device refused a register access or did not keep its value.
    Io,
    /// No such BO.
    NotFound,
    /// The GPU is gone or has given up.
    Lost,
    /// The deadline passed.
    TimedOut,
    /// A reset of the GPU ended it.
    Canceled,
}

impl Error {
    /// The positive Linux errno. [`Self::Interrupted`] is the kernel's own
    /// `ERESTARTSYS`, which no program sees: the call is repeated, or ends in `EINTR`.
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotFound => 2,
            Self::Io => 5,
            Self::NoMemory => 12,
            Self::Fault => 14,
            Self::Busy => 16,
            Self::Lost => 19,
            Self::Invalid | Self::NeverFits => 22,
            Self::NoSpace | Self::Limit { .. } => 28,
            Self::Deadlock => 35,
            Self::TimedOut => 110,
            Self::Already => 114,
            Self::Canceled => 125,
            Self::Interrupted => 512,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limit {
                segment,
                limit,
                booked,
            } => {
                let name = segment.name();
                return write!(
                    f,
                    "beyond the client's limit in {name}: it has booked {booked} of at most {limit} bytes"
                );
            }
            Self::NoSpace => "no room in the window",
            Self::NeverFits => "larger than the window",
            Self::NoMemory => "out of memory",
            Self::Busy => "busy",
            Self::Deadlock => "an older transaction goes first",
            Self::Already => "reserved already",
            Self::Interrupted => "interrupted",
            Self::Invalid => "invalid request",
            Self::Fault => "page not reachable",
            Self::Io => "device access failed",
            Self::NotFound => "no such buffer object",
            Self::Lost => "the GPU is lost",
            Self::TimedOut => "timed out",
            Self::Canceled => "ended by a reset of the GPU",
        })
    }
}

impl core::error::Error for Error {}

impl From<TryReserveError> for Error {
    fn from(_: TryReserveError) -> Self {
        Self::NoMemory
    }
}
