//! What counts as use, one by one and in groups.

use super::mm::{Machine, SIZES, Sync, Work, anywhere, create, ctx, info, manager, with, word};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Mm, Used};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::{Caller, LockSet, Primitives, Usage};

const VISIBLE: SegmentId = SegmentId::LocalVisible;

fn full() -> (Mm<Machine>, [Id; 2]) {
    let mm = manager(SIZES);
    let bos = [(); 2].map(|()| create(&mm, &info(16), &[anywhere(VISIBLE)]).unwrap());
    (mm, bos)
}

/// A transaction that has the buffer locked.
fn transaction<R>(mm: &Mm<Machine>, bo: Id, f: impl FnOnce(LockSet<'_, Sync>) -> R) -> R {
    let reservation = mm.reservation(bo).unwrap();
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    let mut set = caller.transaction(Patience::Patient).unwrap();
    set.lock_all([&reservation], 1).unwrap();
    f(set)
}

/// Which of them leaves when somebody needs room.
fn leaves(mm: &Mm<Machine>, bos: [Id; 2]) -> [bool; 2] {
    create(mm, &info(16), &[anywhere(VISIBLE)]).unwrap();
    bos.map(|bo| mm.segment(bo).unwrap() != Some(VISIBLE))
}

fn one(bo: &Id) -> Used<'_> {
    Used {
        buffers: core::slice::from_ref(bo),
        groups: &[],
    }
}

#[test]
fn unreserve_is_a_use_and_a_raw_unlock_is_none_r_9_12() {
    let (mm, bos) = full();
    transaction(&mm, bos[0], |set| drop(set));
    assert_eq!(leaves(&mm, bos), [true, false]);
    let (mm, bos) = full();
    transaction(&mm, bos[0], |set| mm.unreserve(set, one(&bos[0])));
    assert_eq!(leaves(&mm, bos), [false, true]);
}

#[test]
fn a_job_is_a_use_of_what_it_names_and_has_its_fence_r_9_14() {
    let (mm, bos) = full();
    mm.world().work(usize::MAX);
    let reservation = mm.reservation(bos[0]).unwrap();
    transaction(&mm, bos[0], |set| {
        let fence = mm.world().submit(Work::Fill(vec![], 0)).unwrap();
        mm.submit(set, &fence, |_| Usage::Write, one(&bos[0]))
    })
    .unwrap();
    assert!(!mm.world().sync.is_idle(&reservation, Usage::Write));
    assert_eq!(leaves(&mm, bos), [false, true]);
    // Without room for its fence nothing has happened.
    let before = mm.stamps();
    transaction(&mm, bos[0], |mut set| {
        let spent = mm.world().submit(Work::Fill(vec![], 0)).unwrap();
        set.get(&reservation)
            .unwrap()
            .add(&spent, Usage::Read)
            .unwrap();
        let job = mm.submit(set, &spent, |_| Usage::Write, one(&bos[0]));
        assert_eq!(job, Err(Error::Invalid));
    });
    assert_eq!(mm.stamps(), before);
}

#[test]
fn to_look_at_a_buffer_or_to_make_it_resident_is_no_use_r_15_2() {
    let (mm, bos) = full();
    assert_eq!(word(&mm, bos[0], 3), Ok(0));
    with(&mm, bos[0], |set| mm.make_resident(set, bos[0], &mut ctx())).unwrap();
    with(&mm, bos[0], |set| {
        mm.validate(set, bos[0], &[anywhere(VISIBLE)], &mut ctx())
    })
    .unwrap();
    assert_eq!(leaves(&mm, bos), [true, false]);
}

/// A group of so many buffers of a page that share a reservation.
fn group(mm: &Mm<Machine>, members: usize) -> (crate::evict::lru::GroupId, Vec<Id>) {
    let shared = mm.world().sync.new_reservation().unwrap();
    let group = mm.new_group(&shared).unwrap();
    let mut caller = Caller::enter(mm.world().sync.as_ref());
    let mut set = caller.transaction(Patience::Patient).unwrap();
    let member = |set: &mut LockSet<'_, Sync>| {
        let places = [anywhere(VISIBLE)];
        let bo = mm.create(set, &info(1), Some(&shared), &places, &mut ctx())?;
        mm.join(set, bo, Some(group)).map(|()| bo)
    };
    let bos = set.run(|set| (0..members).map(|_| member(set)).collect());
    (group, bos.unwrap())
}

#[test]
fn a_job_uses_a_group_in_one_step_whatever_its_members_r_10_11() {
    for members in [1, 16] {
        let mm = manager(SIZES);
        let (group, bos) = group(&mm, members);
        let rest = 32 - u64::try_from(members).unwrap();
        let other = create(&mm, &info(rest), &[anywhere(VISIBLE)]).unwrap();
        let before = mm.stamps();
        transaction(&mm, bos[0], |set| {
            let fence = mm.world().submit(Work::Fill(vec![], 0)).unwrap();
            let groups = [group];
            let used = Used {
                buffers: &[],
                groups: &groups,
            };
            mm.submit(set, &fence, |_| Usage::Write, used)
        })
        .unwrap();
        assert_eq!(mm.stamps() - before, 1, "{members}");
        create(&mm, &info(1), &[anywhere(VISIBLE)]).unwrap();
        assert_ne!(mm.segment(other), Ok(Some(VISIBLE)), "older than the group");
        for bo in bos {
            assert_eq!(mm.segment(bo), Ok(Some(VISIBLE)));
        }
        mm.check();
    }
}

#[test]
fn members_share_the_groups_reservation_and_leave_it_when_they_go_r_10_12_r_10_13() {
    let mm = manager(SIZES);
    let (group, bos) = group(&mm, 2);
    let stranger = create(&mm, &info(1), &[anywhere(VISIBLE)]).unwrap();
    let joined = with(&mm, stranger, |set| mm.join(set, stranger, Some(group)));
    assert_eq!(joined, Err(Error::Invalid));
    with(&mm, bos[0], |set| mm.pin(set, bos[0])).unwrap();
    assert_eq!(mm.destroy_group(group), Err(Error::Busy));
    with(&mm, bos[0], |set| mm.join(set, bos[0], None)).unwrap();
    assert_eq!(mm.destroy_group(group), Err(Error::Busy));
    // Gone, and still on its list: the GPU clears it.
    mm.release(bos[1]).unwrap();
    assert_eq!(mm.dying(), 1);
    assert_eq!(mm.destroy_group(group), Ok(()));
    assert_eq!(mm.destroy_group(group), Err(Error::NotFound));
    mm.check();
}
