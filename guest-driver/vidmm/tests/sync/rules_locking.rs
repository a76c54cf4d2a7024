//! The rules of tickets and of sets of locks, one by one. Two transactions on one
//! thread stand for two threads; that of the machine's threads is elsewhere.

use crate::recorder::{Call, Recorder};
use std::cell::RefCell;
use std::rc::Rc;
use vidmm::Error;
use vidmm::Patience::{Patient, UntilSignal};
use vidmm::sync::portable::{Portable, Single};
use vidmm::sync::{Caller, Deadline, FenceContext, Primitives, Usage};

type Sync = Portable<Single>;
type Bo = <Sync as Primitives>::Reservation;

fn bos<const N: usize>(sync: &impl Primitives<Reservation = Bo>) -> [Bo; N] {
    [(); N].map(|()| sync.new_reservation().unwrap())
}

/// who backs off keeps its ticket, so that it is older than who came
/// after its first try; and it has everything unlocked, then takes what was contended.
#[test]
fn a_back_off_unlocks_all_takes_the_contended_first_and_keeps_the_ticket() {
    let host = Single::new();
    let sync = Rc::new(Portable::new(host.clone()));
    let [x, y, z] = bos(&*sync);
    let older = Rc::new(RefCell::new(sync.draw().unwrap()));
    sync.lock(&x, Some(&mut older.borrow_mut()), Patient, Deadline::NEVER)
        .unwrap();

    let mut caller = Caller::enter(&*sync);
    let mut set = caller.transaction(Patient).unwrap();
    let mut later = sync.draw().unwrap();
    sync.lock(&z, Some(&mut later), Patient, Deadline::NEVER)
        .unwrap();

    // The older one goes on, takes what the younger has let go, and ends.
    let step = (Rc::clone(&sync), x.clone(), y.clone(), Rc::clone(&older));
    host.on_poll(move |_| {
        let (sync, x, y, ticket) = &step;
        let ticket = &mut *ticket.borrow_mut();
        assert!(sync.try_lock(y, Some(ticket)), "all is unlocked");
        sync.unlock(y, Some(ticket));
        sync.unlock(x, Some(ticket));
        None
    });
    let mut runs = 0;
    set.run(|set| {
        runs += 1;
        if runs == 2 {
            assert_eq!(
                set.iter().count(),
                0,
                "what was contended was not asked for yet"
            );
            assert!(!sync.try_lock(&x, None), "but it is held");
        }
        set.lock(&y, 0)?;
        let contended = set.lock(&x, 0).map(drop);
        if runs == 1 {
            assert_eq!(contended, Err(Error::Deadlock));
            assert_eq!(
                set.lock(&z, 0).map(drop),
                Err(Error::Deadlock),
                "nothing more"
            );
        }
        contended
    })
    .unwrap();
    assert_eq!((runs, set.back_offs(), set.iter().count()), (2, 1, 2));

    // Its ticket has aged: who came after its first try must not wait for it.
    assert_eq!(
        sync.lock(&x, Some(&mut later), Patient, Deadline::NEVER),
        Err(Error::Deadlock)
    );
}

/// what is contended never comes out as another error.
#[test]
fn no_contention_ends_as_no_room() {
    let host = Single::new();
    let sync = Rc::new(Portable::new(host.clone()));
    let [x, y] = bos(&*sync);
    let mut older = sync.draw().unwrap();
    sync.lock(&x, Some(&mut older), Patient, Deadline::NEVER)
        .unwrap();
    let older = Rc::new(RefCell::new(older));
    let step = (Rc::clone(&sync), x.clone(), Rc::clone(&older));
    host.on_poll(move |_| {
        step.0.unlock(&step.1, Some(&mut step.2.borrow_mut()));
        None
    });
    let mut caller = Caller::enter(&*sync);
    let mut set = caller.transaction(Patient).unwrap();
    let evicted = set.run(|set| {
        set.lock(&y, 0)?;
        // Somebody has not understood what this error is.
        let victim = set.victim(&x, true);
        victim.map(drop).map_err(|_| Error::NoSpace)
    });
    assert_eq!(evicted, Ok(()));
    assert_eq!(set.back_offs(), 1);
    drop(set);
    let mut set = caller.transaction(Patient).unwrap();
    let refused: Result<(), _> = set.run(|_| Err(Error::NoSpace));
    assert_eq!(refused, Err(Error::NoSpace), "without contention");
}

/// a back-off unlocks all, so what was locked before it is locked again, or
/// the caller would work on it unlocked.
#[test]
fn a_back_off_within_an_attempt_is_one_of_the_whole_attempt() {
    let host = Single::new();
    let sync = Rc::new(Portable::new(host.clone()));
    let [x, y] = bos(&*sync);
    let mut older = sync.draw().unwrap();
    sync.lock(&x, Some(&mut older), Patient, Deadline::NEVER)
        .unwrap();
    let older = RefCell::new(older);
    let step = (Rc::clone(&sync), x.clone());
    host.on_poll(move |_| {
        step.0.unlock(&step.1, Some(&mut older.borrow_mut()));
        None
    });
    let mut caller = Caller::enter(&*sync);
    let mut set = caller.transaction(Patient).unwrap();
    set.run(|set| {
        set.lock(&y, 0)?;
        set.lock_all([&x], 0)
    })
    .unwrap();
    assert_eq!((set.iter().count(), set.back_offs()), (2, 1));
    assert!(!sync.try_lock(&y, None));
    assert_eq!(set.lock_all([&x], 0), Err(Error::Invalid), "they are held");
    assert_eq!(set.iter().count(), 2);
}

///
#[test]
fn who_does_not_wait_is_told_busy() {
    let sync = Portable::new(Single::new());
    let [x] = bos(&sync);
    let (mut one, mut other) = (Caller::enter(&sync), Caller::enter(&sync));
    let held = one.try_lock(&x).unwrap();
    assert_eq!(other.try_lock(&x).err(), Some(Error::Busy));
    drop(held);
    assert!(other.try_lock(&x).is_ok());
}

/// and a lock is not handed to who has left.
#[test]
fn who_is_interrupted_holds_nothing_and_waits_no_longer() {
    let sync = Portable::new(Single::new());
    let [x, y] = bos(&sync);
    let (mut one, mut other) = (Caller::enter(&sync), Caller::enter(&sync));
    let held = one.lock(&x, Patient).unwrap();
    sync.host().set_signal(true);
    assert_eq!(other.lock(&x, UntilSignal).err(), Some(Error::Interrupted));
    let mut set = other.transaction(UntilSignal).unwrap();
    assert_eq!(set.lock_all([&y, &x], 0), Err(Error::Interrupted));
    drop(set);
    drop(held);
    for bo in [&x, &y] {
        assert!(one.try_lock(bo).is_ok(), "nobody has it, and nobody waits");
    }
}

#[test]
fn duplicates_are_one_lock_unless_they_are_refused() {
    let sync = Portable::new(Single::new());
    let [x, y] = bos(&sync);
    let mut caller = Caller::enter(&sync);
    let mut set = caller.transaction(Patient).unwrap();
    set.lock_all([&x, &y, &x], 2).unwrap();
    let slots: Vec<_> = set.iter().map(vidmm::sync::Locked::slots).collect();
    assert_eq!(slots, [4, 2]);
    drop(set);
    let mut set = caller.transaction(Patient).unwrap().refuse_duplicates();
    assert_eq!(set.lock_all([&x, &y, &x], 2), Err(Error::Already));
    drop(set);
    assert!(caller.try_lock(&x).is_ok());
}

/// and the order of unlocking.
#[test]
fn a_fence_is_everywhere_before_anything_is_unlocked_in_reverse_order() {
    let sync = Recorder::new();
    let [x, y, z] = bos(&sync);
    let mut ring = FenceContext::new(&sync);
    let memory = ring.prepare(&sync).unwrap();
    let fence = ring.arm(&sync, memory);
    let mut caller = Caller::enter(&sync);
    let mut set = caller.transaction(Patient).unwrap();
    set.lock_all([&x, &y, &z], 1).unwrap();
    set.commit(&fence, |it| {
        if sync.same(it, &y) {
            Usage::Write
        } else {
            Usage::Read
        }
    })
    .unwrap();
    let expected = [
        Call::Draw,
        Call::Lock(0),
        Call::Lock(1),
        Call::Lock(2),
        Call::Add(0, Usage::Read),
        Call::Add(1, Usage::Write),
        Call::Add(2, Usage::Read),
        Call::Unlock(2),
        Call::Unlock(1),
        Call::Unlock(0),
    ];
    assert_eq!(sync.calls(), expected);

    let mut set = caller.transaction(Patient).unwrap();
    set.lock(&x, 1).unwrap();
    set.lock(&y, 0).unwrap();
    assert_eq!(set.commit(&fence, |_| Usage::Read), Err(Error::Invalid));
    let added = |call: &Call| matches!(call, Call::Add(..));
    assert!(!sync.calls().iter().any(added), "not to some of them");
}

/// The fence of a job is not added to what a back-off took and the job does not use.
#[test]
fn what_only_the_back_off_took_gets_no_fence() {
    let sync = Rc::new(Recorder::new());
    let [x, y] = bos(&*sync);
    let mut older = sync.inner.draw().unwrap();
    sync.inner
        .lock(&x, Some(&mut older), Patient, Deadline::NEVER)
        .unwrap();
    let older = RefCell::new(older);
    let step = (Rc::clone(&sync), x.clone());
    sync.inner.host().on_poll(move |_| {
        step.0.inner.unlock(&step.1, Some(&mut older.borrow_mut()));
        None
    });
    let mut ring = FenceContext::new(&*sync);
    let memory = ring.prepare(&sync).unwrap();
    let fence = ring.arm(&sync, memory);
    let mut caller = Caller::enter(&*sync);
    let mut set = caller.transaction(Patient).unwrap();
    let mut first = true;
    set.run(|set| {
        set.lock(&y, 1)?;
        if std::mem::take(&mut first) {
            set.lock(&x, 1)?;
        }
        Ok(())
    })
    .unwrap();
    set.commit(&fence, |_| Usage::Write).unwrap();
    assert!(sync.is_idle(&x, Usage::Bookkeep));
    assert!(!sync.is_idle(&y, Usage::Write));
    assert!(caller.try_lock(&x).is_ok(), "and it is unlocked");
}

/// victims are locked with the ticket of the job, and let go one by one.
#[test]
fn victims_come_and_go_and_what_the_job_holds_is_none() {
    let sync = Recorder::new();
    let [own, busy, one, two] = bos(&sync);
    let mut stranger = Caller::enter(&sync);
    let held = stranger.lock(&busy, Patient).unwrap();
    let mut caller = Caller::enter(&sync);
    let mut set = caller.transaction(Patient).unwrap();
    set.lock(&own, 1).unwrap();
    sync.calls();
    assert_eq!(set.victim(&own, false).err(), Some(Error::Already));
    assert_eq!(set.victim(&own, true).err(), Some(Error::Already));
    assert_eq!(set.victim(&busy, false).err(), Some(Error::Busy));
    let mut victim = set.victim(&one, false).unwrap();
    assert!(victim.locked().unwrap().is(&one));
    let nested = victim.set().victim(&two, true).unwrap();
    drop(nested);
    drop(victim);
    let expected = [
        Call::TryLock(2),
        Call::Lock(3),
        Call::Unlock(3),
        Call::Unlock(2),
    ];
    assert_eq!(sync.calls(), expected);
    assert_eq!(set.iter().count(), 1);
    drop((set, held));
}

/// Every call for memory refused once: the caller gets the error, nothing stays locked.
#[test]
fn without_memory_everything_is_unlocked() {
    let sync = Recorder::new();
    let [x, y] = bos(&sync);
    let mut ring = FenceContext::new(&sync);
    let mut job = || {
        let mut caller = Caller::enter(&sync);
        let mut set = caller.transaction(Patient)?;
        set.lock_all([&x, &y], 1)?;
        let memory = ring.prepare(&sync)?;
        let fence = ring.arm(&sync, memory);
        set.commit(&fence, |_| Usage::Write)
    };
    let mut refused = 0;
    for n in 0.. {
        sync.memory.set(Some(n));
        let end = job();
        for bo in [&x, &y] {
            assert!(Caller::enter(&sync).try_lock(bo).is_ok(), "call {n}");
            assert_eq!(sync.is_idle(bo, Usage::Bookkeep), end.is_err(), "call {n}");
        }
        match end {
            Ok(()) => break,
            Err(error) => assert_eq!(error, Error::NoMemory),
        }
        refused += 1;
    }
    assert_eq!(refused, 4, "the ticket, room twice, the fence");
}

#[test]
fn a_set_waits_for_a_lock_until_its_deadline_and_not_longer_d_17() {
    let host = Single::new();
    host.on_poll(|now| (now < 1_000_000).then_some(now + 10));
    let sync = Portable::new(host.clone());
    let bo = sync.new_reservation().unwrap();
    assert!(sync.try_lock(&bo, None));
    let mut caller = Caller::enter(&sync);
    let mut set = caller.transaction(Patient).unwrap();
    set.until(Deadline(1005));
    let locked = set.run(|set| set.lock(&bo, 1).map(drop));
    assert_eq!((locked, host.now_ns()), (Err(Error::Busy), 1005));
    // It is not in line any more, and has what it locks later.
    sync.unlock(&bo, None);
    assert!(sync.try_lock(&bo, None));
    sync.unlock(&bo, None);
    set.run(|set| set.lock(&bo, 1).map(drop)).unwrap();
    assert_eq!(host.now_ns(), 1005);
}
