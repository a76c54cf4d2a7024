//! Threads that want more than there is, of which any two buffers fit: no order of
//! steps makes a request end otherwise than well (D-1, D-2).

use super::machine::{Machine, Work};
use super::threads::{Shuttled, choose, every_order, with_gpu};
use super::{anywhere, create, ctx, info, touch, whole, with};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Context, Mm, Options};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::{Caller, Deadline, Usage};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Pages of the segments: two of the largest buffers, and in RAM what a stop takes beside them.
const SIZES: [u64; 4] = [6, 6, 9, 9];
const PAGES: u64 = 3;
const BOS: usize = 8;
const ROUNDS: usize = 10;
const TYPES: [SegmentId; 3] = [
    SegmentId::LocalVisible,
    SegmentId::LocalInvisible,
    SegmentId::PcieUnsnoop,
];

struct Scene {
    mm: Mm<Machine<Shuttled>>,
    bos: Vec<Id>,
}

impl Scene {
    fn new(options: Options) -> Self {
        let mm = Mm::new(Machine::shuttled(), SIZES, options).unwrap();
        let bos = (0..BOS).map(|_| create(&mm, &info(some_pages()), &[]).unwrap());
        let bos = bos.collect();
        Self { mm, bos }
    }

    /// A job that uses one or two of the buffers in the same memory type.
    fn job(&self) -> Result<(), Error> {
        let mm = &self.mm;
        let first = choose(BOS);
        let second = (first + choose(2)) % BOS;
        let ids = [self.bos[first], self.bos[second]];
        let locks = ids.map(|id| mm.reservation(id).unwrap());
        let mut caller = Caller::enter(&*mm.world().sync);
        let mut set = caller.transaction(Patience::Patient)?;
        let to = TYPES[choose(TYPES.len())];
        set.run(|set| {
            locks.iter().try_for_each(|it| set.lock(it, 1).map(drop))?;
            for id in ids {
                mm.validate(set, id, &[anywhere(to)], &mut ctx())?;
                mm.make_resident(set, id, &mut ctx())?;
            }
            locks.iter().try_for_each(|it| set.lock(it, 1).map(drop))
        })?;
        let at = whole(mm, ids[0])?[0];
        let work = Work::Fill(vec![at], 7);
        let fence = mm.world().submit_after(&locks[0], work, Ok(()))?;
        set.commit(&fence, |_| Usage::Write)
    }

    fn step(&self) -> Result<(), Error> {
        let mm = &self.mm;
        match choose(8) {
            0..=4 => self.job(),
            5 => {
                let to = TYPES[choose(TYPES.len())];
                let bo = create(mm, &info(some_pages()), &[anywhere(to)])?;
                mm.release(bo)
            }
            6 => match touch(mm, self.bos[choose(BOS)], 0, &mut ctx()) {
                // It is nowhere.
                Err(Error::Fault) => Ok(()),
                other => other.map(drop),
            },
            _ => {
                let bo = self.bos[choose(BOS)];
                match with(mm, bo, |set| mm.swap_out(set, bo, &mut ctx())) {
                    // It has no pages.
                    Err(Error::Busy) => Ok(()),
                    other => other.map(drop),
                }
            }
        }
    }

    fn work(&self) {
        for round in 0..ROUNDS {
            assert_eq!(self.step(), Ok(()), "round {round}");
        }
    }

    fn end(self) {
        let Self { mm, bos } = self;
        mm.world().work(usize::MAX);
        mm.reap();
        mm.check();
        for bo in bos {
            mm.release(bo).unwrap();
        }
        mm.reap();
        assert_eq!(mm.fini(), Ok(()));
    }
}

fn some_pages() -> u64 {
    1 + choose(3) as u64 % PAGES
}

fn contend(options: Options, ram_pages: usize) {
    every_order(move || {
        let scene = Arc::new(Scene::new(options));
        scene.mm.limit_ram(ram_pages);
        with_gpu(&scene.mm.world().gpu, || {
            let workers: Vec<_> = (0..2 + choose(3))
                .map(|_| {
                    let scene = Arc::clone(&scene);
                    shuttle::thread::spawn(move || scene.work())
                })
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
        });
        Arc::into_inner(scene).unwrap().end();
    });
}

#[test]
fn contention_never_becomes_out_of_memory_in_any_order_of_steps_d_1() {
    contend(Options::default(), usize::MAX);
}

/// Without the improvements, too: each is a switch, and not what makes it right.
#[test]
fn nor_does_it_where_victims_are_found_and_waited_for_one_by_one_d_2() {
    contend(Options::BASE, usize::MAX);
}

/// What a job's two buffers take, and one more that has to leave local memory for them.
const RAM_PAGES: usize = 9;

/// Pages are in somebody's hands, on their way, or held by who waits for others': they come.
#[test]
fn contention_for_pages_of_ram_never_becomes_out_of_memory_in_any_order_d_1() {
    contend(Options::default(), RAM_PAGES);
}

#[test]
fn nor_does_it_for_pages_where_victims_are_waited_for_one_by_one_d_2() {
    contend(Options::BASE, RAM_PAGES);
}

/// They are counted, and nobody has them who could give them up.
#[test]
fn pages_in_somebodys_hands_are_waited_for_in_any_order_d_1() {
    every_order(|| {
        let mm = Mm::new(Machine::shuttled(), SIZES, Options::default()).unwrap();
        mm.limit_ram(usize::try_from(PAGES).unwrap());
        let mm = Arc::new(mm);
        let workers = [(); 2].map(|()| {
            let mm = Arc::clone(&mm);
            let bo = create(&mm, &info(PAGES), &[anywhere(SegmentId::PcieUnsnoop)]).unwrap();
            shuttle::thread::spawn(move || {
                let made = with(&mm, bo, |set| mm.make_resident(set, bo, &mut ctx()));
                assert_eq!(made, Ok(()));
                mm.release(bo).unwrap();
            })
        });
        for worker in workers {
            worker.join().unwrap();
        }
        mm.check();
        assert_eq!(Arc::into_inner(mm).unwrap().fini(), Ok(()));
    });
}

/// Who needs pages and finds some may lose them to others, any number of times.
#[test]
fn who_loses_the_pages_that_it_found_looks_again_until_its_deadline_d_17() {
    let told = Arc::new(AtomicUsize::new(0));
    let busy = Arc::clone(&told);
    every_order(move || {
        let mm = Mm::new(Machine::shuttled(), SIZES, Options::default()).unwrap();
        let populate = |mm: &Mm<Machine<Shuttled>>, bo, mut context| {
            with(mm, bo, |set| mm.make_resident(set, bo, &mut context))
        };
        let bos: Vec<_> = (0..9)
            .map(|_| create(&mm, &info(1), &[anywhere(SegmentId::PcieUnsnoop)]).unwrap())
            .collect();
        let (givers, needy) = bos.split_at(6);
        for giver in givers {
            populate(&mm, *giver, ctx()).unwrap();
        }
        mm.limit_ram(givers.len());
        let mm = Arc::new(mm);
        let (other, others) = (Arc::clone(&mm), needy[1..].to_vec());
        let takes = shuttle::thread::spawn(move || {
            for bo in others {
                assert_eq!(populate(&other, bo, ctx()), Ok(()));
            }
        });
        match populate(
            &mm,
            needy[0],
            Context::until(Deadline(0), Patience::Patient),
        ) {
            Err(Error::Busy) => _ = busy.fetch_add(1, SeqCst),
            made => assert_eq!(made, Ok(()), "what it found is its own"),
        }
        takes.join().unwrap();
        mm.check();
        for bo in bos {
            mm.release(bo).unwrap();
        }
        assert_eq!(Arc::into_inner(mm).unwrap().fini(), Ok(()));
    });
    assert_ne!(told.load(SeqCst), 0, "in no order were they taken");
}

/// They may be reserved until the last moment of its life.
#[test]
fn a_buffer_that_goes_takes_no_pages_along_that_are_reserved_for_it_in_any_order_d_6() {
    every_order(|| {
        let mm = Mm::new(Machine::shuttled(), SIZES, Options::default()).unwrap();
        let mm = Arc::new(mm);
        let bo = create(&mm, &info(PAGES), &[anywhere(SegmentId::LocalVisible)]).unwrap();
        mm.world().work(usize::MAX);
        let other = Arc::clone(&mm);
        let goes = shuttle::thread::spawn(move || other.release(bo).unwrap());
        mm.reserve_ram(&mut ctx()).unwrap();
        goes.join().unwrap();
        mm.reap();
        mm.check();
        assert_eq!(Arc::into_inner(mm).unwrap().fini(), Ok(()));
    });
}
