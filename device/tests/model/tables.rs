//! Page-table entries by the reference's bit positions (4.2 to 4.4), and
//! tables built with them.

use crate::rig::{Rig, TTBR};
use presil_device::{BusAddr, Snoop, Target, VramOffset};

pub(crate) const VALID: u32 = 1;
pub(crate) const NS: u32 = 1 << 1;
pub(crate) const SNOOP: u32 = 1 << 2;
pub(crate) const LOCAL: u32 = 1 << 3;
pub(crate) const LARGE: u32 = 1 << 31;

pub(crate) fn vram(at: u64) -> Target {
    Target::Vram(VramOffset(at))
}

pub(crate) fn snooped(at: u64) -> Target {
    Target::System(BusAddr(at), Snoop::Snooped)
}

pub(crate) fn unsnooped(at: u64) -> Target {
    Target::System(BusAddr(at), Snoop::Unsnooped)
}

/// A valid entry of any level that leads to `to`.
pub(crate) fn entry(to: Target) -> u32 {
    let (at, place) = match to {
        Target::Vram(at) => (at.0, LOCAL),
        Target::System(at, Snoop::Snooped) => (at.0, SNOOP),
        Target::System(at, Snoop::Unsnooped) => (at.0, 0),
    };
    VALID | place | u32::try_from(at >> 12).unwrap() << 4
}

/// Where a valid entry of L1 or L2 leads.
fn leads_to(entry: u32) -> Target {
    let at = u64::from(entry >> 4 & 0xff_ffff) << 12;
    match entry & (SNOOP | LOCAL) {
        0 => unsnooped(at),
        SNOOP => snooped(at),
        _ => vram(at),
    }
}

pub(crate) fn l1_offset(process_id: u32, va: u64) -> u32 {
    TTBR + (process_id * 256 + u32::try_from(va >> 32).unwrap()) * 4
}

impl Rig {
    /// Where the L3 entry of `va` is; makes the tables above it.
    pub(crate) fn l3_entry_at(&mut self, process_id: u32, va: u64) -> Target {
        let l1 = l1_offset(process_id, va);
        if self.reg(l1) & VALID == 0 {
            let table = self.new_table();
            self.set(l1, entry(table));
        }
        let l2 = plus(leads_to(self.reg(l1)), (va >> 22 & 0x3ff) * 4);
        if self.load(l2) & VALID == 0 {
            let table = self.new_table();
            self.store(l2, entry(table));
        }
        plus(leads_to(self.load(l2)), (va >> 12 & 0x3ff) * 4)
    }

    /// Maps one page, without invalidating anything.
    pub(crate) fn map(&mut self, process_id: u32, va: u64, to: Target) {
        let at = self.l3_entry_at(process_id, va);
        self.store(at, entry(to));
    }
}

pub(crate) fn plus(at: Target, bytes: u64) -> Target {
    match at {
        Target::Vram(at) => vram(at.0 + bytes),
        Target::System(at, snoop) => Target::System(BusAddr(at.0 + bytes), snoop),
    }
}
