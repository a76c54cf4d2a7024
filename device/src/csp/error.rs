//! What halts a ring.

use crate::log_limit::worth_a_line;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;

/// Records kept; older ones are dropped.
const HISTORY: usize = 1024;

/// Why a ring was halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CspErrorKind {
    /// Size, Head or Tail cannot be.
    #[error(
        "size {size:#x}, head {head:#x}, tail {tail:#x}: all must be multiples of 4, head and tail below size"
    )]
    BadRing {
        /// Size register.
        size: u32,
        /// Head register.
        head: u32,
        /// Tail register.
        tail: u32,
    },
    /// The packet could not be read; the fault log says why.
    #[error("the packet could not be fetched (see the fault log)")]
    FetchFault,
    /// No packet has this opcode.
    #[error("no packet has this opcode")]
    UnknownOpcode,
    /// The packet is longer than what is there.
    #[error("the packet has {needed} dwords, but only {available} are there")]
    Truncated {
        /// Dwords of the packet.
        needed: u32,
        /// Dwords up to Tail, the ring's end or the buffer's end.
        available: u32,
    },
    /// The chip has it, the model does not.
    #[error("{what} is not modelled")]
    Unsupported {
        /// What.
        what: &'static str,
    },
    /// The packet contradicts itself.
    #[error("{what}")]
    Malformed {
        /// How.
        what: &'static str,
    },
}

/// One error. The ring stands until an engine reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CspError {
    /// The ring.
    pub ring: u8,
    /// Byte offset in the ring of the packet; of the call, when it is in a buffer.
    pub offset: u32,
    /// Whether it was in a called buffer.
    pub in_buffer: bool,
    /// The packet's header.
    pub dword: u32,
    /// What was wrong.
    pub kind: CspErrorKind,
}

impl fmt::Display for CspError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ring,
            offset,
            dword,
            kind,
            ..
        } = self;
        let place = if self.in_buffer {
            "in a buffer called at"
        } else {
            "at"
        };
        write!(
            f,
            "ring {ring} halted {place} offset {offset:#x}, dword {dword:#010x}: {kind}"
        )
    }
}

#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    history: VecDeque<CspError>,
    total: u64,
}

impl ErrorLog {
    pub(super) fn record(&mut self, error: CspError) {
        self.total += 1;
        if worth_a_line(self.total) {
            tracing::warn!(count = self.total, "{error}");
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(error);
    }

    pub(super) fn history(&self) -> impl Iterator<Item = &CspError> {
        self.history.iter()
    }
}
