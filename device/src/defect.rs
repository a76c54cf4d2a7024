//! How a chip can be broken: one fault each, for tests that must notice it.

use std::fmt;

/// What a defect is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefectGroup {
    /// Sources, the gate, the line, the latch.
    Interrupts,
    /// Fences and Waits.
    Fences,
    /// Doorbells, Head, the order of packets, engine resets.
    Rings,
    /// Invalidations, and what stays in a TLB.
    Tlbs,
    /// Translation, and what is shown of its faults.
    Tables,
    /// Copies and fills.
    Copies,
    /// Register accesses, resets, displays.
    Registers,
}

impl DefectGroup {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Interrupts,
        Self::Fences,
        Self::Rings,
        Self::Tlbs,
        Self::Tables,
        Self::Copies,
        Self::Registers,
    ];

    /// Its name in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupts => "interrupts",
            Self::Fences => "fences",
            Self::Rings => "rings",
            Self::Tlbs => "TLBs",
            Self::Tables => "tables and faults",
            Self::Copies => "copies and fills",
            Self::Registers => "registers and resets",
        }
    }
}

macro_rules! defects {
    ($([$group:ident] $($defect:ident $name:literal $what:literal,)*)*) => {
        /// One fault of a chip; [`crate::Watch::bends`] plants it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Defect { $($(#[doc = $what] $defect,)*)* }

        impl Defect {
            /// All of them, group by group.
            pub const ALL: &[Self] = &[$($(Self::$defect,)*)*];

            /// Its name, in lower case with hyphens.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$defect => $name,)*)* }
            }

            /// What a chip does that has it, in one sentence.
            pub const fn what(self) -> &'static str {
                match self { $($(Self::$defect => $what,)*)* }
            }

            /// What it is about.
            pub const fn group(self) -> DefectGroup {
                match self { $($(Self::$defect => DefectGroup::$group,)*)* }
            }
        }
    };
}

defects! {
    [Interrupts]
    InterruptLost "interrupt-lost" "Every second interrupt does not reach the machine; its source stays pending.",
    InterruptLate "interrupt-late" "An interrupt comes up to 17 ms late, at the end of the display's frame.",
    InterruptSpurious "interrupt-spurious" "Every second time that the line falls, an interrupt comes for which nothing is pending.",
    EnableIgnored "enable-ignored" "Sources that are not enabled interrupt as well.",
    GateIgnored "gate-ignored" "Interrupts come while the global gate is closed.",
    LineStaysUp "line-stays-up" "The line never falls.",
    LatchKeepsRaw "latch-keeps-raw" "Latching the status does not clear the pending sources.",
    FaultWithoutInterrupt "fault-without-interrupt" "A page fault does not interrupt.",
    VideoErrorOfOther "video-error-of-other" "An error of the second video core's ring interrupts as the first one's.",
    EveryFenceInterrupts "every-fence-interrupts" "A fence that asks to interrupt the GPU interrupts the CPU.",

    [Fences]
    FenceLost "fence-lost" "Every eighth external fence is not written; its interrupt comes.",
    FenceBeforeData "fence-before-data" "Packets behind a copy or fill overtake it, its fence too.",
    FenceHighHalfLost "fence-high-half-lost" "A fence of 64 bits is written with a high half of zeros.",
    FenceOfKernel "fence-of-kernel" "A fence in a called buffer is translated for process id 0.",
    FenceOrCopies "fence-or-copies" "An external fence that should OR its value replaces what is there.",
    SlotOrCopies "slot-or-copies" "An internal fence that should OR its value replaces what is there.",
    WaitTakesMore "wait-takes-more" "A Wait for exactly a value is satisfied by a larger one.",

    [Rings]
    DoorbellLost "doorbell-lost" "Every eighth write to a ring's Tail is lost.",
    HeadLags "head-lags" "A ring's Head reads as the start of its last packet, not as its end.",
    HeadNotWrapped "head-not-wrapped" "Head does not go back to 0 at the end of the ring.",
    OffKeepsProcess "off-keeps-process" "An Indicator that ends a process's work keeps its process id.",
    ContextForgotten "context-forgotten" "Offsets in a context are taken for addresses.",
    EngineResetIgnored "engine-reset-ignored" "Engine reset does nothing to the rings.",
    HeldRingTakesWrites "held-ring-takes-writes" "A ring that is held in reset takes register writes.",
    VideoResetsSwapped "video-resets-swapped" "The reset bits of the two video cores are each other's.",
    NoStanding "no-standing" "A ring goes on behind a fault where it should stand still.",
    RetryDrops "retry-drops" "An access that should wait for its tables is dropped.",

    [Tlbs]
    Invalidations "invalidations" "TLB entries survive every invalidation.",
    RegisterInvalidationLost "register-invalidation-lost" "Invalidations by register do nothing.",
    RingInvalidationLost "ring-invalidation-lost" "Invalidations by packet do nothing.",
    MaskBit4Stuck "mask-bit-4-stuck" "Bit 4 of an invalidation's page mask counts as set.",
    MaskBit10Stuck "mask-bit-10-stuck" "Bit 10 of an invalidation's page mask counts as set.",
    MaskBit20Stuck "mask-bit-20-stuck" "Bit 20 of an invalidation's page mask counts as set.",
    ProcessMaskStuck "process-mask-stuck" "All bits of an invalidation's process mask count as set.",
    InvalidEntryCached "invalid-entry-cached" "Invalid entries stay in the shared TLB and are an answer.",
    ResetKeepsTlbs "reset-keeps-tlbs" "A function reset keeps the TLBs.",

    [Tables]
    Segments "segments" "Every page is taken to lie in VRAM, whatever its entry says.",
    SnoopInverted "snoop-inverted" "The Snoop attribute of a page is the other one.",
    TableSegmentInverted "table-segment-inverted" "The Segment bit of an L2 entry is the other one.",
    ProcessIgnored "process-ignored" "Every process id uses the L1 registers of process id 0.",
    HighAddressIgnored "high-address-ignored" "Bits 32 to 39 of an address do not choose the L1 register.",
    WideAddressWraps "wide-address-wraps" "Addresses of more than 40 bits wrap.",
    VideoSizeTooSmall "video-size-too-small" "PA mode ends one page too early.",
    LargeIndexOf4K "large-index-of-4k" "A table of 64 KiB pages is indexed as one of 4 KiB pages.",
    LeafKeepsLowBits "leaf-keeps-low-bits" "The low page bits of a 4 MiB page's entry count.",
    ProcessInPaMode "process-in-pa-mode" "Fault records of PA mode carry the ring's process id.",
    WrongLevel "wrong-level" "The level in a fault's record is one too high.",
    LaterFaultShown "later-fault-shown" "A later fault takes the fault registers over.",
    BusErrorIsPageFault "bus-error-is-page-fault" "A master abort is shown as a page fault.",
    WrongClientBit "wrong-client-bit" "A fault sets the next client's status bit.",
    FaultAddressOfPage "fault-address-of-page" "The fault address has no byte in its page.",
    StatusIsStorage "status-is-storage" "The fault status reads back what was written to it.",
    AnyWriteClearsStatus "any-write-clears-status" "Any write clears the whole fault status.",

    [Copies]
    Copies "copies" "Copies move nothing.",
    Fills "fills" "Fills write nothing.",
    RowsEndEarly "rows-end-early" "The last pixel of each row of a copy or fill is left out.",
    ColourPhase "colour-phase" "The clear colour begins one dword late.",
    SourceOffsetIgnored "source-offset-ignored" "A copy starts at the corner of its source, whatever its offset.",
    PixelSizeIgnored "pixel-size-ignored" "A pixel of any format has four bytes.",
    WriteMaskReversed "write-mask-reversed" "The write mask of a surface is read backwards.",

    [Registers]
    NarrowWriteIsWide "narrow-write-is-wide" "A write of one or two bytes replaces the whole register.",
    UpperHalfLost "upper-half-lost" "The upper half of a 64-bit write is lost.",
    RegisterMaskIgnored "register-mask-ignored" "A packet that sets a register takes its mask for a second value.",
    TransferStartsAnew "transfer-starts-anew" "The second piece of registers from or to memory is the first one's.",
    ResetKeepsL1 "reset-keeps-l1" "A function reset keeps the L1 registers.",
    ResetKeepsFaults "reset-keeps-faults" "A function reset keeps the fault registers.",
    FramesStandStill "frames-stand-still" "The displays count no frames.",
}

impl Defect {
    /// The defect of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|defect| defect.name() == name)
    }

    /// Of how many times that it could show it shows once, the last: 1 is always.
    pub const fn every(self) -> u32 {
        match self {
            Self::InterruptLost | Self::InterruptSpurious => 2,
            Self::FenceLost | Self::DoorbellLost => 8,
            _ => 1,
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of defects.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Defects(u128);

const _: () = assert!(Defect::ALL.len() <= u128::BITS as usize, "a bit for each");

impl Defects {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that there are, in the order of [`Defect::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Defect> {
        let all = Defect::ALL.iter().copied();
        all.filter(move |defect| self.0 >> *defect as u32 & 1 == 1)
    }
}

impl FromIterator<Defect> for Defects {
    fn from_iter<I: IntoIterator<Item = Defect>>(defects: I) -> Self {
        let bits = defects.into_iter().map(|defect| 1 << defect as u32);
        Self(bits.fold(0, |all: u128, bit: u128| all | bit))
    }
}

impl<const N: usize> From<[Defect; N]> for Defects {
    fn from(defects: [Defect; N]) -> Self {
        defects.into_iter().collect()
    }
}

impl fmt::Debug for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
