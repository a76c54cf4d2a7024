//! `Set_Register` and `Query_Dump`: registers by block and word (hardware
//! reference 10.9, 10.10).

use super::engine::Operation;
use super::execute::{Outcome, Trouble};
use super::packet::Packet;
use super::{Csp, Dialect};
use crate::index;
use crate::mmu::{Mxu, Request, Stop};
use crate::planted::planted;
use e3k_regs::fields::FaultClient;
use e3k_regs::packet::{DumpTarget, QueryDump, RegisterSource, SetRegister, block};
use e3k_regs::{GpuVa, PAGE_SIZE, Reg};
use serde::{Deserialize, Serialize};

/// Registers moved between two looks at the budget.
const PIECE_WORDS: u64 = 64;
/// The price of a register.
const WORD_COST: u64 = 64;
/// Where the command processor's and the crossbar's registers are in BAR0, and
/// how many words each has.
const CSP_BASE: u32 = 0x3_0000;
const MXU_BASE: u32 = 0x4_9000;
const BLOCK_WORDS: u32 = 0x400;

/// Registers on their way from or to memory.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Transfer {
    load: bool,
    block: u8,
    word: u32,
    at: GpuVa,
    left: u32,
    request: Request,
}

impl Transfer {
    /// Whether a restored one can be true: a packet can have asked for it.
    pub(super) fn is_sound(&self) -> bool {
        let in_range = self.word.max(self.left) <= u16::MAX.into();
        in_range && self.left > 0 && self.at.0.is_multiple_of(4)
    }
}

impl Csp {
    pub(super) fn set_register(&mut self, n: usize, packet: &Packet, mxu: &mut Mxu) -> Outcome {
        let header = SetRegister::from_bits(packet.header());
        // The registers of the video cores decode; nothing here has them.
        if self.engines[n].dialect == Dialect::Video {
            mxu.counters.without_effect += 1;
            return Ok(());
        }
        let word = u32::from(header.word());
        if header.from_memory() {
            let [low, source] = packet.exactly()?;
            let source = RegisterSource::from_bits(source);
            if source.physical() {
                return Err(Trouble::unsupported("Set_Register from a physical address"));
            }
            let at = packet.address(low, source.high(), header.context_offset())?;
            let client = FaultClient::RegisterLoad;
            return self.transfer(
                n,
                Transfer {
                    load: true,
                    block: header.block(),
                    word,
                    at,
                    left: source.count().into(),
                    request: self.engines[n].request(client, false, packet.in_buffer),
                },
            );
        }
        if header.masked() && !planted!(RegisterMaskIgnored) {
            let [value, mask] = packet.exactly()?;
            let old = self.register(header.block(), word, mxu);
            self.write_block(n, header.block(), word, old & !mask | value & mask, mxu);
            return Ok(());
        }
        for (word, value) in (word..).zip(packet.payload()) {
            self.write_block(n, header.block(), word, *value, mxu);
        }
        Ok(())
    }

    pub(super) fn query_dump(&mut self, n: usize, packet: &Packet, mxu: &mut Mxu) -> Outcome {
        let header = QueryDump::from_bits(packet.header());
        let [low, target] = packet.exactly()?;
        let target = DumpTarget::from_bits(target);
        let at = packet.address(low, target.high(), header.context_offset())?;
        let client = FaultClient::RegisterDump;
        let request = self.engines[n].request(client, true, packet.in_buffer);
        if header.timestamp() {
            if !at.0.is_multiple_of(8) {
                return Err(Trouble::malformed(
                    "a timestamp at an address that is no multiple of 8",
                ));
            }
            return match mxu.store_u64(request, at, self.clock) {
                Err(Stop::Stalled) => Err(Trouble::Stall),
                Ok(()) | Err(Stop::Dropped) => Ok(()),
            };
        }
        self.transfer(
            n,
            Transfer {
                load: false,
                block: header.block(),
                word: target.word().into(),
                at,
                left: header.registers().into(),
                request,
            },
        )
    }

    fn transfer(&mut self, n: usize, transfer: Transfer) -> Outcome {
        if !transfer.at.0.is_multiple_of(4) {
            return Err(Trouble::malformed(
                "registers at an address that is no multiple of 4",
            ));
        }
        if transfer.left > 0 {
            self.engines[n].operation = Some(Operation::Transfer(transfer));
        }
        Ok(())
    }

    /// Moves some registers. Returns the price, and whether all are done. A
    /// piece that faults is left out.
    pub(super) fn advance_transfer(
        &mut self,
        n: usize,
        transfer: &mut Transfer,
        mxu: &mut Mxu,
    ) -> Result<(u64, bool), Stop> {
        let in_page = (PAGE_SIZE - transfer.at.in_page()) / 4;
        let words = u64::from(transfer.left).min(in_page).min(PIECE_WORDS);
        let &mut Transfer {
            block, word, at, ..
        } = transfer;
        let mut bytes = [0; index(PIECE_WORDS * 4)];
        let piece = &mut bytes[..index(words * 4)];
        let result = if transfer.load {
            let result = mxu.read(transfer.request, at, piece);
            if result.is_ok() {
                for (raw, word) in piece.as_chunks().0.iter().zip(word..) {
                    self.write_block(n, block, word, u32::from_le_bytes(*raw), mxu);
                }
            }
            result
        } else {
            for (raw, word) in piece.as_chunks_mut().0.iter_mut().zip(word..) {
                *raw = self.register(block, word, mxu).to_le_bytes();
            }
            mxu.write(transfer.request, at, piece)
        };
        if result == Err(Stop::Stalled) {
            return Err(Stop::Stalled);
        }
        let moved = words as u32;
        transfer.word += if planted!(TransferStartsAnew) {
            0
        } else {
            moved
        };
        transfer.at = at.add(words * 4);
        transfer.left -= moved;
        Ok((words * WORD_COST, transfer.left == 0))
    }

    /// A register of a block; 0 where nothing has behaviour.
    fn register(&self, block: u8, word: u32, mxu: &Mxu) -> u32 {
        let found = |base: u32| Reg::find(base + word * 4).filter(|_| word < BLOCK_WORDS);
        match block {
            block::CSP => found(CSP_BASE).and_then(|(reg, at)| self.read_register(reg, at)),
            block::MXU => found(MXU_BASE).and_then(|(reg, at)| {
                mxu.read_register(reg, at)
                    .or_else(|| self.read_register(reg, at))
            }),
            block::MMU => Some(mxu.ttbr(word as usize)),
            block::FF => Some(self.ff.get(word)),
            _ => None,
        }
        .unwrap_or(0)
    }

    /// Writes a register of a block; those without behaviour are dropped.
    fn write_block(&mut self, n: usize, block: u8, word: u32, value: u32, mxu: &mut Mxu) {
        match block {
            block::MMU => mxu.set_ttbr(word as usize, value),
            block::MXU => {
                let offset = MXU_BASE + word * 4;
                if let Some((reg, at)) = Reg::find(offset).filter(|_| word < BLOCK_WORDS) {
                    let _taken = mxu.write_register(reg, at, value) || self.write_flags(reg, value);
                }
            }
            block::FF if self.engines[n].dialect == Dialect::Graphics => self.ff.set(word, value),
            // The registers of other blocks steer drawing: no effect here.
            _ => {}
        }
    }
}
