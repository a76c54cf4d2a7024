//! What one address space maps of which buffers, and the page tables that say so.

use super::space::{Mapping, Op, Plan, Space};
use super::tables::{INVALID, TableMemory, Tables};
use super::tree::Tree;
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::Linked;
use crate::evict::{GpuPage, Side};
use alloc::vec::Vec;
use core::ops::Range;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// What the entries of an address space say.
pub trait SpaceMemory: TableMemory {
    /// What a mapping may ask for.
    type Flags: Copy + PartialEq;

    /// The entry that leads to a page; not [`INVALID`].
    fn entry(&self, page: GpuPage, flags: Self::Flags) -> u32;
}

/// A buffer in an address space: there is one of these, however many mappings.
#[derive(Clone, Copy, Debug)]
struct VmBo {
    mappings: usize,
    /// It is to be made resident, and its entries written, before the next job.
    stale: bool,
    /// It is on the list of those that may be let go.
    unused: bool,
}

/// # Invariants
/// - Of each buffer in `bos` the address space holds a reference, also when nothing
///   of it is mapped any more, until the TLBs are known to have forgotten it.
/// - `lines` has each mapping of a buffer once, `mappings` counts them.
/// - The entries of a buffer lead to where it is; those of one that is stale,
///   there or nowhere.
/// - `stale` and `unused` have each buffer at most once, and room for all.
#[derive(Debug, Default)]
struct Books {
    bos: Tree<Id, VmBo>,
    /// Mappings of a buffer, by their first address.
    lines: Tree<(Id, u64), ()>,
    /// Buffers with a reservation of their own.
    externals: Tree<Id, ()>,
    stale: Vec<Id>,
    unused: Vec<Id>,
}

impl Books {
    /// Room for whatever one change may add.
    fn reserve(&mut self) -> Result<(), Error> {
        self.bos.reserve(1)?;
        self.externals.reserve(1)?;
        // Two parts are left of one mapping, and one comes.
        self.lines.reserve(3)?;
        let bos = self.bos.len() + 1;
        for list in [&mut self.stale, &mut self.unused] {
            list.try_reserve(bos.saturating_sub(list.len()))?;
        }
        Ok(())
    }

    /// Something of an object is about to be mapped. `enters` may refuse one that is new.
    fn begin<F>(
        &mut self,
        new: &Mapping<Id, F>,
        external: bool,
        stale: bool,
        enters: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some((bo, _)) = new.object else {
            return Ok(());
        };
        if self.bos.get(bo).is_none() {
            enters()?;
            let entry = VmBo {
                mappings: 0,
                stale: false,
                unused: false,
            };
            self.bos.insert(bo, entry);
            if external {
                self.externals.insert(bo, ());
            }
        }
        if stale {
            self.set_stale(bo);
        }
        Ok(())
    }

    /// Does to the books what a change does to the mappings.
    fn follow<F: Copy + PartialEq>(&mut self, plan: &Plan<'_, Id, F>) {
        for op in plan.ops() {
            match op {
                Op::Unmap { old, .. } => self.remove(&old),
                Op::Remap {
                    old,
                    before,
                    behind,
                    ..
                } => {
                    self.remove(&old);
                    let rests = [before, behind];
                    rests.iter().flatten().for_each(|rest| self.add(rest));
                }
                Op::Map(new) => self.add(&new),
            }
        }
        for op in plan.ops() {
            if let Op::Unmap { old, .. } | Op::Remap { old, .. } = op
                && let Some((bo, _)) = old.object
                && let Some(entry) = self.bos.get_mut(bo)
                && entry.mappings == 0
                && !core::mem::replace(&mut entry.unused, true)
            {
                self.unused.push(bo);
            }
        }
    }

    fn add<F>(&mut self, mapping: &Mapping<Id, F>) {
        let object = mapping.object.map(|(bo, _)| bo);
        if let Some(bo) = object
            && let Some(entry) = self.bos.get_mut(bo)
        {
            entry.mappings += 1;
            self.lines.insert((bo, mapping.at.0), ());
        }
    }

    fn remove<F>(&mut self, mapping: &Mapping<Id, F>) {
        if let Some((bo, _)) = mapping.object
            && self.lines.remove((bo, mapping.at.0)).is_some()
            && let Some(entry) = self.bos.get_mut(bo)
        {
            entry.mappings -= 1;
        }
    }

    fn set_stale(&mut self, bo: Id) {
        if let Some(entry) = self.bos.get_mut(bo)
            && !core::mem::replace(&mut entry.stale, true)
        {
            self.stale.push(bo);
        }
    }

    fn set_fresh(&mut self, bo: Id) {
        if let Some(entry) = self.bos.get_mut(bo)
            && core::mem::replace(&mut entry.stale, false)
        {
            self.stale.retain(|stale| *stale != bo);
        }
    }

    /// Lets go of a buffer of which nothing is mapped any more.
    fn take_unused(&mut self) -> Option<Id> {
        while let Some(bo) = self.unused.pop() {
            if let Some(entry) = self.bos.get_mut(bo) {
                entry.unused = false;
                if entry.mappings == 0 {
                    self.set_fresh(bo);
                    self.bos.remove(bo);
                    self.externals.remove(bo);
                    return Some(bo);
                }
            }
        }
        None
    }

    /// Where the first mapping of a buffer begins that does so at or above an address.
    fn line(&self, bo: Id, from: u64) -> Option<u64> {
        let ((next, at), ()) = self.lines.at_or_above((bo, from))?;
        (next == bo).then_some(at)
    }
}

/// One GPU address space with its page tables.
///
/// # Invariants
/// `books` say of each buffer what `space` has of it. Once `closed`, nothing is mapped
/// and there are no tables.
#[derive(Debug)]
pub(super) struct AddressSpace<M: SpaceMemory> {
    space: Space<Id, M::Flags>,
    tables: Tables,
    memory: M,
    books: Books,
    /// When its last job was prepared: a number that grows from job to job of all spaces.
    used: u64,
    /// It was destroyed: nothing is mapped any more.
    closed: bool,
}

impl<M: SpaceMemory> AddressSpace<M> {
    pub(super) fn new(
        range: Range<u64>,
        reserved: Option<Range<u64>>,
        memory: M,
    ) -> Result<Self, Error> {
        Ok(Self {
            tables: Tables::new(range.clone())?,
            space: Space::new(range, reserved),
            memory,
            books: Books::default(),
            used: 0,
            closed: false,
        })
    }

    /// Puts a mapping where whatever else may be. Its entries lead to the object at
    /// once if `side` says where it is and there are tables for it, and nowhere until
    /// the next job otherwise.
    /// `enters` is called, under the lock, when the object was not mapped here before,
    /// and may refuse.
    ///
    /// # Errors
    /// As [`Space::map`] and [`Tables::update`], [`Error::NotFound`] for one that was
    /// destroyed: nothing has changed.
    /// [`Error::Lost`], [`Error::Io`]: the mapping is there, and the GPU is told with
    /// the next change.
    pub(super) fn map<B: Linked>(
        &mut self,
        new: Mapping<Id, M::Flags>,
        external: bool,
        side: Option<&Side<'_, B>>,
        enters: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Self {
            space,
            tables,
            memory,
            books,
            closed,
            ..
        } = self;
        if *closed {
            return Err(Error::NotFound);
        }
        books.reserve()?;
        let plan = space.map(new)?;
        if plan.ops().next().is_none() {
            return Ok(());
        }
        let here = match (new.object, side) {
            (Some((_, offset)), Some(side)) => Some((side, offset)),
            _ => None,
        };
        if let Some((side, offset)) = here {
            match tables.update(memory, new.at, new.bytes) {
                Ok(mut update) => {
                    books.begin(&new, external, false, enters)?;
                    books.follow(&plan);
                    plan.apply();
                    let mut pages = side.gpu_pages(offset / PAGE_SIZE);
                    update.map(new.at, new.bytes / PAGE_SIZE, |_| {
                        entry(memory, pages.next(), new.flags)
                    });
                    return update.finish();
                }
                // The next job gets them from the others.
                Err(Error::NoSpace) => {}
                Err(error) => return Err(error),
            }
        }
        books.begin(&new, external, true, enters)?;
        // INVARIANT: books and mappings change together; neither can fail any more.
        books.follow(&plan);
        plan.apply();
        tables.unmap(memory, new.at, new.bytes)
    }

    /// Empties a range. What was mapped there is out of the GPU's reach when this
    /// returns.
    ///
    /// # Errors
    /// As [`Space::unmap`]: nothing has changed. [`Error::Lost`], [`Error::Io`]: the
    /// mappings are gone, and the GPU is told with the next change.
    pub(super) fn unmap(&mut self, at: GpuVa, bytes: u64) -> Result<(), Error> {
        self.books.reserve()?;
        let plan = self.space.unmap(at, bytes)?;
        self.books.follow(&plan);
        plan.apply();
        self.tables.unmap(&self.memory, at, bytes)
    }

    /// Unmaps everything and gives the tables back. No job of it is left.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        loop {
            let first = self.space.iter().next().map(|it| (it.at, it.bytes));
            let Some((at, bytes)) = first else {
                break;
            };
            self.unmap(at, bytes)?;
        }
        self.tables.clear(&self.memory)?;
        self.closed = true;
        Ok(())
    }

    /// A buffer is about to leave its place: its entries lead nowhere when this
    /// returns, TLBs included.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Io`]: the GPU may still reach it.
    pub(super) fn leave(&mut self, bo: Id) -> Result<(), Error> {
        if self.books.bos.get(bo).is_none() {
            return Ok(());
        }
        self.books.set_stale(bo);
        let mut from = 0;
        while let Some((at, bytes)) = self.line(bo, from) {
            self.tables.unmap(&self.memory, at, bytes)?;
            from = at.0 + bytes;
        }
        self.tables.settle(&self.memory)
    }

    /// Gives all tables back until the next job, which has what is mapped again. There is
    /// no job of it on its way.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Io`]: the GPU may still reach those that stay.
    pub(super) fn give_tables(&mut self) -> Result<(), Error> {
        let Self {
            space,
            tables,
            memory,
            books,
            ..
        } = self;
        let mut next = books.bos.at_or_above(Id::from_bits(0));
        while let Some((bo, _)) = next {
            books.set_stale(bo);
            next = books.bos.above(bo);
        }
        for mapping in space.iter() {
            tables.unmap(memory, mapping.at, mapping.bytes)?;
        }
        tables.settle(memory)
    }

    /// Whether it has tables, and when its last job was prepared.
    pub(super) const fn use_of_tables(&self) -> (bool, u64) {
        let (l2, l3) = self.tables.counts();
        (l2 + l3 > 0, self.used)
    }

    /// A job is being prepared.
    pub(super) const fn set_used(&mut self, used: u64) {
        self.used = used;
    }

    /// A buffer that is to be made resident before the next job.
    pub(super) fn stale(&self) -> Option<Id> {
        self.books.stale.last().copied()
    }

    /// It is, there: its entries lead to it again.
    ///
    /// # Errors
    /// As [`Tables::update`]; [`Error::Lost`], [`Error::Io`]. It stays stale.
    pub(super) fn freshen<B: Linked>(&mut self, bo: Id, side: &Side<'_, B>) -> Result<(), Error> {
        let mut from = 0;
        while let Some((at, bytes)) = self.line(bo, from) {
            let mapping = self.space.find(at).ok_or(Error::NotFound)?;
            let offset = mapping.object.map_or(0, |(_, offset)| offset);
            let mut update = self.tables.update(&self.memory, at, bytes)?;
            let mut pages = side.gpu_pages(offset / PAGE_SIZE);
            update.map(at, bytes / PAGE_SIZE, |_| {
                entry(&self.memory, pages.next(), mapping.flags)
            });
            update.finish()?;
            from = at.0 + bytes;
        }
        self.books.set_fresh(bo);
        Ok(())
    }

    /// The first mapping of a buffer at or above an address: where, and how long.
    fn line(&self, bo: Id, from: u64) -> Option<(GpuVa, u64)> {
        let at = GpuVa(self.books.line(bo, from)?);
        Some((at, self.space.find(at)?.bytes))
    }

    /// A buffer of which nothing is mapped any more, and which the GPU does not reach
    /// through this address space. `leaves` is called under the lock.
    pub(super) fn take_unused(&mut self, leaves: impl FnOnce(Id)) -> Option<Id> {
        // INVARIANT: held until the TLBs are known to have forgotten it.
        self.tables.settle(&self.memory).ok()?;
        let bo = self.books.take_unused()?;
        leaves(bo);
        Some(bo)
    }

    /// The first buffer with a reservation of its own, above one.
    pub(super) fn external(&self, above: Option<Id>) -> Option<Id> {
        let externals = &self.books.externals;
        let first = match above {
            None => externals.at_or_above(Id::from_bits(0)),
            Some(above) => externals.above(above),
        };
        first.map(|(bo, ())| bo)
    }

    /// See [`Tables::l1`].
    pub(super) fn l1(&self, index: u64) -> Option<e3k_regs::VramOffset> {
        self.tables.l1(index)
    }

    /// Whether it was destroyed.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// What is mapped where.
    pub(super) const fn space(&self) -> &Space<Id, M::Flags> {
        &self.space
    }

    /// Where its tables are.
    pub(super) const fn memory(&self) -> &M {
        &self.memory
    }
}

/// The entry of a page. There is one for each page of a mapping: it ends with its
/// object.
fn entry<M: SpaceMemory>(memory: &M, page: Option<GpuPage>, flags: M::Flags) -> u32 {
    page.map_or(INVALID, |page| memory.entry(page, flags))
}
