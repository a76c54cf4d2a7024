//! Threads on one manager, beside a GPU that works when it wants to.
//!
//! `PRESIL_SCHEDULES` is how many orders of steps shuttle tries, 100 without it; 10,000
//! take an hour. The orders are the same each time. A failure prints one to replay.

#[path = "../../../tests/sync/hosts.rs"]
#[expect(dead_code, reason = "what loom has is for fences and locks alone")]
mod hosts;

use super::machine::{Gpu, Machine, Spot, Threads, Work};
use super::{
    anywhere, at_once, create, create_in, ctx, info, job, pages, touch, validate, validate_in,
    whole, with,
};
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::{Context, Mm, Options};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::{Caller, Deadline, Primitives, Usage};
use crate::{Error, bo};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Shuttle's threads.
pub(super) struct Shuttled;

pub(super) struct ShuttledLock<T>(shuttle::sync::Mutex<T>);

impl<T> SmallLock<T> for ShuttledLock<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    fn into_inner(self) -> T {
        self.0.into_inner().unwrap()
    }
}

impl Threads for Shuttled {
    type Host = hosts::shuttled::Threads;
    type Lock<T> = ShuttledLock<T>;
    type Spaces = ();
    type Run = Infallible;
    type Meanwhile = ();

    fn lock<T>(value: T) -> ShuttledLock<T> {
        ShuttledLock(shuttle::sync::Mutex::new(value))
    }

    fn now_ns(host: &Self::Host) -> u64 {
        host.now_ns()
    }

    fn run(run: Infallible, _: &Gpu<Self>) {
        match run {}
    }
}

/// Those of the machine.
struct Real;

struct RealLock<T>(std::sync::Mutex<T>);

impl<T> SmallLock<T> for RealLock<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    fn into_inner(self) -> T {
        self.0.into_inner().unwrap()
    }
}

impl Threads for Real {
    type Host = hosts::machine::Threads;
    type Lock<T> = RealLock<T>;
    type Spaces = ();
    type Run = Infallible;
    type Meanwhile = ();

    fn lock<T>(value: T) -> RealLock<T> {
        RealLock(std::sync::Mutex::new(value))
    }

    fn now_ns(host: &Self::Host) -> u64 {
        host.now_ns()
    }

    fn run(run: Infallible, _: &Gpu<Self>) {
        match run {}
    }
}

const OPERATIONS: usize = 30;
const SEED: u64 = 9;
const SEGMENTS: [SegmentId; 4] = [
    SegmentId::LocalVisible,
    SegmentId::LocalInvisible,
    SegmentId::PcieUnsnoop,
    SegmentId::System,
];

fn schedules() -> usize {
    let said = std::env::var("PRESIL_SCHEDULES");
    said.map_or(100, |said| {
        said.parse().expect("PRESIL_SCHEDULES is a number")
    })
}

/// Half of the orders are evenly random, half have few changes at the worst places.
pub(super) fn every_order(scene: impl Fn() + Send + Sync + Clone + 'static) {
    fn run(scheduler: impl Scheduler + 'static, scene: impl Fn() + Send + Sync + 'static) {
        let mut config = Config::default();
        config.stack_size = 1 << 19;
        Runner::new(scheduler, config).run(scene);
    }
    let half = schedules().div_ceil(2);
    run(RandomScheduler::new_from_seed(SEED, half), scene.clone());
    run(PctScheduler::new_from_seed(SEED, 4, half), scene);
}

pub(super) fn choose(below: usize) -> usize {
    thread_rng().gen_range(0..below)
}

impl Machine<Shuttled> {
    /// One whose GPU works while [`with_gpu`] lets it.
    pub(super) fn shuttled() -> Self {
        let machine = Self::on(hosts::shuttled::Threads::new());
        machine.ring.set(None);
        machine
    }
}

/// Has a GPU work beside what is done.
pub(super) fn with_gpu(gpu: &Arc<Gpu<Shuttled>>, work: impl FnOnce()) {
    let done = Arc::new(shuttle::sync::atomic::AtomicBool::new(false));
    let worker = shuttle::thread::spawn({
        let (gpu, done) = (Arc::clone(gpu), Arc::clone(&done));
        move || {
            while !done.load(SeqCst) {
                gpu.step();
                shuttle::thread::yield_now();
            }
        }
    });
    work();
    done.store(true, SeqCst);
    worker.join().unwrap();
}

fn some_segment() -> SegmentId {
    SEGMENTS[choose(SEGMENTS.len())]
}

/// What several threads work on.
struct World {
    mm: Mm<Machine<Shuttled>>,
    /// Buffers that anybody may use.
    bos: std::sync::Mutex<Vec<Id>>,
    /// What was written to the first page of each, by who held its reservation.
    words: std::sync::Mutex<HashMap<Id, u64>>,
    next_word: AtomicU64,
}

impl World {
    fn new() -> Self {
        // Room for what a job uses, and in RAM for one more that has to leave for it: less than
        // all of them may want.
        let mm = Mm::new(Machine::shuttled(), [6, 6, 9, 9], Options::default()).unwrap();
        mm.limit_ram(9);
        Self {
            mm,
            bos: std::sync::Mutex::default(),
            words: std::sync::Mutex::default(),
            next_word: AtomicU64::new(1),
        }
    }

    fn some(&self) -> Option<Id> {
        let bos = self.bos.lock().unwrap();
        let at = choose(8).checked_rem(bos.len())?;
        Some(bos[at])
    }

    fn create(&self) -> Result<(), Error> {
        let pages = 1 + choose(3) as u64;
        let mut context = if choose(4) == 0 { at_once() } else { ctx() };
        let no_wait = context.no_wait;
        let places = [anywhere(some_segment())];
        let id = match create_in(&self.mm, &info(pages), &places, &mut context) {
            Err(Error::Busy) if no_wait => return Ok(()),
            created => created?,
        };
        self.words.lock().unwrap().insert(id, 0);
        self.bos.lock().unwrap().push(id);
        Ok(())
    }

    fn release(&self) {
        let id = {
            let mut bos = self.bos.lock().unwrap();
            let at = choose(8).checked_rem(bos.len());
            at.map(|at| bos.swap_remove(at))
        };
        if let Some(id) = id {
            self.mm.release(id).unwrap();
        }
    }

    /// Several buffers for one job; one of them is written to.
    fn job(&self, ids: &[Id]) -> Result<(), Error> {
        let mm = &self.mm;
        let machine = mm.world();
        let locks: Vec<_> = ids
            .iter()
            .map(|id| mm.reservation(*id))
            .collect::<Result<_, _>>()?;
        let mut caller = Caller::enter(&*machine.sync);
        let mut set = caller.transaction(Patience::Patient)?;
        let to = SEGMENTS[choose(3)];
        set.run(|set| {
            locks.iter().try_for_each(|it| set.lock(it, 1).map(drop))?;
            for id in ids {
                mm.validate(set, *id, &[anywhere(to)], &mut ctx())?;
                mm.make_resident(set, *id, &mut ctx())?;
            }
            locks.iter().try_for_each(|it| set.lock(it, 1).map(drop))
        })?;
        let word = self.next_word.fetch_add(1, SeqCst);
        let at = whole(mm, ids[0])?[0];
        let fence = machine.submit_after(&locks[0], Work::Fill(vec![at], word), Ok(()))?;
        self.words.lock().unwrap().insert(ids[0], word);
        set.commit(&fence, |_| Usage::Write)
    }

    /// The word that was written last is there, wherever it is.
    fn look(&self, id: Id) -> Result<(), Error> {
        let mm = &self.mm;
        with(mm, id, |set| {
            let reservation = mm.reservation(id)?;
            let held = set.get(&reservation).unwrap();
            held.wait_idle(Usage::Bookkeep, Patience::Patient, Deadline(u64::MAX - 1))?;
            let seen = mm.seen().into_iter().find(|seen| seen.id == id);
            let spot = match seen.ok_or(Error::NotFound)? {
                seen if !seen.segment.uses_tt() => {
                    Spot::Local(pages(seen.segment, &seen.extents)[0])
                }
                seen => match seen.frames.first() {
                    Some(frame) => Spot::Ram(*frame),
                    // Nothing was ever written, or it is in the store.
                    None => return Ok(()),
                },
            };
            let expected = self.words.lock().unwrap()[&id];
            assert_eq!(mm.world().gpu.peek(spot), expected);
            Ok(())
        })
    }

    /// Everything that is asked for fits, so that whoever may wait gets it, whatever others
    /// do (D-1, D-2).
    fn step(&self) -> Result<(), Error> {
        let mm = &self.mm;
        let what = choose(15);
        if what < 2 {
            return self.create();
        }
        // Who names a buffer has a reference.
        let (Some(id), Some(other)) = (self.some(), self.some()) else {
            return Ok(());
        };
        let (first, second) = (mm.hold(id), mm.hold(other));
        // Somebody else may have released it.
        let done = match first.and(second) {
            Ok(()) => self.use_of(what, id, other),
            Err(gone) => {
                assert_eq!(gone, Error::NotFound);
                Ok(())
            }
        };
        for (held, id) in [(first, id), (second, other)] {
            held.map_or(Ok(()), |()| mm.release(id)).unwrap();
        }
        done
    }

    fn use_of(&self, what: usize, id: Id, other: Id) -> Result<(), Error> {
        let mm = &self.mm;
        match what {
            2..=3 => validate(mm, id, some_segment()).map(drop),
            4 => match validate_in(mm, id, some_segment(), &mut at_once()) {
                // It may not wait.
                Err(Error::Busy) => Ok(()),
                other => other,
            },
            5..=6 => self.job(&[id]),
            7 => self.job(&[id, other]),
            8..=9 => self.look(id),
            10 => match touch(mm, id, 0, &mut ctx()) {
                // Where the CPU does not reach.
                Err(Error::Fault) => Ok(()),
                touched => touched.map(drop),
            },
            11 => match with(mm, id, |set| mm.swap_out(set, id, &mut ctx())) {
                // It has no pages.
                Err(Error::Busy) => Ok(()),
                other => other.map(drop),
            },
            12 => {
                self.release();
                mm.reap();
                Ok(())
            }
            13 => mm.shrink(choose(6), &mut at_once()).map(drop),
            _ => {
                let mut caller = Caller::enter(&*mm.world().sync);
                mm.evict_all(&mut caller, SEGMENTS[choose(3)], &mut ctx())
            }
        }
    }

    fn work(&self) {
        for n in 0..OPERATIONS {
            assert_eq!(self.step(), Ok(()), "operation {n}");
        }
    }

    /// Nobody waits, nobody holds anything, and everything comes back.
    fn end(self) {
        let Self { mm, bos, .. } = self;
        let machine = mm.world();
        machine.work(usize::MAX);
        mm.reap();
        mm.check();
        for seen in mm.seen() {
            assert!(machine.sync.try_lock(&seen.reservation, None));
            machine.sync.unlock(&seen.reservation, None);
        }
        for id in bos.into_inner().unwrap() {
            mm.release(id).unwrap();
        }
        mm.reap();
        bo::pool::close(&*machine.ram.system, &machine.ram.pool);
        assert_eq!(machine.ram.system.pages_out(), 0);
        assert!(machine.ram.shelf.stored.borrow().is_empty());
        assert!(machine.gpu.gart.borrow().is_empty());
        assert_eq!(mm.fini(), Ok(()));
    }
}

/// Two to four threads, thirty operations each, and the GPU.
#[test]
fn threads_that_place_evict_swap_and_submit_all_finish_with_their_contents() {
    every_order(|| {
        let world = Arc::new(World::new());
        with_gpu(&world.mm.world().gpu, || {
            let workers: Vec<_> = (0..2 + choose(3))
                .map(|_| {
                    let world = Arc::clone(&world);
                    shuttle::thread::spawn(move || world.work())
                })
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
        });
        Arc::into_inner(world).unwrap().end();
    });
}

const TEN_SECONDS: u64 = 10_000_000_000;
const ROUNDS: u64 = 300;

/// One thread holds a buffer and waits ten seconds for a clear that never ends. The
/// test's time stands still until two others have had three hundred jobs each on
/// buffers of their own, more than fit, which go where that one is; only then do the
/// ten seconds pass.
#[test]
fn two_threads_work_on_their_buffers_while_a_third_waits_for_a_fence_that_never_ends() {
    let host = hosts::machine::Threads::new();
    let machine = Machine::<Real>::on(host.clone());
    // A touch of memory that the CPU does not reach waits, and does not move it first.
    let options = Options {
        cpu_use: false,
        ..Options::default()
    };
    let mm = Mm::new(machine, [12, 32, 32, 32], options).unwrap();
    let mm = Arc::new(mm);
    let machine = mm.world();
    machine.ring.set(Some(1));
    machine.gpu.hung.set([false, true]);
    let hung = create(&mm, &info(4), &[anywhere(SegmentId::LocalInvisible)]).unwrap();
    machine.ring.set(Some(0));
    let done = Arc::new(AtomicBool::new(false));

    let waiter = std::thread::spawn({
        let mm = Arc::clone(&mm);
        let until = Context::until(Deadline(TEN_SECONDS), Patience::UntilSignal);
        move || touch(&mm, hung, 0, &mut until.clone())
    });
    let reservation = mm.reservation(hung).unwrap();
    while machine.sync.try_lock(&reservation, None) {
        machine.sync.unlock(&reservation, None);
        std::thread::yield_now();
    }
    let gpu = std::thread::spawn({
        let (mm, done) = (Arc::clone(&mm), Arc::clone(&done));
        move || {
            while !done.load(SeqCst) {
                if !mm.world().gpu.step() {
                    std::thread::yield_now();
                }
            }
        }
    });
    let workers = [0, 1].map(|me| {
        let mm = Arc::clone(&mm);
        std::thread::spawn(move || {
            let bos = [(); 3].map(|()| create(&mm, &info(4), &[]).unwrap());
            for n in 0..ROUNDS {
                let bo = bos[usize::try_from(n).unwrap() % bos.len()];
                let word = me << 32 | n;
                validate(&mm, bo, SegmentId::LocalVisible).unwrap();
                while let Err(error) = job(&mm, bo, 3, word, Ok(())) {
                    // The other one has sent it to SYSTEM meanwhile.
                    assert_eq!(error, Error::Invalid);
                    _ = validate(&mm, bo, SegmentId::PcieUnsnoop);
                }
            }
            for bo in bos {
                mm.release(bo).unwrap();
            }
        })
    });
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(host.now_ns(), 0);
    assert!(!waiter.is_finished(), "no time has passed for it");
    assert_eq!(mm.segment(hung), Ok(Some(SegmentId::LocalInvisible)));

    host.advance(TEN_SECONDS);
    assert_eq!(waiter.join().unwrap(), Err(Error::Busy));
    assert!(
        machine.sync.try_lock(&reservation, None),
        "and it has let go"
    );
    machine.sync.unlock(&reservation, None);
    done.store(true, SeqCst);
    gpu.join().unwrap();
    machine.gpu.hung.set([false; 2]);
    machine.work(usize::MAX);
    mm.release(hung).unwrap();
    mm.reap();
    assert_eq!(mm.len(), 0);
}
