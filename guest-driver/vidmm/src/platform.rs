//! The world as the memory manager sees it. Everything it does to hardware or
//! to the kernel goes through these traits: the kernel module implements them
//! over virtio and PCI, tests implement them on the model in the same
//! process.
//!
//! Locking: an [`crate::Adapter`] is used under one device lock, held by the
//! caller. [`Interrupts::wait`] and [`crate::Timeline`] are used without it.

use crate::Error;
use core::fmt;
use e3k_regs::{BusAddr, VramOffset};

/// How the CPU maps pages; a property of the pages, the same in every mapping (R-7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caching {
    /// Cached: snooped by the GPU.
    Cached,
    /// Write-combined: not snooped, or device memory.
    WriteCombined,
}

/// What the machine has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemInfo {
    /// RAM.
    pub total_bytes: u64,
    /// RAM that is free now.
    pub free_bytes: u64,
    /// CPU page.
    pub page_bytes: u64,
}

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something is odd and was handled.
    Warning,
    /// For a reader of the kernel log.
    Info,
}

/// RAM pages, time, log.
pub trait Platform {
    /// Owned RAM pages. They are given back by [`Platform::free_pages`], never by drop.
    type Pages;

    /// What the machine has.
    fn system_info(&self) -> SystemInfo;

    /// `count` zeroed pages, not necessarily contiguous, reachable by the GPU. With
    /// [`Caching::WriteCombined`] every mapping of them is that, the kernel's own too,
    /// the zeros are in memory, and no line of the pages is left in a cache: the GPU
    /// does not look there. (In Linux `set_pages_array_wc` after the pages are zeroed,
    /// which flushes; a mapping made with `pgprot_writecombine` alone does not. The DMA
    /// API does it where devices are not coherent.)
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing is kept then.
    fn alloc_pages(&self, count: usize, caching: Caching) -> Result<Self::Pages, Error>;

    /// Gives pages back. The caller has made sure that the GPU cannot reach them. Stores
    /// through a write-combined mapping are in memory before somebody else maps the pages
    /// cached. (In Linux `set_pages_array_wb`.)
    fn free_pages(&self, pages: Self::Pages);

    /// Where the GPU finds page `index`; `None` if there is no such page.
    fn bus_addr(&self, pages: &Self::Pages, index: usize) -> Option<BusAddr>;

    /// The CPU's page frame number of page `index`, for user mappings.
    fn frame(&self, pages: &Self::Pages, index: usize) -> Option<u64>;

    /// One aligned 64-bit load with acquire order, `offset` bytes into the
    /// pages, which are cached; 0 outside them. Callable from an interrupt handler.
    fn load_u64(&self, pages: &Self::Pages, offset: usize) -> u64;

    /// Monotonic time in nanoseconds. Callable from an interrupt handler.
    fn now_ns(&self) -> u64;

    /// Writes one line to the log.
    fn log(&self, level: LogLevel, line: fmt::Arguments<'_>);
}

/// One register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterOp {
    /// Byte offset in BAR0, a multiple of [`Self::bytes`].
    pub offset: u32,
    /// Width of the access: 4, or 1 for a byte register.
    pub bytes: u8,
    /// Read or write.
    pub write: bool,
    /// What is written; after a read, what was read.
    pub value: u32,
}

impl RegisterOp {
    /// The read of what this accesses.
    pub(crate) const fn to_read(self) -> Self {
        Self {
            write: false,
            value: 0,
            ..self
        }
    }

    /// The write of its value to what this accesses.
    pub(crate) const fn to_write(self) -> Self {
        Self {
            write: true,
            ..self
        }
    }
}

/// The registers in BAR0. May sleep.
///
/// ```
/// use std::cell::Cell;
/// use vidmm::{Error, RegisterOp, Registers};
/// /// One register, at 0x10.
/// struct Chip(Cell<u32>);
/// impl Registers for Chip {
///     fn access(&self, ops: &mut [RegisterOp]) -> Result<(), Error> {
///         for op in ops {
///             match op.offset {
///                 0x10 if op.write => self.0.set(op.value),
///                 0x10 => op.value = self.0.get(),
///                 _ => return Err(Error::Io),
///             }
///         }
///         Ok(())
///     }
///     fn set_dma(&self, _: bool) {}
/// }
/// let chip = Chip(Cell::new(0));
/// chip.write(0x10, 7)?;
/// assert_eq!((chip.read(0x10), chip.read(0x14)), (Ok(7), Err(Error::Io)));
/// # Ok::<(), Error>(())
/// ```
pub trait Registers {
    /// Runs the accesses in order; reads see earlier writes.
    ///
    /// # Errors
    /// [`Error::Lost`] when the device does not answer, [`Error::Io`] when it
    /// refuses an access. Accesses before the refused one have happened.
    fn access(&self, ops: &mut [RegisterOp]) -> Result<(), Error>;

    /// Whether the device may reach memory. Off until the GPU has been made quiet
    /// by `vidmm_init`, and off again before pages are given back at the end.
    fn set_dma(&self, on: bool);

    /// Reads one 32-bit register.
    fn read(&self, offset: u32) -> Result<u32, Error> {
        let mut op = [RegisterOp {
            offset,
            bytes: 4,
            write: false,
            value: 0,
        }];
        self.access(&mut op)?;
        Ok(op[0].value)
    }

    /// Writes one 32-bit register.
    fn write(&self, offset: u32, value: u32) -> Result<(), Error> {
        self.access(&mut [RegisterOp {
            offset,
            bytes: 4,
            write: true,
            value,
        }])
    }
}

/// The CPU's window on the beginning of VRAM. Offsets outside the window read
/// 0 and drop writes; they are a bug of the caller.
pub trait VramWindow {
    /// Bytes of VRAM as the bus tells them, `None` if only the chip knows.
    fn vram_bytes(&self) -> Option<u64>;

    /// Bytes of the window.
    fn visible_bytes(&self) -> u64;

    /// The CPU's physical address of a byte of the window.
    fn cpu_address(&self, at: VramOffset) -> u64;

    /// One aligned 32-bit load, with acquire order. Callable from an interrupt
    /// handler.
    fn load_u32(&self, at: VramOffset) -> u32;

    /// Aligned 32-bit stores to consecutive words. The window is write-combined: the GPU
    /// may see them late, and in another order, until [`Self::write_barrier`].
    fn store_u32(&self, at: VramOffset, values: &[u32]);

    /// Makes every store so far of this CPU visible to the GPU before anything that
    /// follows: those to the window, and those that a user has made to write-combined
    /// pages before it called. (In Linux `wmb()`.)
    fn write_barrier(&self);
}

/// Why [`Interrupts::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The condition holds.
    Ready,
    /// The deadline passed first.
    TimedOut,
    /// The caller has a signal to handle.
    Interrupted,
}

/// Whether a signal ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It does: [`Wake::Interrupted`].
    UntilSignal,
    /// It does not: the driver stops or sleeps, and a user's signal is no reason
    /// to leave work unfinished.
    Patient,
}

/// Waiting for the device's interrupt.
pub trait Interrupts {
    /// Sleeps until `ready` says true or `timeout_ns` have passed. `ready` is
    /// asked at once, and after each interrupt has been given to
    /// [`crate::Timeline::interrupt`].
    fn wait(&self, patience: Patience, timeout_ns: u64, ready: &mut dyn FnMut() -> bool) -> Wake;

    /// Gives [`crate::Timeline::interrupt`] what the GPU has signalled up to the
    /// end of the last [`Registers::access`], and returns when it has it. False
    /// if something may be left for want of room: access a register, and call
    /// again. May sleep.
    fn deliver(&self) -> bool;
}

/// All of it.
pub trait Os: Platform + Registers + VramWindow + Interrupts {}

impl<T: Platform + Registers + VramWindow + Interrupts> Os for T {}
