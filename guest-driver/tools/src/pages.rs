//! RAM pages that lie apart.

use crate::device::{Buffer, Device, PAGE};
use crate::error::{Error, Result};
use presil_uapi as uapi;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

const PAIRS: usize = 64;

/// Buffers of one page each, the rest of as many that were given back in
/// between: single pages, which the kernel hands out before it breaks larger
/// pieces. As it does so for each CPU, the thread stays where it is meanwhile.
#[derive(Debug)]
pub(crate) struct Scattered {
    _kept: Vec<Buffer>,
    _here: Pinned,
}

impl Scattered {
    /// Takes pages and gives every second one back.
    pub(crate) fn new(device: &Device) -> Result<Self> {
        let here = Pinned::new()?;
        let mut kept = Vec::new();
        let mut given_back = Vec::new();
        for _ in 0..PAIRS {
            for list in [&mut kept, &mut given_back] {
                let buffer = device.create(uapi::CREATE_READBACK, PAGE, &[])?;
                buffer.map()?.touch()?;
                list.push(buffer);
            }
        }
        Ok(Self {
            _kept: kept,
            _here: here,
        })
    }
}

/// Keeps the thread on its CPU until dropped.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Stays on the CPU that it is on.
    pub(crate) fn new() -> Result<Self> {
        Self::here().map_err(|source| Error::Call {
            call: "sched_setaffinity",
            source,
        })
    }

    fn here() -> std::result::Result<Self, Errno> {
        let before = sched_getaffinity(None)?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A thread that stays where it is does no harm.
        let _ = sched_setaffinity(None, &self.before);
    }
}
