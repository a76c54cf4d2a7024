//! Single faults that a test plants in the model, to see whether the checks
//! notice. Only with the feature `planted-faults`, which nothing but this
//! crate's own tests turns on; without it [`planted!`] is `false`.

/// Whether this fault is planted.
#[cfg(feature = "planted-faults")]
macro_rules! planted {
    ($fault:ident) => {
        crate::planted::is_planted(crate::planted::Planted::$fault)
    };
}
#[cfg(not(feature = "planted-faults"))]
macro_rules! planted {
    ($fault:ident) => {
        false
    };
}
pub(crate) use planted;

#[cfg(feature = "planted-faults")]
pub(crate) use list::is_planted;
#[cfg(feature = "planted-faults")]
pub use list::{Planted, plant};

#[cfg(feature = "planted-faults")]
mod list {
    use std::cell::Cell;

    macro_rules! faults {
        ($($(#[$doc:meta])* $name:ident,)*) => {
            /// One fault.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Planted { $($(#[$doc])* $name,)* }

            impl Planted {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$name,)*];
            }
        };
    }

    faults! {
        /// Bit 4 of an invalidation's page mask counts as set.
        MaskBit4Stuck,
        /// Bit 10.
        MaskBit10Stuck,
        /// Bit 20.
        MaskBit20Stuck,
        /// All bits of an invalidation's process mask count as set.
        ProcessMaskStuck,
        /// Invalidations by register do nothing.
        RegisterInvalidationLost,
        /// Invalidations by ring do nothing.
        RingInvalidationLost,
        /// Invalid entries stay in the TLB and answer.
        InvalidEntryCached,
        /// A function reset keeps the TLBs.
        ResetKeepsTlbs,
        /// A function reset keeps the L1 bank.
        ResetKeepsL1,
        /// A function reset keeps the fault registers.
        ResetKeepsFaults,
        /// Addresses beyond 40 bits wrap.
        WideAddressWraps,
        /// PA mode ends one page early.
        VideoSizeTooSmall,
        /// The Snoop attribute is the other one.
        SnoopInverted,
        /// The L2 entry's Segment bit is the other one.
        TableSegmentInverted,
        /// The L1 index leaves out the process id.
        ProcessIgnored,
        /// The L1 index leaves out `VA[39:32]`.
        HighAddressIgnored,
        /// Fault records of PA mode carry the ring's process id.
        ProcessInPaMode,
        /// A fault's level is one too high.
        WrongLevel,
        /// A later fault takes the registers over.
        LaterFaultShown,
        /// A page fault does not interrupt.
        FaultWithoutInterrupt,
        /// A master abort is shown as a page fault.
        BusErrorIsPageFault,
        /// A fault sets the next client's bit.
        WrongClientBit,
        /// The fault address has no byte in its page.
        FaultAddressOfPage,
        /// The fault status reads back what was written.
        StatusIsStorage,
        /// Any write clears the whole fault status.
        AnyWriteClearsStatus,
        /// A fence loses its high half.
        FenceHighHalfLost,
        /// A fence in a buffer uses the kernel's process id.
        FenceOfKernel,
        /// A fence whose Irq is 2 interrupts the CPU.
        EveryFenceInterrupts,
        /// Packets behind a copy overtake it.
        PacketsOvertakeCopies,
        /// Head does not go back to 0 at the end of the ring.
        HeadNotWrapped,
        /// An Indicator "off" keeps the process id.
        OffKeepsProcess,
        /// The last pixel of a piece is not written.
        LastPixelDropped,
        /// The clear colour begins one dword late.
        ColourPhase,
        /// A blit's source offset is not looked at.
        SourceOffsetIgnored,
        /// A latch leaves the raw words.
        LatchKeepsRaw,
        /// Disabled sources interrupt.
        EnableIgnored,
        /// The global gate is always open.
        GateIgnored,
        /// The line never falls.
        LineStaysUp,
        /// A narrow write replaces the whole register.
        NarrowWriteIsWide,
        /// The upper half of a 64-bit write is lost.
        UpperHalfLost,
        /// Engine reset does nothing to rings.
        EngineResetIgnored,
        /// A unit in reset takes register writes.
        HeldRingTakesWrites,
        /// The reset bits of the video cores are each other's.
        VideoResetsSwapped,
        /// An error of the second video core's ring is the first one's.
        VideoErrorOfOther,
        /// An access that should wait for its table is dropped.
        RetryDrops,
        /// A ring goes on behind a fault where it should halt.
        NoStanding,
        /// A table of 64 KiB pages is indexed as one of 4 KiB pages.
        LargeIndexOf4K,
        /// The low page bits of a 4 MiB page count.
        LeafKeepsLowBits,
        /// An external fence that ors copies.
        FenceOrCopies,
        /// An internal one.
        SlotOrCopies,
        /// A Wait for "equal" takes more.
        WaitTakesMore,
        /// `Set_Register` takes its mask for a second value.
        RegisterMaskIgnored,
        /// Offsets in a context are addresses.
        ContextForgotten,
        /// The second piece of a transfer has the first one's registers.
        TransferStartsAnew,
        /// A pixel of any format has four bytes.
        PixelSizeIgnored,
        /// The write mask of a surface is read backwards.
        WriteMaskReversed,
        /// The displays count no frames.
        FramesStandStill,
    }

    thread_local! {
        static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// From now on, in this thread, every GPU has this fault and no other.
    pub fn plant(fault: Option<Planted>) {
        PLANTED.set(fault);
    }

    /// Whether this fault is planted in this thread.
    pub(crate) fn is_planted(fault: Planted) -> bool {
        PLANTED.get() == Some(fault)
    }
}
