//! BAR0: one register space for every width of access. What is declared has
//! behaviour; everything else is plain storage.

use crate::gpu::Gpu;
use crate::log_limit::worth_a_line;
use e3k_regs::chip::MemoryChannels;
use e3k_regs::fields::EngineReset;
use e3k_regs::register::{BAR0_BYTES, MEM_READY, REGISTERS};
use e3k_regs::{Access, Reg};

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

/// The words behind offsets without behaviour, and which of them were touched.
pub(crate) struct Storage {
    words: Box<[u32]>,
    touched: Box<[bool]>,
    /// Undeclared words touched.
    undeclared: u64,
}

impl Storage {
    pub(crate) fn new() -> Self {
        let count = (BAR0_BYTES / 4) as usize;
        let mut storage = Self {
            words: vec![0; count].into(),
            touched: vec![false; count].into(),
            undeclared: 0,
        };
        storage.reset();
        storage
    }

    pub(crate) fn reset(&mut self) {
        self.words.fill(0);
        for info in REGISTERS {
            let shift = info.offset % 4 * 8;
            for index in 0..info.count {
                *self.word(info.offset + index * info.stride) |= info.reset << shift;
            }
        }
    }

    fn word(&mut self, offset: u32) -> &mut u32 {
        &mut self.words[(offset % BAR0_BYTES / 4) as usize]
    }

    /// Counts an access that no declaration covers; the first one of a word is
    /// worth a line.
    fn note_undeclared(&mut self, offset: u32, write: bool) {
        let touched = &mut self.touched[(offset % BAR0_BYTES / 4) as usize];
        if !std::mem::replace(touched, true) {
            self.undeclared += 1;
            if worth_a_line(self.undeclared) {
                let direction = if write { "write to" } else { "read of" };
                tracing::info!("first {direction} undeclared offset {offset:#x}: plain storage");
            }
        }
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
        let word = offset & !3;
        let low = u64::from(self.read_word(word)) >> (offset % 4 * 8);
        let high = if width == Width::B8 {
            self.read_word(word + 4)
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
        let word = offset & !3;
        let [low, high] = e3k_regs::packet::halves(value);
        let shift = offset % 4 * 8;
        let [lanes, _] = e3k_regs::packet::halves(width.ones() << shift);
        self.write_word(word, low << shift, lanes);
        if width == Width::B8 {
            self.write_word(word + 4, high, u32::MAX);
        }
        self.settle();
    }

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

    fn read_word(&mut self, word: u32) -> u32 {
        let stored = *self.storage.word(word);
        match Reg::find(word) {
            Some((reg, index)) if reg.info().width == 4 => {
                self.read_register(reg, index).unwrap_or(stored)
            }
            _ => self.read_lanes(word, stored),
        }
    }

    /// A word of byte-wide registers, or an undeclared one.
    fn read_lanes(&mut self, word: u32, stored: u32) -> u32 {
        let mut value = stored;
        let mut declared = false;
        for (info, shift) in byte_registers(word) {
            declared = true;
            if let Some(byte) = self.read_register(info, 0) {
                value = value & !(0xff << shift) | (byte & 0xff) << shift;
            }
        }
        if !declared {
            self.mxu.counters.undeclared_accesses += 1;
            self.storage.note_undeclared(word, false);
        }
        value
    }

    fn read_register(&self, reg: Reg, index: u32) -> Option<u32> {
        match reg {
            Reg::MemReady => Some(MEM_READY),
            Reg::MemChannels => Some(self.config.channels.map_or(0, MemoryChannels::to_register)),
            _ => self
                .mxu
                .read_register(reg, index)
                .or_else(|| self.biu.read_register(reg))
                .or_else(|| self.csp.read_register(reg, index)),
        }
    }

    fn write_word(&mut self, word: u32, value: u32, lanes: u32) {
        match Reg::find(word) {
            Some((reg, index)) if reg.info().width == 4 => {
                self.write_register(reg, index, value, lanes);
            }
            _ => self.write_lanes(word, value, lanes),
        }
    }

    fn write_register(&mut self, reg: Reg, index: u32, value: u32, lanes: u32) {
        let old = match reg.info().access {
            Access::ReadOnly => return,
            Access::WriteOneClear | Access::Trigger => 0,
            Access::ReadWrite => {
                let stored = *self.storage.word(reg.at(index));
                self.read_register(reg, index).unwrap_or(stored)
            }
        };
        let value = old & !lanes | value & lanes;
        let taken = self.mxu.write_register(reg, index, value)
            || self.biu.write_register(reg, value)
            || self.csp.write_register(reg, index, value);
        if !taken {
            *self.storage.word(reg.at(index)) = value;
        }
        if reg == Reg::EngineReset {
            self.engine_reset(EngineReset::from_bits(value));
        }
    }

    fn write_lanes(&mut self, word: u32, value: u32, lanes: u32) {
        let stored = self.storage.word(word);
        *stored = *stored & !lanes | value & lanes;
        let mut declared = false;
        for (reg, shift) in byte_registers(word) {
            declared = true;
            if lanes >> shift & 0xff != 0 {
                self.biu.write_register(reg, value >> shift & 0xff);
            }
        }
        if !declared {
            self.mxu.counters.undeclared_accesses += 1;
            self.storage.note_undeclared(word, true);
        }
    }
}

/// The byte-wide registers in a word, with their shift.
fn byte_registers(word: u32) -> impl Iterator<Item = (Reg, u32)> {
    REGISTERS
        .iter()
        .filter(move |info| info.width == 1 && info.offset & !3 == word)
        .map(|info| (info.reg, info.offset % 4 * 8))
}

fn in_bar0(offset: u32, width: Width) -> bool {
    let bytes = width.bytes();
    offset.is_multiple_of(bytes)
        && offset
            .checked_add(bytes)
            .is_some_and(|end| end <= BAR0_BYTES)
}
