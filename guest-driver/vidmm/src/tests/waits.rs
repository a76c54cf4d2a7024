//! Waiting for those who are in the way: for whom, how long, and not at all on a GPU
//! that is lost (D-1, D-17).

use super::mm::{Machine, SIZES, Work, anywhere, create, ctx, info, manager_with, with, word};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Budget, Context, Info, Mm, Options, World};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::{Caller, Deadline, Primitives, Usage};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

const PCIE: SegmentId = SegmentId::PcieUnsnoop;

/// Two buffers that fill the PCIe type, in the order in which they were used.
fn full(options: Options) -> (Mm<Machine>, [Id; 2]) {
    let mm = manager_with(SIZES, options);
    let bos = [(); 2].map(|()| {
        let bo = create(&mm, &info(24), &[anywhere(PCIE)]).unwrap();
        with(&mm, bo, |set| mm.make_resident(set, bo, &mut ctx())).unwrap();
        bo
    });
    (mm, bos)
}

/// The GPU uses a buffer from now on.
fn job(mm: &Mm<Machine>, bo: Id) {
    let reservation = mm.reservation(bo).unwrap();
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    let mut set = caller.transaction(Patience::Patient).unwrap();
    set.lock_all([&reservation], 1).unwrap();
    let fence = mm.world().submit(Work::Fill(vec![], 0)).unwrap();
    set.commit(&fence, |_| Usage::Write).unwrap();
}

fn another(mm: &Mm<Machine>, context: &mut Context) -> Result<Id, Error> {
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    let mut set = caller.transaction(Patience::Patient)?;
    set.run(|set| mm.create(set, &info(24), None, &[anywhere(PCIE)], context))
}

fn ended(mm: &Mm<Machine>) -> u64 {
    mm.world().gpu.ended.get()
}

#[test]
fn who_is_busy_is_passed_by_while_somebody_else_can_leave_d_1() {
    for (wait_last, gone, waited_for) in [(true, 1, 0), (false, 0, 1)] {
        let options = Options {
            wait_last,
            ..Options::default()
        };
        let (mm, bos) = full(options);
        job(&mm, bos[0]);
        another(&mm, &mut ctx()).unwrap();
        let left = bos.map(|bo| mm.segment(bo).unwrap() != Some(PCIE));
        assert_eq!(left, [gone == 0, gone == 1], "{wait_last}");
        assert_eq!(ended(&mm), waited_for);
    }
}

#[test]
fn where_all_are_busy_the_earliest_fence_is_waited_for_d_1() {
    let (mm, bos) = full(Options::default());
    // Used first, busy longest.
    job(&mm, bos[1]);
    job(&mm, bos[0]);
    another(&mm, &mut ctx()).unwrap();
    assert_eq!(mm.segment(bos[1]), Ok(Some(SegmentId::System)));
    assert_eq!((mm.segment(bos[0]), ended(&mm)), (Ok(Some(PCIE)), 1));
}

#[test]
fn a_fence_that_never_ends_keeps_nobody_from_taking_who_is_idle_by_then_d_1() {
    let (mm, bos) = full(Options::default());
    let machine = mm.world();
    machine.gpu.hung.set([true, false]);
    for (ring, bo) in bos.into_iter().enumerate() {
        machine.ring.set(Some(ring));
        job(&mm, bo);
    }
    another(&mm, &mut ctx()).unwrap();
    assert_eq!(mm.segment(bos[1]), Ok(Some(SegmentId::System)));
    assert_eq!((mm.segment(bos[0]), ended(&mm)), (Ok(Some(PCIE)), 1));
    assert!(machine.sync.host().now_ns() < 3_000_000, "it looked soon");
    machine.gpu.hung.set([false; 2]);
}

#[test]
fn a_line_that_is_full_is_waited_for_d_1() {
    for wait_last in [true, false] {
        let options = Options {
            wait_last,
            ..Options::default()
        };
        let mm = Rc::new(manager_with(SIZES, options));
        let machine = mm.world();
        machine.jobs_until_failure.set(0);
        let other = Rc::downgrade(&mm);
        machine.sync.host().on_poll(move |now| {
            if now >= 5_000_000
                && let Some(mm) = other.upgrade()
            {
                mm.world().mend();
            }
            Some(now + 1000)
        });
        let places = [anywhere(SegmentId::LocalVisible)];
        // It has to be cleared, which is a job.
        let made = create(&mm, &info(8), &places).map(drop);
        assert_eq!(made, Ok(()), "{wait_last}");
        assert!((5_000_000..8_000_000).contains(&machine.sync.host().now_ns()));
        machine.jobs_until_failure.set(0);
        let mut until = Context::until(machine.after(10_000_000), Patience::Patient);
        machine.sync.host().on_poll(|now| Some(now + 1000));
        let mut caller = Caller::enter(machine.sync.as_ref());
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let vain = set.run(|set| mm.create(set, &info(8), None, &places, &mut until));
        assert_eq!(vain, Err(Error::Busy));
        assert_eq!(machine.sync.host().now_ns(), until.deadline.0);
    }
}

#[test]
fn busy_is_not_out_of_memory_d_1() {
    let (mm, bos) = full(Options::default());
    for bo in bos {
        job(&mm, bo);
    }
    let no_wait = || Context {
        no_wait: true,
        ..ctx()
    };
    assert_eq!(another(&mm, &mut no_wait()), Err(Error::Busy));
    for bo in bos {
        with(&mm, bo, |set| mm.pin(set, bo)).unwrap();
    }
    assert_eq!(another(&mm, &mut no_wait()), Err(Error::NoMemory));
    assert_eq!(another(&mm, &mut ctx()), Err(Error::NoMemory));
    assert_eq!(ended(&mm), 0, "nothing of that was waited for");
}

#[test]
fn an_operation_has_one_deadline_whatever_the_number_of_its_waits_d_17() {
    for wait_last in [true, false] {
        let options = Options {
            wait_last,
            ..Options::default()
        };
        let (mm, bos) = full(options);
        for bo in bos {
            job(&mm, bo);
        }
        let host = mm.world().sync.host().clone();
        host.on_poll(|now| Some(now + 1000));
        let deadline = host.now_ns() + 5_000_500;
        let mut context = Context::until(Deadline(deadline), Patience::Patient);
        assert_eq!(another(&mm, &mut context), Err(Error::Busy));
        assert_eq!(host.now_ns(), deadline);
        let stay = bos.map(|bo| mm.segment(bo));
        assert_eq!(stay, [Ok(Some(PCIE)); 2]);
    }
}

#[test]
fn a_gpu_that_is_lost_ends_all_waits_and_every_call_says_so_d_17() {
    let (mm, bos) = full(Options::default());
    let local = create(&mm, &info(8), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    for bo in bos {
        job(&mm, bo);
    }
    let machine = mm.world();
    let host = machine.sync.host().clone();
    let gpu = Arc::clone(&machine.gpu);
    host.on_poll(move |now| {
        if now > 2_000_000 {
            gpu.go();
        }
        Some(now + 1000)
    });
    let mut context = Context::until(Deadline(u64::MAX - 1), Patience::Patient);
    assert_eq!(another(&mm, &mut context), Err(Error::Lost));
    let since = host.now_ns();
    assert!(since < 3_000_000, "not the deadline's");
    let reservation = mm.reservation(local).unwrap();
    let idle = machine.sync.is_idle(&reservation, Usage::Bookkeep);
    assert!(idle, "all fences have ended");
    let places = [anywhere(SegmentId::LocalInvisible)];
    let calls = [
        with(&mm, local, |set| {
            mm.validate(set, local, &places, &mut ctx())
        }),
        with(&mm, local, |set| mm.make_resident(set, local, &mut ctx())),
        with(&mm, bos[0], |set| {
            mm.swap_out(set, bos[0], &mut ctx()).map(drop)
        }),
        word(&mm, local, 0).map(drop),
        mm.evict_all(
            &mut Caller::enter(&*machine.sync),
            SegmentId::LocalVisible,
            &mut ctx(),
        ),
    ];
    assert_eq!(calls, [Err(Error::Lost); 5]);
    assert_eq!(host.now_ns(), since, "none of them waited");
    for bo in [local, bos[0], bos[1]] {
        mm.release(bo).unwrap();
    }
    assert_eq!(mm.fini(), Ok(()), "what is given back is given back");
}

/// The switches that decide how victims are found.
fn both() -> [Options; 2] {
    [true, false].map(|plan| Options {
        plan,
        ..Options::default()
    })
}

#[test]
fn who_is_on_his_way_is_in_the_way_but_will_be_there_d_1() {
    for options in both() {
        let mm = Rc::new(manager_with(SIZES, options));
        let told = Rc::new(Cell::new(None));
        let other = (Rc::downgrade(&mm), Rc::clone(&told));
        let meanwhile = move || {
            let mm = other.0.upgrade().unwrap();
            let mut caller = Caller::enter(mm.world().sync.as_ref());
            let mut set = caller.transaction(Patience::Patient).unwrap();
            let mut context = Context {
                no_wait: true,
                ..ctx()
            };
            let places = [anywhere(SegmentId::LocalVisible)];
            let made = set.run(|set| mm.create(set, &info(8), None, &places, &mut context));
            other.1.set(Some(made.map(drop)));
        };
        // All is booked for a buffer that is on no list yet.
        *mm.world().meanwhile.borrow_mut() = Some(Box::new(meanwhile));
        create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
        assert_eq!(told.take(), Some(Err(Error::Busy)), "{options:?}");
    }
}

#[test]
fn who_is_locked_by_others_is_waited_for_and_leaves_then_d_1() {
    for options in both() {
        let mm = manager_with(SIZES, options);
        let places = [anywhere(SegmentId::LocalVisible)];
        let old = create(&mm, &info(32), &places).unwrap();
        mm.world().work(usize::MAX);
        let sync = Arc::clone(&mm.world().sync);
        let reservation = mm.reservation(old).unwrap();
        assert!(sync.try_lock(&reservation, None));
        let holder = (Arc::clone(&sync), reservation, Cell::new(true));
        sync.host().on_poll(move |now| {
            if now >= 5000 && holder.2.take() {
                holder.0.unlock(&holder.1, None);
            }
            Some(now + 1000)
        });
        let new = create(&mm, &info(32), &places).unwrap();
        assert_eq!(mm.segment(new), Ok(Some(SegmentId::LocalVisible)));
        assert_eq!(mm.segment(old), Ok(Some(SegmentId::LocalInvisible)));
        assert!(sync.host().now_ns() >= 5000, "it was waited for");
    }
}

/// Somebody holds a buffer and does not let go.
fn hold(mm: &Mm<Machine>, bo: Id) {
    let reservation = mm.reservation(bo).unwrap();
    assert!(mm.world().sync.try_lock(&reservation, None));
}

/// An operation.
type Call<'a> = &'a dyn Fn(&mut Context) -> Result<(), Error>;

#[test]
fn a_lock_has_the_operations_deadline_as_a_fence_has_d_17() {
    let mm = manager_with(SIZES, Options::default());
    let places = [anywhere(SegmentId::LocalVisible)];
    let old = create(&mm, &info(32), &places).unwrap();
    mm.world().work(usize::MAX);
    hold(&mm, old);
    let machine = mm.world();
    let host = machine.sync.host();
    host.on_poll(|now| (now < 1_000_000_000).then_some(now + 1000));
    let calls: [Call<'_>; 3] = [
        &|context| {
            let mut caller = Caller::enter(machine.sync.as_ref());
            let mut set = caller.transaction(Patience::Patient)?;
            set.run(|set| mm.create(set, &info(32), None, &places, context))
                .map(drop)
        },
        &|context| {
            let mut caller = Caller::enter(machine.sync.as_ref());
            mm.fault(&mut caller, old, 0, context, |_| ())
        },
        &|context| {
            let mut caller = Caller::enter(machine.sync.as_ref());
            mm.evict_all(&mut caller, SegmentId::LocalVisible, context)
        },
    ];
    for (n, call) in calls.into_iter().enumerate() {
        let deadline = machine.after(3_000_500);
        let mut context = Context::until(deadline, Patience::Patient);
        assert_eq!(call(&mut context), Err(Error::Busy), "{n}");
        assert_eq!(host.now_ns(), deadline.0, "{n}");
    }
}

#[test]
fn a_lock_that_is_never_let_go_keeps_nobody_from_another_victim_d_17() {
    let (mm, bos) = full(Options::default());
    hold(&mm, bos[0]);
    job(&mm, bos[1]);
    let gpu = Arc::clone(&mm.world().gpu);
    let host = mm.world().sync.host();
    host.on_poll(move |now| {
        if now >= 5_000_000 {
            gpu.step();
        }
        Some(now + 1000)
    });
    another(&mm, &mut ctx()).unwrap();
    assert_eq!(mm.segment(bos[1]), Ok(Some(SegmentId::System)));
    assert_eq!(mm.segment(bos[0]), Ok(Some(PCIE)));
    assert!((5_000_000..9_000_000).contains(&host.now_ns()));
}

#[test]
fn what_is_below_low_stays_while_others_are_only_busy_d_20() {
    for (no_wait, goes) in [(false, 1), (true, 0)] {
        let mm = manager_with(SIZES, Options::default());
        let owner = mm.open_account().unwrap();
        let budget = Budget {
            low: 24 * 4096,
            ..Budget::OPEN
        };
        mm.set_budget(owner, PCIE, budget).unwrap();
        let theirs = Info {
            owner: Some(owner),
            ..info(24)
        };
        let bos = [theirs, info(24)].map(|info| {
            let bo = create(&mm, &info, &[anywhere(PCIE)]).unwrap();
            with(&mm, bo, |set| mm.make_resident(set, bo, &mut ctx())).unwrap();
            bo
        });
        job(&mm, bos[1]);
        let mut context = Context { no_wait, ..ctx() };
        another(&mm, &mut context).unwrap();
        let left = bos.map(|bo| mm.segment(bo).unwrap() != Some(PCIE));
        assert_eq!(
            left,
            [goes == 0, goes == 1],
            "who may not wait has no choice"
        );
    }
}
