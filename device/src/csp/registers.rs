//! `Set_Register` and `Query_Dump`: registers by block and word (hardware
//! reference 10.9, 10.10).

use super::Csp;
use super::board::Board;
use super::dialect::Dialect;
use super::engine::Operation;
use super::error::{Outcome, Trouble};
use super::packet::Packet;
use super::transfer::Transfer;
use crate::defect::Defect;
use crate::index::index;
use crate::mmu::Stop;
use crate::watch::{Event, Onlooker};
use e3k_regs::fields::FaultClient;
use e3k_regs::packet::{DumpTarget, QueryDump, RegisterSource, SetRegister, block};
use e3k_regs::{Access, PAGE_SIZE, Reg};

/// Registers moved between two looks at the budget.
const PIECE_WORDS: u64 = 64;
/// The price of a register.
const WORD_COST: u64 = 64;

/// The register that is word `word` of a block in BAR0, and its index in the
/// bank; `None` where nothing is declared.
fn declared(block: u8, word: u32) -> Option<(Reg, u32)> {
    let (base, words) = match block {
        block::CSP => (e3k_regs::block::CSP, 0x400),
        block::MXU => (e3k_regs::block::MXU, 0x400),
        block::MMU => (e3k_regs::block::MMU, 0x1000),
        _ => return None,
    };
    (word < words).then(|| Reg::find(base + word * 4))?
}

impl Csp {
    pub(super) fn set_register<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        board: &mut Board<'_, W>,
    ) -> Outcome {
        let header = SetRegister::from_bits(packet.header());
        // The registers of the video cores decode; nothing here has them.
        if self.engines[n].dialect == Dialect::Video {
            board.mxu.counters.without_effect += 1;
            return Ok(());
        }
        let word = u32::from(header.word());
        if header.from_memory() && header.masked() {
            return Err(Trouble::malformed(
                "a Set_Register from memory that has a mask as well",
            ));
        }
        if header.from_memory() {
            let [low, source] = packet.exactly()?;
            let source = RegisterSource::from_bits(source);
            if source.physical() {
                return Err(Trouble::unsupported("Set_Register from a physical address"));
            }
            let offset = header.context_offset();
            let at = packet.address(board.watch, low, source.high(), offset)?;
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
        if header.masked() && !board.watch.bends(Defect::RegisterMaskIgnored) {
            let [value, mask] = packet.exactly()?;
            let block = header.block();
            // As with a narrow access over the bus: a one that is not written
            // clears nothing.
            let clears = declared(block, word)
                .is_some_and(|(reg, _)| reg.info().access == Access::WriteOneClear);
            let old = if clears {
                0
            } else {
                self.register(block, word, board)
            };
            self.write_block(n, block, word, old & !mask | value & mask, board);
            return Ok(());
        }
        for (word, value) in (word..).zip(packet.payload()) {
            self.write_block(n, header.block(), word, *value, board);
        }
        Ok(())
    }

    pub(super) fn query_dump<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        board: &mut Board<'_, W>,
    ) -> Outcome {
        let header = QueryDump::from_bits(packet.header());
        let [low, target] = packet.exactly()?;
        let target = DumpTarget::from_bits(target);
        let offset = header.context_offset();
        let at = packet.address(board.watch, low, target.high(), offset)?;
        let client = FaultClient::RegisterDump;
        let request = self.engines[n].request(client, true, packet.in_buffer);
        if header.timestamp() {
            if !at.0.is_multiple_of(8) {
                return Err(Trouble::malformed(
                    "a timestamp at an address that is no multiple of 8",
                ));
            }
            let stored = board.mxu.store_u64(board.watch, request, at, self.clock);
            return match stored {
                Err(Stop::Stalled) => Err(Trouble::Stall),
                Ok(_) | Err(Stop::Dropped) => Ok(()),
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
    pub(super) fn advance_transfer<W: Onlooker>(
        &mut self,
        n: usize,
        transfer: &mut Transfer,
        board: &mut Board<'_, W>,
    ) -> Result<(u64, bool), Stop> {
        let in_page = (PAGE_SIZE - transfer.at.in_page()) / 4;
        let words = u64::from(transfer.left).min(in_page).min(PIECE_WORDS);
        let &mut Transfer {
            block, word, at, ..
        } = transfer;
        let mut bytes = [0; index(PIECE_WORDS * 4)];
        let piece = &mut bytes[..index(words * 4)];
        let result = if transfer.load {
            let result = board.mxu.read(board.watch, transfer.request, at, piece);
            if result.is_ok() {
                for (raw, word) in piece.as_chunks().0.iter().zip(word..) {
                    self.write_block(n, block, word, u32::from_le_bytes(*raw), board);
                }
            }
            result
        } else {
            for (raw, word) in piece.as_chunks_mut().0.iter_mut().zip(word..) {
                *raw = self.register(block, word, board).to_le_bytes();
            }
            board.mxu.write(board.watch, transfer.request, at, piece)
        };
        if result == Err(Stop::Stalled) {
            return Err(Stop::Stalled);
        }
        let moved = words as u32;
        transfer.word += if board.watch.bends(Defect::TransferStartsAnew) {
            0
        } else {
            moved
        };
        transfer.at = at.add(words * 4);
        transfer.left -= moved;
        Ok((words * WORD_COST, transfer.left == 0))
    }

    /// A register of a block; 0 where nothing is declared.
    fn register<W: Onlooker>(&self, block: u8, word: u32, board: &Board<'_, W>) -> u32 {
        if block == block::FF {
            return self.ff.get(word);
        }
        let Some((reg, at)) = declared(block, word) else {
            return 0;
        };
        board
            .mxu
            .read_register(reg, at)
            .or_else(|| self.read_register(board.watch, reg, at, board.mxu.config().chip))
            .unwrap_or_else(|| board.storage.load(reg.at(at)))
    }

    /// Writes a register of a block; those of other blocks steer drawing, and
    /// the command processor's are not a packet's to write: no effect.
    fn write_block<W: Onlooker>(
        &mut self,
        n: usize,
        block: u8,
        word: u32,
        value: u32,
        board: &mut Board<'_, W>,
    ) {
        match block {
            block::MMU | block::MXU => {
                let Some((reg, at)) = declared(block, word) else {
                    return;
                };
                let event = Event::Set {
                    ring: u8::try_from(n).unwrap_or(u8::MAX),
                    reg,
                    index: at,
                    value,
                };
                board.watch.saw(&event, &board.mxu.look());
                if !board.storage.admits(reg, at, value, board.mxu, board.watch) {
                    return;
                }
                // All of them have four bytes.
                if !(board.mxu.write_register(board.watch, reg, at, value)
                    || self.write_flags(reg, value))
                {
                    board.storage.store(reg.at(at), value, u32::MAX);
                }
            }
            block::FF if self.engines[n].dialect == Dialect::Graphics => self.ff.set(word, value),
            _ => {}
        }
    }
}
