//! What the path of an interrupt handler may not do: allocate.

use crate::hosts::machine::Threads;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use vidmm::sync::portable::{Fence, Portable, Single};
use vidmm::sync::{FenceContext, FenceError};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what each thread allocates.
struct Counting;

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: it came from there.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(of: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    of();
    ALLOCATIONS.get() - before
}

/// Everything that a handler calls, with fences that end in each way, and the end of
/// the last reference to one. To arm a fence allocates nothing either: it is behind
/// the point of no return.
#[test]
fn to_arm_and_to_end_fences_allocates_nothing() {
    let sync = Portable::new(Threads::new());
    let mut ring = FenceContext::new(&sync);
    let mut memory: Vec<_> = (0..40).map(|_| ring.prepare(&sync).unwrap()).collect();
    let mut fences = Vec::with_capacity(40);
    let armed = allocations(|| {
        while let Some(memory) = memory.pop() {
            fences.push(ring.arm(&sync, memory));
        }
    });
    assert_eq!(armed, 0, "arming");
    fences.truncate(5);
    let ended = allocations(|| {
        ring.end_through(&sync, 10);
        ring.end_failed(&sync, 20, FenceError::Failed);
        ring.end_all(&sync, FenceError::TimedOut, FenceError::Canceled);
        ring.end_lost(&sync);
    });
    assert_eq!(ended, 0, "ending");
    assert_eq!(ring.ended(), 40);
    assert!(allocations(|| drop(ring.prepare(&sync))) == 0, "it is lost");
    ring.revive();
    assert!(
        allocations(|| ring.abandon(ring_memory(&sync))) > 0,
        "the count counts"
    );
}

fn ring_memory(sync: &Portable<Threads>) -> vidmm::sync::fence::Prepared<Portable<Threads>> {
    FenceContext::new(sync).prepare(sync).unwrap()
}

/// One allocation for a fence, and eight bytes in the queue of its context. On one
/// thread the fence is 56 bytes with its counts.
#[test]
fn what_a_fence_costs() {
    assert_eq!(size_of::<Fence<Single>>() + 2 * size_of::<usize>(), 56);
    let sync = Portable::new(Single::new());
    let mut ring = FenceContext::new(&sync);
    let memory = ring.prepare(&sync).unwrap();
    ring.abandon(memory);
    let count = allocations(|| {
        for _ in 0..1_000 {
            let memory = ring.prepare(&sync).unwrap();
            ring.abandon(memory);
        }
    });
    assert_eq!(
        count, 1_000,
        "the queue has room for one, and all gave it back"
    );
}
