//! Register writes that can be taken back.

use crate::Error;
use crate::platform::{RegisterOp, Registers};
use alloc::vec::Vec;

/// A 32-bit read of `offset`.
pub(crate) const fn read(offset: u32) -> RegisterOp {
    RegisterOp {
        offset,
        bytes: 4,
        write: false,
        value: 0,
    }
}

/// A 32-bit write of `value` to `offset`.
pub(crate) const fn write(offset: u32, value: u32) -> RegisterOp {
    RegisterOp {
        offset,
        bytes: 4,
        write: true,
        value,
    }
}

/// What registers held before they were written, so that a failing
/// `vidmm_init` and the end of the driver leave them as they were.
#[derive(Debug)]
pub(crate) struct UndoLog(Vec<RegisterOp>);

impl UndoLog {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Runs `writes` in order, remembering what was there.
    ///
    /// # Errors
    /// Those of [`Registers::access`]; the log then covers every write that
    /// may have happened.
    pub(crate) fn write(
        &mut self,
        os: &impl Registers,
        writes: &mut [RegisterOp],
    ) -> Result<(), Error> {
        let mut before = Vec::new();
        before.try_reserve_exact(writes.len())?;
        before.extend(writes.iter().map(|op| op.to_read()));
        os.access(&mut before)?;
        self.0.try_reserve(before.len())?;
        let undo = before.iter().map(|op| op.to_write());
        self.0.extend(undo);
        os.access(writes)
    }

    /// Puts everything back, last write first, and then runs `finally`, as
    /// one request. Does nothing if nothing was written.
    ///
    /// # Errors
    /// Those of [`Registers::access`]: nobody knows what the registers hold.
    pub(crate) fn restore(
        &mut self,
        os: &impl Registers,
        finally: &[RegisterOp],
    ) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut writes = core::mem::take(&mut self.0);
        writes.reverse();
        writes.try_reserve(finally.len())?;
        writes.extend_from_slice(finally);
        os.access(&mut writes)
    }
}
