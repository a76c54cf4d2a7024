//! The register table of BAR0: one line per register or bank, in the order of
//! offsets; `by` says which unit gives it its behaviour. Their bits are in [`crate::fields`] and [`crate::pte`].

use crate::layout::Layout;
use crate::{fields, pte};
use core::fmt;

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

impl Access {
    /// As listings say it: `RO`, `RW`, `W1C`, `trigger`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "RO",
            Self::ReadWrite => "RW",
            Self::WriteOneClear => "W1C",
            Self::Trigger => "trigger",
        }
    }
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

impl Mark {
    /// The reference's letter: `D`, `H`, `I` or `U`.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Defined => "D",
            Self::Header => "H",
            Self::Inferred => "I",
            Self::Unknown => "U",
        }
    }
}

/// A unit of the chip that a register belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bus interface: interrupts.
    Biu,
    /// Command processor: rings.
    Csp,
    /// Memory crossbar: MMU, TLBs, faults.
    Mxu,
    /// Power management.
    Power,
    /// Displays, as far as there are any.
    Display,
    /// The GPU as a whole.
    Whole,
}

/// The declaration of one register, or of a bank of equally wide ones.
#[derive(Clone, Copy, Debug)]
pub struct RegInfo {
    /// The register.
    pub reg: Reg,
    /// Its name in messages and listings.
    pub name: &'static str,
    /// Byte offset in BAR0.
    pub offset: u32,
    /// Width in bytes, 1 or 4; the registers of a bank follow each other without gaps.
    pub width: u8,
    /// The other width in bytes that software may use; 0 if there is none
    /// (hardware reference 7.6).
    pub narrow: u8,
    /// How many there are; 1 unless it is a bank.
    pub count: u32,
    /// How it answers.
    pub access: Access,
    /// Value after power-on and function reset.
    pub reset: u32,
    /// Section of the hardware reference, docs/hardware.md.
    pub section: &'static str,
    /// Trust in it.
    pub mark: Mark,
    /// Who gives it its behaviour; `None`: it is plain storage.
    pub unit: Option<Unit>,
    /// Its bits. A bank of different registers has one layout for each kind;
    /// they alternate.
    pub layouts: &'static [Layout],
    doc: &'static str,
}

impl RegInfo {
    /// The first byte offset behind it.
    pub const fn end(&self) -> u32 {
        self.offset + self.count * self.width as u32
    }

    /// Every bit of it.
    pub const fn bits(&self) -> u32 {
        if self.width == 1 { 0xff } else { u32::MAX }
    }

    /// Whether software may access `bytes` bytes of it at once.
    pub const fn has_width(&self, bytes: u32) -> bool {
        bytes == self.width as u32 || bytes == self.narrow as u32
    }

    /// What it is, in a sentence.
    pub fn about(&self) -> &'static str {
        self.doc.trim_start()
    }

    /// The bits of register `index` of the bank.
    pub const fn layout(&self, index: u32) -> &'static Layout {
        &self.layouts[index as usize % self.layouts.len()]
    }

    /// The name of register `index`: `MMU_MODE`, `TTBR[17]`, `RING[0].TAIL`.
    pub const fn label(&self, index: u32) -> Label {
        Label { info: *self, index }
    }
}

/// The name of one register of a bank; see [`RegInfo::label`].
#[derive(Clone, Copy, Debug)]
pub struct Label {
    info: RegInfo,
    index: u32,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = u32::try_from(self.info.layouts.len()).unwrap_or(1);
        f.write_str(self.info.name)?;
        if self.info.count > kinds {
            write!(f, "[{}]", self.index / kinds)?;
        }
        match self.info.layout(self.index).name {
            "" => Ok(()),
            kind => write!(f, ".{kind}"),
        }
    }
}

macro_rules! fields_of {
    () => {
        &[]
    };
    ($layout:ty) => {
        <$layout>::FIELDS
    };
}

macro_rules! unit {
    () => {
        None
    };
    ($unit:ident) => {
        Some(Unit::$unit)
    };
}

macro_rules! layouts {
    () => { &[Layout::new("", &[])] };
    (: $layout:ty) => { &[Layout::new("", fields_of!($layout))] };
    ($($kind:ident $(: $layout:ty)?),*) => {
        &[$(Layout::new(stringify!($kind), fields_of!($($layout)?)),)*]
    };
}

macro_rules! registers {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident ($text:literal) = $offset:literal, $width:literal $(or $narrow:literal)?, $access:ident, $reset:literal, $section:literal, $mark:ident
            $(by $unit:ident)? $(: $layout:ty)? $([$count:literal])? $({$($kinds:tt)*})?;
    )*) => {
        /// A register of BAR0, or a bank of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reg {$(
            $(#[doc = $doc])*
            $(#[doc = concat!("\n\nBits: [`", stringify!($layout), "`].")])?
            $name,
        )*}

        /// Every declared register, in the order of [`Reg`] and of their offsets.
        pub const REGISTERS: &[RegInfo] = &[$(RegInfo {
            reg: Reg::$name,
            name: $text,
            offset: $offset,
            width: $width,
            narrow: 0 $(+ $narrow)?,
            count: 1 $(- 1 + $count)?,
            access: Access::$access,
            reset: $reset,
            section: $section,
            mark: Mark::$mark,
            unit: unit!($($unit)?),
            layouts: layouts!($(: $layout)? $($($kinds)*)?),
            doc: concat!($($doc),*),
        },)*];
    };
}

registers! {
    /// Mirror of the first word of the MSI capability.
    MsiControl ("MSI_CONTROL") = 0x8048, 4, ReadWrite, 0, "7.3", Inferred: fields::MsiControl;
    /// Mirror of the MSI address's low word; 0 tells software to leave the mirror alone.
    MsiAddress ("MSI_ADDRESS") = 0x804C, 4, ReadOnly, 0, "7.3", Inferred;
    /// Display 1: frame counter and place of the beam.
    Display1 ("DISPLAY1") = 0x8220, 4, ReadOnly, 0, "7.4", Defined by Display [2] {FRAME: fields::DisplayFrame, POSITION: fields::DisplayPosition};
    /// Display 2, as display 1.
    Display2 ("DISPLAY2") = 0x8230, 4, ReadOnly, 0, "7.4", Defined by Display [2] {FRAME: fields::DisplayFrame, POSITION: fields::DisplayPosition};
    /// Legacy VGA ports 0x3C0 to 0x3DF.
    VgaPort ("VGA_PORT") = 0x83C0, 1, ReadWrite, 0, "3", Header [32];
    /// Sources that have fired and are not latched yet.
    BiuRaw ("BIU_RAW") = 0x8504, 4, ReadOnly, 0, "7.1", Defined by Biu: fields::BiuInterrupts;
    /// Enabled sources; reads back what was written.
    BiuEnable ("BIU_ENABLE") = 0x8508, 4, ReadWrite, 0, "7.1", Defined by Biu: fields::BiuInterrupts;
    /// Units that are held in reset.
    EngineReset ("ENGINE_RESET") = 0x8524, 4, ReadWrite, 0, "9.1", Defined by Whole: fields::EngineReset;
    /// The second word of sources that have fired.
    AdvancedRaw ("ADVANCED_RAW") = 0x8548, 4, ReadOnly, 0, "7.1", Defined by Biu: fields::AdvancedInterrupts;
    /// Enabled sources of the second word.
    AdvancedEnable ("ADVANCED_ENABLE") = 0x854C, 4, ReadWrite, 0, "7.1", Defined by Biu: fields::AdvancedInterrupts;
    /// Any write latches both raw words into the shadows and clears them.
    BiuShadow ("BIU_SHADOW") = 0x8574, 4, Trigger, 0, "7.1", Defined by Biu: fields::BiuInterrupts;
    /// Latched second word.
    AdvancedShadow ("ADVANCED_SHADOW") = 0x8578, 4, ReadOnly, 0, "7.1", Defined by Biu: fields::AdvancedInterrupts;
    /// Engine reset bits 32 to 63; stored, without effect.
    EngineResetHigh ("ENGINE_RESET_HIGH") = 0x85B4, 4, ReadWrite, 0, "9.1", Header;
    /// Display 1: all ones while its vertical blank lasts, else 0. Which bit says so is unknown.
    Display1Blank ("DISPLAY1_BLANK") = 0x8834, 1, ReadOnly, 0xFF, "7.4", Unknown by Display;
    /// 0x0A: firmware has initialised the chip.
    Posted ("POSTED") = 0x8852, 1, ReadWrite, 0x0A, "2", Defined;
    /// Serial port 1: the clock and data lines to a monitor.
    SerialPort1 ("SERIAL_PORT1") = 0x88A0, 1, ReadWrite, 0x0C, "7.5", Inferred by Display: fields::SerialPort;
    /// Serial port 2, as port 1.
    SerialPort2 ("SERIAL_PORT2") = 0x88AA, 1, ReadWrite, 0x0C, "7.5", Inferred by Display: fields::SerialPort;
    /// Display 2, as display 1.
    Display2Blank ("DISPLAY2_BLANK") = 0x8934, 1, ReadOnly, 0xFF, "7.4", Unknown by Display;
    /// Serial ports 3 and 4, as port 1.
    SerialPort3 ("SERIAL_PORT3") = 0x89C5, 1, ReadWrite, 0x0C, "7.5", Inferred by Display: fields::SerialPort [2];
    /// Serial port 5, as port 1.
    SerialPort5 ("SERIAL_PORT5") = 0x89F8, 1, ReadWrite, 0x0C, "7.5", Inferred by Display: fields::SerialPort;
    /// Clocks of the engines.
    ClockGates ("CLOCK_GATES") = 0x8A01, 1, ReadWrite, 0, "9.3", Defined: fields::ClockGates;
    /// Second word of the direct path to memory (0, 0x10000000 or 0x20000000 by host architecture).
    BackdoorBase ("BACKDOOR_BASE") = 0x8A6C, 4 or 1, ReadWrite, 0, "1.5", Defined;
    /// First word of the direct path to memory (0x001A4000 turns it on).
    BackdoorControl ("BACKDOOR_CONTROL") = 0x8A70, 4 or 1, ReadWrite, 0, "1.5", Defined;
    /// Device and revision id bytes; software only reports them.
    DeviceByte ("DEVICE_BYTE") = 0x8A80, 1, ReadOnly, 0, "3", Unknown [4];
    /// The adapter's interrupt gate.
    AdapterControl ("ADAPTER_CONTROL") = 0x8AA0, 1, ReadWrite, 0, "7.1", Defined by Biu: fields::AdapterControl;
    /// The bytes that `ENGINE_RESET` is a shadow of; stored, without effect.
    EngineResetByte ("ENGINE_RESET_BYTE") = 0x8AA3, 1, ReadWrite, 0, "9.1", Unknown [4];

    /// Channel 0: scramble pattern. How many of the words carry it is unknown.
    Miu0ScramblePattern ("MIU0_SCRAMBLE_PATTERN") = 0xD300, 4, ReadWrite, 0, "8.4", Unknown [28];
    /// Firmware's word that VRAM works; software polls it for 0xDEADBEAF.
    MemReady ("MEM_READY") = 0xD370, 4, ReadOnly, 0xDEAD_BEAF, "2", Defined by Whole;
    /// Memory channels and GiB per channel; set by the model's configuration.
    MemChannels ("MEM_CHANNELS") = 0xD374, 4, ReadOnly, 0, "2", Defined by Whole: fields::MemChannels;
    /// Channel 0: secure ranges. Range 0 is the BL buffer; how many there are is unknown.
    Miu0Range ("MIU0_RANGE") = 0xD390, 4, ReadWrite, 0, "8.4", Defined [24] {START: fields::MiuRangeAddress, END: fields::MiuRangeAddress};
    /// Channel 0: scramble enable.
    Miu0ScrambleEnable ("MIU0_SCRAMBLE_ENABLE") = 0xD3F0, 4, ReadWrite, 0, "8.4", Defined;
    /// Channel 1: scramble pattern.
    Miu1ScramblePattern ("MIU1_SCRAMBLE_PATTERN") = 0xE300, 4, ReadWrite, 0, "8.4", Unknown [28];
    /// Channel 1: secure ranges. A header constant puts them at 0xD790 instead.
    Miu1Range ("MIU1_RANGE") = 0xE390, 4, ReadWrite, 0, "8.4", Unknown [24] {START: fields::MiuRangeAddress, END: fields::MiuRangeAddress};
    /// Channel 1: scramble enable.
    Miu1ScrambleEnable ("MIU1_SCRAMBLE_ENABLE") = 0xE3F0, 4, ReadWrite, 0, "8.4", Unknown;
    /// Channel 2: scramble pattern.
    Miu2ScramblePattern ("MIU2_SCRAMBLE_PATTERN") = 0xF300, 4, ReadWrite, 0, "8.4", Unknown [28];
    /// Channel 2: secure ranges.
    Miu2Range ("MIU2_RANGE") = 0xF390, 4, ReadWrite, 0, "8.4", Unknown [24] {START: fields::MiuRangeAddress, END: fields::MiuRangeAddress};
    /// Channel 2: scramble enable.
    Miu2ScrambleEnable ("MIU2_SCRAMBLE_ENABLE") = 0xF3F0, 4, ReadWrite, 0, "8.4", Unknown;

    /// Busy bits of the chip's top level; 0 is idle.
    TopBusy ("TOP_BUSY") = 0x30000, 4, ReadOnly, 0, "9.2", Defined by Csp: fields::TopBusy;
    /// Busy bits of the three GPCs, two words each.
    GpcBusy ("GPC_BUSY") = 0x30004, 4, ReadOnly, 0, "9.2", Defined [6] {WORD0: fields::GpcBusy0, WORD1: fields::GpcBusy1};
    /// Rings 0 to 6. Address: page number and kick-off. Size, head (the chip's read pointer) and tail (the doorbell): in bytes.
    LowRings ("RING") = 0x3001C, 4, ReadWrite, 0, "10.1", Defined by Csp [28] {ADDRESS: fields::RingAddress, SIZE, HEAD, TAIL};
    /// GPU timestamp of chips below 1020.
    CspTimestamp ("CSP_TIMESTAMP") = 0x300A4, 4, ReadOnly, 0, "9.4", Defined by Csp [2] {LOW, HIGH};
    /// GPU timestamp of chips from 1020 on.
    CspTimestamp1020 ("CSP_TIMESTAMP_1020") = 0x300B4, 4, ReadOnly, 0, "9.4", Defined by Csp [2] {LOW, HIGH};
    /// Current command of a called buffer.
    L1Dma ("L1_DMA") = 0x303B8, 4, ReadOnly, 0, "9.4", Defined by Csp;
    /// Current command of a buffer called from a called buffer.
    L2Dma ("L2_DMA") = 0x303BC, 4, ReadOnly, 0, "9.4", Defined by Csp;
    /// Current command of each ring.
    RingCommand ("RING_COMMAND") = 0x303C0, 4, ReadOnly, 0, "9.4", Defined by Csp [10];
    /// Units with automatic clock gating; chips from 2030 on.
    PowerManagerConfig ("PWR_MGR_CFG_EN") = 0x303F4, 4, ReadWrite, 0, "9.3", Defined: fields::PowerManagerConfig;
    /// How long a unit idles before it is gated; software writes 0x08202020.
    PowerManagerWait ("PWR_MGR_WAIT_CNT") = 0x303F8, 4, ReadWrite, 0, "9.3", Defined;
    /// State of the automatic gating.
    PowerManagerStatus ("PWR_MGR_STATUS0") = 0x303FC, 4, ReadOnly, 0, "9.3", Header;
    /// Rings 7 to 9 (video cores and VPP), as rings 0 to 6.
    VideoRings ("VIDEO_RING") = 0x30600, 4, ReadWrite, 0, "10.1", Defined by Csp [12] {ADDRESS: fields::RingAddress, SIZE, HEAD, TAIL};
    /// Busy bits of the video cores and VPP.
    VideoBusy ("VIDEO_BUSY") = 0x30630, 4, ReadOnly, 0, "9.2", Defined by Csp: fields::VideoBusy;

    /// Display 3, as display 1.
    Display3 ("DISPLAY3") = 0x34014, 4, ReadOnly, 0, "7.4", Defined by Display [2] {FRAME: fields::DisplayFrame, POSITION: fields::DisplayPosition};
    /// Display 4, as display 1.
    Display4 ("DISPLAY4") = 0x34714, 4, ReadOnly, 0, "7.4", Defined by Display [2] {FRAME: fields::DisplayFrame, POSITION: fields::DisplayPosition};

    /// Translation mode.
    MmuMode ("MMU_MODE") = 0x49004, 4, ReadWrite, 0, "4.6", Defined by Mxu: fields::MmuMode;
    /// Place and size of the buffer of compression flags.
    BlSize ("BL_SIZE") = 0x4900C, 4, ReadWrite, 0, "8.4", Defined by Csp: fields::BlSize;
    /// Which process ids are secure; written from a ring only.
    ProcSec ("PROC_SEC") = 0x49014, 4, ReadWrite, 0, "8.4", Defined: fields::ProcSec;
    /// TLB invalidation: page number and process id.
    PtInvAddr ("PT_INV_ADDR") = 0x49018, 4, ReadWrite, 0, "5", Defined by Mxu: fields::InvalidateAddress;
    /// TLB invalidation: which bits of the address register are compared.
    PtInvMask ("PT_INV_MASK") = 0x4901C, 4, ReadWrite, 0, "5", Defined by Mxu: fields::InvalidateAddress;
    /// TLB invalidation: target and go.
    PtInvTrig ("PT_INV_TRIG") = 0x49020, 4, Trigger, 0, "5", Defined by Mxu: fields::InvalidateTrigger;
    /// Which memory channels are used, and how they interleave.
    ChannelControl ("CHANNEL_CONTROL") = 0x49024, 4, ReadWrite, 0, "8.4", Defined: fields::ChannelControl;
    /// Anti-lock; software writes 8.
    DecControl ("DEC_CTRL") = 0x49028, 4, ReadWrite, 0, "8.4", Defined: fields::DecControl;
    /// One page-fault bit per client.
    MxuIntStatus ("MXU_INT_STATUS") = 0x49038, 4, WriteOneClear, 0, "6", Header by Mxu: fields::MxuIntStatus;
    /// Declared by the chip, every bit reserved.
    MxuIntMask ("MXU_INT_MASK") = 0x4903C, 4, ReadWrite, 0, "6", Header by Mxu: fields::MxuIntMask;
    /// Level, process id and `VA[39:32]` of the first fault.
    FaultStatus0 ("PAGE_FAULT_STATUS0") = 0x49040, 4, ReadOnly, 0, "6", Header by Mxu: fields::FaultStatus0;
    /// `VA[31:0]` of the first fault.
    FaultStatus1 ("PAGE_FAULT_STATUS1") = 0x49044, 4, ReadOnly, 0, "6", Header by Mxu;
    /// Bits 31:2 of the faulting address.
    FaultMemAddr ("MEM_ADDR_FOR_PAGE_FAULT") = 0x49048, 4, ReadOnly, 0, "6", Header by Mxu: fields::FaultAddress;
    /// Where the L1 entry of the first fault is.
    FaultLevel1Addr ("LEVEL_1_FAULT_PAGE_ADDR") = 0x4904C, 4, ReadOnly, 0, "6", Header by Mxu: fields::FaultAddress;
    /// Where the L2 entry of the first fault is.
    FaultLevel2Addr ("LEVEL_2_FAULT_PAGE_ADDR") = 0x49050, 4, ReadOnly, 0, "6", Header by Mxu: fields::FaultAddress;
    /// The buffers Rb0 to Rb2.
    RbFl2 ("RB_FL2") = 0x49054, 4, ReadWrite, 0, "8.4", Defined: fields::Fl2 [3];
    /// The argument buffer.
    ArgumentFl2 ("ARGUMENT_FL2") = 0x49060, 4, ReadWrite, 0, "8.4", Defined: fields::Fl2;
    /// Which level was invalid.
    FaultLevel ("PAGE_FAULT_LEVEL") = 0x49068, 4, ReadOnly, 0, "6", Header by Mxu: fields::FaultLevel;
    /// Pending buffers; software writes 0x4 on chips below 1020, else 0x40.
    PendingBufCtrl0 ("PENDING_BUF_CTRL_0") = 0x4906C, 4, ReadWrite, 0, "8.4", Defined;
    /// Reserves by memory channels; software writes 0x1200003, 0x1300003 or 0x1360003 for 1, 2 or 3.
    DiuReserveCtrl ("DIU_RESERVE_CTRL") = 0x49078, 4, ReadWrite, 0, "8.4", Defined;
    /// Priorities of clients; software writes 0x11000202.
    MxuPriority ("MXU_PRIORITY") = 0x4908C, 4, ReadWrite, 0, "8.4", Defined;
    /// CPU-visible VRAM; no known driver gets to writing it.
    VisibleSize ("VISIBLE_SIZE") = 0x490A0, 4, ReadWrite, 0, "8.4", Header: fields::VisibleSize;
    /// Decouples video core 0; software writes 1 on chips from 1020 on, except 2030.
    Vcp0Decouple ("VCP0_DECOUPLE") = 0x4C910, 4, ReadWrite, 0, "8.4", Defined;
    /// The first page-table level: 16 process ids x 256 entries.
    Ttbr ("TTBR") = 0x50000, 4, ReadWrite, 0, "4.2", Defined by Mxu: pte::Ttbr [4096];

    /// "pmp\0" when that firmware runs; the model has none.
    PmpTag ("PMP_TAG") = 0x70020, 4 or 1, ReadOnly, 0, "3", Defined;
    /// Version text of that firmware, 64 bytes.
    PmpVersion ("PMP_VERSION") = 0x70024, 4 or 1, ReadOnly, 0, "3", Defined [16];
    /// A ROM image of 512 bytes, 0xAA55 first; the model has none.
    RomShadow ("ROM_SHADOW") = 0x7CE00, 4 or 2, ReadOnly, 0, "1.4", Defined [128];
    /// Power state and the handshake about it.
    PowerState ("POWER_STATE") = 0x8E000, 4, ReadWrite, 0, "9.3", Defined by Power: fields::PowerState;
    /// Writing 1 asks for the state that `POWER_STATE` requests.
    PowerDoorbell ("POWER_DOORBELL") = 0x8E080, 4, Trigger, 0, "9.3", Defined by Power: fields::PowerDoorbell;
    /// Temperature sensor.
    Temperature ("TEMPERATURE") = 0x8F000, 4, ReadOnly, 0, "1.2", Unknown [10];
}

/// Looking a register up needs the order of offsets.
const _: () = {
    let mut n = 1;
    while n < REGISTERS.len() {
        assert!(REGISTERS[n - 1].end() <= REGISTERS[n].offset);
        n += 1;
    }
};

/// What is declared in one aligned word of BAR0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A register of four bytes, and its index in the bank.
    Register(Reg, u32),
    /// At least one register of one byte; [`Reg::find`] tells about each.
    Bytes,
    /// Nothing.
    Undeclared,
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
        info.offset + index * info.width as u32
    }

    /// The register that contains byte `offset`, and its index in the bank.
    #[inline]
    pub fn find(offset: u32) -> Option<(Self, u32)> {
        let mut candidates = up_to_word(offset)?.iter().rev();
        let info = candidates.find(|info| info.offset <= offset)?;
        let index = (offset - info.offset) / u32::from(info.width);
        (index < info.count).then_some((info.reg, index))
    }

    /// What the aligned word at `offset` holds.
    #[inline]
    pub fn word(offset: u32) -> Word {
        match up_to_word(offset).and_then(<[_]>::last) {
            Some(info) if info.width == 1 => Word::Bytes,
            Some(info) => Word::Register(info.reg, (offset - info.offset) / 4),
            None => Word::Undeclared,
        }
    }
}

/// For each word of BAR0 the last register in it, counted from 1; 0 for none.
static LAST_IN_WORD: [u8; (BAR0_BYTES / 4) as usize] = {
    let mut last = [0; (BAR0_BYTES / 4) as usize];
    let mut n = 0;
    while n < REGISTERS.len() {
        let (mut word, end) = (REGISTERS[n].offset / 4, REGISTERS[n].end().div_ceil(4));
        n += 1;
        assert!(n <= u8::MAX as usize);
        while word < end {
            #[expect(clippy::cast_possible_truncation, reason = "checked above")]
            let number = n as u8;
            last[word as usize] = number;
            word += 1;
        }
    }
    last
};

/// The registers up to the last one in the word at `offset`, if it has one.
#[inline]
fn up_to_word(offset: u32) -> Option<&'static [RegInfo]> {
    let last = *LAST_IN_WORD.get((offset / 4) as usize)?;
    REGISTERS.get(..last.into()).filter(|all| !all.is_empty())
}

/// Bytes of BAR0 (hardware reference 1.2).
pub const BAR0_BYTES: u32 = 1 << 20;
/// L1 registers of one process id (hardware reference 4.1).
pub const L1_PER_PROCESS: u32 = 256;
/// Process ids the L1 bank has room for (hardware reference 4.1).
pub const PROCESS_IDS: u32 = 16;
/// What [`Reg::MemReady`] reads when VRAM works.
pub const MEM_READY: u32 = 0xDEAD_BEAF;
