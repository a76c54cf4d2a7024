//! The command processor: fetches packets from ring 0 and the buffers it
//! calls, and executes them (hardware reference 10).

mod error;
mod execute;
mod ring;

pub use error::{CspError, CspErrorKind};
pub(crate) use execute::too_short;

use crate::biu::Biu;
use crate::blit::{Ff, Operation};
use crate::config::Defects;
use crate::gpu::Progress;
use crate::mmu::{Mxu, Request};
use e3k_regs::Reg;
use e3k_regs::addr::GpuVa;
use e3k_regs::fields::{FaultClient, RingWord, TopBusy};
use e3k_regs::packet::{self, opcode};
use error::ErrorLog;
use ring::Ring;

/// Prices in [`crate::Gpu::step`]'s budget, in bytes: what takes a host as long
/// as moving that many does. A packet, each dword behind its header, a walk.
const PACKET_COST: u64 = 256;
const DWORD_COST: u64 = 64;
const WALK_COST: u64 = 512;
/// Dwords of the longest packet that has an effect: `Set_Register` with 127 values.
const PACKET_DWORDS: usize = 128;
/// Buffers may call buffers this deep: the chip shows an L1 and an L2 DMA
/// address (hardware reference 9.4).
const CALL_DEPTH: usize = 2;
/// Internal fence counters (hardware reference 10.4).
const FENCE_SLOTS: usize = 32;

/// A called buffer: what is left of it.
#[derive(Clone, Copy, Debug)]
struct Call {
    at: GpuVa,
    dwords: u32,
}

/// One packet as fetched: as many of its dwords as can matter.
struct Packet {
    dwords: [u32; PACKET_DWORDS],
    len: usize,
    /// Fetched from a called buffer, not from the ring.
    in_buffer: bool,
}

impl Packet {
    /// The dwords after the header.
    fn payload(&self) -> &[u32] {
        self.dwords
            .get(1..self.len.min(PACKET_DWORDS))
            .unwrap_or(&[])
    }

    fn price(&self) -> u64 {
        PACKET_COST + DWORD_COST * self.payload().len() as u64
    }
}

pub(crate) struct Csp {
    ring: Ring,
    calls: Vec<Call>,
    process_id: u8,
    slots: [u16; FENCE_SLOTS],
    ff: Ff,
    operation: Option<Operation>,
    halted: bool,
    in_reset: bool,
    errors: ErrorLog,
}

impl Csp {
    pub(crate) fn new(defects: Defects) -> Self {
        Self {
            ring: Ring::default(),
            calls: Vec::with_capacity(CALL_DEPTH),
            process_id: 0,
            slots: [0; FENCE_SLOTS],
            ff: Ff::new(defects),
            operation: None,
            halted: false,
            in_reset: false,
            errors: ErrorLog::default(),
        }
    }

    /// Everything to its reset value; the error history stays.
    pub(crate) fn reset(&mut self) {
        self.stop();
        self.ring = Ring::default();
        self.slots = [0; FENCE_SLOTS];
        self.ff.reset();
        self.halted = false;
        self.in_reset = false;
    }

    /// Engine reset: held until released, set up anew afterwards.
    pub(crate) fn hold_in_reset(&mut self, hold: bool) {
        if hold {
            self.reset();
        }
        self.in_reset = hold;
    }

    pub(crate) fn errors(&self) -> impl Iterator<Item = &CspError> {
        self.errors.history()
    }

    pub(crate) fn has_work(&self) -> bool {
        let runs = self.ring.runs() && !self.halted && !self.in_reset;
        runs && (self.operation.is_some() || !self.calls.is_empty() || !self.ring.is_empty())
    }

    pub(crate) fn read_register(&self, reg: Reg, index: u32) -> Option<u32> {
        match reg {
            Reg::LowRings if index < 4 => Some(self.ring.read(RingWord::from_index(index))),
            Reg::TopBusy => {
                let working = self.has_work();
                Some(
                    TopBusy::new()
                        .with_csp(working || self.halted)
                        .with_mxu_a(working)
                        .into_bits(),
                )
            }
            _ => None,
        }
    }

    pub(crate) fn write_register(&mut self, reg: Reg, index: u32, value: u32) -> bool {
        if reg != Reg::LowRings || index >= 4 {
            return false;
        }
        // A unit in reset does not take values.
        if !self.in_reset {
            self.ring.write(RingWord::from_index(index), value);
            if !self.ring.runs() {
                self.stop();
            }
        }
        true
    }

    /// Works for about `budget` bytes' worth.
    pub(crate) fn step(&mut self, mxu: &mut Mxu, biu: &mut Biu, budget: u32) -> Progress {
        let mut left = u64::from(budget);
        while self.has_work() {
            let walks = mxu.counters.walks;
            let price = self.advance(mxu, biu);
            left = left.saturating_sub(price + (mxu.counters.walks - walks) * WALK_COST);
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

    /// One piece of the operation in flight, or one packet. Returns its price
    /// without the walks.
    fn advance(&mut self, mxu: &mut Mxu, biu: &mut Biu) -> u64 {
        if let Some(operation) = &mut self.operation {
            let (cost, done) = self.ff.advance(operation, mxu);
            if done {
                self.operation = None;
            }
            return cost;
        }
        let in_buffer = !self.calls.is_empty();
        if !in_buffer {
            mxu.faults.ring_offset = self.ring.head();
        }
        let mut header = 0;
        let result = self.fetch(mxu, &mut header).and_then(|packet| {
            self.execute(&packet, mxu, biu)?;
            Ok(packet.price())
        });
        match result {
            Ok(price) => {
                mxu.counters.packets += 1;
                price
            }
            Err(kind) => {
                self.errors.record(CspError {
                    ring: 0,
                    offset: mxu.faults.ring_offset,
                    in_buffer,
                    dword: header,
                    kind,
                });
                mxu.counters.ring_errors += 1;
                self.stop();
                self.halted = true;
                biu.csp_timeout();
                PACKET_COST
            }
        }
    }

    /// Drops what is in flight.
    fn stop(&mut self) {
        self.calls.clear();
        self.operation = None;
        self.process_id = 0;
    }

    /// The next packet, and moves past it.
    fn fetch(&mut self, mxu: &mut Mxu, header: &mut u32) -> Result<Packet, CspErrorKind> {
        let (at, available, request) = if let Some(call) = self.calls.last() {
            (
                call.at,
                call.dwords,
                self.request(FaultClient::BufferFetch, false),
            )
        } else {
            let (at, dwords) = self.ring.next()?;
            let client = FaultClient::RingFetch;
            (
                at,
                dwords,
                Request {
                    client,
                    process_id: 0,
                    write: false,
                },
            )
        };
        let in_buffer = !self.calls.is_empty();
        let mut packet = Packet {
            dwords: [0; PACKET_DWORDS],
            len: 1,
            in_buffer,
        };
        read_dwords(mxu, request, at, &mut packet.dwords[..1])?;
        *header = packet.dwords[0];
        let len = packet_dwords(*header)?;
        if len > available {
            return Err(CspErrorKind::Truncated {
                needed: len,
                available,
            });
        }
        packet.len = len as usize;
        if packet::Header::from_bits(*header).opcode() != opcode::SKIP {
            let end = packet.len.min(PACKET_DWORDS);
            read_dwords(mxu, request, at.add(4), &mut packet.dwords[1..end])?;
        }
        self.consume(len);
        Ok(packet)
    }

    fn consume(&mut self, dwords: u32) {
        match self.calls.last_mut() {
            Some(call) => {
                call.at = call.at.add(u64::from(dwords) * 4);
                call.dwords -= dwords;
            }
            None => self.ring.consume(dwords),
        }
        // A buffer that has ended is left before its last packet runs, so a
        // call at its end does not count as nesting deeper.
        if self.calls.last().is_some_and(|call| call.dwords == 0) {
            self.calls.pop();
        }
    }

    /// A request for the work that is being done: the Indicator's process id.
    fn request(&self, client: FaultClient, write: bool) -> Request {
        Request {
            client,
            process_id: self.process_id,
            write,
        }
    }
}

fn read_dwords(
    mxu: &mut Mxu,
    request: Request,
    at: GpuVa,
    dwords: &mut [u32],
) -> Result<(), CspErrorKind> {
    let mut bytes = [0; PACKET_DWORDS * 4];
    let bytes = &mut bytes[..dwords.len() * 4];
    mxu.read(request, at, bytes)
        .map_err(|_| CspErrorKind::FetchFault)?;
    for (dword, raw) in dwords.iter_mut().zip(bytes.as_chunks().0) {
        *dword = u32::from_le_bytes(*raw);
    }
    Ok(())
}

/// Length of a packet in dwords, header included (hardware reference 10.2).
fn packet_dwords(header: u32) -> Result<u32, CspErrorKind> {
    let fields = packet::Header::from_bits(header);
    Ok(match fields.opcode() {
        opcode::SKIP => 1 + u32::from(packet::Skip::from_bits(header).dwords()),
        opcode::DMA if matches!(packet::Dma::from_bits(header).mode(), 1 | 2) => 4,
        opcode::DMA => 3,
        opcode::WAIT if packet::Wait::from_bits(header).mode() == 3 => {
            return Err(CspErrorKind::Unsupported {
                what: "an external Wait, whose length is unknown",
            });
        }
        opcode::WAIT => 1,
        opcode::SET_REGISTER => 1 + u32::from(packet::SetRegister::from_bits(header).count()),
        opcode::FENCE => 1 + u32::from(packet::Fence::from_bits(header).count()),
        opcode::BLOCK => match fields.block() {
            packet::block::CSP => 1 + u32::from(packet::CspCommand::from_bits(header).count()),
            15 => 1 + (header & 0x7fff),
            _ => 1 + u32::from(packet::BlockCommand::from_bits(header).count()),
        },
        3 => return Err(CspErrorKind::Unsupported { what: "Query_Dump" }),
        6 => return Err(CspErrorKind::Unsupported { what: "Set_Object" }),
        7 => return Err(CspErrorKind::Unsupported { what: "Dip (draw)" }),
        0xB => {
            return Err(CspErrorKind::Unsupported {
                what: "Gp (compute)",
            });
        }
        0xC => return Err(CspErrorKind::Unsupported { what: "Vpp" }),
        0xF => {
            return Err(CspErrorKind::Unsupported {
                what: "a TBR indicator",
            });
        }
        _ => return Err(CspErrorKind::UnknownOpcode),
    })
}
