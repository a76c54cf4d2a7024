//! A scripted system for pages of RAM: it knows where each page is, in which mode,
//! and what it holds.

use crate::Error;
use crate::bo::pool::{Effort, Linked, Lists, MAX_ORDER, PageSource, SmallLock};
use crate::platform::Caching;
use e3k_regs::BusAddr;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Block {
    /// Its first page.
    pub(super) page: u64,
    next: Option<Box<Block>>,
}

impl Linked for Block {
    fn set_next(&mut self, next: Option<Self>) {
        assert!(self.next.is_none());
        self.next = next.map(Box::new);
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
    pub(super) next_page: Cell<u64>,
    pub(super) out: RefCell<BTreeMap<u64, Known>>,
    pub(super) largest: Cell<u32>,
    pub(super) budget: Cell<u64>,
    pub(super) switches_until_failure: Cell<u32>,
    pub(super) maps_until_failure: Cell<u32>,
    pub(super) calls: RefCell<Vec<Call>>,
    /// One word of each page; garbage where nobody wrote.
    pub(super) words: RefCell<BTreeMap<u64, u64>>,
    /// Pages that were cleared.
    pub(super) cleared: Cell<u64>,
}

impl System {
    pub(super) fn new() -> Self {
        Self {
            next_page: Cell::new(1 << 20),
            out: RefCell::default(),
            largest: Cell::new(MAX_ORDER),
            budget: Cell::new(u64::MAX),
            switches_until_failure: Cell::new(u32::MAX),
            maps_until_failure: Cell::new(u32::MAX),
            calls: RefCell::default(),
            words: RefCell::default(),
            cleared: Cell::new(0),
        }
    }

    pub(super) fn known(&self, block: &Block) -> Known {
        self.out.borrow()[&block.page]
    }

    pub(super) fn change(&self, block: &Block, change: impl FnOnce(&mut Known)) {
        change(self.out.borrow_mut().get_mut(&block.page).unwrap());
    }

    pub(super) fn pages_out(&self) -> usize {
        self.out
            .borrow()
            .values()
            .map(|known| 1 << known.order)
            .sum()
    }
}

pub(super) fn count_down(left: &Cell<u32>) -> bool {
    let now = left.get();
    left.set(now.saturating_sub(1));
    now > 0
}

impl PageSource for System {
    type Block = Block;

    fn take(&self, order: u32, low: bool, effort: Effort) -> Option<Block> {
        self.calls.borrow_mut().push(Call::Take(order, effort));
        let pages = 1_u64 << order;
        if order > self.largest.get() || pages > self.budget.get() {
            self.calls.borrow_mut().push(Call::Failed(order));
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
        assert!(self.out.borrow_mut().insert(page, known).is_none());
        // Whoever had it before left something.
        let mut words = self.words.borrow_mut();
        words.extend((page..page + pages).map(|page| (page, 0xDEAD_0000 + page)));
        Some(Block { page, next: None })
    }

    fn give(&self, block: Block, order: u32) {
        let known = self.out.borrow_mut().remove(&block.page).unwrap();
        assert_eq!(
            (known.order, known.caching, known.bus),
            (order, Caching::Cached, None)
        );
        assert!(block.next.is_none());
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
        let mut out = self.out.borrow_mut();
        out.insert(block.page, known);
        out.insert(high, known);
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
        let mut words = self.words.borrow_mut();
        words.extend((block.page..block.page + (1 << order)).map(|page| (page, 0)));
        drop(words);
        self.change(block, |known| known.clear = true);
    }

    fn set_caching(
        &self,
        blocks: &mut dyn Iterator<Item = (&mut Block, u32)>,
        caching: Caching,
    ) -> Result<(), Error> {
        if !count_down(&self.switches_until_failure) {
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
        self.calls.borrow_mut().push(Call::Switch(switched));
        Ok(())
    }

    fn restore_caching(&self, block: &mut Block, _order: u32) {
        assert_ne!(
            self.known(block).caching,
            Caching::Cached,
            "only where it is needed"
        );
        self.change(block, |known| known.caching = Caching::Cached);
    }

    fn map(&self, block: &Block, order: u32) -> Result<BusAddr, Error> {
        if !count_down(&self.maps_until_failure) {
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
}
