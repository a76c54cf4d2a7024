//! The chips of the family and what their identity says (hardware reference 1.1, 2).

use crate::Reg;
use core::fmt;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

macro_rules! chips {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $vendor:literal, $device:literal, $order:literal;)*) => {
        /// A chip of the family, in the order in which drivers compare them
        /// (hardware reference 1.1). [`Chip::from_name`] takes the name that stands
        /// at each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub enum Chip {
            $(
                $(#[$doc])*
                ///
                #[doc = concat!("Name `", $text, "`, PCI id ", stringify!($vendor), ":", stringify!($device), ".")]
                $name,
            )*
        }

        impl Chip {
            /// All chips, lowest first.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// PCI vendor id.
            pub const fn vendor_id(self) -> u16 {
                match self { $(Self::$name => $vendor,)* }
            }

            /// PCI device id; its low byte selects the chip.
            pub const fn device_id(self) -> u16 {
                match self { $(Self::$name => $device,)* }
            }

            /// Its place in drivers' comparisons of chips, 1 is the lowest; some share one.
            pub const fn order(self) -> u8 {
                match self { $(Self::$name => $order,)* }
            }

            /// The name on the command line, `10c0` for example.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

chips! {
    /// e3k under its old vendor id.
    E3k = "e3k", 0x1d17, 0x3d00, 1;
    /// Arise 10C0.
    Arise10c0 = "10c0", 0x6766, 0x3d00, 1;
    /// Arise 10C0T.
    Arise10c0t = "10c0t", 0x6766, 0x3d06, 2;
    /// Arise 10D0, treated as a 10C0T.
    Arise10d0 = "10d0", 0x6766, 0x3d0e, 2;
    /// Arise 1040.
    Arise1040 = "1040", 0x6766, 0x3d03, 3;
    /// Arise 1020.
    Arise1020 = "1020", 0x6766, 0x3d02, 4;
    /// Arise 1010.
    Arise1010 = "1010", 0x6766, 0x3d04, 5;
    /// Arise 2030.
    Arise2030 = "2030", 0x6766, 0x3d07, 6;
    /// Arise 2020.
    Arise2020 = "2020", 0x6766, 0x3d08, 7;
}

impl Chip {
    /// The chip with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|chip| chip.name().eq_ignore_ascii_case(name))
    }

    /// Where its timestamp is (hardware reference 9.4).
    pub const fn timestamp(self) -> Reg {
        if self.is_1020_or_later() {
            Reg::CspTimestamp1020
        } else {
            Reg::CspTimestamp
        }
    }

    /// Whether it can gate clocks by itself (hardware reference 9.3).
    pub const fn has_power_manager(self) -> bool {
        self.order() >= Self::Arise2030.order()
    }

    /// Whether software decouples video core 0 ([`Reg::Vcp0Decouple`], hardware
    /// reference 8.4).
    pub const fn decouples_vcp0(self) -> bool {
        self.is_1020_or_later() && self.order() != Self::Arise2030.order()
    }

    /// What software writes to [`Reg::PendingBufCtrl0`] (hardware reference 8.4).
    pub const fn pending_buffers(self) -> u32 {
        if self.is_1020_or_later() { 0x40 } else { 0x4 }
    }

    const fn is_1020_or_later(self) -> bool {
        self.order() >= Self::Arise1020.order()
    }

    /// The chip with these PCI ids.
    pub fn from_ids(vendor: u16, device: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|chip| chip.vendor_id() == vendor && chip.device_id() == device)
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Memory channels and their size: the low byte of 0xD374 (hardware reference 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryChannels {
    /// 1 to 3.
    pub channels: u8,
    /// GiB behind each channel, 1 to 15.
    pub gib_each: u8,
}

impl MemoryChannels {
    /// The fewest channels that make exactly `bytes` of VRAM, or `None` when
    /// the register cannot say that size. Three channels are chosen only for
    /// 3, 6, 12 and 24 GiB less their reserve ([`Self::reserve_bytes`]).
    pub fn for_vram(bytes: u64) -> Option<Self> {
        let candidates =
            (1..=3).flat_map(|channels| (1..=15).map(move |gib_each| Self { channels, gib_each }));
        candidates
            .into_iter()
            .find(|c| c.is_legal() && c.vram_bytes() == bytes)
    }

    /// What a value read from 0xD374 means; `None` if its low byte is not a
    /// legal combination (0 says "not told here").
    pub fn from_register(value: u32) -> Option<Self> {
        let byte = value.to_le_bytes()[0];
        let decoded = Self {
            channels: byte >> 4,
            gib_each: byte & 0xf,
        };
        decoded.is_legal().then_some(decoded)
    }

    /// The value of 0xD374.
    pub fn to_register(self) -> u32 {
        u32::from(self.channels) << 4 | u32::from(self.gib_each)
    }

    /// Bytes that software may use: all of it, less the reserve.
    pub fn vram_bytes(self) -> u64 {
        self.total_bytes() - self.reserve_bytes()
    }

    /// Bytes taken off the end of VRAM on three-channel boards.
    pub fn reserve_bytes(self) -> u64 {
        match (self.channels, self.total_bytes() / GIB) {
            (3, 3) => 24 * MIB,
            (3, 6) => 72 * MIB,
            (3, 12) => 144 * MIB,
            (3, 24) => 288 * MIB,
            _ => 0,
        }
    }

    /// Bytes behind all channels together.
    pub fn total_bytes(self) -> u64 {
        u64::from(self.channels) * u64::from(self.gib_each) * GIB
    }

    fn is_legal(self) -> bool {
        match self.channels {
            1 | 2 => (1..=15).contains(&self.gib_each),
            3 => matches!(self.gib_each, 1 | 2 | 4 | 8),
            _ => false,
        }
    }
}
