//! What rules are told of: the model's events, decoded.

use crate::checker::cache_lines::OldLoad;
use crate::checker::owners::{Name, Unmapped};
use crate::checker::tlbs::StaleUse;
use crate::checker::unsnooped::Unsnooped;
use crate::csp::error::{CspError, UnmetWait};
use crate::csp::fences::FenceRecord;
use crate::misuse::Misuse;
use crate::mmu::access::{Access, Invalidation};
use crate::mmu::look::Look;
use crate::mmu::record::FaultRecord;
use e3k_regs::fields::RingWord;
use e3k_regs::packet::{self, CspCommand, Header, SgCommand, block, opcode, video_opcode};
use e3k_regs::{GpuVa, Reg, VramOffset};

/// A declared register that is written over the bus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) reg: Reg,
    pub(crate) index: u32,
    /// What it holds then; of a trigger, what is written.
    pub(crate) value: u32,
    /// What was written to it last; `None`: nothing that was seen.
    pub(crate) before: Option<u32>,
}

impl Written {
    /// The ring and the word of it, if it is one of a ring's registers.
    pub(crate) fn of_ring(&self) -> Option<(usize, RingWord)> {
        let first = match self.reg {
            Reg::LowRings => 0,
            Reg::VideoRings => 7,
            _ => return None,
        };
        let ring = first + self.index as usize / 4;
        Some((ring, RingWord::from_index(self.index)))
    }

    /// Its name, as listings have it.
    pub(crate) fn name(&self) -> String {
        self.reg.info().label(self.index).to_string()
    }
}

/// A packet that a ring begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command<'a> {
    pub(crate) ring: usize,
    pub(crate) offset: u32,
    pub(crate) in_buffer: bool,
    pub(crate) dwords: &'a [u32],
    /// All dwords, those that are not told too.
    pub(crate) len: u32,
}

impl Command<'_> {
    pub(crate) fn header(&self) -> u32 {
        self.dwords.first().copied().unwrap_or(0)
    }

    fn fields(&self) -> Header {
        Header::from_bits(self.header())
    }

    fn is_block(&self, block: u8) -> bool {
        self.fields().opcode() == opcode::BLOCK && self.fields().block() == block
    }

    /// Rings 7 and 8 have their own packets.
    fn is_video(&self) -> bool {
        self.ring == 7 || self.ring == 8
    }

    pub(crate) fn indicator(&self) -> Option<CspCommand> {
        let command = CspCommand::from_bits(self.header());
        let is_one = self.is_block(block::CSP) && command.kind() == CspCommand::INDICATOR;
        is_one.then_some(command)
    }

    /// A Skip, or an Indicator off: nothing that reaches memory.
    pub(crate) fn is_padding(&self) -> bool {
        let off = |indicator: CspCommand| indicator.info() == CspCommand::INFO_OFF;
        self.fields().opcode() == opcode::SKIP || self.indicator().is_some_and(off)
    }

    /// A context that is restored: it brings registers of every block.
    pub(crate) fn restores(&self) -> bool {
        let command = CspCommand::from_bits(self.header());
        self.is_block(block::CSP) && command.kind() == CspCommand::RESTORE
    }

    /// A copy, a fill or another command of the colour pipe.
    pub(crate) fn draw(&self) -> Option<SgCommand> {
        let command = SgCommand::from_bits(self.header());
        let is_one = self.ring == 0 && self.is_block(block::FF) && command.kind() == SgCommand::SG;
        is_one.then_some(command)
    }

    /// A call of a buffer.
    pub(crate) fn call(&self) -> Option<packet::Dma> {
        let is_one = self.fields().opcode() == opcode::DMA && !self.is_video();
        is_one.then(|| packet::Dma::from_bits(self.header()))
    }

    /// A Wait for an internal fence.
    pub(crate) fn is_wait(&self) -> bool {
        self.fields().opcode() == opcode::WAIT
    }

    /// A flush of the FF block's cache (hardware reference 10.8, 10.12).
    pub(crate) fn flushes_colour(&self) -> bool {
        let kind = SgCommand::from_bits(self.header()).kind();
        self.is_block(block::FF) && kind == 0
    }

    /// A fence in memory.
    pub(crate) fn external_fence(&self) -> Option<packet::Fence> {
        let fence = packet::Fence::from_bits(self.header());
        let is_one =
            self.fields().opcode() == opcode::FENCE && fence.kind() != packet::Fence::INTERNAL;
        is_one.then_some(fence)
    }

    /// The words of a block that it sets.
    pub(crate) fn sets(&self) -> Option<(u8, std::ops::Range<u32>)> {
        let op = self.fields().opcode();
        if self.is_video() || !(op == opcode::SET_REGISTER || op == video_opcode::SET_REGISTER_2) {
            return None;
        }
        let header = packet::SetRegister::from_bits(self.header());
        let first = u32::from(header.word());
        let count = if header.from_memory() {
            let source = self.dwords.get(2).copied().unwrap_or(0);
            packet::RegisterSource::from_bits(source).count().into()
        } else if header.masked() {
            1
        } else {
            u32::from(header.count())
        };
        Some((header.block(), first..first + count))
    }

    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        let Self { ring, offset, .. } = self;
        if self.in_buffer {
            format!("ring {ring}, in a buffer called at offset {offset:#x}")
        } else {
            format!("ring {ring} offset {offset:#x}")
        }
    }
}

/// An entry in VRAM that a walk has read, where untouched VRAM can be told.
pub(crate) struct WalkedEntry {
    pub(crate) process_id: u8,
    /// The address that is translated.
    pub(crate) va: GpuVa,
    /// 2 or 3.
    pub(crate) level: u8,
    pub(crate) at: VramOffset,
    /// Nobody has written it since power-on.
    pub(crate) untouched: bool,
}

/// One thing that happens.
pub(crate) enum Fact<'a> {
    Register(Written),
    Read {
        reg: Reg,
        index: u32,
        value: u64,
        /// Whether a ring has work that goes on by itself.
        busy: bool,
    },
    /// Registers that nobody declares.
    Undeclared {
        offset: u32,
        write: bool,
    },
    Misuse {
        reg: Reg,
        index: u32,
        kind: Misuse,
        bits: u32,
    },
    Packet(Command<'a>),
    Fence(&'a FenceRecord),
    Halted(&'a CspError),
    Unmet(&'a UnmetWait),
    Interrupt,
    /// The door latched for the driver, and gave it what was pending.
    Latched,
    /// A function reset.
    Reset,
    /// The function leaves D0.
    Sleeps,
    /// A Tail was moved; told behind the register, with the TLBs compared.
    Doorbell,
    /// TLB entries were dropped, so many.
    Invalidated {
        what: Invalidation,
        dropped: usize,
        /// What waits in a ring, of that number, and leads nowhere any more; not where a
        /// packet invalidates.
        forgotten: Option<(usize, Name)>,
    },
    /// Bus addresses are about to be unmapped for DMA; what leads there, if anything.
    DmaUnmaps(Option<Unmapped>),
    /// A walk has read the entry of its address.
    Walked(WalkedEntry),
    /// An access is about to be made.
    Access(&'a Access, &'a Look<'a>),
    /// It is answered by an entry that was due.
    Stale(&'a Access, &'a StaleUse),
    /// One, or a walk's, that passes caches whose lines are followed.
    Unsnooped(&'a Unsnooped),
    /// The CPU has loaded what was old.
    OldLoad(OldLoad),
    /// One was not made.
    Fault(&'a FaultRecord),
    /// Nobody looks any more.
    End,
}
