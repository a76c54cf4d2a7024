//! The mappings of one address space, and what a change of them does to those
//! that are there (section 19 of the rules).

use super::tree::Tree;
use crate::Error;
use core::ops::Range;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// A range of GPU addresses and what lies there. `O` names an object, `F` is what
/// else its page-table entries say.
///
/// ```
/// use e3k_regs::GpuVa;
/// use vidmm::vm::Mapping;
/// // The second page of "bo", and behind it a range that leads nowhere.
/// let bo = Mapping { at: GpuVa(2 << 32), bytes: 4096, object: Some(("bo", 4096)), flags: () };
/// let sparse = Mapping { at: GpuVa(bo.end()), bytes: 8192, object: None, ..bo };
/// assert_eq!(sparse.end(), (2 << 32) + 3 * 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<O, F> {
    /// Its first byte, on a page.
    pub at: GpuVa,
    /// Its length, whole pages, not zero.
    pub bytes: u64,
    /// The object and the byte in it where the mapping begins, on a page. `None`:
    /// sparse, an address range that is taken and leads nowhere.
    pub object: Option<(O, u64)>,
    /// What else the page-table entries say.
    pub flags: F,
}

impl<O: Copy + PartialEq, F: Copy + PartialEq> Mapping<O, F> {
    /// The address after the last byte.
    pub const fn end(&self) -> u64 {
        self.at.0 + self.bytes
    }

    /// The part in `[from, to)`, which is not empty and lies within.
    fn part(&self, from: u64, to: u64) -> Self {
        let moved = from - self.at.0;
        Self {
            at: GpuVa(from),
            bytes: to - from,
            object: self.object.map(|(object, offset)| (object, offset + moved)),
            flags: self.flags,
        }
    }

    /// Whether both lead from any address to the same byte of the same object in
    /// the same way, so that page-table entries of one are right for the other.
    /// Sparse ranges have no entries to keep.
    fn same_line(&self, other: &Self) -> bool {
        match (self.object, other.object) {
            (Some((mine, offset)), Some((its, its_offset))) => {
                let line = offset.wrapping_sub(self.at.0);
                let its_line = its_offset.wrapping_sub(other.at.0);
                mine == its && line == its_line && self.flags == other.flags
            }
            _ => false,
        }
    }
}

/// One step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<O, F> {
    /// A mapping goes as a whole.
    Unmap {
        /// Which.
        old: Mapping<O, F>,
        /// The mapping that comes needs the same page-table entries: they may stay.
        keep: bool,
    },
    /// A mapping goes but for what lies before or behind the requested range.
    Remap {
        /// Which.
        old: Mapping<O, F>,
        /// What is left before the range.
        before: Option<Mapping<O, F>>,
        /// What is left behind it.
        behind: Option<Mapping<O, F>>,
        /// As in [`Self::Unmap`], for the part within the range.
        keep: bool,
    },
    /// The mapping that was asked for.
    Map(Mapping<O, F>),
}

/// One GPU address space.
///
/// ```
/// use e3k_regs::GpuVa;
/// use vidmm::vm::{Mapping, Op, Space};
/// let mut space: Space<&str, ()> = Space::new(0..1 << 32, None);
/// let map = |at, bytes| Mapping { at: GpuVa(at), bytes, object: Some(("BO", 0)), flags: () };
/// space.map(map(0x1000, 0x3000))?.apply();
/// // A hole in the middle leaves two mappings, one page each.
/// let plan = space.unmap(GpuVa(0x2000), 0x1000)?;
/// assert!(matches!(plan.ops().next(), Some(Op::Remap { before: Some(_), behind: Some(_), .. })));
/// plan.apply();
/// assert_eq!(space.iter().count(), 2);
/// # Ok::<(), vidmm::Error>(())
/// ```
///
/// # Invariants
/// Mappings are not empty, aligned to pages, inside the range and outside the
/// reserved one, and none overlaps another (R-19.1).
#[derive(Debug)]
pub struct Space<O, F> {
    range: Range<u64>,
    reserved: Range<u64>,
    mappings: Tree<u64, Mapping<O, F>>,
}

/// A change of an address space, looked at before it is made. It holds the space,
/// so that nothing else can change it in between, and all the memory it needs,
/// so that making it cannot fail (R-19.5).
///
/// # Invariants
/// The space has room for what [`Self::apply`] adds. `new`, if there is one, is `range`.
#[derive(Debug)]
pub struct Plan<'a, O, F> {
    space: &'a mut Space<O, F>,
    range: Range<u64>,
    new: Option<Mapping<O, F>>,
    /// The mapping is there already.
    nothing: bool,
}

impl<O: Copy + PartialEq, F: Copy + PartialEq> Space<O, F> {
    /// An empty space of these addresses, without those that are the driver's own.
    pub fn new(range: Range<u64>, reserved: Option<Range<u64>>) -> Self {
        Self {
            range,
            reserved: reserved.unwrap_or(0..0),
            mappings: Tree::new(),
        }
    }

    /// Puts a mapping where whatever else may be.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range or an offset that is empty, not on pages, too
    /// large or not the user's (R-19.1); [`Error::NoMemory`]. Nothing has changed.
    pub fn map(&mut self, new: Mapping<O, F>) -> Result<Plan<'_, O, F>, Error> {
        let range = self.user_range(new.at, new.bytes)?;
        if let Some((_, offset)) = new.object {
            let fits = offset.checked_add(new.bytes).is_some();
            if !fits || !offset.is_multiple_of(PAGE_SIZE) {
                return Err(Error::Invalid);
            }
        }
        let there = self.mappings.at_or_below(new.at.0);
        let nothing = there.is_some_and(|(_, old)| *old == new);
        self.plan(range, Some(new), nothing)
    }

    /// Empties a range. Where nothing is mapped, nothing is to be done.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn unmap(&mut self, at: GpuVa, bytes: u64) -> Result<Plan<'_, O, F>, Error> {
        let range = self.user_range(at, bytes)?;
        self.plan(range, None, false)
    }

    /// The mapping of an address.
    pub fn find(&self, at: GpuVa) -> Option<&Mapping<O, F>> {
        let (_, mapping) = self.mappings.at_or_below(at.0)?;
        (at.0 < mapping.end()).then_some(mapping)
    }

    /// All mappings, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping<O, F>> {
        self.overlapping(0..u64::MAX)
    }

    /// How many mappings there are.
    pub const fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Whether nothing is mapped.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn user_range(&self, at: GpuVa, bytes: u64) -> Result<Range<u64>, Error> {
        let end = at.0.checked_add(bytes).ok_or(Error::Invalid)?;
        let pages = at.0.is_multiple_of(PAGE_SIZE) && bytes.is_multiple_of(PAGE_SIZE);
        let inside = self.range.start <= at.0 && end <= self.range.end;
        let reserved = at.0 < self.reserved.end && self.reserved.start < end;
        if bytes == 0 || !pages || !inside || reserved {
            return Err(Error::Invalid);
        }
        Ok(at.0..end)
    }

    fn plan(
        &mut self,
        range: Range<u64>,
        new: Option<Mapping<O, F>>,
        nothing: bool,
    ) -> Result<Plan<'_, O, F>, Error> {
        // INVARIANT: at most two parts are left of one mapping that goes, and one comes.
        self.mappings.reserve(2)?;
        Ok(Plan {
            space: self,
            range,
            new,
            nothing,
        })
    }

    fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Mapping<O, F>> {
        let first = self.mappings.at_or_below(range.start);
        let first = first.filter(|(_, mapping)| range.start < mapping.end());
        let mut next = first.or_else(|| self.mappings.above(range.start));
        core::iter::from_fn(move || {
            let (at, mapping) = next.filter(|(at, _)| *at < range.end)?;
            next = self.mappings.above(at);
            Some(mapping)
        })
    }
}

impl<O: Copy + PartialEq, F: Copy + PartialEq> Plan<'_, O, F> {
    /// The steps, ascending; a mapping that comes is the last. There are
    /// none when it is there already (R-19.4).
    pub fn ops(&self) -> impl Iterator<Item = Op<O, F>> {
        let old = self.space.overlapping(self.range.clone());
        let gone = old.map(|old| self.cut(old));
        let steps = gone.chain(self.new.map(Op::Map));
        steps.take(if self.nothing { 0 } else { usize::MAX })
    }

    /// Makes the change.
    pub fn apply(self) {
        if self.nothing {
            return;
        }
        loop {
            let old = self.space.overlapping(self.range.clone()).next();
            let Some(op) = old.map(|old| self.cut(old)) else {
                break;
            };
            let mappings = &mut self.space.mappings;
            match op {
                Op::Unmap { old, .. } => {
                    mappings.remove(old.at.0);
                }
                Op::Remap {
                    old,
                    before,
                    behind,
                    ..
                } => {
                    mappings.remove(old.at.0);
                    // INVARIANT: what is left lies outside the range, which is
                    // empty when the new mapping comes.
                    for rest in [before, behind].into_iter().flatten() {
                        mappings.insert(rest.at.0, rest);
                    }
                }
                Op::Map(_) => break,
            }
        }
        if let Some(new) = self.new {
            self.space.mappings.insert(new.at.0, new);
        }
    }

    /// What becomes of a mapping that overlaps the range.
    fn cut(&self, old: &Mapping<O, F>) -> Op<O, F> {
        let Range { start, end } = self.range;
        let before = (old.at.0 < start).then(|| old.part(old.at.0, start));
        let behind = (old.end() > end).then(|| old.part(end, old.end()));
        let keep = self.new.is_some_and(|new| old.same_line(&new));
        let old = *old;
        if before.is_none() && behind.is_none() {
            return Op::Unmap { old, keep };
        }
        Op::Remap {
            old,
            before,
            behind,
            keep,
        }
    }
}
