//! Ring packets (hardware reference 10.2 to 10.13): header layouts, and
//! writers for the packets that a memory manager submits.

use crate::addr::GpuVa;
use bitfield_struct::bitfield;

/// Bits 31:28 of a header (hardware reference 10.2).
pub mod opcode {
    /// Skip.
    pub const SKIP: u8 = 0x0;
    /// Call a buffer.
    pub const DMA: u8 = 0x1;
    /// Wait for an internal fence.
    pub const WAIT: u8 = 0x2;
    /// Store registers to memory.
    pub const QUERY_DUMP: u8 = 0x3;
    /// Write registers.
    pub const SET_REGISTER: u8 = 0x4;
    /// Drawing state.
    pub const SET_OBJECT: u8 = 0x6;
    /// Draw.
    pub const DIP: u8 = 0x7;
    /// Write a fence.
    pub const FENCE: u8 = 0x8;
    /// A command for one block.
    pub const BLOCK: u8 = 0x9;
    /// Compute.
    pub const GP: u8 = 0xB;
    /// Video post-processing.
    pub const VPP: u8 = 0xC;
    /// Tile-based rendering indicator.
    pub const TBR: u8 = 0xF;
}

/// Bits 31:28 of a header on the rings of the video cores, where they differ
/// from [`opcode`] (hardware reference 10.2).
pub mod video_opcode {
    /// The second form of writing registers.
    pub const SET_REGISTER_2: u8 = 0x5;
    /// Start the core.
    pub const KICKOFF: u8 = 0x7;
}

/// Block ids in packets (hardware reference 3).
pub mod block {
    /// Command processor.
    pub const CSP: u8 = 0;
    /// Fixed-function back end; does blits and clears.
    pub const FF: u8 = 6;
    /// Memory crossbar.
    pub const MXU: u8 = 12;
    /// Video core.
    pub const VCP: u8 = 15;
    /// The L1 register bank.
    pub const MMU: u8 = 18;
    /// The block with the highest id, GPCTOP.
    pub const LAST: u8 = 24;
}

/// What every header has.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Header {
    #[bits(23)]
    __: u32,
    /// Block id of a `Set_Register` or block command.
    #[bits(5)]
    pub block: u8,
    /// [`opcode`].
    #[bits(4)]
    pub opcode: u8,
}

/// Skip: 1 + `dwords` dwords without effect (hardware reference 10.2).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Skip {
    /// Dwords that follow.
    pub dwords: u16,
    #[bits(12)]
    __: u16,
    /// [`opcode::SKIP`].
    #[bits(4)]
    pub opcode: u8,
}

/// Dma: call a buffer (hardware reference 10.3). Address low and high follow;
/// modes 1 and 2 carry a fourth dword.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Dma {
    /// Dwords of the buffer.
    pub dwords: u16,
    #[bits(8)]
    __: u8,
    /// 0: save and restore commands, 1: queries.
    pub special: bool,
    /// `Reset_Dma`.
    pub reset: bool,
    /// 0 normal, 1 save, 2 restore, 3 flush.
    #[bits(2)]
    pub mode: u8,
    /// [`opcode::DMA`].
    #[bits(4, default = opcode::DMA)]
    pub opcode: u8,
}

/// Wait, normal form: one dword (hardware reference 10.5).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Wait {
    /// Value to compare with.
    pub value: u16,
    /// 0 normal, 1 KKK, 2 chip idle, 3 external (of unknown length).
    #[bits(2)]
    pub mode: u8,
    /// 0: at least, 1: equal.
    pub equal: bool,
    /// Which parser waits.
    #[bits(3)]
    pub station: u8,
    /// Internal fence counter.
    #[bits(5)]
    pub slot: u8,
    #[bits(1)]
    __: u8,
    /// [`opcode::WAIT`].
    #[bits(4, default = opcode::WAIT)]
    pub opcode: u8,
}

/// `Set_Register` (hardware reference 10.9). Plain form: `count` values follow
/// and go to consecutive words of the block.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SetRegister {
    /// Payload dwords.
    #[bits(7)]
    pub count: u8,
    /// With [`Self::from_memory`]: the address is an offset in the context.
    pub context_offset: bool,
    /// The payload says where in memory the values are.
    pub from_memory: bool,
    /// The payload is value and mask for one register.
    pub masked: bool,
    /// First word of the block.
    #[bits(13)]
    pub word: u16,
    /// [`block`].
    #[bits(5)]
    pub block: u8,
    /// [`opcode::SET_REGISTER`].
    #[bits(4, default = opcode::SET_REGISTER)]
    pub opcode: u8,
}

/// Second payload dword of a `Set_Register` from memory; the first is the
/// address's low half (hardware reference 10.9).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RegisterSource {
    /// Address bits 39:32.
    pub high: u8,
    /// L2-cachable.
    pub l2_cachable: bool,
    /// The address is physical.
    pub physical: bool,
    #[bits(9)]
    __: u16,
    /// Registers to load.
    #[bits(13)]
    pub count: u16,
}

/// `Query_Dump` (hardware reference 10.10). Address low and [`DumpTarget`] follow.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct QueryDump {
    /// Payload dwords: 2.
    #[bits(3, default = 2)]
    pub count: u8,
    #[bits(4)]
    __: u8,
    /// Registers to store.
    #[bits(13)]
    pub registers: u16,
    /// The address is an offset in the context.
    pub context_offset: bool,
    /// The 64-bit timestamp is stored instead.
    pub timestamp: bool,
    /// Of unknown meaning.
    pub kind: bool,
    /// [`block`].
    #[bits(5)]
    pub block: u8,
    /// [`opcode::QUERY_DUMP`].
    #[bits(4, default = opcode::QUERY_DUMP)]
    pub opcode: u8,
}

/// Second payload dword of [`QueryDump`] (hardware reference 10.10).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DumpTarget {
    /// Address bits 39:32.
    pub high: u8,
    #[bits(11)]
    __: u16,
    /// First word of the block.
    #[bits(13)]
    pub word: u16,
}

/// Fence (hardware reference 10.4).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Fence {
    /// Payload dwords: 1 internal, 4 external 64-bit.
    #[bits(3)]
    pub count: u8,
    /// 0 none, 1 interrupt the CPU, 2 interrupt the GPU.
    #[bits(2)]
    pub irq: u8,
    /// 0 internal, 2 external 32-bit, 3 external 64-bit.
    #[bits(2)]
    pub kind: u8,
    /// Internal fence counter.
    #[bits(5)]
    pub slot: u8,
    #[bits(1)]
    __: u8,
    /// 0 copies the value, 1 ors it in.
    pub or: bool,
    #[bits(8)]
    __: u8,
    /// 0 3D front, 1 3D back, 2 and 3 compute.
    #[bits(2)]
    pub rb_type: u8,
    /// The unit whose earlier work comes first.
    #[bits(4)]
    pub route: u8,
    /// [`opcode::FENCE`].
    #[bits(4, default = opcode::FENCE)]
    pub opcode: u8,
}

impl Fence {
    /// [`Self::kind`] of an internal fence.
    pub const INTERNAL: u8 = 0;
    /// [`Self::kind`] of an external 32-bit fence.
    pub const EXTERNAL_32: u8 = 2;
    /// [`Self::kind`] of an external 64-bit fence.
    pub const EXTERNAL_64: u8 = 3;
    /// [`Self::irq`] that interrupts the CPU.
    pub const IRQ_CPU: u8 = 1;
    /// [`Self::irq`] that interrupts the GPU.
    pub const IRQ_GPU: u8 = 2;
    /// [`Self::route`] of the colour pipe, which does blits and clears.
    pub const ROUTE_COLOUR: u8 = 2;
}

/// A command for the CSP block (hardware reference 10.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CspCommand {
    /// Payload dwords.
    #[bits(3)]
    pub count: u8,
    #[bits(10)]
    __: u16,
    /// Indicator: process id of the work that follows, for VA mode.
    #[bits(4)]
    pub process_id: u8,
    /// Indicator: 0 off, 1 MCE, 2 compute, 3 3D, 4 video.
    #[bits(3)]
    pub info: u8,
    /// 0 Indicator, 1 clear BL flags, 2 and 3 save and restore, 4 descriptors.
    #[bits(3)]
    pub kind: u8,
    /// [`block::CSP`].
    #[bits(5)]
    pub block: u8,
    /// [`opcode::BLOCK`].
    #[bits(4, default = opcode::BLOCK)]
    pub opcode: u8,
}

impl CspCommand {
    /// [`Self::kind`] of an Indicator.
    pub const INDICATOR: u8 = 0;
    /// [`Self::kind`] of [`ClearFlags`].
    pub const CLEAR_FLAGS: u8 = 1;
    /// [`Self::kind`]: save the context.
    pub const SAVE: u8 = 2;
    /// [`Self::kind`]: restore the context.
    pub const RESTORE: u8 = 3;
    /// [`Self::kind`]: load descriptors.
    pub const DESCRIPTORS: u8 = 4;
    /// [`Self::info`] that ends a submission.
    pub const INFO_OFF: u8 = 0;
    /// [`Self::info`] of 3D work, copies and fills included.
    pub const INFO_3D: u8 = 3;
    /// [`Self::info`] of video work; no other is higher.
    pub const INFO_VIDEO: u8 = 4;
}

/// Clear compression flags, a command for the CSP block (hardware reference
/// 10.6). Start low, [`FlagValues`] and a mask follow.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ClearFlags {
    /// Payload dwords: 3.
    #[bits(3, default = 3)]
    pub count: u8,
    /// Bytes of flags.
    #[bits(17)]
    pub bytes: u32,
    /// [`CspCommand::CLEAR_FLAGS`].
    #[bits(3, default = CspCommand::CLEAR_FLAGS)]
    pub kind: u8,
    /// [`block::CSP`].
    #[bits(5)]
    pub block: u8,
    /// [`opcode::BLOCK`].
    #[bits(4, default = opcode::BLOCK)]
    pub opcode: u8,
}

/// Second payload dword of [`ClearFlags`] (hardware reference 10.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct FlagValues {
    /// Address bits 39:32.
    pub high: u8,
    #[bits(16)]
    __: u16,
    /// Value 1, the high half of a flag byte.
    #[bits(4)]
    pub value1: u8,
    /// Value 0, the low half of a flag byte.
    #[bits(4)]
    pub value0: u8,
}

/// A command for any other block (hardware reference 10.2, 10.8): its length
/// is 1 + `count`.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct BlockCommand {
    /// Payload dwords.
    #[bits(12)]
    pub count: u16,
    #[bits(11)]
    __: u16,
    /// [`block`].
    #[bits(5)]
    pub block: u8,
    /// [`opcode::BLOCK`].
    #[bits(4, default = opcode::BLOCK)]
    pub opcode: u8,
}

/// The FF block command that starts a blit or a clear (hardware reference 10.12, 10.13).
/// X range, Y range and, for a blit, the source offset follow.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SgCommand {
    /// Payload dwords: 2 clear, 3 blit.
    #[bits(12)]
    pub count: u16,
    /// 2 for this command; 0 and 1 are cache commands.
    #[bits(2)]
    pub kind: u8,
    /// 2: the colour pipe.
    #[bits(2)]
    pub target: u8,
    /// 0 fast clear tiled, 1 fast clear linear, 2 bit blt, 3 gradient, 4 rotate.
    #[bits(3)]
    pub action: u8,
    #[bits(4)]
    __: u8,
    /// [`block::FF`].
    #[bits(5)]
    pub block: u8,
    /// [`opcode::BLOCK`].
    #[bits(4, default = opcode::BLOCK)]
    pub opcode: u8,
}

impl SgCommand {
    /// [`Self::kind`] of an SG command.
    pub const SG: u8 = 2;
    /// [`Self::target`] of copies and clears.
    pub const COLOUR: u8 = 2;
    /// [`Self::action`]: fast clear of a linear surface.
    pub const FAST_CLEAR: u8 = 1;
    /// [`Self::action`]: blit.
    pub const BLIT: u8 = 2;
}

/// First and last pixel of a span, both inclusive (hardware reference 10.12).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Range {
    /// First.
    pub min: u16,
    /// Last.
    pub max: u16,
}

/// Source pixel of destination pixel (0, 0) (hardware reference 10.12).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SourceOffset {
    /// Columns.
    #[bits(15)]
    pub x: u16,
    #[bits(1)]
    __: u8,
    /// Rows.
    #[bits(15)]
    pub y: u16,
    #[bits(1)]
    __: u8,
}

/// Words of the FF block (hardware reference 10.12, 10.13).
pub mod ff {
    /// Registers of the block that packets can write; a `Set_Register` beyond is stored nowhere.
    pub const WORDS: u16 = 0x100;

    /// Address word of render target `rt`: base >> 8; two more words follow.
    pub const fn rt_address(rt: u16) -> u16 {
        0x18 + 3 * rt
    }

    /// Control words of render target `rt`: format, size, misc.
    pub const fn rt_control(rt: u16) -> u16 {
        0x30 + 3 * rt
    }

    /// The last of them, which has the enable bit.
    pub const fn rt_misc(rt: u16) -> u16 {
        rt_control(rt) + 2
    }

    /// Render targets.
    pub const TARGETS: u16 = 8;

    /// Whether the words behind [`rt_address`] say one layer: depth 1 (bits
    /// 11:0), and an array of 1 (11:0) from 0 (22:12).
    pub const fn is_one_layer(depth: u32, array: u32) -> bool {
        depth & 0xfff == 1 && array & 0x7f_ffff == 1
    }

    /// The 128-bit clear colour, four words.
    pub const CLEAR_COLOUR: u16 = 0xC8;
    /// The largest number of pixels in a row and of rows.
    pub const MAX_EXTENT: u32 = 16384;
}

/// Render target format word (hardware reference 10.12).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RtFormat {
    /// 89 is B8G8R8A8, 4 bytes a pixel.
    #[bits(9)]
    pub format: u16,
    /// Compression slot; 0 is none.
    #[bits(18)]
    pub bl_slot: u32,
    #[bits(5)]
    __: u8,
}

impl RtFormat {
    /// [`Self::format`] B8G8R8A8.
    pub const B8G8R8A8: u16 = 89;
}

/// Render target size word (hardware reference 10.12). A linear surface's
/// pitch is its width.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RtSize {
    /// Pixels in a row.
    #[bits(15)]
    pub width: u16,
    /// Rows.
    #[bits(15)]
    pub height: u16,
    #[bits(2)]
    __: u8,
}

/// Render target misc word (hardware reference 10.12).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RtMisc {
    /// The target is used.
    pub enable: bool,
    /// Tiled, not linear.
    pub tiled: bool,
    /// Which of the four bytes of a pixel are written; bit 0 is the first in memory.
    #[bits(4)]
    pub write_mask: u8,
    #[bits(14)]
    __: u16,
    /// 2 for a 2D surface.
    #[bits(4)]
    pub resource_type: u8,
    #[bits(8)]
    __: u8,
}

impl RtMisc {
    /// [`Self::resource_type`] of a 2D surface.
    pub const TYPE_2D: u8 = 2;
    /// What makes of pixels other ones: dither (bit 6), D read, resolve, blend,
    /// EU blend, EU colour, EUB format (16:12), dual source, swizzle, mipmap
    /// (19), and ROP (28:24).
    pub const EFFECTS: u32 = 0x1f0f_ffc0;
}

/// Appends packets to a buffer of dwords. A packet that does not fit is
/// counted in [`Self::len`] and not written, so a caller can size its buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u32],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the beginning of `buffer`.
    pub fn new(buffer: &'a mut [u32]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Dwords asked for so far; more than the buffer has means it overflowed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first dword.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends one dword.
    pub fn push(&mut self, dword: u32) {
        if let Some(slot) = self.buffer.get_mut(self.len) {
            *slot = dword;
        }
        self.len += 1;
    }

    /// Appends zero dwords (skips) up to a multiple of `dwords`.
    pub fn pad_to(&mut self, dwords: usize) {
        while !self.len.is_multiple_of(dwords) {
            self.push(0);
        }
    }

    /// Indicator: brackets a submission and sets its process id (hardware reference 10.6).
    pub fn indicator(&mut self, info: u8, process_id: u8) {
        let header = CspCommand::new()
            .with_count(1)
            .with_kind(CspCommand::INDICATOR)
            .with_info(info)
            .with_process_id(process_id);
        self.push(header.into_bits());
        self.push(1); // slice mask: the first slice
    }

    /// Calls `dwords` dwords at `at` (hardware reference 10.3).
    pub fn dma(&mut self, at: GpuVa, dwords: u16) {
        self.push(Dma::new().with_dwords(dwords).into_bits());
        self.push(at.low());
        self.push(u32::from(at.high()));
    }

    /// Writes registers of a block, plain form (hardware reference 10.9); at most 127 values.
    pub fn set_register(&mut self, block: u8, word: u16, values: &[u32]) {
        let values = &values[..values.len().min(127)];
        let count = u8::try_from(values.len()).unwrap_or(127);
        let header = SetRegister::new()
            .with_count(count)
            .with_word(word)
            .with_block(block);
        self.push(header.into_bits());
        for value in values {
            self.push(*value);
        }
    }

    /// External 64-bit fence, with or without an interrupt (hardware reference 10.4).
    pub fn fence(&mut self, at: GpuVa, value: u64, interrupt: bool) {
        let header = Fence::new()
            .with_count(4)
            .with_irq(if interrupt { Fence::IRQ_CPU } else { 0 })
            .with_kind(Fence::EXTERNAL_64)
            .with_route(Fence::ROUTE_COLOUR);
        self.push(header.into_bits());
        self.push(at.low());
        self.push(u32::from(at.high()));
        let [low, high] = halves(value);
        self.push(low);
        self.push(high);
    }

    /// A linear surface of 4-byte pixels as render target `rt`; `at` is a
    /// multiple of 256, `width` and `height` at most [`ff::MAX_EXTENT`]
    /// (hardware reference 10.12).
    pub fn surface(&mut self, rt: u16, at: GpuVa, width: u16, height: u16) {
        let [base, _] = halves(at.0 >> 8);
        self.set_register(block::FF, ff::rt_address(rt), &[base, 1, 1]);
        let misc = RtMisc::new()
            .with_enable(true)
            .with_write_mask(0xf)
            .with_resource_type(RtMisc::TYPE_2D);
        self.set_register(
            block::FF,
            ff::rt_control(rt),
            &[
                RtFormat::new().with_format(RtFormat::B8G8R8A8).into_bits(),
                RtSize::new()
                    .with_width(width)
                    .with_height(height)
                    .into_bits(),
                misc.into_bits(),
            ],
        );
    }

    /// Copies the whole of surface 1 to surface 0 (hardware reference 10.12).
    pub fn blit(&mut self, width: u16, height: u16) {
        self.sg(SgCommand::BLIT, 3, width, height);
        self.push(SourceOffset::new().into_bits());
    }

    /// Fills the whole of surface 0 with `pattern`, and disables all others:
    /// what a clear does to them nobody says (hardware reference 10.13).
    pub fn clear(&mut self, width: u16, height: u16, pattern: u32) {
        for rt in 1..ff::TARGETS {
            self.set_register(block::FF, ff::rt_misc(rt), &[0]);
        }
        self.set_register(block::FF, ff::CLEAR_COLOUR, &[pattern; 4]);
        self.sg(SgCommand::FAST_CLEAR, 2, width, height);
    }

    fn sg(&mut self, action: u8, count: u16, width: u16, height: u16) {
        let header = SgCommand::new()
            .with_count(count)
            .with_kind(SgCommand::SG)
            .with_target(SgCommand::COLOUR)
            .with_action(action)
            .with_block(block::FF);
        self.push(header.into_bits());
        self.push(Range::new().with_max(width.saturating_sub(1)).into_bits());
        self.push(Range::new().with_max(height.saturating_sub(1)).into_bits());
    }
}

/// The low and high half of a 64-bit value.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the halves are what is asked for"
)]
pub const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
