//! Allocations and their use by CPU and GPU (hardware reference 12.3).

use super::board::page_align;
use super::packets;
use super::scheduler::Held;
use super::{Block, Driver, Result};
use vidmm::Caching;

/// The default alignment.
pub(super) const ALIGN: u64 = 32 << 10;
const RETRIES: u32 = 100;

/// Names an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u32);

/// Which memory an allocation wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// VRAM that the CPU sees: segment 1.
    LocalVisible,
    /// Other VRAM: segment 5, or 4 where 5 is empty.
    LocalHidden,
    /// Segment 2.
    Unsnooped,
    /// Segment 3.
    Snooped,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Rounded up to pages.
    pub bytes: u64,
    /// Where.
    pub pool: Pool,
    /// A display surface: only there, others make room.
    pub display: bool,
    /// Lower ones are paged out first; `None` never.
    pub priority: Option<u8>,
}

impl Request {
    /// A pageable allocation of the middle priority.
    pub fn new(bytes: u64, pool: Pool) -> Self {
        Self {
            bytes,
            pool,
            display: false,
            priority: Some(1),
        }
    }
}

pub(super) struct Allocation {
    pub(super) request: Request,
    pub(super) block: Block,
    /// Its last use by ring 0.
    pub(super) busy: u64,
    /// When it was last placed or used, for the order of paging out.
    pub(super) used: u64,
    /// Its place in VRAM while it is suspended.
    pub(super) kept: Option<Block>,
    /// Its content, when its pages are in a file.
    pub(super) file: Option<Vec<u8>>,
}

impl Driver {
    /// Creates an allocation; local ones are cleared.
    ///
    /// # Errors
    /// No memory anywhere.
    pub fn allocate(&mut self, request: Request) -> Result<Id> {
        let id = Id(self.next);
        let bytes = page_align(request.bytes);
        let must = request.display || request.priority.is_none();
        let mut placed = self.place(&request)?;
        if must {
            for _ in 0..RETRIES {
                if placed.is_some() || self.page_out(self.candidate(&request), &[])? == 0 {
                    break;
                }
                placed = self.place(&request)?;
            }
        }
        let block = match placed {
            Some(block) => block,
            None if must => return Err(format!("no room for {request:?}")),
            None => self.system_cache(bytes)?,
        };
        self.next += 1;
        let mut busy = 0;
        if matches!(block.segment, 1 | 4 | 5) {
            let commands = packets::fill(block.at, block.bytes, 0);
            busy = self
                .scheduler
                .submit(&mut self.mm, false, &commands, Held::default())?;
        }
        let used = u64::from(self.next);
        let allocation = Allocation {
            request,
            block,
            busy,
            used,
            kept: None,
            file: None,
        };
        self.allocations.insert(id, allocation);
        Ok(id)
    }

    /// The segment that a request is for.
    pub(super) fn candidate(&self, request: &Request) -> usize {
        match request.pool {
            Pool::LocalVisible => 1,
            Pool::LocalHidden if self.mm.segments[5].bytes > 0 => 5,
            Pool::LocalHidden => 4,
            Pool::Unsnooped => 2,
            Pool::Snooped => 3,
        }
    }

    /// A place in the segment of the request, if there is one. What cannot be
    /// paged out or came from a small heap stays there.
    pub(super) fn place(&mut self, request: &Request) -> Result<Option<Block>> {
        let segment = self.candidate(request);
        self.mm
            .block(segment, page_align(request.bytes), ALIGN, false)
    }

    /// Segment 0: system pages only, zeroed.
    fn system_cache(&mut self, bytes: u64) -> Result<Block> {
        let frames = self
            .mm
            .board
            .pages(bytes / 4096, Caching::WriteCombined, u64::MAX)?;
        let block = Block {
            bytes,
            frames,
            ..Block::default()
        };
        self.mm
            .board
            .put(&block, 0, &vec![0; usize::try_from(bytes).unwrap_or(0)])?;
        Ok(block)
    }

    /// Destroys an allocation when the GPU is done with it.
    ///
    /// # Errors
    /// The GPU never is.
    pub fn free(&mut self, id: Id) -> Result<()> {
        self.finish(id)?;
        if let Some(allocation) = self.allocations.remove(&id) {
            self.mm.release(&allocation.block)?;
        }
        self.scheduler.drain(&mut self.mm)
    }

    /// Destroys what there is. A GPU that does not get on any more keeps what
    /// it may still use.
    pub fn destroy_all(&mut self) {
        for id in self.allocations.keys().copied().collect::<Vec<_>>() {
            _ = self.free(id);
        }
    }

    /// Where an allocation is: segment and GPU address. Segment 0 has none.
    pub fn locate(&self, id: Id) -> (usize, u64) {
        let block = self
            .allocations
            .get(&id)
            .map(|allocation| &allocation.block);
        block.map_or((0, 0), |block| (block.segment, block.at))
    }

    /// The CPU writes; the allocation is where the CPU sees it.
    ///
    /// # Errors
    /// It is not.
    pub fn write(&mut self, id: Id, offset: u64, data: &[u8]) -> Result<()> {
        self.finish(id)?;
        self.mm.board.put(&self.get(id)?.block, offset, data)
    }

    /// The CPU reads.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn read(&mut self, id: Id, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        self.finish(id)?;
        self.mm.board.get(&self.get(id)?.block, offset, bytes)
    }

    /// The GPU copies; both are paged in before. Offsets are multiples of 256,
    /// the size of 4.
    ///
    /// # Errors
    /// No room, or the GPU does not get on.
    pub fn copy(&mut self, to: Id, to_at: u64, from: Id, from_at: u64, bytes: u64) -> Result<()> {
        let [to_block, from_block] = self.resident(&[to, from])?[..] else {
            return Err("two places".into());
        };
        let commands = packets::copy(to_block + to_at, from_block + from_at, bytes);
        self.run(&[to, from], &commands)
    }

    /// The GPU fills; offset and size as for [`Self::copy`].
    ///
    /// # Errors
    /// As for [`Self::copy`].
    pub fn fill(&mut self, id: Id, at: u64, bytes: u64, pattern: u32) -> Result<()> {
        let [block] = self.resident(&[id])?[..] else {
            return Err("one place".into());
        };
        let commands = packets::fill(block + at, bytes, pattern);
        self.run(&[id], &commands)
    }

    fn run(&mut self, ids: &[Id], commands: &[u32]) -> Result<()> {
        let fence = self
            .scheduler
            .submit(&mut self.mm, true, commands, Held::default())?;
        for id in ids {
            self.get_mut(*id)?.busy = fence;
        }
        Ok(())
    }

    /// Pages in what is not resident. Returns the GPU addresses.
    fn resident(&mut self, ids: &[Id]) -> Result<Vec<u64>> {
        for id in ids {
            if self.get(*id)?.block.segment == 0 {
                self.page_in(*id, ids)?;
            }
            self.next += 1;
            self.get_mut(*id)?.used = u64::from(self.next);
        }
        ids.iter().map(|id| Ok(self.get(*id)?.block.at)).collect()
    }

    /// Waits until the GPU is done with an allocation.
    pub(super) fn finish(&mut self, id: Id) -> Result<()> {
        let busy = self.get(id)?.busy;
        self.scheduler.wait(&mut self.mm, 0, busy)
    }

    pub(super) fn get(&self, id: Id) -> Result<&Allocation> {
        self.allocations
            .get(&id)
            .ok_or_else(|| format!("{id:?} is no more"))
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Result<&mut Allocation> {
        self.allocations
            .get_mut(&id)
            .ok_or_else(|| format!("{id:?} is no more"))
    }
}
