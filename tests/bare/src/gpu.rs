//! The GPU in PA mode: tables in VRAM; ring, buffer and fence in RAM behind them.

use crate::Result;
use crate::function::Function;
use crate::packets::{self, INDICATOR_OFF, INDICATOR_ON};
use crate::pages::{PAGE, Pages};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pages of RAM that the GPU sees; no multiple of 7.
const PAGES: usize = 90;
/// Offsets in them.
const RING: usize = 0;
const RING_BYTES: usize = 4 * PAGE;
const FENCE: usize = RING_BYTES;
const BUFFER: usize = FENCE + PAGE;
/// The rest is for data.
pub(crate) const DATA: usize = BUFFER + PAGE;
pub(crate) const DATA_BYTES: usize = PAGES * PAGE - DATA;
/// VRAM offsets of the tables.
const L2: usize = 0x1000;
const L3: usize = 0x2000;
/// A submission: 12 dwords, and Skips up to a power of two.
const SLOT_BYTES: usize = 64;
/// How long a submission may take. Where no driver can be interrupted, memory
/// and registers are looked at from time to time.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(200);

/// Valid, non-secure, snooped, in system memory.
const RAM_ENTRY: u64 = 0b0111;
/// Valid, in VRAM.
const VRAM_ENTRY: u64 = 0b1001;

/// Registers, by name in docs/registers.md.
const MEM_READY: usize = 0xD370;
const MEM_CHANNELS: usize = 0xD374;
const ENGINE_RESET: usize = 0x8524;
const MMU_MODE: usize = 0x49004;
const PT_INV_ADDR: usize = 0x49018;
const PT_INV_MASK: usize = 0x4901C;
const PT_INV_TRIG: usize = 0x49020;
const TTBR: usize = 0x50000;
const RING_ADDRESS: usize = 0x3001C;
const RING_SIZE: usize = 0x30020;
const RING_HEAD: usize = 0x30024;
const RING_TAIL: usize = 0x30028;

/// The GPU, set up.
pub(crate) struct Gpu {
    pub(crate) function: Function,
    pub(crate) ram: Pages,
    /// Bytes of VRAM: the first GPU address of RAM.
    pub(crate) vram_bytes: u64,
    tail: usize,
    /// The last submission's number, the value of its fence.
    fence: u32,
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0)
}

fn entry(at: u64, attributes: u64) -> u32 {
    low(at >> 12 << 4 | attributes)
}

impl Gpu {
    /// Asks for the memory's size, builds the tables, starts ring 0.
    pub(crate) fn new(function: Function) -> Result<Self> {
        let ready = function.registers.read(MEM_READY);
        let channels = function.registers.read(MEM_CHANNELS) & 0xff;
        let vram_bytes = (u64::from(channels >> 4) * u64::from(channels & 0xf)) << 30;
        if ready != 0xDEAD_BEAF || vram_bytes == 0 {
            return Err(format!(
                "MEM_READY is {ready:#x}, MEM_CHANNELS {channels:#x}"
            ));
        }
        let mut ram = Pages::new(PAGES)?;
        ram.write(FENCE, 0);
        ram.write(FENCE + 4, 0);
        let mut gpu = Self {
            function,
            ram,
            vram_bytes,
            tail: 0,
            fence: 0,
        };
        gpu.write_tables();
        gpu.start();
        Ok(gpu)
    }

    /// The GPU address of an offset of the RAM pages.
    pub(crate) fn ram_address(&self, offset: usize) -> u64 {
        self.vram_bytes + offset as u64
    }

    fn write_tables(&self) {
        let vram = &self.function.vram;
        for at in (0..PAGE).step_by(4) {
            vram.write(L2 + at, 0);
            vram.write(L3 + at, 0);
        }
        let index = usize::try_from(self.vram_bytes >> 22 & 0x3ff).unwrap_or(0);
        vram.write(L2 + index * 4, entry(L3 as u64, VRAM_ENTRY));
        for page in 0..PAGES {
            self.map(page, page);
        }
    }

    /// Lets one page of the GPU's view be one of RAM.
    pub(crate) fn map(&self, view: usize, page: usize) {
        let value = entry(self.ram.bus_address(page), RAM_ENTRY);
        self.function.vram.write(L3 + view * 4, value);
    }

    /// Everything in the TLBs is stale.
    pub(crate) fn invalidate(&self) {
        self.set(PT_INV_ADDR, 0);
        self.set(PT_INV_MASK, 0);
        self.set(PT_INV_TRIG, 0x40);
    }

    /// Sets ring 0 up, whatever it did before.
    pub(crate) fn start(&mut self) {
        self.set(ENGINE_RESET, 0x1FC);
        self.set(ENGINE_RESET, 0);
        let units = self.vram_bytes.div_ceil(256 << 20);
        self.set(MMU_MODE, low(units - 1) << 8);
        let index = usize::try_from(self.vram_bytes >> 32).unwrap_or(0);
        self.set(TTBR + index * 4, entry(L2 as u64, VRAM_ENTRY));
        self.invalidate();
        let page = low(self.ram_address(RING) >> 12);
        self.set(RING_ADDRESS, page);
        self.set(RING_SIZE, low(RING_BYTES as u64));
        self.set(RING_HEAD, 0);
        self.set(RING_TAIL, 0);
        self.set(RING_ADDRESS, page | 1 << 31);
        self.tail = 0;
    }

    /// Stops ring 0 and forgets the tables.
    pub(crate) fn stop(&self) {
        self.set(RING_ADDRESS, 0);
        self.set(ENGINE_RESET, 0x1FC);
        self.set(ENGINE_RESET, 0);
        let index = usize::try_from(self.vram_bytes >> 32).unwrap_or(0);
        self.set(TTBR + index * 4, 0);
        self.invalidate();
    }

    pub(crate) fn set(&self, register: usize, value: u32) {
        self.function.registers.write(register, value);
    }

    pub(crate) fn get(&self, register: usize) -> u32 {
        self.function.registers.read(register)
    }

    /// Writes words that the GPU sees at an offset of its RAM pages.
    fn put(&mut self, offset: usize, words: &[u32]) {
        for (at, word) in (offset..).step_by(4).zip(words) {
            self.ram.write(at, *word);
        }
    }

    /// Runs packets and waits for the fence behind them.
    pub(crate) fn run(&mut self, commands: &[u32]) -> Result<()> {
        self.submit(commands)?;
        self.wait("its fence", |gpu| gpu.fence_value() == [gpu.fence, 0])?;
        self.ram.expect(FENCE, self.fence);
        Ok(())
    }

    /// Lets the GPU run packets from a called buffer, and a fence.
    pub(crate) fn submit(&mut self, commands: &[u32]) -> Result<()> {
        if commands.len() * 4 > PAGE {
            return Err(format!("{} dwords do not fit into a page", commands.len()));
        }
        self.put(BUFFER, commands);
        self.fence += 1;
        let mut packets = INDICATOR_ON.to_vec();
        packets.extend(packets::call(self.ram_address(BUFFER), commands.len()));
        packets.extend(packets::fence(self.ram_address(FENCE), self.fence));
        packets.extend(INDICATOR_OFF);
        packets.resize(SLOT_BYTES / 4, 0);
        self.put(RING + self.tail, &packets);
        self.tail = (self.tail + SLOT_BYTES) % RING_BYTES;
        self.set(RING_TAIL, low(self.tail as u64));
        Ok(())
    }

    /// Looks from time to time, for what comes after a submission.
    pub(crate) fn wait(&self, what: &str, came: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !came(self) {
            if start.elapsed() > PATIENCE {
                return Err(format!(
                    "submission {}: {what} never came; Head {:#x}, Tail {:#x}, MXU_INT_STATUS {:#x}",
                    self.fence,
                    self.get(RING_HEAD),
                    self.tail,
                    self.get(0x49038),
                ));
            }
            sleep(PAUSE);
        }
        Ok(())
    }

    /// The fence as memory has it.
    fn fence_value(&self) -> [u32; 2] {
        [0, 4].map(|half| self.ram.read(FENCE + half))
    }
}
