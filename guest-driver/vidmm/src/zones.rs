//! The three zones of the GPU's virtual address space (`vidmm_init`, step 3).

use crate::{Error, Options};
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::pte::L1_SPAN;
use e3k_regs::register::L1_PER_PROCESS;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// A zone of GPU virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name in reports.
    pub name: &'static str,
    /// First address; a multiple of what one L1 register spans.
    pub start: GpuVa,
    /// Size, a multiple of the same.
    pub bytes: u64,
    /// The same memory for every process id.
    pub shared: bool,
}

/// The address-space plan: zones, and what of them is memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VmInfo {
    pub(crate) local: Zone,
    pub(crate) pcie: Zone,
    pub(crate) private: Zone,
    pub(crate) vram_bytes: u64,
    pub(crate) visible_bytes: u64,
    pub(crate) snoop_bytes: u64,
    pub(crate) unsnoop_bytes: u64,
}

impl VmInfo {
    /// Lays the zones one after another: local memory rounded up to whole L1
    /// registers, the PCIe apertures likewise, and what is left for each process.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sizes that are not pages, a window larger than
    /// VRAM, or zones that need more L1 registers than there are.
    pub(crate) fn plan(vram: u64, visible: u64, options: &Options) -> Result<Self, Error> {
        let sizes = [vram, visible, options.snoop_bytes, options.unsnoop_bytes];
        let whole_pages = sizes.iter().all(|size| size.is_multiple_of(PAGE_SIZE));
        if !whole_pages || vram == 0 || visible > vram {
            return Err(Error::Invalid);
        }
        let apertures = options
            .snoop_bytes
            .checked_add(options.unsnoop_bytes)
            .filter(|bytes| *bytes > 0)
            .ok_or(Error::Invalid)?;
        let local = vram
            .checked_next_multiple_of(L1_SPAN)
            .ok_or(Error::Invalid)?;
        let pcie = apertures
            .checked_next_multiple_of(L1_SPAN)
            .ok_or(Error::Invalid)?;
        let shared = local.checked_add(pcie).ok_or(Error::Invalid)?;
        let space = 1 << ADDRESS_BITS;
        if shared > space || shared / L1_SPAN > u64::from(L1_PER_PROCESS) {
            return Err(Error::Invalid);
        }
        let zone = |name, start, bytes, shared| Zone {
            name,
            start: GpuVa(start),
            bytes,
            shared,
        };
        Ok(Self {
            local: zone("local", 0, local, true),
            pcie: zone("pcie", local, pcie, true),
            private: zone("private", shared, space - shared, false),
            vram_bytes: vram,
            visible_bytes: visible,
            snoop_bytes: options.snoop_bytes,
            unsnoop_bytes: options.unsnoop_bytes,
        })
    }

    pub(crate) fn zones(&self) -> [Zone; 3] {
        [self.local, self.pcie, self.private]
    }

    /// Bytes of the two shared zones, which begin at address 0.
    pub(crate) fn shared_bytes(&self) -> u64 {
        self.local.bytes + self.pcie.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn zones_touch_and_cover_the_address_space_r_19_11() {
        for vram in [
            256 * MIB,
            GIB,
            4 * GIB,
            5 * GIB,
            3 * GIB - 24 * MIB,
            64 * GIB,
        ] {
            let vm = VmInfo::plan(vram, 256 * MIB, &Options::default()).unwrap();
            let mut next = 0;
            for zone in vm.zones() {
                assert_eq!(zone.start.0, next);
                assert_eq!(zone.start.0 % L1_SPAN, 0);
                assert_eq!(zone.bytes % L1_SPAN, 0);
                next += zone.bytes;
            }
            assert_eq!(next, 1 << 40);
            assert!(vm.local.bytes >= vram && vm.local.bytes - vram < L1_SPAN);
        }
    }

    #[test]
    fn zones_that_need_too_many_l1_registers_are_refused_r_19_10() {
        let plan = |vram, visible, snoop_bytes| {
            let options = Options {
                snoop_bytes,
                ..Options::default()
            };
            VmInfo::plan(vram, visible, &options)
        };
        assert!(plan(1 << 40, GIB, GIB).is_err(), "no room for zone 1");
        assert!(
            plan((1 << 40) - (4 << 30), GIB, GIB).is_ok(),
            "exactly full"
        );
        assert!(plan(u64::MAX - 4095, GIB, GIB).is_err());
        assert!(plan(GIB, 2 * GIB, GIB).is_err(), "window larger than VRAM");
        assert!(plan(GIB, GIB + 1, GIB).is_err());
        assert!(plan(0, 0, GIB).is_err());
        assert!(plan(GIB, GIB, u64::MAX - 4095).is_err());
        assert!(plan(GIB, GIB, 100).is_err(), "not whole pages");
    }
}
