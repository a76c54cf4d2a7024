//! RAM pages for buffer objects, and the pool that keeps those whose caching mode
//! is not the usual one: to change the mode of a page costs a TLB flush of the
//! whole machine.
//!
//! Locks: [`Lists`] lie under a small lock that is never held while the system is
//! asked for pages, since the system may then ask the pool to shrink.
//!
//! Not here: an "uncached" mode, which no segment uses.

mod fill;
mod lists;

pub use fill::{Request, Vector, fill, give_back};
pub use lists::{Key, Linked, Lists, MAX_ORDER};

use crate::Error;
use crate::platform::Caching;
use e3k_regs::BusAddr;

/// How hard the system tries to find pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Takes what is there: no reclaim, no warning, no emergency reserves.
    Light,
    /// May reclaim.
    Reclaim,
}

/// Where blocks of RAM come from and go to.
pub trait PageSource {
    /// Naturally aligned pages, 2^order of them.
    type Block: Linked;

    /// A block in the usual caching mode, contents undefined; `low` ones within
    /// the first 4 GiB of bus addresses.
    fn take(&self, order: u32, low: bool, effort: Effort) -> Option<Self::Block>;

    /// Takes a block back, which is in the usual caching mode and not mapped.
    fn give(&self, block: Self::Block, order: u32);

    /// The lower and the upper half of a block, two blocks of order `order`. It is not
    /// mapped; its mode stays.
    fn split(&self, block: Self::Block, order: u32) -> (Self::Block, Self::Block);

    /// Fills a block with zeros.
    fn clear(&self, block: &mut Self::Block, order: u32);

    /// What this CPU has stored in blocks is in memory, or in caches that all see, before
    /// anything that follows: nobody else's store is overtaken by it. (In Linux `wmb()`.)
    fn write_barrier(&self);

    /// Changes the caching mode of all these blocks from the usual one, or of none. What
    /// anybody had stored in them is in memory then, and no line of them in a cache. (In
    /// Linux `set_pages_array_wc`, which flushes.)
    ///
    /// # Errors
    /// [`Error::NoMemory`]: the mode of none has changed.
    fn set_caching(
        &self,
        blocks: &mut dyn Iterator<Item = (&mut Self::Block, u32)>,
        caching: Caching,
    ) -> Result<(), Error>;

    /// Gives a block the usual caching mode again. What was stored in the other one is in
    /// memory then. (In Linux `set_pages_array_wb`.)
    fn restore_caching(&self, block: &mut Self::Block, order: u32);

    /// Lets the GPU reach a block: where its first page is.
    ///
    /// # Errors
    /// [`Error::Fault`].
    fn map(&self, block: &Self::Block, order: u32) -> Result<BusAddr, Error>;

    /// Ends what `map` began. The GPU's TLBs have forgotten the block.
    fn unmap(&self, block: &Self::Block, at: BusAddr, order: u32);
}

/// A small lock: what runs under it does not wait, and of the pool's allocates nothing.
pub trait SmallLock<T> {
    /// Runs `f` under the lock.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;

    /// The value, at the end of the lock.
    fn into_inner(self) -> T;
}

/// Frees waiting pages when the system is short of memory: at least `pages` as
/// long as any wait. Returns how many were freed.
pub fn shrink<S: PageSource>(
    source: &S,
    lists: &impl SmallLock<Lists<S::Block>>,
    pages: usize,
) -> usize {
    let mut freed = 0;
    while freed < pages {
        let Some((key, block)) = lists.with(Lists::shrink) else {
            break;
        };
        freed += key.pages();
        release(source, key, block);
    }
    freed
}

/// Empties the pool for good.
pub fn close<S: PageSource>(source: &S, lists: &impl SmallLock<Lists<S::Block>>) {
    lists.with(Lists::close);
    shrink(source, lists, usize::MAX);
}

/// Gives a block to the system.
fn release<S: PageSource>(source: &S, key: Key, mut block: S::Block) {
    if key.caching != Caching::Cached {
        source.restore_caching(&mut block, key.order);
    }
    source.give(block, key.order);
}
