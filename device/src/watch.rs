//! The seam for whoever looks at what a GPU does: it is told of everything, in the
//! order in which it happens, and changes nothing.

use crate::biu::Latched;
use crate::csp::error::{CspError, UnmetWait};
use crate::csp::fences::FenceRecord;
use crate::misuse::Misuse;
use crate::width::Width;
use e3k_regs::Reg;

/// What has happened, or begins.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A register has been read over the bus. A refused access is not told.
    Read {
        /// Its byte offset in BAR0.
        offset: u32,
        /// How much of it.
        width: Width,
        /// What it read.
        value: u64,
    },
    /// A register is being written over the bus; what that does is told behind it. A
    /// refused access is not told.
    Write {
        /// Its byte offset in BAR0.
        offset: u32,
        /// How much of it.
        width: Width,
        /// What is written.
        value: u64,
    },
    /// A register is used as a driver should not, over the bus or by a packet.
    Misuse {
        /// The register.
        reg: Reg,
        /// Its place in a bank.
        index: u32,
        /// What is done.
        kind: Misuse,
        /// The bits concerned.
        bits: u32,
    },
    /// A function reset; all is as after power-on but VRAM, history and counters.
    Reset,
    /// A ring begins a packet: once more when a page fault had it stand.
    Packet {
        /// The ring.
        ring: u8,
        /// Byte offset in the ring of the packet; of the call, when it is in a buffer.
        offset: u32,
        /// Whether it is in a called buffer.
        in_buffer: bool,
        /// The header, and of the dwords behind it as many as can matter.
        dwords: &'a [u32],
        /// Its length in dwords, those that are not told as well.
        len: u32,
    },
    /// A ring error; the ring stands until an engine reset.
    Halted(&'a CspError),
    /// A Wait is passed that no earlier fence has satisfied.
    Unmet(&'a UnmetWait),
    /// An external fence is in memory.
    Fence(&'a FenceRecord),
    /// The interrupt line rises.
    Interrupt,
    /// The door has latched the pending sources for the driver
    /// ([`Gpu::latch_interrupts`](crate::Gpu::latch_interrupts)).
    Latched(Latched),
}

/// Whoever looks. It is called while the GPU is in use and must not wait for anything.
pub trait Watch: Send {
    /// Is told of one event.
    fn saw(&mut self, event: &Event<'_>);
}

/// Nobody: what would be told is not even put together.
pub(crate) struct Off;

impl Watch for Off {
    #[inline(always)]
    fn saw(&mut self, _: &Event<'_>) {}
}

impl Watch for Box<dyn Watch> {
    fn saw(&mut self, event: &Event<'_>) {
        (**self).saw(event);
    }
}

/// Where it is seldom used: elsewhere one look at the start decides for all that follows.
impl<W: Watch> Watch for Option<W> {
    fn saw(&mut self, event: &Event<'_>) {
        if let Some(watch) = self {
            watch.saw(event);
        }
    }
}
