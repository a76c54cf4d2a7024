//! The entry of one page in a TLB, and since when the tables say otherwise.

use crate::checker::path::leads_to;

/// Invalidations that are remembered of one that they missed.
const MISSED: usize = 2;

/// How an invalidation missed an entry that the tables did not say any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// It was for the other TLBs.
    Unit,
    /// It was for another process id.
    Process,
    /// It was for other pages.
    Page,
    /// It was for a part of what had changed.
    Part,
}

/// The tables say something else.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// They agreed at this event, and did not at that one.
    pub(crate) between: (u64, u64),
    /// The level of the entry that changed.
    pub(crate) level: u8,
    /// What they say of the page; `None`: nothing valid.
    pub(crate) now: Option<u32>,
    /// The first doorbell since.
    pub(crate) doorbell: Option<u64>,
    /// Whether an access is wrong.
    pub(crate) due: bool,
    /// Invalidations since, that missed it.
    pub(crate) missed: [Option<(u64, Missed)>; MISSED],
}

/// The entry of one page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// Not valid: nothing that a TLB would answer with.
    pub(crate) entry: u32,
    /// When it was filled, and when it was last seen to be right.
    pub(crate) filled: u64,
    agreed: u64,
    /// If it is wrong.
    pub(crate) change: Option<Box<Change>>,
}

impl Slot {
    /// One that is filled now; `known`: what the shared TLB has of the page, which may have
    /// been wrong already.
    pub(crate) fn filled(at: u64, entry: u32, known: Option<&Self>) -> Self {
        let known = known.filter(|known| known.entry == entry);
        Self {
            entry,
            filled: at,
            agreed: known.map_or(at, |known| known.agreed),
            change: known.and_then(|known| known.change.clone()),
        }
    }

    /// Whether a TLB would answer with it.
    pub(crate) fn is_valid(&self) -> bool {
        leads_to(self.entry).is_some()
    }

    /// Compares it with what the tables say now; says whether it is wrong. `level`: where
    /// the way to the entry has changed.
    pub(crate) fn compare(&mut self, at: u64, level: u8, found: u32) -> bool {
        if !self.is_valid() {
            return false;
        }
        if found == self.entry {
            self.agreed = at;
            self.change = None;
            return false;
        }
        let found = leads_to(found).map(|_| found);
        if let Some(change) = &mut self.change {
            change.now = found;
        } else {
            self.change = Some(Box::new(Change {
                between: (self.agreed, at),
                level,
                now: found,
                doorbell: None,
                due: false,
                missed: [None; MISSED],
            }));
        }
        true
    }

    /// An invalidation has missed it.
    pub(crate) fn missed(&mut self, at: u64, how: Missed) {
        let missed = self.change.iter_mut().flat_map(|change| &mut change.missed);
        if let Some(free) = { missed }.find(|missed| missed.is_none()) {
            *free = Some((at, how));
        }
    }
}
