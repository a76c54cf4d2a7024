//! The ten rings (hardware reference 10.1): their registers, what each has in
//! flight, and how packets are fetched.

use super::draw::Piece;
use super::mmu::{Access, Missed};
use super::packets::{Trouble, length};
use super::{Naive, RingError, Why};
use std::collections::VecDeque;

/// Who fetches, by the bit in `MXU_INT_STATUS`.
const RING_FETCH: u32 = 0;
const BUFFER_FETCH: u32 = 1;

/// More pieces than any program here has, unless it calls itself for ever.
const PATIENCE: usize = 50_000;

/// A called buffer.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) at: u64,
    /// Dwords left.
    pub(super) left: u32,
    /// What "offset" addressing in it adds to.
    pub(super) context: Option<u64>,
}

#[derive(Default)]
pub(super) struct Ring {
    held: bool,
    halted: bool,
    /// At or behind a fault that is not acknowledged.
    pub(super) stands: bool,
    pub(super) calls: Vec<Call>,
    /// The last Indicator's process id.
    pub(super) process: u8,
    pub(super) slots: [u16; 32],
    /// What is left of the last packet.
    pub(super) pieces: VecDeque<Piece>,
    /// Where the packet in execution, or the call of its buffer, is in the ring.
    pub(super) offset: u32,
}

/// The first of its four registers.
fn base(ring: usize) -> u32 {
    let ring = u32::try_from(ring).unwrap();
    if ring < 7 {
        0x3001C + ring * 16
    } else {
        0x30600 + (ring - 7) * 16
    }
}

/// The ring's last command (9.4).
fn last_command(ring: usize) -> u32 {
    0x303C0 + u32::try_from(ring).unwrap() * 4
}

impl Naive {
    /// Address, Size, Head and Tail.
    fn ring_register(&self, ring: usize, word: u32) -> u32 {
        self.get(base(ring) + word * 4)
    }

    pub(super) fn write_ring(&mut self, word: u32, value: u32) {
        let ring = (0..10).find(|ring| word - base(*ring) < 16);
        let ring = ring.unwrap();
        if self.rings[ring].held {
            return;
        }
        self.put(word, value);
        if self.ring_register(ring, 0) >> 31 == 0 {
            self.stop(ring);
        }
    }

    /// Drops the work in flight.
    fn stop(&mut self, ring: usize) {
        let ring = &mut self.rings[ring];
        ring.calls.clear();
        ring.pieces.clear();
        ring.process = 0;
        ring.stands = false;
    }

    /// Engine reset (9.1): bit 0 is everything, 2 to 5 the 3D units.
    pub(super) fn hold_in_reset(&mut self, units: u32) {
        for ring in 0..10 {
            let its = match ring {
                7 => 1 << 7,
                8 => 1 << 8,
                9 => 1 << 6,
                _ => 0b11_1100,
            };
            if units & (1 | its) == 0 {
                self.rings[ring].held = false;
                continue;
            }
            self.rings[ring] = Ring {
                held: true,
                ..Ring::default()
            };
            for word in 0..4 {
                self.put(base(ring) + word * 4, 0);
            }
            self.put(last_command(ring), 0);
            if ring == 0 {
                self.ff.fill(0);
                self.put(0x303B8, 0);
                self.put(0x303BC, 0);
            }
        }
    }

    fn has_something(&self, ring: usize) -> bool {
        let Ring { pieces, calls, .. } = &self.rings[ring];
        let behind = self.ring_register(ring, 2) != self.ring_register(ring, 3);
        let runs = self.ring_register(ring, 0) >> 31 != 0 && !self.rings[ring].held;
        runs && (!pieces.is_empty() || !calls.is_empty() || behind)
    }

    /// Whether a ring has work, or is halted.
    pub(super) fn busy(&self, ring: usize) -> bool {
        self.rings[ring].halted || self.has_something(ring)
    }

    fn gets_on(&self, ring: usize) -> bool {
        let Ring { halted, stands, .. } = self.rings[ring];
        self.has_something(ring) && !halted && !stands
    }

    /// The rings that have something to do now.
    pub(crate) fn working(&self) -> impl Iterator<Item = usize> {
        (0..10).filter(|ring| self.gets_on(*ring))
    }

    pub(crate) fn works(&self) -> bool {
        self.working().next().is_some()
    }

    /// Rings that stand go on when no fault is left.
    pub(super) fn go_on(&mut self) {
        if self.get(0x49038) == 0 {
            for ring in &mut self.rings {
                ring.stands = false;
            }
        }
    }

    /// Runs until there is nothing left to do.
    pub(crate) fn run(&mut self) {
        for _ in 0..PATIENCE {
            self.go_on();
            let working: Vec<_> = self.working().collect();
            match *working {
                [] => {
                    self.settle();
                    return;
                }
                [ring] if !self.undescribed => self.advance(ring),
                // In which order rings work is not said.
                _ => break,
            }
        }
        self.undescribed = true;
    }

    /// A piece, or a packet.
    fn advance(&mut self, ring: usize) {
        self.ring = ring;
        if let Some(piece) = self.rings[ring].pieces.front().cloned() {
            if self.perform(&piece) != Err(Missed::Later) {
                self.rings[ring].pieces.pop_front();
            }
            return;
        }
        let in_buffer = !self.rings[ring].calls.is_empty();
        let head = self.ring_register(ring, 2);
        if !in_buffer {
            self.rings[ring].offset = head;
        }
        let calls = self.rings[ring].calls.clone();
        let mut header = 0;
        let result = self
            .fetch(&mut header)
            .and_then(|payload| self.execute(header, &payload, calls.last()));
        match result {
            Ok(()) => {}
            Err(Trouble::Later) => {
                self.rings[ring].calls = calls;
                self.put(base(ring) + 8, head);
            }
            Err(Trouble::Halt(why)) => {
                self.errors.push(RingError {
                    ring,
                    offset: self.rings[ring].offset,
                    in_buffer,
                    header,
                    why,
                });
                self.stop(ring);
                self.rings[ring].halted = true;
                let interrupt = match ring {
                    7 => 2,
                    8 => 6,
                    9 => 18,
                    _ => 16,
                };
                self.signal(0x8548, interrupt);
            }
        }
    }

    /// The header and the payload of the next packet; moves past it.
    fn fetch(&mut self, header: &mut u32) -> Result<Vec<u32>, Trouble> {
        if matches!(self.ring, 1..=6) {
            return Err(Trouble::Halt(Why::Disabled));
        }
        let (at, available) = match self.rings[self.ring].calls.last() {
            Some(call) => (call.at, call.left),
            None => self.ring_position()?,
        };
        *header = self.fetch_dword(at)?;
        let shown_at = match self.rings[self.ring].calls.len() {
            0 => last_command(self.ring),
            1 => 0x303B8,
            _ => 0x303BC,
        };
        self.put(shown_at, *header);
        let needed = length(self.ring, *header)?;
        if needed > available {
            return Err(Trouble::Halt(Why::Truncated { needed, available }));
        }
        let mut payload = vec![];
        if *header >> 28 != 0 {
            // What a skip jumps over is not looked at.
            for n in 1..needed.into() {
                payload.push(self.fetch_dword(at + n * 4)?);
            }
        }
        self.move_past(needed);
        Ok(payload)
    }

    fn ring_position(&self) -> Result<(u64, u32), Why> {
        let [size, head, tail] = [1, 2, 3].map(|word| self.ring_register(self.ring, word));
        if (size | head | tail) % 4 != 0 || head >= size || tail >= size {
            return Err(Why::BadRing);
        }
        let end = if tail > head { tail } else { size };
        let page = u64::from(self.ring_register(self.ring, 0) & 0x0fff_ffff);
        Ok(((page << 12) + u64::from(head), (end - head) / 4))
    }

    fn move_past(&mut self, dwords: u32) {
        let ring = self.ring;
        if let Some(call) = self.rings[ring].calls.last_mut() {
            call.at += u64::from(dwords) * 4;
            call.left -= dwords;
            if call.left == 0 {
                self.rings[ring].calls.pop();
            }
        } else {
            let head = self.ring_register(ring, 2) + dwords * 4;
            let wraps = head >= self.ring_register(ring, 1);
            self.put(base(ring) + 8, if wraps { 0 } else { head });
        }
    }

    fn fetch_dword(&mut self, va: u64) -> Result<u32, Trouble> {
        let ring = &self.rings[self.ring];
        let (client, process) = if ring.calls.is_empty() {
            (RING_FETCH, 0)
        } else {
            (BUFFER_FETCH, ring.process)
        };
        let access = Access {
            client,
            process,
            write: false,
        };
        let mut bytes = [0; 4];
        match self.access(access, va, &mut bytes) {
            Ok(()) => Ok(u32::from_le_bytes(bytes)),
            Err(Missed::Later) => Err(Trouble::Later),
            Err(Missed::Dropped) => Err(Trouble::Halt(Why::FetchFault)),
        }
    }
}
