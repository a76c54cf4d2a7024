//! What lies behind the MMU: local memory, and the machine's memory over PCIe.

mod system;
mod vram;

pub use system::{BusError, DmaAccess, DmaMapping, NoMemory, Snoop, SystemMemory};
pub use vram::Vram;

use e3k_regs::fields::FaultClient;
use e3k_regs::{BusAddr, VramOffset};
use presil_fill::fill;
use std::sync::Arc;
use std::{fmt, io};
use vm_memory::VolatileSlice;

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

impl Memory {
    /// `vram_bytes` of VRAM, of which the CPU sees `visible_bytes`, with the pattern of
    /// `seed` or zeros; and no system memory.
    pub(crate) fn new(vram_bytes: u64, visible_bytes: u64, seed: Option<u64>) -> io::Result<Self> {
        let vram = Vram::new(vram_bytes, visible_bytes, seed)?;
        Ok(Self {
            vram: Arc::new(vram),
            system: Box::new(NoMemory),
        })
    }

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

    /// Copies between VRAM and memory of the machine's, or fills that with a colour, as
    /// [`fill`], as far as it is mapped: at most `bytes`, and a multiple of `unit`. Returns how
    /// many bytes; the others have not been touched. What is in VRAM lies inside it.
    pub(crate) fn exchange(
        &self,
        from: Option<(Target, Origin)>,
        to: (Target, Origin),
        [bytes, unit]: [usize; 2],
        (colour, all): (&[u8], u64),
    ) -> usize {
        let Some((at, access, local, write)) = between(from, to) else {
            return 0;
        };
        let mut done = 0;
        let mut body = |memory: VolatileSlice<'_>| {
            let units = memory.len() - memory.len() % unit;
            let local = local.map(|at| self.vram.slice(at, units)).transpose();
            let (Ok(memory), Ok(local)) = (memory.subslice(0, units), local) else {
                return;
            };
            match local {
                None => fill(&memory, colour, all),
                Some(local) if write => local.copy_to_volatile_slice(memory),
                Some(local) => memory.copy_to_volatile_slice(local),
            }
            done = units;
        };
        let result = self.system.with_mapped(at, bytes, write, access, &mut body);
        result.map_or(0, |()| done)
    }

    /// How many bytes [`Self::exchange`] would move, which moves none.
    pub(crate) fn exchanges(
        &self,
        from: Option<(Target, Origin)>,
        to: (Target, Origin),
        [bytes, unit]: [usize; 2],
    ) -> usize {
        let Some((at, access, _, write)) = between(from, to) else {
            return 0;
        };
        let mut mapped = 0;
        let mut body = |memory: VolatileSlice<'_>| mapped = memory.len() - memory.len() % unit;
        let result = self.system.with_mapped(at, bytes, write, access, &mut body);
        result.map_or(0, |()| mapped)
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

/// Of a copy or fill of which one end is in the machine's memory: where that is, how it
/// is accessed, the place in VRAM, and whether it is written.
fn between(
    from: Option<(Target, Origin)>,
    to: (Target, Origin),
) -> Option<(BusAddr, DmaAccess, Option<VramOffset>, bool)> {
    use Target::{System, Vram};
    Some(match (from, to) {
        (None, (System(at, snoop), origin)) => (at, origin.access(snoop), None, true),
        (Some((Vram(from), _)), (System(at, snoop), origin)) => {
            (at, origin.access(snoop), Some(from), true)
        }
        (Some((System(at, snoop), origin)), (Vram(to), _)) => {
            (at, origin.access(snoop), Some(to), false)
        }
        // Two places in the machine's memory may be the same.
        _ => return None,
    })
}
