//! What the driver runs on: a GPU as a PCI function shows it, RAM, an
//! interrupt line. The GPU works while the driver waits.

use super::checks::{noise, word};
use super::{Block, Cpu, Result};
use crate::checked;
use crate::machine::Line;
use crate::ram::Ram;
use presil_device::checker::Reports;
use presil_device::{BusAddr, Config, Counters, Gpu, Progress, VramOffset, Width};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vidmm::Caching;

const PAGE: u64 = 4096;
const CHUNK: u64 = 1 << 20;
const STEP: u32 = 65536;
/// Pages of RAM that the driver may use: half of the 32 MiB that there are
/// (hardware reference 12.1, step 1).
const BUDGET: usize = 4096;

/// The GPU and the machine around it.
pub struct Board {
    gpu: Gpu,
    reports: Reports,
    /// Rules of the driver checker that a check breaks on purpose.
    pub(super) expected: Vec<u32>,
    ram: Ram,
    line: Arc<AtomicBool>,
    /// Pages of RAM that the driver may use.
    pub page_budget: usize,
}

impl Board {
    /// Powers on. The visible VRAM and 32 MiB behind it hold noise of `seed`.
    ///
    /// # Errors
    /// No memory for VRAM, as text.
    pub fn new(config: &Config, seed: u64) -> Result<Self> {
        let line = Arc::new(AtomicBool::new(false));
        let mut gpu =
            Gpu::new(config, Box::new(Line(Arc::clone(&line)))).map_err(|e| e.to_string())?;
        let ram = Ram::new();
        gpu.set_memory(Box::new(ram.clone()));
        let reports = checked::watch(&mut gpu, &ram);
        let mut board = Self {
            gpu,
            reports,
            expected: Vec::new(),
            ram,
            line,
            page_budget: BUDGET,
        };
        board.lose_power(seed)?;
        Ok(board)
    }

    /// Power goes and comes back: registers are as after power-on, VRAM holds
    /// other noise.
    ///
    /// # Errors
    /// VRAM is smaller than its visible part and 32 MiB.
    pub fn lose_power(&mut self, seed: u64) -> Result<()> {
        self.gpu.reset();
        self.line.store(false, Ordering::Release);
        // Each MiB holds another piece of the same noise.
        let noise = noise(seed, 2 * CHUNK);
        let end = self.visible_bytes() + (32 << 20);
        for (n, start) in (0..end).step_by(1 << 20).enumerate() {
            let chunk = &noise[n * 8..][..1 << 20];
            let written = self.gpu.vram().write(VramOffset(start), chunk);
            written.map_err(|e| format!("VRAM at {start:#x}: {e}"))?;
        }
        Ok(())
    }

    /// The word that [`Self::lose_power`] leaves at an offset of VRAM.
    pub(super) fn garbage(seed: u64, at: u64) -> u64 {
        word(seed, at % CHUNK + at / CHUNK * 8)
    }

    /// Reads a register of four bytes.
    pub fn read(&mut self, at: u32) -> u32 {
        let [low, _] = split(self.gpu.read(at, Width::B4));
        low
    }

    /// Writes a register of four bytes. As on x86, what the CPU stored before is in
    /// memory then.
    pub fn write(&mut self, at: u32, value: u32) {
        self.ram.barrier();
        self.gpu.write(at, Width::B4, value.into());
    }

    /// Reads a register of one byte.
    pub fn read_byte(&mut self, at: u32) -> u8 {
        self.gpu.read(at, Width::B1).to_le_bytes()[0]
    }

    /// Writes a register of one byte.
    pub fn write_byte(&mut self, at: u32, value: u8) {
        self.gpu.write(at, Width::B1, value.into());
    }

    /// Low byte of the PCI device id.
    pub fn device_id_low(&self) -> u8 {
        self.gpu.config().chip.device_id().to_le_bytes()[0]
    }

    /// Bytes of BAR1.
    pub fn visible_bytes(&self) -> u64 {
        self.gpu.vram().visible_bytes()
    }

    /// The GPU works for a while. False if it had nothing to do.
    pub fn step(&mut self) -> bool {
        let had_work = self.gpu.has_work();
        self.gpu.step(STEP) == Progress::Pending || had_work
    }

    /// Whether the interrupt has been raised since the last call.
    pub fn take_interrupt(&self) -> bool {
        self.line.swap(false, Ordering::AcqRel)
    }

    /// The GPU, as only a test can see it.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Its counters.
    pub fn counters(&self) -> Counters {
        self.gpu.counters()
    }

    /// The RAM.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Pages of RAM inside the budget, full of garbage.
    pub(super) fn pages(&self, count: u64, caching: Caching, limit: u64) -> Result<Vec<u64>> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let room = self.page_budget.saturating_sub(self.ram.owned());
        let frames = (count <= room).then(|| self.ram.take(count, limit));
        let frames = frames.flatten();
        for at in frames.iter().flatten() {
            self.ram.set_caching(*at, caching);
        }
        frames.ok_or_else(|| format!("{count} pages of RAM asked for, {room} in the budget"))
    }

    /// Gives pages of RAM back.
    pub(super) fn free(&mut self, frames: Vec<u64>) {
        for at in &frames {
            self.gpu.dma_unmaps(BusAddr(*at), BusAddr(at + 0xfff));
            self.ram.set_caching(*at, Caching::Cached);
        }
        self.ram.free(frames);
    }

    /// The CPU writes into a block.
    pub(super) fn put(&self, block: &Block, offset: u64, data: &[u8]) -> Result<()> {
        block.pieces(offset, data.len(), |cpu, piece| {
            match cpu {
                Cpu::Ram(at) => self.ram.cpu_write(at, &data[piece]),
                Cpu::Bar1(at) => self
                    .gpu
                    .vram()
                    .write(VramOffset(self.in_bar1(at, piece.len())?), &data[piece])
                    .map_err(|e| e.to_string())?,
            }
            Ok(())
        })
    }

    /// The CPU reads from a block.
    pub(super) fn get(&self, block: &Block, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let mut data = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let len = data.len();
        block.pieces(offset, len, |cpu, piece| {
            match cpu {
                Cpu::Ram(at) => self.ram.cpu_read(at, &mut data[piece]),
                Cpu::Bar1(at) => self
                    .gpu
                    .vram()
                    .read(VramOffset(self.in_bar1(at, piece.len())?), &mut data[piece])
                    .map_err(|e| e.to_string())?,
            }
            Ok(())
        })?;
        Ok(data)
    }

    pub(super) fn put_u64(&self, block: &Block, offset: u64, value: u64) -> Result<()> {
        self.put(block, offset, &value.to_le_bytes())
    }

    pub(super) fn get_u64(&self, block: &Block, offset: u64) -> Result<u64> {
        let bytes = self.get(block, offset, 8)?;
        Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
    }

    fn in_bar1(&self, at: u64, len: usize) -> Result<u64> {
        let end = at.saturating_add(len as u64);
        let visible = self.visible_bytes();
        if end > visible {
            return Err(format!(
                "VRAM up to {end:#x} is not in BAR1 ({visible:#x} bytes)"
            ));
        }
        Ok(at)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        checked::end(&mut self.gpu, &self.reports, &self.expected);
    }
}

/// The low and the high half.
pub(super) fn split(value: u64) -> [u32; 2] {
    let [low, high] = [value & 0xFFFF_FFFF, value >> 32];
    [low, high].map(|half| u32::try_from(half).unwrap_or(0))
}

/// Rounds up to whole pages.
pub(super) fn page_align(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}
