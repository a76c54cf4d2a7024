//! A change of page-table entries, which cannot be forgotten to be made known.

use super::tables::{INVALID, L3, TableMemory, Tables, l2_index, l3_index, spans};
use crate::Error;
use core::ops::Range;
use e3k_regs::pte::L1_SPAN;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// A change of page-table entries. What it changed is made known to the GPU when
/// it is finished or dropped, whatever happens in between: forgetting to
/// invalidate cannot be written.
///
/// # Invariants
/// `range` is whole pages of the zone. Who begins one that is to map has made the
/// tables for all of it.
#[derive(Debug)]
#[must_use]
pub struct Update<'a, M: TableMemory> {
    tables: &'a mut Tables,
    memory: &'a M,
    range: Range<u64>,
}

impl<'a, M: TableMemory> Update<'a, M> {
    /// INVARIANT: `range` is whole pages of the zone.
    pub(super) const fn new(tables: &'a mut Tables, memory: &'a M, range: Range<u64>) -> Self {
        Self {
            tables,
            memory,
            range,
        }
    }

    /// Makes `pages` pages from `at` on lead where `entry` says, by their number in
    /// this call; [`INVALID`] leads nowhere. What lies outside the range that the
    /// update was begun for is left alone.
    pub fn map(&mut self, at: GpuVa, pages: u64, mut entry: impl FnMut(u64) -> u32) {
        let end = at.0.saturating_add(pages.saturating_mul(PAGE_SIZE));
        let range = at.0.max(self.range.start)..end.min(self.range.end);
        for span in spans(&range) {
            let Some((_, l3)) = self.tables.l3_of(span.start) else {
                continue;
            };
            // INVARIANT: pending before the first entry is another.
            self.tables.changed(span.clone());
            if let Ok(l3) = self.tables.l3.get_mut(l3) {
                let number = |page: u64| entry((page - at.0) / PAGE_SIZE);
                write(self.memory, l3, &span, number);
            }
        }
    }

    /// Makes `pages` pages from `at` on lead nowhere.
    pub fn unmap(&mut self, at: GpuVa, pages: u64) {
        self.map(at, pages, |_| INVALID);
    }

    /// Makes the change known: tables first, then what points at them, then the
    /// TLBs; after that, empty tables are given back.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Io`]: the GPU may still have the translations from
    /// before. Nothing was given back; the next update tries again.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some(pending) = self.tables.pending.clone() else {
            self.tables.trim(self.memory, &self.range);
            return Ok(());
        };
        // INVARIANT: tables are written before something points at them.
        self.memory.barrier();
        let linked = self.link(&pending);
        self.memory.barrier();
        linked?;
        // INVARIANT: unlinked, then forgotten by the TLBs, then given back.
        self.memory.invalidate(pending.clone())?;
        self.tables.pending = None;
        self.tables.trim(self.memory, &pending);
        self.tables.trim(self.memory, &self.range);
        Ok(())
    }

    /// Tables with entries get what points at them, tables without lose it.
    fn link(&mut self, pending: &Range<u64>) -> Result<(), Error> {
        let tables = &mut *self.tables;
        for span in spans(pending) {
            let Some((l2, l3)) = tables.l3_of(span.start) else {
                continue;
            };
            let (Ok(l2), Ok(l3)) = (tables.l2.get_mut(l2), tables.l3.get_mut(l3)) else {
                continue;
            };
            let wanted = l3.table.used > 0;
            if wanted != l3.table.linked {
                let entry = if wanted {
                    self.memory.l2_entry(l3.table.at)
                } else {
                    INVALID
                };
                let index = l2_index(span.start);
                self.memory.store(l2.table.at, index, &[entry]);
                l3.table.linked = wanted;
                l2.table.used = if wanted {
                    l2.table.used + 1
                } else {
                    l2.table.used - 1
                };
            }
        }
        let mut at = pending.start - pending.start % L1_SPAN;
        while at < pending.end {
            let index = (at - tables.range.start) / L1_SPAN;
            let l2 = tables.top_of(at).and_then(|l2| tables.l2.get_mut(l2).ok());
            if let Some(l2) = l2 {
                let wanted = l2.table.used > 0;
                if wanted != l2.table.linked {
                    self.memory.set_l1(index, wanted.then_some(l2.table.at))?;
                    l2.table.linked = wanted;
                }
            }
            at += L1_SPAN;
        }
        Ok(())
    }
}

impl<M: TableMemory> Drop for Update<'_, M> {
    fn drop(&mut self) {
        // What could not be made known stays pending for the next update.
        let _ = self.flush();
    }
}

/// Writes the entries of a span, which lies in one table.
fn write<M: TableMemory>(
    memory: &M,
    l3: &mut L3,
    span: &Range<u64>,
    mut entry: impl FnMut(u64) -> u32,
) {
    const CHUNK: usize = 128;
    let mut at = span.start;
    while at < span.end {
        let first = l3_index(at);
        let mut chunk = [INVALID; CHUNK];
        let mut filled = 0;
        for slot in &mut chunk {
            if at >= span.end {
                break;
            }
            *slot = entry(at);
            let valid = *slot != INVALID;
            let (word, bit) = (l3_index(at) / 64, 1 << (l3_index(at) % 64));
            let was = l3.valid[word] & bit != 0;
            match (was, valid) {
                (false, true) => l3.table.used += 1,
                (true, false) => l3.table.used -= 1,
                _ => {}
            }
            l3.valid[word] = l3.valid[word] & !bit | if valid { bit } else { 0 };
            filled += 1;
            at += PAGE_SIZE;
        }
        memory.store(l3.table.at, first, &chunk[..filled]);
    }
}
