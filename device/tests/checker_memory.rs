//! What the driver checker keeps is bounded, whatever a guest does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared with the tests of the model")]
#[path = "model/machine.rs"]
mod machine;
#[allow(dead_code, reason = "shared with the tests of the model")]
#[path = "model/rig.rs"]
mod rig;
#[allow(dead_code, reason = "shared with the tests of the model")]
#[path = "model/tables.rs"]
mod tables;

use presil_device::checker::{Checker, Options};
use rig::{MIB, Rig, VRAM_BYTES, fill, write_as};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use tables::{entry, l1_offset, snooped, vram};

/// The system's allocator; counts the bytes that are held.
struct Counted;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// More than the checker remembers of anything.
const STEPS: u64 = 70 * 64;
const SPAN: u64 = 4 * MIB;
const L2_AT: u64 = 32 * MIB;
const L3_AT: u64 = 64 * MIB;

/// Maps the 16 pages of a line, each a table of its own away from the last.
fn map_line(rig: &Rig, n: u64, page: u64) {
    let l2 = L2_AT + n / 1024 * 4096;
    let l3 = L3_AT + n * 4096;
    rig.store(vram(l2 + n % 1024 * 4), entry(vram(l3)));
    let to = |k| entry(snooped((page + k) % STEPS * 4096));
    rig.put_dwords(vram(l3), &std::array::from_fn::<_, 16, _>(|k| to(k as u64)));
}

#[test]
fn what_it_keeps_is_at_most_one_percent_of_the_smallest_vram() {
    let mut rig = Rig::new();
    rig.ram.put_behind_iommu();
    rig.enter_va_mode();
    for page in 0..STEPS {
        rig.page(snooped(page << 12));
    }
    for space in 0..=STEPS / 1024 {
        rig.set(l1_offset(1, space << 32), entry(vram(L2_AT + space * 4096)));
    }
    let options = Options {
        levels: "1=warn,2=warn,3=warn,4=warn,5=warn,6=warn,7=warn"
            .parse()
            .unwrap(),
        ..Options::default()
    };
    let checker = Checker::new(&options);
    let reports = checker.reports();
    rig.gpu.set_watch(Some(Box::new(checker)));
    for first in (0..STEPS).step_by(64) {
        let lines = first..first + 64;
        for n in lines.clone() {
            map_line(&rig, n, n);
        }
        rig.submit(|w| {
            w.indicator(3, 1);
            lines.clone().for_each(|n| fill(w, n * SPAN, 1, 1, 1));
            w.indicator(0, 0);
        });
        for n in lines {
            map_line(&rig, n, n + 100); // every entry of these lines is stale now
        }
        // One that misses all of them.
        rig.set(0x49018, 1 << 28 | 0xFFF_FFF0);
        rig.set(0x4901C, 0xFFFF_FFF0);
        rig.set(0x49020, 2 << 5);
    }
    for index in 0..0x1000 {
        rig.set(0x5_0000 + index * 4, rig.gpu.peek(0x5_0000 + index * 4)); // known registers
        rig.set(0x3_0000 + index % 7 * 4, 1); // wrong ones
    }
    write_as(&mut rig, 1, (STEPS - 1) * SPAN, 1);
    let found = reports.list();
    assert!(
        found.iter().any(|report| report.rule.0 == 10003),
        "{found:?}"
    );
    // Of each rule 16 reports, of less than 1 KiB.
    let most = reports.summary().rules.len() * 16 * 1024;
    let held = HELD.load(Ordering::Relaxed);
    rig.gpu.set_watch(None);
    drop((reports, found));
    let kept = held - HELD.load(Ordering::Relaxed);
    let bound = usize::try_from(VRAM_BYTES / 100).unwrap();
    assert!(
        kept + most < bound,
        "{kept} bytes, reports {most}, of {bound}"
    );
    assert!(kept > bound / 10, "{kept} bytes: nothing was filled");
}
