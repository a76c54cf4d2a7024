//! Register writes that can be taken back, or done again.

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
/// `vidmm_init` and the end of the driver leave them as they were; and
/// what was written, so that it can be put back after a reset.
#[derive(Debug)]
pub(crate) struct RegisterLog {
    before: Vec<RegisterOp>,
    written: Vec<RegisterOp>,
}

impl RegisterLog {
    pub(crate) const fn new() -> Self {
        Self {
            before: Vec::new(),
            written: Vec::new(),
        }
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
        self.before.try_reserve(before.len())?;
        self.written.try_reserve(writes.len())?;
        let undo = before.iter().map(|op| op.to_write());
        self.before.extend(undo);
        self.written.extend_from_slice(writes);
        os.access(writes)
    }

    /// Writes everything once more, in the first order, and then runs
    /// `finally`: for registers that a reset has cleared.
    ///
    /// # Errors
    /// Those of [`Registers::access`].
    pub(crate) fn replay(
        &mut self,
        os: &impl Registers,
        finally: &mut [RegisterOp],
    ) -> Result<(), Error> {
        os.access(&mut self.written)?;
        os.access(finally)
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
        if self.before.is_empty() {
            return Ok(());
        }
        let mut writes = core::mem::take(&mut self.before);
        writes.reverse();
        writes.try_reserve(finally.len())?;
        writes.extend_from_slice(finally);
        os.access(&mut writes)
    }
}
