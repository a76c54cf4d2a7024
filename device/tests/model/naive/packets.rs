//! Packets (hardware reference 10.2 to 10.8).

use super::mmu::{Access, Missed};
use super::rings::Call;
use super::{Naive, Why};
use presil_device::OnWait;

const FENCE: u32 = 4;

/// Why a packet is not executed.
pub(super) enum Trouble {
    Halt(Why),
    /// Once more when every fault is acknowledged.
    Later,
}

impl From<Why> for Trouble {
    fn from(why: Why) -> Self {
        Self::Halt(why)
    }
}

/// What [`Naive::access`] came to, for a packet that goes on if it was dropped.
pub(super) fn unless_later(result: Result<(), Missed>) -> Result<(), Trouble> {
    match result {
        Ok(()) | Err(Missed::Dropped) => Ok(()),
        Err(Missed::Later) => Err(Trouble::Later),
    }
}

/// Length in dwords, header included (10.2).
pub(super) fn length(ring: usize, header: u32) -> Result<u32, Why> {
    let video = ring == 7 || ring == 8;
    Ok(match (header >> 28, header >> 23 & 31) {
        // The last block is GPCTOP.
        (3 | 4 | 9, 25..) if !video => return Err(Why::Malformed),
        (0, _) => 1 + (header & 0xffff),
        (2, _) if header >> 16 & 3 == 3 => return Err(Why::Unsupported),
        (2, _) => 1,
        (4, _) => 1 + (header & 0x7f),
        (5, _) if video => 1 + (header & 0x7f),
        (8, _) | (9, 0) => 1 + (header & 7),
        (9, 15) => 1 + (header & 0x7fff),
        (9, _) => 1 + (header & 0xfff),
        (7 | 0xC..=0xE, _) if video => return Err(Why::Unsupported),
        _ if video => return Err(Why::UnknownOpcode),
        (1, _) if matches!(header >> 26 & 3, 1 | 2) => 4,
        (1, _) => 3,
        (3 | 0xC, _) => 1 + (header & 7),
        (6, _) => 1 + (header & 3),
        (7, _) => return Err(Why::Unsupported),
        (0xB, _) => 1 + (header & 15),
        (0xF, _) => 1,
        _ => return Err(Why::UnknownOpcode),
    })
}

impl Naive {
    /// `call`: the buffer that the packet is in.
    pub(super) fn execute(
        &mut self,
        header: u32,
        payload: &[u32],
        call: Option<&Call>,
    ) -> Result<(), Trouble> {
        let video = self.ring == 7 || self.ring == 8;
        match header >> 28 {
            1 => Ok(self.call(header, payload)?),
            2 => Ok(self.wait(header)?),
            3 => self.query_dump(header, payload, call),
            // Registers that a video ring sets are dropped.
            4 if !video => self.set_register(header, payload, call),
            8 => self.fence(header, payload, call.is_some()),
            9 => Ok(self.block_command(header, payload)?),
            _ => Ok(()),
        }
    }

    /// Buffers call buffers two levels deep.
    fn call(&mut self, header: u32, payload: &[u32]) -> Result<(), Why> {
        let calls = &mut self.rings[self.ring].calls;
        if header & 0xffff == 0 {
            return Ok(());
        }
        if calls.len() == 2 || !address(payload).is_multiple_of(4) {
            return Err(Why::Malformed);
        }
        calls.push(Call {
            at: address(payload),
            left: header & 0xffff,
            context: payload
                .get(2)
                .map(|base| u64::from(base & 0x1fff_ffff) << 11),
        });
        Ok(())
    }

    fn wait(&mut self, header: u32) -> Result<(), Why> {
        let slot = header >> 22 & 31;
        let ring = &self.rings[self.ring];
        let counter = u32::from(ring.slots[slot as usize]);
        let wanted = header & 0xffff;
        let equal = header >> 18 & 1 != 0;
        let satisfied = counter == wanted || counter > wanted && !equal;
        if header >> 16 & 3 != 0 || satisfied {
            return Ok(());
        }
        if self.choices.on_wait == OnWait::Halt {
            return Err(Why::UnmetWait);
        }
        let wait = (self.ring, ring.offset, slot, wanted, equal, counter);
        self.waits.push(wait);
        Ok(())
    }

    fn fence(&mut self, header: u32, payload: &[u32], in_buffer: bool) -> Result<(), Trouble> {
        let or = header >> 13 & 1 != 0;
        if header >> 3 & 3 == 3 {
            return Err(Why::Malformed.into());
        }
        match (header >> 5 & 3, payload) {
            (0, [value]) => {
                let slot = &mut self.rings[self.ring].slots[header as usize >> 7 & 31];
                let value = u16::try_from(value & 0xffff).unwrap();
                *slot = if or { *slot | value } else { value };
            }
            (2, [_, _, value]) => {
                self.store(address(payload), &value.to_le_bytes(), or, in_buffer)?;
            }
            (3, [_, _, low, high]) => {
                let value = u64::from(*high) << 32 | u64::from(*low);
                self.store(address(payload), &value.to_le_bytes(), or, in_buffer)?;
            }
            _ => return Err(Why::Malformed.into()),
        }
        if header >> 3 & 3 == 1 {
            self.signal(0x8548, 27);
        }
        Ok(())
    }

    /// An external fence's value.
    fn store(&mut self, va: u64, value: &[u8], or: bool, in_buffer: bool) -> Result<(), Trouble> {
        if !va.is_multiple_of(value.len() as u64) {
            return Err(Why::Malformed.into());
        }
        let process = self.process(in_buffer);
        let access = |write| Access {
            client: FENCE,
            process,
            write,
        };
        let [read, write] = [access(false), access(true)];
        let mut new = value.to_vec();
        if or {
            let mut old = vec![0; value.len()];
            match self.access(read, va, &mut old) {
                Ok(()) => new.iter_mut().zip(old).for_each(|(new, old)| *new |= old),
                missed => return unless_later(missed),
            }
        }
        unless_later(self.access(write, va, &mut new))
    }

    /// Fences and register transfers in the ring are the kernel's, in a buffer
    /// the process's; all drawing is.
    pub(super) fn process(&self, of_process: bool) -> u8 {
        if of_process {
            self.rings[self.ring].process
        } else {
            0
        }
    }

    fn block_command(&mut self, header: u32, payload: &[u32]) -> Result<(), Why> {
        let video = self.ring == 7 || self.ring == 8;
        let kind = header >> 20 & 7;
        match header >> 23 & 31 {
            0 if kind == 0 => {
                if payload.len() != 1 || header >> 17 & 7 > 4 {
                    return Err(Why::Malformed);
                }
                let off = header >> 17 & 7 == 0;
                let process = u8::try_from(header >> 13 & 15).unwrap();
                self.rings[self.ring].process = if off { 0 } else { process };
                Ok(())
            }
            0 if kind == 1 => self.clear_flags(header, payload),
            0 if kind > 4 || kind != 4 && payload.len() != 2 => Err(Why::Malformed),
            12 if !video && payload.len() != 4 => Err(Why::Malformed),
            12 => Ok(()), // There is no TLB.
            6 if !video && header >> 12 & 3 == 2 => self.draw(header, payload),
            6 if !video && header >> 12 & 3 == 3 => Err(Why::Malformed),
            _ => Ok(()),
        }
    }

    /// Compression flags in the buffer of 0x4900C: VRAM, whatever the mode.
    fn clear_flags(&mut self, header: u32, payload: &[u32]) -> Result<(), Why> {
        let &[_, values, mask] = payload else {
            return Err(Why::Malformed);
        };
        let buffer = self.get(0x4900C);
        let from = u64::from(buffer >> 4 & 0x7_ffff) << 16;
        let buffer = from..from + (8 << 20 << (buffer & 7));
        let value = (values >> 24 & 15) << 4 | values >> 28;
        for at in (address(payload)..).take((header >> 3 & 0x1_ffff) as usize) {
            let mask = mask.to_le_bytes()[usize::try_from(at % 4).unwrap()];
            let value = value.to_le_bytes()[0];
            if let Some(bytes) = self.vram.at(at).filter(|_| buffer.contains(&at)) {
                bytes[0] = bytes[0] & !mask | value & mask;
            }
        }
        Ok(())
    }
}

/// Address low and high, as packets carry it.
pub(super) fn address(payload: &[u32]) -> u64 {
    u64::from(payload[1] & 0xff) << 32 | u64::from(payload[0])
}
