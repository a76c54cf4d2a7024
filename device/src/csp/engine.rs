//! One ring with its state: where it reads, what it calls, what is in flight.

use super::dialect::Dialect;
use super::error::{CspErrorKind, Trouble};
use super::flags::FlagClear;
use super::packet::{PACKET_DWORDS, Packet, packet_dwords};
use super::ring::Ring;
use super::status::{RingState, RingStatus};
use super::transfer::Transfer;
use crate::blit;
use crate::defect::Defect;
use crate::mmu::{Mxu, Request, Stop};
use crate::watch::Onlooker;
use e3k_regs::GpuVa;
use e3k_regs::fields::{FaultClient, RingWord};
use e3k_regs::packet::{self, opcode};

/// Buffers may call buffers this deep: the chip shows an L1 and an L2 DMA
/// address (hardware reference 9.4).
pub(super) const CALL_DEPTH: usize = 2;
/// Internal fence counters (hardware reference 10.4).
const FENCE_SLOTS: usize = 32;

/// A called buffer: what is left of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call {
    pub(super) at: GpuVa,
    pub(super) dwords: u32,
    /// What "offset" addressing in it adds to.
    pub(super) context: Option<GpuVa>,
}

/// Where the next packet comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calls {
    stack: [Call; CALL_DEPTH],
    depth: usize,
}

impl Calls {
    /// The outer one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.stack[..self.depth].iter()
    }

    fn last(&self) -> Option<&Call> {
        self.stack[..self.depth].last()
    }

    fn last_mut(&mut self) -> Option<&mut Call> {
        self.stack[..self.depth].last_mut()
    }

    /// `false` if there is no room.
    pub(super) fn push(&mut self, call: Call) -> bool {
        let Some(free) = self.stack.get_mut(self.depth) else {
            return false;
        };
        *free = call;
        self.depth += 1;
        true
    }
}

/// Work that takes more than one piece.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Draw(blit::Operation),
    Transfer(Transfer),
    Flags(FlagClear),
}

/// A place to return to when a packet cannot be executed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    head: u32,
    calls: Calls,
}

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) dialect: Dialect,
    pub(super) ring: Ring,
    pub(super) calls: Calls,
    pub(super) process_id: u8,
    pub(super) slots: [u16; FENCE_SLOTS],
    pub(super) operation: Option<Operation>,
    pub(super) halted: bool,
    /// Stopped by a page fault until software has cleared `MXU_INT_STATUS`.
    pub(super) stands: bool,
    pub(super) in_reset: bool,
    /// Header of the last packet from the ring.
    pub(super) command: u32,
    /// Offset of the last packet from the ring.
    pub(super) position: u32,
}

impl Engine {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            ring: Ring::default(),
            calls: Calls::default(),
            process_id: 0,
            slots: [0; FENCE_SLOTS],
            operation: None,
            halted: false,
            stands: false,
            in_reset: false,
            command: 0,
            position: 0,
        }
    }

    /// Everything to its reset value.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.dialect);
    }

    /// Engine reset: held until released, set up anew afterwards.
    pub(super) fn hold_in_reset(&mut self, hold: bool) {
        if hold {
            self.reset();
        }
        self.in_reset = hold;
    }

    pub(super) fn halt(&mut self) {
        self.stop();
        self.halted = true;
    }

    /// Drops what is in flight.
    fn stop(&mut self) {
        self.calls = Calls::default();
        self.operation = None;
        self.process_id = 0;
        self.stands = false;
    }

    pub(super) fn stand(&mut self) {
        self.stands = true;
    }

    /// The fault has been acknowledged.
    pub(super) fn go_on(&mut self) {
        self.stands = false;
    }

    pub(super) fn has_work(&self) -> bool {
        self.pending() && !self.stands && !self.halted && !self.in_reset
    }

    /// Something is unfinished, whether or not it gets on.
    pub(super) fn busy(&self) -> bool {
        self.halted || self.pending() && !self.in_reset
    }

    fn pending(&self) -> bool {
        self.ring.runs() && (self.operation.is_some() || self.has_packets())
    }

    /// As ring number `ring` shows itself.
    pub(super) fn status(&self, ring: u8) -> RingStatus {
        let state = if self.in_reset {
            RingState::InReset
        } else if self.halted {
            RingState::Halted
        } else if !self.ring.runs() {
            RingState::Stopped
        } else if self.stands {
            RingState::Waiting
        } else if self.pending() {
            RingState::Running
        } else {
            RingState::Idle
        };
        RingStatus {
            ring,
            started: self.ring.runs(),
            state,
            base: self.ring.base().0,
            size: self.ring.read(RingWord::Size),
            head: self.ring.head(),
            tail: self.ring.read(RingWord::Tail),
            last_offset: self.position,
            last_dword: self.command,
            process_id: self.process_id,
            buffer: self.calls.last().map(|call| call.at.0),
            in_operation: self.operation.is_some(),
        }
    }

    /// Whether packets are left to fetch.
    pub(super) fn has_packets(&self) -> bool {
        self.calls.depth > 0 || !self.ring.is_empty()
    }

    pub(super) fn in_buffer(&self) -> bool {
        self.calls.depth > 0
    }

    pub(super) fn position(&self) -> u32 {
        self.position
    }

    /// Where in the ring the next packet is, or the call that leads to it.
    pub(super) fn locate(&mut self) -> u32 {
        if !self.in_buffer() {
            self.position = self.ring.head();
        }
        self.position
    }

    pub(super) fn command(&self) -> u32 {
        self.command
    }

    pub(super) fn read(&self, watch: impl Onlooker, word: RingWord) -> u32 {
        if word == RingWord::Head && watch.bends(Defect::HeadLags) {
            return self.position;
        }
        self.ring.read(word)
    }

    pub(super) fn write(&mut self, watch: impl Onlooker, word: RingWord, value: u32) {
        if word == RingWord::Tail && watch.bends(Defect::DoorbellLost) {
            return;
        }
        // A unit in reset does not take values.
        if !self.in_reset || watch.bends(Defect::HeldRingTakesWrites) {
            self.ring.write(word, value);
            if !self.ring.runs() {
                self.stop();
            }
        }
    }

    pub(super) fn cursor(&self) -> Cursor {
        Cursor {
            head: self.ring.head(),
            calls: self.calls,
        }
    }

    pub(super) fn return_to(&mut self, cursor: Cursor) {
        self.ring.set_head(cursor.head);
        self.calls = cursor.calls;
    }

    /// Calls a buffer; `false` at the deepest level.
    pub(super) fn call(&mut self, call: Call) -> bool {
        self.calls.push(call)
    }

    /// The next packet; [`Self::consume`] moves past it. `header` is set as
    /// soon as it is known. `packet` is written where it is: moving it would take
    /// longer than executing most.
    pub(super) fn fetch<W: Onlooker>(
        &mut self,
        watch: W,
        mxu: &mut Mxu,
        header: &mut u32,
        commands: &mut [u32; CALL_DEPTH],
        packet: &mut Packet,
    ) -> Result<(), Trouble> {
        if self.dialect == Dialect::Disabled {
            return Err(CspErrorKind::Disabled.into());
        }
        let (at, available, request) = self.next()?;
        packet.in_buffer = self.in_buffer();
        packet.context = self.calls.last().and_then(|call| call.context);
        let mut first = [0; 4];
        read(watch, mxu, request, at, &mut first)?;
        *header = u32::from_le_bytes(first);
        packet.dwords[0] = *header;
        let called = self.calls.depth.checked_sub(1);
        match called.and_then(|level| commands.get_mut(level)) {
            Some(command) => *command = *header,
            None => self.command = *header,
        }
        packet.len = packet_dwords(*header, self.dialect)?;
        if packet.len > available {
            return Err(Trouble::Halt(CspErrorKind::Truncated {
                needed: packet.len,
                available,
            }));
        }
        if packet::Header::from_bits(*header).opcode() != opcode::SKIP {
            let end = (packet.len as usize).min(PACKET_DWORDS);
            let dwords = &mut packet.dwords[1..end];
            let mut bytes = [0; PACKET_DWORDS * 4];
            let bytes = &mut bytes[..dwords.len() * 4];
            read(watch, mxu, request, at.add(4), bytes)?;
            for (dword, raw) in dwords.iter_mut().zip(bytes.as_chunks().0) {
                *dword = u32::from_le_bytes(*raw);
            }
        }
        Ok(())
    }

    /// Where the next packet is, how many dwords are there, and who reads it.
    fn next(&self) -> Result<(GpuVa, u32, Request), CspErrorKind> {
        if let Some(call) = self.calls.last() {
            let request = self.request(FaultClient::BufferFetch, false, true);
            return Ok((call.at, call.dwords, request));
        }
        let (at, dwords) = self.ring.next()?;
        Ok((
            at,
            dwords,
            self.request(FaultClient::RingFetch, false, false),
        ))
    }

    pub(super) fn consume(&mut self, watch: impl Onlooker, dwords: u32) {
        match self.calls.last_mut() {
            Some(call) => {
                call.at = call.at.add(u64::from(dwords) * 4);
                call.dwords -= dwords;
            }
            None => self.ring.consume(watch, dwords),
        }
        // A buffer that has ended is left before its last packet runs, so a
        // call at its end does not count as nesting deeper.
        if self.calls.last().is_some_and(|call| call.dwords == 0) {
            self.calls.depth -= 1;
        }
    }

    /// An access of this ring's. What the ring itself asks for is the kernel's
    /// and has process id 0; work has the Indicator's.
    pub(super) fn request(&self, client: FaultClient, write: bool, work: bool) -> Request {
        Request {
            client,
            process_id: if work { self.process_id } else { 0 },
            write,
        }
    }
}

fn read<W: Onlooker>(
    watch: W,
    mxu: &mut Mxu,
    request: Request,
    at: GpuVa,
    bytes: &mut [u8],
) -> Result<(), Trouble> {
    let result = mxu.read(watch, request, at, bytes);
    result.map_err(|stop| match stop {
        Stop::Dropped => Trouble::Halt(CspErrorKind::FetchFault),
        Stop::Stalled => Trouble::Stall,
    })
}
