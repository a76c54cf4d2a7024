//! The register table of BAR0: one line per register or bank. Field layouts
//! are in [`crate::fields`]; PTE-shaped registers in [`crate::pte`].

/// How a register answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes are dropped.
    ReadOnly,
    /// Reads back what was written.
    ReadWrite,
    /// A written one clears that bit.
    WriteOneClear,
    /// Any written value triggers; what a read returns is the register's own rule.
    Trigger,
}

/// How sure the hardware reference is of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Defined in a header and used by a driver in that way.
    Defined,
    /// Only defined; behaviour is not proven.
    Header,
    /// Inferred from use.
    Inferred,
    /// Unknown: see docs/model-choices.md.
    Unknown,
}

/// The declaration of one register, or of a bank of equal ones.
#[derive(Clone, Copy, Debug)]
pub struct RegInfo {
    /// The register.
    pub reg: Reg,
    /// Its name in messages and listings.
    pub name: &'static str,
    /// Byte offset in BAR0.
    pub offset: u32,
    /// Width in bytes.
    pub width: u8,
    /// How many there are; 1 unless it is a bank.
    pub count: u32,
    /// Bytes from one register of a bank to the next.
    pub stride: u32,
    /// How it answers.
    pub access: Access,
    /// Value after power-on and function reset.
    pub reset: u32,
    /// Section of the hardware reference.
    pub section: &'static str,
    /// Trust in it.
    pub mark: Mark,
}

macro_rules! registers {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident ($text:literal) = $offset:literal, $width:literal, $access:ident, $reset:literal, $section:literal, $mark:ident
            $([$count:literal x $stride:literal])?;
    )*) => {
        /// A register of BAR0, or a bank of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reg { $($(#[doc = $doc])* $name,)* }

        /// Every declared register, in the order of [`Reg`].
        pub const REGISTERS: &[RegInfo] = &[$(RegInfo {
            reg: Reg::$name,
            name: $text,
            offset: $offset,
            width: $width,
            count: 1 $(- 1 + $count)?,
            stride: 4 $(- 4 + $stride)?,
            access: Access::$access,
            reset: $reset,
            section: $section,
            mark: Mark::$mark,
        },)*];
    };
}

registers! {
    /// Firmware's word that VRAM works; software polls it for 0xDEADBEAF.
    MemReady ("MEM_READY") = 0xD370, 4, ReadOnly, 0xDEAD_BEAF, "2", Defined;
    /// Memory channels and GiB per channel ([`crate::chip::MemoryChannels`]); set by the model's configuration.
    MemChannels ("MEM_CHANNELS") = 0xD374, 4, ReadOnly, 0, "2", Defined;
    /// 0x0A: firmware has initialised the chip.
    Posted ("POSTED") = 0x8852, 1, ReadWrite, 0x0A, "2", Defined;

    /// Sources that have fired and are not latched yet ([`crate::fields::BiuInterrupts`]).
    BiuRaw ("BIU_RAW") = 0x8504, 4, ReadOnly, 0, "7.1", Defined;
    /// Enabled sources; reads back what was written.
    BiuEnable ("BIU_ENABLE") = 0x8508, 4, ReadWrite, 0, "7.1", Defined;
    /// Engine reset bits ([`crate::fields::EngineReset`]).
    EngineReset ("ENGINE_RESET") = 0x8524, 4, ReadWrite, 0, "9.1", Defined;
    /// The second word of sources ([`crate::fields::AdvancedInterrupts`]).
    AdvancedRaw ("ADVANCED_RAW") = 0x8548, 4, ReadOnly, 0, "7.1", Defined;
    /// Enabled sources of the second word.
    AdvancedEnable ("ADVANCED_ENABLE") = 0x854C, 4, ReadWrite, 0, "7.1", Defined;
    /// Any write latches both raw words into the shadows and clears them.
    BiuShadow ("BIU_SHADOW") = 0x8574, 4, Trigger, 0, "7.1", Defined;
    /// Latched second word.
    AdvancedShadow ("ADVANCED_SHADOW") = 0x8578, 4, ReadOnly, 0, "7.1", Defined;
    /// Engine reset bits 32 to 63; stored, without effect.
    EngineResetHigh ("ENGINE_RESET_HIGH") = 0x85B4, 4, ReadWrite, 0, "9.1", Header;
    /// Bit 0: the global interrupt gate ([`crate::fields::AdapterControl`]).
    AdapterControl ("ADAPTER_CONTROL") = 0x8AA0, 1, ReadWrite, 0, "7.1", Defined;

    /// Busy bits of the chip's top level ([`crate::fields::TopBusy`]); 0 is idle.
    TopBusy ("TOP_BUSY") = 0x30000, 4, ReadOnly, 0, "9.2", Defined;
    /// Busy bits of the three GPCs, two words each.
    GpcBusy ("GPC_BUSY") = 0x30004, 4, ReadOnly, 0, "9.2", Defined [6 x 4];
    /// Address, size, head and tail of rings 0 to 6, four words each ([`crate::fields::RingWord`]).
    LowRings ("RING") = 0x3001C, 4, ReadWrite, 0, "10.1", Defined [28 x 4];
    /// The same of rings 7 to 9 (video cores and VPP).
    VideoRings ("VIDEO_RING") = 0x30600, 4, ReadWrite, 0, "10.1", Defined [12 x 4];
    /// Busy bits of the video cores and VPP.
    VideoBusy ("VIDEO_BUSY") = 0x30630, 4, ReadOnly, 0, "9.2", Defined;

    /// Translation mode ([`crate::fields::MmuMode`]).
    MmuMode ("MMU_MODE") = 0x49004, 4, ReadWrite, 0, "4.6", Defined;
    /// TLB invalidation: page number and process id ([`crate::fields::InvalidateAddress`]).
    PtInvAddr ("PT_INV_ADDR") = 0x49018, 4, ReadWrite, 0, "5", Defined;
    /// TLB invalidation: which bits of the above are compared ([`crate::fields::InvalidateAddress`]).
    PtInvMask ("PT_INV_MASK") = 0x4901C, 4, ReadWrite, 0, "5", Defined;
    /// TLB invalidation: target and go ([`crate::fields::InvalidateTrigger`]).
    PtInvTrig ("PT_INV_TRIG") = 0x49020, 4, Trigger, 0, "5", Defined;
    /// One page-fault bit per client ([`crate::fields::FaultClient`]).
    MxuIntStatus ("MXU_INT_STATUS") = 0x49038, 4, WriteOneClear, 0, "6", Header;
    /// Declared by the chip, every bit reserved.
    MxuIntMask ("MXU_INT_MASK") = 0x4903C, 4, ReadWrite, 0, "6", Header;
    /// Level, process id and VA[39:32] of the first fault ([`crate::fields::FaultStatus0`]).
    FaultStatus0 ("PAGE_FAULT_STATUS0") = 0x49040, 4, ReadOnly, 0, "6", Header;
    /// VA[31:0] of the first fault.
    FaultStatus1 ("PAGE_FAULT_STATUS1") = 0x49044, 4, ReadOnly, 0, "6", Header;
    /// Bits 31:2 of the faulting address.
    FaultMemAddr ("MEM_ADDR_FOR_PAGE_FAULT") = 0x49048, 4, ReadOnly, 0, "6", Header;
    /// Where the L1 entry of the first fault is.
    FaultLevel1Addr ("LEVEL_1_FAULT_PAGE_ADDR") = 0x4904C, 4, ReadOnly, 0, "6", Header;
    /// Where the L2 entry of the first fault is.
    FaultLevel2Addr ("LEVEL_2_FAULT_PAGE_ADDR") = 0x49050, 4, ReadOnly, 0, "6", Header;
    /// Which level was invalid.
    FaultLevel ("PAGE_FAULT_LEVEL") = 0x49068, 4, ReadOnly, 0, "6", Header;

    /// The first page-table level: 16 process ids x 256 entries ([`crate::pte::Ttbr`]).
    Ttbr ("TTBR") = 0x50000, 4, ReadWrite, 0, "4.2", Defined [4096 x 4];
}

impl Reg {
    /// The declaration.
    pub const fn info(self) -> &'static RegInfo {
        &REGISTERS[self as usize]
    }

    /// Byte offset in BAR0 (of the first one of a bank).
    pub const fn offset(self) -> u32 {
        self.info().offset
    }

    /// Byte offset of register `index` of a bank. The caller keeps `index`
    /// below [`RegInfo::count`].
    pub const fn at(self, index: u32) -> u32 {
        let info = self.info();
        info.offset + index * info.stride
    }

    /// The register that contains byte `offset`, and its index in the bank.
    pub fn find(offset: u32) -> Option<(Self, u32)> {
        REGISTERS.iter().find_map(|info| {
            let rel = offset.checked_sub(info.offset)?;
            let index = rel / info.stride;
            let inside = index < info.count && rel % info.stride < u32::from(info.width);
            inside.then_some((info.reg, index))
        })
    }
}

/// Bytes of BAR0 (hardware reference 1.2).
pub const BAR0_BYTES: u32 = 1 << 20;
/// L1 registers of one process id (hardware reference 4.1).
pub const L1_PER_PROCESS: u32 = 256;
/// Process ids the L1 bank has room for (hardware reference 4.1).
pub const PROCESS_IDS: u32 = 16;
/// What [`Reg::MemReady`] reads when VRAM works.
pub const MEM_READY: u32 = 0xDEAD_BEAF;
