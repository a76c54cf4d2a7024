//! What the GPU must do. After each operation all of the work area in VRAM and
//! all of RAM, guard pages included, are compared with what they must hold.

use crate::Result;
use crate::function::Function;
use crate::gpu::{DATA, DATA_BYTES, Gpu};
use crate::packets;
use crate::pages::PAGE;
use crate::shadow::{Shadow, noise};

/// Bytes around every target that must not change.
const GUARD: usize = 1024;
/// Ends inside a row, at a row, one pixel past it; crosses 64 KiB; several rows.
const SIZES: [usize; 6] = [4, 252, 65532, 65536, 65540, 2 * 65536 + 1028];
/// The work area in VRAM, and as much RAM.
const WORK: usize = 1 << 20;
const WORK_BYTES: usize = DATA_BYTES;
/// More submissions than the ring has room for.
const SUBMISSIONS: u32 = 300;
/// Bits of the second interrupt word.
const FENCE: u32 = 1 << 27;
const CSP_TIMEOUT: u32 = 1 << 16;
/// A bit of the first.
const MASTER_ABORT: u32 = 1 << 10;
const BIU_RAW: usize = 0x8504;
const BIU_SHADOW: usize = 0x8574;
const ADVANCED_RAW: usize = 0x8548;
const ADVANCED_SHADOW: usize = 0x8578;
const MXU_INT_STATUS: usize = 0x49038;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Vram,
    Ram,
}

const PLACES: [Place; 2] = [Place::Vram, Place::Ram];

/// Runs the checks.
pub(crate) fn run(say: &mut dyn FnMut(&str, Result<String>)) -> Result<()> {
    let gpu = Gpu::new(Function::open()?)?;
    let visible = gpu.function.vram.bytes();
    if visible < WORK + WORK_BYTES {
        return Err(format!("BAR1 has {visible:#x} bytes only"));
    }
    let vram = Shadow::new(&gpu.function.vram, WORK, WORK_BYTES);
    let mut bench = Bench { gpu, vram };
    let sizes = format!(
        "{:#x} bytes of VRAM, {visible:#x} visible",
        bench.gpu.vram_bytes
    );
    say("memory is there", Ok(sizes));
    for place in PLACES {
        say(&format!("fill {place:?}"), bench.fills(place));
    }
    for from in PLACES {
        for to in PLACES {
            say(&format!("copy {from:?} to {to:?}"), bench.copies(from, to));
        }
    }
    say("copy through hidden VRAM", bench.hidden());
    say("a page is mapped anew", bench.mapped_anew());
    say("the ring wraps", bench.wraps());
    say("a fence is an interrupt source", bench.interrupt());
    say("no DMA without bus master", bench.no_bus_master());
    say("no faults", bench.no_faults());
    let stayed = bench.gpu.ram.have_stayed();
    say(
        "no page has moved",
        stayed.map(|()| "as at the start".into()),
    );
    bench.gpu.stop();
    Ok(())
}

/// The GPU, and what the work area must hold.
struct Bench {
    gpu: Gpu,
    vram: Shadow,
}

impl Bench {
    fn address(&self, place: Place, offset: usize) -> u64 {
        match place {
            Place::Vram => (WORK + offset) as u64,
            Place::Ram => self.gpu.ram_address(DATA + offset),
        }
    }

    fn wanted(&self, place: Place, offset: usize) -> u32 {
        match place {
            Place::Vram => self.vram.get(offset),
            Place::Ram => self.gpu.ram.wanted(DATA + offset),
        }
    }

    fn expect(&mut self, place: Place, offset: usize, value: u32) {
        match place {
            Place::Vram => self.vram.expect(offset, value),
            Place::Ram => self.gpu.ram.expect(DATA + offset, value),
        }
    }

    /// New noise in all of a place.
    fn refresh(&mut self, place: Place, seed: u32) {
        for at in (0..WORK_BYTES).step_by(4) {
            let value = noise(seed, at);
            match place {
                Place::Vram => self.vram.write(&self.gpu.function.vram, at, value),
                Place::Ram => self.gpu.ram.write(DATA + at, value),
            }
        }
    }

    /// Whether everything is as it must be.
    fn compare(&self) -> Result<()> {
        self.gpu.ram.compare()?;
        self.vram.compare(&self.gpu.function.vram, "VRAM")
    }

    fn fill(&mut self, place: Place, offset: usize, bytes: usize, colour: [u32; 4]) -> Result<()> {
        let at = self.address(place, offset);
        self.gpu.run(&packets::fill(at, bytes, colour))?;
        for at in (0..bytes).step_by(4) {
            self.expect(place, offset + at, colour[at / 4 % 4]);
        }
        self.compare()
    }

    fn copy(&mut self, to: (Place, usize), from: (Place, usize), bytes: usize) -> Result<()> {
        let [to_at, from_at] = [to, from].map(|(place, offset)| self.address(place, offset));
        self.gpu.run(&packets::copy(to_at, from_at, bytes))?;
        for at in (0..bytes).step_by(4) {
            let word = self.wanted(from.0, from.1 + at);
            self.expect(to.0, to.1 + at, word);
        }
        self.compare()
    }

    fn fills(&mut self, place: Place) -> Result<String> {
        for (seed, bytes) in (0xF111..).zip(SIZES) {
            let colour = [0, 1, 2, 3].map(|n| noise(seed, n));
            let done = self.fill(place, GUARD, bytes, colour);
            done.map_err(|error| format!("{bytes} bytes: {error}"))?;
        }
        Ok(format!("{} sizes", SIZES.len()))
    }

    /// Inside one place source and destination lie apart.
    fn copies(&mut self, from: Place, to: Place) -> Result<String> {
        for (seed, bytes) in (0xC0B1..).zip(SIZES) {
            self.refresh(from, seed);
            let done = self.copy((to, WORK_BYTES / 2 + GUARD), (from, GUARD), bytes);
            done.map_err(|error| format!("{bytes} bytes: {error}"))?;
        }
        Ok(format!("{} sizes", SIZES.len()))
    }

    /// To VRAM that the CPU does not see, and back to another place.
    fn hidden(&mut self) -> Result<String> {
        let at = (self.gpu.function.vram.bytes() + WORK) as u64;
        let bytes = 65540;
        if at + WORK as u64 > self.gpu.vram_bytes {
            return Ok("all VRAM is visible".into());
        }
        self.refresh(Place::Ram, 0x41DD);
        let source = self.address(Place::Ram, GUARD);
        self.gpu.run(&packets::copy(at, source, bytes))?;
        self.compare()?;
        let to = self.address(Place::Vram, GUARD);
        self.gpu.run(&packets::copy(to, at, bytes))?;
        for at in (0..bytes).step_by(4) {
            let word = self.wanted(Place::Ram, GUARD + at);
            self.expect(Place::Vram, GUARD + at, word);
        }
        self.compare()?;
        Ok(format!("{bytes} bytes at {at:#x}"))
    }

    /// Two pages change places after the GPU has used them.
    fn mapped_anew(&mut self) -> Result<String> {
        let [one, two] = [DATA / PAGE, DATA / PAGE + 1];
        self.fill(Place::Ram, 0, 2 * PAGE, [1; 4])?;
        self.gpu.map(one, two);
        self.gpu.map(two, one);
        self.gpu.invalidate();
        let at = self.address(Place::Ram, 0);
        let packets = packets::fill(at, PAGE, [2; 4]);
        let done = self.gpu.run(&packets);
        self.gpu.map(one, one);
        self.gpu.map(two, two);
        self.gpu.invalidate();
        done?;
        for at in (PAGE..2 * PAGE).step_by(4) {
            self.expect(Place::Ram, at, 2);
        }
        let filled = self.compare();
        // What went to the wrong page is not held against later checks.
        self.refresh(Place::Ram, 0xA2E7);
        filled.map(|()| "the other page was filled".into())
    }

    fn wraps(&mut self) -> Result<String> {
        for _ in 0..SUBMISSIONS {
            self.gpu.run(&[0])?;
        }
        self.compare()?;
        Ok(format!("{SUBMISSIONS} submissions"))
    }

    fn interrupt(&mut self) -> Result<String> {
        let latch = |gpu: &Gpu| {
            gpu.set(BIU_SHADOW, 0);
            let latched = gpu.get(ADVANCED_SHADOW);
            (latched & FENCE != 0, gpu.get(ADVANCED_RAW) & FENCE != 0)
        };
        latch(&self.gpu);
        self.gpu.run(&[0])?;
        match [latch(&self.gpu), latch(&self.gpu)] {
            [(true, false), (false, false)] => Ok("raised once, latched once".into()),
            found => Err(format!("latched and raw, twice: {found:?}")),
        }
    }

    /// The ring is in RAM: it halts, and nothing is written. After new set-up it runs.
    fn no_bus_master(&mut self) -> Result<String> {
        let at = self.address(Place::Vram, GUARD);
        self.gpu.function.set_bus_master(false)?;
        let halted = |gpu: &Gpu| gpu.get(ADVANCED_RAW) & CSP_TIMEOUT != 0;
        let submitted = self.gpu.submit(&packets::fill(at, PAGE, [3; 4]));
        let stopped = submitted.and_then(|()| self.gpu.wait("a halt", halted));
        let aborted = self.gpu.get(BIU_RAW) & MASTER_ABORT != 0;
        self.gpu.function.set_bus_master(true)?;
        self.gpu.start();
        stopped?;
        self.compare()?;
        self.fill(Place::Vram, GUARD, PAGE, [4; 4])?;
        if aborted {
            Ok("a master abort, then work again".into())
        } else {
            Err("BIU_RAW has no master abort".into())
        }
    }

    fn no_faults(&self) -> Result<String> {
        match self.gpu.get(MXU_INT_STATUS) {
            0 => Ok("MXU_INT_STATUS is 0".into()),
            status => Err(format!("MXU_INT_STATUS is {status:#x}")),
        }
    }
}
