//! The kernel has no memory: what was queued before goes on the ring all the same, and ends.

use presil_device::{Chip, Config};
use presil_tests::Guest;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use vidmm::{CreateFlags, CreateRequest, Error};

thread_local! {
    /// The driver gets no memory.
    static STARVED: Cell<bool> = const { Cell::new(false) };
    /// Calls of the machine that the driver is in.
    static OUTSIDE: Cell<u32> = const { Cell::new(0) };
    /// Refused.
    static REFUSED: Cell<u32> = const { Cell::new(0) };
}

struct Stingy;

#[global_allocator]
static STINGY: Stingy = Stingy;

fn refuses() -> bool {
    let refuses = STARVED.get() && OUTSIDE.get() == 0;
    REFUSED.set(REFUSED.get() + u32::from(refuses));
    refuses
}

// SAFETY: the system's allocator, or null, which every caller must expect.
unsafe impl GlobalAlloc for Stingy {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: it came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if refuses() {
            return core::ptr::null_mut();
        }
        // SAFETY: it came from `System`, with this layout.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;

#[test]
fn what_is_queued_ends_though_there_is_no_memory() {
    let config = Config::new(Chip::Arise10c0, 256 * MIB, 128 * MIB, true).unwrap();
    let mut guest = Guest::new(&config).unwrap();
    let client = guest.adapter.open_client().unwrap();
    let request = CreateRequest {
        bytes: 40 * MIB,
        flags: CreateFlags::GPU_MOSTLY.0,
        windows: &[],
    };
    let bo = guest.adapter.create_for(&client, &request).unwrap();
    guest.touch(bo, 0).unwrap();
    // Pieces of all sizes, of which not all are on the ring, and more than ever were there.
    let sizes = [4, 64 * 1024 + 4, 16 * MIB - 4, 20 * MIB];
    let sizes = sizes.into_iter().chain([4; 200]);
    let jobs: Vec<u64> = sizes
        .map(|bytes| {
            let copy = guest.adapter.copy_for(&client, bo, 20 * MIB, bo, 0, bytes);
            copy.unwrap()
        })
        .collect();
    let mut ends = vec![Err(Error::TimedOut); jobs.len()];
    assert!(guest.adapter.has_queued());
    guest.machine.set_outside(|enters| {
        OUTSIDE.set(if enters {
            OUTSIDE.get() + 1
        } else {
            OUTSIDE.get() - 1
        });
    });
    let timeline = guest.timeline();
    STARVED.set(true);
    for (job, end) in jobs.iter().zip(&mut ends) {
        for _ in 0..100 {
            *end = match guest.adapter.ask(&client, *job) {
                Ok(None) => Ok(()),
                Ok(Some(ring)) if timeline.wait(ring, SECOND).is_ok() => continue,
                Ok(Some(_)) => Err(Error::TimedOut),
                Err(error) => Err(error),
            };
            break;
        }
    }
    STARVED.set(false);
    assert_eq!(ends, vec![Ok(()); jobs.len()]);
    assert_eq!(REFUSED.get(), 0, "nothing was asked for");
}
