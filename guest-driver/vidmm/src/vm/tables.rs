//! The page tables of one address space's private zone: made when something is
//! mapped there, given back when nothing is.

use super::update::Update;
use crate::Error;
use crate::arena::{Arena, Id};
use alloc::vec::Vec;
use core::ops::Range;
use e3k_regs::pte::{L1_SPAN, L2_SPAN, TABLE_ENTRIES};
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

const ENTRIES: usize = 1024;
const _: () = assert!(ENTRIES as u64 == TABLE_ENTRIES);
/// The entry of a page that leads nowhere.
pub const INVALID: u32 = 0;

/// What tables are made of and made known by. Used under the lock of the
/// address space.
pub trait TableMemory {
    /// A page of VRAM that the CPU sees, for a table; its contents are garbage.
    ///
    /// # Errors
    /// [`Error::NoSpace`] while other address spaces have all of them;
    /// [`Error::Limit`] where this one may have no more; [`Error::NoMemory`].
    fn alloc(&self) -> Result<VramOffset, Error>;

    /// Takes such a page back. The GPU cannot reach it any more.
    fn free(&self, table: VramOffset);

    /// Writes consecutive entries of a table, from number `first` on.
    fn store(&self, table: VramOffset, first: usize, entries: &[u32]);

    /// Everything stored so far is seen by the GPU before what follows.
    fn barrier(&self);

    /// The L2 entry that points at an L3 table.
    fn l2_entry(&self, table: VramOffset) -> u32;

    /// The L2 table of L1 register `index` is this one from now on, or there is
    /// none: written at once if the address space has a process id, remembered
    /// otherwise.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Io`].
    fn set_l1(&self, index: u64, table: Option<VramOffset>) -> Result<(), Error>;

    /// Makes the GPU's TLBs forget these addresses of the address space; done when
    /// it returns.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Io`].
    fn invalidate(&self, addresses: Range<u64>) -> Result<(), Error>;
}

/// A table. Of an L2 table the entries are L3 tables by number, of an L3 table
/// they are bits: whether the page leads somewhere.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) at: VramOffset,
    /// Entries that are valid.
    pub(super) used: usize,
    /// The entry (or register) above points at it.
    pub(super) linked: bool,
}

#[derive(Debug)]
pub(super) struct L2 {
    pub(super) table: Table,
    /// Names in `Tables::l3`.
    below: Vec<Option<Id>>,
    /// How many of them there are, linked or not.
    children: usize,
}

#[derive(Debug)]
pub(super) struct L3 {
    pub(super) table: Table,
    pub(super) valid: [u64; ENTRIES / 64],
}

/// The tables of a range of whole L1 registers.
///
/// ```
/// use core::{cell::{Cell, RefCell}, ops::Range};
/// use vidmm::{Error, vm::{TableMemory, Tables}};
/// use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset, pte::L1_SPAN};
/// /// Counts the tables that are out, and notes what the TLBs were told.
/// #[derive(Default)]
/// struct Vram(Cell<u64>, RefCell<Vec<Range<u64>>>);
/// impl TableMemory for Vram {
///     fn alloc(&self) -> Result<VramOffset, Error> {
///         self.0.set(self.0.get() + 1);
///         Ok(VramOffset(self.0.get() * PAGE_SIZE))
///     }
///     fn free(&self, _: VramOffset) {
///         self.0.set(self.0.get() - 1);
///     }
///     fn store(&self, _: VramOffset, _: usize, _: &[u32]) {}
///     fn barrier(&self) {}
///     fn l2_entry(&self, table: VramOffset) -> u32 {
///         table.0 as u32 | 1
///     }
///     fn set_l1(&self, _: u64, _: Option<VramOffset>) -> Result<(), Error> {
///         Ok(())
///     }
///     fn invalidate(&self, addresses: Range<u64>) -> Result<(), Error> {
///         Ok(self.1.borrow_mut().push(addresses))
///     }
/// }
/// let (vram, at) = (Vram::default(), 2 * L1_SPAN);
/// let mut tables = Tables::new(at..at + L1_SPAN)?;
/// let mut update = tables.update(&vram, GpuVa(at), 4 * PAGE_SIZE)?;
/// update.map(GpuVa(at), 4, |page| 0x1000 * page as u32 | 1);
/// drop(update); // as good as `finish`, but for the error
/// assert_eq!((tables.counts(), vram.0.get()), ((1, 1), 2));
/// tables.unmap(&vram, GpuVa(at), 4 * PAGE_SIZE)?;
/// assert_eq!((tables.counts(), vram.0.get()), ((0, 0), 0));
/// let mapped = at..at + 4 * PAGE_SIZE;
/// assert_eq!(vram.1.into_inner(), [mapped.clone(), mapped]);
/// # Ok::<(), Error>(())
/// ```
///
/// What the TLBs know of pages that led nowhere is forgotten too when they are
/// mapped: a TLB line has the entries of 16 pages (hardware reference 5).
///
/// # Invariants
/// - What an entry or an L1 register points at is a table that was written, with a
///   barrier between (R-19.6); an entry of an L2 table may lead nowhere for a moment
///   after its L1 register is written.
/// - A table whose memory was given back was unlinked, and the TLBs had
///   forgotten its addresses, before.
/// - `pending` covers every address whose translation has changed since the TLBs
///   were last told.
#[derive(Debug)]
pub struct Tables {
    pub(super) range: Range<u64>,
    /// By L1 register; names in `l2`.
    top: Vec<Option<Id>>,
    pub(super) l2: Arena<L2>,
    pub(super) l3: Arena<L3>,
    pub(super) pending: Option<Range<u64>>,
}

impl Tables {
    /// No tables, for the addresses of a private zone (R-19.12).
    ///
    /// # Errors
    /// [`Error::Invalid`] for a zone that is not whole L1 registers (R-19.11);
    /// [`Error::NoMemory`].
    pub fn new(range: Range<u64>) -> Result<Self, Error> {
        let whole = range.start.is_multiple_of(L1_SPAN) && range.end.is_multiple_of(L1_SPAN);
        let registers = range.end.saturating_sub(range.start) / L1_SPAN;
        if !whole || registers == 0 {
            return Err(Error::Invalid);
        }
        let registers = usize::try_from(registers).map_err(|_| Error::Invalid)?;
        let mut top = Vec::new();
        top.try_reserve_exact(registers)?;
        top.resize(registers, None);
        Ok(Self {
            range,
            top,
            l2: Arena::new(),
            l3: Arena::new(),
            pending: None,
        })
    }

    /// Begins a change of the entries of whole pages, with all the tables it needs.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is not whole pages of the zone; those of
    /// [`TableMemory::alloc`]; nothing has changed then.
    pub fn update<'a, M: TableMemory>(
        &'a mut self,
        memory: &'a M,
        at: GpuVa,
        bytes: u64,
    ) -> Result<Update<'a, M>, Error> {
        let range = self.pages(at, bytes)?;
        if let Err(error) = self.prepare(memory, &range) {
            // What the TLBs may still know stays, until they are told.
            if self.pending.is_some() {
                self.changed(range);
            } else {
                self.trim(memory, &range);
            }
            return Err(error);
        }
        Ok(Update::new(self, memory, range))
    }

    /// Makes whole pages lead nowhere. It needs no memory: where there are no tables,
    /// nothing leads anywhere.
    ///
    /// # Errors
    /// [`Error::Invalid`] as for [`Self::update`]; those of [`Update::finish`].
    pub fn unmap<M: TableMemory>(
        &mut self,
        memory: &M,
        at: GpuVa,
        bytes: u64,
    ) -> Result<(), Error> {
        let range = self.pages(at, bytes)?;
        let mut update = Update::new(self, memory, range);
        update.unmap(at, bytes / PAGE_SIZE);
        update.finish()
    }

    /// Makes known to the GPU what an earlier change could not; mostly there is nothing.
    ///
    /// # Errors
    /// Those of [`Update::finish`].
    pub fn settle<M: TableMemory>(&mut self, memory: &M) -> Result<(), Error> {
        let Some(range) = self.pending.clone() else {
            return Ok(());
        };
        Update::new(self, memory, range).finish()
    }

    /// The addresses of whole pages of the zone.
    fn pages(&self, at: GpuVa, bytes: u64) -> Result<Range<u64>, Error> {
        let end = at.0.checked_add(bytes).ok_or(Error::Invalid)?;
        let pages = at.0.is_multiple_of(PAGE_SIZE) && bytes.is_multiple_of(PAGE_SIZE);
        if !pages || bytes == 0 || at.0 < self.range.start || end > self.range.end {
            return Err(Error::Invalid);
        }
        Ok(at.0..end)
    }

    /// Tables there are: of level 2, of level 3.
    pub const fn counts(&self) -> (usize, usize) {
        (self.l2.len(), self.l3.len())
    }

    /// The L2 table that the zone's L1 register number `index` must point at.
    pub fn l1(&self, index: u64) -> Option<VramOffset> {
        let id = (*self.top.get(usize::try_from(index).ok()?)?)?;
        let l2 = self.l2.get(id).ok()?;
        l2.table.linked.then_some(l2.table.at)
    }

    /// Gives all tables back. The GPU has no work of the address space left.
    ///
    /// # Errors
    /// Those of [`TableMemory::invalidate`]: the GPU may still reach the tables,
    /// which stay.
    pub fn clear<M: TableMemory>(&mut self, memory: &M) -> Result<(), Error> {
        let range = self.range.clone();
        let pages = (range.end - range.start) / PAGE_SIZE;
        let mut update = Update::new(self, memory, range.clone());
        update.unmap(GpuVa(range.start), pages);
        update.finish()
    }

    pub(super) fn top_of(&self, at: u64) -> Option<Id> {
        let index = usize::try_from(at.checked_sub(self.range.start)? / L1_SPAN).ok()?;
        *self.top.get(index)?
    }

    /// The L3 table of an address, if there is one.
    pub(super) fn l3_of(&self, at: u64) -> Option<(Id, Id)> {
        let l2 = self.top_of(at)?;
        let l3 = (*self.l2.get(l2).ok()?.below.get(l2_index(at))?)?;
        Some((l2, l3))
    }

    fn prepare<M: TableMemory>(&mut self, memory: &M, range: &Range<u64>) -> Result<(), Error> {
        for span in spans(range) {
            let index = usize::try_from((span.start - self.range.start) / L1_SPAN);
            let index = index.map_err(|_| Error::Invalid)?;
            let l2 = if let Some(l2) = self.top[index] {
                l2
            } else {
                let mut below = Vec::new();
                below.try_reserve_exact(ENTRIES)?;
                below.resize(ENTRIES, None);
                self.l2.reserve()?;
                let table = Table::new(memory)?;
                let l2 = self.l2.insert(L2 {
                    table,
                    below,
                    children: 0,
                });
                self.top[index] = Some(l2);
                l2
            };
            if self.l3_of(span.start).is_none() {
                self.l3.reserve()?;
                let table = Table::new(memory)?;
                let l3 = self.l3.insert(L3 {
                    table,
                    valid: [0; ENTRIES / 64],
                });
                if let Ok(l2) = self.l2.get_mut(l2) {
                    l2.below[l2_index(span.start)] = Some(l3);
                    l2.children += 1;
                }
            }
        }
        Ok(())
    }

    /// Gives back the tables of a range that nothing points at and that are empty.
    pub(super) fn trim<M: TableMemory>(&mut self, memory: &M, range: &Range<u64>) {
        for span in spans(range) {
            let Some(top) = self.top_of(span.start) else {
                continue;
            };
            if let Some((_, l3)) = self.l3_of(span.start)
                && self.l3.get(l3).is_ok_and(|l3| l3.table.is_idle())
                && let Ok(l2) = self.l2.get_mut(top)
            {
                l2.below[l2_index(span.start)] = None;
                l2.children -= 1;
                if let Some(gone) = self.l3.remove(l3) {
                    memory.free(gone.table.at);
                }
            }
            let l2 = self.l2.get(top);
            if l2.is_ok_and(|l2| l2.children == 0 && l2.table.is_idle()) {
                if let Some(gone) = self.l2.remove(top) {
                    memory.free(gone.table.at);
                }
                let index = usize::try_from((span.start - self.range.start) / L1_SPAN);
                if let Some(top) = index.ok().and_then(|index| self.top.get_mut(index)) {
                    *top = None;
                }
            }
        }
    }

    pub(super) fn changed(&mut self, range: Range<u64>) {
        let all = self.pending.get_or_insert_with(|| range.clone());
        *all = all.start.min(range.start)..all.end.max(range.end);
    }
}

impl Table {
    /// A table of entries that lead nowhere.
    fn new<M: TableMemory>(memory: &M) -> Result<Self, Error> {
        let at = memory.alloc()?;
        memory.store(at, 0, &[INVALID; ENTRIES]);
        Ok(Self {
            at,
            used: 0,
            linked: false,
        })
    }

    const fn is_idle(&self) -> bool {
        self.used == 0 && !self.linked
    }
}

/// A range cut where L3 tables begin.
pub(super) fn spans(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let (mut at, end) = (range.start, range.end);
    core::iter::from_fn(move || {
        let span = at..end.min((at / L2_SPAN + 1) * L2_SPAN);
        at = span.end;
        (span.start < span.end).then_some(span)
    })
}

fn index(at: u64, span: u64) -> usize {
    // Below TABLE_ENTRIES.
    usize::try_from(at / span % TABLE_ENTRIES).unwrap_or(0)
}

pub(super) fn l2_index(at: u64) -> usize {
    index(at, L2_SPAN)
}

pub(super) fn l3_index(at: u64) -> usize {
    index(at, PAGE_SIZE)
}
