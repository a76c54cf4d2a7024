//! What a client asks of the crossbar, and what becomes of it.

use crate::memory::{Origin, Target};
use crate::saved::csp as saved;
use e3k_regs::GpuVa;
use e3k_regs::fields::FaultClient;

/// One client access: who, for which process, and whether it writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) client: FaultClient,
    pub(crate) process_id: u8,
    pub(crate) write: bool,
}

impl Request {
    pub(crate) fn save(self) -> saved::Request {
        let Self {
            client,
            process_id,
            write,
        } = self;
        saved::Request {
            client,
            process_id,
            write,
        }
    }

    pub(crate) fn restore(saved: saved::Request) -> Self {
        let saved::Request {
            client,
            process_id,
            write,
        } = saved;
        Self {
            client,
            process_id,
            write,
        }
    }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// Number of a 4 KiB page.
    pub page: u64,
    /// Its bits that are compared; 0: every page.
    pub page_mask: u64,
    /// Process id.
    pub process_id: u8,
    /// Its bits that are compared; 0: every process.
    pub process_mask: u8,
}

/// Which level answered a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hit {
    /// None: PA mode took the address for an offset in VRAM.
    Untranslated,
    /// The client's own TLB.
    Utlb,
    /// The shared TLB.
    Dtlb,
    /// The tables.
    Walk,
}

/// An access of a client's to memory, translated and about to be made: bytes that
/// follow each other both in address space and in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who.
    pub client: FaultClient,
    /// Whose tables translate it; 0 in PA mode.
    pub process_id: u8,
    /// Whether it is a write.
    pub write: bool,
    /// The ring on whose behalf it is made.
    pub ring: u8,
    /// Byte offset in that ring of the packet that is being executed.
    pub ring_offset: u32,
    /// GPU address of the first byte.
    pub va: GpuVa,
    /// How many bytes.
    pub bytes: u64,
    /// Where the first byte is.
    pub target: Target,
    /// The NS bit of the entry that led there.
    pub non_secure: bool,
    /// Which level answered, for every page of it.
    pub by: Hit,
}

/// Where an entry is that a walk has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryAt {
    /// Level 1: the L1 register at this byte offset in BAR0.
    Register(u32),
    /// Levels 2 and 3.
    Memory(Target),
}
