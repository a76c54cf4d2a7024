//! The command processor: ten rings, of which four run (hardware reference 10).
//! They take turns; each fetches packets from its memory and from the buffers
//! it calls, and executes them in order.

mod board;
mod dialect;
mod engine;
pub(crate) mod error;
mod execute;
pub(crate) mod fences;
mod flags;
pub(crate) mod packet;
mod registers;
mod ring;
mod saved;
mod status;
mod transfer;

pub(crate) use board::Board;
pub use error::{CspError, CspErrorKind, UnmetWait};
pub use fences::FenceRecord;
pub use status::{RingState, RingStatus};

use crate::blit::Ff;
use crate::budget::{Allowance, PACKET_COST, TURN};
use crate::defect::Defect;
use crate::history::History;
use crate::mmu::Stop;
use crate::saved::csp::CommandProcessor;
use crate::saved::{Damage, ensure};
use crate::watch::{Event, Onlooker};
use dialect::{Dialect, RINGS, VCP0, VCP1, VPP};
use e3k_regs::fields::{BlSize, EngineReset, RingWord, TopBusy, VideoBusy};
use e3k_regs::packet::halves;
use e3k_regs::{Chip, Reg};
use engine::{Engine, Operation};
use error::Trouble;
use fences::Fences;
use packet::Packet;

/// Whether the engines have something left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing until the next register access.
    Idle,
    /// Call [`crate::Gpu::step`] again.
    Pending,
}

pub(crate) struct Csp {
    engines: [Engine; RINGS],
    /// The ring whose turn it is, and what is left of it.
    current: usize,
    turn: u64,
    ff: Ff,
    /// 0x4900C.
    flag_buffer: BlSize,
    /// Headers of the last packets from called buffers, by depth.
    commands: [u32; 2],
    /// Nanoseconds.
    clock: u64,
    errors: History<CspError>,
    waits: History<UnmetWait>,
    fences: Fences,
}

impl Csp {
    pub(crate) fn new() -> Self {
        Self {
            engines: std::array::from_fn(|ring| Engine::new(Dialect::of(ring))),
            current: 0,
            turn: 0,
            ff: Ff::new(),
            flag_buffer: BlSize::new(),
            commands: [0; 2],
            clock: 0,
            errors: History::default(),
            waits: History::default(),
            fences: Fences::default(),
        }
    }

    /// Without the last fences.
    pub(crate) fn save(&self) -> CommandProcessor {
        CommandProcessor {
            rings: self.engines.iter().map(Engine::save).collect(),
            current: self.current,
            turn: self.turn,
            surfaces: self.ff.save(),
            flag_buffer: self.flag_buffer,
            commands: self.commands,
            clock: self.clock,
            errors: self.errors.save(),
            waits: self.waits.save(),
        }
    }

    /// # Errors
    /// No GPU can have come there.
    pub(crate) fn restore(saved: CommandProcessor) -> Result<Self, Damage> {
        let CommandProcessor {
            rings,
            current,
            turn,
            surfaces,
            flag_buffer,
            commands,
            clock,
            errors,
            waits,
        } = saved;
        ensure(rings.len() == RINGS && current < RINGS, || {
            format!(
                "{} rings of which {current} runs, expected {RINGS}",
                rings.len()
            )
        })?;
        ensure(turn <= TURN, || {
            format!("a turn of {turn}, expected at most {TURN}")
        })?;
        let mut csp = Self::new();
        for (number, (engine, ring)) in csp.engines.iter_mut().zip(rings).enumerate() {
            let restored = Engine::restore(Dialect::of(number), ring);
            *engine = restored.map_err(|damage| damage.of(format_args!("ring {number}")))?;
        }
        Ok(Self {
            current,
            turn,
            ff: Ff::restore(surfaces)?,
            flag_buffer,
            commands,
            clock,
            errors: History::restore(errors)?,
            waits: History::restore(waits)?,
            ..csp
        })
    }

    /// Everything to its reset value; the clock and the histories stay.
    pub(crate) fn reset(&mut self) {
        let Self {
            engines,
            current,
            turn,
            ff,
            flag_buffer,
            commands,
            clock: _,
            errors: _,
            waits: _,
            fences: _,
        } = self;
        for engine in engines {
            engine.reset();
        }
        (*current, *turn) = (0, 0);
        ff.reset();
        *flag_buffer = BlSize::new();
        *commands = [0; 2];
    }

    /// Engine reset (hardware reference 9.1): the rings of units with a one are
    /// held, the others released.
    pub(crate) fn hold_in_reset(&mut self, watch: impl Onlooker, units: EngineReset) {
        let graphics = units.all() || units.graphics() != 0;
        if graphics {
            self.ff.reset();
            self.commands = [0; 2];
        }
        if watch.bends(Defect::EngineResetIgnored) {
            return;
        }
        let mut video = [units.vcp0(), units.vcp1()];
        if watch.bends(Defect::VideoResetsSwapped) {
            video.reverse();
        }
        for (ring, engine) in self.engines.iter_mut().enumerate() {
            engine.hold_in_reset(match ring {
                VCP0 => units.all() || video[0],
                VCP1 => units.all() || video[1],
                VPP => units.all() || units.vpp(),
                _ => graphics,
            });
        }
    }

    pub(crate) fn errors(&self) -> impl Iterator<Item = &CspError> {
        self.errors.iter()
    }

    pub(crate) fn unmet_waits(&self) -> impl Iterator<Item = &UnmetWait> {
        self.waits.iter()
    }

    pub(crate) fn fences(&self) -> impl Iterator<Item = &FenceRecord> {
        self.fences.iter()
    }

    /// All ten rings.
    pub(crate) fn rings(&self) -> impl Iterator<Item = RingStatus> {
        (0..)
            .zip(&self.engines)
            .map(|(ring, engine)| engine.status(ring))
    }

    /// In nanoseconds.
    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// Nanoseconds; the clock never goes back.
    pub(crate) fn set_clock(&mut self, now: u64) {
        self.clock = self.clock.max(now);
    }

    pub(crate) fn has_work(&self) -> bool {
        self.engines.iter().any(Engine::has_work)
    }

    /// Software has acknowledged every fault: rings that stood for one go on.
    pub(crate) fn faults_acknowledged(&mut self) {
        for engine in &mut self.engines {
            engine.go_on();
        }
    }

    pub(crate) fn read_register(
        &self,
        watch: impl Onlooker,
        reg: Reg,
        index: u32,
        chip: Chip,
    ) -> Option<u32> {
        Some(match reg {
            Reg::LowRings | Reg::VideoRings => {
                let engine = self.engines.get(ring_of(reg, index))?;
                engine.read(watch, RingWord::from_index(index))
            }
            Reg::TopBusy => self.top_busy().into_bits(),
            Reg::VideoBusy => VideoBusy::new()
                .with_vcp0(self.engines[VCP0].busy())
                .with_vcp1(self.engines[VCP1].busy())
                .with_vpp(self.engines[VPP].busy())
                .into_bits(),
            Reg::BlSize => self.flag_buffer.into_bits(),
            Reg::L1Dma => self.commands[0],
            Reg::L2Dma => self.commands[1],
            Reg::RingCommand => self.engines.get(index as usize)?.command(),
            Reg::CspTimestamp | Reg::CspTimestamp1020 if reg == chip.timestamp() => {
                *halves(self.clock).get(index as usize)?
            }
            _ => return None,
        })
    }

    pub(crate) fn write_register(
        &mut self,
        watch: impl Onlooker,
        reg: Reg,
        index: u32,
        value: u32,
    ) -> bool {
        if let Reg::LowRings | Reg::VideoRings = reg {
            if let Some(engine) = self.engines.get_mut(ring_of(reg, index)) {
                engine.write(watch, RingWord::from_index(index), value);
            }
            return true;
        }
        self.write_flags(reg, value)
    }

    fn write_flags(&mut self, reg: Reg, value: u32) -> bool {
        if reg == Reg::BlSize {
            self.flag_buffer = BlSize::from_bits(value);
        }
        reg == Reg::BlSize
    }

    /// The command processor feeds rings 0 to 6; every ring uses the crossbar.
    fn top_busy(&self) -> TopBusy {
        TopBusy::new()
            .with_csp(self.engines[..VCP0].iter().any(Engine::busy))
            .with_mxu_a(self.has_work())
    }

    /// Works until about `budget` is spent.
    pub(crate) fn step<W: Onlooker>(&mut self, board: &mut Board<'_, W>, budget: u32) -> Progress {
        let mut left = u64::from(budget);
        while let Some(ring) = self.next_turn() {
            let faulty = board.mxu.fault_pending();
            let mut allowance = Allowance::new(
                left,
                self.turn,
                self.is_alone(ring),
                board.mxu.counters.walks,
            );
            self.advance(ring, &mut allowance, board);
            if board.mxu.take_stand() {
                self.engines[ring].stand();
            } else if faulty && !board.mxu.fault_pending() {
                // A packet has acknowledged for the other rings.
                self.faults_acknowledged();
            }
            self.turn = allowance.turn();
            left = allowance.left();
            if left == 0 {
                break;
            }
        }
        if self.has_work() {
            Progress::Pending
        } else {
            Progress::Idle
        }
    }

    /// The ring that works now: the same one until its turn is over or it has
    /// nothing to do, then the next that has. How a run is cut into steps
    /// makes no difference.
    fn next_turn(&mut self) -> Option<usize> {
        if self.turn == 0 || !self.engines[self.current].has_work() {
            self.current = (1..=RINGS)
                .map(|distance| (self.current + distance) % RINGS)
                .find(|ring| self.engines[*ring].has_work())?;
            self.turn = TURN;
        }
        Some(self.current)
    }

    /// Whether no other ring has work.
    fn is_alone(&self, ring: usize) -> bool {
        let mut others = (0..).zip(&self.engines).filter(|(other, _)| *other != ring);
        others.all(|(_, engine)| !engine.has_work())
    }

    /// Goes on with the operation in flight, or executes one packet.
    fn advance<W: Onlooker>(
        &mut self,
        ring: usize,
        allowance: &mut Allowance,
        board: &mut Board<'_, W>,
    ) {
        let engine = &self.engines[ring];
        if let Some(operation) = engine.operation
            && !(engine.has_packets() && board.watch.bends(Defect::FenceBeforeData))
        {
            return self.advance_operation(ring, operation, allowance, board);
        }
        let number = u8::try_from(ring).unwrap_or(u8::MAX);
        let engine = &mut self.engines[ring];
        let in_buffer = engine.in_buffer();
        board.mxu.faults.ring = number;
        board.mxu.faults.ring_offset = engine.locate();
        let before = engine.cursor();
        let mut header = 0;
        let result = self.packet(ring, &mut header, board);
        let engine = &mut self.engines[ring];
        let price = match result {
            Ok(price) => {
                board.mxu.counters.packets += 1;
                price
            }
            Err(Trouble::Stall) => {
                engine.return_to(before);
                PACKET_COST
            }
            Err(Trouble::Halt(kind)) => {
                let error = CspError {
                    ring: number,
                    offset: engine.position(),
                    in_buffer,
                    dword: header,
                    kind,
                };
                board.watch.saw(&Event::Halted(&error), &board.mxu.look());
                self.errors.record(error);
                board.mxu.counters.ring_errors += 1;
                engine.halt();
                board.biu.ring_halted(board.watch, number);
                PACKET_COST
            }
        };
        allowance.spend(price, board.mxu.counters.walks);
    }

    fn packet<W: Onlooker>(
        &mut self,
        ring: usize,
        header: &mut u32,
        board: &mut Board<'_, W>,
    ) -> Result<u64, Trouble> {
        let engine = &mut self.engines[ring];
        let mut packet = Packet::default();
        let commands = &mut self.commands;
        engine.fetch(board.watch, board.mxu, header, commands, &mut packet)?;
        let event = Event::Packet {
            ring: u8::try_from(ring).unwrap_or(u8::MAX),
            offset: engine.position(),
            in_buffer: packet.in_buffer,
            dwords: packet.fetched(),
            len: packet.len,
        };
        board.watch.saw(&event, &board.mxu.look());
        engine.consume(board.watch, packet.len);
        self.execute(ring, &packet, board)?;
        Ok(packet.price())
    }

    fn advance_operation<W: Onlooker>(
        &mut self,
        ring: usize,
        operation: Operation,
        allowance: &mut Allowance,
        board: &mut Board<'_, W>,
    ) {
        let engine = &self.engines[ring];
        board.mxu.faults.ring = u8::try_from(ring).unwrap_or(u8::MAX);
        board.mxu.faults.ring_offset = engine.position();
        let mut operation = operation;
        let result = match &mut operation {
            Operation::Draw(draw) => {
                let (watch, mxu) = (board.watch, &mut *board.mxu);
                Ok((0, self.ff.advance(watch, draw, allowance, mxu)))
            }
            Operation::Transfer(transfer) => self.advance_transfer(ring, transfer, board),
            Operation::Flags(clear) => {
                let (at, bytes) = clear.piece();
                let event = Event::Flags { at, bytes };
                board.watch.saw(&event, &board.mxu.look());
                Ok(clear.advance(&board.mxu.memory.vram))
            }
        };
        let price = match result {
            Ok((price, done)) => {
                self.engines[ring].operation = (!done).then_some(operation);
                price
            }
            // The same piece again, later.
            Err(Stop::Stalled | Stop::Dropped) => PACKET_COST,
        };
        allowance.spend(price, board.mxu.counters.walks);
    }
}

/// The ring that word `index` of a bank belongs to.
fn ring_of(bank: Reg, index: u32) -> usize {
    let ring = index as usize / 4;
    if bank == Reg::VideoRings {
        VCP0 + ring
    } else {
        ring
    }
}
