//! A fence that never ends stops who waits for it, and nobody else. Counts, not times.

use crate::hosts::machine::Threads;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use vidmm::Error;
use vidmm::Patience::{Patient, UntilSignal};
use vidmm::sync::portable::Portable;
use vidmm::sync::{Caller, Deadline, FenceContext, Primitives, Usage};

const TEN_SECONDS: u64 = 10_000_000_000;
const JOBS: u64 = 1_000;

/// One thread holds a reservation and waits ten seconds for a fence that nobody
/// ends. The test's time stands still until two others have done a thousand jobs
/// each on reservations of their own; only then do the ten seconds pass.
#[test]
fn two_threads_work_while_a_third_waits_for_a_fence_that_never_ends() {
    let host = Threads::new();
    let sync = Arc::new(Portable::new(host.clone()));
    let hung_bo = sync.new_reservation().unwrap();
    let mut ring = FenceContext::new(&*sync);
    let memory = ring.prepare(&sync).unwrap();
    let hung = ring.arm(&sync, memory);

    let (begun, begins) = mpsc::channel();
    let waiter = thread::spawn({
        let (sync, hung_bo) = (sync.clone(), hung_bo.clone());
        move || {
            let mut caller = Caller::enter(&*sync);
            let mut locked = caller.lock(&hung_bo, Patient).unwrap();
            locked.reserve_slots(1).unwrap();
            locked.add(&hung, Usage::Kernel).unwrap();
            begun.send(()).unwrap();
            let waited = locked.wait_idle(Usage::Bookkeep, UntilSignal, Deadline(TEN_SECONDS));
            (waited, sync.host().now_ns())
        }
    });
    begins.recv().unwrap();

    let workers: Vec<_> = (0..2)
        .map(|_| {
            let sync = sync.clone();
            thread::spawn(move || {
                let bos = [
                    sync.new_reservation().unwrap(),
                    sync.new_reservation().unwrap(),
                ];
                let mut ring = FenceContext::new(&*sync);
                let mut caller = Caller::enter(&*sync);
                for n in 1..=JOBS {
                    let mut job = caller.transaction(Patient).unwrap();
                    job.lock_all(&bos, 1).unwrap();
                    let memory = ring.prepare(&sync).unwrap();
                    let fence = ring.arm(&sync, memory);
                    job.commit(&fence, |_| Usage::Write).unwrap();
                    ring.end_through(&sync, n);
                    let end = Deadline(TEN_SECONDS);
                    sync.wait_idle(&bos[0], Usage::Bookkeep, Patient, end)
                        .unwrap();
                }
                ring.ended()
            })
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.join().unwrap(), JOBS);
    }
    assert_eq!(host.now_ns(), 0);
    assert!(!waiter.is_finished(), "no time has passed for it");
    let mut caller = Caller::enter(&*sync);
    assert_eq!(caller.try_lock(&hung_bo).err(), Some(Error::Busy));

    host.advance(TEN_SECONDS);
    assert_eq!(waiter.join().unwrap(), (Err(Error::TimedOut), TEN_SECONDS));
    assert!(caller.try_lock(&hung_bo).is_ok(), "and it has let go");
}

/// The same on the machine's threads as on one: a signal ends a wait, and nothing else of it.
#[test]
fn a_signal_wakes_who_waits_for_a_fence_or_a_reservation() {
    let host = Threads::new();
    let sync = Arc::new(Portable::new(host.clone()));
    let bo = sync.new_reservation().unwrap();
    let fence = sync.arm(sync.allocate_fence().unwrap(), 1, 1);
    let mut caller = Caller::enter(&*sync);
    let held = caller.lock(&bo, Patient).unwrap();
    let for_fence = thread::spawn({
        let sync = sync.clone();
        move || sync.wait_fence(&fence, UntilSignal, Deadline(1))
    });
    let for_lock = thread::spawn({
        let (sync, bo) = (sync.clone(), bo.clone());
        move || {
            let mut caller = Caller::enter(&*sync);
            caller.lock(&bo, UntilSignal).map(drop)
        }
    });
    host.set_signal(true);
    assert_eq!(for_fence.join().unwrap(), Err(Error::Interrupted));
    assert_eq!(for_lock.join().unwrap(), Err(Error::Interrupted));
    drop(held);
    assert!(caller.try_lock(&bo).is_ok());
}
