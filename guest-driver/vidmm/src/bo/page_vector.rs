//! The RAM behind a buffer object: pages, or where their contents went.
//!
//! ```text
//!          populate                 bound
//!  Empty ───────────> Populated ───────────> Bound
//!    ^                 │ ^ │ ^ <────────────
//!    │   unpopulate    │ │ │ │    unbound
//!    ├─────────────────┘ │ │ └────── populate ─┐
//!    │          populate │ └──── back_up ───> BackedUp
//!    │                   │ swap_out              (some pages, some contents
//!    │                   v                        in the store)
//!    └──── discard ─── Swapped
//! ```
//!
//! Nobody else touches the pages while one of these is under way: the GPU is idle
//! and has no entry for them (R-7.7), the CPU has no mapping; the reservation of
//! the buffer object sees to that.

use super::pool::{self, Linked, Lists, PageSource, Request, SmallLock, Vector};
use crate::Error;
use crate::platform::Caching;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use e3k_regs::BusAddr;

/// Where contents go when their pages are wanted for something else.
pub trait BackingStore<B> {
    /// Stores page `page` of a block.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::NoMemory`], [`Error::Io`]; nothing is kept.
    fn put(&self, block: &B, page: usize) -> Result<NonZeroU64, Error>;

    /// Copies what is stored into page `page` of a block. It stays stored.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Interrupted`].
    fn get(&self, handle: NonZeroU64, block: &mut B, page: usize) -> Result<(), Error>;

    /// Forgets what is stored.
    fn drop(&self, handle: NonZeroU64);
}

/// Everything the pages of a device come from and go to.
pub trait Ram {
    /// A block of pages.
    type Block: Linked;
    /// The system.
    type Source: PageSource<Block = Self::Block>;
    /// The pool.
    type Pool: SmallLock<Lists<Self::Block>>;
    /// The store for contents.
    type Store: BackingStore<Self::Block>;

    /// The system.
    fn source(&self) -> &Self::Source;

    /// The pool.
    fn pool(&self) -> &Self::Pool;

    /// The store for contents.
    fn store(&self) -> &Self::Store;
}

/// What a page vector is, for its life (R-7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Page slots: the buffer's and those the driver wants beside (R-7.1).
    pub pages: usize,
    /// How the CPU maps them.
    pub caching: Caching,
    /// Within the first 4 GiB of bus addresses.
    pub low: bool,
    /// The GPU reaches them: they have bus addresses.
    pub mapped: bool,
    /// The largest order that is worth reclaiming for.
    pub beneficial_order: u32,
}

#[derive(Debug)]
enum State<B> {
    Empty,
    Populated(Vector<B>),
    Bound(Vector<B>),
    /// Contents of slot n are under handle n.
    Swapped(Vec<NonZeroU64>),
    /// The slots at the front still have pages; behind them the last slot's
    /// contents are the first that is stored.
    BackedUp(Vector<B>, Vec<NonZeroU64>),
    /// The pages are somebody else's (R-7.5).
    External {
        mappable: bool,
    },
}

/// The name of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// Nothing.
    Nothing,
    /// Pages.
    Pages,
    /// Pages that the GART points at.
    BoundPages,
    /// Contents in the store, no pages.
    Swapped,
    /// Some pages, the other contents in the store. Not populated (R-13.6).
    BackedUp,
    /// Somebody else's pages.
    External,
}

/// The page vector of one buffer object.
///
/// # Invariants
/// The pages and the handles together are `shape.pages`, or there are none.
#[derive(Debug)]
pub struct PageVector<B> {
    shape: Shape,
    /// The next pages must be zeros: nothing was ever in them, or it was thrown away.
    zero: bool,
    state: State<B>,
}

impl<B: Linked> PageVector<B> {
    /// Without pages. With `zero` the first ones will be zeros (R-7.3).
    pub const fn new(shape: Shape, zero: bool) -> Self {
        let state = State::Empty;
        Self { shape, zero, state }
    }

    /// For pages that belong to somebody else; no page of them is ever looked at here.
    pub const fn external(shape: Shape, mappable: bool) -> Self {
        let state = State::External { mappable };
        Self {
            shape,
            zero: false,
            state,
        }
    }

    /// What it is.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What it has.
    pub const fn has(&self) -> Has {
        match self.state {
            State::Empty => Has::Nothing,
            State::Populated(_) => Has::Pages,
            State::Bound(_) => Has::BoundPages,
            State::Swapped(_) => Has::Swapped,
            State::BackedUp(..) => Has::BackedUp,
            State::External { .. } => Has::External,
        }
    }

    /// Whether a CPU fault may show its pages (R-7.5).
    pub const fn may_fault(&self) -> bool {
        !matches!(self.state, State::External { mappable: false })
    }

    /// Pages it holds now, for the device's count of populated pages.
    pub const fn held(&self) -> usize {
        match &self.state {
            State::Populated(vector) | State::Bound(vector) | State::BackedUp(vector, _) => {
                vector.pages()
            }
            _ => 0,
        }
    }

    /// Pages whose contents are in the store.
    pub const fn stored(&self) -> usize {
        match &self.state {
            State::Swapped(handles) | State::BackedUp(_, handles) => handles.len(),
            _ => 0,
        }
    }

    /// Pages that [`Self::populate`] would make exist.
    pub const fn lacks(&self) -> usize {
        match self.state {
            State::External { .. } => 0,
            _ => self.shape.pages.saturating_sub(self.held()),
        }
    }

    /// The block of a slot and the page within it, if it is populated.
    pub fn slot(&self, index: usize) -> Option<(&B, usize)> {
        self.vector()?.slot(index)
    }

    /// Where the GPU finds a slot, if it is populated and mapped.
    pub fn bus_addr(&self, index: usize) -> Option<BusAddr> {
        self.vector()?.bus_addr(index)
    }

    const fn vector(&self) -> Option<&Vector<B>> {
        match &self.state {
            State::Populated(vector) | State::Bound(vector) => Some(vector),
            _ => None,
        }
    }

    const fn request(&self, pages: usize, zero: bool) -> Request {
        Request {
            pages,
            caching: self.shape.caching,
            low: self.shape.low,
            zero,
            mapped: self.shape.mapped,
            beneficial_order: self.shape.beneficial_order,
        }
    }

    /// The GART points at the pages now.
    ///
    /// # Errors
    /// [`Error::Invalid`] without pages (R-16.1).
    pub fn bound(&mut self) -> Result<(), Error> {
        match core::mem::replace(&mut self.state, State::Empty) {
            State::Populated(vector) | State::Bound(vector) => {
                self.state = State::Bound(vector);
                Ok(())
            }
            other => {
                self.state = other;
                Err(Error::Invalid)
            }
        }
    }

    /// The GART no longer points at the pages, and its TLBs have forgotten them.
    pub fn unbound(&mut self) {
        match core::mem::replace(&mut self.state, State::Empty) {
            State::Bound(vector) => self.state = State::Populated(vector),
            other => self.state = other,
        }
    }

    /// Makes pages exist, with the contents they had. Again is harmless (R-7.4).
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Fault`], those of [`BackingStore::get`]. What
    /// was stored still is; of a vector that was backed up page by page, what has
    /// come back stays (R-13.8).
    pub fn populate(&mut self, ram: &impl Ram<Block = B>) -> Result<(), Error> {
        match &mut self.state {
            State::Populated(_) | State::Bound(_) | State::External { .. } => Ok(()),
            State::Empty => {
                let request = self.request(self.shape.pages, self.zero);
                let vector = pool::fill(ram.source(), ram.pool(), &request)?;
                self.zero = false;
                self.state = State::Populated(vector);
                Ok(())
            }
            State::Swapped(handles) => {
                let handles = core::mem::take(handles);
                match self.swap_in(ram, &handles) {
                    Ok(vector) => {
                        forget(ram.store(), handles);
                        self.state = State::Populated(vector);
                        Ok(())
                    }
                    Err(error) => {
                        self.state = State::Swapped(handles);
                        Err(error)
                    }
                }
            }
            State::BackedUp(..) => self.restore(ram),
        }
    }

    fn swap_in(
        &self,
        ram: &impl Ram<Block = B>,
        handles: &[NonZeroU64],
    ) -> Result<Vector<B>, Error> {
        let request = self.request(self.shape.pages, false);
        let mut vector = pool::fill(ram.source(), ram.pool(), &request)?;
        match fetch(ram, &mut vector, handles.iter()) {
            Ok(()) => Ok(vector),
            Err(error) => {
                pool::give_back(ram.source(), ram.pool(), vector);
                Err(error)
            }
        }
    }

    fn restore(&mut self, ram: &impl Ram<Block = B>) -> Result<(), Error> {
        let request = self.request(self.shape.pages, false);
        let State::BackedUp(vector, stored) = &mut self.state else {
            return Ok(());
        };
        while let Some(order) = stored.len().checked_ilog2() {
            // One block at a time: what is stored is dropped when all of it is back.
            let pages = 1 << order.min(pool::MAX_ORDER);
            vector.reserve(pages)?;
            let request = Request { pages, ..request };
            let mut more = pool::fill(ram.source(), ram.pool(), &request)?;
            let last = stored.iter().rev().take(pages);
            if let Err(error) = fetch(ram, &mut more, last) {
                pool::give_back(ram.source(), ram.pool(), more);
                return Err(error);
            }
            // INVARIANT: as many pages come as handles go.
            vector.append(more);
            for handle in stored.drain(stored.len() - pages..) {
                ram.store().drop(handle);
            }
        }
        // Blocks that were split when their last pages went are not mapped.
        vector.map(ram.source(), &request)?;
        if let State::BackedUp(vector, _) = core::mem::replace(&mut self.state, State::Empty) {
            self.state = State::Populated(vector);
        }
        Ok(())
    }

    /// Gives pages and stored contents back: the next pages are zeros (R-7.8). Again
    /// is harmless (R-7.4, R-7.6).
    ///
    /// # Errors
    /// [`Error::Busy`] while the GART points at the pages (R-7.7); nothing has
    /// changed then.
    pub fn unpopulate(&mut self, ram: &impl Ram<Block = B>) -> Result<(), Error> {
        match core::mem::replace(&mut self.state, State::Empty) {
            State::Empty => return Ok(()),
            State::Populated(vector) => pool::give_back(ram.source(), ram.pool(), vector),
            State::Swapped(handles) => {
                forget(ram.store(), handles);
            }
            State::BackedUp(vector, stored) => {
                pool::give_back(ram.source(), ram.pool(), vector);
                forget(ram.store(), stored);
            }
            bound @ State::Bound(_) => {
                self.state = bound;
                return Err(Error::Busy);
            }
            external @ State::External { .. } => {
                self.state = external;
                return Ok(());
            }
        }
        self.zero = true;
        Ok(())
    }

    /// Stores all contents and gives the pages back, or does nothing. Returns the
    /// pages that were freed.
    ///
    /// # Errors
    /// [`Error::Busy`] for a vector that is not populated, or bound, or external, or
    /// when the store has no room (R-13.7); other errors of [`BackingStore::put`].
    pub fn swap_out(&mut self, ram: &impl Ram<Block = B>) -> Result<usize, Error> {
        let State::Populated(vector) = &self.state else {
            return Err(Error::Busy);
        };
        let mut handles = Vec::new();
        handles
            .try_reserve_exact(vector.pages())
            .map_err(|_| Error::Busy)?;
        for index in 0..vector.pages() {
            let (block, page) = vector.slot(index).ok_or(Error::Invalid)?;
            match ram.store().put(block, page) {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    forget(ram.store(), handles);
                    return Err(no_room_is_busy(error));
                }
            }
        }
        let freed = self.held();
        let populated = core::mem::replace(&mut self.state, State::Swapped(handles));
        if let State::Populated(vector) = populated {
            pool::give_back(ram.source(), ram.pool(), vector);
        }
        Ok(freed)
    }

    /// Stores contents page by page, from the last, and gives each page to the
    /// system at once, until `pages` are freed or none is left. Returns how many
    /// were freed. What was achieved stays when a page cannot be stored (R-13.5).
    ///
    /// # Errors
    /// As [`Self::swap_out`], when not a single page was freed.
    pub fn back_up(&mut self, ram: &impl Ram<Block = B>, pages: usize) -> Result<usize, Error> {
        let (mut vector, mut stored) = match core::mem::replace(&mut self.state, State::Empty) {
            State::Populated(vector) => (vector, Vec::new()),
            State::BackedUp(vector, stored) => (vector, stored),
            other => {
                self.state = other;
                return Err(Error::Busy);
            }
        };
        let mut freed = 0;
        let mut why = Error::Busy;
        while freed < pages && vector.pages() > 0 {
            if stored.try_reserve(1).is_err() {
                break;
            }
            match vector.give_last(ram.source(), |block| ram.store().put(block, 0)) {
                Ok(handle) => stored.push(handle),
                Err(error) => {
                    why = no_room_is_busy(error);
                    break;
                }
            }
            freed += 1;
        }
        // A block that was split is no longer mapped.
        let whole = stored.is_empty() && (!self.shape.mapped || vector.is_mapped());
        self.state = if whole {
            State::Populated(vector)
        } else {
            State::BackedUp(vector, stored)
        };
        if freed == 0 { Err(why) } else { Ok(freed) }
    }

    /// Throws contents away, stored or not: the next pages are zeros. Returns the
    /// pages that were freed.
    ///
    /// # Errors
    /// As [`Self::unpopulate`].
    pub fn purge(&mut self, ram: &impl Ram<Block = B>) -> Result<usize, Error> {
        let freed = self.held();
        self.unpopulate(ram)?;
        self.zero |= self.has() == Has::Nothing;
        Ok(freed)
    }
}

/// Copies what is stored into the slots of a vector, from its first.
fn fetch<'a, B>(
    ram: &impl Ram<Block = B>,
    vector: &mut Vector<B>,
    handles: impl Iterator<Item = &'a NonZeroU64>,
) -> Result<(), Error> {
    for (index, handle) in handles.enumerate() {
        let (block, page) = vector.slot_mut(index).ok_or(Error::Invalid)?;
        ram.store().get(*handle, block, page)?;
    }
    // Programs may store beside it at once.
    ram.source().write_barrier();
    Ok(())
}

/// Drops all that is stored under these handles.
fn forget<B>(store: &impl BackingStore<B>, handles: Vec<NonZeroU64>) {
    for handle in handles {
        store.drop(handle);
    }
}

/// A store without room is no reason to report out-of-memory to anybody.
const fn no_room_is_busy(error: Error) -> Error {
    match error {
        Error::NoSpace | Error::NoMemory => Error::Busy,
        other => other,
    }
}
