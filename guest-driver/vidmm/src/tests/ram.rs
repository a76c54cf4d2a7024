//! A scripted system for pages of RAM: it knows where each page is, in which mode,
//! and what it holds.

use crate::Error;
use crate::bo::pool::{Effort, Linked, Lists, MAX_ORDER, PageSource, SmallLock};
use crate::platform::Caching;
use e3k_regs::BusAddr;
use presil_allocator::spared;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// A value of a machine, which several threads may look at. It is never held for
/// longer than a statement.
#[derive(Debug, Default)]
pub(super) struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(super) fn borrow(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }

    pub(super) fn set(&self, value: T) {
        *self.borrow() = value;
    }

    pub(super) fn get(&self) -> T
    where
        T: Copy,
    {
        *self.borrow()
    }

    pub(super) fn take(&self) -> T
    where
        T: Default,
    {
        std::mem::take(&mut self.borrow())
    }
}

/// Refuses everything after so many calls.
#[derive(Debug)]
pub(super) struct Countdown {
    left: Shared<u32>,
    refused: Shared<u32>,
}

impl Countdown {
    /// Refuses nothing.
    pub(super) const fn new() -> Self {
        Self {
            left: Shared::new(u32::MAX),
            refused: Shared::new(0),
        }
    }

    /// From now on so many calls go on, and no more.
    pub(super) fn set(&self, calls: u32) {
        self.left.set(calls);
        self.refused.set(0);
    }

    /// Whether one more call goes on.
    pub(super) fn goes_on(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        *self.refused.borrow() += u32::from(left == 0);
        left > 0
    }

    /// Calls that were refused.
    pub(super) fn refused(&self) -> u32 {
        self.refused.get()
    }
}

#[derive(Debug)]
pub(super) struct Block {
    /// Its first page.
    pub(super) page: u64,
    next: Option<Box<Block>>,
}

impl Linked for Block {
    fn set_next(&mut self, next: Option<Self>) {
        assert!(self.next.is_none());
        // In the kernel the link lies in the pages.
        self.next = spared(|| next.map(Box::new));
    }

    fn take_next(&mut self) -> Option<Self> {
        self.next.take().map(|next| *next)
    }
}

/// What the system knows of a block that it has given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) order: u32,
    pub(super) low: bool,
    pub(super) caching: Caching,
    pub(super) clear: bool,
    pub(super) bus: Option<BusAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Take(u32, Effort),
    Failed(u32),
    Switch(usize),
}

/// Gives blocks at ever new places. `largest` is the largest order it has;
/// `budget` the pages it has left; the calls after `failing` fail.
pub(super) struct System {
    pub(super) next_page: Shared<u64>,
    pub(super) out: Shared<BTreeMap<u64, Known>>,
    pub(super) largest: Shared<u32>,
    pub(super) budget: Shared<u64>,
    pub(super) takes_until_failure: Countdown,
    pub(super) switches_until_failure: Countdown,
    pub(super) maps_until_failure: Countdown,
    pub(super) calls: Shared<Vec<Call>>,
    /// One word of each page; garbage where nobody wrote.
    pub(super) words: Shared<BTreeMap<u64, u64>>,
    /// Pages that were cleared.
    pub(super) cleared: Shared<u64>,
}

impl System {
    pub(super) fn new() -> Self {
        Self {
            next_page: Shared::new(1 << 20),
            out: Shared::default(),
            largest: Shared::new(MAX_ORDER),
            budget: Shared::new(u64::MAX),
            takes_until_failure: Countdown::new(),
            switches_until_failure: Countdown::new(),
            maps_until_failure: Countdown::new(),
            calls: Shared::default(),
            words: Shared::default(),
            cleared: Shared::new(0),
        }
    }

    pub(super) fn known(&self, block: &Block) -> Known {
        self.out.borrow()[&block.page]
    }

    pub(super) fn change(&self, block: &Block, change: impl FnOnce(&mut Known)) {
        change(self.out.borrow().get_mut(&block.page).unwrap());
    }

    pub(super) fn pages_out(&self) -> usize {
        self.out
            .borrow()
            .values()
            .map(|known| 1 << known.order)
            .sum()
    }

    fn found(&self, order: u32, low: bool, effort: Effort) -> Option<Block> {
        self.calls.borrow().push(Call::Take(order, effort));
        let pages = 1_u64 << order;
        let refused = order > self.largest.get() || pages > self.budget.get();
        if refused || !self.takes_until_failure.goes_on() {
            self.calls.borrow().push(Call::Failed(order));
            return None;
        }
        self.budget.set(self.budget.get() - pages);
        let page = self.next_page.get().next_multiple_of(pages);
        self.next_page.set(page + pages);
        // Contents of whoever had it before.
        let known = Known {
            order,
            low,
            caching: Caching::Cached,
            clear: false,
            bus: None,
        };
        assert!(self.out.borrow().insert(page, known).is_none());
        // Whoever had it before left something.
        let mut words = self.words.borrow();
        words.extend((page..page + pages).map(|page| (page, 0xDEAD_0000 + page)));
        Some(Block { page, next: None })
    }
}

impl PageSource for System {
    type Block = Block;

    fn take(&self, order: u32, low: bool, effort: Effort) -> Option<Block> {
        spared(|| self.found(order, low, effort))
    }

    fn give(&self, block: Block, order: u32) {
        let known = self.out.borrow().remove(&block.page).unwrap();
        assert_eq!(
            (known.order, known.caching, known.bus),
            (order, Caching::Cached, None)
        );
        assert!(block.next.is_none());
        let mut words = self.words.borrow();
        for page in block.page..block.page + (1 << order) {
            words.remove(&page);
        }
        drop(words);
        self.budget
            .set(self.budget.get().saturating_add(1 << order));
    }

    fn split(&self, block: Block, order: u32) -> (Block, Block) {
        let known = Known {
            order,
            ..self.known(&block)
        };
        assert_eq!(known.bus, None);
        let high = block.page + (1 << order);
        let halves = [(block.page, known), (high, known)];
        spared(|| self.out.borrow().extend(halves));
        (
            block,
            Block {
                page: high,
                next: None,
            },
        )
    }

    fn clear(&self, block: &mut Block, order: u32) {
        assert_eq!(self.known(block).order, order);
        self.cleared.set(self.cleared.get() + (1 << order));
        let pages = block.page..block.page + (1 << order);
        spared(|| self.words.borrow().extend(pages.map(|page| (page, 0))));
        self.change(block, |known| known.clear = true);
    }

    fn set_caching(
        &self,
        blocks: &mut dyn Iterator<Item = (&mut Block, u32)>,
        caching: Caching,
    ) -> Result<(), Error> {
        if !self.switches_until_failure.goes_on() {
            return Err(Error::NoMemory);
        }
        let mut switched = 0;
        for (block, order) in blocks {
            assert_eq!(
                (self.known(block).order, self.known(block).caching),
                (order, Caching::Cached)
            );
            self.change(block, |known| known.caching = caching);
            switched += 1;
        }
        spared(|| self.calls.borrow().push(Call::Switch(switched)));
        Ok(())
    }

    fn write_barrier(&self) {}

    fn restore_caching(&self, block: &mut Block, _order: u32) {
        assert_ne!(
            self.known(block).caching,
            Caching::Cached,
            "only where it is needed"
        );
        self.change(block, |known| known.caching = Caching::Cached);
    }

    fn map(&self, block: &Block, order: u32) -> Result<BusAddr, Error> {
        if !self.maps_until_failure.goes_on() {
            return Err(Error::Fault);
        }
        assert_eq!(
            (self.known(block).order, self.known(block).bus),
            (order, None)
        );
        let at = BusAddr::from_page(block.page);
        self.change(block, |known| known.bus = Some(at));
        Ok(at)
    }

    fn unmap(&self, block: &Block, at: BusAddr, _order: u32) {
        assert_eq!(self.known(block).bus, Some(at), "unmapped once");
        self.change(block, |known| known.bus = None);
    }
}

/// Nothing may be asked of the system under the lock: the lock is not reentrant.
pub(super) struct Locked(pub(super) RefCell<Lists<Block>>);

impl SmallLock<Lists<Block>> for Locked {
    fn with<R>(&self, f: impl FnOnce(&mut Lists<Block>) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    fn into_inner(self) -> Lists<Block> {
        self.0.into_inner()
    }
}
