//! What is written down of a ring that did not go on.

use crate::vm::SpaceId;
use core::fmt;

/// Why ring 0 was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its job did not end in time.
    Deadline,
    /// The GPU gave the ring up, or repeated a page fault for ever.
    Stuck,
}

/// A job that did not end, and what ring 0 was doing when it was reset for that. (After a
/// reset of the function or a sleep the ring begins anew, too: these are no hangs.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hang {
    /// How many there have been, with this one.
    pub number: u64,
    /// Why.
    pub cause: Cause,
    /// Whose job it was; `None`: the manager's own.
    pub space: Option<SpaceId>,
    /// Its process id; 0 is the manager's.
    pub process_id: u8,
    /// The sequence of the job's fence.
    pub job: u64,
    /// How many of its blits had been put on the ring.
    pub put: usize,
    /// How many it has.
    pub blits: usize,
    /// Ring 0's fences behind them: the one that did not come, and the last.
    pub fences: (u64, u64),
    /// Ring 0's read and write pointer, in bytes.
    pub pointers: (u32, u32),
    /// The busy word (hardware reference 9.2).
    pub busy: u32,
    /// What was in line behind the job.
    pub behind: usize,
    /// How long it would have been waited for, in nanoseconds.
    pub deadline_ns: u64,
}

impl fmt::Display for Hang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cause,
            process_id,
            job,
            put,
            blits,
            fences: (fence, last),
            pointers: (head, tail),
            busy,
            behind,
            ..
        } = self;
        let ms = self.deadline_ns / 1_000_000;
        write!(f, "job {job} of ")?;
        match process_id {
            0 => write!(f, "the memory manager")?,
            id => write!(f, "process id {id}")?,
        }
        match cause {
            Cause::Deadline => write!(f, " did not end in {ms} ms")?,
            Cause::Stuck => f.write_str(" does not go on")?,
        }
        write!(
            f,
            ": {put} of its {blits} blits on ring 0 until fence {last}, \
             fence {fence} did not come, read at {head:#x}, written to {tail:#x}, busy {busy:#x}, \
             {behind} in line behind it"
        )
    }
}
