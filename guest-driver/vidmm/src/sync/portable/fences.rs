//! The fences of one reservation.

use super::{Fence, Host};
use crate::Error;
use crate::sync::Usage;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Fences with their class, in the order of adding.
///
/// # Invariants
/// Behind a fence stand, of its context, only older ones and those of a later class.
pub(super) struct FenceSet<H: Host>(Vec<(Arc<Fence<H>>, Usage)>);

impl<H: Host> FenceSet<H> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Room for `count` more.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), Error> {
        self.0.retain(|(fence, _)| fence.result().is_none());
        Ok(self.0.try_reserve(count)?)
    }

    /// Adds one; allocates nothing if there is room.
    pub(super) fn add(&mut self, fence: &Arc<Fence<H>>, usage: Usage) {
        // INVARIANT: who waits for this one waits for those it replaces, since a context ends
        // in order: as long as it is found by all who would have found them.
        let replaced = |(old, of): &(Arc<Fence<H>>, Usage)| {
            old.context == fence.context && old.sequence <= fence.sequence && *of >= usage
        };
        self.0
            .retain(|old| !replaced(old) && old.0.result().is_none());
        self.0.push((Arc::clone(fence), usage));
    }

    /// One that has not ended, of the class or one before it.
    pub(super) fn unfinished(&self, usage: Usage) -> Option<Arc<Fence<H>>> {
        let mut all = self.0.iter().filter(|(_, of)| *of <= usage);
        let found = all.find(|(fence, _)| fence.result().is_none());
        found.map(|(fence, _)| Arc::clone(fence))
    }

    /// The same fences again.
    pub(super) fn copy(&self) -> Result<Self, Error> {
        let mut copy = Vec::new();
        copy.try_reserve(self.0.len())?;
        copy.extend(self.0.iter().map(|(fence, of)| (Arc::clone(fence), *of)));
        Ok(Self(copy))
    }
}
