//! One ring: its registers, its memory, its doorbell (hardware reference 10.1).

use super::board::{Board, split};
use super::heap::Heap;
use super::memory::Memory;
use super::packets::Call;
use super::scheduler::Held;
use super::{Block, Result};
use std::collections::VecDeque;

const RING_BYTES: u32 = 0x40000;
/// 0x8A01: the clocks of ring 0's engines.
pub(super) const GPC_CLOCKS: u8 = 0x70;

/// A submission that has not been seen to end.
pub(super) struct Task {
    pub(super) fence: u64,
    /// In the DMA heap: address and bytes.
    pub(super) commands: (u64, u64),
    pub(super) since_ms: u64,
    pub(super) held: Held,
}

/// A ring that runs, with its buffers.
pub(super) struct Engine {
    /// Its place among the rings that run.
    n: usize,
    pub(super) ring: u32,
    pub(super) registers: u32,
    pub(super) buffer: Block,
    pub(super) dma: Block,
    pub(super) heap: Heap,
    pub(super) tail: u32,
    /// Head, when it was last read.
    pub(super) head: u32,
    /// Id of the last submission.
    pub(super) last: u64,
    /// Id of the last one that is known to be done.
    pub(super) completed: u64,
    pub(super) tasks: VecDeque<Task>,
}

impl Engine {
    /// Ring 0, 7, 8 or 9, with its memory (step 5 of hardware reference 12.2).
    pub(super) fn new(mm: &mut Memory, n: usize, ring: u32) -> Result<Self> {
        let dma = mm.fixed(2, if ring == 0 { 2 << 20 } else { 1 << 20 }, true)?;
        Ok(Self {
            n,
            ring,
            registers: if ring == 0 {
                0x3001C
            } else {
                0x30600 + 0x10 * (ring - 7)
            },
            buffer: mm.fixed(2, RING_BYTES.into(), true)?,
            heap: Heap::new(dma.at, dma.bytes),
            dma,
            tail: 0,
            head: 0,
            last: 0,
            completed: 0,
            tasks: VecDeque::new(),
        })
    }

    /// The ring registers (step 5 of hardware reference 12.2).
    pub(super) fn start(&mut self, board: &mut Board) {
        (self.tail, self.head) = (0, 0);
        let [page, _] = split(self.buffer.at >> 12);
        board.write(self.registers, page);
        board.write(self.registers + 4, RING_BYTES);
        board.write(self.registers + 8, 0);
        board.write(self.registers + 12, 0);
        board.write(self.registers, 1 << 31 | page);
    }

    /// Puts a packet into the ring and rings the doorbell.
    pub(super) fn push(
        &mut self,
        board: &mut Board,
        flush_page: &Block,
        packet: &[u32],
    ) -> Result<()> {
        let bytes = u32::try_from(packet.len() * 4).unwrap_or(u32::MAX);
        let rest = RING_BYTES - self.tail;
        let wraps = self.tail + bytes >= RING_BYTES;
        self.make_room(board, if wraps { rest + bytes } else { bytes }, wraps)?;
        if wraps {
            board.put(&self.buffer, self.tail.into(), &vec![0; rest as usize])?;
            self.tail = 0;
        }
        let data: Vec<u8> = packet
            .iter()
            .flat_map(|dword| dword.to_le_bytes())
            .collect();
        board.put(&self.buffer, self.tail.into(), &data)?;
        self.tail += bytes;
        self.kick(board, flush_page)
    }

    fn kick(&mut self, board: &mut Board, flush_page: &Block) -> Result<()> {
        let word = self.n as u64 * 8;
        board.put_u64(flush_page, word, self.last)?;
        if (0..11).all(|_| board.get_u64(flush_page, word) != Ok(self.last)) {
            return Err("the flush page does not read back".into());
        }
        let gates = board.read_byte(0x8A01);
        board.write_byte(0x8A01, gates | [GPC_CLOCKS, 1 << 3, 1 << 2, 1 << 1][self.n]);
        board.write(self.registers + 12, self.tail);
        if (0..11).all(|_| board.read(self.registers + 12) != self.tail) {
            return Err(format!("Tail of ring {} does not read back", self.ring));
        }
        Ok(())
    }

    /// Puts dwords into the DMA heap; `None` if it is full.
    pub(super) fn place(&mut self, board: &Board, dwords: &[u32]) -> Result<Option<Call>> {
        let bytes: Vec<u8> = dwords
            .iter()
            .flat_map(|dword| dword.to_le_bytes())
            .collect();
        let len = u32::try_from(dwords.len()).unwrap_or(u32::MAX);
        if len > 0xffff {
            return Err(format!("{len} dwords in one buffer"));
        }
        let Some(at) = self.heap.take(bytes.len() as u64, 4) else {
            return Ok(None);
        };
        board.put(&self.dma, at - self.dma.at, &bytes)?;
        Ok(Some(Call { at, dwords: len }))
    }

    /// Spins until the ring has room. Head is read when it is full or wraps.
    fn make_room(&mut self, board: &mut Board, bytes: u32, wraps: bool) -> Result<()> {
        if wraps {
            self.head = board.read(self.registers + 8);
        }
        while self.room() < bytes {
            self.head = board.read(self.registers + 8);
            if self.room() < bytes && !board.step() {
                return Err(format!(
                    "ring {} is full: Head stands at {:#x}",
                    self.ring, self.head
                ));
            }
        }
        Ok(())
    }

    fn room(&self) -> u32 {
        if self.head > self.tail {
            self.head - self.tail - 4
        } else {
            RING_BYTES - self.tail + self.head - 4
        }
    }
}
