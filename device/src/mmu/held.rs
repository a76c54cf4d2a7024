//! Looking into the TLBs.

use super::entry::TlbEntry;
use super::{Mxu, walk};
use crate::memory::Target;
use e3k_regs::pte::L3Entry;
use e3k_regs::{GpuVa, PAGE_SIZE};

impl Mxu {
    /// The valid entries of this process id, and of the page of `va`, or of all:
    /// first the shared TLB's, then the clients'. In PA mode there is one process.
    pub(crate) fn held(
        &self,
        process_id: Option<u8>,
        va: Option<GpuVa>,
    ) -> impl Iterator<Item = TlbEntry> {
        let va_mode = self.mode.va_mode();
        let process_id = process_id.map(|id| if va_mode { id } else { 0 });
        let shared = self.dtlb.held();
        let shared = shared.map(|(id, page, entry)| (None, id, page, entry));
        let own = self.utlb.held();
        let own = own.map(|(client, id, page, entry)| (Some(client), id, page, entry));
        shared
            .chain(own)
            .filter(move |(_, id, page, _)| {
                process_id.is_none_or(|wanted| wanted == *id)
                    && va.is_none_or(|va| va.page() == *page)
            })
            .map(|(client, process_id, page, entry)| {
                let va = GpuVa(page * PAGE_SIZE);
                TlbEntry {
                    client,
                    process_id,
                    va: va.0,
                    entry: entry.into_bits(),
                    target: walk::page_of(entry),
                    tables: self.leaf_now(process_id, va),
                }
            })
    }

    /// The valid L3 entry of a page in the tables, and where it leads.
    fn leaf_now(&self, process_id: u8, va: GpuVa) -> Option<(u32, Target)> {
        let entry = self.look().entry(process_id, va)?;
        Some((entry, walk::page_of(L3Entry::from_bits(entry))))
    }
}
