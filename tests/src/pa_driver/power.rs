//! Suspend and resume (hardware reference 12.8), engine reset and hangs (9.1).

use super::board::Board;
use super::scheduler::Held;
use super::{Block, Driver, Result};
use super::{interrupts, packets};

/// A task this old hangs.
const HANG_MS: u64 = 60_000;
/// 3D, VPP and the video cores.
const ENGINES: u32 = 0x1FC;
const BUSY: [u32; 7] = [
    0x30000, 0x30004, 0x3000C, 0x30014, 0x30008, 0x30010, 0x30018,
];

/// What a suspended driver keeps in system memory.
pub struct Suspended {
    l2: Vec<u8>,
    l3: Block,
    fences: Vec<u8>,
}

/// What the hang check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Nothing is late.
    None,
    /// All work is done: only the interrupt was lost.
    Fake,
    /// The engines were reset.
    Reset,
}

impl Driver {
    /// Takes everything out of VRAM that is needed again, and turns interrupts off.
    ///
    /// # Errors
    /// No memory, or the GPU does not get on.
    pub fn suspend(&mut self) -> Result<Suspended> {
        self.scheduler.drain(&mut self.mm)?;
        let mm = &mut self.mm;
        let l2 = mm.board.get(&mm.tables.l2, 0, mm.tables.l2.bytes)?;
        let l3 = mm.fixed(2, mm.tables.l3.bytes, false)?;
        let commands = packets::copy(l3.at, mm.tables.l3.at, l3.bytes);
        let fence = self
            .scheduler
            .submit(mm, false, &commands, Held::default())?;
        self.scheduler.wait(mm, 0, fence)?;
        let local = &self.scheduler.fences[1];
        let fences = mm.board.get(local, 0, local.bytes)?;
        let in_vram = |id: &_| {
            self.get(*id)
                .is_ok_and(|a| matches!(a.block.segment, 1 | 4 | 5))
        };
        let all: Vec<_> = self.allocations.keys().copied().filter(in_vram).collect();
        for id in all {
            if self.page_out_batch(&[id], true)? != 1 {
                return Err(format!("{id:?} stays in VRAM"));
            }
        }
        self.scheduler.drain(&mut self.mm)?;
        interrupts::disable(&mut self.mm.board);
        Ok(Suspended { l2, l3, fences })
    }

    /// Undoes [`Self::suspend`]. `from_system`: the chip has been without
    /// power, so its engines need no reset.
    ///
    /// # Errors
    /// As there.
    pub fn resume(&mut self, saved: &Suspended, from_system: bool) -> Result<()> {
        if !from_system {
            reset_engines(&mut self.mm.board);
        }
        self.set_up()?;
        let mm = &mut self.mm;
        mm.board.put(&mm.tables.l2, 0, &saved.l2)?;
        let l3 = mm.board.get(&saved.l3, 0, saved.l3.bytes)?;
        mm.board.put(&mm.tables.l3, 0, &l3)?;
        mm.board.put(&self.scheduler.fences[1], 0, &saved.fences)?;
        self.start()?;
        self.mm.release(&saved.l3)?;
        let suspended = |id: &_| self.get(*id).is_ok_and(|a| a.kept.is_some());
        let all: Vec<_> = self.allocations.keys().copied().filter(suspended).collect();
        for id in all {
            self.page_in(id, &[])?;
        }
        Ok(())
    }

    /// The hang check of the daemon thread.
    ///
    /// # Errors
    /// The chip cannot be set up again.
    pub fn check_hang(&mut self) -> Result<Hang> {
        if self.scheduler.oldest_ms().is_none_or(|age| age <= HANG_MS) {
            return Ok(Hang::None);
        }
        interrupts::disable(&mut self.mm.board);
        let [top, ..] = BUSY.map(|at| self.mm.board.read(at));
        self.scheduler.read_fences(&self.mm.board)?;
        if top == 0 && self.scheduler.all_returned() {
            interrupts::enable(&mut self.mm.board)?;
            self.scheduler.retire(&mut self.mm)?;
            return Ok(Hang::Fake);
        }
        self.scheduler.give_up(&self.mm.board)?;
        reset_engines(&mut self.mm.board);
        self.set_up()?;
        self.start()?;
        self.scheduler.retire(&mut self.mm)?;
        Ok(Hang::Reset)
    }

    /// What every reset loses: registers, rings, contexts.
    fn set_up(&mut self) -> Result<()> {
        self.mm.board.write_byte(0x8A01, 0xff);
        self.mm.settings();
        self.scheduler.hardware_settings(&mut self.mm);
        self.scheduler.start_rings(&mut self.mm)
    }

    /// The end of both: the TLB forgets everything, ring 0 starts.
    fn start(&mut self) -> Result<()> {
        self.mm.tables.flush_all(&mut self.mm.board);
        self.scheduler.first_submission(&mut self.mm)?;
        interrupts::enable(&mut self.mm.board)
    }
}

/// Hardware reference 9.1.
fn reset_engines(board: &mut Board) {
    board.write(0x8524, ENGINES);
    board.step();
    board.write(0x8524, 0);
    board.step();
    for at in BUSY {
        board.read(at);
    }
}
