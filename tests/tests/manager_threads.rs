//! The memory manager on the model, used by several threads beside a GPU that works on
//! its own. What is waited for is counted, or said by fences: nothing here depends on how
//! fast the threads are.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::GpuVa;
use presil_device::{Chip, Config, OnFault};
use presil_tests::Frozen;
use presil_tests::crew::{Crew, Fence};
use presil_tests::manager::Managed;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use vidmm::sync::Caller;
use vidmm::vm::SpaceId;
use vidmm::{Blit, BoId, Error, Host, Options, SegmentId, TablePages};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const PAGES: u64 = 16;
const TEN_SECONDS: u64 = 10_000_000_000;

fn crew(on_fault: OnFault) -> Crew {
    with_tables(on_fault, TablePages { all: 128, each: 64 })
}

fn with_tables(on_fault: OnFault, tables: TablePages) -> Crew {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 32 * MIB, true).unwrap();
    config.vram_seed = Some(11);
    config.mmu.on_fault = on_fault;
    let options = Options {
        snoop_bytes: 8 * MIB,
        unsnoop_bytes: 8 * MIB,
        ..Options::default()
    };
    Crew::new(&config, options, tables).unwrap()
}

/// A process with a buffer at addresses that no other has mapped.
#[derive(Clone, Copy)]
struct Worker {
    number: u32,
    space: SpaceId,
    at: GpuVa,
    bo: BoId,
}

impl Worker {
    fn new(crew: &Crew, number: u32) -> Self {
        let world = crew.mm.world();
        let space = world.start_process(&crew.mm).unwrap();
        let at = Self::address(crew, number);
        let bo = crew.create(PAGES, SegmentId::LocalVisible).unwrap();
        world
            .map(&crew.mm, space, at, PAGES * PAGE, (bo, 0), &Managed::ctx())
            .unwrap();
        Self {
            number,
            space,
            at,
            bo,
        }
    }

    fn address(crew: &Crew, number: u32) -> GpuVa {
        let zone = crew.mm.world().private_zone();
        zone.add(u64::from(number) * 8 * MIB)
    }

    /// What it writes: nobody else does.
    fn pattern(&self, round: u32) -> u32 {
        (self.number + 1) << 16 | round
    }

    fn fill(&self, crew: &Crew, round: u32) -> Result<Fence, Error> {
        let (at, bytes, pattern) = (self.at, PAGES * PAGE, self.pattern(round));
        let fill = [Blit::Fill { at, bytes, pattern }];
        crew.job(self.space, &fill, &mut Managed::ctx())
    }

    /// Copies to its own buffer what another one has.
    fn steal(&self, crew: &Crew, from: u32) -> Result<Fence, Error> {
        let (to, from, bytes) = (self.at, Self::address(crew, from), PAGE);
        let steal = [Blit::Copy { to, from, bytes }];
        crew.job(self.space, &steal, &mut Managed::ctx())
    }

    fn assert_all(&self, crew: &Crew, round: u32) {
        let words = crew.words(self.bo).unwrap();
        let expected = self.pattern(round);
        assert!(words.iter().all(|word| *word == expected), "{words:x?}");
    }

    /// Jobs, moves, faults, and attempts at what others have.
    fn work(&self, crew: &Crew, rounds: u32, others: u32) {
        let homes = [
            SegmentId::PcieUnsnoop,
            SegmentId::LocalVisible,
            SegmentId::System,
        ];
        for round in 0..rounds {
            let n = round + self.number;
            let fence = self.fill(crew, round).unwrap();
            if n.is_multiple_of(3) {
                crew.place(self.bo, homes[n as usize / 3 % homes.len()])
                    .unwrap();
            }
            assert_eq!(crew.wait(&fence), Ok(()));
            self.assert_all(crew, round);
            if n.is_multiple_of(4) {
                let other = (self.number + 1 + round % (others - 1)) % others;
                let stolen = self.steal(crew, other).unwrap();
                assert_eq!(crew.wait(&stolen), Err(Error::Io));
                let words = crew.words(self.bo).unwrap();
                let loot = |word: &u32| word >> 16 != self.number + 1 && *word != 0;
                assert!(!words.iter().any(loot), "of {other}: {words:x?}");
            }
        }
    }

    /// It goes, with its buffer.
    fn end(self, crew: &Crew) {
        let world = crew.mm.world();
        let mut caller = Caller::enter(world.host().sync());
        let ended = world
            .spaces()
            .destroy(&crew.mm, &mut caller, self.space, &Managed::ctx());
        assert_eq!(ended, Ok(()));
        crew.mm.release(self.bo).unwrap();
    }
}

/// More processes than process ids, on six threads.
#[test]
fn processes_on_threads_have_their_contents_and_nobody_elses() {
    const THREADS: u32 = 6;
    const EACH: u32 = 3;
    for on_fault in [OnFault::Report, OnFault::Halt] {
        let crew = crew(on_fault);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let crew = &crew;
                scope.spawn(move || {
                    let numbers = thread * EACH..(thread + 1) * EACH;
                    let workers: Vec<_> = numbers.map(|n| Worker::new(crew, n)).collect();
                    for _ in 0..2 {
                        for worker in &workers {
                            worker.work(crew, 6, THREADS * EACH);
                        }
                    }
                    for worker in workers {
                        worker.end(crew);
                    }
                });
            }
        });
        assert_eq!(crew.mm.world().last_hang(), None);
        let machine = crew.end().unwrap();
        assert_eq!(machine.ram().violations(), [""; 0]);
        assert_eq!(machine.ram().owned(), 0);
    }
}

/// One process's job hangs again and again, and is told so; the others' jobs are all done.
#[test]
fn threads_go_on_while_a_job_of_one_hangs_and_is_recovered_from() {
    const HANGS: u64 = 3;
    let crew = crew(OnFault::Retry);
    crew.machine.hang_at_faults();
    thread::scope(|scope| {
        let crew = &crew;
        for n in 0..3 {
            scope.spawn(move || {
                let worker = Worker::new(crew, n);
                for round in 0..40 {
                    let fence = worker.fill(crew, round).unwrap();
                    if round % 4 == n {
                        let there = [SegmentId::PcieUnsnoop, SegmentId::LocalVisible];
                        crew.place(worker.bo, there[round as usize / 4 % 2])
                            .unwrap();
                    }
                    assert_eq!(crew.wait(&fence), Ok(()), "round {round}");
                    worker.assert_all(crew, round);
                }
                worker.end(crew);
            });
        }
        scope.spawn(move || {
            let bad = Worker::new(crew, 3);
            for n in 1..=HANGS {
                assert_eq!(crew.wait(&bad.fill(crew, 0).unwrap()), Ok(()));
                let stray = bad.steal(crew, 0).unwrap();
                let behind = bad.fill(crew, 1).unwrap();
                assert_eq!(crew.wait(&stray), Err(Error::TimedOut));
                assert_eq!(crew.wait(&behind), Err(Error::Canceled));
                bad.assert_all(crew, 0);
                let hang = crew.mm.world().last_hang().unwrap();
                assert_eq!((hang.number, hang.space), (n, Some(bad.space)));
            }
            bad.end(crew);
        });
    });
    let machine = crew.end().unwrap();
    assert_eq!(machine.ram().violations(), [""; 0]);
    assert_eq!(machine.ram().owned(), 0);
}

/// One thread has a buffer in hand and waits ten seconds for a job that never ends. Time
/// stands still until two others have made, bound, mapped, written, read and thrown away
/// two hundred buffers each; only then do the ten seconds pass. (There is one ring: jobs
/// that they queue are done behind.)
#[test]
fn two_threads_work_on_their_buffers_while_a_third_waits_for_a_job_that_hangs() {
    const ROUNDS: u32 = 200;
    let crew = crew(OnFault::default());
    let [hung, one, other] = [0, 1, 2].map(|n| Worker::new(&crew, n));
    // All are cleared: the job is the first that finds the GPU frozen.
    for worker in [hung, one, other] {
        crew.words(worker.bo).unwrap();
    }
    crew.hold_time(true);
    crew.machine.freeze(Frozen::UntilReset);
    let fence = hung.fill(&crew, 1).unwrap();
    let began = crew.now_ns();
    let sync = crew.mm.world().host().sync();
    let reservation = crew.mm.reservation(hung.bo).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let moved = crew.place(hung.bo, SegmentId::System);
            (moved, crew.now_ns())
        });
        // It has it in hand.
        while let Ok(free) = Caller::enter(sync).try_lock(&reservation) {
            drop(free);
            thread::yield_now();
        }
        let workers = [one, other].map(|worker| {
            let crew = &crew;
            scope.spawn(move || {
                let job = worker.fill(crew, 9).unwrap();
                for round in 0..ROUNDS {
                    let bo = crew.create(4, SegmentId::PcieUnsnoop).unwrap();
                    let at = worker.at.add(4 * MIB);
                    let world = crew.mm.world();
                    let reservation = crew.mm.reservation(bo).unwrap();
                    crew.with(|set| {
                        set.lock(&reservation, 1)?;
                        crew.mm.make_resident(set, bo, &mut Managed::ctx())
                    })
                    .unwrap();
                    world
                        .map(
                            &crew.mm,
                            worker.space,
                            at,
                            4 * PAGE,
                            (bo, 0),
                            &Managed::ctx(),
                        )
                        .unwrap();
                    crew.store(bo, 2, worker.pattern(round)).unwrap();
                    let words = crew.words(bo).unwrap();
                    assert_eq!(words, [0, 0, worker.pattern(round), 0]);
                    crew.mm.release(bo).unwrap();
                }
                job
            })
        });
        let jobs = workers.map(|worker| worker.join().unwrap());
        assert_eq!(crew.now_ns(), began, "no time has passed");
        assert!(!waiter.is_finished());
        crew.hold_time(false);
        let (moved, when) = waiter.join().unwrap();
        assert_eq!(moved, Ok(()));
        assert!(when - began >= TEN_SECONDS, "{when}");
        assert_eq!(crew.wait(&fence), Err(Error::TimedOut));
        for (job, worker) in jobs.iter().zip([one, other]) {
            assert_eq!(crew.wait(job), Ok(()));
            worker.assert_all(&crew, 9);
        }
    });
    assert_eq!(crew.machine.ram().violations(), [""; 0]);
}

/// Fifteen processes have all the process ids, and go on until all of forty have had a job
/// in line, of which the others come one after the other. Whoever waits has its turn,
/// however the threads run; in which order, the tests of `Slots` say.
#[test]
fn of_forty_busy_processes_each_has_its_turn() {
    const IDS: usize = 15;
    const ALL: u32 = 40;
    let crew = crew(OnFault::default());
    let workers: Vec<_> = (0..ALL).map(|n| Worker::new(&crew, n)).collect();
    for worker in &workers {
        crew.words(worker.bo).unwrap();
    }
    crew.hold_time(true);
    crew.machine.freeze(Frozen::UntilReset);
    let (owners, others) = workers.split_at(IDS);
    for owner in owners {
        owner.fill(&crew, 0).unwrap();
    }
    let queued = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (crew, queued) = (&crew, &queued);
        let spawn = |worker: Worker, enough: fn(u32, usize) -> bool| {
            scope.spawn(move || {
                let mut round = 1;
                worker.fill(crew, round).unwrap();
                queued.fetch_add(1, SeqCst);
                while !enough(round, queued.load(SeqCst)) {
                    round += 1;
                    worker.fill(crew, round).unwrap();
                }
                let end = worker.fill(crew, 0).unwrap();
                assert_eq!(crew.wait(&end), Ok(()));
                worker.assert_all(crew, 0);
            });
        };
        let mut waiting = 0;
        let mut comes = || {
            waiting += 1;
            while crew.mm.world().waiting_for_ids() < waiting {
                if queued.load(SeqCst) > 0 {
                    // Nobody is left behind that waits.
                    crew.machine.thaw();
                    crew.hold_time(false);
                    panic!("it did not wait");
                }
                thread::yield_now();
            }
        };
        for worker in others {
            spawn(*worker, |round, _| round == 7);
            comes();
        }
        // Behind them the owners again, who had a process id.
        for worker in owners {
            spawn(*worker, |_, queued| queued == ALL as usize);
            comes();
        }
        crew.machine.thaw();
        crew.hold_time(false);
    });
    assert_eq!(queued.into_inner(), workers.len());
    assert_eq!(crew.machine.ram().violations(), [""; 0]);
}

/// There are tables for one process at a time, and each of four gives its own back again and
/// again: nobody is told that there is no memory, since others' tables come.
#[test]
fn tables_that_change_hands_between_threads_are_never_out_of_memory_r_19_13() {
    let crew = with_tables(OnFault::default(), TablePages { all: 5, each: 5 });
    thread::scope(|scope| {
        for n in 0..4 {
            let crew = &crew;
            scope.spawn(move || {
                let worker = Worker::new(crew, n);
                let (world, mm) = (crew.mm.world(), &crew.mm);
                let sync = world.host().sync();
                for round in 0..150 {
                    for at in 1..4 {
                        let there = worker.at.add(at * 4 * MIB);
                        let object = (worker.bo, at * PAGE);
                        world
                            .map(mm, worker.space, there, PAGE, object, &Managed::ctx())
                            .unwrap();
                    }
                    let fence = worker.fill(crew, round).unwrap();
                    assert_eq!(crew.wait(&fence), Ok(()));
                    let (at, bytes) = (worker.at.add(4 * MIB), 12 * MIB);
                    let mut caller = Caller::enter(sync);
                    world
                        .spaces()
                        .unmap(mm, &mut caller, worker.space, at, bytes, &Managed::ctx())
                        .unwrap();
                }
                worker.assert_all(crew, 149);
                worker.end(crew);
            });
        }
    });
    assert_eq!(crew.end().unwrap().ram().violations(), [""; 0]);
}
