//! RAM pages that lie apart.

use crate::device::{Buffer, Device, PAGE};
use crate::error::Result;
use presil_uapi as uapi;

/// A part of the largest buffers of the checks, all of the small ones.
const PAIRS: usize = 64;

/// Buffers of one page each, the rest of as many that were given back in
/// between: single pages, which the kernel hands out before it breaks larger
/// pieces.
#[derive(Debug)]
pub(crate) struct Scattered {
    _kept: Vec<Buffer>,
}

impl Scattered {
    /// Takes pages and gives every second one back.
    pub(crate) fn new(device: &Device) -> Result<Self> {
        let mut kept = Vec::new();
        let mut given_back = Vec::new();
        for _ in 0..PAIRS {
            for list in [&mut kept, &mut given_back] {
                let buffer = device.create(uapi::CREATE_READBACK, PAGE, &[])?;
                buffer.map()?.touch()?;
                list.push(buffer);
            }
        }
        Ok(Self { _kept: kept })
    }
}
