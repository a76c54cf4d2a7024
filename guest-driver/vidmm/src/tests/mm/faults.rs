//! Every operation, with the n-th of each thing that can fail refused, for all n until
//! it succeeds: the invariants hold, contents are there, nothing is left over, and the
//! caller is told what is documented.

use super::machine::{Fate, Site};
use super::random::Test;
use super::{SIZES, anywhere, at_once, create, create_in, info, job, touch, validate_in, with};
use crate::Error;
use crate::evict::{Context, Info, Options};
use crate::placement::{Flags, Place, SegmentId};
use crate::platform::{Caching, Patience};
use crate::sync::{Caller, Primitives};
use presil_allocator::{Refuse, refusing};

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const INVISIBLE: SegmentId = SegmentId::LocalInvisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;
const SYSTEM: SegmentId = SegmentId::System;

/// The buffers of every scene: local memory and the GART are full.
const BOS: [(u64, SegmentId); 7] = [
    (8, SYSTEM),
    (4, SYSTEM),
    (16, VISIBLE),
    (16, VISIBLE),
    (32, INVISIBLE),
    (24, PCIE),
    (24, PCIE),
];
const PARKED: usize = 0;
const SWAPPED: usize = 1;
const FIRST: usize = 2;
const SECOND: usize = 3;
const BOUND: usize = 5;

/// Contents everywhere. `busy`: the GPU still works for all of them.
fn scene(busy: bool) -> Test {
    let mut test = Test::new(SIZES, Options::default(), 64);
    for (at, (pages, to)) in BOS.into_iter().enumerate() {
        let place = if to == SYSTEM { PCIE } else { to };
        test.create_at(&info(pages), &[anywhere(place)]);
        let id = test.bos[at].id;
        test.gpu_writes(at, id, 3, 7, &[anywhere(place)], Ok(()));
        if to == SYSTEM {
            super::validate(&test.mm, id, to).unwrap();
        }
    }
    let swapped = test.bos[SWAPPED].id;
    let mut context = super::ctx();
    with(&test.mm, swapped, |set| {
        test.mm.swap_out(set, swapped, &mut context)
    })
    .unwrap();
    test.mm.world().work(usize::MAX);
    test.mm.reap();
    if busy {
        for (at, (_, to)) in BOS.into_iter().enumerate().skip(FIRST) {
            let (id, to) = (test.bos[at].id, anywhere(to));
            test.gpu_writes(at, id, 2, 9, &[to], Ok(()));
        }
    }
    test.judge();
    let homes: Vec<_> = test.bos.iter().map(|bo| test.mm.segment(bo.id)).collect();
    assert_eq!(homes, BOS.map(|(_, to)| Ok(Some(to))));
    test
}

fn soon(test: &Test) -> Context {
    super::soon(&test.mm)
}

type Act = fn(&Test) -> Result<(), Error>;

/// What is done, and can be done again.
const ACTS: [(&str, Act); 19] = [
    ("create in local memory", |test| {
        let bo = create_in(&test.mm, &info(16), &[anywhere(VISIBLE)], &mut soon(test))?;
        test.mm.release(bo)
    }),
    ("create in the GART", |test| {
        let bo = create_in(&test.mm, &info(40), &[anywhere(PCIE)], &mut soon(test))?;
        test.mm.release(bo)
    }),
    ("create one run of cached pages", |test| {
        let info = Info {
            caching: Caching::Cached,
            ..info(40)
        };
        let place = Place::anywhere(SegmentId::PcieSnoop, Flags::CONTIGUOUS);
        let bo = create_in(&test.mm, &info, &[place], &mut soon(test))?;
        let touched = touch(&test.mm, bo, 39, &mut soon(test)).map(drop);
        test.mm.release(bo)?;
        touched
    }),
    ("to SYSTEM over a stop", |test| to(test, FIRST, SYSTEM)),
    ("to the GART", |test| to(test, FIRST, PCIE)),
    ("to local memory over a stop", |test| {
        to(test, PARKED, VISIBLE)
    }),
    ("from the store to local memory", |test| {
        to(test, SWAPPED, VISIBLE)
    }),
    ("a fault that brings contents back", |test| {
        touch(&test.mm, test.bos[SWAPPED].id, 1, &mut soon(test)).map(drop)
    }),
    ("contents back for the GPU", |test| {
        to(test, SWAPPED, PCIE)?;
        let id = test.bos[SWAPPED].id;
        with(&test.mm, id, |set| {
            test.mm.make_resident(set, id, &mut soon(test))
        })
    }),
    ("swap", |test| {
        let id = test.bos[BOUND].id;
        match with(&test.mm, id, |set| {
            test.mm.swap_out(set, id, &mut soon(test))
        }) {
            // It is out already.
            Err(Error::Busy) if test.mm.segment(id)? == Some(SYSTEM) && test.mm.is_swapped(id) => {
                Ok(())
            }
            other => other.map(drop),
        }
    }),
    ("empty local memory", |test| {
        let mut caller = Caller::enter(&*test.mm.world().sync);
        let mut context = soon(test);
        test.mm.evict_all(&mut caller, VISIBLE, &mut context)
    }),
    ("a job", |test| {
        let id = test.bos[BOUND].id;
        to(test, BOUND, PCIE)?;
        // What it writes is there already.
        let word = test.bos[BOUND].words[3].unwrap();
        job(&test.mm, id, 3, word, Ok(())).map(drop)
    }),
    ("the end of contents that the GPU works on", |test| {
        let mm = &test.mm;
        let bo = create_in(mm, &info(8), &[anywhere(VISIBLE)], &mut soon(test))?;
        let purged = job(mm, bo, 3, 7, Ok(())).and_then(|_| {
            with(mm, bo, |set| mm.validate(set, bo, &[], &mut soon(test)))?;
            validate_in(mm, bo, VISIBLE, &mut soon(test))
        });
        mm.release(bo)?;
        purged
    }),
    ("a mapping of all of it", |test| {
        let mut caller = Caller::enter(&*test.mm.world().sync);
        let id = test.bos[SWAPPED].id;
        let mapped = test
            .mm
            .map_whole(&mut caller, id, &mut soon(test), |_| true);
        mapped.map(drop)
    }),
    ("swap by a limit of pages", |test| {
        let mm = &test.mm;
        let place = [anywhere(PCIE)];
        let bo = create_in(mm, &info(8), &place, &mut soon(test))?;
        // Who is parked has to give his up.
        mm.limit_ram(mm.held_pages() + 4);
        let made = with(mm, bo, |set| mm.make_resident(set, bo, &mut soon(test)));
        mm.limit_ram(usize::MAX);
        mm.release(bo)?;
        made
    }),
    ("swap for the system", |test| {
        test.mm.shrink(40, &mut soon(test)).map(drop)
    }),
    ("swap of everything", |test| {
        let mut caller = Caller::enter(&*test.mm.world().sync);
        let mut context = soon(test);
        test.mm.hibernate(&mut caller, &mut context).map(drop)
    }),
    ("a mapping for the kernel", |test| {
        let id = test.bos[SWAPPED].id;
        with(&test.mm, id, |set| {
            test.mm
                .map_kernel(set, id, 0..4, &mut soon(test), |_| Ok(()))
        })
    }),
    ("the end of one that shares a reservation", |test| {
        let mm = &test.mm;
        let shared = mm.reservation(test.bos[FIRST].id)?;
        let mut caller = Caller::enter(&*mm.world().sync);
        let mut set = caller.transaction(Patience::Patient)?;
        let place = [anywhere(SegmentId::PcieSnoop)];
        let cached = Info {
            caching: Caching::Cached,
            ..info(4)
        };
        let bo = set.run(|set| {
            set.lock(&shared, 1)?;
            mm.create(set, &cached, Some(&shared), &place, &mut soon(test))
        })?;
        drop(set);
        mm.release(bo)
    }),
];

fn to(test: &Test, at: usize, to: SegmentId) -> Result<(), Error> {
    validate_in(&test.mm, test.bos[at].id, to, &mut soon(test))
}

/// What must hold after an operation, whatever came of it.
fn judge(test: &mut Test, what: &str) {
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        test.judge();
        test.check();
    }));
    if let Err(panic) = judged {
        eprintln!("after {what}");
        std::panic::resume_unwind(panic);
    }
}

/// What the caller may be told when that is refused.
fn told(site: Option<Site>, name: &str) -> &'static [Error] {
    match site {
        // To swap is to help who is short of memory, and no reason to say so.
        None if name.starts_with("swap") => &[Error::NoMemory, Error::Busy],
        None | Some(Site::Pages | Site::Caching) => &[Error::NoMemory],
        Some(Site::Map | Site::Bind) => &[Error::Fault],
        Some(Site::Job | Site::Put) => &[Error::Busy],
        Some(Site::Get) => &[Error::Io],
    }
}

/// One operation with one thing refused; how many were.
fn refused(
    act: Act,
    busy: bool,
    refuse: impl FnOnce(&Test, Act) -> (Result<(), Error>, u64),
    told: &[Error],
    what: &str,
) -> u64 {
    let mut test = scene(busy);
    let (result, refused) = refuse(&test, act);
    judge(&mut test, what);
    match result {
        Ok(()) => {}
        Err(error) => assert!(refused > 0 && told.contains(&error), "{what}: {error}"),
    }
    test.mm.world().mend();
    assert_eq!(act(&test), Ok(()), "{what}, and again");
    judge(&mut test, what);
    test.end();
    refused
}

#[test]
fn every_bookkeeping_allocation_may_be_refused_r_12_5() {
    let mut all = 0;
    for (name, act) in ACTS {
        for busy in [false, true] {
            for which in [Refuse::Only, Refuse::From] {
                for n in 1.. {
                    let what = format!("{name}, busy {busy}, {:?}", which(n));
                    let refuse = |test: &Test, act: Act| refusing(which(n), || act(test));
                    if refused(act, busy, refuse, told(None, name), &what) == 0 {
                        break;
                    }
                    all += 1;
                }
            }
        }
    }
    assert!(all > 300, "{all} refusals");
}

#[test]
fn every_page_mapping_job_and_place_in_the_store_may_be_refused() {
    let mut all = [0; Site::ALL.len()];
    for (name, act) in ACTS {
        for (site, all) in Site::ALL.into_iter().zip(&mut all) {
            for busy in [false, true] {
                for n in 0.. {
                    let what = format!("{name}, busy {busy}, {site:?} after {n}");
                    let refuse = |test: &Test, act: Act| {
                        let countdown = site.of(test.mm.world());
                        countdown.set(n);
                        let result = act(test);
                        (result, u64::from(countdown.refused()))
                    };
                    if refused(act, busy, refuse, told(Some(site), name), &what) == 0 {
                        break;
                    }
                    *all += 1;
                }
            }
        }
    }
    assert!(all.iter().all(|refusals| *refusals > 0), "{all:?}");
}

/// The GPU is late or lost after the n-th job that an operation waits for.
#[test]
fn every_fence_may_be_late_or_lost() {
    let mut all = 0;
    for (name, act) in ACTS {
        for fate in [Fate::Late, Fate::Lost] {
            for n in 0.. {
                let what = format!("{name}, {fate:?} after {n}");
                let mut test = scene(true);
                let gpu = &test.mm.world().gpu;
                gpu.fate.set(Some((n, fate)));
                let waited = gpu.ended.get();
                let result = act(&test);
                let jobs = gpu.ended.get() - waited;
                judge(&mut test, &what);
                match (fate, result) {
                    (_, Ok(()))
                    | (Fate::Late, Err(Error::Busy))
                    | (Fate::Lost, Err(Error::Lost)) => {}
                    (_, Err(error)) => panic!("{what}: {error}"),
                }
                test.mm.world().mend();
                let again = act(&test);
                assert!(
                    again == Ok(()) || (fate == Fate::Lost && again == Err(Error::Lost)),
                    "{what}, and again: {again:?}"
                );
                judge(&mut test, &what);
                test.end();
                if jobs < u64::from(n) {
                    break;
                }
                all += 1;
            }
        }
    }
    assert!(all > 20, "{all} fences");
}

/// One victim is held by somebody, then each one: it is skipped, or the caller is told
/// that it would have to wait.
#[test]
fn a_victim_that_somebody_holds_is_skipped_or_the_caller_is_told_busy_r_10_8() {
    for held in [vec![FIRST], vec![SECOND], vec![FIRST, SECOND]] {
        let mut test = scene(false);
        let sync = &test.mm.world().sync;
        let locks: Vec<_> = held
            .iter()
            .map(|at| test.mm.reservation(test.bos[*at].id).unwrap())
            .collect();
        assert!(locks.iter().all(|lock| sync.try_lock(lock, None)));
        let mut context = if held.len() == 1 {
            soon(&test)
        } else {
            at_once()
        };
        let created = create_in(&test.mm, &info(16), &[anywhere(VISIBLE)], &mut context);
        for lock in &locks {
            sync.unlock(lock, None);
        }
        match created {
            Ok(bo) => {
                assert_eq!(held.len(), 1);
                let stays = test.mm.segment(test.bos[held[0]].id);
                assert_eq!(stays, Ok(Some(VISIBLE)));
                test.mm.release(bo).unwrap();
            }
            Err(error) => assert_eq!((error, held.len()), (Error::Busy, 2)),
        }
        judge(&mut test, &format!("{held:?}"));
        create(&test.mm, &info(16), &[anywhere(VISIBLE)])
            .and_then(|bo| test.mm.release(bo))
            .unwrap();
        test.end();
    }
}
