//! The rings of a pair, as programs fill them.

use super::compare::Pair;
use crate::rig::{KICKOFF, RING_ADDRESS, RING_AT, RING_BYTES};
use crate::tables::vram;

/// The rings that run, where each lies and how long it is: in VRAM, and at the
/// same address for process 0.
pub(super) const RINGS: [(usize, u64, u32); 4] = [
    (0, RING_AT, RING_BYTES),
    (7, RING_AT + 0x1_0000, 0x4000),
    (8, RING_AT + 0x1_4000, 0x4000),
    (9, RING_AT + 0x1_8000, 0x4000),
];

/// The first register of a ring.
pub(crate) fn ring_registers(ring: usize) -> u32 {
    let n = u32::try_from(ring).unwrap();
    if n < 7 {
        RING_ADDRESS + n * 16
    } else {
        0x30600 + (n - 7) * 16
    }
}

/// One of [`RINGS`] as programs fill it.
#[derive(Clone)]
pub(super) struct Queue {
    ring: usize,
    at: u64,
    bytes: u32,
    tail: u32,
    /// Where its batches begin: places that Head and Tail may be put to.
    batches: Vec<u32>,
}

impl Pair {
    /// Sets the rings up from their beginnings, with nothing left in them.
    pub(crate) fn start_rings(&mut self) {
        for queue in std::mem::take(&mut self.queues) {
            let used = queue.batches.iter().max().copied().unwrap_or(0) / 4;
            self.poke(vram(queue.at), &vec![0; used as usize]);
        }
        for (ring, at, bytes) in RINGS {
            self.start_ring(ring, at, bytes);
            self.queues.push(Queue {
                ring,
                at,
                bytes,
                tail: 0,
                batches: vec![0],
            });
        }
    }

    /// Sets one up (hardware reference 10.1).
    fn start_ring(&mut self, ring: usize, at: u64, bytes: u32) {
        let page = u32::try_from(at >> 12).unwrap();
        let register = ring_registers(ring);
        self.set(register, page);
        self.set(register + 4, bytes);
        self.set(register + 8, 0);
        self.set(register + 12, 0);
        self.set(register, page | KICKOFF);
    }

    /// Gives a disabled ring something to do.
    pub(crate) fn start_disabled(&mut self, ring: usize) {
        self.start_ring(ring, RING_AT, RING_BYTES);
        self.set(ring_registers(ring) + 12, 4);
    }

    /// Places in a ring where packets begin.
    pub(crate) fn batches(&self, ring: usize) -> &[u32] {
        let queue = self.queues.iter().find(|queue| queue.ring == ring);
        &queue.unwrap().batches
    }

    /// Appends packets by the wrap rule (hardware reference 10.1). Other rings
    /// come to an end first: nothing says in which order rings work. `false` as
    /// in [`Self::run`].
    pub(crate) fn queue(&mut self, ring: usize, dwords: &[u32]) -> bool {
        if self.naive.working().any(|other| other != ring) && !self.run(1 << 16) {
            return false;
        }
        let n = self.queues.iter().position(|queue| queue.ring == ring);
        let mut queue = self.queues[n.unwrap()].clone();
        let bytes = u32::try_from(dwords.len() * 4).unwrap();
        if queue.tail + bytes >= queue.bytes {
            let rest = vec![0; (queue.bytes - queue.tail) as usize / 4];
            self.poke(vram(queue.at + u64::from(queue.tail)), &rest);
            queue.tail = 0;
        }
        self.poke(vram(queue.at + u64::from(queue.tail)), dwords);
        queue.tail += bytes;
        queue.batches.push(queue.tail);
        self.set(ring_registers(ring) + 12, queue.tail);
        self.queues[n.unwrap()] = queue;
        true
    }
}
