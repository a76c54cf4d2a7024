//! Each planted defect shows: tests that rely on them can trust them.

use crate::rig::{
    ADVANCED_ENABLE, ADVANCED_RAW, BUFFERS_AT, FENCE, GATE, HEAD, MIB, Rig, SURFACES_AT, TAIL,
    copy, fill, push_all,
};
use crate::tables::{unsnooped, vram};
use presil_device::{Defect, Defects, GpuVa, Latched, Width};

const DESTINATION: u64 = SURFACES_AT + (1 << 20);

fn rig(defect: Option<Defect>) -> Rig {
    Rig::with_defects(Defects::from_iter(defect))
}

fn fill_page(rig: &mut Rig, value: u32) {
    rig.submit(|w| {
        w.indicator(3, 1);
        fill(w, 0x5_0000, 1, 1, value);
        w.indicator(0, 0);
    });
}

#[test]
fn ignored_copies_move_nothing() {
    for ignored in [false, true] {
        let mut rig = rig(ignored.then_some(Defect::Copies));
        rig.store(vram(SURFACES_AT), 0x55);
        rig.submit(|w| {
            copy(w, SURFACES_AT, DESTINATION, 16, 16);
            fill(w, DESTINATION + 4096, 1, 1, 0x66);
        });
        assert_eq!(rig.load(vram(DESTINATION)) == 0x55, !ignored);
        assert_eq!(rig.load(vram(DESTINATION + 4096)), 0x66);
        assert!(!rig.gpu.has_work());
    }
}

#[test]
fn ignored_fills_write_nothing() {
    for ignored in [false, true] {
        let mut rig = rig(ignored.then_some(Defect::Fills));
        rig.store(vram(SURFACES_AT), 0x55);
        rig.submit(|w| {
            fill(w, DESTINATION + 4096, 1, 1, 0x66);
            copy(w, SURFACES_AT, DESTINATION, 16, 16);
        });
        assert_eq!(rig.load(vram(DESTINATION + 4096)) == 0x66, !ignored);
        assert_eq!(rig.load(vram(DESTINATION)), 0x55);
    }
}

#[test]
fn ignored_segments_send_system_pages_to_vram() {
    for ignored in [false, true] {
        let mut rig = rig(ignored.then_some(Defect::Segments));
        rig.enter_va_mode();
        rig.page(unsnooped(SURFACES_AT));
        rig.map(1, 0x5_0000, unsnooped(SURFACES_AT));
        fill_page(&mut rig, 0x55);
        assert_eq!(rig.load(unsnooped(SURFACES_AT)) == 0x55, !ignored);
        assert_eq!(rig.load(vram(SURFACES_AT)) == 0x55, ignored);
    }
}

#[test]
fn ignored_invalidations_leave_old_translations() {
    for ignored in [false, true] {
        let mut rig = rig(ignored.then_some(Defect::Invalidations));
        rig.enter_va_mode();
        rig.map(1, 0x5_0000, vram(SURFACES_AT));
        fill_page(&mut rig, 0x55);
        rig.map(1, 0x5_0000, vram(DESTINATION));
        rig.set(0x49018, 0);
        rig.set(0x4901C, 0);
        rig.set(0x49020, 0x40);
        rig.submit(|w| {
            push_all(w, &[0x9604_3004, 0, 0, 0, 0]);
        });
        fill_page(&mut rig, 0x66);
        assert_eq!(rig.load(vram(DESTINATION)) == 0x66, !ignored);
    }
}

/// A GPU whose fences interrupt, and nothing else does.
fn interrupting(defect: Defect) -> Rig {
    let mut rig = rig(Some(defect));
    rig.set(ADVANCED_ENABLE, FENCE);
    rig.gpu.write(GATE, Width::B1, 1);
    rig.gpu.set_clock(1000);
    rig
}

fn fence(rig: &mut Rig) {
    rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 1, true));
}

/// The line as the machine hears of it and sees it.
fn line(rig: &Rig) -> (usize, bool) {
    (rig.line.raised(), rig.gpu.interrupt_pending())
}

#[test]
fn a_lost_interrupt_leaves_its_source_pending() {
    let mut rig = interrupting(Defect::InterruptLost);
    for (raised, up) in [(1, true), (1, false), (2, true), (2, false)] {
        fence(&mut rig);
        assert_eq!(line(&rig), (raised, up));
        assert_eq!(rig.reg(ADVANCED_RAW), FENCE);
        fence(&mut rig);
        assert_eq!(
            line(&rig),
            (raised, up),
            "what comes behind it does not help"
        );
        assert_eq!(rig.gpu.latch_interrupts().advanced, FENCE);
        assert!(!rig.gpu.interrupt_pending());
    }
}

#[test]
fn a_late_interrupt_comes_at_the_end_of_a_frame() {
    let mut rig = interrupting(Defect::InterruptLate);
    assert_eq!(rig.gpu.next_vsync(), None);
    fence(&mut rig);
    assert_eq!(line(&rig), (0, false));
    assert_eq!(rig.reg(ADVANCED_RAW), FENCE);
    let due = rig.gpu.next_vsync().unwrap();
    assert!(due > 1000 && due - 1000 < 17_000_000);
    rig.gpu.set_clock(due - 1);
    assert_eq!(line(&rig), (0, false));
    rig.gpu.set_clock(due);
    assert_eq!(line(&rig), (1, true));
    assert_eq!(rig.gpu.next_vsync(), None);
    rig.gpu.latch_interrupts();
    assert_eq!(line(&rig), (1, false));
}

#[test]
fn a_spurious_interrupt_has_nothing_pending() {
    let mut rig = interrupting(Defect::InterruptSpurious);
    for raised in [1, 2] {
        fence(&mut rig);
        assert_eq!(line(&rig), (raised, true));
        rig.gpu.latch_interrupts();
        assert_eq!(line(&rig), (raised, false));
    }
    rig.gpu.step(1);
    assert_eq!(line(&rig), (3, true));
    assert_eq!(rig.gpu.latch_interrupts(), Latched::default());
    for _ in 0..8 {
        rig.gpu.step(1);
    }
    assert_eq!(line(&rig), (3, false), "there is one, not a storm");
}

#[test]
fn every_eighth_doorbell_and_fence_is_lost() {
    let mut rig = rig(Some(Defect::DoorbellLost));
    // The ring's set-up has written Tail once.
    for value in 1..=6 {
        rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), value, false));
        assert_eq!(rig.load_u64(vram(BUFFERS_AT)), value);
    }
    rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 7, false));
    assert_eq!(rig.load_u64(vram(BUFFERS_AT)), 6, "the GPU was not told");
    rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 8, false));
    assert_eq!(
        rig.load_u64(vram(BUFFERS_AT)),
        8,
        "the next doorbell is for both"
    );

    let mut rig = self::rig(Some(Defect::FenceLost));
    for value in 1..=9 {
        rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), value, false));
        let held = if value == 8 { 7 } else { value };
        assert_eq!(rig.load_u64(vram(BUFFERS_AT)), held);
    }
}

#[test]
fn a_fence_overtakes_the_copy_before_it() {
    for broken in [false, true] {
        let mut rig = rig(broken.then_some(Defect::FenceBeforeData));
        rig.store(vram(SURFACES_AT + (255 << 12)), 0x55);
        rig.queue(|w| {
            copy(w, SURFACES_AT, DESTINATION + MIB, 1024, 256);
            w.fence(GpuVa(BUFFERS_AT), 1, false);
        });
        while rig.load_u64(vram(BUFFERS_AT)) != 1 {
            rig.gpu.step(1);
        }
        let last = rig.load(vram(DESTINATION + MIB + (255 << 12)));
        assert_eq!(last == 0x55, !broken);
    }
}

#[test]
fn a_head_that_lags_is_at_the_last_packet() {
    let mut rig = rig(Some(Defect::HeadLags));
    rig.submit(|w| {
        w.indicator(3, 1);
        w.fence(GpuVa(BUFFERS_AT), 1, false);
    });
    assert_eq!((rig.reg(HEAD), rig.reg(TAIL)), (8, 28));
    assert!(!rig.gpu.has_work());
}

/// A defect and somebody who looks are there at once.
#[test]
fn who_watches_a_broken_gpu_sees_what_it_does() {
    use presil_device::{Access, Look, Watch};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Count(Arc<AtomicU32>);
    impl Watch for Count {
        fn admits(&mut self, access: &Access, _: &Look<'_>) -> bool {
            self.0.fetch_add(u32::from(access.write), Ordering::Relaxed);
            true
        }
    }
    for (broken, wrote) in [(false, 1), (true, 0)] {
        let mut rig = rig(broken.then_some(Defect::Fills));
        let writes = Arc::new(AtomicU32::new(0));
        rig.gpu
            .set_watch(Some(Box::new(Count(Arc::clone(&writes)))));
        rig.submit(|w| fill(w, DESTINATION, 1, 1, 0x66));
        assert_eq!(writes.load(Ordering::Relaxed), wrote);
        rig.gpu.set_watch(None);
        rig.submit(|w| fill(w, DESTINATION, 1, 1, 0x66));
        assert_eq!(rig.load(vram(DESTINATION)) == 0x66, !broken);
    }
}
