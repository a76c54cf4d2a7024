//! The seam for whoever looks at what a GPU does: it is told of everything, in the
//! order in which it happens, and is asked before memory is touched.

use crate::csp::error::{CspError, UnmetWait};
use crate::csp::fences::FenceRecord;
use crate::defect::Defect;
use crate::latched::Latched;
use crate::misuse::Misuse;
use crate::mmu::access::{Access, EntryAt, Invalidation};
use crate::mmu::look::Look;
use crate::mmu::record::FaultRecord;
use crate::width::Width;
use e3k_regs::fields::{FaultClient, TlbTarget};
use e3k_regs::{BusAddr, GpuVa, Reg, VramOffset};
use std::cell::RefCell;

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
        /// Whether a ring has work that goes on by itself.
        busy: bool,
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
    /// A packet writes a register of the MMU or the crossbar; what that does is told
    /// behind it.
    Set {
        /// The ring.
        ring: u8,
        /// The register.
        reg: Reg,
        /// Its place in a bank.
        index: u32,
        /// What is written.
        value: u32,
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
    /// A function reset; all is as after power-on but VRAM, history and counters. The
    /// TLBs are empty.
    Reset,
    /// The function leaves D0 ([`Gpu::sleeps`](crate::Gpu::sleeps)).
    Sleeps,
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
    /// A walk has read an entry: of level 1, then of level 2, then of level 3, as far
    /// as there are valid ones. [`Event::Filled`] of the shared TLB follows, or
    /// [`Event::Fault`].
    Walked {
        /// On whose behalf.
        client: FaultClient,
        /// Whose tables; 0 in PA mode.
        process_id: u8,
        /// The address that is translated.
        va: GpuVa,
        /// 1 to 3.
        level: u8,
        /// Where the first of `entries` is.
        at: EntryAt,
        /// The entry as it was read. Of level 3, where a page has 4 KiB, the 16 of the
        /// 64 KiB around `va`.
        entries: &'a [u32],
    },
    /// A TLB gets entries, which it keeps until they are invalidated or others take
    /// their place. The shared one gets those of a walk, a client's own those of the
    /// shared one or of a walk.
    Filled {
        /// Whose own TLB; `None`: the shared one.
        client: Option<FaultClient>,
        /// Process id; 0 in PA mode.
        process_id: u8,
        /// GPU address of the first entry's page.
        va: GpuVa,
        /// L3 entries of 4 KiB pages that follow each other, also where the tables have
        /// larger pages. Only in the shared TLB some may be invalid; such a one is
        /// never an answer.
        entries: &'a [u32],
    },
    /// TLB entries are dropped.
    Invalidated {
        /// Which TLB was asked for: clients' own or shared.
        target: TlbTarget,
        /// What was asked for; in the shared TLB whole lines of 16 pages are compared.
        what: Invalidation,
        /// Whether the clients' own TLBs drop what the shared one does, where that is
        /// the target (see [`crate::MmuOptions::strict_utlb`]).
        both: bool,
    },
    /// An engine reset of everything empties the TLBs.
    Flushed,
    /// An access was not done; it is on record, and in the registers if they were free.
    Fault(&'a FaultRecord),
    /// The machine unmaps bus addresses for DMA, from now on: they can still be read
    /// ([`Gpu::dma_unmaps`](crate::Gpu::dma_unmaps)).
    DmaUnmaps {
        /// The first one.
        first: BusAddr,
        /// The last one.
        last: BusAddr,
    },
    /// A packet writes compression flags in VRAM, by their place there: no client and
    /// no translation.
    Flags {
        /// The first byte.
        at: VramOffset,
        /// How many; some of them may lie beyond the end of VRAM, where nothing is.
        bytes: u64,
    },
}

/// Whoever looks. It is called while the GPU is in use and must not wait for anything.
///
/// Everything comes in the order in which it happens. What lies behind an event or an
/// access is seen by a [`Look`]; it shows memory at that moment, except that what one
/// copy or fill has written so far may still be on its way there.
pub trait Watch: Send {
    /// Is told of one event.
    fn saw(&mut self, event: &Event<'_>, look: &Look<'_>) {
        let _ = (event, look);
    }

    /// Is asked before each access to memory that a translation has led to, once, whether
    /// it may be made. Pages that follow each other may come as one access.
    ///
    /// One that is refused is a page fault of level 0 with the cause
    /// [`crate::FaultCause::Refused`], which [`Event::Fault`] tells at once; the same
    /// access may be asked for twice before that. The access may still end in a bus
    /// error. A copy's source is asked for before its destination is translated.
    ///
    /// What fills the client's own TLB from the shared one for it is told right before or
    /// right behind it.
    fn admits(&mut self, access: &Access, look: &Look<'_>) -> bool {
        let _ = (access, look);
        true
    }

    /// Is asked once, by [`Gpu::set_watch`](crate::Gpu::set_watch), whether
    /// [`Self::bends`] ever says yes; who says no here is not asked there.
    fn may_bend(&self) -> bool {
        true
    }

    /// Is asked wherever a defect would show, each time, whether it does. So a chip can be
    /// broken always, or now and then.
    fn bends(&mut self, defect: Defect) -> bool {
        let _ = defect;
        false
    }
}

/// What the model tells and asks: nobody or somebody, which is decided once, at each call
/// from outside. It is passed by value, so that nobody costs nothing.
pub(crate) trait Onlooker: Copy {
    /// Whether nobody is there: then what only serves to tell is left out.
    const NOBODY: bool = false;
    fn saw(self, event: &Event<'_>, look: &Look<'_>);
    fn admits(self, access: &Access, look: &Look<'_>) -> bool;
    fn bends(self, defect: Defect) -> bool;
}

/// Nobody: what would be told is not even put together.
#[derive(Clone, Copy)]
pub(crate) struct Off;

impl Onlooker for Off {
    const NOBODY: bool = true;

    #[inline]
    fn saw(self, _: &Event<'_>, _: &Look<'_>) {}

    #[inline]
    fn admits(self, _: &Access, _: &Look<'_>) -> bool {
        true
    }

    #[inline]
    fn bends(self, _: Defect) -> bool {
        false
    }
}

/// Where a GPU keeps who watches it. Nobody is told anything while it is being told
/// something, so it is never borrowed twice.
pub(crate) struct Watcher {
    watch: RefCell<Box<dyn Watch>>,
    may_bend: bool,
}

impl Watcher {
    pub(crate) fn new(watch: Box<dyn Watch>) -> Self {
        Self {
            may_bend: watch.may_bend(),
            watch: RefCell::new(watch),
        }
    }
}

/// Somebody.
#[derive(Clone, Copy)]
pub(crate) struct On<'a>(pub(crate) &'a Watcher);

impl Onlooker for On<'_> {
    fn saw(self, event: &Event<'_>, look: &Look<'_>) {
        self.0.watch.borrow_mut().saw(event, look);
    }

    fn admits(self, access: &Access, look: &Look<'_>) -> bool {
        self.0.watch.borrow_mut().admits(access, look)
    }

    fn bends(self, defect: Defect) -> bool {
        self.0.may_bend && self.0.watch.borrow_mut().bends(defect)
    }
}

/// Where it is seldom used.
impl<T: Onlooker> Onlooker for Option<T> {
    fn saw(self, event: &Event<'_>, look: &Look<'_>) {
        if let Some(watch) = self {
            watch.saw(event, look);
        }
    }

    fn admits(self, access: &Access, look: &Look<'_>) -> bool {
        self.is_none_or(|watch| watch.admits(access, look))
    }

    fn bends(self, defect: Defect) -> bool {
        self.is_some_and(|watch| watch.bends(defect))
    }
}
