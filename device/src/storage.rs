//! BAR0 as plain storage, and the log of misuse: writes to read-only registers
//! and reserved bits, wrong widths, undeclared offsets.

use crate::log_limit::worth_a_line;
use crate::misuse::Misuse;
use crate::mmu::Mxu;
use crate::saved::plain::{Registers, Use};
use crate::saved::{Damage, countable, sparse};
use crate::watch::{Event, Onlooker};
use e3k_regs::block::{self, BLOCKS};
use e3k_regs::register::{BAR0_BYTES, REGISTERS};
use e3k_regs::{Access, Reg};
use serde::Serialize;

/// How often a register was misused in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegisterMisuse {
    /// The register, with its place in a bank.
    pub register: String,
    /// Its first byte in BAR0.
    pub offset: u32,
    /// What was done.
    pub kind: Misuse,
    /// How often; it stays at the largest number that there is.
    pub count: u32,
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

/// Accesses to one word of BAR0 that no declaration covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WordUse {
    /// The block that the word is in.
    pub block: &'static str,
    /// The word's first byte in BAR0.
    pub offset: u32,
    /// Reads; it stays at the largest number that there is, as `writes` does.
    pub reads: u32,
    /// Writes.
    pub writes: u32,
}

/// The words behind offsets without behaviour, and what the log has about them.
pub(crate) struct Storage {
    words: Box<[u32]>,
    /// For each word, reads and writes that no declaration covers.
    used: Box<[[u32; 2]]>,
    /// For each block of BAR0.
    undeclared: [Use; BLOCKS.len()],
    /// For each register, the kinds of [`Misuse`] that are in the log.
    said: [u8; REGISTERS.len()],
    /// How often each register of each bank was misused, by [`Misuse::place`].
    misused: Box<[[u32; Misuse::ALL.len()]]>,
}

/// For each bank, how many registers are declared before it; the last is how many
/// there are.
const BEFORE: [u32; REGISTERS.len() + 1] = {
    let mut before = [0; REGISTERS.len() + 1];
    let mut n = 0;
    while n < REGISTERS.len() {
        before[n + 1] = before[n] + REGISTERS[n].count;
        n += 1;
    }
    before
};
const REGISTER_COUNT: usize = BEFORE[REGISTERS.len()] as usize;

impl Storage {
    pub(crate) fn new() -> Self {
        let mut storage = Self::unwritten();
        storage.reset();
        storage
    }

    /// All zeros.
    fn unwritten() -> Self {
        let count = (BAR0_BYTES / 4) as usize;
        Self {
            words: vec![0; count].into(),
            used: vec![[0; 2]; count].into(),
            undeclared: [Use::default(); BLOCKS.len()],
            said: [0; REGISTERS.len()],
            misused: vec![[0; Misuse::ALL.len()]; REGISTER_COUNT].into(),
        }
    }

    pub(crate) fn save(&self) -> Registers {
        let Self {
            words,
            used,
            undeclared,
            said,
            misused,
        } = self;
        Registers {
            words: sparse::save(words),
            undeclared: sparse::save(used),
            blocks: sparse::save(undeclared),
            said: sparse::save(said),
            misused: sparse::save(misused),
        }
    }

    /// # Errors
    /// BAR0 has no such word or register, or nobody counts so far.
    pub(crate) fn restore(saved: Registers) -> Result<Self, Damage> {
        let mut storage = Self::unwritten();
        sparse::restore(&mut storage.words, saved.words, "word")?;
        sparse::restore(&mut storage.used, saved.undeclared, "undeclared word")?;
        sparse::restore(&mut storage.undeclared, saved.blocks, "block")?;
        sparse::restore(&mut storage.said, saved.said, "said register")?;
        sparse::restore(&mut storage.misused, saved.misused, "misused register")?;
        for block in &storage.undeclared {
            countable("words", block.words)?;
            countable("reads", block.reads)?;
            countable("writes", block.writes)?;
        }
        Ok(storage)
    }

    /// The words to their reset values; the log stays.
    pub(crate) fn reset(&mut self) {
        let Self {
            words,
            used: _,
            undeclared: _,
            said: _,
            misused: _,
        } = self;
        words.fill(0);
        for info in REGISTERS.iter().filter(|info| info.reset != 0) {
            for index in 0..info.count {
                self.store(info.reg.at(index), info.reset, info.bits());
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
        let [reads, writes] = &mut self.used[(offset / 4) as usize];
        let first = *reads == 0 && *writes == 0;
        let count = match direction {
            Direction::Read => reads,
            Direction::Write => writes,
        };
        *count = count.saturating_add(1);
        if first {
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

    /// The words that were touched, in their order.
    pub(crate) fn undeclared_words(&self) -> impl Iterator<Item = WordUse> {
        let all = (0..).step_by(4).zip(&self.used);
        let touched = all.filter(|(_, counts)| **counts != [0; 2]);
        touched.map(|(offset, &[reads, writes])| WordUse {
            block: BLOCKS[block::index(offset)].name,
            offset,
            reads,
            writes,
        })
    }

    /// What was done to registers that should not be, in the order of their offsets.
    pub(crate) fn misuses(&self) -> impl Iterator<Item = RegisterMisuse> {
        let registers = REGISTERS
            .iter()
            .flat_map(|info| (0..info.count).map(move |index| (info, index)));
        let all = registers.zip(&self.misused).flat_map(|(register, counts)| {
            Misuse::ALL.map(|kind| (register, kind, counts[kind.place()]))
        });
        let done = all.filter(|(.., count)| *count != 0);
        done.map(|((info, index), kind, count)| RegisterMisuse {
            register: info.label(index).to_string(),
            offset: info.reg.at(index),
            kind,
            count,
        })
    }

    /// Whether a write is taken, or lost because the register is read-only. `written`
    /// are the bits on their way. What a driver should not do is noted.
    #[inline]
    pub(crate) fn admits(
        &mut self,
        reg: Reg,
        index: u32,
        written: u32,
        mxu: &mut Mxu,
        watch: impl Onlooker,
    ) -> bool {
        let info = reg.info();
        if info.access == Access::ReadOnly {
            self.note(reg, index, Misuse::ReadOnly, written, mxu, watch);
            return false;
        }
        let reserved = written & info.layout(index).reserved;
        if reserved != 0 {
            self.note(reg, index, Misuse::Reserved, reserved, mxu, watch);
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
        mxu: &mut Mxu,
        watch: impl Onlooker,
    ) {
        let event = Event::Misuse {
            reg,
            index,
            kind: misuse,
            bits,
        };
        watch.saw(&event, &mxu.look());
        let counters = &mut mxu.counters;
        *match misuse {
            Misuse::ReadOnly => &mut counters.read_only_writes,
            Misuse::Reserved => &mut counters.reserved_writes,
            Misuse::Width => &mut counters.wrong_widths,
        } += 1;
        let count = &mut self.misused[(BEFORE[reg as usize] + index) as usize][misuse.place()];
        *count = count.saturating_add(1);
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
