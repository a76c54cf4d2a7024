//! What a page fault does to its ring: reported, halted, or retried.

use crate::rig::{
    ADVANCED_RAW, BIU_RAW, FENCE, HEAD, KICKOFF, MMU_MODE, PAGE_A as A, PAGE_B as B, PAGE_FAULT,
    RING_AT, Rig, SURFACES_AT, TAIL, TOP_BUSY, copy, fill, noise, nth_page, push_all,
};
use crate::tables::{VALID, plus, unsnooped, vram};
use presil_device::{FaultCause, GpuVa, MmuOptions, OnFault, Progress, RingState};

const INT_STATUS: u32 = 0x49038;
const VA: u64 = 0x5_0000;
const FENCE_VA: u64 = 0x6_0000;

/// In VA mode; `FENCE_VA` leads to `B`, and `VA`'s tables are there but invalid.
fn rig(on_fault: OnFault) -> Rig {
    let mut rig = Rig::with_mmu(MmuOptions {
        on_fault,
        ..MmuOptions::default()
    });
    rig.enter_va_mode();
    rig.map(0, FENCE_VA, B);
    rig
}

/// What a driver's handler does when the tables are as it wants them.
fn acknowledge(rig: &mut Rig) {
    rig.set(INT_STATUS, u32::MAX);
    rig.run();
}

fn faults(rig: &Rig) -> u64 {
    rig.gpu.counters().faults
}

#[test]
fn report_drops_the_access_and_goes_on() {
    let mut rig = rig(OnFault::Report);
    rig.submit(|w| {
        fill(w, VA, 1, 1, 0x11);
        w.fence(GpuVa(FENCE_VA), 1, false);
    });
    assert_eq!(rig.load_u64(B), 1);
    rig.map(0, VA, A);
    acknowledge(&mut rig);
    assert_eq!((rig.load(A), faults(&rig)), (0, 1));
}

fn ring_0(rig: &Rig) -> RingState {
    rig.gpu.rings().next().unwrap().state
}

#[test]
fn halt_stands_behind_the_dropped_access_until_the_status_is_clear() {
    let mut rig = rig(OnFault::Halt);
    rig.submit(|w| {
        fill(w, VA, 1, 1, 0x11);
        w.fence(GpuVa(FENCE_VA), 1, false);
    });
    assert_eq!((rig.load_u64(B), faults(&rig)), (0, 1));
    assert_eq!(rig.reg(BIU_RAW), PAGE_FAULT);
    assert_ne!(rig.reg(HEAD), rig.reg(TAIL));
    assert_eq!(rig.reg(TOP_BUSY) & 1, 1, "CSP is busy");
    rig.set(INT_STATUS, 1); // not the bit that is set
    assert!(!rig.gpu.has_work());
    assert_eq!(ring_0(&rig), RingState::Waiting);
    rig.map(0, VA, A);
    acknowledge(&mut rig);
    assert_eq!(ring_0(&rig), RingState::Idle);
    assert_eq!((rig.load_u64(B), rig.load(A)), (1, 0));
    assert_eq!(rig.reg(HEAD), rig.reg(TAIL));
    assert_eq!(rig.errors(), []);
}

#[test]
fn retry_does_the_access_when_the_tables_are_repaired() {
    let mut rig = rig(OnFault::Retry);
    rig.submit(|w| {
        fill(w, VA, 1, 1, 0x11);
        w.fence(GpuVa(FENCE_VA), 1, false);
    });
    assert_eq!((rig.load_u64(B), faults(&rig)), (0, 1));
    assert_eq!(rig.reg(BIU_RAW), PAGE_FAULT);
    // Acknowledged without a repair: the same fault again.
    acknowledge(&mut rig);
    assert_eq!((rig.load_u64(B), faults(&rig)), (0, 2));
    assert_eq!(rig.reg(INT_STATUS), 1 << 3);
    // Repaired, without an acknowledgement.
    rig.map(0, VA, A);
    rig.run();
    assert_eq!((rig.load_u64(B), rig.load(A)), (0, 0));
    acknowledge(&mut rig);
    assert_eq!((rig.load_u64(B), rig.load(A)), (1, 0x11));
    let counters = rig.gpu.counters();
    assert_eq!(
        (counters.fills, counters.fences, counters.faults),
        (1, 1, 2)
    );
}

#[test]
fn a_copy_that_faults_on_each_side_and_on_every_page_loses_nothing() {
    const PAGES: u64 = 4;
    let (from, to) = (0x100_0000, 0x200_0000);
    let mut rig = rig(OnFault::Retry);
    rig.put(vram(SURFACES_AT), &noise(5, 0x4000));
    rig.submit(|w| {
        copy(w, from + 0x200, to, 4096 - 128, 1);
        w.fence(GpuVa(FENCE_VA), 1, false);
    });
    let mut repairs = 0;
    while rig.reg(INT_STATUS) != 0 {
        let fault = rig.gpu.faults().last().unwrap().clone();
        let page = fault.va.0 & !0xfff;
        let target = if page < to {
            nth_page(A, (page - from) / 4096)
        } else {
            nth_page(B, 1 + (page - to) / 4096)
        };
        rig.map(0, page, target);
        repairs += 1;
        acknowledge(&mut rig);
    }
    assert_eq!(repairs, 2 * PAGES);
    let len = (4096 - 128) * 4;
    let source = rig.get(vram(SURFACES_AT + 0x200), len);
    assert_eq!(rig.get(nth_page(B, 1), len), source);
    assert_eq!(rig.load_u64(B), 1);
    assert_eq!(rig.gpu.counters().bytes_copied, len as u64);
}

#[test]
fn a_fence_that_is_retried_interrupts_when_it_is_written_and_not_before() {
    let mut rig = rig(OnFault::Retry);
    rig.submit(|w| w.fence(GpuVa(VA), 7, true));
    assert_eq!(rig.reg(ADVANCED_RAW) & FENCE, 0);
    rig.map(0, VA, A);
    acknowledge(&mut rig);
    assert_eq!(rig.load_u64(A), 7);
    assert_eq!(rig.reg(ADVANCED_RAW) & FENCE, FENCE);
}

#[test]
fn a_timestamp_is_retried_and_is_that_of_its_store() {
    let mut rig = rig(OnFault::Retry);
    rig.gpu.set_clock(5);
    rig.submit(|w| push_all(w, &[0x3020_0002, GpuVa(VA).low(), 0]));
    rig.map(0, VA, A);
    rig.gpu.set_clock(6);
    acknowledge(&mut rig);
    assert_eq!(rig.load_u64(A), 6);
}

#[test]
fn a_fetch_is_retried_from_ring_and_buffer() {
    // A buffer of two packets, the second across a page end.
    let buffer_at = nth_page(A, 8);
    let mut rig = rig(OnFault::Retry);
    let dwords = rig.buffer(plus(buffer_at, 0xfe8), |w| {
        w.fence(GpuVa(FENCE_VA), 1, false);
        w.fence(GpuVa(FENCE_VA), 2, false);
    });
    rig.submit(|w| {
        w.dma(GpuVa(VA + 0xfe8), dwords);
        w.fence(GpuVa(FENCE_VA + 8), 3, false);
    });
    assert_eq!(rig.load_u64(B), 0);
    rig.map(0, VA, buffer_at);
    acknowledge(&mut rig);
    assert_eq!(rig.load_u64(B), 1);
    rig.map(0, VA + 4096, nth_page(buffer_at, 1));
    acknowledge(&mut rig);
    assert_eq!(rig.load_u64(B), 2);
    assert_eq!(rig.load_u64(plus(B, 8)), 3);
    assert_eq!((rig.errors(), faults(&rig)), (vec![], 2));

    // The ring's own page.
    let at = rig.l3_entry_at(0, RING_AT);
    let ring_page = rig.load(at);
    rig.store(at, ring_page & !VALID);
    rig.set(0x49020, 2 << 5); // with PT_INV_MASK 0: everything
    rig.submit(|w| w.fence(GpuVa(FENCE_VA), 4, false));
    assert_eq!(rig.load_u64(B), 2);
    rig.store(at, ring_page);
    acknowledge(&mut rig);
    assert_eq!((rig.load_u64(B), rig.errors()), (4, vec![]));
}

#[test]
fn another_ring_may_acknowledge_and_the_one_that_stands_goes_on_at_once() {
    const POST_RING: u32 = 0x30620;
    let mut rig = rig(OnFault::Halt);
    rig.submit(|w| {
        fill(w, VA, 1, 1, 0x11);
        w.fence(GpuVa(FENCE_VA), 1, false);
    });
    rig.map(0, VA, A);
    // Set_Register MXU 0xE, with every bit.
    rig.put_dwords(A, &[4 << 28 | 12 << 23 | 0xE << 10 | 1, u32::MAX]);
    rig.set(POST_RING + 4, 0x1000);
    rig.set(POST_RING + 12, 8);
    rig.set(POST_RING, u32::try_from(VA >> 12).unwrap() | KICKOFF);
    assert_eq!(rig.gpu.step(u32::MAX), Progress::Idle);
    assert_eq!(rig.load_u64(B), 1);
    assert!(!rig.gpu.has_work());
}

#[test]
fn resets_end_the_wait() {
    for on_fault in [OnFault::Halt, OnFault::Retry] {
        for reset in [Rig::recover as fn(&mut Rig), Rig::start_ring] {
            let mut rig = rig(on_fault);
            rig.submit(|w| {
                fill(w, VA, 1, 1, 0x11);
                w.fence(GpuVa(FENCE_VA), 1, false);
            });
            reset(&mut rig);
            rig.submit(|w| w.fence(GpuVa(FENCE_VA), 2, false));
            assert_eq!(
                rig.load_u64(B),
                2,
                "the status is not clear, but the ring is new"
            );
            rig.map(0, VA, A);
            acknowledge(&mut rig);
            assert_eq!(
                (rig.load(A), rig.load_u64(B)),
                (0, 2),
                "the old work is gone"
            );
        }
        let mut rig = rig(on_fault);
        rig.submit(|w| fill(w, VA, 1, 1, 0x11));
        rig.gpu.reset();
        rig.start_ring();
        rig.submit(|w| w.fence(GpuVa(SURFACES_AT), 3, false));
        assert_eq!((rig.reg(MMU_MODE), rig.load_u64(A)), (0, 3));
    }
}

#[test]
fn a_page_that_no_memory_answers_for_is_dropped_under_every_policy() {
    for on_fault in [OnFault::Report, OnFault::Halt, OnFault::Retry] {
        let mut rig = rig(on_fault);
        rig.map(0, VA, unsnooped(0x7000));
        rig.submit(|w| {
            fill(w, VA, 1, 1, 0x11);
            w.fence(GpuVa(FENCE_VA), 1, false);
        });
        assert_eq!(rig.load_u64(B), 1, "{on_fault:?}");
        assert_eq!(rig.gpu.faults().next().unwrap().cause, FaultCause::Bus);
    }
}

#[test]
fn faults_behind_the_first_are_counted_as_overflows() {
    let mut rig = rig(OnFault::Report);
    for n in 0..3 {
        rig.submit(|w| w.fence(GpuVa(VA + n * 8), 1, false));
    }
    let counters = rig.gpu.counters();
    assert_eq!((counters.faults, counters.fault_overflows), (3, 2));
    rig.set(INT_STATUS, u32::MAX);
    rig.submit(|w| w.fence(GpuVa(VA), 1, false));
    assert_eq!(rig.gpu.counters().fault_overflows, 2);
}
