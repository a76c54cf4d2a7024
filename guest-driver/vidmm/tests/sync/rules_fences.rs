//! The rules of fences and of the fences in a reservation, one by one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use vidmm::Error;
use vidmm::Patience::{Patient, UntilSignal};
use vidmm::sync::portable::{Portable, Single};
use vidmm::sync::{
    Caller, Deadline, FenceContext, FenceError, FenceResult, Locked, Primitives, Usage,
};

use Usage::{Bookkeep, Kernel, Read, Write};

type Sync = Portable<Single>;
type Fence = <Sync as Primitives>::Fence;

fn new() -> Sync {
    Portable::new(Single::new())
}

fn next(sync: &Sync, ring: &mut FenceContext<Sync>) -> Fence {
    let memory = ring.prepare(sync).unwrap();
    ring.arm(sync, memory)
}

/// A fence that ends when the test says so, in any order.
fn fence(sync: &Sync, context: u64, sequence: u64) -> Fence {
    sync.arm(sync.allocate_fence().unwrap(), context, sequence)
}

fn add(locked: &mut Locked<'_, Sync>, fence: &Fence, usage: Usage) {
    locked.reserve_slots(1).unwrap();
    locked.add(fence, usage).unwrap();
}

/// which queries see a fence of which class.
#[test]
fn a_query_considers_its_class_and_those_before_it() {
    let idle = [
        (Kernel, [false, false, false, false]),
        (Write, [true, false, false, false]),
        (Read, [true, true, false, false]),
        (Bookkeep, [true, true, true, false]),
    ];
    for (class, expected) in idle {
        let sync = new();
        let bo = sync.new_reservation().unwrap();
        let fence = fence(&sync, 1, 1);
        add(
            &mut Caller::enter(&sync).lock(&bo, Patient).unwrap(),
            &fence,
            class,
        );
        let seen = Usage::ALL.map(|asked| sync.is_idle(&bo, asked));
        assert_eq!(seen, expected, "{class:?}");
        let wait = |usage| sync.wait_idle(&bo, usage, Patient, Deadline(7));
        let waited = Usage::ALL.map(|asked| wait(asked).is_ok());
        assert_eq!(waited, expected, "{class:?}");
        sync.signal(&fence, Err(FenceError::Failed));
        assert_eq!(Usage::ALL.map(wait), [Ok(()); 4], "{class:?}: over is over");
    }
}

/// after `reserve_slots(n)`, n calls of `add` cannot fail, and no more.
#[test]
fn room_is_kept_for_as_many_fences_as_was_said_and_until_the_unlock() {
    let sync = new();
    let bo = sync.new_reservation().unwrap();
    let mut caller = Caller::enter(&sync);
    let mut locked = caller.lock(&bo, Patient).unwrap();
    let fences: Vec<_> = (1..=5).map(|context| fence(&sync, context, 1)).collect();
    assert_eq!(locked.add(&fences[0], Read), Err(Error::Invalid));
    assert!(locked.is_idle(Bookkeep), "nothing was added");
    locked.reserve_slots(2).unwrap();
    locked.reserve_slots(1).unwrap();
    assert_eq!(locked.slots(), 3, "two users of one reservation");
    assert_eq!(locked.reserve_slots(usize::MAX), Err(Error::NoMemory));
    assert_eq!(locked.reserve_slots(usize::MAX / 32), Err(Error::NoMemory));
    for fence in &fences[..3] {
        locked.add(fence, Read).unwrap();
    }
    assert_eq!(locked.add(&fences[3], Read), Err(Error::Invalid));
    locked.reserve_slots(1).unwrap();
    drop(locked);
    let mut locked = caller.lock(&bo, Patient).unwrap();
    assert_eq!(locked.add(&fences[4], Read), Err(Error::Invalid), "lapsed");
}

/// a fence goes only if who would have waited for it waits for the newer one.
#[test]
fn a_newer_fence_of_a_context_replaces_the_older_where_nobody_can_tell() {
    // Class of the first fence, then context, sequence and class of the second;
    // whether the first is gone.
    let cases = [
        ("same class", Read, 1, 2, Read, true),
        ("an earlier class", Read, 1, 2, Write, true),
        ("the earliest class", Bookkeep, 1, 2, Kernel, true),
        (
            "a later class: writers' waiters would miss it",
            Write,
            1,
            2,
            Read,
            false,
        ),
        ("another context", Read, 2, 2, Read, false),
        ("an older fence", Read, 1, 0, Read, false),
        ("itself again", Read, 1, 1, Read, true),
    ];
    for (what, class, context, sequence, usage, gone) in cases {
        let sync = new();
        let bo = sync.new_reservation().unwrap();
        let old = fence(&sync, 1, 1);
        let new = fence(&sync, context, sequence);
        let mut caller = Caller::enter(&sync);
        let mut locked = caller.lock(&bo, Patient).unwrap();
        add(&mut locked, &old, class);
        add(&mut locked, &new, usage);
        sync.signal(&new, Ok(()));
        assert_eq!(locked.is_idle(class), gone, "{what}");
        assert_eq!(Arc::strong_count(&old), if gone { 1 } else { 2 }, "{what}");
    }
}

/// fences that have ended are let go by those that come.
#[test]
fn fences_that_have_ended_do_not_pile_up() {
    let sync = new();
    let bo = sync.new_reservation().unwrap();
    let mut caller = Caller::enter(&sync);
    let mut locked = caller.lock(&bo, Patient).unwrap();
    let fences: Vec<_> = (1..=100).map(|context| fence(&sync, context, 1)).collect();
    for fence in &fences {
        add(&mut locked, fence, Read);
        sync.signal(fence, Ok(()));
    }
    let kept = fences.iter().filter(|it| Arc::strong_count(it) > 1);
    assert!(kept.count() <= 1);
    drop(locked);
    let mut locked = caller.lock(&bo, Patient).unwrap();
    locked.reserve_slots(1).unwrap();
    assert!(fences.iter().all(|it| Arc::strong_count(it) == 1));
}

/// ends in order and once; how it ended stays, over any number of resets.
#[test]
fn how_a_fence_ended_stays_over_any_number_of_resets() {
    let sync = new();
    let mut ring = FenceContext::new(&sync);
    let mut expected: Vec<(Fence, FenceResult)> = Vec::new();
    for round in 0..50 {
        let fences: Vec<_> = (0..4).map(|_| next(&sync, &mut ring)).collect();
        ring.end_through(&sync, ring.issued() - 3);
        let ends: [FenceResult; 4] = match round % 3 {
            0 => {
                ring.end_all(&sync, FenceError::TimedOut, FenceError::Canceled);
                let rest = Err(FenceError::Canceled);
                [Ok(()), Err(FenceError::TimedOut), rest, rest]
            }
            1 => {
                ring.end_failed(&sync, ring.issued() - 2, FenceError::Failed);
                ring.end_lost(&sync);
                ring.revive();
                let rest = Err(FenceError::Lost);
                [Ok(()), Err(FenceError::Failed), rest, rest]
            }
            _ => {
                ring.end_through(&sync, u64::MAX);
                [Ok(()); 4]
            }
        };
        ring.end_through(&sync, ring.issued());
        expected.extend(fences.into_iter().zip(ends));
        for (fence, end) in &expected {
            assert_eq!(sync.result(fence), Some(*end), "round {round}");
        }
    }
    assert_eq!((ring.ended(), ring.issued()), (200, 200));
}

#[test]
fn fences_end_in_order_and_none_before_it_is_reached() {
    let sync = new();
    let mut ring = FenceContext::new(&sync);
    let fences: Vec<_> = (0..5).map(|_| next(&sync, &mut ring)).collect();
    let ended = |n: usize| {
        fences
            .iter()
            .take_while(|it| sync.result(it).is_some())
            .count()
            == n
            && fences[n..].iter().all(|it| sync.result(it).is_none())
    };
    for (reached, count) in [(0, 0), (2, 2), (1, 2), (2, 2), (4, 4)] {
        ring.end_through(&sync, reached);
        assert!(ended(count), "{reached}");
        assert_eq!(ring.ended(), count as u64);
    }
    let identities: Vec<_> = fences.iter().map(|it| sync.identity(it)).collect();
    let expected: Vec<_> = (1..=5).map(|n| (ring.number(), n)).collect();
    assert_eq!(identities, expected);
    assert_ne!(FenceContext::new(&sync).number(), ring.number());
}

/// a GPU that is lost ends all fences, those of jobs on their way included.
#[test]
fn a_lost_gpu_ends_every_fence_and_takes_no_more() {
    let sync = new();
    let mut ring = FenceContext::new(&sync);
    let early = next(&sync, &mut ring);
    let on_its_way = ring.prepare(&sync).unwrap();
    ring.end_lost(&sync);
    let late = ring.arm(&sync, on_its_way);
    for fence in [&early, &late] {
        assert_eq!(sync.result(fence), Some(Err(FenceError::Lost)));
        assert_eq!(sync.wait_fence(fence, Patient, Deadline(0)), Ok(()));
    }
    assert_eq!(ring.prepare(&sync).err(), Some(Error::Lost));
    ring.revive();
    let fresh = next(&sync, &mut ring);
    assert_eq!((sync.result(&fresh), sync.identity(&fresh).1), (None, 3));
}

#[test]
fn the_errors_of_fences_are_those_of_linux() {
    let errors = [
        (FenceError::Failed, 5, Error::Io),
        (FenceError::Canceled, 125, Error::Canceled),
        (FenceError::Lost, 19, Error::Lost),
        (FenceError::TimedOut, 110, Error::TimedOut),
    ];
    for (error, errno, ours) in errors {
        assert_eq!((error.errno(), Error::from(error)), (errno, ours));
    }
}

/// On one thread, waiting is asking the machine to go on, until the deadline.
#[test]
fn one_deadline_is_for_all_fences_of_a_wait() {
    let host = Single::new();
    let sync = Rc::new(Portable::new(host.clone()));
    let bo = sync.new_reservation().unwrap();
    let fences: Vec<_> = (1..=3).map(|context| fence(&sync, context, 1)).collect();
    let mut caller = Caller::enter(&*sync);
    let mut locked = caller.lock(&bo, Patient).unwrap();
    for fence in &fences {
        add(&mut locked, fence, Read);
    }
    // One ends every ten nanoseconds.
    let left = Rc::new(RefCell::new(fences));
    let machine = (Rc::clone(&sync), Rc::clone(&left));
    host.on_poll(move |now| {
        if now > 0
            && let Some(fence) = machine.1.borrow_mut().pop()
        {
            machine.0.signal(&fence, Ok(()));
        }
        Some(now + 10)
    });
    let wait = |ns| locked.wait_idle(Bookkeep, Patient, Deadline(ns));
    assert_eq!(wait(25), Err(Error::TimedOut));
    assert_eq!((host.now_ns(), left.borrow().len()), (25, 1));
    assert_eq!(wait(25), Err(Error::TimedOut), "it has passed");
    assert_eq!(host.now_ns(), 25);
    assert_eq!(wait(100), Ok(()));
}

#[test]
fn a_signal_ends_a_wait_of_who_minds_signals() {
    let sync = new();
    let fence = fence(&sync, 1, 1);
    sync.host().set_signal(true);
    let wait = |patience| sync.wait_fence(&fence, patience, Deadline(5));
    assert_eq!(wait(UntilSignal), Err(Error::Interrupted));
    assert_eq!(sync.host().now_ns(), 0);
    assert_eq!(wait(Patient), Err(Error::TimedOut));
    sync.signal(&fence, Ok(()));
    assert_eq!(
        wait(UntilSignal),
        Ok(()),
        "what has ended is not waited for"
    );
}

/// Who leaves a shared reservation takes all its fences along, in their classes.
#[test]
fn fences_are_copied_with_their_classes() {
    for class in Usage::ALL {
        let sync = new();
        let (shared, own) = (
            sync.new_reservation().unwrap(),
            sync.new_reservation().unwrap(),
        );
        let fence = fence(&sync, 1, 1);
        let mut caller = Caller::enter(&sync);
        add(&mut caller.lock(&shared, Patient).unwrap(), &fence, class);
        let mut locked = caller.lock(&own, Patient).unwrap();
        locked.reserve_slots(1).unwrap();
        locked.take_fences_of(&shared).unwrap();
        let of = |bo| Usage::ALL.map(|usage| sync.is_idle(bo, usage));
        assert_eq!(of(&own), of(&shared), "{class:?}");
        assert_eq!(locked.slots(), 0);
        assert_eq!(
            locked.take_fences_of(&shared),
            Err(Error::Invalid),
            "not idle"
        );
        sync.signal(&fence, Ok(()));
        assert!(locked.is_idle(Bookkeep));
        assert_eq!(locked.take_fences_of(&own), Err(Error::Invalid), "its own");
    }
}
