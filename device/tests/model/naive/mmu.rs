//! Translation and faults (hardware reference 4 and 6).

use super::{Fault, Naive};
use presil_device::{FaultCause, LargePage, OnFault, Snoop};

/// Where an address leads: a bus address with Snoop and NS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Local(u64),
    Bus(u64, Snoop, bool),
}

/// Why it leads nowhere: cause, level of the entry that failed, and where the
/// L1 register and the L2 entry are, as far as the registers tell.
pub(crate) struct Nowhere {
    pub(crate) cause: FaultCause,
    level: u32,
    l1_at: u32,
    l2_at: u64,
}

/// What became of an access that was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    Dropped,
    /// To be done again when every fault is acknowledged.
    Later,
}

/// Who accesses: the bit in `MXU_INT_STATUS`, the process id, the direction.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    pub(crate) client: u32,
    pub(crate) process: u8,
    pub(crate) write: bool,
}

/// Where an entry leads: Segment is bit 3, Snoop bit 2, NS bit 1.
fn place(entry: u32, at: u64) -> Place {
    let non_secure = entry >> 1 & 1 != 0;
    match (entry >> 3 & 1, entry >> 2 & 1) {
        (1, _) => Place::Local(at),
        (_, 0) => Place::Bus(at, Snoop::Unsnooped, non_secure),
        _ => Place::Bus(at, Snoop::Snooped, non_secure),
    }
}

impl Naive {
    fn va_mode(&self) -> bool {
        self.get(0x49004) & 1 != 0
    }

    /// The walk, every time anew.
    pub(crate) fn translate(&mut self, process: u8, va: u64) -> Result<Place, Nowhere> {
        let nowhere = |cause, level, l1_at, l2_at| {
            Err(Nowhere {
                cause,
                level,
                l1_at,
                l2_at,
            })
        };
        if va >> 40 != 0 {
            return nowhere(FaultCause::AddressTooWide, 0, 0, 0);
        }
        let video_bytes = (u64::from(self.get(0x49004) >> 8 & 0xff) + 1) << 28;
        if !self.va_mode() && va < video_bytes {
            return match self.vram.at(va) {
                Some(_) => Ok(Place::Local(va)),
                None => nowhere(FaultCause::OutsideVram, 0, 0, 0),
            };
        }
        let process = if self.va_mode() { process } else { 0 };
        let index = u32::from(process) * 256 + u32::try_from(va >> 32).unwrap();
        let l1_at = 0x50000 + index * 4;
        let l1 = self.get(l1_at);
        if l1 & 1 == 0 {
            return nowhere(FaultCause::InvalidL1, 1, l1_at, 0);
        }
        let l2_at = place(
            l1,
            u64::from(l1 >> 4 & 0xff_ffff) << 12 | (va >> 22 & 0x3ff) << 2,
        );
        let (Place::Local(l2_address) | Place::Bus(l2_address, ..)) = l2_at;
        let l2 = match self.load(l2_at) {
            Ok(l2) => l2,
            Err(cause) => return nowhere(cause, 2, l1_at, l2_address),
        };
        if l2 & 1 == 0 {
            return nowhere(FaultCause::InvalidL2, 2, l1_at, l2_address);
        }
        let page = u64::from(l2 >> 4 & 0x7ff_ffff) << 12;
        let large = l2 >> 31 != 0;
        let index = match self.choices.mmu.large_page {
            _ if !large => va >> 12 & 0x3ff,
            LargePage::Table64K => va >> 16 & 0x3f,
            LargePage::Leaf4M => {
                let leaf = place(l2, page >> 22 << 22 | va & 0x3f_ffff);
                return match leaf {
                    Place::Local(at) if self.vram.at(at).is_none() => {
                        nowhere(FaultCause::OutsideVram, 2, l1_at, l2_address)
                    }
                    leaf => Ok(leaf),
                };
            }
            LargePage::Fault => return nowhere(FaultCause::LargePage, 2, l1_at, l2_address),
        };
        let l3 = match self.load(place(l2, page | index << 2)) {
            Ok(l3) => l3,
            Err(cause) => return nowhere(cause, 3, 0, 0),
        };
        if l3 & 1 == 0 {
            return nowhere(FaultCause::InvalidL3, 3, 0, 0);
        }
        let at = if large {
            u64::from(l3 >> 8) << 16 | va & 0xffff
        } else {
            u64::from(l3 >> 4) << 12 | va & 0xfff
        };
        match place(l3, at) {
            Place::Local(at) if self.vram.at(at).is_none() => {
                nowhere(FaultCause::OutsideVram, 3, 0, 0)
            }
            place => Ok(place),
        }
    }

    /// A table entry.
    fn load(&mut self, at: Place) -> Result<u32, FaultCause> {
        match at {
            Place::Local(at) => self.vram.load(at).ok_or(FaultCause::OutsideVram),
            Place::Bus(at, ..) => self.ram.load(at).ok_or(FaultCause::Bus),
        }
    }

    /// Reads or writes a piece of one page. What is missed is on record.
    pub(crate) fn access(
        &mut self,
        access: Access,
        va: u64,
        data: &mut [u8],
    ) -> Result<(), Missed> {
        let place = match self.translate(access.process, va) {
            Ok(place) => place,
            Err(nowhere) => return Err(self.fault(access, va, &nowhere)),
        };
        let process = if self.va_mode() { access.process } else { 0 };
        let bytes = data.len() as u64;
        self.accesses
            .push((access.client, process, access.write, va, bytes, place));
        let memory = match place {
            Place::Local(at) => self.vram.at(at),
            Place::Bus(at, snoop, non_secure) => {
                let snooped = snoop == Snoop::Snooped;
                let touch = (at / 4096, access.write, access.client, snooped, non_secure);
                self.touches.insert(touch);
                self.ram.at(at)
            }
        };
        let Some(memory) = memory else {
            // A page that nobody answers for: a master abort, no page fault.
            self.record(access, va, FaultCause::Bus, 0);
            self.signal(0x8504, 10);
            return Err(Missed::Dropped);
        };
        let memory = &mut memory[..data.len()];
        if access.write {
            memory.copy_from_slice(data);
        } else {
            data.copy_from_slice(memory);
        }
        Ok(())
    }

    /// The history, the interrupt, and the registers if they are free.
    fn fault(&mut self, access: Access, va: u64, nowhere: &Nowhere) -> Missed {
        let Nowhere { cause, level, .. } = *nowhere;
        self.record(access, va, cause, level);
        self.signal(0x8504, 5);
        let first = self.get(0x49038) == 0;
        self.put(0x49038, self.get(0x49038) | 1 << access.client);
        if first {
            self.latch_fault(access, va, nowhere);
        }
        let ring = self.ring;
        let on_fault = self.choices.mmu.on_fault;
        self.rings[ring].stands = on_fault != OnFault::Report;
        match on_fault {
            OnFault::Retry => Missed::Later,
            OnFault::Report | OnFault::Halt => Missed::Dropped,
        }
    }

    /// The registers (hardware reference 6).
    fn latch_fault(&mut self, access: Access, va: u64, nowhere: &Nowhere) {
        let Nowhere { cause, level, .. } = *nowhere;
        let process = if self.va_mode() { access.process } else { 0 };
        let low = u32::try_from(va & 0xffff_ffff).unwrap();
        let high = u32::try_from(va >> 32 & 0xff).unwrap();
        self.put(0x49040, level << 18 | u32::from(process) << 20 | high << 24);
        self.put(0x49044, low);
        self.put(0x49048, low & !3);
        self.put(0x4904C, nowhere.l1_at);
        self.put(0x49050, u32::try_from(nowhere.l2_at & 0xffff_fffc).unwrap());
        let page_fault_level = match cause {
            FaultCause::InvalidL1 => 1,
            FaultCause::InvalidL2 => 4,
            _ => 0,
        };
        self.put(0x49068, page_fault_level);
    }

    fn record(&mut self, access: Access, va: u64, cause: FaultCause, level: u32) {
        let process = if self.va_mode() { access.process } else { 0 };
        self.faults.push(Fault {
            client: access.client,
            write: access.write,
            process,
            va,
            cause,
            level,
            ring: self.ring,
            ring_offset: self.rings[self.ring].offset,
        });
    }
}
