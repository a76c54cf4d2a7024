//! Packets as they are fetched, and how long each is (hardware reference 10.2).

use super::dialect::Dialect;
use super::error::CspErrorKind;
use crate::budget::PACKET_COST;
use crate::defect::Defect;
use crate::watch::Onlooker;
use e3k_regs::GpuVa;
use e3k_regs::packet::{self, opcode, video_opcode};

/// Dwords of the longest packet that has an effect: `Set_Register` with 127 values.
pub(super) const PACKET_DWORDS: usize = 128;

/// The price of each dword behind a packet's header in [`crate::Gpu::step`]'s budget.
const DWORD_COST: u64 = 64;

/// One packet as fetched: as many of its dwords as can matter.
pub(super) struct Packet {
    pub(super) dwords: [u32; PACKET_DWORDS],
    /// Its length, header included; may be more than are kept.
    pub(super) len: u32,
    /// Fetched from a called buffer, not from the ring.
    pub(super) in_buffer: bool,
    /// The context base of the buffer it is in.
    pub(super) context: Option<GpuVa>,
}

impl Default for Packet {
    fn default() -> Self {
        Self {
            dwords: [0; PACKET_DWORDS],
            len: 0,
            in_buffer: false,
            context: None,
        }
    }
}

impl Packet {
    pub(super) fn header(&self) -> u32 {
        self.dwords[0]
    }

    /// The dwords that were fetched; of a Skip the header alone.
    pub(super) fn fetched(&self) -> &[u32] {
        let skip = packet::Header::from_bits(self.header()).opcode() == opcode::SKIP;
        let len = if skip { 1 } else { self.len as usize };
        &self.dwords[..len.min(PACKET_DWORDS)]
    }

    /// The dwords after the header.
    pub(super) fn payload(&self) -> &[u32] {
        let end = (self.len as usize).min(PACKET_DWORDS);
        self.dwords.get(1..end).unwrap_or(&[])
    }

    /// Its payload, of a form that has `N` dwords.
    pub(super) fn exactly<const N: usize>(&self) -> Result<[u32; N], CspErrorKind> {
        self.payload().try_into().map_err(|_| wrong_count())
    }

    /// The address in two payload dwords; `offset`: relative to the context.
    pub(super) fn address(
        &self,
        watch: impl Onlooker,
        low: u32,
        high: u8,
        offset: bool,
    ) -> Result<GpuVa, CspErrorKind> {
        let at = GpuVa::from_parts(low, high);
        if !offset || watch.bends(Defect::ContextForgotten) {
            return Ok(at);
        }
        let context = self.context.ok_or(CspErrorKind::malformed(
            "an offset in the context outside a save or restore buffer",
        ))?;
        Ok(context.add(at.0))
    }

    pub(super) fn price(&self) -> u64 {
        PACKET_COST + DWORD_COST * self.payload().len() as u64
    }
}

pub(super) fn wrong_count() -> CspErrorKind {
    CspErrorKind::malformed("the packet's own count is not that of its form")
}

/// Length of a packet in dwords, header included. A length that the hardware
/// reference does not give is an error, never a guess.
pub(super) fn packet_dwords(header: u32, dialect: Dialect) -> Result<u32, CspErrorKind> {
    match dialect {
        Dialect::Disabled => Err(CspErrorKind::Disabled),
        Dialect::Graphics | Dialect::Post => common_dwords(header),
        Dialect::Video => video_dwords(header),
    }
}

/// The same by the ring's number; `None` where that is an error.
pub(crate) fn ring_packet_dwords(ring: usize, header: u32) -> Option<u32> {
    packet_dwords(header, Dialect::of(ring)).ok()
}

fn common_dwords(header: u32) -> Result<u32, CspErrorKind> {
    let fields = packet::Header::from_bits(header);
    let to_block = matches!(
        fields.opcode(),
        opcode::QUERY_DUMP | opcode::SET_REGISTER | opcode::BLOCK
    );
    if to_block && fields.block() > packet::block::LAST {
        return Err(CspErrorKind::malformed("no block has this id"));
    }
    Ok(match fields.opcode() {
        opcode::SKIP => 1 + u32::from(packet::Skip::from_bits(header).dwords()),
        opcode::DMA if matches!(packet::Dma::from_bits(header).mode(), 1 | 2) => 4,
        opcode::DMA => 3,
        opcode::WAIT if packet::Wait::from_bits(header).mode() == 3 => {
            return Err(CspErrorKind::Unsupported {
                what: "an external Wait, whose length is unknown".into(),
            });
        }
        opcode::WAIT | opcode::TBR => 1,
        opcode::QUERY_DUMP | opcode::FENCE | opcode::VPP => 1 + (header & 0x7),
        opcode::SET_REGISTER => 1 + u32::from(packet::SetRegister::from_bits(header).count()),
        opcode::SET_OBJECT => 1 + (header & 0x3),
        opcode::DIP => {
            return Err(CspErrorKind::Unsupported {
                what: "Dip (draw), whose length is unknown,".into(),
            });
        }
        opcode::BLOCK => block_command_dwords(header),
        opcode::GP => 1 + (header & 0xf),
        _ => return Err(CspErrorKind::UnknownOpcode),
    })
}

fn block_command_dwords(header: u32) -> u32 {
    match packet::Header::from_bits(header).block() {
        packet::block::CSP => 1 + u32::from(packet::CspCommand::from_bits(header).count()),
        packet::block::VCP => 1 + (header & 0x7fff),
        _ => 1 + u32::from(packet::BlockCommand::from_bits(header).count()),
    }
}

/// The video cores' own set; what it shares with the common one has the same length.
fn video_dwords(header: u32) -> Result<u32, CspErrorKind> {
    match packet::Header::from_bits(header).opcode() {
        opcode::SKIP | opcode::WAIT | opcode::FENCE => common_dwords(header),
        opcode::BLOCK => Ok(block_command_dwords(header)),
        opcode::SET_REGISTER | video_opcode::SET_REGISTER_2 => {
            Ok(1 + u32::from(packet::SetRegister::from_bits(header).count()))
        }
        video_opcode::KICKOFF | 0xC..=0xE => Err(CspErrorKind::Unsupported {
            what: "a video core's command, whose length is unknown,".into(),
        }),
        _ => Err(CspErrorKind::UnknownOpcode),
    }
}
