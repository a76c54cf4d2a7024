//! What lies behind the MMU: local memory, and the machine's memory over PCIe.

mod system;
mod vram;

pub use system::{BusError, DmaAccess, NoMemory, Snoop, SystemMemory};
pub use vram::Vram;

use e3k_regs::fields::FaultClient;
use e3k_regs::{BusAddr, VramOffset};
use std::fmt;
use std::sync::Arc;

/// Where a translated access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Local memory.
    Vram(VramOffset),
    /// System memory over PCIe.
    System(BusAddr, Snoop),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vram(at) => write!(f, "{at}"),
            Self::System(at, Snoop::Snooped) => write!(f, "{at} snooped"),
            Self::System(at, Snoop::Unsnooped) => write!(f, "{at} unsnooped"),
        }
    }
}

/// Both memories. Callers keep an access inside one page.
pub(crate) struct Memory {
    pub(crate) vram: Arc<Vram>,
    pub(crate) system: Box<dyn SystemMemory>,
}

impl Memory {
    pub(crate) fn read(
        &self,
        target: Target,
        buf: &mut [u8],
        client: FaultClient,
    ) -> Result<(), BusError> {
        match target {
            Target::Vram(at) => self.vram.read(at, buf),
            Target::System(at, snoop) => self.system.read(at, buf, DmaAccess { client, snoop }),
        }
    }

    pub(crate) fn write(
        &self,
        target: Target,
        buf: &[u8],
        client: FaultClient,
    ) -> Result<(), BusError> {
        match target {
            Target::Vram(at) => self.vram.write(at, buf),
            Target::System(at, snoop) => self.system.write(at, buf, DmaAccess { client, snoop }),
        }
    }

    /// One aligned atomic load: a table entry.
    pub(crate) fn load_u32(&self, target: Target, client: FaultClient) -> Result<u32, BusError> {
        match target {
            Target::Vram(at) => self.vram.load_u32(at),
            Target::System(at, snoop) => self.system.load_u32(at, DmaAccess { client, snoop }),
        }
    }

    /// One aligned atomic store: a fence.
    pub(crate) fn store_u64(
        &self,
        target: Target,
        value: u64,
        client: FaultClient,
    ) -> Result<(), BusError> {
        match target {
            Target::Vram(at) => self.vram.store_u64(at, value),
            Target::System(at, snoop) => {
                self.system
                    .store_u64(at, value, DmaAccess { client, snoop })
            }
        }
    }
}
