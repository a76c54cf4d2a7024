//! Page-table entries of the three levels (hardware reference 4.2 to 4.5).
//!
//! In all of them Segment says where the next thing lives: 1 is local VRAM,
//! 0 is system memory over PCIe; Snoop counts only for system memory.
#![allow(
    clippy::return_self_not_must_use,
    clippy::result_unit_err,
    reason = "the accessors are generated"
)]

use crate::layout::layout;
use bitfield_struct::bitfield;

/// Entries of an L2 or L3 table; a table is one 4 KiB page of 32-bit entries
/// (hardware reference 4.1).
pub const TABLE_ENTRIES: u64 = 1024;
/// Bytes of an entry.
pub const ENTRY_BYTES: u64 = 4;
/// Bytes of GPU address space behind one L1 register.
pub const L1_SPAN: u64 = 1 << 32;
/// Bytes of GPU address space behind one L2 entry.
pub const L2_SPAN: u64 = 1 << 22;

layout! {
    /// L1: a TTBR register (hardware reference 4.2).
    Ttbr(u32) {
        /// The entry is usable.
        valid: bool [1],
        /// Non-secure.
        ns: bool [1],
        /// The table fetch is snooped.
        snoop: bool [1],
        /// The L2 table lies in local VRAM.
        segment: bool [1],
        /// Page number of the L2 table.
        page: u32 [24],
        __: u32 [4],
    }
}

/// An L2 entry (hardware reference 4.3).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct L2Entry {
    /// The entry is usable.
    pub valid: bool,
    /// Non-secure table.
    pub ns: bool,
    /// The table fetch is snooped.
    pub snoop: bool,
    /// The L3 table lies in local VRAM.
    pub segment: bool,
    /// Page number of the L3 table.
    #[bits(27)]
    pub page: u32,
    /// Never set by a known driver; its meaning is unknown (hardware reference 4.1).
    pub large_page: bool,
}

/// An L3 entry of the 4 KiB page format (hardware reference 4.4).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct L3Entry {
    /// The entry is usable.
    pub valid: bool,
    /// Non-secure page.
    pub ns: bool,
    /// The PCIe access is snooped: coherent with CPU caches.
    pub snoop: bool,
    /// The page lies in local VRAM.
    pub segment: bool,
    /// Page number: a bus address over PCIe, or an offset in VRAM.
    #[bits(28)]
    pub page: u32,
}

/// An L3 entry of the 64 KiB page format (hardware reference 4.5).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct L3Entry64K {
    /// The entry is usable.
    pub valid: bool,
    /// Non-secure page.
    pub ns: bool,
    /// The PCIe access is snooped: coherent with CPU caches.
    pub snoop: bool,
    /// The page lies in local VRAM.
    pub segment: bool,
    #[bits(4)]
    __: u8,
    /// Number of the 64 KiB page: a bus address over PCIe, or an offset in VRAM.
    #[bits(24)]
    pub page: u32,
}
