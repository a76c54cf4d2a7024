//! An allocator for tests: it counts what each thread allocates, and refuses when it
//! is told to.
//!
//! ```
//! use presil_allocator::{Allocator, Refuse, refusing};
//! #[global_allocator]
//! static ALLOCATOR: Allocator = Allocator;
//!
//! let room = || Vec::<u8>::new().try_reserve(1);
//! let (rooms, refused) = refusing(Refuse::Only(2), || [room(), room(), room()]);
//! assert_eq!((rooms.map(|room| room.is_ok()), refused), ([true, false, true], 1));
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Which allocations are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// The n-th alone, from 1.
    Only(u64),
    /// The n-th and all behind it.
    From(u64),
}

#[derive(Clone, Copy)]
struct State {
    allocations: u64,
    refuse: Option<Refuse>,
    /// Since `refuse` was set.
    asked: u64,
    refused: u64,
    /// Never refused.
    sure: &'static [Layout],
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State {
        allocations: 0,
        refuse: None,
        asked: 0,
        refused: 0,
        sure: &[],
    }) };
}

/// The system's allocator, counted and refused by thread. To be a program's
/// `#[global_allocator]`.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: what is not refused is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let sure = STATE.try_with(|cell| cell.get().sure.contains(&layout));
        if !sure.unwrap_or(true) && refuses() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: it came from there.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Whether an allocation is refused that does not come to the allocator because its
/// type knows no failure. It counts as one.
pub fn refuses() -> bool {
    // What is to be said of a failure is said.
    if std::thread::panicking() {
        return false;
    }
    // A thread that ends has no state any more.
    let refuses = STATE.try_with(|cell| {
        let mut state = cell.get();
        state.allocations += 1;
        state.asked += 1;
        let refuses = state.refuse.is_some_and(|refuse| match refuse {
            Refuse::Only(nth) => state.asked == nth,
            Refuse::From(nth) => state.asked >= nth,
        });
        state.refused += u64::from(refuses);
        cell.set(state);
        refuses
    });
    refuses.unwrap_or(false)
}

/// How often a piece of code allocates.
pub fn allocations(of: impl FnOnce()) -> u64 {
    let before = STATE.get().allocations;
    of();
    STATE.get().allocations - before
}

/// Runs a piece of code with allocations refused: what it returns, and how many were.
/// Also when it panics, nothing is refused behind it.
pub fn refusing<R>(which: Refuse, run: impl FnOnce() -> R) -> (R, u64) {
    refusing_but(&[], which, run)
}

/// The same, but allocations of these layouts neither count nor are refused: those of an
/// `Arc` for one, which knows no failure.
pub fn refusing_but<R>(
    sure: &'static [Layout],
    which: Refuse,
    run: impl FnOnce() -> R,
) -> (R, u64) {
    let end = Restored(STATE.get());
    STATE.set(State {
        refuse: Some(which),
        asked: 0,
        refused: 0,
        sure,
        ..STATE.get()
    });
    let result = run();
    let refused = STATE.get().refused;
    drop(end);
    (result, refused)
}

/// Runs a piece of code of which nothing is refused or counted for [`refusing`]: what
/// is no part of what is tested.
pub fn spared<R>(run: impl FnOnce() -> R) -> R {
    let end = Restored(STATE.get());
    STATE.set(State {
        refuse: None,
        ..STATE.get()
    });
    let result = run();
    drop(end);
    result
}

/// What is refused, as it was before.
struct Restored(State);

impl Drop for Restored {
    fn drop(&mut self) {
        STATE.set(State {
            allocations: STATE.get().allocations,
            ..self.0
        });
    }
}
