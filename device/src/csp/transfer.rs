//! Registers on their way from or to memory.

use crate::mmu::Request;
use crate::saved::csp as saved;
use crate::saved::{Damage, ensure};
use e3k_regs::GpuVa;

/// Registers on their way from or to memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) load: bool,
    pub(super) block: u8,
    pub(super) word: u32,
    pub(super) at: GpuVa,
    pub(super) left: u32,
    pub(super) request: Request,
}

impl Transfer {
    pub(super) fn save(self) -> saved::Transfer {
        let Self {
            load,
            block,
            word,
            at,
            left,
            request,
        } = self;
        saved::Transfer {
            load,
            block,
            word,
            at,
            left,
            request: request.save(),
        }
    }

    /// # Errors
    /// No packet can have asked for it.
    pub(super) fn restore(saved: saved::Transfer) -> Result<Self, Damage> {
        let saved::Transfer {
            load,
            block,
            word,
            at,
            left,
            request,
        } = saved;
        let in_range = word.max(left) <= u16::MAX.into();
        ensure(in_range && left > 0 && at.0.is_multiple_of(4), || {
            format!("{left} registers from word {word} on their way at {at}, which no packet says")
        })?;
        Ok(Self {
            load,
            block,
            word,
            at,
            left,
            request: Request::restore(request),
        })
    }
}
