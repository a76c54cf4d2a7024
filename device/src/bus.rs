//! BAR0: one register space for every width of access. What is declared has
//! behaviour; everything else is plain storage.

use crate::defect::Defect;
use crate::display;
use crate::gpu::Gpu;
use crate::log_limit::worth_a_line;
use crate::misuse::Misuse;
use crate::storage::{BlockUse, Direction, RegisterMisuse, WordUse};
use crate::watch::{Event, Off, On, Onlooker};
use crate::width::Width;
use e3k_regs::chip::MemoryChannels;
use e3k_regs::fields::EngineReset;
use e3k_regs::register::{BAR0_BYTES, MEM_READY, Unit, Word};
use e3k_regs::{Access, Reg};

impl Gpu {
    /// Reads a register. A misaligned access or one outside BAR0 reads all ones.
    pub fn read(&mut self, offset: u32, width: Width) -> u64 {
        if self.watch.is_some() {
            return self.read_watched(offset, width);
        }
        self.read_with(Off, offset, width)
    }

    #[cold]
    #[inline(never)]
    fn read_watched(&mut self, offset: u32, width: Width) -> u64 {
        let watcher = self.watch.take();
        let watch = watcher.as_ref().map(On);
        let value = self.read_with(watch, offset, width);
        if in_bar0(offset, width) {
            let event = Event::Read {
                offset,
                width,
                value,
                busy: self.csp.has_work(),
            };
            watch.saw(&event, &self.mxu.look());
        }
        self.watch = watcher;
        value
    }

    #[expect(clippy::inline_always, reason = "as if there were no watches")]
    #[inline(always)]
    fn read_with<W: Onlooker>(&mut self, watch: W, offset: u32, width: Width) -> u64 {
        if !in_bar0(offset, width) {
            self.refuse(offset, width, None);
            return width.ones();
        }
        self.mxu.counters.register_reads += 1;
        let word = offset & !3;
        let (shift, lanes) = place(offset, width);
        let low = u64::from(self.read_word(watch, word, lanes)) >> shift;
        let high = if width == Width::B8 {
            self.read_word(watch, word + 4, u32::MAX)
        } else {
            0
        };
        (u64::from(high) << 32 | low) & width.ones()
    }

    /// What the 32-bit word at `offset` reads, without being an access: nothing
    /// is counted or logged. All ones where [`Self::read`] says so.
    pub fn peek(&self, offset: u32) -> u32 {
        if !in_bar0(offset, Width::B4) {
            return u32::MAX;
        }
        let watch = self.watch.as_ref().map(On);
        match Reg::word(offset) {
            Word::Register(reg, index) => self.read_register(watch, reg, index),
            Word::Bytes => self.join_bytes(watch, offset, u32::MAX),
            Word::Undeclared => self.storage.load(offset),
        }
    }

    /// Writes a register. A misaligned access or one outside BAR0 is dropped.
    /// Narrow writes leave the rest of a plain register as it is; the rest of a
    /// write-one-to-clear register is not cleared.
    pub fn write(&mut self, offset: u32, width: Width, value: u64) {
        if self.watch.is_some() {
            return self.write_watched(offset, width, value);
        }
        self.write_with(Off, offset, width, value);
    }

    #[cold]
    #[inline(never)]
    fn write_watched(&mut self, offset: u32, width: Width, value: u64) {
        let watcher = self.watch.take();
        let watch = watcher.as_ref().map(On);
        if in_bar0(offset, width) {
            let event = Event::Write {
                offset,
                width,
                value,
            };
            watch.saw(&event, &self.mxu.look());
        }
        self.write_with(watch, offset, width, value);
        self.watch = watcher;
    }

    #[expect(clippy::inline_always, reason = "as if there were no watches")]
    #[inline(always)]
    fn write_with<W: Onlooker>(&mut self, watch: W, offset: u32, width: Width, value: u64) {
        if !in_bar0(offset, width) {
            self.refuse(offset, width, Some(value));
            return;
        }
        self.mxu.counters.register_writes += 1;
        let [low, high] = e3k_regs::packet::halves(value);
        let (shift, lanes) = place(offset, width);
        let lanes = if watch.bends(Defect::NarrowWriteIsWide) {
            u32::MAX
        } else {
            lanes
        };
        if lanes == 0xff << shift {
            return self.write_alone(watch, offset, low & 0xff);
        }
        let word = offset & !3;
        if width == Width::B8 {
            return self.write_both(watch, word, [low, high]);
        }
        self.write_word(watch, word, low << shift, lanes);
    }

    /// Apart, so that a write of one word keeps nothing for another.
    #[inline(never)]
    fn write_both<W: Onlooker>(&mut self, watch: W, word: u32, [low, high]: [u32; 2]) {
        self.write_word(watch, word, low, u32::MAX);
        if !watch.bends(Defect::UpperHalfLost) {
            self.write_word(watch, word + 4, high, u32::MAX);
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

    #[cold]
    fn note_width<W: Onlooker>(&mut self, watch: W, reg: Reg, index: u32, lanes: u32) {
        if reg.info().has_width(lanes.count_ones() / 8) {
            return;
        }
        self.storage
            .note(reg, index, Misuse::Width, lanes, &mut self.mxu, watch);
    }

    fn note_undeclared(&mut self, offset: u32, direction: Direction) {
        self.mxu.counters.undeclared_accesses += 1;
        self.storage.note_undeclared(offset, direction);
    }

    /// Where accesses went that no declaration covers, block by block. A
    /// function reset does not forget them.
    pub fn undeclared(&self) -> impl Iterator<Item = BlockUse> {
        self.storage.undeclared()
    }

    /// The same word by word, in the order of their offsets.
    pub fn undeclared_words(&self) -> impl Iterator<Item = WordUse> {
        self.storage.undeclared_words()
    }

    /// What was done to registers that a driver should not do: writes to read-only
    /// ones, ones in reserved bits, other widths than theirs; in the order of their
    /// offsets. A function reset does not forget it.
    pub fn misuses(&self) -> impl Iterator<Item = RegisterMisuse> {
        self.storage.misuses()
    }

    fn read_word<W: Onlooker>(&mut self, watch: W, word: u32, lanes: u32) -> u32 {
        match Reg::word(word) {
            Word::Register(reg, index) => {
                if lanes != u32::MAX {
                    self.note_width(watch, reg, index, lanes);
                }
                self.read_register(watch, reg, index)
            }
            Word::Bytes => self.read_bytes(watch, word, lanes),
            Word::Undeclared => {
                self.note_undeclared(word, Direction::Read);
                self.storage.load(word)
            }
        }
    }

    /// A word that holds registers of one byte.
    fn read_bytes<W: Onlooker>(&mut self, watch: W, word: u32, lanes: u32) -> u32 {
        let first = lanes.trailing_zeros();
        if lanes != 0xff << first {
            return self.read_several(watch, word, lanes);
        }
        let Some((reg, index)) = Reg::find(word + first / 8) else {
            self.note_undeclared(word, Direction::Read);
            return self.storage.load(word) & lanes;
        };
        (self.read_register(watch, reg, index) & 0xff) << first
    }

    #[cold]
    fn read_several<W: Onlooker>(&mut self, watch: W, word: u32, lanes: u32) -> u32 {
        self.note_bytes(watch, word, lanes, Direction::Read);
        self.join_bytes(watch, word, lanes)
    }

    fn join_bytes<W: Onlooker>(&self, watch: W, word: u32, lanes: u32) -> u32 {
        touched(word, lanes).fold(0, |value, (at, shift)| {
            value | self.read_byte(watch, at) << shift
        })
    }

    fn read_byte<W: Onlooker>(&self, watch: W, at: u32) -> u32 {
        let found = Reg::find(at).map(|(reg, index)| self.read_register(watch, reg, index));
        found.unwrap_or_else(|| self.storage.load(at)) & 0xff
    }

    /// Of a register of one byte the low bits.
    fn read_register<W: Onlooker>(&self, watch: W, reg: Reg, index: u32) -> u32 {
        let value = self.behaviour(watch, reg, index);
        value.unwrap_or_else(|| self.storage.load(reg.at(index)))
    }

    /// What a register reads that is more than storage.
    fn behaviour<W: Onlooker>(&self, watch: W, reg: Reg, index: u32) -> Option<u32> {
        match reg.info().unit? {
            Unit::Biu => self.biu.read_register(reg),
            Unit::Csp => self
                .csp
                .read_register(watch, reg, index, self.config().chip),
            Unit::Mxu => self.mxu.read_register(reg, index),
            Unit::Power => self.power.read_register(reg),
            Unit::Display => self.read_display(watch, reg, index),
            Unit::Whole => self.read_whole(reg),
        }
    }

    fn read_display<W: Onlooker>(&self, watch: W, reg: Reg, index: u32) -> Option<u32> {
        let stored = self.storage.load(reg.at(index));
        let running = self.config().vsync;
        display::read_register(watch, (reg, index), stored, self.csp.clock(), running)
    }

    fn read_whole(&self, reg: Reg) -> Option<u32> {
        match reg {
            Reg::MemReady => Some(MEM_READY),
            Reg::MemChannels => Some(
                self.config()
                    .channels
                    .map_or(0, MemoryChannels::to_register),
            ),
            _ => None,
        }
    }

    fn write_word<W: Onlooker>(&mut self, watch: W, word: u32, value: u32, lanes: u32) {
        match Reg::word(word) {
            Word::Register(reg, index) if lanes == u32::MAX => {
                self.write_register(watch, reg, index, value, value);
            }
            Word::Register(reg, index) => {
                self.note_width(watch, reg, index, lanes);
                let (written, mut value) = (value & lanes, value & lanes);
                if reg.info().access == Access::ReadWrite {
                    value |= self.read_register(watch, reg, index) & !lanes;
                }
                self.write_register(watch, reg, index, written, value);
            }
            Word::Bytes => self.write_bytes(watch, word, value, lanes),
            Word::Undeclared => {
                self.note_undeclared(word, Direction::Write);
                self.storage.store(word, value, lanes);
            }
        }
    }

    /// An access of one byte, mostly to a register of that width.
    #[inline(never)]
    fn write_alone<W: Onlooker>(&mut self, watch: W, offset: u32, byte: u32) {
        let found = Reg::find(offset).filter(|(reg, _)| reg.info().width == 1);
        if let Some((reg, index)) = found {
            self.write_register(watch, reg, index, byte, byte);
        } else {
            let (shift, lanes) = place(offset, Width::B1);
            self.write_word(watch, offset & !3, byte << shift, lanes);
        }
    }

    /// A word that holds registers of one byte, but for an access of one of
    /// these alone.
    #[cold]
    fn write_bytes<W: Onlooker>(&mut self, watch: W, word: u32, value: u32, lanes: u32) {
        self.note_bytes(watch, word, lanes, Direction::Write);
        for (at, shift) in touched(word, lanes) {
            self.write_byte(watch, at, value >> shift & 0xff);
        }
    }

    fn write_byte<W: Onlooker>(&mut self, watch: W, at: u32, value: u32) {
        match Reg::find(at) {
            Some((reg, index)) => self.write_register(watch, reg, index, value, value),
            None => self.storage.store(at, value, 0xff),
        }
    }

    /// More than one byte is used at once, or one that is no register.
    #[cold]
    fn note_bytes<W: Onlooker>(&mut self, watch: W, word: u32, lanes: u32, direction: Direction) {
        let mut plain = false;
        for (at, _) in touched(word, lanes) {
            match Reg::find(at) {
                Some((reg, index)) => self.note_width(watch, reg, index, lanes),
                None => plain = true,
            }
        }
        if plain {
            self.note_undeclared(word, direction);
        }
    }

    /// `written` are the bits on the bus; `value` has those of a plain register
    /// that stay, too.
    fn write_register<W: Onlooker>(
        &mut self,
        watch: W,
        reg: Reg,
        index: u32,
        written: u32,
        value: u32,
    ) {
        let mxu = &mut self.mxu;
        if !self.storage.admits(reg, index, written, mxu, watch) {
            return;
        }
        let unit = reg.info().unit;
        let behaves = unit.is_some_and(|unit| self.act(watch, unit, reg, index, value));
        if !behaves {
            self.storage.store(reg.at(index), value, reg.info().bits());
        }
    }

    /// What a write does that is more than storing; `false` if it is stored.
    #[inline(never)]
    fn act<W: Onlooker>(&mut self, watch: W, unit: Unit, reg: Reg, index: u32, value: u32) -> bool {
        let taken = match unit {
            Unit::Biu => self.biu.write_register(watch, reg, value),
            Unit::Csp => self.csp.write_register(watch, reg, index, value),
            Unit::Mxu => self.mxu.write_register(watch, reg, index, value),
            Unit::Power => self.power.write_register(reg, value),
            // What the host drives is stored.
            Unit::Display => false,
            Unit::Whole => {
                if reg == Reg::EngineReset {
                    self.engine_reset(watch, EngineReset::from_bits(value));
                }
                false
            }
        };
        if taken {
            self.settle(watch, false);
        }
        taken
    }
}

/// Where an access of up to 4 bytes lies in its word: its shift and its bits.
fn place(offset: u32, width: Width) -> (u32, u32) {
    let shift = offset % 4 * 8;
    let [lanes, _] = e3k_regs::packet::halves(width.ones() << shift);
    (shift, lanes)
}

/// The offset and the shift of each byte that `lanes` touch in a word.
fn touched(word: u32, lanes: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..4)
        .map(move |n| (word + n, 8 * n))
        .filter(move |(_, shift)| lanes >> shift & 0xff != 0)
}

fn in_bar0(offset: u32, width: Width) -> bool {
    offset < BAR0_BYTES && offset.is_multiple_of(width.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biu::NoInterrupts;
    use crate::config::Config;
    use e3k_regs::Chip;
    use e3k_regs::register::REGISTERS;

    #[test]
    fn every_unit_is_asked_for_its_registers_and_no_other() {
        for chip in [Chip::Arise10c0, Chip::E3k] {
            let config = Config::new(chip, 1 << 30, 1 << 30, true).unwrap();
            let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).unwrap();
            for (reg, unit) in REGISTERS.iter().map(|info| (info.reg, info.unit)) {
                let answers = [
                    (Unit::Biu, gpu.biu.read_register(reg).is_some()),
                    (
                        Unit::Csp,
                        gpu.csp.read_register(Off, reg, 0, chip).is_some(),
                    ),
                    (Unit::Mxu, gpu.mxu.read_register(reg, 0).is_some()),
                    (Unit::Power, gpu.power.read_register(reg).is_some()),
                    (Unit::Display, gpu.read_display(Off, reg, 0).is_some()),
                    (Unit::Whole, gpu.read_whole(reg).is_some()),
                ];
                let taken = [
                    (Unit::Biu, gpu.biu.write_register(Off, reg, 0)),
                    (Unit::Csp, gpu.csp.write_register(Off, reg, 0, 0)),
                    (Unit::Mxu, gpu.mxu.write_register(Off, reg, 0, 0)),
                    (Unit::Power, gpu.power.write_register(reg, 0)),
                ];
                let known = answers.into_iter().chain(taken);
                for (other, _) in known.filter(|(_, known)| *known) {
                    assert_eq!(unit, Some(other), "{reg:?}");
                }
            }
        }
    }
}
