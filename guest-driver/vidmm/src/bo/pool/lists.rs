//! The blocks that wait to be used again, by caching mode, reach and order.

use crate::platform::Caching;

/// The largest order of a block: 4 MiB in pages of 4 KiB.
pub const MAX_ORDER: u32 = 10;

const ORDERS: usize = MAX_ORDER as usize + 1;
/// Caching modes times reaches times orders.
const LISTS: usize = 2 * 2 * ORDERS;

/// A block that can be the head of a list of its kind. The link lies in the
/// block, so that giving one back needs no memory.
pub trait Linked: Sized {
    /// Hangs another block behind this one, which has none there.
    fn set_next(&mut self, next: Option<Self>);

    /// Takes the block that hangs behind this one.
    fn take_next(&mut self) -> Option<Self>;
}

/// Which blocks can replace each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// How the CPU maps them.
    pub caching: Caching,
    /// Within the first 4 GiB of bus addresses.
    pub low: bool,
    /// 2^order pages, naturally aligned; at most [`MAX_ORDER`].
    pub order: u32,
}

impl Key {
    /// Pages of one block.
    pub const fn pages(self) -> usize {
        1 << self.order
    }

    const fn index(self) -> usize {
        let kind = 2 * (self.caching as usize) + self.low as usize;
        kind * ORDERS + self.order as usize
    }

    const fn of(index: usize) -> Self {
        let kind = index / ORDERS;
        Self {
            caching: if kind < 2 {
                Caching::Cached
            } else {
                Caching::WriteCombined
            },
            low: kind % 2 == 1,
            // At most MAX_ORDER.
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_ORDER")]
            order: (index % ORDERS) as u32,
        }
    }
}

#[derive(Debug)]
struct Stack<B> {
    head: Option<B>,
    blocks: usize,
}

impl<B> Stack<B> {
    const EMPTY: Self = Self {
        head: None,
        blocks: 0,
    };
}

/// Blocks that wait, all of them cleared and in their list's caching mode.
/// Meant to lie under a small lock: nothing here waits or allocates.
///
/// ```
/// use vidmm::{Caching, bo::pool::{Key, Linked, Lists}};
/// struct Block(Option<Box<Block>>);
/// impl Linked for Block {
///     fn set_next(&mut self, next: Option<Self>) {
///         self.0 = next.map(Box::new);
///     }
///     fn take_next(&mut self) -> Option<Self> {
///         self.0.take().map(|next| *next)
///     }
/// }
/// let mut lists = Lists::new(8, false);
/// let (cached, combined) = (Caching::Cached, Caching::WriteCombined);
/// let key = |caching, order| Key { caching, low: false, order };
/// assert!(lists.put(key(combined, 3), Block(None)).is_ok());
/// assert!(lists.put(key(combined, 0), Block(None)).is_ok());
/// assert!(lists.put(key(cached, 0), Block(None)).is_err(), "the system takes it");
/// assert!(lists.pages() == 9 && lists.over_limit());
/// assert!(lists.take(key(combined, 2)).is_none(), "no larger block is split");
/// assert!(lists.take(key(combined, 3)).is_some() && lists.pages() == 1);
/// ```
///
/// # Invariants
/// - `pages` is the sum over all lists of blocks times pages of a block
///   (invariant 7 of the memory manager).
/// - The ring names every list once.
#[derive(Debug)]
pub struct Lists<B> {
    stacks: [Stack<B>; LISTS],
    /// The order in which lists give blocks away; `next` is the front.
    next: usize,
    pages: usize,
    limit: usize,
    keeps_cached: bool,
    open: bool,
}

impl<B: Linked> Lists<B> {
    /// Empty lists that keep at most `limit` pages. Cached pages are kept only
    /// with `keeps_cached`: of use where a block is coherent DMA memory, which is
    /// dear to get; ordinary ones go back to the system (R-14.1).
    pub const fn new(limit: usize, keeps_cached: bool) -> Self {
        Self {
            stacks: [const { Stack::EMPTY }; LISTS],
            next: 0,
            pages: 0,
            limit,
            keeps_cached,
            open: true,
        }
    }

    /// Pages that wait.
    pub const fn pages(&self) -> usize {
        self.pages
    }

    /// How many may wait.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The lists on which blocks wait, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (Key, usize)> {
        let all = (0..).map(Key::of).zip(&self.stacks);
        let blocks = all.map(|(key, stack)| (key, stack.blocks));
        blocks.filter(|(_, blocks)| *blocks > 0)
    }

    /// Blocks that wait on one list.
    pub const fn blocks(&self, key: Key) -> usize {
        self.stacks[key.index()].blocks
    }

    /// A block of exactly this kind: no other mode, no larger block split (R-14.9).
    pub fn take(&mut self, key: Key) -> Option<B> {
        let stack = &mut self.stacks[key.index()];
        let mut block = stack.head.take()?;
        stack.head = block.take_next();
        // INVARIANT: what is counted is what hangs there.
        stack.blocks -= 1;
        self.pages -= key.pages();
        Some(block)
    }

    /// Whether blocks of this kind are kept (R-14.1).
    pub fn keeps(&self, key: Key) -> bool {
        self.open && (key.caching != Caching::Cached || self.keeps_cached)
    }

    /// Keeps a block, or says that there is no list for it (R-14.6).
    ///
    /// # Errors
    /// The block.
    pub fn put(&mut self, key: Key, mut block: B) -> Result<(), B> {
        if !self.keeps(key) {
            return Err(block);
        }
        let stack = &mut self.stacks[key.index()];
        block.set_next(stack.head.take());
        stack.head = Some(block);
        stack.blocks += 1;
        self.pages += key.pages();
        Ok(())
    }

    /// Whether more waits than may.
    pub const fn over_limit(&self) -> bool {
        self.pages > self.limit
    }

    /// Sets how many pages may wait. What is above it goes at the next shrink.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// One step of shrinking: the list at the front of the ring gives a block, if
    /// it has one, and goes to the back (R-14.7).
    pub fn shrink_once(&mut self) -> Option<(Key, B)> {
        let key = Key::of(self.next);
        self.next = (self.next + 1) % LISTS;
        Some((key, self.take(key)?))
    }

    /// A block of any list while there is one.
    pub fn shrink(&mut self) -> Option<(Key, B)> {
        // A full turn of the ring finds a block if any waits.
        (0..LISTS).find_map(|_| self.shrink_once())
    }

    /// From now on nothing is kept (R-14.10).
    pub const fn close(&mut self) {
        self.open = false;
    }
}
