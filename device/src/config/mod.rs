//! What can be chosen about a GPU, and which choices exist on silicon.

mod error;
mod formats;
pub(crate) mod mmu;
pub(crate) mod on_wait;

pub use error::ConfigError;
pub(crate) use formats::Pixel;
pub use formats::SurfaceFormats;
pub use mmu::{DtlbShape, LargePage, MmuOptions, OnFault, UtlbSize};
pub use on_wait::OnWait;

use crate::defect::Defects;
use crate::saved::config as saved;
use e3k_regs::Chip;
use e3k_regs::chip::MemoryChannels;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The unit of `Video_Size` (hardware reference 4.6): VRAM is a multiple of it.
const VRAM_UNIT: u64 = 256 * MIB;
const VRAM_MAX: u64 = 64 * GIB;
const VISIBLE_MAX: u64 = 4 * GIB;
const VISIBLE_MIN: u64 = MIB;

/// One GPU. Made by [`Config::new`], which refuses what cannot be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which chip it says it is.
    pub chip: Chip,
    /// VRAM that software may use, in bytes.
    pub vram_bytes: u64,
    /// The part of it that the CPU sees, in bytes, from VRAM offset 0.
    pub visible_bytes: u64,
    /// What 0xD374 says; `None` when it cannot say this size.
    pub channels: Option<MemoryChannels>,
    /// Fill VRAM with the pattern of this seed at power-on; without it VRAM starts as zeros.
    pub vram_seed: Option<u64>,
    /// The MMU's TLBs and readings.
    pub mmu: MmuOptions,
    /// What an unsatisfied Wait does.
    pub on_wait: OnWait,
    /// Surface formats whose codes are known.
    pub surface_formats: SurfaceFormats,
    /// Displays count frames and raise vertical blanks at 60 Hz, which is all that
    /// is modelled of them.
    pub vsync: bool,
    /// What is broken about it; a saved state is of a whole GPU.
    pub defects: Defects,
}

impl Config {
    /// Checks the sizes (hardware reference 2). `any_size` allows multiples of
    /// 256 MiB that the register cannot say, for doors that tell VRAM's size
    /// in another way.
    pub fn new(
        chip: Chip,
        vram_bytes: u64,
        visible_bytes: u64,
        any_size: bool,
    ) -> Result<Self, ConfigError> {
        let channels = MemoryChannels::for_vram(vram_bytes);
        let multiple =
            (VRAM_UNIT..=VRAM_MAX).contains(&vram_bytes) && vram_bytes.is_multiple_of(VRAM_UNIT);
        if channels.is_none() && !(any_size && multiple) {
            return Err(ConfigError::Vram {
                bytes: vram_bytes,
                any_size,
            });
        }
        let max = vram_bytes.min(VISIBLE_MAX);
        if !visible_bytes.is_power_of_two() || !(VISIBLE_MIN..=max).contains(&visible_bytes) {
            return Err(ConfigError::Visible {
                bytes: visible_bytes,
                max,
            });
        }
        Ok(Self {
            chip,
            vram_bytes,
            visible_bytes,
            channels,
            vram_seed: None,
            mmu: MmuOptions::default(),
            on_wait: OnWait::default(),
            surface_formats: SurfaceFormats::default(),
            vsync: true,
            defects: Defects::default(),
        })
    }

    pub(crate) fn save(&self) -> saved::Config {
        let Self {
            chip,
            vram_bytes,
            visible_bytes,
            channels: _,
            vram_seed,
            mmu,
            on_wait,
            surface_formats,
            vsync,
            defects: _,
        } = self;
        let &MmuOptions {
            utlb,
            strict_utlb,
            dtlb,
            large_page,
            on_fault,
        } = mmu;
        saved::Config {
            chip: *chip,
            vram_bytes: *vram_bytes,
            visible_bytes: *visible_bytes,
            vram_seed: *vram_seed,
            utlb_entries: utlb.entries(),
            strict_utlb,
            dtlb_sets: dtlb.sets(),
            dtlb_ways: dtlb.ways(),
            large_page,
            on_fault,
            on_wait: *on_wait,
            surface_formats: surface_formats.save(),
            vsync: *vsync,
        }
    }

    /// # Errors
    /// No GPU can be made so.
    pub(crate) fn restore(saved: saved::Config) -> Result<Self, ConfigError> {
        let saved::Config {
            chip,
            vram_bytes,
            visible_bytes,
            vram_seed,
            utlb_entries,
            strict_utlb,
            dtlb_sets,
            dtlb_ways,
            large_page,
            on_fault,
            on_wait,
            surface_formats,
            vsync,
        } = saved;
        let dtlb = match (dtlb_sets, dtlb_ways) {
            (0, 0) => DtlbShape::OFF,
            (sets, ways) => DtlbShape::new(sets, ways)?,
        };
        Ok(Self {
            vram_seed,
            mmu: MmuOptions {
                utlb: UtlbSize::new(utlb_entries)?,
                strict_utlb,
                dtlb,
                large_page,
                on_fault,
            },
            on_wait,
            surface_formats: SurfaceFormats::restore(surface_formats)?,
            vsync,
            ..Self::new(chip, vram_bytes, visible_bytes, true)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_is_one_channel_of_one_gib() {
        let config = Config::new(Chip::Arise10c0, GIB, 512 * MIB, false).unwrap();
        assert_eq!(
            config.channels,
            Some(MemoryChannels {
                channels: 1,
                gib_each: 1
            })
        );
    }

    #[test]
    fn sizes_that_the_register_cannot_say_need_a_door_that_can() {
        for bytes in [VRAM_UNIT, 5 * VRAM_UNIT, 31 * GIB, 64 * GIB] {
            assert!(
                Config::new(Chip::E3k, bytes, 256 * MIB, false).is_err(),
                "{bytes}"
            );
            let config = Config::new(Chip::E3k, bytes, 256 * MIB, true).unwrap();
            assert_eq!(config.channels, None);
        }
    }

    #[test]
    fn three_channels_lose_their_reserve() {
        for (gib, reserve) in [(3, 24), (6, 72), (12, 144), (24, 288)] {
            let usable = gib * GIB - reserve * MIB;
            let config = Config::new(Chip::E3k, usable, 256 * MIB, false).unwrap();
            assert_eq!(config.channels.unwrap().channels, 3);
        }
    }

    #[test]
    fn impossible_sizes_are_refused_with_the_legal_list() {
        for bytes in [0, 1, GIB + 1, 65 * GIB, u64::MAX] {
            let error = Config::new(Chip::E3k, bytes, 256 * MIB, true).unwrap_err();
            assert!(error.to_string().contains("1G to 15G"), "{error}");
        }
        for visible in [0, 3 * MIB, 2 * GIB, 8 * GIB] {
            let error = Config::new(Chip::E3k, GIB, visible, true).unwrap_err();
            assert!(error.to_string().contains("power of two"), "{error}");
        }
        assert!(
            Config::new(Chip::E3k, 8 * GIB, 8 * GIB, true).is_err(),
            "the window ends at 4 GiB"
        );
    }
}
