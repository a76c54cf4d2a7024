//! A ring that is restarted: when, and what is told of the jobs in it.

use super::fake::{Fake, fence_frame, write_fence};
use crate::{Adapter, BoId, CreateFlags, CreateRequest, Error, Timeline};
use e3k_regs::Reg;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

const FAULT: u32 = 1 << 5;
const FENCE: u32 = 1 << 27;
const HANG: u32 = 1 << 16;

/// A buffer, and so many fills of it.
fn with_jobs(fake: &Fake, jobs: u32) -> (Adapter<Fake>, Arc<Timeline<Fake>>, BoId) {
    let mut a = fake.start();
    let request = CreateRequest {
        bytes: 4096,
        flags: CreateFlags::READBACK.0,
        windows: &[],
    };
    let bo = a.create(&request).unwrap();
    for n in 0..jobs {
        a.fill(bo, 0, 4, n).unwrap();
    }
    let timeline = a.timeline();
    (a, timeline, bo)
}

fn fault_at(fake: &Fake, a: &mut Adapter<Fake>, va: u32) {
    fake.set_register(Reg::MxuIntStatus.offset(), 1);
    fake.set_register(Reg::FaultStatus1.offset(), va);
    a.timeline().interrupt(0, FAULT, 0);
    a.attend().unwrap();
}

#[test]
fn a_job_that_had_an_error_has_had_it_whatever_resets_follow() {
    for restarted in [false, true] {
        let fake = Fake::new();
        let (mut a, timeline, bo) = with_jobs(&fake, 3);
        // Job 1 has begun; the other two have not.
        timeline.interrupt(0, FAULT, if restarted { HANG } else { 0 });
        for round in 0..3 {
            if restarted {
                a.attend().unwrap();
            }
            a.resume().unwrap();
            let ends = [1, 2, 3].map(|fence| a.judge(fence));
            let cut = Err(Error::Canceled);
            assert_eq!(ends, [Err(Error::Io), cut, cut], "round {round}");
            let more = a.fill(bo, 0, 4, 0).unwrap();
            a.resume().unwrap();
            assert_eq!(a.judge(more), cut);
        }
    }
}

#[test]
fn faults_that_come_again_in_turn_end_the_job_however_many_they_are() {
    for circle in [1, 2, 3, 5, 7, 40] {
        for before in [0, 3, 100] {
            let fake = Fake::new();
            let (mut a, timeline, bo) = with_jobs(&fake, 2);
            let mut n = 0;
            while timeline.completed() == 0 {
                let place = if n < before { n } else { before + n % circle };
                fault_at(&fake, &mut a, place << 12);
                n += 1;
                assert!(n < 10_000, "{circle} faults in turn go on for ever");
            }
            assert!(n > before + 15, "{n}: too early for {circle}");
            assert_eq!(a.judge(1), Err(Error::Io));
            assert_eq!(a.judge(2), Err(Error::Canceled));
            let next = a.fill(bo, 0, 4, 0).unwrap();
            fake.complete(&a, next);
            assert_eq!(a.judge(next), Ok(()));
        }
    }
}

#[test]
fn a_job_with_many_faults_that_gets_on_is_left_alone() {
    let fake = Fake::new();
    let (mut a, timeline, bo) = with_jobs(&fake, 1);
    // Page after page, each reported a few times, as by several clients.
    for n in 0..30_000 {
        fault_at(&fake, &mut a, (n / 3) << 12);
    }
    assert_eq!(timeline.completed(), 0);
    fake.complete(&a, 1);
    // And jobs that all have the same fault.
    for _ in 0..100 {
        let fence = a.fill(bo, 0, 4, 0).unwrap();
        fault_at(&fake, &mut a, 0);
        assert!(timeline.completed() < fence);
        fake.complete(&a, fence);
    }
    assert_eq!(a.fill(bo, 0, 4, 0), Ok(102), "the ring was never restarted");
}

#[test]
fn what_ends_between_the_last_look_and_the_restart_is_judged_by_what_it_did() {
    for bad in [true, false] {
        let fake = Fake::new();
        let (mut a, timeline, _) = with_jobs(&fake, 5);
        fake.complete(&a, 1);
        timeline.interrupt(1, 0, HANG);
        // It was said of job 2 that it gave up, but 2 and 3 end after all, and of
        // 3 the GPU raises what nobody has heard yet.
        let words = Rc::new(Cell::new(None));
        let raised = Rc::clone(&words);
        let memory = fence_frame(&a);
        *fake.on_engine_reset.borrow_mut() = Some(Box::new(move || {
            write_fence(memory, 3);
            raised.set(Some(if bad { FAULT } else { 0 }));
        }));
        let handler = Arc::clone(&timeline);
        *fake.on_deliver.borrow_mut() = Some(Box::new(move || {
            if let Some(biu) = words.take() {
                handler.interrupt(1, biu, FENCE);
            }
        }));
        a.attend().unwrap();
        let ends = [1, 2, 3, 4, 5].map(|fence| a.judge(fence));
        let (io, cut) = (Err(Error::Io), Err(Error::Canceled));
        let third = if bad { io } else { Ok(()) };
        assert_eq!(ends, [Ok(()), io, third, io, cut]);
        *fake.on_deliver.borrow_mut() = None;
        *fake.on_engine_reset.borrow_mut() = None;
    }
}
