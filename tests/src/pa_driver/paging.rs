//! Paging through the paging segment (hardware reference 12.5, 12.6, 12.7).

use super::allocations::{ALIGN, Allocation, Id};
use super::memory::Window;
use super::packets;
use super::scheduler::Held;
use super::{Block, Driver, Result};
use vidmm::Caching;

/// The most that is paged out at once.
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_PIECES: usize = 32;

impl Driver {
    /// Pages out of a segment: pageable, idle allocations, the lowest priority
    /// first and of those the longest unused, except `keep`. Returns how many.
    ///
    /// # Errors
    /// No pages or no window for the first, or the GPU does not get on.
    pub fn page_out(&mut self, segment: usize, keep: &[Id]) -> Result<usize> {
        self.scheduler.drain(&mut self.mm)?;
        let batch = self.batch(segment, keep);
        self.page_out_batch(&batch, false)
    }

    fn batch(&self, segment: usize, keep: &[Id]) -> Vec<Id> {
        let pageable = |(id, allocation): (&Id, &Allocation)| {
            let block = &allocation.block;
            let idle = self.scheduler.is_done(allocation.busy);
            let fits = block.segment == segment && !block.small && idle && !keep.contains(id);
            let priority = allocation.request.priority.filter(|_| fits)?;
            Some((priority, allocation.used, *id, block.bytes))
        };
        let mut order: Vec<_> = self.allocations.iter().filter_map(pageable).collect();
        order.sort_unstable();
        let mut room = BATCH_BYTES;
        let mut batch = Vec::new();
        for (_, _, id, bytes) in order.into_iter().take(BATCH_PIECES) {
            if bytes > room && !batch.is_empty() {
                break;
            }
            room = room.saturating_sub(bytes);
            batch.push(id);
        }
        batch
    }

    /// With `keep_vram` the place in VRAM stays theirs.
    pub(super) fn page_out_batch(&mut self, batch: &[Id], keep_vram: bool) -> Result<usize> {
        let mut commands = Vec::new();
        let mut held = Held::default();
        let mut moved = Vec::new();
        let mut failure = None;
        for id in batch {
            match self.prepare(*id, &mut commands, &mut held) {
                Ok(frames) => moved.push((*id, frames)),
                // This one and the rest stay where they are.
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failure.filter(|_| moved.is_empty()) {
            return Err(error);
        }
        if !commands.is_empty() {
            let fence = self
                .scheduler
                .submit(&mut self.mm, false, &commands, held)?;
            self.scheduler.wait(&mut self.mm, 0, fence)?;
            self.scheduler.retire(&mut self.mm)?;
        }
        let count = moved.len();
        for (id, frames) in moved {
            let bytes = self.get(id)?.block.bytes;
            let cached = Block {
                bytes,
                frames,
                ..Block::default()
            };
            let old = std::mem::replace(&mut self.get_mut(id)?.block, cached);
            if keep_vram {
                self.get_mut(id)?.kept = Some(old);
            } else {
                self.mm.segments[old.segment].give(old.at, old.bytes);
            }
        }
        Ok(count)
    }

    /// The pages an allocation goes to. Those of a GART allocation are
    /// unmapped; one in VRAM gets new ones, a window onto them and a copy.
    fn prepare(&mut self, id: Id, commands: &mut Vec<u32>, held: &mut Held) -> Result<Vec<u64>> {
        let block = self.get(id)?.block.clone();
        if !block.frames.is_empty() {
            self.mm.unmap(&block)?;
            return Ok(block.frames);
        }
        let frames = self
            .mm
            .board
            .pages(block.bytes / 4096, Caching::WriteCombined, u64::MAX)?;
        let Some(window) = self.mm.open_window(&frames)? else {
            self.mm.free_pages(frames);
            return Err(format!(
                "{:#x} bytes do not fit into the paging window",
                block.bytes
            ));
        };
        commands.extend(packets::copy(window.at, block.at, block.bytes));
        held.windows.push(window);
        Ok(frames)
    }

    /// Pages an allocation in; others make room, except `keep`.
    ///
    /// # Errors
    /// There is no room, or the GPU does not get on.
    pub fn page_in(&mut self, id: Id, keep: &[Id]) -> Result<()> {
        self.fetch(id)?;
        let Allocation { request, kept, .. } = self.get(id)?;
        let (request, kept) = (*request, kept.clone());
        let segment = self.candidate(&request);
        let bytes = self.get(id)?.block.bytes;
        let gart = self.mm.segments[segment].caching.is_some();
        let mut block = loop {
            if let Some(kept) = kept {
                break kept;
            }
            // Pages of its own are there already: only the place is needed.
            if let Some((at, small)) = self.mm.segments[segment].take(bytes, ALIGN, false) {
                break Block {
                    segment,
                    at,
                    bytes,
                    small,
                    ..Block::default()
                };
            }
            if self.page_out(segment, keep)? == 0 {
                return Err(format!("no room to page {id:?} in"));
            }
        };
        block.frames.clone_from(&self.get(id)?.block.frames);
        if gart {
            self.mm.map(&block)?;
        } else {
            let frames = std::mem::take(&mut block.frames);
            let window = self.window(&frames)?;
            let commands = packets::copy(block.at, window.at, bytes);
            let held = Held {
                windows: vec![window],
                frames,
            };
            let fence = self
                .scheduler
                .submit(&mut self.mm, false, &commands, held)?;
            self.get_mut(id)?.busy = fence;
        }
        let allocation = self.get_mut(id)?;
        (allocation.block, allocation.kept) = (block, None);
        Ok(())
    }

    /// A window, after earlier paging work if need be.
    fn window(&mut self, frames: &[u64]) -> Result<Window> {
        loop {
            if let Some(window) = self.mm.open_window(frames)? {
                return Ok(window);
            }
            self.scheduler.wait_oldest(&mut self.mm)?;
        }
    }

    /// Moves the pages of a paged-out allocation to a file.
    ///
    /// # Errors
    /// It is not paged out.
    pub fn swap_out(&mut self, id: Id) -> Result<()> {
        let block = self.get(id)?.block.clone();
        if block.segment != 0 || block.frames.is_empty() {
            return Err(format!("{id:?} has no pages in the system cache"));
        }
        let content = self.mm.board.get(&block, 0, block.bytes)?;
        self.mm.free_pages(block.frames);
        let allocation = self.get_mut(id)?;
        allocation.block.frames = Vec::new();
        allocation.file = Some(content);
        Ok(())
    }

    /// Gets the pages back from the file, if they are there.
    fn fetch(&mut self, id: Id) -> Result<()> {
        let Some(content) = self.get_mut(id)?.file.take() else {
            return Ok(());
        };
        let segment = self.candidate(&self.get(id)?.request);
        let caching = self.mm.segments[segment]
            .caching
            .unwrap_or(Caching::WriteCombined);
        let frames = self
            .mm
            .board
            .pages(content.len() as u64 / 4096, caching, u64::MAX)?;
        self.get_mut(id)?.block.frames = frames;
        self.mm.board.put(&self.get(id)?.block, 0, &content)
    }
}
