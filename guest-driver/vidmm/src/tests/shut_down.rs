//! The system ends, and another one finds the GPU in the same machine.

use super::fake::Fake;
use crate::{Adapter, BoId, CreateFlags, CreateRequest, Error, Leftovers};
use e3k_regs::fields::RingWord;

const PAGE: u64 = 4096;

/// An adapter with a job that the GPU has not finished, and the buffer that it fills.
fn at_work(fake: &Fake) -> (Adapter<Fake>, BoId, u64) {
    let mut adapter = fake.start();
    let bo = adapter
        .create(&CreateRequest {
            bytes: PAGE,
            flags: CreateFlags::READBACK.0,
            windows: &[],
        })
        .unwrap();
    let fence = adapter.fill(bo, 0, PAGE, 1).unwrap();
    (adapter, bo, fence)
}

#[test]
fn a_gpu_at_work_is_left_as_it_was_found_and_without_dma() {
    let fake = Fake::new();
    let found = fake.registers();
    let (mut adapter, _, _) = at_work(&fake);
    let pages = fake.live_pages();
    assert_eq!(adapter.shut_down(1), Ok(()));
    let mut left = fake.registers();
    // How far the ring was, nobody asks when it is started.
    left.remove(&RingWord::Tail.offset(0));
    assert_eq!(left, found);
    assert!(!fake.dma.get());
    assert_eq!(fake.live_pages(), pages, "what processes have stays theirs");
}

#[test]
fn nothing_wakes_a_gpu_that_was_shut_down() {
    let fake = Fake::new();
    let (mut adapter, bo, fence) = at_work(&fake);
    adapter.shut_down(1).unwrap();
    let writes = fake.writes.borrow().len();
    let timeline = adapter.timeline();
    assert_eq!(timeline.wait(fence, 1), Err(Error::Lost));
    assert_eq!(adapter.fill(bo, 0, PAGE, 2), Err(Error::Lost));
    assert_eq!(adapter.destroy(bo), Ok(()));
    // What was latched before its interrupts were closed.
    timeline.interrupt(0, u32::MAX, u32::MAX);
    assert_eq!(adapter.attend(), Ok(()));
    assert_eq!(adapter.resume(), Err(Error::Lost));
    assert_eq!(fake.writes.borrow().len(), writes);
    assert!(!fake.dma.get());
}

#[test]
fn wherever_shutting_down_fails_the_gpu_has_no_dma_and_is_lost() {
    for call in 1.. {
        let fake = Fake::new();
        let (mut adapter, bo, _) = at_work(&fake);
        fake.fail_call(call);
        let ended = adapter.shut_down(1);
        assert!(!fake.dma.get(), "call {call}");
        assert_eq!(adapter.fill(bo, 0, PAGE, 2), Err(Error::Lost));
        if !fake.has_failed() {
            assert!(call > 3, "{call}");
            return;
        }
        // The drain alone may fail, and nothing but time is lost.
        assert!(ended.is_err() || call == 1, "call {call}");
    }
}

#[test]
fn whatever_is_left_behind_is_told() {
    let idle = Leftovers {
        idle: true,
        ..Leftovers::default()
    };
    assert!(!idle.is_any());
    for left in [
        Leftovers { bos: 1, ..idle },
        Leftovers { pages: 1, ..idle },
        Leftovers::default(),
    ] {
        assert!(left.is_any(), "{left}");
    }
}
