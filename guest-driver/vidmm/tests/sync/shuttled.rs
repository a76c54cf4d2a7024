//! Threads that do random things, in random orders of steps that shuttle chooses.
//!
//! `PRESIL_SCHEDULES` is how many orders each test tries, 300 without it; 10,000 take
//! minutes. The orders are the same each time. A failure prints one to replay.

use crate::hosts::shuttled::Threads;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Mutex as Shuttled;
use shuttle::{Config, Runner, thread};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use vidmm::Error;
use vidmm::Patience::{self, Patient, UntilSignal};
use vidmm::sync::portable::Portable;
use vidmm::sync::{Caller, Deadline, FenceContext, FenceError, LockSet, Locked, Primitives, Usage};

type Sync = Portable<Threads>;
type Bo = <Sync as Primitives>::Reservation;
type Fence = <Sync as Primitives>::Fence;

/// Nobody is inside.
const NOBODY: usize = usize::MAX;
const OPERATIONS: usize = 30;
const SEED: u64 = 9;

fn schedules() -> usize {
    let said = std::env::var("PRESIL_SCHEDULES");
    said.map_or(300, |said| {
        said.parse().expect("PRESIL_SCHEDULES is a number")
    })
}

fn run(scheduler: impl Scheduler + 'static, scene: impl Fn() + Send + std::marker::Sync + 'static) {
    let mut config = Config::default();
    config.stack_size = 1 << 18;
    Runner::new(scheduler, config).run(scene);
}

/// Half of the orders are evenly random, half have few changes at the worst places.
fn every_scene(scene: impl Fn() + Send + std::marker::Sync + Clone + 'static) {
    let half = schedules().div_ceil(2);
    run(RandomScheduler::new_from_seed(SEED, half), scene.clone());
    run(PctScheduler::new_from_seed(SEED, 4, half), scene);
}

fn choose(below: usize) -> usize {
    thread_rng().gen_range(0..below)
}

/// A reservation, who is inside, and every fence that was ever added.
struct Object {
    bo: Bo,
    inside: AtomicUsize,
    added: Mutex<Vec<(Fence, Usage)>>,
}

struct World {
    sync: Sync,
    objects: Vec<Object>,
    /// Each worker's fences, ended by the machine.
    rings: Vec<Shuttled<FenceContext<Sync>>>,
}

impl World {
    fn new(workers: usize, objects: usize) -> Self {
        let sync = Sync::new(Threads::new());
        let object = |_| Object {
            bo: sync.new_reservation().unwrap(),
            inside: AtomicUsize::new(NOBODY),
            added: Mutex::default(),
        };
        let objects = (0..objects).map(object).collect();
        let ring = |_| Shuttled::new(FenceContext::new(&sync));
        let rings = (0..workers).map(ring).collect();
        Self {
            sync,
            objects,
            rings,
        }
    }

    fn some(&self) -> usize {
        choose(self.objects.len())
    }

    /// Mutual exclusion, and what `is_idle` says, by who holds it.
    fn inside(&self, me: usize, at: usize, locked: &Locked<'_, Sync>) {
        let object = &self.objects[at];
        assert!(locked.is(&object.bo));
        let before = object.inside.swap(me, SeqCst);
        assert_eq!(before, NOBODY, "two are inside");
        thread::yield_now();
        let usage = Usage::ALL[choose(4)];
        let all_ended = |added: &[(Fence, Usage)]| {
            let mut all = added.iter().filter(|(_, of)| *of <= usage);
            all.all(|(fence, _)| self.sync.result(fence).is_some())
        };
        let added = object.added.lock().unwrap().clone();
        let before = all_ended(&added);
        let idle = locked.is_idle(usage);
        assert!(idle || !before, "it waits for nothing");
        assert!(!idle || all_ended(&added), "a fence was forgotten");
        assert_eq!(object.inside.swap(NOBODY, SeqCst), me);
    }

    fn fence(&self, me: usize) -> Option<Fence> {
        let mut ring = self.rings[me].lock().unwrap();
        let memory = ring.prepare(&self.sync).ok()?;
        Some(ring.arm(&self.sync, memory))
    }

    /// How a lock or a wait may end beside well.
    fn refused(&self, error: Error, patience: Patience, deadline: Option<u64>) {
        match error {
            Error::Interrupted => assert_eq!(patience, UntilSignal),
            Error::TimedOut => {
                let deadline = deadline.expect("locks have none");
                assert!(self.sync.host().now_ns() >= deadline);
            }
            other => panic!("{other}"),
        }
    }

    /// One lock, one fence.
    fn one(&self, me: usize, patience: Patience) {
        let at = self.some();
        let bo = &self.objects[at].bo;
        let mut caller = Caller::enter(&self.sync);
        let locked = match choose(3) {
            0 => caller.try_lock(bo),
            _ => caller.lock(bo, patience),
        };
        match locked {
            Ok(mut locked) => {
                self.inside(me, at, &locked);
                locked.reserve_slots(1).unwrap();
                if let Some(fence) = self.fence(me) {
                    let usage = Usage::ALL[choose(4)];
                    locked.add(&fence, usage).unwrap();
                    self.objects[at].added.lock().unwrap().push((fence, usage));
                }
                if choose(3) == 0 {
                    let end = self.sync.host().now_ns() + 3;
                    let waited = locked.wait_idle(Usage::Read, patience, Deadline(end));
                    waited.unwrap_or_else(|error| self.refused(error, patience, Some(end)));
                }
                self.inside(me, at, &locked);
            }
            Err(Error::Busy) => {}
            Err(error) => self.refused(error, patience, None),
        }
    }

    /// Several locks, victims on the way, one fence for all.
    fn job(&self, me: usize, patience: Patience) {
        let wanted: Vec<_> = (0..=choose(3)).map(|_| self.some()).collect();
        let victims: Vec<_> = (0..choose(3))
            .map(|_| (self.some(), choose(2) == 0))
            .collect();
        let mut caller = Caller::enter(&self.sync);
        let mut set = caller.transaction(patience).unwrap();
        let locked = set.run(|set| {
            for at in &wanted {
                set.lock(&self.objects[*at].bo, 1)?;
            }
            victims
                .iter()
                .try_for_each(|victim| self.evict(me, set, *victim))
        });
        if let Err(error) = locked {
            return self.refused(error, patience, None);
        }
        for at in &wanted {
            self.inside(me, *at, set.get(&self.objects[*at].bo).unwrap());
        }
        let Some(fence) = self.fence(me) else { return };
        let mut distinct = wanted.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(set.iter().count(), distinct.len(), "victims have gone");
        for at in distinct {
            let mut added = self.objects[at].added.lock().unwrap();
            added.push((fence.clone(), Usage::Write));
        }
        set.commit(&fence, |_| Usage::Write).unwrap();
    }

    fn evict(
        &self,
        me: usize,
        set: &mut LockSet<'_, Sync>,
        (at, waits): (usize, bool),
    ) -> Result<(), Error> {
        match set.victim(&self.objects[at].bo, waits) {
            Ok(mut victim) => {
                self.inside(me, at, victim.locked().unwrap());
                Ok(())
            }
            Err(Error::Busy | Error::Already) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What is in a reservation, by who holds it for a moment.
    fn added(&self, me: usize, at: usize, patience: Patience) -> Option<Vec<(Fence, Usage)>> {
        let mut caller = Caller::enter(&self.sync);
        let locked = caller.lock(&self.objects[at].bo, patience).ok()?;
        self.inside(me, at, &locked);
        Some(self.objects[at].added.lock().unwrap().clone())
    }

    /// A wait by who holds nothing.
    fn wait(&self, me: usize, patience: Patience) {
        let at = self.some();
        let Some(added) = self.added(me, at, patience) else {
            return;
        };
        let usage = Usage::ALL[choose(4)];
        let end = self.sync.host().now_ns() + 5;
        let bo = &self.objects[at].bo;
        match self.sync.wait_idle(bo, usage, patience, Deadline(end)) {
            Ok(()) => {
                let mut of_class = added.iter().filter(|(_, of)| *of <= usage);
                assert!(of_class.all(|(fence, _)| self.sync.result(fence).is_some()));
            }
            Err(error) => self.refused(error, patience, Some(end)),
        }
    }

    /// All fences go along to a reservation of one's own.
    fn leave(&self, me: usize, patience: Patience) {
        let at = self.some();
        let Some(added) = self.added(me, at, patience) else {
            return;
        };
        let own = self.sync.new_reservation().unwrap();
        let mut caller = Caller::enter(&self.sync);
        let mut locked = caller.lock(&own, Patient).unwrap();
        locked.take_fences_of(&self.objects[at].bo).unwrap();
        if locked.is_idle(Usage::Bookkeep) {
            let mut all = added.iter();
            assert!(all.all(|(fence, _)| self.sync.result(fence).is_some()));
        }
    }

    fn work(&self, me: usize) {
        for _ in 0..OPERATIONS {
            let patience = [Patient, UntilSignal][choose(2)];
            match choose(8) {
                0 | 1 => self.one(me, patience),
                2..=5 => self.job(me, patience),
                6 => self.wait(me, patience),
                _ => self.leave(me, patience),
            }
        }
    }

    /// The GPU and the clock: some fences end, some never, until the GPU is lost.
    fn machine(&self) {
        let host = self.sync.host();
        for _ in 0..60 {
            thread::yield_now();
            let ring = &self.rings[choose(self.rings.len())];
            match choose(12) {
                0 => host.set_signal(true),
                1..=3 => host.set_signal(false),
                4..=6 => host.advance(1),
                7 => {
                    let mut ring = ring.lock().unwrap();
                    ring.end_all(&self.sync, FenceError::TimedOut, FenceError::Canceled);
                }
                _ => {
                    let mut ring = ring.lock().unwrap();
                    let through = ring.ended() + 1;
                    ring.end_through(&self.sync, through);
                }
            }
        }
        host.set_signal(false);
        for ring in &self.rings {
            ring.lock().unwrap().end_lost(&self.sync);
        }
    }

    /// Nobody waits, nobody holds anything, and everything has ended, in order.
    fn is_quiet(&self) {
        for object in &self.objects {
            assert!(self.sync.try_lock(&object.bo, None));
            assert!(self.sync.is_idle(&object.bo, Usage::Bookkeep));
        }
    }
}

/// Two to four threads, thirty operations each, and the machine.
#[test]
fn threads_that_lock_wait_evict_and_submit_all_finish_and_exclude_each_other() {
    every_scene(|| {
        let workers = 2 + choose(3);
        let world = Arc::new(World::new(workers, 2 + choose(3)));
        let mut threads: Vec<_> = (0..workers)
            .map(|me| {
                let world = Arc::clone(&world);
                thread::spawn(move || world.work(me))
            })
            .collect();
        let machine = Arc::clone(&world);
        threads.push(thread::spawn(move || machine.machine()));
        for thread in threads {
            thread.join().unwrap();
        }
        world.is_quiet();
    });
}

/// A ticket that ages wins. With no older one around when its ticket is drawn, a
/// transaction never backs off; with n older ones, at most (LOCKS+1)^n-1 times. An
/// older one that unlocks stops it at most once for each of its locks, since it waits
/// for the contended one; and an older one unlocks when it ends or backs off itself.
#[test]
fn nobody_backs_off_more_often_than_the_older_tickets_explain() {
    const WORKERS: usize = 4;
    const LOCKS: u64 = 3;
    static MOST: AtomicU64 = AtomicU64::new(0);
    every_scene(|| {
        let world = Arc::new(World::new(WORKERS, 4));
        // Transactions that have begun to draw a ticket and have not ended.
        let alive = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..WORKERS)
            .map(|me| {
                let (world, alive) = (Arc::clone(&world), Arc::clone(&alive));
                thread::spawn(move || {
                    for _ in 0..OPERATIONS / 3 {
                        let mut caller = Caller::enter(&world.sync);
                        alive.fetch_add(1, SeqCst);
                        let mut set = caller.transaction(Patient).unwrap();
                        let older = u32::try_from(alive.load(SeqCst) - 1).unwrap();
                        let first = world.some();
                        let wanted = [0, 3, 2].map(|n| &world.objects[(first + n) % 4].bo);
                        set.lock_all(wanted, 0).unwrap();
                        assert_eq!(set.iter().count() as u64, LOCKS);
                        let backed_off = set.back_offs();
                        MOST.fetch_max(backed_off, SeqCst);
                        let most = (LOCKS + 1).pow(older) - 1;
                        assert!(backed_off <= most, "{backed_off} times, {older} older");
                        world.inside(me, first, set.get(&world.objects[first].bo).unwrap());
                        drop(set);
                        alive.fetch_sub(1, SeqCst);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        world.is_quiet();
    });
    let most = MOST.load(SeqCst);
    println!("at most {most} back-offs of one transaction");
    assert!(most >= 2, "there was contention");
}
