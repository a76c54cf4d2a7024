//! Small scenes in which loom tries every order of steps.

use crate::hosts::loomed::Threads;
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vidmm::Patience::Patient;
use vidmm::sync::portable::Portable;
use vidmm::sync::{Caller, Deadline, FenceContext, FenceError, Primitives, Usage};

type Sync = Portable<Threads>;

/// Orders in which a thread is stopped at most `preemptions` times where it need not.
fn every_order(preemptions: usize, scene: impl Fn() + std::marker::Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scene);
}

#[test]
fn who_waits_for_a_fence_wakes_and_sees_how_it_ended_for_good() {
    every_order(4, || {
        let sync = Arc::new(Sync::new(Threads));
        let mut ring = FenceContext::new(&*sync);
        let memory = (ring.prepare(&sync).unwrap(), ring.prepare(&sync).unwrap());
        let first = ring.arm(&sync, memory.0);
        let second = ring.arm(&sync, memory.1);
        let waiter = thread::spawn({
            let (sync, first, second) = (sync.clone(), first.clone(), second.clone());
            move || {
                sync.wait_fence(&second, Patient, Deadline::NEVER).unwrap();
                let before = sync.result(&first);
                assert_eq!(before, Some(Err(FenceError::Failed)), "in order (R-9.4)");
                assert_eq!(sync.result(&second), Some(Err(FenceError::Canceled)));
            }
        });
        ring.end_all(&sync, FenceError::Failed, FenceError::Canceled);
        ring.end_through(&sync, 2);
        waiter.join().unwrap();
        assert_eq!(sync.result(&second), Some(Err(FenceError::Canceled)));
    });
}

/// Two who end one fence, and one who waits for it.
#[test]
fn a_fence_ends_once_whoever_is_first() {
    every_order(3, || {
        let sync = Arc::new(Sync::new(Threads));
        let fence = sync.arm(sync.allocate_fence().unwrap(), 1, 1);
        let other = thread::spawn({
            let (sync, fence) = (sync.clone(), fence.clone());
            move || sync.signal(&fence, Ok(()))
        });
        let waiter = thread::spawn({
            let (sync, fence) = (sync.clone(), fence.clone());
            move || {
                sync.wait_fence(&fence, Patient, Deadline::NEVER).unwrap();
                sync.result(&fence)
            }
        });
        sync.signal(&fence, Err(FenceError::Lost));
        let seen = waiter.join().unwrap();
        other.join().unwrap();
        assert_eq!(seen, sync.result(&fence));
    });
}

#[test]
fn a_lock_lets_one_in_and_wakes_the_next() {
    every_order(3, || {
        let sync = Arc::new(Sync::new(Threads));
        let bo = sync.new_reservation().unwrap();
        let inside = Arc::new(AtomicU32::new(0));
        let enter = {
            let (sync, inside) = (sync.clone(), inside.clone());
            move || {
                let mut caller = Caller::enter(&*sync);
                let locked = caller.lock(&bo, Patient).unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                thread::yield_now();
                inside.fetch_sub(1, Ordering::Relaxed);
                drop(locked);
            }
        };
        let others = [thread::spawn(enter.clone()), thread::spawn(enter.clone())];
        enter();
        for other in others {
            other.join().unwrap();
        }
    });
}

/// The embrace: one locks A then B, the other B then A.
#[test]
fn two_transactions_that_want_each_others_locks_both_finish() {
    every_order(3, || {
        let sync = Arc::new(Sync::new(Threads));
        let a = sync.new_reservation().unwrap();
        let b = sync.new_reservation().unwrap();
        let inside = Arc::new(AtomicU32::new(0));
        let transact = {
            let (sync, inside) = (sync.clone(), inside.clone());
            move |order: [_; 2]| {
                let mut caller = Caller::enter(&*sync);
                let mut set = caller.transaction(Patient).unwrap();
                set.lock_all(&order, 0).unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                assert_eq!(set.iter().count(), 2);
                assert!(set.back_offs() <= 1, "the other one is older once");
                inside.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let other = thread::spawn({
            let (transact, order) = (transact.clone(), [b.clone(), a.clone()]);
            move || transact(order)
        });
        transact([a, b]);
        other.join().unwrap();
    });
}

/// who waits with a reservation held is told so when an older one comes, and
/// not only when the lock changes hands: it never does before the other one is free.
#[test]
fn a_younger_waiter_lets_go_what_it_holds_as_soon_as_an_older_one_comes() {
    every_order(3, || {
        let sync = Arc::new(Sync::new(Threads));
        let wanted = sync.new_reservation().unwrap();
        let other = sync.new_reservation().unwrap();
        let mut holder = Caller::enter(&*sync);
        let held = holder.lock(&wanted, Patient).unwrap();
        let mut ticket = sync.draw().unwrap();
        let younger = thread::spawn({
            let (sync, other, wanted) = (sync.clone(), other.clone(), wanted.clone());
            move || {
                let mut caller = Caller::enter(&*sync);
                let mut set = caller.transaction(Patient).unwrap();
                set.lock_all([&other, &wanted], 0).unwrap();
            }
        });
        let older = thread::spawn({
            let (sync, wanted) = (sync.clone(), wanted.clone());
            move || {
                sync.lock(&wanted, Some(&mut ticket), Patient, Deadline::NEVER)
                    .unwrap();
                sync.unlock(&wanted, Some(&mut ticket));
            }
        });
        drop(Caller::enter(&*sync).lock(&other, Patient).unwrap());
        drop(held);
        younger.join().unwrap();
        older.join().unwrap();
    });
}

/// Who waits for what a reservation protects finds the fence that was added before.
#[test]
fn a_fence_that_was_committed_is_seen_by_the_next_holder() {
    every_order(3, || {
        let sync = Arc::new(Sync::new(Threads));
        let a = sync.new_reservation().unwrap();
        let b = sync.new_reservation().unwrap();
        let worker = thread::spawn({
            let (sync, a, b) = (sync.clone(), a.clone(), b.clone());
            move || {
                let mut ring = FenceContext::new(&*sync);
                let mut caller = Caller::enter(&*sync);
                let mut set = caller.transaction(Patient).unwrap();
                set.lock_all([&a, &b], 1).unwrap();
                let memory = ring.prepare(&sync).unwrap();
                let fence = ring.arm(&sync, memory);
                set.commit(&fence, |_| Usage::Write).unwrap();
                ring.end_through(&sync, 1);
                fence
            }
        });
        let mut caller = Caller::enter(&*sync);
        let busy = {
            let locked = caller.lock(&a, Patient).unwrap();
            !locked.is_idle(Usage::Write)
        };
        if busy {
            // It was added to both before either was unlocked.
            let locked = caller.lock(&b, Patient).unwrap();
            locked
                .wait_idle(Usage::Write, Patient, Deadline::NEVER)
                .unwrap();
        }
        let fence = worker.join().unwrap();
        assert_eq!(sync.result(&fence), Some(Ok(())));
    });
}
