//! The blocks of BAR0 (hardware reference 3).

use crate::register::BAR0_BYTES;

/// A block: everything from its first byte to the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first byte in BAR0.
    pub start: u32,
    /// What it is.
    pub name: &'static str,
}

/// Where the command processor's registers begin.
pub const CSP: u32 = 0x30000;
/// Where the memory crossbar's registers begin.
pub const MXU: u32 = 0x49000;
/// Where the bank of L1 registers begins.
pub const MMU: u32 = 0x50000;

macro_rules! blocks {
    ($($start:tt $name:literal,)*) => {
        /// All blocks, in the order of their offsets; the first begins at 0.
        pub const BLOCKS: &[Block] = &[$(Block { start: $start, name: $name },)*];
    };
}

blocks! {
    0x00000 "unknown, below 0x5000",
    0x05000 "MIU timing",
    0x08000 "BIU and MIU",
    0x08200 "display",
    0x083C0 "VGA ports",
    0x083E0 "display, from 0x83E0",
    0x08500 "BIU control",
    0x08600 "SR group A",
    0x08700 "SR group B",
    0x08800 "CR group A",
    0x08900 "CR group B",
    0x08A00 "CR group C",
    0x08B00 "CR group D",
    0x09000 "unknown, from 0x9000",
    0x09400 "SR group T",
    0x09500 "CR group T",
    0x09600 "unknown, from 0x9600",
    0x0B000 "VPP",
    0x0D300 "MIU ranges",
    0x10000 "BCI",
    CSP "CSP",
    0x33000 "display, from 0x33000",
    0x35000 "unknown, from 0x35000",
    MXU "MXU",
    0x4A000 "video core 1",
    0x4C000 "video core 0",
    MMU "MMU",
    0x54000 "unknown, from 0x54000",
    0x70000 "PMP",
    0x7CE00 "ROM shadow",
    0x7D000 "unknown, from 0x7D000",
    0x80000 "PMU",
}

/// Which of [`BLOCKS`] a byte of BAR0 is in.
pub fn index(offset: u32) -> usize {
    debug_assert!(offset < BAR0_BYTES);
    BLOCKS
        .partition_point(|block| block.start <= offset)
        .saturating_sub(1)
}
