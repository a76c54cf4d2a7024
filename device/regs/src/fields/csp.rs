//! The command processor: rings, busy words, power manager (hardware reference 9 and 10.1).

use crate::layout::layout;

layout! {
    /// 0x30000 (hardware reference 9.2).
    TopBusy(u32) {
        /// Command processor.
        csp: bool [1],
        /// Memory crossbar, half A.
        mxu_a: bool [1],
        /// Memory crossbar, half B.
        mxu_b: bool [1],
        /// L2 cache.
        l2: bool [1],
        /// GPC pre-front-end.
        gpcpfe: bool [1],
        /// GPC back end.
        gpcpbe: bool [1],
        /// SG, one bit per GPC.
        sg: u8 [3],
        /// TAS front end, one bit per GPC.
        tasfe: u8 [3],
        /// TAS back end, one bit per GPC.
        tasbe: u8 [3],
        /// Hub, one bit per GPC.
        hub: u8 [3],
        __: u32 [14],
    }

    /// The first busy word of a GPC (hardware reference 9.2).
    GpcBusy0(u32) {
        /// TGZ, one bit per slice.
        tgz: u8 [4],
        /// IU, one bit per slice.
        iu: u8 [4],
        /// WBU, one bit per slice.
        wbu: u8 [4],
        /// WLS, one bit per slice.
        wls: u8 [4],
        /// FFC, one bit per slice.
        ffc: u8 [4],
        /// TU, one bit per slice.
        tu: u8 [4],
        __: u32 [8],
    }

    /// The second busy word of a GPC (hardware reference 9.2).
    GpcBusy1(u32) {
        /// EU constructor, one bit per slice.
        eu: u8 [4],
        /// Vertex shader, one bit per slice.
        vs: u8 [4],
        /// Hull shader, one bit per slice.
        hs: u8 [4],
        /// FE, one bit per slice.
        fe: u8 [4],
        /// Domain shader, one bit per slice.
        ds: u8 [4],
        /// Geometry shader, one bit per slice.
        gs: u8 [4],
        /// Pixel shader, one bit per slice.
        ps: u8 [4],
        /// Compute shader, one bit per slice.
        cs: u8 [4],
    }

    /// 0x30630 (hardware reference 9.2).
    VideoBusy(u32) {
        /// Video core 0.
        vcp0: bool [1],
        /// Video core 1.
        vcp1: bool [1],
        /// Video post-processor.
        vpp: bool [1],
        __: u32 [29],
    }

    /// Word 0 of a ring, `Run_List_Ctx_Addr` (hardware reference 10.1).
    RingAddress(u32) {
        /// GPU page number of the ring.
        page: u32 [28],
        /// L2-cachable; rings 0 to 6 only.
        l2_cachable: bool [1],
        __: u32 [2],
        /// The ring runs.
        kickoff: bool [1],
    }

    /// 0x303F4: which units the chip gates by itself (hardware reference 9.3).
    PowerManagerConfig(u32) {
        /// 3D.
        graphics: bool [1],
        /// Video cores.
        vcp: bool [1],
        /// Video post-processor.
        vpp: bool [1],
        __: u32 [29],
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
