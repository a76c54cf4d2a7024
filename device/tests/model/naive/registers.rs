//! Registers by packets (hardware reference 10.9, 10.10).

use super::draw::Piece;
use super::mmu::{Access, Missed};
use super::packets::{Trouble, address, unless_later};
use super::rings::Call;
use super::{Naive, Why};

const LOAD: u32 = 5;
const DUMP: u32 = 6;

/// A packet's address; with `offset`, from the context that its buffer names.
fn place(payload: &[u32], offset: bool, call: Option<&Call>) -> Result<u64, Why> {
    let context = call.and_then(|call| call.context);
    let base = if offset {
        context.ok_or(Why::Malformed)?
    } else {
        0
    };
    Ok(base + address(payload))
}

impl Naive {
    pub(super) fn set_register(
        &mut self,
        header: u32,
        payload: &[u32],
        call: Option<&Call>,
    ) -> Result<(), Trouble> {
        let (block, word) = (header >> 23 & 31, header >> 10 & 0x1fff);
        match (header >> 8 & 3, payload) {
            (0, _) => {
                for (word, value) in (word..).zip(payload) {
                    self.packet_writes(block, word, *value);
                }
            }
            (1, [_, source]) => {
                if source >> 9 & 1 != 0 {
                    return Err(Why::Unsupported.into());
                }
                let at = place(payload, header >> 7 & 1 != 0, call)?;
                self.transfer(LOAD, block, word, at, source >> 19, call.is_some())?;
            }
            (2, &[value, mask]) => {
                let old = match (block, word) {
                    (12, 0xE) => 0, // a one clears
                    _ => self.packet_reads(block, word),
                };
                self.packet_writes(block, word, old & !mask | value & mask);
            }
            // Another count, or both forms at once.
            _ => return Err(Why::Malformed.into()),
        }
        Ok(())
    }

    pub(super) fn query_dump(
        &mut self,
        header: u32,
        payload: &[u32],
        call: Option<&Call>,
    ) -> Result<(), Trouble> {
        let &[_, target] = payload else {
            return Err(Why::Malformed.into());
        };
        let at = place(payload, header >> 20 & 1 != 0, call)?;
        if header >> 21 & 1 != 0 {
            if !at.is_multiple_of(8) {
                return Err(Why::Malformed.into());
            }
            let access = Access {
                client: DUMP,
                process: self.process(call.is_some()),
                write: true,
            };
            return unless_later(self.access(access, at, &mut self.clock.to_le_bytes()));
        }
        let (block, words) = (header >> 23 & 31, header >> 7 & 0x1fff);
        Ok(self.transfer(DUMP, block, target >> 19, at, words, call.is_some())?)
    }

    /// In pieces of 64 registers that end at page ends.
    fn transfer(
        &mut self,
        client: u32,
        block: u32,
        mut word: u32,
        mut at: u64,
        mut left: u32,
        in_buffer: bool,
    ) -> Result<(), Why> {
        if !at.is_multiple_of(4) {
            return Err(Why::Malformed);
        }
        let by = Access {
            client,
            process: self.process(in_buffer),
            write: client == DUMP,
        };
        while left > 0 {
            let in_page = u32::try_from(4096 - at % 4096).unwrap() / 4;
            let words = left.min(64).min(in_page);
            self.rings[self.ring].pieces.push_back(Piece::Registers {
                by,
                block,
                word,
                at,
                words,
            });
            word += words;
            at += u64::from(words) * 4;
            left -= words;
        }
        Ok(())
    }

    pub(super) fn move_registers(
        &mut self,
        by: Access,
        block: u32,
        word: u32,
        at: u64,
        words: u32,
    ) -> Result<(), Missed> {
        let words = word..word + words;
        if by.write {
            let values = words.map(|word| self.packet_reads(block, word));
            let mut bytes: Vec<u8> = values.flat_map(u32::to_le_bytes).collect();
            return self.access(by, at, &mut bytes);
        }
        let mut bytes = vec![0; words.len() * 4];
        self.access(by, at, &mut bytes)?;
        for (word, value) in words.zip(bytes.as_chunks().0) {
            self.packet_writes(block, word, u32::from_le_bytes(*value));
        }
        Ok(())
    }

    /// Registers that the reference has, by block; others are 0.
    fn packet_reads(&self, block: u32, word: u32) -> u32 {
        match (block, word) {
            // Busy words, rings, timestamps, current commands, power manager.
            (0, 0..=6 | 7..=0x22 | 0x29 | 0x2A | 0xEE..=0xF9 | 0xFD..=0xFF | 0x180..=0x18C) => {
                self.read_word(0x30000 + word * 4)
            }
            (12, 1 | 3 | 5..=0xA | 0xE..=0x18 | 0x1A | 0x1B | 0x1E | 0x23 | 0x28) => {
                self.read_word(0x49000 + word * 4)
            }
            (18, ..0x1000) => self.get(0x50000 + word * 4),
            (6, ..0x2000) => self.ff(word as usize),
            _ => 0,
        }
    }

    fn packet_writes(&mut self, block: u32, word: u32, value: u32) {
        match (block, word) {
            (12, 1 | 3 | 5..=0xA | 0xE..=0x18 | 0x1A | 0x1B | 0x1E | 0x23 | 0x28) => {
                self.write_word(0x49000 + word * 4, value, u32::MAX);
            }
            (18, ..0x1000) => self.put(0x50000 + word * 4, value),
            (6, ..0x2000) if self.ring == 0 => self.ff[word as usize] = value,
            _ => {}
        }
    }

    pub(super) fn ff(&self, word: usize) -> u32 {
        self.ff[word]
    }
}
