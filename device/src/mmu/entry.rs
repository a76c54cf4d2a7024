//! What a TLB holds of a page, for whoever looks: beside what the tables say now.

use crate::memory::Target;
use e3k_regs::PAGE_SIZE;
use e3k_regs::fields::FaultClient;
use std::fmt;

/// A page of 4 KiB in a TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbEntry {
    /// The client whose own TLB (UTLB) it is in; `None`: the shared one (DTLB).
    pub client: Option<FaultClient>,
    /// Process id.
    pub process_id: u8,
    /// GPU address of the page.
    pub va: u64,
    /// The L3 entry that is held.
    pub entry: u32,
    /// Where that leads.
    pub target: Target,
    /// The L3 entry in the tables now, and where it leads; `None`: none is valid. Of a
    /// larger page it is what the TLB would hold of it.
    pub tables: Option<(u32, Target)>,
}

impl TlbEntry {
    /// Whether the tables say something else by now.
    pub fn is_stale(&self) -> bool {
        self.tables.map(|(entry, _)| entry) != Some(self.entry)
    }

    /// Whether `next` is the next page in the same TLB and address space, and goes on
    /// in memory where this one ends, also in the tables.
    pub fn goes_on_in(&self, next: &Self) -> bool {
        let tables = match (self.tables, next.tables) {
            _ if !self.is_stale() && !next.is_stale() => true,
            (Some((_, one)), Some((_, next))) => one.add(PAGE_SIZE) == next,
            (one, next) => one == next,
        };
        (self.client, self.process_id) == (next.client, next.process_id)
            && self.va + PAGE_SIZE == next.va
            && self.target.add(PAGE_SIZE) == next.target
            && self.is_stale() == next.is_stale()
            && tables
    }
}

impl fmt::Display for TlbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            Some(client) => write!(f, "the UTLB of {}", client.name())?,
            None => f.write_str("the DTLB")?,
        }
        write!(
            f,
            " has {} ({:#010x}), the tables say ",
            self.target, self.entry
        )?;
        match self.tables {
            Some((entry, target)) => write!(f, "{target} ({entry:#010x})"),
            None => f.write_str("nothing valid"),
        }
    }
}
