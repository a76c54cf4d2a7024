//! Rings, submissions, fences and interrupts (hardware reference 7.2, 10.1,
//! 10.11, 12.2).

use super::board::{Board, split};
use super::memory::{Memory, Window};
use super::packets::{self, Call, Kind, Slot};
use super::ring::{Engine, GPC_CLOCKS, Task};
use super::{Block, Result};

const CONTEXT_BYTES: u64 = 48 << 10;
const FENCE: u32 = 1 << 27;

/// The rings that run, and their place among them.
pub(super) const RINGS: [u32; 4] = [0, 7, 8, 9];

/// What a task holds until it retires.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) windows: Vec<Window>,
    pub(super) frames: Vec<u64>,
}

/// The engines and what they share.
pub struct Scheduler {
    engines: Vec<Engine>,
    /// In segments 2, 1 and 3.
    pub(super) fences: [Block; 3],
    flush_page: Block,
    flag_buffer: Block,
    /// Ring 0's contexts.
    pub(super) contexts: Block,
    restore: Call,
    save: Call,
    flush: Call,
    /// The time, as the test lets it pass.
    pub now_ms: u64,
    /// Interrupts with the fence bit.
    pub fence_interrupts: u64,
    /// Waits that ended without an interrupt.
    pub polled: u64,
}

impl Scheduler {
    /// Steps 1 to 5 of hardware reference 12.2.
    pub(super) fn init(mm: &mut Memory) -> Result<Self> {
        let flag_buffer = mm.fixed(1, (32 << 20) + (64 << 10), false)?;
        let flush_page = mm.fixed(2, 4096, true)?;
        hardware_settings(mm, &flag_buffer);
        let fences = [
            mm.fence_buffer(2, 512 << 10)?,
            mm.fence_buffer(1, 68 << 10)?,
            mm.fence_buffer(3, 68 << 10)?,
        ];
        let mut engines = Vec::new();
        let mut contexts = Block::default();
        for (n, ring) in RINGS.into_iter().enumerate() {
            engines.push(Engine::new(mm, n, ring)?);
            match ring {
                0 => contexts = mm.fixed(1, 5 * CONTEXT_BYTES + (4 << 10) + (16 << 10), true)?,
                7 | 8 => _ = mm.fixed(1, 8 << 20, true)?,
                _ => {}
            }
        }
        let engine = &mut engines[0];
        let [restore, save, flush] = [
            packets::restore_buffer(),
            packets::save_buffer(),
            packets::flush_buffer(),
        ]
        .map(|buffer| engine.place(&mm.board, &buffer));
        let mut scheduler = Self {
            engines,
            fences,
            flush_page,
            flag_buffer,
            contexts,
            restore: restore?.ok_or("no room for buffers")?,
            save: save?.ok_or("no room for buffers")?,
            flush: flush?.ok_or("no room for buffers")?,
            now_ms: 0,
            fence_interrupts: 0,
            polled: 0,
        };
        scheduler.start_rings(mm)?;
        mm.tables.flush(&mut mm.board);
        scheduler.first_submission(mm)?;
        Ok(scheduler)
    }

    /// Step 3.
    pub(super) fn hardware_settings(&self, mm: &mut Memory) {
        hardware_settings(mm, &self.flag_buffer);
    }

    /// The ring registers and the context templates of step 5.
    pub(super) fn start_rings(&mut self, mm: &mut Memory) -> Result<()> {
        for engine in &mut self.engines {
            engine.start(&mut mm.board);
        }
        let bytes = usize::try_from(self.contexts.bytes).unwrap_or(0);
        mm.board.put(&self.contexts, 0, &vec![0; bytes])
    }

    /// The submission without a fence that ends step 5.
    pub(super) fn first_submission(&mut self, mm: &mut Memory) -> Result<()> {
        let packet = packets::first_submission(self.contexts.at);
        self.engines[0].push(&mut mm.board, &self.flush_page, &packet)
    }

    /// Runs commands on ring 0; what `held` has is given back when the task
    /// retires. Returns the fence.
    pub(super) fn submit(
        &mut self,
        mm: &mut Memory,
        context: bool,
        commands: &[u32],
        held: Held,
    ) -> Result<u64> {
        let call = loop {
            self.retire(mm)?;
            if let Some(call) = self.engines[0].place(&mm.board, commands)? {
                break call;
            }
            self.wait_oldest(mm)?;
        };
        let kind = if context {
            Kind::Context {
                restore: self.restore,
                save: self.save,
                base: self.contexts.at,
            }
        } else if commands.is_empty() {
            Kind::FenceOnly
        } else {
            Kind::Paging
        };
        let id = self.engines[0].last + 1;
        let packet = packets::submission(kind, call, self.flush, self.slots(), id);
        mm.tables.flush(&mut mm.board);
        self.engines[0].last = id;
        self.engines[0].tasks.push_back(Task {
            fence: id,
            commands: (call.at, commands.len() as u64 * 4),
            since_ms: self.now_ms,
            held,
        });
        self.engines[0].push(&mut mm.board, &self.flush_page, &packet)?;
        Ok(id)
    }

    /// A fence on one of the video rings.
    ///
    /// # Errors
    /// The ring is full and stays so.
    pub fn submit_video(&mut self, mm: &mut Memory, n: usize) -> Result<u64> {
        let id = self.engines[n].last + 1;
        let slots = [0, 1].map(|slot| (self.fences[0].at + slot_offset(n, slot), true));
        let packet = packets::video_submission(self.engines[n].ring == 9, slots, id);
        mm.tables.flush(&mut mm.board);
        self.engines[n].last = id;
        self.engines[n].push(&mut mm.board, &self.flush_page, &packet)?;
        Ok(id)
    }

    /// The six slots of ring 0 (hardware reference 10.11).
    fn slots(&self) -> [Slot; 6] {
        let [unsnooped, local, snooped] = self.fence_buffers();
        [
            (unsnooped, true),
            (unsnooped + 8, true),
            (local, false),
            (local + 8, false),
            (snooped, true),
            (snooped + 8, true),
        ]
    }

    /// GPU addresses of the fence buffers in segments 2, 1 and 3.
    pub fn fence_buffers(&self) -> [u64; 3] {
        [0, 1, 2].map(|n| self.fences[n].at)
    }

    /// What the six slots of ring 0 hold.
    pub(super) fn slot_values(&self, board: &Board) -> Result<Vec<u64>> {
        let slots = self
            .fences
            .iter()
            .flat_map(|block| [(block, 0), (block, 8)]);
        slots.map(|(block, at)| board.get_u64(block, at)).collect()
    }

    /// The interrupt handler. False if there was no interrupt.
    pub(super) fn service(&mut self, mm: &mut Memory) -> Result<bool> {
        if !mm.board.take_interrupt() {
            return Ok(false);
        }
        mm.board.write(0x8574, 0);
        let _biu = mm.board.read(0x8574);
        let advanced = mm.board.read(0x8578);
        self.fence_interrupts += u64::from(advanced & FENCE != 0);
        // Any interrupt may be a fence whose bit was lost.
        self.read_fences(&mm.board)?;
        Ok(true)
    }

    pub(super) fn read_fences(&mut self, board: &Board) -> Result<()> {
        let newest = self.slot_values(board)?.into_iter().max().unwrap_or(0);
        self.engines[0].completed = newest;
        for (n, ring) in RINGS.into_iter().enumerate().skip(1) {
            let slot = |slot| board.get_u64(&self.fences[0], slot_offset(n, slot));
            let back = slot(0)?;
            let vpp = ring == 9;
            self.engines[n].completed = if vpp { back } else { back.min(slot(1)?) };
        }
        Ok(())
    }

    /// Waits for a fence of ring `RINGS[n]`. Without an interrupt the fence
    /// memory is looked at when nothing else happens any more.
    ///
    /// # Errors
    /// The ring has come to a stand before.
    pub fn wait(&mut self, mm: &mut Memory, n: usize, fence: u64) -> Result<()> {
        while self.engines[n].completed < fence {
            if self.service(mm)? || mm.board.step() {
                continue;
            }
            self.read_fences(&mm.board)?;
            let engine = &self.engines[n];
            if engine.completed < fence {
                return Err(format!(
                    "fence {fence} of ring {} never came: {} did; Head {:#x}, Tail {:#x}, busy {:#x}",
                    engine.ring,
                    engine.completed,
                    mm.board.read(engine.registers + 8),
                    engine.tail,
                    mm.board.read(0x30000),
                ));
            }
            self.polled += 1;
        }
        Ok(())
    }

    /// Waits until ring 0 has done everything, and stops its clocks.
    pub(super) fn drain(&mut self, mm: &mut Memory) -> Result<()> {
        self.wait(mm, 0, self.engines[0].last)?;
        let gates = mm.board.read_byte(0x8A01);
        mm.board.write_byte(0x8A01, gates & !GPC_CLOCKS);
        self.retire(mm)
    }

    /// Whether ring 0 has done this.
    pub(super) fn is_done(&self, fence: u64) -> bool {
        self.engines[0].completed >= fence
    }

    /// Waits for the oldest task of ring 0.
    pub(super) fn wait_oldest(&mut self, mm: &mut Memory) -> Result<()> {
        let oldest = self.engines[0].tasks.front().map(|task| task.fence);
        self.wait(mm, 0, oldest.ok_or("nothing to wait for")?)?;
        self.retire(mm)
    }

    /// Gives back what finished tasks of ring 0 held.
    pub(super) fn retire(&mut self, mm: &mut Memory) -> Result<()> {
        let engine = &mut self.engines[0];
        let completed = engine.completed;
        while let Some(task) = engine.tasks.pop_front_if(|task| task.fence <= completed) {
            let (at, bytes) = task.commands;
            if bytes > 0 {
                engine.heap.give(at, bytes);
            }
            for window in &task.held.windows {
                mm.close_window(window)?;
            }
            mm.free_pages(task.held.frames);
        }
        Ok(())
    }

    /// How long the oldest task of ring 0 has been under way.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        let oldest = self.engines[0].tasks.front()?;
        Some(self.now_ms.saturating_sub(oldest.since_ms))
    }

    /// Whether every fence has returned.
    pub(super) fn all_returned(&self) -> bool {
        self.engines
            .iter()
            .all(|engine| engine.completed >= engine.last)
    }

    /// Writes the last ids into fence memory in the chip's place.
    pub(super) fn give_up(&mut self, board: &Board) -> Result<()> {
        for (n, engine) in self.engines.iter().enumerate() {
            for slot in 0..2 {
                board.put_u64(&self.fences[0], slot_offset(n, slot), engine.last)?;
            }
        }
        self.read_fences(board)
    }
}

/// Two slots for each engine, in order.
fn slot_offset(n: usize, slot: u64) -> u64 {
    n as u64 * 16 + slot * 8
}

fn hardware_settings(mm: &mut Memory, flag_buffer: &Block) {
    let board = &mut mm.board;
    let start = flag_buffer.at.next_multiple_of(64 << 10);
    let [unit, _] = split(start >> 16);
    board.write(0x4900C, 1 << 24 | unit << 4 | 2);
    for (at, size) in [(0x49054, 4), (0x49058, 4), (0x4905C, 4), (0x49060, 1)] {
        board.write(at, size << 20);
    }
    for channel in 0..mm.sizing.channels {
        board.write(0xD390 + 0x1000 * channel, unit << 12);
        board.write(0xD394 + 0x1000 * channel, (unit + (32 << 20 >> 16)) << 12);
    }
}
