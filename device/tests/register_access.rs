//! A register access asks the host for no memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use e3k_regs::register::{BAR0_BYTES, REGISTERS};
use presil_device::{Chip, Config, Gpu, NoInterrupts, Width};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the count is
// thread-local, needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from the system's allocator in `alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn gpu() -> Gpu {
    let config = Config::new(Chip::Arise10c0, 1 << 30, 256 << 20, true).unwrap();
    Gpu::new(&config, Box::new(NoInterrupts)).unwrap()
}

/// How often the host was asked while `work` ran.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn no_access_of_any_width_anywhere_allocates() {
    let mut gpu = gpu();
    let widths = [Width::B1, Width::B2, Width::B4, Width::B8];
    let count = allocations(|| {
        for at in (0..BAR0_BYTES + 16).step_by(2) {
            for width in widths {
                gpu.read(at, width);
                gpu.write(at, width, 0x11);
            }
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn not_even_the_first_misuse_of_each_register() {
    let mut gpu = gpu();
    let count = allocations(|| {
        for info in REGISTERS {
            gpu.write(info.offset, Width::from_bytes(info.width).unwrap(), !0);
            gpu.write(info.offset, Width::B1, !0);
        }
    });
    assert_eq!(count, 0);
    assert!(gpu.counters().read_only_writes > 0 && gpu.counters().reserved_writes > 0);
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(vec![1_u8; 64])), 1);
}
