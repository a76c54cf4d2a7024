//! What an operation met first that ended it.

use crate::arena::Id;
use core::fmt;

/// The buffer and the step at which an operation ended in an error: its own, or one that was
/// in its way. A value beside the error, so that who prints it decides when and how often.
///
/// ```
/// use vidmm::BoId;
/// use vidmm::evict::{Cause, Step};
/// let cause = Cause { bo: BoId::from_bits(1 << 32 | 7), step: Step::Copy };
/// assert_eq!(cause.to_string(), "buffer 0x100000007: copying its contents");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Which one. It may be gone by now.
    pub bo: Id,
    /// What was to be done with it.
    pub step: Step,
}

/// What is done with a buffer on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A place is looked for, among those that were asked for.
    Place,
    /// Somebody has it locked.
    Lock,
    /// The GPU is to be done with it.
    Wait,
    /// The GPU's address spaces are to lead to it no more.
    Unmap,
    /// Its pages of RAM come to exist, or come back from the store.
    Pages,
    /// Its pages are written to the store.
    Store,
    /// The GART is to point at them.
    Bind,
    /// Its contents are copied.
    Copy,
    /// Its local memory is cleared.
    Clear,
    /// The manager's own books for a move.
    Books,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Place => "finding a place",
            Step::Lock => "locking it",
            Step::Wait => "waiting for the GPU",
            Step::Unmap => "unmapping it for the GPU",
            Step::Pages => "getting its pages of RAM",
            Step::Store => "storing its contents",
            Step::Bind => "binding its pages",
            Step::Copy => "copying its contents",
            Step::Clear => "clearing its memory",
            Step::Books => "keeping books of its move",
        };
        write!(f, "buffer {:#x}: {step}", self.bo.to_bits())
    }
}
