//! The words behind offsets without behaviour, and who touched what should not be.

use crate::bus::all;
use crate::counters::{COUNT_MAX, Counters};
use crate::log_limit::worth_a_line;
use crate::sparse;
use e3k_regs::block::{self, BLOCKS};
use e3k_regs::register::{BAR0_BYTES, REGISTERS};
use e3k_regs::{Access, Reg};
use serde::{Deserialize, Serialize};

/// What a driver should not do to a register.
#[derive(Clone, Copy)]
pub(crate) enum Misuse {
    /// It writes one that is read-only.
    ReadOnly = 1,
    /// It writes ones to reserved bits.
    Reserved = 2,
    /// It uses another width than the register's; 64 bits are two times 32.
    Width = 4,
}

/// Which way an access goes.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Accesses to a block of BAR0 that no declaration covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockUse {
    /// The block.
    pub block: &'static str,
    /// Its first byte in BAR0.
    pub start: u32,
    /// Different words that were touched.
    pub words: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// [`BlockUse`] without what is known.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Use {
    words: u64,
    reads: u64,
    writes: u64,
}

/// The words behind offsets without behaviour, and what the log has about them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Storage {
    #[serde(with = "sparse")]
    words: Box<[u32]>,
    #[serde(with = "sparse")]
    touched: Box<[bool]>,
    /// For each block of BAR0.
    #[serde(with = "sparse")]
    undeclared: [Use; BLOCKS.len()],
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
            undeclared: [Use::default(); BLOCKS.len()],
            said: [0; REGISTERS.len()],
        };
        storage.reset();
        storage
    }

    /// Whether a restored one can be true.
    pub(crate) fn is_sound(&self) -> bool {
        let count = (BAR0_BYTES / 4) as usize;
        let counts = self.undeclared.iter();
        self.words.len() == count
            && self.touched.len() == count
            && counts
                .flat_map(|all| [all.words, all.reads, all.writes])
                .all(|n| n <= COUNT_MAX)
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
    pub(crate) fn load(&self, offset: u32) -> u32 {
        self.words[(offset % BAR0_BYTES / 4) as usize] >> (offset % 4 * 8)
    }

    /// Replaces the bits in `lanes`, counted from `offset`.
    pub(crate) fn store(&mut self, offset: u32, value: u32, lanes: u32) {
        let shift = offset % 4 * 8;
        let word = &mut self.words[(offset % BAR0_BYTES / 4) as usize];
        *word = *word & !(lanes << shift) | (value & lanes) << shift;
    }

    /// Counts an access that no declaration covers; the first one of a word is
    /// worth a line.
    pub(crate) fn note_undeclared(&mut self, offset: u32, direction: Direction) {
        let offset = offset % BAR0_BYTES;
        let block = &mut self.undeclared[block::index(offset)];
        *match direction {
            Direction::Read => &mut block.reads,
            Direction::Write => &mut block.writes,
        } += 1;
        let touched = &mut self.touched[(offset / 4) as usize];
        if !std::mem::replace(touched, true) {
            block.words += 1;
            self.say_undeclared(offset, direction);
        }
    }

    #[cold]
    fn say_undeclared(&self, offset: u32, direction: Direction) {
        let words = self.undeclared.iter().map(|block| block.words).sum();
        if worth_a_line(words) {
            let direction = match direction {
                Direction::Read => "read of",
                Direction::Write => "write to",
            };
            tracing::info!("first {direction} undeclared offset {offset:#x}: plain storage");
        }
    }

    /// The blocks that were touched.
    pub(crate) fn undeclared(&self) -> impl Iterator<Item = BlockUse> {
        let all = BLOCKS.iter().zip(&self.undeclared);
        let named = all.map(|(block, count)| BlockUse {
            block: block.name,
            start: block.start,
            words: count.words,
            reads: count.reads,
            writes: count.writes,
        });
        named.filter(|block| block.words != 0)
    }

    /// Whether a write is taken, or lost because the register is read-only. `written`
    /// are the bits on their way. What a driver should not do is noted.
    #[inline]
    pub(crate) fn admits(
        &mut self,
        reg: Reg,
        index: u32,
        written: u32,
        counters: &mut Counters,
    ) -> bool {
        let info = reg.info();
        if info.access == Access::ReadOnly {
            self.note(reg, index, Misuse::ReadOnly, written, counters);
            return false;
        }
        let reserved = written & info.layout(index).reserved;
        if reserved != 0 {
            self.note(reg, index, Misuse::Reserved, reserved, counters);
        }
        true
    }

    /// Counts a misuse; the first of its kind for each register is said.
    /// `bits` are those concerned.
    #[cold]
    pub(crate) fn note(
        &mut self,
        reg: Reg,
        index: u32,
        misuse: Misuse,
        bits: u32,
        counters: &mut Counters,
    ) {
        *match misuse {
            Misuse::ReadOnly => &mut counters.read_only_writes,
            Misuse::Reserved => &mut counters.reserved_writes,
            Misuse::Width => &mut counters.wrong_widths,
        } += 1;
        if !self.first(reg, misuse) {
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

    /// Whether this is the first time that this happens to this register.
    fn first(&mut self, reg: Reg, misuse: Misuse) -> bool {
        let said = &mut self.said[reg as usize];
        let before = *said;
        *said |= misuse as u8;
        before != *said
    }
}
