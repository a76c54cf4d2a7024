//! The allocator: kernel memory, which is never to be asked for in an
//! interrupt handler or under a spinlock.

use crate::glue::{presil_alloc, presil_free, presil_realloc};
use core::alloc::{GlobalAlloc, Layout};

const PAGE_BYTES: usize = 4096;

struct KernelMemory;

#[global_allocator]
static KERNEL_MEMORY: KernelMemory = KernelMemory;

/// The kernel aligns to the largest power of two that divides the size, so
/// that a padded size aligns; but what it takes from vmalloc to pages only.
fn padded(layout: Layout) -> Option<usize> {
    (layout.align() <= PAGE_BYTES).then(|| layout.pad_to_align().size())
}

// SAFETY: kvmalloc memory is the caller's until kvfree; a failure is null; `padded` aligns it,
// or refuses.
unsafe impl GlobalAlloc for KernelMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(bytes) = padded(layout) else {
            return core::ptr::null_mut();
        };
        // SAFETY: any size may be asked for.
        unsafe { presil_alloc(bytes, false) }.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(bytes) = padded(layout) else {
            return core::ptr::null_mut();
        };
        // SAFETY: any size may be asked for.
        unsafe { presil_alloc(bytes, true) }.cast()
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller gives back what `alloc` returned.
        unsafe { presil_free(memory.cast()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let wanted = Layout::from_size_align(bytes, layout.align());
        let Some(bytes) = wanted.ok().and_then(padded) else {
            return core::ptr::null_mut();
        };
        // SAFETY: the caller owns `memory`; on failure it still does.
        unsafe { presil_realloc(memory.cast(), bytes) }.cast()
    }
}
