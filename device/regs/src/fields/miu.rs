//! The memory interface (hardware reference 2 and 8.4).

use crate::layout::layout;

layout! {
    /// 0xD374 (hardware reference 2); [`crate::chip::MemoryChannels`] knows which values are legal.
    MemChannels(u32) {
        /// GiB per channel; 0 with 0 channels: not told here.
        gib_each: u8 [4],
        /// Memory channels, 1 to 3.
        channels: u8 [4],
        __: u32 [24],
    }

    /// Start or end of a range of a memory channel (hardware reference 8.4).
    MiuRangeAddress(u32) {
        __: u32 [12],
        /// VRAM address >> 16.
        address: u32 [20],
    }
}
