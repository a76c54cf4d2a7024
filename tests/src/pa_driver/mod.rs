//! A memory manager of the other kind: PA mode, paging, written from hardware
//! reference 4.7, 8, 10 and 12 alone. It shares no code with `vidmm` and no
//! register or packet declaration with the model: where those are wrong, this
//! driver disagrees with them.

mod allocations;
mod board;
mod checks;
mod data_checks;
mod heap;
mod interrupts;
mod layout;
mod memory;
mod packets;
mod paging;
mod paging_checks;
mod power;
mod power_checks;
mod ring;
mod scheduler;
mod tables;

pub use allocations::{Id, Pool, Request};
pub use board::Board;
pub use data_checks::data_checks;
pub use layout::{Segment, Sizing, segments};
pub use paging_checks::paging_checks;
pub use power_checks::power_checks;

use allocations::Allocation;
use memory::Memory;
use scheduler::Scheduler;
use std::collections::BTreeMap;
use std::ops::Range;

/// Errors are text for the test's output.
pub type Result<T> = std::result::Result<T, String>;

/// What can be chosen at load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of the GART, segments 2 and 3 together.
    pub gart: u64,
    /// Bytes of the paging window.
    pub window: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gart: 8 << 30,
            window: 1 << 30,
        }
    }
}

/// The loaded driver.
pub struct Driver {
    /// Segments, tables, window.
    pub mm: Memory,
    /// Rings and fences.
    pub scheduler: Scheduler,
    allocations: BTreeMap<Id, Allocation>,
    next: u32,
}

impl Driver {
    /// Loads the driver: hardware reference 12.1 and 12.2, then interrupts.
    ///
    /// # Errors
    /// What did not work.
    pub fn load(board: Board, options: Options) -> Result<Self> {
        let mut mm = Memory::init(board, options)?;
        let scheduler = Scheduler::init(&mut mm)?;
        interrupts::enable(&mut mm.board)?;
        Ok(Self {
            mm,
            scheduler,
            allocations: BTreeMap::new(),
            next: 0,
        })
    }
}

/// A range of a segment, with its system pages if it has any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    segment: usize,
    /// GPU address.
    at: u64,
    bytes: u64,
    frames: Vec<u64>,
    /// From the small heap.
    small: bool,
}

/// What the CPU accesses.
#[derive(Clone, Copy)]
enum Cpu {
    Bar1(u64),
    Ram(u64),
}

impl Block {
    /// Calls `access` for each piece of a range that the CPU sees in one piece.
    fn pieces(
        &self,
        offset: u64,
        len: usize,
        mut access: impl FnMut(Cpu, Range<usize>) -> Result<()>,
    ) -> Result<()> {
        if offset + len as u64 > self.bytes {
            return Err(format!("{len} bytes at {offset:#x} of {:#x}", self.bytes));
        }
        if self.frames.is_empty() {
            return access(Cpu::Bar1(self.at + offset), 0..len);
        }
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let page = usize::try_from(at / 4096).unwrap_or(usize::MAX);
            let frame = self.frames.get(page).ok_or("a block without this page")?;
            let in_page = at % 4096;
            let to_end = usize::try_from(4096 - in_page).unwrap_or(len);
            let end = len.min(done + to_end);
            access(Cpu::Ram(frame + in_page), done..end)?;
            done = end;
        }
        Ok(())
    }
}
