//! Who the GPU is as a PCI function, beyond its chip's ids.

use clap::ValueEnum;
use e3k_regs::Chip;

use presil_values::number;

/// The subsystem ids that QEMU gives by default: drivers of the family take
/// them for "slow" and wait a hundred times longer (hardware reference 1.1).
const QEMU_SUBSYSTEM: (u16, u16) = (0x1AF4, 0x1100);

/// The class of the function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Class {
    /// 0x0380: a display controller that firmware leaves alone.
    #[default]
    Display,
    /// 0x0300: VGA compatible.
    Vga,
}

impl Class {
    /// Base class, subclass and interface.
    pub const fn code(self) -> u32 {
        match self {
            Self::Display => 0x03_80_00,
            Self::Vga => 0x03_00_00,
        }
    }

    /// Whether it decodes the legacy ports, so that its command register has
    /// I/O enable.
    pub const fn has_legacy_io(self) -> bool {
        matches!(self, Self::Vga)
    }
}

/// What may be chosen about the function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The class.
    pub class: Class,
    /// Subsystem vendor and subsystem id; without it they repeat the chip's ids.
    pub subsystem: Option<(u16, u16)>,
}

impl Identity {
    /// Says what drivers make of it, once there is a log.
    pub fn warn(&self) {
        if self.subsystem == Some(QEMU_SUBSYSTEM) {
            tracing::warn!(
                "subsystem 1af4:1100 is QEMU's: drivers of this family wait longer with it"
            );
        }
    }

    /// Subsystem vendor and subsystem id.
    pub fn subsystem(&self, chip: Chip) -> (u16, u16) {
        self.subsystem
            .unwrap_or((chip.vendor_id(), chip.device_id()))
    }
}

/// `VENDOR:DEVICE` in hexadecimal.
pub fn parse_ids(text: &str) -> Result<(u16, u16), String> {
    let id = |digits| u16::try_from(number::hexadecimal(digits)?).ok();
    text.split_once(':')
        .and_then(|(vendor, device)| id(vendor).zip(id(device)))
        .ok_or("expected VENDOR:DEVICE, both in hexadecimal, as in 6766:0001".to_owned())
}
