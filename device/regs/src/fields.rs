//! Field layouts of registers, one type per register, least significant bit first.

use bitfield_struct::bitfield;

/// 0x8504, 0x8508, 0x8574: interrupt sources of the bus interface (hardware
/// reference 7.1). Only the sources that the model raises are named.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct BiuInterrupts {
    #[bits(5)]
    __: u8,
    /// A translation failed.
    pub page_fault: bool,
    #[bits(4)]
    __: u8,
    /// A DMA access was answered by nobody.
    pub master_abort: bool,
    #[bits(21)]
    __: u32,
}

/// 0x8548, 0x854C, 0x8578: the second interrupt word (hardware reference 7.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct AdvancedInterrupts {
    #[bits(16)]
    __: u16,
    /// The command processor gave up; the model raises it when a ring is halted.
    pub csp_timeout: bool,
    #[bits(10)]
    __: u16,
    /// A fence command with its interrupt flag was executed.
    pub fence: bool,
    #[bits(4)]
    __: u8,
}

/// 0x8AA0 (hardware reference 7.1).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct AdapterControl {
    /// No interrupt leaves the chip while this is 0.
    pub interrupt_enable: bool,
    #[bits(3)]
    __: u8,
    /// Linear address enable.
    pub linear: bool,
    #[bits(3)]
    __: u8,
}

/// 0x8524: a one holds the unit in reset (hardware reference 9.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EngineReset {
    /// Everything.
    pub all: bool,
    /// Memory interface.
    pub miu: bool,
    /// The four 3D units; they run ring 0.
    #[bits(4)]
    pub graphics: u8,
    /// Video post-processor.
    pub vpp: bool,
    /// Video core 0.
    pub vcp0: bool,
    /// Video core 1.
    pub vcp1: bool,
    #[bits(23)]
    __: u32,
}

/// 0x30000 (hardware reference 9.2). Only what the model drives is named.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct TopBusy {
    /// Command processor.
    pub csp: bool,
    /// Memory crossbar, half A.
    pub mxu_a: bool,
    #[bits(30)]
    __: u32,
}

/// 0x49004 (hardware reference 4.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MmuMode {
    /// 0: PA mode, 1: VA mode.
    pub va_mode: bool,
    #[bits(3)]
    __: u8,
    /// CPU accesses through the BAR use GPU virtual addresses too.
    pub bius_va: bool,
    #[bits(3)]
    __: u8,
    /// VRAM size in 256 MiB units, minus one.
    pub video_size: u8,
    /// Legacy window size.
    pub legacy_size: u8,
    /// Legacy window offset.
    pub legacy_offset: u8,
}

impl MmuMode {
    /// Unit of [`Self::video_size`] in bytes.
    pub const VIDEO_SIZE_UNIT: u64 = 256 << 20;

    /// The end of the untranslated VRAM range in PA mode.
    pub const fn video_bytes(self) -> u64 {
        (self.video_size() as u64 + 1) * Self::VIDEO_SIZE_UNIT
    }
}

/// 0x49018 and, as a mask, 0x4901C (hardware reference 5).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct InvalidateAddress {
    /// GPU page number (address >> 12), or which of its bits are compared.
    #[bits(28)]
    pub page: u32,
    /// Process id, or which of its bits are compared.
    #[bits(4)]
    pub process_id: u8,
}

/// 0x49020 (hardware reference 5).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct InvalidateTrigger {
    /// Process id.
    #[bits(4)]
    pub process_id: u8,
    /// The address register is meant.
    pub addr_valid: bool,
    /// Which TLB.
    #[bits(2)]
    pub target: TlbTarget,
    #[bits(25)]
    __: u32,
}

/// Which TLB an invalidation means (hardware reference 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TlbTarget {
    /// None.
    Off = 0,
    /// The small TLB in front of each client.
    Utlb = 1,
    /// The shared TLB.
    Dtlb = 2,
    /// Reserved.
    Reserved = 3,
}

impl TlbTarget {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Off,
            1 => Self::Utlb,
            2 => Self::Dtlb,
            _ => Self::Reserved,
        }
    }

    const fn into_bits(self) -> u8 {
        self as u8
    }
}

/// 0x49040 (hardware reference 6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct FaultStatus0 {
    #[bits(18)]
    __: u32,
    /// Level of the invalid entry, 1 to 3; 0: the address itself was refused.
    #[bits(2)]
    pub level: u8,
    /// Process id of the access.
    #[bits(4)]
    pub process_id: u8,
    /// VA[39:32].
    pub va_high: u8,
}

/// The bit of [`crate::Reg::MxuIntStatus`] a client uses. The chip's own list
/// is unknown (hardware reference 6); this one is the model's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FaultClient {
    /// Ring fetch.
    RingFetch = 0,
    /// Fetch of a called DMA buffer.
    BufferFetch = 1,
    /// Blit source.
    BlitSource = 2,
    /// Blit and fill destination.
    BlitDestination = 3,
    /// Fence write.
    Fence = 4,
}

impl FaultClient {
    /// Its name in logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFetch => "ring fetch",
            Self::BufferFetch => "buffer fetch",
            Self::BlitSource => "blit source",
            Self::BlitDestination => "blit destination",
            Self::Fence => "fence",
        }
    }
}

/// A ring's four words (hardware reference 10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RingWord {
    /// Page number of the ring and the kick-off bit ([`RingAddress`]).
    Address = 0,
    /// Bytes.
    Size = 1,
    /// Bytes; where the chip reads.
    Head = 2,
    /// Bytes; where software writes. The doorbell.
    Tail = 3,
}

impl RingWord {
    /// The word at index `index % 4`.
    pub const fn from_index(index: u32) -> Self {
        match index % 4 {
            0 => Self::Address,
            1 => Self::Size,
            2 => Self::Head,
            _ => Self::Tail,
        }
    }

    /// BAR0 offset of this word of `ring` (0 to 9; larger numbers mean ring 9).
    pub const fn offset(self, ring: u32) -> u32 {
        let word = self as u32;
        if ring < 7 {
            crate::Reg::LowRings.at(ring * 4 + word)
        } else {
            let ring = if ring > 9 { 9 } else { ring };
            crate::Reg::VideoRings.at((ring - 7) * 4 + word)
        }
    }
}

/// Word 0 of a ring, `Run_List_Ctx_Addr` (hardware reference 10.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RingAddress {
    /// GPU page number of the ring.
    #[bits(28)]
    pub page: u32,
    /// L2-cachable.
    pub l2_cachable: bool,
    #[bits(2)]
    __: u8,
    /// The ring runs.
    pub kickoff: bool,
}
