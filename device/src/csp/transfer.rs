//! Registers on their way from or to memory.

use crate::mmu::Request;
use e3k_regs::GpuVa;
use serde::{Deserialize, Serialize};

/// Registers on their way from or to memory.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Transfer {
    pub(super) load: bool,
    pub(super) block: u8,
    pub(super) word: u32,
    pub(super) at: GpuVa,
    pub(super) left: u32,
    pub(super) request: Request,
}

impl Transfer {
    /// Whether a restored one keeps what the rest of the model relies on: a packet
    /// can have asked for it.
    pub(super) fn is_sound(&self) -> bool {
        let in_range = self.word.max(self.left) <= u16::MAX.into();
        in_range && self.left > 0 && self.at.0.is_multiple_of(4)
    }
}
