//! Which entries of TLBs an invalidation drops.

use crate::checker::held::{Missed, Slot};
use crate::checker::path::LINE_PAGES;
use crate::mmu::access::Invalidation;
use e3k_regs::fields::{FaultClient, TlbTarget};

/// Bits of a page's number (hardware reference 4.1).
const PAGE_NUMBERS: u64 = (1 << 28) - 1;

/// A client's own one; `None`: the shared one.
pub(crate) type Tlb = Option<FaultClient>;

/// Process id, and number of a page.
pub(crate) type Key = (u8, u64);

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Criteria {
    pub(crate) target: TlbTarget,
    /// Whether the clients' own ones drop what the shared one does.
    pub(crate) both: bool,
    pub(crate) what: Invalidation,
}

impl Criteria {
    /// Which of its criteria a page meets: TLB, process id, page number.
    fn met(&self, tlb: Tlb, (process_id, page): Key) -> (bool, bool, bool) {
        let Self { target, what, .. } = self;
        let unit = match tlb {
            None => *target == TlbTarget::Dtlb,
            Some(_) => *target == TlbTarget::Utlb || self.both,
        };
        let compared = if *target == TlbTarget::Dtlb { !0xf } else { !0 };
        let process = (process_id ^ what.process_id) & what.process_mask == 0;
        let page = (page ^ what.page) & what.page_mask & compared & PAGE_NUMBERS == 0;
        (unit, process, page)
    }

    /// Whether it drops a page's entry.
    pub(crate) fn drops(&self, tlb: Tlb, key: Key) -> bool {
        self.met(tlb, key) == (true, true, true)
    }

    /// Whether it may drop a page of the line that begins there.
    pub(crate) fn reaches(&self, tlb: Tlb, line: Key) -> bool {
        let mut whole = *self;
        whole.what.page_mask &= !(LINE_PAGES as u64 - 1);
        whole.drops(tlb, line)
    }

    /// Drops a page's entry, and says so, or notes how an entry that is wrong was missed:
    /// what misses by one thing may have been meant for it. `part`: it drops others that
    /// are wrong.
    pub(crate) fn apply(
        &self,
        at: u64,
        (tlb, key): (Tlb, Key),
        slot: &mut Slot,
        part: bool,
    ) -> bool {
        let how = match self.met(tlb, key) {
            (true, true, true) => {
                let held = slot.is_valid();
                *slot = Slot::default();
                return held;
            }
            (true, true, false) if part => Missed::Part,
            (true, true, false) => Missed::Page,
            (true, false, true) if !part => Missed::Process,
            (false, true, true) => Missed::Unit,
            _ => return false,
        };
        slot.missed(at, how);
        false
    }
}
