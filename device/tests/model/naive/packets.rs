//! Ring 0 and its packets (hardware reference 10).

use super::mmu::Access;
use super::{Naive, RingError, Why};

/// Who fetches and who fences, by their bit in `MXU_INT_STATUS`.
const RING_FETCH: u32 = 0;
const BUFFER_FETCH: u32 = 1;
const FENCE: u32 = 4;

/// More packets than any program here has, unless it calls itself for ever.
const PATIENCE: usize = 50_000;

/// Length in dwords, header included (10.2).
fn length(header: u32) -> Result<u32, Why> {
    Ok(match (header >> 28, header >> 23 & 31) {
        (0, _) => 1 + (header & 0xffff),
        (1, _) if matches!(header >> 26 & 3, 1 | 2) => 4,
        (1, _) => 3,
        (2, _) if header >> 16 & 3 != 3 => 1,
        (4, _) => 1 + (header & 0x7f),
        (8, _) | (9, 0) => 1 + (header & 7),
        (9, block) if block != 15 => 1 + (header & 0xfff),
        (5 | 0xA | 0xD | 0xE, _) => return Err(Why::UnknownOpcode),
        _ => return Err(Why::Undescribed),
    })
}

impl Naive {
    /// Whether ring 0 has something to do.
    pub(crate) fn works(&self) -> bool {
        let runs = self.get(0x3001C) >> 31 != 0 && !self.halted && !self.held;
        runs && (!self.calls.is_empty() || self.get(0x30024) != self.get(0x30028))
    }

    /// Runs until there is nothing left to do.
    pub(crate) fn run(&mut self) {
        for _ in 0..PATIENCE {
            if !self.works() || self.undescribed {
                self.settle();
                return;
            }
            self.packet();
        }
        self.undescribed = true;
    }

    fn packet(&mut self) {
        let in_buffer = !self.calls.is_empty();
        if !in_buffer {
            self.ring_offset = self.get(0x30024);
        }
        let mut header = 0;
        let result = self
            .fetch(&mut header)
            .and_then(|payload| self.execute(header, &payload, in_buffer));
        match result {
            Ok(()) => {}
            Err(Why::Undescribed) => self.undescribed = true,
            Err(why) => {
                self.errors.push(RingError {
                    offset: self.ring_offset,
                    in_buffer,
                    header,
                    why,
                });
                self.stop();
                self.halted = true;
                self.signal(0x8548, 16);
            }
        }
    }

    /// The header and the payload of the next packet; moves past it.
    fn fetch(&mut self, header: &mut u32) -> Result<Vec<u32>, Why> {
        let (at, available) = match self.calls.last() {
            Some(call) => *call,
            None => self.ring_position()?,
        };
        *header = self.fetch_dword(at)?;
        let needed = length(*header)?;
        if needed > available {
            return Err(Why::Truncated { needed, available });
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
        let [size, head, tail] = [0x30020, 0x30024, 0x30028].map(|word| self.get(word));
        if (size | head | tail) % 4 != 0 || head >= size || tail >= size {
            return Err(Why::BadRing);
        }
        let end = if tail > head { tail } else { size };
        let page = u64::from(self.get(0x3001C) & 0x0fff_ffff);
        Ok(((page << 12) + u64::from(head), (end - head) / 4))
    }

    fn move_past(&mut self, dwords: u32) {
        if let Some((at, left)) = self.calls.last_mut() {
            *at += u64::from(dwords) * 4;
            *left -= dwords;
            if *left == 0 {
                self.calls.pop();
            }
        } else {
            let head = self.get(0x30024) + dwords * 4;
            let wraps = head >= self.get(0x30020);
            self.put(0x30024, if wraps { 0 } else { head });
        }
    }

    fn fetch_dword(&mut self, va: u64) -> Result<u32, Why> {
        let (client, process) = if self.calls.is_empty() {
            (RING_FETCH, 0)
        } else {
            (BUFFER_FETCH, self.process)
        };
        let access = Access {
            client,
            process,
            write: false,
        };
        let mut bytes = [0; 4];
        if self.access(access, va, &mut bytes) {
            Ok(u32::from_le_bytes(bytes))
        } else {
            Err(Why::FetchFault)
        }
    }

    fn execute(&mut self, header: u32, payload: &[u32], in_buffer: bool) -> Result<(), Why> {
        match header >> 28 {
            1 => self.call(header, payload),
            2 => self.wait(header),
            4 => self.set_register(header, payload),
            8 => self.fence(header, payload, in_buffer),
            9 => self.block_command(header, payload),
            _ => Ok(()),
        }
    }

    /// Buffers call buffers two levels deep.
    fn call(&mut self, header: u32, payload: &[u32]) -> Result<(), Why> {
        if self.calls.len() == 2 {
            return Err(Why::Malformed);
        }
        if header & 0xffff != 0 {
            self.calls.push((address(payload), header & 0xffff));
        }
        Ok(())
    }

    /// A wait that is satisfied; others are left out.
    fn wait(&mut self, header: u32) -> Result<(), Why> {
        let value = u32::from(self.slots[header as usize >> 22 & 31]);
        let wanted = header & 0xffff;
        let equal = header >> 18 & 1 != 0;
        let satisfied = value == wanted || value > wanted && !equal;
        let normal = header >> 16 & 3 == 0;
        if normal && satisfied {
            Ok(())
        } else {
            Err(Why::Undescribed)
        }
    }

    fn set_register(&mut self, header: u32, payload: &[u32]) -> Result<(), Why> {
        if header >> 8 & 3 != 0 {
            return Err(Why::Undescribed); // from memory, or with a mask
        }
        for (word, value) in (header >> 10 & 0x1fff..).zip(payload) {
            match (header >> 23 & 31, word) {
                (18, ..0x1000) => self.put(0x50000 + word * 4, *value),
                // The crossbar's registers that do something.
                (12, 1 | 6 | 7 | 8 | 0xE | 0xF) => {
                    self.write_word(0x49000 + word * 4, *value, u32::MAX);
                }
                (12, _) => return Err(Why::Undescribed),
                (6, _) => {
                    if let Some(register) = self.ff.get_mut(word as usize) {
                        *register = *value;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn fence(&mut self, header: u32, payload: &[u32], in_buffer: bool) -> Result<(), Why> {
        let kind = header >> 5 & 3;
        match (kind, payload) {
            (0, [value, ..]) => {
                let slot = &mut self.slots[header as usize >> 7 & 31];
                *slot = u16::try_from(value & 0xffff).unwrap();
            }
            (3, [_, _, low, high, ..]) if header >> 13 & 1 == 0 => {
                let va = address(payload);
                if !va.is_multiple_of(8) {
                    return Err(Why::Malformed);
                }
                let access = Access {
                    client: FENCE,
                    process: if in_buffer { self.process } else { 0 },
                    write: true,
                };
                let value = u64::from(*high) << 32 | u64::from(*low);
                self.access(access, va, &mut value.to_le_bytes());
            }
            (2, _) => return Err(Why::Undescribed),
            (3, [_, _, _, _, ..]) => return Err(Why::Undescribed), // ors its value in
            _ => return Err(Why::Malformed),
        }
        if header >> 3 & 3 == 1 {
            self.signal(0x8548, 27);
        }
        Ok(())
    }

    fn block_command(&mut self, header: u32, payload: &[u32]) -> Result<(), Why> {
        match header >> 23 & 31 {
            0 if header >> 20 & 7 == 0 => {
                let off = header >> 17 & 7 == 0;
                let process = u8::try_from(header >> 13 & 15).unwrap();
                self.process = if off { 0 } else { process };
                Ok(())
            }
            12 if header >> 13 & 1 == 1 => match payload {
                [_, _, _, _, ..] => Ok(()), // There is no TLB.
                _ => Err(Why::Malformed),
            },
            0 | 12 => Err(Why::Undescribed),
            6 if header >> 12 & 3 == 2 => self.draw(header, payload),
            _ => Ok(()),
        }
    }

    /// For drawing: the last Indicator's process id.
    pub(super) fn process(&self) -> u8 {
        self.process
    }

    pub(super) fn ff(&self, word: usize) -> u32 {
        self.ff[word]
    }
}

/// Address low and high, as packets carry it.
fn address(payload: &[u32]) -> u64 {
    u64::from(payload[1] & 0xff) << 32 | u64::from(payload[0])
}
