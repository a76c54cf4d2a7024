//! Filling a page vector from the pool and the system, and giving it back.

use super::{Effort, Key, Lists, MAX_ORDER, PageSource, SmallLock, release};
use crate::Error;
use crate::platform::Caching;
use alloc::vec::Vec;
use e3k_regs::{BusAddr, PAGE_SIZE};

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Page slots, at least one.
    pub pages: usize,
    /// The mode of all of them.
    pub caching: Caching,
    /// Within the first 4 GiB of bus addresses.
    pub low: bool,
    /// As zeros. Without it a page may hold anything: for contents that are
    /// copied in at once.
    pub zero: bool,
    /// With bus addresses.
    pub mapped: bool,
    /// The largest order that is worth reclaiming for; the device's choice.
    pub beneficial_order: u32,
}

#[derive(Debug)]
struct Piece<B> {
    block: B,
    order: u32,
    /// The slot of its first page.
    first: usize,
    /// The mode it has now.
    caching: Caching,
    bus: Option<BusAddr>,
}

/// The pages of a buffer object: blocks, whose slots follow each other.
///
/// # Invariants
/// - The blocks' pages add up to `pages`, and their first slots grow.
/// - All blocks have the vector's caching mode once it is filled.
#[derive(Debug)]
pub struct Vector<B> {
    pieces: Vec<Piece<B>>,
    caching: Caching,
    low: bool,
    pages: usize,
}

impl<B> Vector<B> {
    /// Page slots.
    pub const fn pages(&self) -> usize {
        self.pages
    }

    /// How the CPU maps them.
    pub const fn caching(&self) -> Caching {
        self.caching
    }

    /// The block of a slot and the page within it; `None` beyond the end.
    pub fn slot(&self, index: usize) -> Option<(&B, usize)> {
        let piece = self.piece(index)?;
        Some((&piece.block, index - piece.first))
    }

    /// Where the GPU finds a slot; `None` beyond the end or without bus addresses.
    pub fn bus_addr(&self, index: usize) -> Option<BusAddr> {
        let piece = self.piece(index)?;
        let bytes = (index - piece.first) as u64 * PAGE_SIZE;
        Some(piece.bus?.add(bytes))
    }

    /// The block of a slot, to change its contents, and the page within it.
    pub(crate) fn slot_mut(&mut self, index: usize) -> Option<(&mut B, usize)> {
        let number = self.number(index)?;
        let piece = self.pieces.get_mut(number)?;
        Some((&mut piece.block, index - piece.first))
    }

    /// Whether the GPU can reach all slots.
    pub(crate) fn is_mapped(&self) -> bool {
        self.pieces.iter().all(|piece| piece.bus.is_some())
    }

    /// Maps the blocks that are not, where that is wanted.
    ///
    /// # Errors
    /// [`Error::Fault`]; those that are mapped stay so.
    pub(crate) fn map<S: PageSource<Block = B>>(
        &mut self,
        source: &S,
        request: &Request,
    ) -> Result<(), Error> {
        let wanted = |piece: &&mut Piece<B>| request.mapped && piece.bus.is_none();
        for piece in self.pieces.iter_mut().filter(wanted) {
            piece.bus = Some(source.map(&piece.block, piece.order)?);
        }
        Ok(())
    }

    /// Room for the blocks of another vector of so many pages.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn reserve(&mut self, pages: usize) -> Result<(), Error> {
        Ok(self.pieces.try_reserve(pages)?)
    }

    /// Takes over the blocks of another vector, behind its own. There is room.
    pub(crate) fn append(&mut self, other: Self) {
        // INVARIANT: their slots follow its own.
        for mut piece in other.pieces {
            piece.first += self.pages;
            self.pieces.push(piece);
        }
        self.pages += other.pages;
    }

    /// Gives the last page to the system, once `save` has its contents. A larger
    /// block is split, so that its other pages stay.
    ///
    /// # Errors
    /// Those of `save`; [`Error::Busy`] without memory to split a block. The pages
    /// are what they were.
    pub(crate) fn give_last<S: PageSource<Block = B>, R>(
        &mut self,
        source: &S,
        save: impl FnOnce(&B) -> Result<R, Error>,
    ) -> Result<R, Error> {
        // The halves of a block of the largest order, and one page.
        let room = self.pieces.try_reserve(MAX_ORDER as usize + 1);
        room.map_err(|_| Error::Busy)?;
        let mut piece = self.pieces.pop().ok_or(Error::Invalid)?;
        if let Some(at) = piece.bus.take() {
            source.unmap(&piece.block, at, piece.order);
        }
        while piece.order > 0 {
            piece.order -= 1;
            let (low, high) = source.split(piece.block, piece.order);
            self.pieces.push(Piece {
                block: low,
                ..piece
            });
            piece.first += 1 << piece.order;
            piece.block = high;
        }
        let saved = save(&piece.block);
        if saved.is_ok() {
            // INVARIANT: the last page is gone from both.
            self.pages -= 1;
            let key = Key {
                caching: piece.caching,
                low: self.low,
                order: 0,
            };
            release(source, key, piece.block);
        } else {
            self.pieces.push(piece);
        }
        saved
    }

    /// The blocks and their orders.
    pub fn blocks(&self) -> impl Iterator<Item = (&B, u32)> {
        self.pieces.iter().map(|piece| (&piece.block, piece.order))
    }

    fn piece(&self, index: usize) -> Option<&Piece<B>> {
        self.pieces.get(self.number(index)?)
    }

    /// Which block a slot is in; `None` beyond the end.
    fn number(&self, index: usize) -> Option<usize> {
        let after = self.pieces.partition_point(|piece| piece.first <= index);
        after.checked_sub(1).filter(|_| index < self.pages)
    }
}

/// Pages for a buffer object.
///
/// The order of the blocks begins at the largest that fits and never rises
/// again; at each order the pool is asked until it has none, then the system
/// until it has none.
///
/// # Errors
/// [`Error::NoMemory`], [`Error::Fault`] if a block cannot be mapped; everything
/// that was taken has been given back.
pub fn fill<S: PageSource>(
    source: &S,
    lists: &impl SmallLock<Lists<S::Block>>,
    request: &Request,
) -> Result<Vector<S::Block>, Error> {
    let mut vector = Vector {
        pieces: Vec::new(),
        caching: request.caching,
        low: request.low,
        pages: 0,
    };
    let filled = take_blocks(source, lists, request, &mut vector)
        .and_then(|()| switch(source, &mut vector))
        .and_then(|()| vector.map(source, request));
    match filled {
        Ok(()) => Ok(vector),
        Err(error) => {
            give_back(source, lists, vector);
            Err(error)
        }
    }
}

fn take_blocks<S: PageSource>(
    source: &S,
    lists: &impl SmallLock<Lists<S::Block>>,
    request: &Request,
    vector: &mut Vector<S::Block>,
) -> Result<(), Error> {
    let mut order = MAX_ORDER;
    let mut ask_pool = true;
    while let Some(left) = request
        .pages
        .checked_sub(vector.pages)
        .filter(|&left| left > 0)
    {
        if left.ilog2() < order {
            (order, ask_pool) = (left.ilog2(), true);
        }
        vector.pieces.try_reserve(1)?;
        let key = Key {
            caching: request.caching,
            low: request.low,
            order,
        };
        if ask_pool {
            if let Some(block) = lists.with(|lists| lists.take(key)) {
                push(vector, block, order, request.caching);
                continue;
            }
            ask_pool = false;
        }
        let effort = if order == 0 || order == request.beneficial_order {
            Effort::Reclaim
        } else {
            Effort::Light
        };
        if let Some(mut block) = source.take(order, request.low, effort) {
            if request.zero {
                source.clear(&mut block, order);
            }
            push(vector, block, order, Caching::Cached);
        } else {
            order = order.checked_sub(1).ok_or(Error::NoMemory)?;
            ask_pool = true;
        }
    }
    Ok(())
}

fn push<B>(vector: &mut Vector<B>, block: B, order: u32, caching: Caching) {
    let first = vector.pages;
    vector.pages += 1 << order;
    // There is room: it was reserved before the block was taken.
    vector.pieces.push(Piece {
        block,
        order,
        first,
        caching,
        bus: None,
    });
}

/// Gives the blocks that came from the system the vector's mode, all at once.
fn switch<S: PageSource>(source: &S, vector: &mut Vector<S::Block>) -> Result<(), Error> {
    let mode = vector.caching;
    let pieces = vector.pieces.iter_mut();
    let mut fresh = pieces.filter(|piece| piece.caching != mode).peekable();
    if fresh.peek().is_none() {
        return Ok(());
    }
    source.set_caching(
        &mut fresh.map(|piece| (&mut piece.block, piece.order)),
        mode,
    )?;
    for piece in &mut vector.pieces {
        piece.caching = mode;
    }
    Ok(())
}

/// Gives all pages back: to the pool if it keeps their kind, else to the system,
/// and the pool shrinks to its limit. The GPU no longer reaches them
///
pub fn give_back<S: PageSource>(
    source: &S,
    lists: &impl SmallLock<Lists<S::Block>>,
    vector: Vector<S::Block>,
) {
    let low = vector.low;
    for piece in vector.pieces {
        let Piece {
            block,
            order,
            caching,
            bus,
            ..
        } = piece;
        if let Some(at) = bus {
            source.unmap(&block, at, order);
        }
        keep(
            source,
            lists,
            Key {
                caching,
                low,
                order,
            },
            block,
        );
    }
    while let Some(step) = lists.with(|lists| lists.over_limit().then(|| lists.shrink_once())) {
        if let Some((key, block)) = step {
            release(source, key, block);
        }
    }
}

/// To the pool, cleared, or to the system.
fn keep<S: PageSource>(
    source: &S,
    lists: &impl SmallLock<Lists<S::Block>>,
    key: Key,
    mut block: S::Block,
) {
    if lists.with(|lists| lists.keeps(key)) {
        source.clear(&mut block, key.order);
        // Another CPU may have it next.
        source.write_barrier();
        match lists.with(|lists| lists.put(key, block)) {
            Ok(()) => return,
            // The pool was closed meanwhile.
            Err(back) => block = back,
        }
    }
    release(source, key, block);
}
