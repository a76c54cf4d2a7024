//! The GPU once more, as simply as it can be said: every access walks the
//! tables, every packet runs to its end, all state is plain. Written from the
//! hardware reference and docs/model-choices.md, not from the model, and with
//! their offsets and bits typed in place.
//!
//! It leaves out what neither page describes for certain; a program that gets
//! there ends the comparison ([`Naive::undescribed`]).

#![allow(
    clippy::match_same_arms,
    clippy::struct_excessive_bools,
    clippy::verbose_bit_mask,
    reason = "it reads as the reference does"
)]

pub(crate) mod compare;
mod draw;
mod memory;
pub(crate) mod mmu;
mod packets;
pub(crate) mod program;
pub(crate) mod properties;
mod queues;
mod random_packets;
pub(crate) mod random_programs;
mod registers;
mod rings;
pub(crate) mod stale;

use memory::Memory;
use mmu::Place;
use presil_device::{FaultCause, MmuOptions, OnWait};
use rings::Ring;
use std::collections::BTreeSet;

const BAR0_BYTES: u32 = 1 << 20;

/// Readings of what the reference leaves open.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) mmu: MmuOptions,
    pub(crate) on_wait: OnWait,
    pub(crate) vsync: bool,
}

/// One failed access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) client: u32,
    pub(crate) write: bool,
    pub(crate) process: u8,
    pub(crate) va: u64,
    pub(crate) cause: FaultCause,
    pub(crate) level: u32,
    pub(crate) ring: usize,
    pub(crate) ring_offset: u32,
}

/// Why a ring was halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    BadRing,
    Disabled,
    FetchFault,
    UnknownOpcode,
    Truncated { needed: u32, available: u32 },
    Malformed,
    Unsupported,
    UnmetWait,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RingError {
    pub(crate) ring: usize,
    pub(crate) offset: u32,
    pub(crate) in_buffer: bool,
    pub(crate) header: u32,
    pub(crate) why: Why,
}

/// A Wait that was passed all the same: ring, offset, slot, value, equal, counter.
pub(crate) type UnmetWait = (usize, u32, u32, u32, bool, u32);

/// A page on the bus that was touched: page number, write, client, snooped,
/// non-secure.
pub(crate) type Touch = (u64, bool, u32, bool, bool);

/// An access that a translation has led to: client, process, write, address, bytes,
/// place.
pub(crate) type Access = (u32, u8, bool, u64, u64, Place);

pub(crate) struct Naive {
    choices: Choices,
    pub(crate) vram: Memory,
    pub(crate) ram: Memory,
    /// BAR0, word by word.
    registers: Vec<u32>,
    rings: [Ring; 10],
    /// The ring in execution.
    ring: usize,
    /// Registers of the FF block.
    ff: Vec<u32>,
    /// Nanoseconds.
    clock: u64,
    /// The interrupt line.
    line: bool,
    pub(crate) raised: usize,
    pub(crate) faults: Vec<Fault>,
    pub(crate) errors: Vec<RingError>,
    pub(crate) waits: Vec<UnmetWait>,
    pub(crate) touches: BTreeSet<Touch>,
    pub(crate) accesses: Vec<Access>,
    /// The program did something that this model leaves out.
    pub(crate) undescribed: bool,
}

impl Naive {
    /// Powered on, with this much VRAM.
    pub(crate) fn new(vram_bytes: u64, choices: Choices) -> Self {
        let mut gpu = Self {
            choices,
            vram: Memory::local(vram_bytes),
            ram: Memory::default(),
            registers: vec![0; BAR0_BYTES as usize / 4],
            rings: Default::default(),
            ring: 0,
            ff: vec![0; 0x2000],
            clock: 0,
            line: false,
            raised: 0,
            faults: vec![],
            errors: vec![],
            waits: vec![],
            touches: BTreeSet::new(),
            accesses: vec![],
            undescribed: false,
        };
        gpu.reset();
        gpu
    }

    /// Function reset: all registers, nothing in memory.
    pub(crate) fn reset(&mut self) {
        self.registers.fill(0);
        self.put(0xD370, 0xDEAD_BEAF);
        self.put(0x8850, 0x0A << 16);
        self.rings = Default::default();
        self.ff.fill(0);
        self.line = false;
    }

    /// The clock never goes back. Displays' frames end at 60 Hz.
    pub(crate) fn set_clock(&mut self, now: u64) {
        let frame = |clock| clock / 16_666_667;
        let before = frame(self.clock);
        self.clock = self.clock.max(now);
        if self.choices.vsync && frame(self.clock) != before {
            let enabled = self.get(0x8508) & 0b1_1101;
            self.put(0x8504, self.get(0x8504) | enabled);
            self.settle();
        }
    }

    fn get(&self, word: u32) -> u32 {
        self.registers[word as usize / 4]
    }

    fn put(&mut self, word: u32, value: u32) {
        self.registers[word as usize / 4] = value;
    }

    /// A register access of `bytes` bytes that nobody refuses?
    fn answers(offset: u32, bytes: u32) -> bool {
        offset.is_multiple_of(bytes) && u64::from(offset) + u64::from(bytes) <= BAR0_BYTES.into()
    }

    pub(crate) fn read(&self, offset: u32, bytes: u32) -> u64 {
        let ones = u64::MAX >> (64 - bytes * 8);
        if !Self::answers(offset, bytes) {
            return ones;
        }
        let word = offset & !3;
        let low = u64::from(self.read_word(word));
        let high = if bytes == 8 {
            u64::from(self.read_word(word + 4))
        } else {
            0
        };
        ((high << 32 | low) >> (offset % 4 * 8)) & ones
    }

    fn read_word(&self, word: u32) -> u32 {
        match word {
            0x30000 => {
                let csp = (0..7).any(|ring| self.busy(ring));
                u32::from(csp) | u32::from(self.works()) << 1
            }
            0x30630 => (7..10)
                .map(|ring| u32::from(self.busy(ring)) << (ring - 7))
                .sum(),
            0x8220 | 0x8230 | 0x34014 | 0x34714 => {
                let [frame, line, _] = self.beam();
                line << 16 | frame & 0xffff
            }
            0x8224 | 0x8234 | 0x34018 | 0x34718 => {
                let [_, line, pixel] = self.beam();
                pixel << 16 | line
            }
            // Blank from the end of the picture to its start: lines 1121 to 40.
            0x8834 | 0x8934 => {
                let blank = self.choices.vsync && !(41..1121).contains(&self.beam()[1]);
                self.get(word) & !0xff | if blank { 0xff } else { 0 }
            }
            0x88A0 | 0x89F8 => Self::port(self.get(word), 0),
            0x88A8 => Self::port(self.get(word), 16),
            0x89C4 => Self::port(Self::port(self.get(word), 8), 16),
            0x300A4 => u32::try_from(self.clock & 0xffff_ffff).unwrap(),
            0x300A8 => u32::try_from(self.clock >> 32).unwrap(),
            0x49020 => 0,
            _ => self.get(word),
        }
    }

    /// Frames at 60 Hz; line and pixel of 1125 lines of 2200.
    fn beam(&self) -> [u32; 3] {
        if !self.choices.vsync {
            return [0; 3];
        }
        let dots = self.clock % 16_666_667 * 2_475_000 / 16_666_667;
        [self.clock / 16_666_667, dots / 2200, dots % 2200]
            .map(|number| u32::try_from(number & 0xffff_ffff).unwrap())
    }

    /// The port in the byte at `shift`: bits 2 and 3 are the lines, which only
    /// an enabled port (bit 4) pulls down.
    fn port(word: u32, shift: u32) -> u32 {
        let byte = word >> shift;
        let lines = if byte >> 4 & 1 == 0 { 3 } else { byte & 3 };
        word & !(0xC << shift) | lines << 2 << shift
    }

    pub(crate) fn write(&mut self, offset: u32, bytes: u32, value: u64) {
        if !Self::answers(offset, bytes) {
            return;
        }
        let shift = offset % 4 * 8;
        let lanes = (u64::MAX >> (64 - bytes * 8)) << shift;
        let value = value << shift;
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap();
        self.write_word(offset & !3, half(value), half(lanes));
        if bytes == 8 {
            self.write_word(offset + 4, half(value >> 32), u32::MAX);
        }
        self.settle();
    }

    fn write_word(&mut self, word: u32, value: u32, lanes: u32) {
        let merged = self.get(word) & !lanes | value & lanes;
        match word {
            // Read-only: identity, raw and shadow words, busy words, fault registers.
            0xD370 | 0xD374 | 0x8504 | 0x8548 | 0x8578 => {}
            0x30000..=0x30018 | 0x30630 | 0x300A4 | 0x300A8 | 0x49040..=0x49050 | 0x49068 => {}
            0x8220 | 0x8224 | 0x8230 | 0x8234 | 0x34014 | 0x34018 | 0x34714 | 0x34718 => {}
            0x8574 => self.latch(),
            0x49020 => {} // There is no TLB.
            0x49038 => self.put(word, self.get(word) & !(value & lanes)),
            0x8524 => {
                self.put(word, merged);
                self.hold_in_reset(merged);
            }
            0x3001C..=0x30088 | 0x30600..=0x3062C => self.write_ring(word, merged),
            _ => self.put(word, merged),
        }
    }

    /// Copies the raw words to the shadows and clears them.
    pub(crate) fn latch(&mut self) {
        for (raw, shadow) in [(0x8504, 0x8574), (0x8548, 0x8578)] {
            self.put(shadow, self.get(raw));
            self.put(raw, 0);
        }
    }

    pub(crate) fn pending(&self) -> bool {
        let fired = self.get(0x8504) & self.get(0x8508) | self.get(0x8548) & self.get(0x854C);
        self.get(0x8AA0) & 1 != 0 && fired != 0
    }

    /// The interrupt is raised when the line rises.
    pub(crate) fn settle(&mut self) {
        self.go_on();
        let pending = self.pending();
        if pending && !self.line {
            self.raised += 1;
        }
        self.line = pending;
    }

    fn signal(&mut self, raw: u32, bit: u32) {
        self.put(raw, self.get(raw) | 1 << bit);
    }
}
