//! `glue.h` in Rust: names, types and meanings are explained there.

use core::ffi::c_void;

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $($(#[$doc])* #[repr(C)] pub(crate) struct $name([u8; 0]);)*
    };
}

opaque! {
    /// `struct presil_device`.
    Device
    /// `struct presil_pages`.
    RawPages
    /// `struct seq_file`.
    SeqFile
}

/// `struct presil_op`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Op {
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    pub(crate) value: u32,
    pub(crate) write: u32,
}

/// `struct presil_system_info`.
#[repr(C)]
#[derive(Default)]
#[expect(clippy::struct_field_names, reason = "the names of glue.h")]
pub(crate) struct RawSystemInfo {
    pub(crate) total_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) page_bytes: u64,
}

/// `struct presil_times`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) access_began: u64,
    pub(crate) interrupted: u64,
}

/// `struct presil_board`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Board {
    pub(crate) vram_bytes: u64,
    pub(crate) visible_bytes: u64,
    pub(crate) cpu_address: u64,
    pub(crate) vendor_id: u16,
    pub(crate) device_id: u16,
    pub(crate) pad: u32,
}

/// `struct presil_frame`.
#[repr(C)]
pub(crate) struct RawFrame {
    pub(crate) pfn: u64,
    pub(crate) write_combined: u32,
    pub(crate) pad: u32,
    pub(crate) fence: u64,
}

/// `struct presil_booking`.
#[repr(C)]
pub(crate) struct RawBooking {
    pub(crate) booked: u64,
    pub(crate) limit: u64,
}

/// `enum presil_level`.
#[repr(u32)]
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Error = 0,
    Warning = 1,
    Inform = 2,
    Debug = 3,
}

/// `enum presil_wake`.
pub(crate) mod wake {
    pub(crate) const READY: u32 = 0;
    pub(crate) const TIMED_OUT: u32 = 1;
}

/// `enum presil_listing`.
pub(crate) mod listing {
    pub(crate) const BOS: u32 = 0;
    pub(crate) const INIT: u32 = 1;
    pub(crate) const COUNTERS: u32 = 2;
}

unsafe extern "C" {
    pub(crate) fn presil_alloc(bytes: usize, zeroed: bool) -> *mut c_void;
    pub(crate) fn presil_realloc(memory: *mut c_void, bytes: usize) -> *mut c_void;
    pub(crate) fn presil_free(memory: *mut c_void);
    pub(crate) fn presil_log(level: Level, text: *const u8, bytes: usize);
    pub(crate) fn presil_bug() -> !;
    pub(crate) safe fn presil_now_ns() -> u64;
    pub(crate) fn presil_query_system(info: *mut RawSystemInfo);
    pub(crate) fn presil_sleep(
        device: *mut Device,
        interruptible: bool,
        timeout_ns: u64,
        ready: unsafe extern "C" fn(*mut c_void) -> bool,
        context: *mut c_void,
    ) -> u32;
    pub(crate) fn presil_deliver(device: *mut Device) -> bool;
    pub(crate) fn presil_set_dma(device: *mut Device, on: bool);
    pub(crate) fn presil_print(to: *mut SeqFile, text: *const u8, bytes: usize);

    pub(crate) fn presil_pages_alloc(
        device: *mut Device,
        count: usize,
        write_combined: bool,
    ) -> *mut RawPages;
    pub(crate) fn presil_pages_free(pages: *mut RawPages);
    pub(crate) fn presil_page_frame(pages: *const RawPages, index: usize) -> u64;
    pub(crate) fn presil_page_address(pages: *const RawPages, index: usize) -> u64;
    pub(crate) fn presil_pages_load(pages: *const RawPages, offset: usize) -> u64;

    pub(crate) fn presil_access(device: *mut Device, ops: *mut Op, count: usize) -> i32;
    pub(crate) fn presil_window_load(device: *mut Device, offset: u64) -> u32;
    pub(crate) fn presil_window_store(
        device: *mut Device,
        offset: u64,
        values: *const u32,
        count: usize,
    );
    pub(crate) safe fn presil_write_barrier();
    pub(crate) fn presil_query_times(device: *const Device, times: *mut Times);
}
