//! What halts a ring, and what is merely remembered.

use crate::refused::Refused;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Why a ring was halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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
    /// The ring is one that the chip has and nothing runs.
    #[error("this ring is disabled: rings 0, 7, 8 and 9 run")]
    Disabled,
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
        what: Cow<'static, str>,
    },
    /// The packet contradicts itself.
    #[error("{what}")]
    Malformed {
        /// How.
        what: Cow<'static, str>,
    },
    /// A Wait that nothing satisfies, where such a Wait halts.
    #[error("a wait for {value:#x} in slot {slot}, which holds {counter:#x}")]
    UnmetWait {
        /// Internal fence counter.
        slot: u8,
        /// What was waited for.
        value: u16,
        /// What the counter held.
        counter: u16,
    },
}

impl CspErrorKind {
    pub(crate) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    pub(crate) fn malformed(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed { what: what.into() }
    }
}

impl From<Refused> for CspErrorKind {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Malformed(what) => Self::Malformed { what },
            Refused::Unsupported(what) => Self::Unsupported { what },
        }
    }
}

/// Why a packet was not executed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The ring halts.
    Halt(CspErrorKind),
    /// It is to be fetched and executed again, when software has mended its tables.
    Stall,
}

impl From<CspErrorKind> for Trouble {
    fn from(kind: CspErrorKind) -> Self {
        Self::Halt(kind)
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Halt(refused.into())
    }
}

impl Trouble {
    pub(super) fn unsupported(what: &'static str) -> Self {
        Self::Halt(CspErrorKind::unsupported(what))
    }

    pub(super) fn malformed(what: &'static str) -> Self {
        Self::Halt(CspErrorKind::malformed(what))
    }
}

pub(super) type Outcome = Result<(), Trouble>;

/// One error. The ring stands until an engine reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A Wait that no earlier fence had satisfied when it was passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmetWait {
    /// The ring.
    pub ring: u8,
    /// Byte offset in the ring of the packet; of the call, when it is in a buffer.
    pub offset: u32,
    /// Internal fence counter.
    pub slot: u8,
    /// What was waited for.
    pub value: u16,
    /// Whether exactly that, or at least that.
    pub equal: bool,
    /// What the counter held.
    pub counter: u16,
}

impl fmt::Display for UnmetWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ring,
            offset,
            slot,
            value,
            counter,
            ..
        } = self;
        let at_least = if self.equal { "" } else { "at least " };
        write!(
            f,
            "ring {ring} passed a wait at offset {offset:#x} for {at_least}{value:#x} in slot {slot}, which holds {counter:#x}"
        )
    }
}
