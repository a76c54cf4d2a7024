//! The kernel as the memory manager sees it.

use crate::glue::{self, Board, Device, Level, Op, RawPages, RawSystemInfo, Times, wake};
use crate::log;
use core::ffi::c_void;
use core::fmt;
use core::ptr::NonNull;
use e3k_regs::{BusAddr, VramOffset};
use vidmm::{
    Caching, Error, Interrupts, LogLevel, Patience, Platform, RegisterOp, Registers, SystemInfo,
    VramWindow, Wake,
};

/// Register accesses that go to the shim in one call; they are copied on the stack.
const OPS_AT_ONCE: usize = 64;

/// One GPU's kernel side: the C shim's device.
pub(crate) struct Kernel {
    device: NonNull<Device>,
    board: Board,
}

// SAFETY: the C functions may be called from any process; what needs the
// device lock (`presil_access`) is only reached through the adapter, under it.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// # Safety
    /// The device outlives the value.
    pub(crate) unsafe fn new(device: NonNull<Device>, board: Board) -> Self {
        Self { device, board }
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// When the last register access began and the last interrupt came.
    pub(crate) fn times(&self) -> Times {
        let mut times = Times::default();
        // SAFETY: the device outlives its kernel side; the structure is ours to write.
        unsafe { glue::presil_query_times(self.device.as_ptr(), &raw mut times) };
        times
    }
}

/// RAM pages; given back by [`Platform::free_pages`] only.
#[derive(Debug)]
pub(crate) struct Pages(NonNull<RawPages>);

// SAFETY: the pages belong to nobody else, and the list of them does not change.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Platform for Kernel {
    type Pages = Pages;

    fn system_info(&self) -> SystemInfo {
        let mut info = RawSystemInfo::default();
        // SAFETY: the structure is ours to write.
        unsafe { glue::presil_query_system(&raw mut info) };
        SystemInfo {
            total_bytes: info.total_bytes,
            free_bytes: info.free_bytes,
            page_bytes: info.page_bytes,
        }
    }

    fn alloc_pages(&self, count: usize, caching: Caching) -> Result<Pages, Error> {
        let write_combined = caching == Caching::WriteCombined;
        // SAFETY: the device outlives its kernel side.
        let pages =
            unsafe { glue::presil_pages_alloc(self.device.as_ptr(), count, write_combined) };
        NonNull::new(pages).map(Pages).ok_or(Error::NoMemory)
    }

    fn free_pages(&self, pages: Pages) {
        // SAFETY: they came from `presil_pages_alloc` and end here.
        unsafe { glue::presil_pages_free(pages.0.as_ptr()) }
    }

    fn bus_addr(&self, pages: &Pages, index: usize) -> Option<BusAddr> {
        // SAFETY: `pages` is alive.
        let address = unsafe { glue::presil_page_address(pages.0.as_ptr(), index) };
        (address != 0).then_some(BusAddr(address))
    }

    fn frame(&self, pages: &Pages, index: usize) -> Option<u64> {
        // SAFETY: `pages` is alive.
        let frame = unsafe { glue::presil_page_frame(pages.0.as_ptr(), index) };
        (frame != 0).then_some(frame)
    }

    fn load_u64(&self, pages: &Pages, offset: usize) -> u64 {
        // SAFETY: `pages` is alive.
        unsafe { glue::presil_pages_load(pages.0.as_ptr(), offset) }
    }

    fn now_ns(&self) -> u64 {
        glue::presil_now_ns()
    }

    fn log(&self, level: LogLevel, line: fmt::Arguments<'_>) {
        let level = match level {
            LogLevel::Error => Level::Error,
            LogLevel::Warning => Level::Warning,
            LogLevel::Info => Level::Inform,
        };
        log::line(level, line);
    }
}

impl Registers for Kernel {
    fn access(&self, ops: &mut [RegisterOp]) -> Result<(), Error> {
        let mut raw = [Op::default(); OPS_AT_ONCE];
        for part in ops.chunks_mut(OPS_AT_ONCE) {
            for (to, from) in raw.iter_mut().zip(part.iter()) {
                *to = Op {
                    offset: from.offset,
                    bytes: from.bytes.into(),
                    value: from.value,
                    write: from.write.into(),
                };
            }
            // SAFETY: the first `part.len()` of `raw` are valid; the caller holds the device lock.
            let status =
                unsafe { glue::presil_access(self.device.as_ptr(), raw.as_mut_ptr(), part.len()) };
            match status {
                0 => {}
                LOST => return Err(Error::Lost),
                _ => return Err(Error::Io),
            }
            for (to, from) in part.iter_mut().zip(&raw) {
                to.value = from.value;
            }
        }
        Ok(())
    }

    fn set_dma(&self, on: bool) {
        // SAFETY: the device outlives its kernel side.
        unsafe { glue::presil_set_dma(self.device.as_ptr(), on) }
    }
}

/// -ENODEV.
const LOST: i32 = -Error::Lost.errno();

impl VramWindow for Kernel {
    fn vram_bytes(&self) -> Option<u64> {
        (self.board.vram_bytes != 0).then_some(self.board.vram_bytes)
    }

    fn visible_bytes(&self) -> u64 {
        self.board.visible_bytes
    }

    fn cpu_address(&self, at: VramOffset) -> u64 {
        self.board.cpu_address.wrapping_add(at.0)
    }

    fn load_u32(&self, at: VramOffset) -> u32 {
        // SAFETY: the shim checks the offset.
        unsafe { glue::presil_window_load(self.device.as_ptr(), at.0) }
    }

    fn store_u32(&self, at: VramOffset, values: &[u32]) {
        // SAFETY: the shim checks the range in the window; `values` is as long as it says.
        unsafe {
            glue::presil_window_store(self.device.as_ptr(), at.0, values.as_ptr(), values.len());
        }
    }

    fn write_barrier(&self) {
        glue::presil_write_barrier();
    }
}

impl Interrupts for Kernel {
    fn wait(
        &self,
        patience: Patience,
        timeout_ns: u64,
        mut ready: &mut dyn FnMut() -> bool,
    ) -> Wake {
        /// # Safety
        /// `context` is the `&mut dyn FnMut` below.
        unsafe extern "C" fn ask(context: *mut c_void) -> bool {
            // SAFETY: the caller's promise; the shim calls one at a time.
            let ready = unsafe { &mut *context.cast::<&mut dyn FnMut() -> bool>() };
            ready()
        }
        let context = (&raw mut ready).cast();
        let interruptible = patience == Patience::UntilSignal;
        let device = self.device.as_ptr();
        // SAFETY: `ready` outlives the call, and `ask` fits it.
        match unsafe { glue::presil_sleep(device, interruptible, timeout_ns, ask, context) } {
            wake::READY => Wake::Ready,
            wake::TIMED_OUT => Wake::TimedOut,
            _ => Wake::Interrupted,
        }
    }

    fn deliver(&self) -> bool {
        // SAFETY: the device outlives its kernel side.
        unsafe { glue::presil_deliver(self.device.as_ptr()) }
    }
}
