//! What a fresh buffer shows: zeros, or nothing.

use super::fake::Fake;
use crate::{Adapter, BoId, CreateFlags, CreateRequest, Error, Timeline};
use std::sync::Arc;

const FAULT: u32 = 1 << 5;
const BUS_ERROR: u32 = 1 << 10;
const FENCE: u32 = 1 << 27;
const HANG: u32 = 1 << 16;

fn bo(a: &mut Adapter<Fake>, flags: CreateFlags) -> BoId {
    let request = CreateRequest {
        bytes: 4096,
        flags: flags.0,
        windows: &[],
    };
    a.create(&request).unwrap()
}

/// A buffer in RAM and a fresh one in VRAM, which fence 1 clears.
fn fresh(fake: &Fake) -> (Adapter<Fake>, Arc<Timeline<Fake>>, BoId, BoId) {
    let mut a = fake.start();
    let ram = bo(&mut a, CreateFlags::READBACK);
    let vram = bo(&mut a, CreateFlags::GPU_MOSTLY);
    let timeline = a.timeline();
    assert_eq!(a.ready_fence(vram), Some(1));
    (a, timeline, ram, vram)
}

/// All ways to see or use a buffer's contents.
fn uses(a: &mut Adapter<Fake>, ram: BoId, vram: BoId) -> [Result<(), Error>; 4] {
    [
        a.fault(vram, 0).map(|_| ()),
        a.copy(ram, 0, vram, 0, 4096).map(|_| ()),
        a.copy(vram, 0, ram, 0, 4096).map(|_| ()),
        a.fill(vram, 0, 4096, 1).map(|_| ()),
    ]
}

#[test]
fn a_buffer_whose_clearing_failed_is_cleared_again_before_anybody_can_use_it() {
    for error in [FAULT, BUS_ERROR] {
        let fake = Fake::new();
        let (mut a, timeline, ram, vram) = fresh(&fake);
        assert_eq!(uses(&mut a, ram, vram), [Err(Error::Busy); 4]);
        fake.finish(&a, 1);
        timeline.interrupt(0, error, FENCE);
        assert_eq!(uses(&mut a, ram, vram), [Err(Error::Busy); 4]);
        assert_eq!((a.ready_fence(vram), timeline.submitted()), (Some(2), 2));
        fake.complete(&a, 2);
        assert_eq!(a.ready_fence(vram), None);
        assert_eq!(uses(&mut a, ram, vram), [Ok(()); 4]);
        assert_eq!(timeline.submitted(), 5, "and never again");
    }
}

#[test]
fn an_error_of_the_clearing_that_nobody_has_heard_of_is_found_by_who_uses_the_buffer() {
    let fake = Fake::new();
    let (mut a, timeline, _, vram) = fresh(&fake);
    fake.finish(&a, 1);
    // The handler latched before; the words of the clearing are still to come.
    timeline.interrupt(0, 0, 0);
    assert_eq!((timeline.completed(), timeline.verdict(1)), (1, None));
    let late = Arc::clone(&timeline);
    *fake.on_deliver.borrow_mut() = Some(Box::new(move || _ = late.interrupt(0, FAULT, FENCE)));
    assert_eq!(a.fault(vram, 0), Err(Error::Busy));
    *fake.on_deliver.borrow_mut() = None;
    assert_eq!(a.ready_fence(vram), Some(2));
}

#[test]
fn a_buffer_that_cannot_be_cleared_is_refused_and_the_gpu_is_left_in_peace() {
    for hang in [true, false] {
        let fake = Fake::new();
        let (mut a, timeline, ram, vram) = fresh(&fake);
        for round in 1..=4 {
            assert_eq!(a.ready_fence(vram), Some(round));
            if hang {
                timeline.interrupt(0, 0, HANG);
                a.attend().unwrap();
            } else {
                fake.finish(&a, round);
                timeline.interrupt(0, FAULT, FENCE);
            }
            let end = if round < 4 { Error::Busy } else { Error::Io };
            assert_eq!(a.fault(vram, 0), Err(end), "round {round}");
        }
        assert_eq!(uses(&mut a, ram, vram), [Err(Error::Io); 4]);
        assert_eq!((a.ready_fence(vram), timeline.submitted()), (None, 4));
        a.destroy(vram).unwrap();
        let other = bo(&mut a, CreateFlags::GPU_MOSTLY);
        fake.complete(&a, 5);
        assert!(a.fault(other, 0).is_ok(), "its memory is another's now");
    }
}

#[test]
fn a_clearing_that_others_resets_cut_off_is_tried_without_end() {
    let fake = Fake::new();
    let (mut a, _, _, vram) = fresh(&fake);
    for round in 1..=20 {
        assert_eq!(a.ready_fence(vram), Some(round));
        a.resume().unwrap();
        assert_eq!(a.fault(vram, 0), Err(Error::Busy), "round {round}");
    }
    fake.complete(&a, 21);
    assert!(a.fault(vram, 0).is_ok());
}

#[test]
fn a_clearing_that_finds_the_ring_full_is_waited_for() {
    let fake = Fake::new();
    let (mut a, timeline, ram, vram) = fresh(&fake);
    fake.finish(&a, 1);
    timeline.interrupt(0, FAULT, FENCE);
    a.attend().unwrap();
    while a.fill(ram, 0, 4, 0).is_ok() {}
    let newest = timeline.submitted();
    assert_eq!(a.fault(vram, 0), Err(Error::Busy));
    assert_eq!(a.ready_fence(vram), Some(2), "the next fence makes room");
    fake.complete(&a, newest);
    assert_eq!(a.fault(vram, 0), Err(Error::Busy));
    assert_eq!(a.ready_fence(vram), Some(newest + 1));
}
