//! The memory crossbar: translation mode, TLB invalidation, faults, and the
//! set-up of caches and channels (hardware reference 4.6, 5, 6 and 8.4).

use crate::layout::layout;

layout! {
    /// 0x49004 (hardware reference 4.6).
    MmuMode(u32) {
        /// 0: PA mode, 1: VA mode.
        va_mode: bool [1],
        __: u32 [3],
        /// CPU accesses through the BAR use GPU virtual addresses too.
        bius_va: bool [1],
        __: u32 [3],
        /// VRAM size in 256 MiB units, minus one.
        video_size: u8 [8],
        /// Legacy window size.
        legacy_size: u8 [8],
        /// Legacy window offset.
        legacy_offset: u8 [8],
    }

    /// 0x4900C: the buffer of compression flags (hardware reference 8.4).
    BlSize(u32) {
        /// 8 MiB << this; 5 (256 MiB) is the largest.
        size: u8 [3],
        __: u32 [1],
        /// VRAM offset >> 16.
        offset: u32 [19],
        __: u32 [1],
        /// Invalidation is on.
        invalidate: bool [1],
        __: u32 [7],
    }

    /// 0x49014 (hardware reference 8.4).
    ProcSec(u32) {
        /// One bit per process id: it is secure.
        secure: u16 [16],
        __: u32 [16],
    }

    /// 0x49018 and, as a mask, 0x4901C (hardware reference 5).
    InvalidateAddress(u32) {
        /// GPU page number (address >> 12), or which of its bits are compared.
        page: u32 [28],
        /// Process id, or which of its bits are compared.
        process_id: u8 [4],
    }

    /// 0x49020 (hardware reference 5).
    InvalidateTrigger(u32) {
        /// Process id.
        process_id: u8 [4],
        /// The address register is meant.
        addr_valid: bool [1],
        /// Which TLB: 0 none, 1 UTLB, 2 DTLB, 3 reserved.
        target: TlbTarget [2],
        __: u32 [25],
    }

    /// 0x49024 (hardware reference 8.4).
    ChannelControl(u32) {
        /// One bit per memory channel: it is disabled.
        disable: u8 [3],
        /// Interleave: 256 bytes << this; 2 (1 KiB) is the largest.
        interleave: u8 [3],
        __: u32 [26],
    }

    /// 0x49028 (hardware reference 8.4).
    DecControl(u32) {
        /// Anti-lock threshold.
        threshold: u8 [3],
        /// Anti-lock is on.
        anti_lock: bool [1],
        __: u32 [28],
    }

    /// 0x49038 (hardware reference 6).
    MxuIntStatus(u32) {
        /// One bit per client that met a fault: 0 ring fetch, 1 buffer fetch, 2 blit source, 3 blit destination, 4 fence, 5 register load, 6 register dump.
        page_fault: u32 [30],
        __: u32 [2],
    }

    /// 0x4903C: every bit is reserved (hardware reference 6).
    MxuIntMask(u32) {
        __: u32 [32],
    }

    /// 0x49040 (hardware reference 6).
    FaultStatus0(u32) {
        __: u32 [18],
        /// Level of the invalid entry, 1 to 3; 0: the address itself was refused.
        level: u8 [2],
        /// Process id of the access.
        process_id: u8 [4],
        /// `VA[39:32]`.
        va_high: u8 [8],
    }

    /// 0x49048, 0x4904C, 0x49050: an address of the first fault (hardware reference 6).
    FaultAddress(u32) {
        __: u32 [2],
        /// Bits 31:2 of the address.
        address: u32 [30],
    }

    /// 0x49068 (hardware reference 6; the header's two fields overlap).
    FaultLevel(u32) {
        /// L1 was invalid.
        l1_invalid: u8 [2],
        /// L2 was invalid.
        l2_invalid: u32 [30],
    }

    /// 0x49054 to 0x49060: a buffer's place (hardware reference 8.4).
    Fl2(u32) {
        /// Base.
        base: u32 [20],
        /// Size in 64 KiB units.
        size: u16 [12],
    }

    /// 0x490A0 (hardware reference 8.4).
    VisibleSize(u32) {
        /// CPU-visible VRAM in 16 MiB units, minus one.
        visible: u8 [8],
        __: u32 [24],
    }
}

impl MmuMode {
    /// Unit of [`Self::video_size`] in bytes.
    pub const VIDEO_SIZE_UNIT: u64 = 256 << 20;

    /// The end of the untranslated VRAM range in PA mode.
    pub const fn video_bytes(self) -> u64 {
        (self.video_size() as u64 + 1) * Self::VIDEO_SIZE_UNIT
    }
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

/// The bit of [`crate::Reg::MxuIntStatus`] a client uses. The chip's own list
/// is unknown (hardware reference 6); this one is the model's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
    /// Register values that a packet loads from memory.
    RegisterLoad = 5,
    /// Register values that a packet stores to memory.
    RegisterDump = 6,
}

impl FaultClient {
    /// How many clients there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in order.
    pub const ALL: &[Self] = &[
        Self::RingFetch,
        Self::BufferFetch,
        Self::BlitSource,
        Self::BlitDestination,
        Self::Fence,
        Self::RegisterLoad,
        Self::RegisterDump,
    ];

    /// Its name in logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFetch => "ring fetch",
            Self::BufferFetch => "buffer fetch",
            Self::BlitSource => "blit source",
            Self::BlitDestination => "blit destination",
            Self::Fence => "fence",
            Self::RegisterLoad => "register load",
            Self::RegisterDump => "register dump",
        }
    }
}
