//! Which fences end in an error, against a GPU whose status words and fence
//! memory arrive at any moments that the bus allows.

use super::door::{BUS_ERROR, Door, FAULT, FENCE};
use super::fake::Fake;
use crate::{Adapter, BoId, CreateFlags, CreateRequest, Error};
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

fn with_bo(fake: &Fake) -> (Adapter<Fake>, BoId) {
    let mut adapter = fake.start();
    let request = CreateRequest {
        bytes: 4096,
        flags: CreateFlags::READBACK.0,
        windows: &[],
    };
    let bo = adapter.create(&request).unwrap();
    (adapter, bo)
}

#[test]
fn a_fence_that_arrived_after_the_status_was_latched_is_not_good_yet() {
    for error in [FAULT, BUS_ERROR] {
        let fake = Fake::new();
        let (mut a, bo) = with_bo(&fake);
        for _ in 0..2 {
            a.fill(bo, 0, 4, 0).unwrap();
        }
        let timeline = a.timeline();
        // The handler latches the words of job 1; then job 2 has its error and its fence.
        fake.finish(&a, 2);
        timeline.interrupt(0, 0, FENCE);
        assert_eq!(timeline.completed(), 2);
        assert_eq!(timeline.verdict(1), Some(Ok(())), "its signal says so");
        assert_eq!(timeline.verdict(2), None);
        let late = Arc::clone(&timeline);
        *fake.on_deliver.borrow_mut() = Some(Box::new(move || _ = late.interrupt(0, error, FENCE)));
        assert_eq!(a.judge(2), Err(Error::Io));
        assert_eq!(a.judge(1), Ok(()));
        *fake.on_deliver.borrow_mut() = None;
    }
}

#[test]
fn an_error_is_remembered_over_resets_and_never_becomes_good() {
    let fake = Fake::new();
    let (mut a, bo) = with_bo(&fake);
    let timeline = a.timeline();
    let bad = a.fill(bo, 0, 4, 0).unwrap();
    fake.finish(&a, bad);
    timeline.interrupt(0, FAULT, FENCE);
    for round in 0..100 {
        let cut = a.fill(bo, 0, 4, 0).unwrap();
        a.resume().unwrap();
        assert_eq!(a.judge(cut), Err(Error::Canceled), "round {round}");
        assert_eq!(a.judge(bad), Err(Error::Io), "round {round}");
        let good = a.fill(bo, 0, 4, 0).unwrap();
        fake.complete(&a, good);
        assert_eq!(a.judge(good), Ok(()), "round {round}");
    }
}

#[test]
fn a_fence_that_a_reset_left_unjudged_is_not_called_good() {
    let fake = Fake::new();
    let (mut a, bo) = with_bo(&fake);
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    // Done, but the reset took the status away before anybody saw it.
    fake.finish(&a, fence);
    a.resume().unwrap();
    assert_eq!(a.judge(fence), Err(Error::Canceled));
}

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit { bad: bool },
    Run,
    EndSlice,
    Read,
    Latch,
    Handle,
    Judge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(|bad| Step::Submit { bad }),
        4 => Just(Step::Run),
        3 => Just(Step::EndSlice),
        3 => Just(Step::Read),
        3 => Just(Step::Latch),
        3 => Just(Step::Handle),
        1 => Just(Step::Judge),
    ]
}

/// The GPU and its door.
struct Bus {
    fake: Fake,
    door: Door,
    /// Which jobs have an error, by fence.
    bad: Vec<bool>,
    fence: u64,
}

impl Bus {
    fn new(fake: &Fake, adapter: &Adapter<Fake>, queued: bool) -> Self {
        Self {
            fake: fake.clone(),
            door: Door::new(adapter.timeline(), queued),
            bad: vec![false],
            fence: 0,
        }
    }

    fn run(&mut self, adapter: &Adapter<Fake>) {
        if let Some(bad) = self.bad.get(self.fence as usize + 1) {
            self.fence += 1;
            self.fake.finish(adapter, self.fence);
            self.door.raise(if *bad { BUS_ERROR } else { 0 }, FENCE);
        }
    }
}

proptest! {
    // Each case starts a driver.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_job_with_an_error_is_ever_called_good(
        queued in any::<bool>(), steps in prop::collection::vec(step(), 1..120),
    ) {
        let fake = Fake::new();
        let (mut a, bo) = with_bo(&fake);
        let bus = Rc::new(RefCell::new(Bus::new(&fake, &a, queued)));
        let door = Rc::clone(&bus);
        *fake.on_deliver.borrow_mut() = Some(Box::new(move || door.borrow_mut().door.deliver(&mut |_| {})));
        let timeline = a.timeline();
        for step in steps.into_iter().chain([Step::Run; 80]).chain([Step::Judge]) {
            match step {
                Step::Submit { bad } => {
                    a.fill(bo, 0, 4, 0).unwrap();
                    bus.borrow_mut().bad.push(bad);
                }
                Step::Run => bus.borrow_mut().run(&a),
                Step::EndSlice => bus.borrow_mut().door.end_slice(),
                Step::Read => bus.borrow_mut().door.read(),
                Step::Latch => bus.borrow_mut().door.latch(),
                Step::Handle => bus.borrow_mut().door.handle(&mut |_| {}),
                Step::Judge => {
                    let done = timeline.in_memory();
                    a.judge(done).ok();
                    prop_assert!(timeline.verdict(done).is_some(), "fence {} is judged", done);
                }
            }
            let any_bad = bus.borrow().bad.contains(&true);
            for (fence, bad) in (0..).zip(&bus.borrow().bad) {
                match timeline.verdict(fence) {
                    Some(Ok(())) => prop_assert!(!bad, "fence {} had an error", fence),
                    Some(Err(_)) => prop_assert!(any_bad, "fence {}: nobody had one", fence),
                    None => {}
                }
            }
        }
        *fake.on_deliver.borrow_mut() = None;
    }

    #[test]
    fn jobs_that_are_waited_for_one_by_one_get_their_own_errors_and_no_others(
        queued in any::<bool>(), jobs in prop::collection::vec(any::<bool>(), 1..60),
    ) {
        let fake = Fake::new();
        let (mut a, bo) = with_bo(&fake);
        let bus = Rc::new(RefCell::new(Bus::new(&fake, &a, queued)));
        let door = Rc::clone(&bus);
        *fake.on_deliver.borrow_mut() = Some(Box::new(move || door.borrow_mut().door.deliver(&mut |_| {})));
        let mut told = Vec::new();
        for bad in &jobs {
            let fence = a.fill(bo, 0, 4, 0).unwrap();
            bus.borrow_mut().bad.push(*bad);
            bus.borrow_mut().run(&a);
            told.push((fence, a.judge(fence).is_err()));
        }
        for ((fence, error), bad) in told.into_iter().zip(jobs) {
            prop_assert_eq!(error, bad, "fence {}", fence);
            prop_assert_eq!(a.judge(fence).is_err(), bad, "fence {}, later", fence);
        }
        *fake.on_deliver.borrow_mut() = None;
    }
}

#[test]
fn what_is_told_last_is_attended_to_before_the_gpu_sleeps() {
    let fake = Fake::new();
    let (mut a, bo) = with_bo(&fake);
    let timeline = a.timeline();
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    fake.finish(&a, fence);
    let late = Arc::clone(&timeline);
    *fake.on_deliver.borrow_mut() = Some(Box::new(move || _ = late.interrupt(0, FAULT, FENCE)));
    a.suspend(0).unwrap();
    *fake.on_deliver.borrow_mut() = None;
    assert!(!timeline.has_trouble());
    assert_eq!(timeline.verdict(fence), Some(Err(Error::Io)));
    let writes = fake.writes.borrow().len();
    a.attend().unwrap();
    assert_eq!(fake.writes.borrow().len(), writes, "it sleeps");
}

#[test]
fn a_fence_of_a_gpu_that_is_lost_is_not_called_good() {
    let fake = Fake::new();
    let (mut a, bo) = with_bo(&fake);
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    fake.finish(&a, fence);
    a.timeline().mark_lost();
    assert_eq!(a.judge(fence), Err(Error::Lost));
}
