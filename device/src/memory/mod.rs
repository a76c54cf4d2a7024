//! What lies behind the MMU: local memory, and the machine's memory over PCIe.

mod system;
mod vram;

pub use system::{BusError, DmaAccess, NoMemory, Snoop, SystemMemory};
pub use vram::Vram;

use crate::config::VRAM_MAX;
use e3k_regs::fields::FaultClient;
use e3k_regs::{BusAddr, VramOffset};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

impl Target {
    /// The VRAM offset or bus address.
    pub(crate) fn address(self) -> u64 {
        match self {
            Self::Vram(at) => at.0,
            Self::System(at, _) => at.0,
        }
    }

    /// The place `bytes` bytes further on.
    pub(crate) fn add(self, bytes: u64) -> Self {
        match self {
            Self::Vram(at) => Self::Vram(at.add(bytes)),
            Self::System(at, snoop) => Self::System(at.add(bytes), snoop),
        }
    }
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

/// On whose behalf an access is done, and what the entry that led there says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) client: FaultClient,
    pub(crate) non_secure: bool,
}

impl Origin {
    fn access(self, snoop: Snoop) -> DmaAccess {
        DmaAccess {
            client: self.client,
            snoop,
            non_secure: self.non_secure,
        }
    }
}

/// Both memories. Callers keep an access inside one page.
pub(crate) struct Memory {
    pub(crate) vram: Arc<Vram>,
    pub(crate) system: Box<dyn SystemMemory>,
}

/// Saved are only the sizes of VRAM. What comes back is VRAM of zeros, and no
/// system memory.
impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.vram.bytes(), self.vram.visible_bytes()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (bytes, visible_bytes) = Deserialize::deserialize(deserializer)?;
        if bytes > VRAM_MAX {
            return Err(D::Error::custom(format_args!(
                "{bytes} bytes of VRAM are more than {VRAM_MAX}"
            )));
        }
        let vram = Vram::new(bytes, visible_bytes, None).map_err(D::Error::custom)?;
        Ok(Self {
            vram: Arc::new(vram),
            system: Box::new(NoMemory),
        })
    }
}

impl Memory {
    pub(crate) fn read(
        &self,
        target: Target,
        buf: &mut [u8],
        origin: Origin,
    ) -> Result<(), BusError> {
        match target {
            Target::Vram(at) => self.vram.read(at, buf),
            Target::System(at, snoop) => self.system.read(at, buf, origin.access(snoop)),
        }
    }

    pub(crate) fn write(&self, target: Target, buf: &[u8], origin: Origin) -> Result<(), BusError> {
        match target {
            Target::Vram(at) => self.vram.write(at, buf),
            Target::System(at, snoop) => self.system.write(at, buf, origin.access(snoop)),
        }
    }

    /// One aligned atomic load: a table entry.
    #[inline]
    pub(crate) fn load_u32(&self, target: Target, origin: Origin) -> Result<u32, BusError> {
        match target {
            Target::Vram(at) => self.vram.load_u32(at),
            Target::System(at, snoop) => self.system.load_u32(at, origin.access(snoop)),
        }
    }

    /// Aligned atomic loads, one for each table entry.
    #[inline]
    pub(crate) fn load_entries<const N: usize>(
        &self,
        target: Target,
        entries: &mut [u32; N],
        origin: Origin,
    ) -> Result<(), BusError> {
        match target {
            Target::Vram(at) => self.vram.load_entries(at, entries),
            Target::System(at, snoop) => {
                for (entry, offset) in entries.iter_mut().zip((0..).step_by(4)) {
                    *entry = self.system.load_u32(at.add(offset), origin.access(snoop))?;
                }
                Ok(())
            }
        }
    }

    /// One aligned atomic store: a fence.
    pub(crate) fn store_u64(
        &self,
        target: Target,
        value: u64,
        origin: Origin,
    ) -> Result<(), BusError> {
        match target {
            Target::Vram(at) => self.vram.store_u64(at, value),
            Target::System(at, snoop) => self.system.store_u64(at, value, origin.access(snoop)),
        }
    }
}
