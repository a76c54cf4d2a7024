//! What a client asks of the crossbar, and what becomes of it.

use crate::memory::{Origin, Target};
#[cfg(feature = "planted-faults")]
use crate::planted::planted;
use e3k_regs::fields::FaultClient;
use serde::{Deserialize, Serialize};

/// One client access: who, for which process, and whether it writes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) client: FaultClient,
    pub(crate) process_id: u8,
    pub(crate) write: bool,
}

/// What became of an access that could not be done; the fault is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It will not be done.
    Dropped,
    /// It is to be done again when software has cleared the fault.
    Stalled,
}

/// Where an address leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(super) target: Target,
    pub(super) non_secure: bool,
}

impl Place {
    pub(crate) fn address(self) -> u64 {
        self.target.address()
    }

    pub(crate) fn target(self) -> Target {
        self.target
    }

    /// With the origin of an access to it.
    pub(crate) fn with_origin(self, request: Request) -> (Target, Origin) {
        (self.target, self.origin(request))
    }

    pub(super) fn origin(self, request: Request) -> Origin {
        Origin {
            client: request.client,
            non_secure: self.non_secure,
        }
    }
}

/// Which TLB entries an invalidation drops: those whose page number and process
/// id agree with the wanted ones in every compared bit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invalidation {
    pub(crate) page: u64,
    pub(crate) page_mask: u64,
    pub(crate) process_id: u8,
    pub(crate) process_mask: u8,
}

#[cfg(feature = "planted-faults")]
impl Invalidation {
    pub(super) fn with_planted_fault(mut self) -> Self {
        for (planted, bit) in [
            (planted!(MaskBit4Stuck), 4),
            (planted!(MaskBit10Stuck), 10),
            (planted!(MaskBit20Stuck), 20),
        ] {
            self.page_mask |= u64::from(planted) << bit;
        }
        self.process_mask |= if planted!(ProcessMaskStuck) { 0xf } else { 0 };
        self
    }
}
