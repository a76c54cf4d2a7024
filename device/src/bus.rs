//! BAR0: one register space for every width of access. What is declared has
//! behaviour; everything else is plain storage.

use crate::counters::COUNT_MAX;
use crate::gpu::Gpu;
use crate::log_limit::worth_a_line;
use crate::planted::planted;
use crate::sparse;
use e3k_regs::chip::MemoryChannels;
use e3k_regs::fields::EngineReset;
use e3k_regs::register::{BAR0_BYTES, MEM_READY, REGISTERS, Word};
use e3k_regs::{Access, Reg, RegInfo};
use serde::{Deserialize, Serialize};

/// Width of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    B1,
    /// 16 bits.
    B2,
    /// 32 bits.
    B4,
    /// 64 bits: two 32-bit accesses, the lower address first.
    B8,
}

impl Width {
    /// 1, 2, 4 or 8 bytes.
    pub const fn from_bytes(bytes: u8) -> Option<Self> {
        match bytes {
            1 => Some(Self::B1),
            2 => Some(Self::B2),
            4 => Some(Self::B4),
            8 => Some(Self::B8),
            _ => None,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B4 => 4,
            Self::B8 => 8,
        }
    }

    /// All ones: what an access that nobody answers reads.
    pub const fn ones(self) -> u64 {
        match self {
            Self::B1 => 0xff,
            Self::B2 => 0xffff,
            Self::B4 => 0xffff_ffff,
            Self::B8 => u64::MAX,
        }
    }
}

/// What a driver should not do to a register.
#[derive(Clone, Copy)]
enum Misuse {
    /// It writes one that is read-only.
    ReadOnly = 1,
    /// It writes ones to reserved bits.
    Reserved = 2,
    /// It uses another width than the register's; 64 bits are two times 32.
    Width = 4,
}

/// The words behind offsets without behaviour, and what the log has about them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Storage {
    #[serde(with = "sparse")]
    words: Box<[u32]>,
    #[serde(with = "sparse")]
    touched: Box<[bool]>,
    /// Undeclared words touched.
    undeclared: u64,
    /// For each register, the kinds of [`Misuse`] that are in the log.
    #[serde(with = "sparse")]
    said: [u8; REGISTERS.len()],
}

impl Storage {
    pub(crate) fn new() -> Self {
        let count = (BAR0_BYTES / 4) as usize;
        let mut storage = Self {
            words: vec![0; count].into(),
            touched: vec![false; count].into(),
            undeclared: 0,
            said: [0; REGISTERS.len()],
        };
        storage.reset();
        storage
    }

    /// Whether a restored one can be true.
    pub(crate) fn is_sound(&self) -> bool {
        let count = (BAR0_BYTES / 4) as usize;
        self.words.len() == count && self.touched.len() == count && self.undeclared <= COUNT_MAX
    }

    pub(crate) fn reset(&mut self) {
        self.words.fill(0);
        for info in REGISTERS.iter().filter(|info| info.reset != 0) {
            for index in 0..info.count {
                self.store(info.reg.at(index), info.reset, all(info));
            }
        }
    }

    /// The bytes from `offset` to the end of its word.
    fn load(&self, offset: u32) -> u32 {
        self.words[(offset % BAR0_BYTES / 4) as usize] >> (offset % 4 * 8)
    }

    /// Replaces the bits in `lanes`, counted from `offset`.
    fn store(&mut self, offset: u32, value: u32, lanes: u32) {
        let shift = offset % 4 * 8;
        let word = &mut self.words[(offset % BAR0_BYTES / 4) as usize];
        *word = *word & !(lanes << shift) | (value & lanes) << shift;
    }

    /// Counts an access that no declaration covers; the first one of a word is
    /// worth a line.
    fn note_undeclared(&mut self, offset: u32, write: bool) {
        let touched = &mut self.touched[(offset % BAR0_BYTES / 4) as usize];
        if !std::mem::replace(touched, true) {
            self.say_undeclared(offset, write);
        }
    }

    #[cold]
    fn say_undeclared(&mut self, offset: u32, write: bool) {
        self.undeclared += 1;
        if worth_a_line(self.undeclared) {
            let direction = if write { "write to" } else { "read of" };
            tracing::info!("first {direction} undeclared offset {offset:#x}: plain storage");
        }
    }

    /// Whether this is the first time that this happens to this register.
    fn first(&mut self, reg: Reg, misuse: Misuse) -> bool {
        let said = &mut self.said[reg as usize];
        let before = *said;
        *said |= misuse as u8;
        before != *said
    }
}

impl Gpu {
    /// Reads a register. A misaligned access or one outside BAR0 reads all ones.
    pub fn read(&mut self, offset: u32, width: Width) -> u64 {
        if !in_bar0(offset, width) {
            self.refuse(offset, width, None);
            return width.ones();
        }
        self.mxu.counters.register_reads += 1;
        if let Some((reg, index)) = as_declared(offset, width) {
            return self.read_register(reg, index).into();
        }
        let word = offset & !3;
        let (shift, lanes) = place(offset, width);
        let low = u64::from(self.read_word(word, lanes)) >> shift;
        let high = if width == Width::B8 {
            self.read_word(word + 4, u32::MAX)
        } else {
            0
        };
        (u64::from(high) << 32 | low) & width.ones()
    }

    /// Writes a register. A misaligned access or one outside BAR0 is dropped.
    /// Narrow writes leave the rest of a plain register as it is; the rest of a
    /// write-one-to-clear register is not cleared.
    pub fn write(&mut self, offset: u32, width: Width, value: u64) {
        if !in_bar0(offset, width) {
            self.refuse(offset, width, Some(value));
            return;
        }
        self.mxu.counters.register_writes += 1;
        let [low, high] = e3k_regs::packet::halves(value);
        let (shift, lanes) = place(offset, width);
        let lanes = if planted!(NarrowWriteIsWide) {
            u32::MAX
        } else {
            lanes
        };
        if let Some((reg, index)) = as_declared(offset, width) {
            self.write_register(reg, index, low, lanes >> shift);
        } else {
            let word = offset & !3;
            self.write_word(word, low << shift, lanes);
            if width == Width::B8 && !planted!(UpperHalfLost) {
                self.write_word(word + 4, high, u32::MAX);
            }
        }
    }

    #[cold]
    fn refuse(&mut self, offset: u32, width: Width, value: Option<u64>) {
        self.mxu.counters.refused_accesses += 1;
        if worth_a_line(self.mxu.counters.refused_accesses) {
            let bytes = width.bytes();
            tracing::warn!(
                ?value,
                "{bytes}-byte access at BAR0 offset {offset:#x} refused: misaligned or outside {BAR0_BYTES:#x} bytes"
            );
        }
    }

    fn read_word(&mut self, word: u32, lanes: u32) -> u32 {
        match Reg::word(word) {
            Word::Register(reg, index) => {
                if lanes != u32::MAX {
                    self.note(reg, index, Misuse::Width, lanes);
                }
                self.read_register(reg, index)
            }
            Word::Bytes => self.read_bytes(word, lanes),
            Word::Undeclared => {
                self.mxu.counters.undeclared_accesses += 1;
                self.storage.note_undeclared(word, false);
                self.storage.load(word)
            }
        }
    }

    /// A word that holds registers of one byte.
    fn read_bytes(&mut self, word: u32, lanes: u32) -> u32 {
        let mut value = self.storage.load(word);
        for shift in shifts(lanes) {
            let Some((reg, index)) = Reg::find(word + shift / 8) else {
                continue;
            };
            if lanes != 0xff << shift {
                self.note(reg, index, Misuse::Width, lanes);
            }
            let byte = self.read_register(reg, index);
            value = value & !(0xff << shift) | byte << shift;
        }
        value
    }

    fn read_register(&self, reg: Reg, index: u32) -> u32 {
        let value = self.behaviour(reg, index);
        value.unwrap_or_else(|| self.storage.load(reg.at(index))) & all(reg.info())
    }

    /// What a register reads that is more than storage.
    fn behaviour(&self, reg: Reg, index: u32) -> Option<u32> {
        match reg {
            Reg::MemReady => Some(MEM_READY),
            Reg::MemChannels => Some(self.config.channels.map_or(0, MemoryChannels::to_register)),
            _ => self
                .mxu
                .read_register(reg, index)
                .or_else(|| self.biu.read_register(reg))
                .or_else(|| self.csp.read_register(reg, index))
                .or_else(|| self.power.read_register(reg)),
        }
    }

    fn write_word(&mut self, word: u32, value: u32, lanes: u32) {
        match Reg::word(word) {
            Word::Register(reg, index) => {
                if lanes != u32::MAX {
                    self.note(reg, index, Misuse::Width, lanes);
                }
                self.write_register(reg, index, value, lanes);
            }
            Word::Bytes => self.write_bytes(word, value, lanes),
            Word::Undeclared => {
                self.mxu.counters.undeclared_accesses += 1;
                self.storage.note_undeclared(word, true);
                self.storage.store(word, value, lanes);
            }
        }
    }

    /// A word that holds registers of one byte; its other bytes are plain.
    fn write_bytes(&mut self, word: u32, value: u32, lanes: u32) {
        for shift in shifts(lanes) {
            let at = word + shift / 8;
            let Some((reg, index)) = Reg::find(at) else {
                self.storage.store(at, value >> shift, 0xff);
                continue;
            };
            if lanes != 0xff << shift {
                self.note(reg, index, Misuse::Width, lanes);
            }
            self.write_register(reg, index, value >> shift, 0xff);
        }
    }

    /// `lanes` are the bits that are written, counted from the register's first.
    fn write_register(&mut self, reg: Reg, index: u32, value: u32, lanes: u32) {
        let info = reg.info();
        let written = value & lanes;
        if info.access == Access::ReadOnly {
            self.note(reg, index, Misuse::ReadOnly, written);
            return;
        }
        let reserved = written & info.layout(index).reserved;
        if reserved != 0 {
            self.note(reg, index, Misuse::Reserved, reserved);
        }
        let value = if info.access == Access::ReadWrite && lanes != all(info) {
            self.read_register(reg, index) & !lanes | written
        } else {
            written
        };
        let taken = self.mxu.write_register(reg, index, value)
            || self.biu.write_register(reg, value)
            || self.csp.write_register(reg, index, value)
            || self.power.write_register(reg, value);
        if reg == Reg::EngineReset {
            self.engine_reset(EngineReset::from_bits(value));
        }
        if taken {
            self.settle();
        } else {
            self.storage.store(reg.at(index), value, lanes);
        }
    }

    /// Counts a misuse; the first of its kind for each register is said.
    /// `bits` are those concerned.
    #[cold]
    fn note(&mut self, reg: Reg, index: u32, misuse: Misuse, bits: u32) {
        let counters = &mut self.mxu.counters;
        *match misuse {
            Misuse::ReadOnly => &mut counters.read_only_writes,
            Misuse::Reserved => &mut counters.reserved_writes,
            Misuse::Width => &mut counters.wrong_widths,
        } += 1;
        if !self.storage.first(reg, misuse) {
            return;
        }
        let info = reg.info();
        let (name, at) = (info.label(index), reg.at(index));
        match misuse {
            Misuse::ReadOnly => {
                tracing::warn!("write of {bits:#x} to {name} ({at:#x}) lost: it is read-only");
            }
            Misuse::Reserved => {
                tracing::warn!("write to {name} ({at:#x}) sets reserved bits {bits:#x}");
            }
            Misuse::Width => {
                let (width, used) = (info.width, bits.count_ones() / 8);
                tracing::warn!("{used}-byte access to {name} ({at:#x}), which has {width}");
            }
        }
    }
}

/// Every bit of a register.
fn all(info: &RegInfo) -> u32 {
    if info.width == 1 { 0xff } else { u32::MAX }
}

/// The register at `offset`, if it is as wide as the access.
fn as_declared(offset: u32, width: Width) -> Option<(Reg, u32)> {
    let (reg, index) = Reg::find(offset)?;
    (u32::from(reg.info().width) == width.bytes()).then_some((reg, index))
}

/// Where an access of up to 4 bytes lies in its word: its shift and its bits.
fn place(offset: u32, width: Width) -> (u32, u32) {
    let shift = offset % 4 * 8;
    let [lanes, _] = e3k_regs::packet::halves(width.ones() << shift);
    (shift, lanes)
}

/// The shift of each byte that `lanes` touch.
fn shifts(lanes: u32) -> impl Iterator<Item = u32> {
    [0, 8, 16, 24]
        .into_iter()
        .filter(move |shift| lanes >> shift & 0xff != 0)
}

fn in_bar0(offset: u32, width: Width) -> bool {
    let bytes = width.bytes();
    offset.is_multiple_of(bytes)
        && offset
            .checked_add(bytes)
            .is_some_and(|end| end <= BAR0_BYTES)
}
