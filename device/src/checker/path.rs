//! Where a walk comes by, and where entries lead.

use crate::index::index;
use crate::memory::{Snoop, Target};
use crate::mmu::look::Look;
use e3k_regs::pte::{L3Entry, Ttbr};
use e3k_regs::{BusAddr, GpuVa, VramOffset};

/// Pages of a line of the shared TLB.
pub(crate) const LINE_PAGES: usize = 16;

/// The entries that a walk reads before the last one, and where the second is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    l1: u32,
    l2: Option<(Target, u32)>,
}

impl Path {
    pub(crate) fn now(look: &Look<'_>, process_id: u8, va: GpuVa) -> Self {
        let index = usize::from(process_id) * 256 + index(va.0 >> 32 & 0xff);
        let raw = look.l1(index).unwrap_or(0);
        let l1 = Ttbr::from_bits(raw);
        let at = target(l1.segment(), l1.snoop(), u64::from(l1.page()) << 12);
        let at = at.add((va.0 >> 22 & 0x3ff) * 4);
        let l2 = l1.valid().then(|| Some((at, look.dword(at)?))).flatten();
        Self { l1: raw, l2 }
    }

    /// What the tables say of a line's pages, in one look; 0 where nothing valid is.
    pub(crate) fn entries(self, va: GpuVa, look: &Look<'_>) -> [u32; LINE_PAGES] {
        let entries = self.l2.and_then(|(_, l2)| look.entries_below(l2, va));
        entries.unwrap_or_default()
    }

    /// The first level where they differ; 3: not in these.
    pub(crate) fn differs(self, now: Self) -> u8 {
        if self.l1 != now.l1 {
            1
        } else if self.l2 != now.l2 {
            2
        } else {
            3
        }
    }
}

/// Where an entry leads.
pub(crate) fn target(local: bool, snoop: bool, at: u64) -> Target {
    let snoop = if snoop {
        Snoop::Snooped
    } else {
        Snoop::Unsnooped
    };
    if local {
        Target::Vram(VramOffset(at))
    } else {
        Target::System(BusAddr(at), snoop)
    }
}

/// Where a TLB's entry leads; `None`: it is not valid.
pub(crate) fn leads_to(entry: u32) -> Option<Target> {
    let entry = L3Entry::from_bits(entry);
    let to = || {
        target(
            entry.segment(),
            entry.snoop(),
            u64::from(entry.page()) << 12,
        )
    };
    entry.valid().then(to)
}

/// Where an address leads by the tables of now; `None`: nowhere.
pub(crate) fn place(look: &Look<'_>, process_id: u8, va: GpuVa) -> Option<Target> {
    if va.0 < look.untranslated_bytes() {
        return Some(Target::Vram(VramOffset(va.0)));
    }
    let process_id = if look.va_mode() { process_id } else { 0 };
    let page = leads_to(look.entry(process_id, va)?)?;
    Some(page.add(va.in_page()))
}
