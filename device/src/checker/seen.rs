//! What the driver has done so far, as several rules need it. What happened before the
//! checker began to look is not known, and no rule judges by it.

use crate::checker::caches::Caches;
use crate::checker::fact::{Command, Fact, Written};
use crate::checker::kernel::Kernel;
use crate::checker::owners::Owners;
use crate::checker::padding::{self, Left};
use crate::checker::queued::{Queued, Ring};
use crate::checker::tlbs::Tlbs;
use crate::mmu::look::Look;
use e3k_regs::fields::{AdapterControl, EngineReset, MmuMode, RingAddress, RingWord};
use e3k_regs::packet::CspCommand;
use e3k_regs::register::Word;
use e3k_regs::{Access, GpuVa, Reg};
use std::collections::{BTreeMap, VecDeque};

pub(crate) const RINGS: usize = 10;
/// What is remembered of each ring.
const NOTES: usize = 6;

/// One ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct RingSeen {
    /// What was written last, by word; `None`: not seen.
    words: [Option<u32>; 4],
    /// Where the chip reads next, if that is known.
    pub(crate) position: Option<u32>,
    /// Nothing but padding was begun since it wrote a fence.
    settled: bool,
    /// The same, and nothing else is left, as [`Seen::look_ahead`] has found.
    padding: bool,
    /// When it halted.
    pub(crate) halted: Option<u64>,
    /// Since when its unit is in reset.
    pub(crate) held: Option<u64>,
    /// The reset that took its set-up, until it is set up anew.
    pub(crate) lost: Option<u64>,
    /// The Indicator in force that has Info but "off", and its event.
    pub(crate) indicator: Option<(u64, CspCommand)>,
    /// What packets name that wait.
    pub(crate) queued: Queued,
    notes: VecDeque<(u64, RingWord, u32)>,
}

impl RingSeen {
    pub(crate) fn word(&self, word: RingWord) -> Option<u32> {
        self.words[word as usize]
    }

    /// Whether it was started; `None`: not known.
    pub(crate) fn runs(&self) -> Option<bool> {
        let address = self.word(RingWord::Address)?;
        Some(RingAddress::from_bits(address).kickoff())
    }

    /// From where to where it has packets that it has not begun, but for padding behind
    /// its last fence; `None`: there are none, or it is not known.
    pub(crate) fn left(&self) -> Option<(u32, u32)> {
        let left = self.position.zip(self.word(RingWord::Tail));
        left.filter(|(head, tail)| head != tail && !self.padding)
    }

    /// The process id of its work.
    pub(crate) fn process_id(&self) -> u8 {
        self.indicator
            .map_or(0, |(_, command)| command.process_id())
    }

    /// What was written to it last, in words.
    pub(crate) fn history(&self) -> Vec<String> {
        let name = |word| match word {
            RingWord::Address => "address",
            RingWord::Size => "size",
            RingWord::Head => "Head",
            RingWord::Tail => "Tail",
        };
        let notes = self.notes.iter();
        let said =
            notes.map(|(at, word, value)| format!("{} = {value:#x} at event {at}", name(*word)));
        said.collect()
    }

    fn write(&mut self, at: u64, word: RingWord, value: u32) {
        if self.held.is_some() {
            return; // a unit in reset takes no values
        }
        self.words[word as usize] = Some(value);
        if self.notes.len() == NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((at, word, value));
        match word {
            RingWord::Head => self.position = Some(value),
            RingWord::Address => {
                self.queued.clear();
                if RingAddress::from_bits(value).kickoff() {
                    self.lost = None;
                } else {
                    self.indicator = None;
                }
            }
            RingWord::Size | RingWord::Tail => {}
        }
    }

    /// Tail is moved to `tail`: what waits there is looked at.
    fn doorbell(&mut self, at: u64, number: usize, tail: u32, look: &Look<'_>) {
        if self.position == self.word(RingWord::Tail) {
            self.queued.clear();
        }
        let words = [RingWord::Address, RingWord::Size, RingWord::Tail];
        let [Some(address), Some(size), Some(from)] = words.map(|word| self.word(word)) else {
            return;
        };
        let ring = Ring {
            number,
            base: GpuVa(u64::from(RingAddress::from_bits(address).page()) << 12),
            size,
            from,
            process_id: self.process_id(),
        };
        self.queued.doorbell(at, &ring, tail, look);
    }

    /// Everything is as after power-on.
    fn reset(&mut self, at: u64) {
        let ran = self.runs() == Some(true);
        *self = Self {
            words: [Some(0); 4],
            position: Some(0),
            lost: self.lost.or(ran.then_some(at)),
            held: self.held,
            notes: std::mem::take(&mut self.notes),
            ..Self::default()
        };
    }
}

/// What is known.
#[derive(Default)]
pub(crate) struct Seen {
    /// The number of the event.
    pub(crate) at: u64,
    /// Words of BAR0 that were written since the last reset, and which bits of them: their
    /// number is bounded by that of declared registers.
    words: BTreeMap<u32, (u32, u32)>,
    pub(crate) rings: [RingSeen; RINGS],
    /// The last function reset.
    pub(crate) reset: Option<u64>,
    /// Latched words of interrupts: when the line rose last and was not latched since.
    pub(crate) risen: Option<u64>,
    pub(crate) tlbs: Tlbs,
    pub(crate) kernel: Kernel,
    pub(crate) caches: Caches,
    pub(crate) owners: Owners,
}

impl Seen {
    /// Nothing but these caches.
    pub(crate) fn with(caches: Caches) -> Self {
        Self {
            caches,
            ..Self::default()
        }
    }

    /// What a register of four bytes was written last; `None`: nothing since power-on, the
    /// last reset or the checker's beginning.
    pub(crate) fn register(&self, reg: Reg) -> Option<u32> {
        self.words.get(&reg.offset()).map(|(value, _)| *value)
    }

    /// The same of one byte.
    pub(crate) fn byte(&self, reg: Reg) -> Option<u8> {
        let offset = reg.offset();
        let shift = 8 * (offset % 4);
        let (word, written) = self.words.get(&(offset & !3))?;
        (written >> shift & 0xff != 0).then_some((word >> shift & 0xff) as u8)
    }

    /// Whether every client translates; PA mode until somebody says so.
    pub(crate) fn va_mode(&self) -> bool {
        let mode = self.register(Reg::MmuMode).unwrap_or(0);
        MmuMode::from_bits(mode).va_mode()
    }

    /// Whether interrupts get out of the chip, as far as was seen.
    pub(crate) fn gate(&self) -> Option<bool> {
        let control = self.byte(Reg::AdapterControl)?;
        Some(AdapterControl::from_bits(control).interrupt_enable())
    }

    /// The ring and the process id of a packet in VA mode that is in a process's buffer.
    pub(crate) fn of_process(&self, command: &Command<'_>) -> Option<(&RingSeen, u8)> {
        let ring = self.rings.get(command.ring)?;
        let id = ring.process_id();
        (command.in_buffer && id != 0 && self.va_mode()).then_some((ring, id))
    }

    /// Tail of a ring is about to be moved to `tail`, a doorbell.
    pub(crate) fn doorbell(&mut self, ring: usize, tail: u32, look: &Look<'_>) {
        self.tlbs.doorbell(self.at, look);
        self.owners.doorbell(look);
        if let Some(state) = self.rings.get_mut(ring) {
            state.doorbell(self.at, ring, tail, look);
        }
    }

    /// What was written to a ring's registers last, in words.
    pub(crate) fn history(&self, ring: usize) -> Vec<String> {
        let ring = self.rings.get(ring);
        ring.map_or_else(Vec::new, RingSeen::history)
    }

    /// Looks at what rings have left, for those who ask about it next.
    pub(crate) fn look_ahead(&mut self, look: &Look<'_>) {
        for (n, ring) in self.rings.iter_mut().enumerate() {
            let left = || {
                Some(Left {
                    ring: n,
                    page: RingAddress::from_bits(ring.word(RingWord::Address)?).page(),
                    size: ring.word(RingWord::Size)?,
                    head: ring.position?,
                    tail: ring.word(RingWord::Tail)?,
                })
            };
            ring.padding = ring.settled && left().is_some_and(|left| padding::alone(&left, look));
        }
    }

    /// The words of a write over the bus, as declared registers.
    pub(crate) fn written(&self, word: u32, value: u32, lanes: u32) -> Vec<Written> {
        let before = self.words.get(&word).copied();
        let merged = before.map_or(0, |(before, _)| before) & !lanes | value & lanes;
        match Reg::word(word) {
            Word::Register(reg, index) => {
                let trigger = reg.info().access == Access::Trigger;
                let mut written = Written {
                    reg,
                    index,
                    value: if trigger { value & lanes } else { merged },
                    before: before.map(|(before, _)| before),
                };
                // A reset takes a ring's registers and no others.
                if let Some((ring, word)) = written.of_ring() {
                    written.before = self.rings.get(ring).and_then(|ring| ring.word(word));
                }
                vec![written]
            }
            Word::Bytes => (0..4)
                .filter(|byte| lanes >> (8 * byte) & 0xff != 0)
                .filter_map(|byte| {
                    let (reg, index) = Reg::find(word + byte)?;
                    let at = |word: u32| word >> (8 * byte) & 0xff;
                    let known = before.filter(|(_, written)| at(*written) != 0);
                    Some(Written {
                        reg,
                        index,
                        value: at(merged),
                        before: known.map(|(before, _)| at(before)),
                    })
                })
                .collect(),
            Word::Undeclared => Vec::new(),
        }
    }

    /// Takes note of a word that was written, declared or not.
    pub(crate) fn store(&mut self, word: u32, value: u32, lanes: u32) {
        if Reg::word(word) == Word::Undeclared {
            return;
        }
        let (held, written) = self.words.entry(word).or_default();
        *held = *held & !lanes | value & lanes;
        *written |= lanes;
    }

    /// Takes note of a fact that every rule has judged.
    pub(crate) fn note(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Register(written) => self.note_register(written),
            Fact::Packet(command) => self.note_packet(command),
            Fact::Halted(error) => {
                let at = self.at;
                if let Some(ring) = self.rings.get_mut(usize::from(error.ring)) {
                    ring.halted = Some(at);
                    ring.indicator = None;
                }
            }
            Fact::Fence(fence) => {
                self.kernel.fenced(self.at, fence);
                if let Some(ring) = self.rings.get_mut(usize::from(fence.ring)) {
                    ring.settled = true;
                    if !fence.in_buffer {
                        ring.queued.fenced(fence.ring_offset);
                    }
                }
            }
            Fact::Interrupt => self.risen = Some(self.at),
            Fact::Latched => self.risen = None,
            Fact::Reset => {
                let at = self.at;
                self.words.clear();
                for ring in &mut self.rings {
                    ring.held = None;
                    ring.reset(at);
                }
                (self.reset, self.risen) = (Some(at), None);
                self.tlbs.flushed();
                self.kernel.reset();
                self.owners.reset();
            }
            _ => {}
        }
    }

    fn note_register(&mut self, written: &Written) {
        let at = self.at;
        if let Some((n, word)) = written.of_ring() {
            let Some(ring) = self.rings.get_mut(n) else {
                return;
            };
            // Elsewhere from now on, or nowhere.
            let moves = ring.word(word) != Some(written.value);
            if word == RingWord::Address && moves && ring.held.is_none() {
                self.kernel.stopped(n);
            }
            ring.write(at, word, written.value);
            return;
        }
        match written.reg {
            Reg::BiuShadow => self.risen = None,
            Reg::EngineReset => {
                let units = EngineReset::from_bits(written.value);
                for (n, ring) in self.rings.iter_mut().enumerate() {
                    if holds(units, n) {
                        self.kernel.stopped(n);
                        ring.reset(at);
                        ring.held = Some(at);
                    } else {
                        ring.held = None;
                    }
                }
            }
            _ => {}
        }
    }

    fn note_packet(&mut self, command: &Command<'_>) {
        let at = self.at;
        let Some(ring) = self.rings.get_mut(command.ring) else {
            return;
        };
        if let Some(indicator) = command.indicator() {
            let off = indicator.info() == CspCommand::INFO_OFF;
            ring.indicator = (!off).then_some((at, indicator));
        }
        ring.settled &= command.is_padding();
        if !command.in_buffer {
            let next = command.offset.wrapping_add(command.len.wrapping_mul(4));
            let size = ring.word(RingWord::Size);
            ring.position = size.map(|size| if next >= size { 0 } else { next });
        }
    }
}

/// Whether these units in reset hold a ring (hardware reference 9.1).
pub(crate) fn holds(units: EngineReset, ring: usize) -> bool {
    let unit = match ring {
        7 => units.vcp0(),
        8 => units.vcp1(),
        9 => units.vpp(),
        _ => units.graphics() != 0,
    };
    units.all() || unit
}
