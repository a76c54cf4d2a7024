//! The three address spaces. They never share an integer type: mixing a GPU
//! address with a bus address is the classic bring-up bug.

use core::fmt;

/// Bits of an offset inside a page.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a GPU page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Width of GPU virtual addresses and of PCIe bus addresses (hardware reference 4.1).
pub const ADDRESS_BITS: u32 = 40;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub u64);

        impl $name {
            /// The page number: address >> 12.
            pub const fn page(self) -> u64 {
                self.0 >> PAGE_SHIFT
            }

            /// The byte inside the page.
            pub const fn in_page(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }

            /// The first byte of page number `page`.
            pub const fn from_page(page: u64) -> Self {
                Self(page << PAGE_SHIFT)
            }

            /// The address `bytes` further on; wraps at 64 bits, so that a
            /// hostile sum ends in a range check and not in a panic.
            #[must_use]
            pub const fn add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{:#012x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

address! {
    /// An address a GPU client uses: 40 bits, translated by the MMU
    /// (hardware reference 4.1).
    GpuVa, "va"
}
address! {
    /// A PCIe bus (DMA) address in system memory: 40 bits (hardware reference 4.1).
    BusAddr, "bus"
}
address! {
    /// A byte offset in local memory: up to 36 bits (hardware reference 4.1).
    VramOffset, "vram"
}

impl GpuVa {
    /// Builds the address a packet carries as 32 low and 8 high bits.
    pub const fn from_parts(low: u32, high: u8) -> Self {
        Self((high as u64) << 32 | low as u64)
    }

    /// The 32 low bits, as packets carry them.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is what is asked for"
    )]
    pub const fn low(self) -> u32 {
        self.0 as u32
    }

    /// Bits 39:32, as packets carry them. Bits above 39 do not exist on the wire.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bits 39:32 are what is asked for"
    )]
    pub const fn high(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// The L1 register of a process id's bank that covers this address: `VA[39:32]`.
    pub const fn l1_index(self) -> usize {
        (self.0 >> 32 & 0xff) as usize
    }

    /// The entry of the L2 table: `VA[31:22]`.
    pub const fn l2_index(self) -> u64 {
        self.0 >> 22 & 0x3ff
    }

    /// The entry of the L3 table of 64 KiB pages: `VA[21:16]`.
    pub const fn l3_index_64k(self) -> u64 {
        self.0 >> 16 & 0x3f
    }

    /// The entry of the L3 table of 4 KiB pages: `VA[21:12]`.
    pub const fn l3_index(self) -> u64 {
        self.0 >> PAGE_SHIFT & 0x3ff
    }
}
