//! Ring 0 and its fences.

use super::fake::Fake;
use crate::{Adapter, BoId, CreateFlags, CreateRequest, Error, Timeline};
use e3k_regs::fields::RingWord;
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;

fn with_bo(fake: &Fake) -> (Adapter<Fake>, BoId, Arc<Timeline<Fake>>) {
    let mut a = fake.start();
    let request = CreateRequest {
        bytes: 65536,
        flags: CreateFlags::READBACK.0,
        windows: &[],
    };
    let bo = a.create(&request).unwrap();
    let timeline = a.timeline();
    (a, bo, timeline)
}

#[test]
fn fences_count_from_one_and_zero_is_always_done() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    assert_eq!(timeline.wait(0, 0), Ok(()));
    assert_eq!(a.fill(bo, 0, 4, 0), Ok(1));
    assert_eq!(a.fill(bo, 0, 4, 0), Ok(2));
    assert_eq!((timeline.submitted(), timeline.completed()), (2, 0));
    assert_eq!(
        timeline.wait(3, SECOND),
        Err(Error::Invalid),
        "never submitted"
    );
}

#[test]
fn an_interrupt_publishes_what_fence_memory_says() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    for _ in 0..3 {
        a.fill(bo, 0, 4, 0).unwrap();
    }
    fake.complete(&a, 2);
    assert_eq!(timeline.completed(), 2);
    assert_eq!(timeline.wait(2, 0), Ok(()));
    assert_eq!(timeline.wait(3, 0), Err(Error::TimedOut));
    fake.complete(&a, 3);
    let c = timeline.counters();
    assert_eq!(
        (
            c.submitted,
            c.completed,
            c.interrupts,
            c.fallbacks,
            c.page_faults
        ),
        (3, 3, 2, 0, 0)
    );
}

#[test]
fn fence_memory_beyond_what_was_submitted_is_not_believed() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    a.fill(bo, 0, 4, 0).unwrap();
    fake.complete(&a, u64::MAX);
    assert_eq!(timeline.completed(), 1);
    a.fill(bo, 0, 4, 0).unwrap();
    assert_eq!(timeline.completed(), 1);
}

#[test]
fn a_waiter_sleeps_until_the_interrupt() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    fake.finish(&a, fence);
    let interrupt = Arc::clone(&timeline);
    *fake.on_wait.borrow_mut() = Some(Box::new(move || _ = interrupt.interrupt(0, 0, 1 << 27)));
    assert_eq!(timeline.wait(fence, SECOND), Ok(()));
    assert_eq!(timeline.counters().fallbacks, 0);
    assert_eq!(fake.now_ns.get(), 0, "no time was slept away");
}

#[test]
fn a_lost_interrupt_is_found_by_polling_and_counted() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    fake.finish(&a, fence);
    assert_eq!(timeline.wait(fence, 10 * SECOND), Ok(()));
    assert_eq!(timeline.counters().fallbacks, 1);
    assert_eq!(timeline.completed(), fence);
}

#[test]
fn a_signal_while_an_interrupt_is_on_its_way_is_no_lost_interrupt() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    fake.finish(&a, fence);
    let signal = fake.clone();
    *fake.on_wait.borrow_mut() = Some(Box::new(move || signal.interrupted.set(true)));
    assert_eq!(timeline.wait(fence, 0), Ok(()), "fence memory says so");
    let c = timeline.counters();
    assert_eq!((c.completed, c.fallbacks), (fence, 0));
}

#[test]
fn a_wait_ends_at_its_deadline_or_with_a_signal() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    assert_eq!(timeline.wait(fence, 5 * SECOND), Err(Error::TimedOut));
    assert_eq!(fake.now_ns.get(), 5 * SECOND);
    assert_eq!(timeline.wait(fence, 0), Err(Error::TimedOut));
    fake.interrupted.set(true);
    assert_eq!(timeline.wait(fence, SECOND), Err(Error::Interrupted));
    fake.interrupted.set(false);
    fake.complete(&a, fence);
    assert_eq!(timeline.wait(fence, 0), Ok(()), "the state was consistent");
}

#[test]
fn a_drain_takes_no_notice_of_signals_and_every_other_wait_does() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    fake.interrupted.set(true);
    assert_eq!(a.drain(SECOND), Err(Error::TimedOut));
    assert_eq!(timeline.wait(fence, SECOND), Err(Error::Interrupted));
    fake.complete(&a, fence);
    assert_eq!(a.drain(SECOND), Ok(()));
}

/// A fence is in memory before its signal comes: the first signal may be that of a fence
/// that is judged already, and says nothing of the next one.
#[test]
fn a_late_signal_does_not_speak_for_the_next_fence() {
    const FENCE: u32 = 1 << 27;
    const PAGE_FAULT: u32 = 1 << 5;
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    let [first, second] = [(); 2].map(|()| a.fill(bo, 0, 4, 0).unwrap());
    fake.finish(&a, first);
    timeline.interrupt(first, 0, 0);
    assert_eq!(timeline.verdict(first), Some(Ok(())));
    // The signal of the first is latched; then the second ends, with an error.
    fake.finish(&a, second);
    timeline.interrupt(first, 0, FENCE);
    assert_eq!(timeline.verdict(second), None);
    timeline.interrupt(second, PAGE_FAULT, FENCE);
    assert_eq!(timeline.verdict(second), Some(Err(Error::Io)));
}

#[test]
fn a_ring_that_gave_up_fails_fast_everywhere() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    timeline.interrupt(0, 1 << 5, 1 << 16);
    let c = timeline.counters();
    assert_eq!((c.page_faults, c.hangs), (1, 1));
    assert_eq!(a.fill(bo, 0, 4, 0), Err(Error::Busy), "to be attended to");
    fake.set_register(e3k_regs::Reg::TopBusy.offset(), 1);
    assert_eq!(a.attend(), Err(Error::Io), "the engine stays busy");
    fake.set_register(e3k_regs::Reg::TopBusy.offset(), 0);
    assert!(timeline.is_lost());
    assert_eq!(timeline.wait(fence, SECOND), Err(Error::Lost));
    assert_eq!(a.fill(bo, 0, 4, 0), Err(Error::Lost));
    a.destroy(bo).unwrap();
    assert!(fake.live_pages() > 2, "the GPU has not been shown idle");
    drop(timeline);
    assert_eq!(a.fini(), Ok(()), "reset, and nothing busy");
    assert_eq!(fake.live_pages(), 0);
}

#[test]
fn a_gpu_that_stays_busy_keeps_the_pages_it_may_reach() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    a.fill(bo, 0, 4, 0).unwrap();
    a.destroy(bo).unwrap();
    drop(timeline);
    fake.set_register(e3k_regs::Reg::TopBusy.offset(), 1);
    let left = a.fini().unwrap_err();
    assert_eq!((left.bos, left.pages, left.idle), (0, 2 + 16, false));
    assert_eq!(fake.live_pages(), 18);
}

#[test]
fn a_full_ring_says_busy_changes_nothing_and_takes_work_again_once_read() {
    let fake = Fake::new();
    let (mut a, bo, timeline) = with_bo(&fake);
    let mut accepted = 0;
    let error = loop {
        match a.fill(bo, 0, 4, 0) {
            Ok(fence) => accepted = fence,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Busy);
    assert_eq!(timeline.submitted(), accepted);
    let packet_bytes: u64 = 192; // 4 + 30 + 5 dwords, padded to 48
    assert_eq!(accepted, ((256 << 10) - 1) / packet_bytes);
    fake.check(&a);
    fake.complete(&a, accepted);
    assert_eq!(a.fill(bo, 0, 4, 0), Ok(accepted + 1));
}

#[test]
fn packets_are_never_split_at_the_end_of_the_ring() {
    let fake = Fake::new();
    let (mut a, bo, _timeline) = with_bo(&fake);
    let mut tails = Vec::new();
    for n in 0..5000 {
        // Packets of 128 and of 192 bytes.
        let bytes = if n % 3 == 0 { 65536 } else { 4 };
        let fence = match n % 3 {
            0 => a.copy(bo, 0, bo, 32768, 32768),
            _ => a.fill(bo, 0, bytes, n),
        };
        let fence = fence.unwrap();
        fake.complete(&a, fence);
        tails.push(
            fake.registers()
                .get(&RingWord::Tail.offset(0))
                .copied()
                .unwrap_or(0),
        );
    }
    let wraps = tails.windows(2).filter(|w| w[1] < w[0]).count();
    assert!(wraps >= 2);
    assert!(tails.iter().all(|t| *t < 256 << 10 && t % 64 == 0));
}

#[test]
fn a_submission_to_an_empty_ring_writes_its_packet_and_nothing_else() {
    let fake = Fake::new();
    let (mut a, bo, _timeline) = with_bo(&fake);
    // The first also writes the entries of the buffer's 16 pages.
    for dwords in [48 + 16, 48] {
        let before = fake.stored.get();
        let fence = a.fill(bo, 0, 4, 0).unwrap();
        assert_eq!(fake.stored.get() - before, dwords);
        fake.complete(&a, fence);
    }
}

#[test]
fn a_head_outside_the_ring_is_a_lost_gpu() {
    let fake = Fake::new();
    let (mut a, bo, _timeline) = with_bo(&fake);
    fake.set_register(RingWord::Head.offset(0), u32::MAX);
    let error = (0..5000).find_map(|_| a.fill(bo, 0, 4, 0).err());
    assert_eq!(error, Some(Error::Lost));
}
