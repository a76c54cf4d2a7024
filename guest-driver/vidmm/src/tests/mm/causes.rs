//! An error says which buffer stood in the way, and at which step.

use super::machine::Site;
use super::{
    SIZES, anywhere, at_once, create, create_in, ctx, info, job, manager, touch, validate, with,
};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Cause, Context, Mm, Step, World};
use crate::placement::SegmentId;
use crate::sync::{Caller, Primitives};

type Machine = super::Machine;

const VISIBLE: SegmentId = SegmentId::LocalVisible;
const PCIE: SegmentId = SegmentId::PcieUnsnoop;

/// What an operation on a buffer is told.
fn told(
    mm: &Mm<Machine>,
    bo: Id,
    call: impl Fn(&mut Context) -> Result<(), Error>,
) -> (Error, Option<(bool, Step)>) {
    let mut context = at_once();
    let error = call(&mut context).unwrap_err();
    mm.world().mend();
    mm.check();
    let own = |Cause { bo: met, step }| (met == bo, step);
    (error, context.cause.map(own))
}

/// A buffer in a memory type, with contents, that nobody works on.
fn filled(mm: &Mm<Machine>, pages: u64, at: SegmentId) -> Id {
    let bo = create(mm, &info(pages), &[anywhere(at)]).unwrap();
    job(mm, bo, 3, 71, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    bo
}

#[test]
fn an_error_says_at_which_step_of_its_buffer_it_came() {
    let sites = [
        (Site::Pages, Error::NoMemory, Step::Pages),
        (Site::Map, Error::Fault, Step::Pages),
        (Site::Bind, Error::Fault, Step::Bind),
        (Site::Job, Error::Busy, Step::Copy),
    ];
    for (site, error, step) in sites {
        let mm = manager(SIZES);
        let bo = filled(&mm, 8, VISIBLE);
        site.of(mm.world()).set(0);
        let moved = told(&mm, bo, |ctx| {
            with(&mm, bo, |set| mm.validate(set, bo, &[anywhere(PCIE)], ctx))
        });
        assert_eq!(moved, (error, Some((true, step))), "{site:?}");
    }
    for (site, error, step) in &sites[..3] {
        let mm = manager(SIZES);
        let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
        site.of(mm.world()).set(0);
        let made = told(&mm, bo, |ctx| {
            with(&mm, bo, |set| mm.make_resident(set, bo, ctx))
        });
        assert_eq!(made, (*error, Some((true, *step))), "{site:?}");
    }
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[]).unwrap();
    Site::Job.of(mm.world()).set(0);
    let local = |ctx: &mut _| {
        with(&mm, bo, |set| {
            mm.validate(set, bo, &[anywhere(VISIBLE)], ctx)
        })
    };
    let cleared = told(&mm, bo, local);
    assert_eq!(cleared, (Error::Busy, Some((true, Step::Clear))));
    let large = create(&mm, &info(33), &[]).unwrap();
    let placed = told(&mm, large, |ctx| {
        with(&mm, large, |set| {
            mm.validate(set, large, &[anywhere(VISIBLE)], ctx)
        })
    });
    assert_eq!(placed, (Error::NoMemory, Some((true, Step::Place))));
}

#[test]
fn an_error_says_who_was_in_the_way() {
    let mm = manager(SIZES);
    let victim = filled(&mm, 32, VISIBLE);
    let place = |ctx: &mut _| create_in(&mm, &info(8), &[anywhere(VISIBLE)], ctx).map(drop);
    Site::Job.of(mm.world()).set(0);
    let copied = told(&mm, victim, place);
    assert_eq!(copied, (Error::Busy, Some((true, Step::Copy))));
    let locked = mm.reservation(victim).unwrap();
    assert!(mm.world().sync().try_lock(&locked, None));
    let in_use = told(&mm, victim, place);
    assert_eq!(in_use, (Error::Busy, Some((true, Step::Lock))));
    let all = |ctx: &mut _| {
        let mut caller = Caller::enter(mm.world().sync());
        mm.evict_all(&mut caller, VISIBLE, ctx)
    };
    assert_eq!(
        told(&mm, victim, all),
        (Error::Busy, Some((true, Step::Lock)))
    );
    mm.world().sync().unlock(&locked, None);
    validate(&mm, victim, PCIE).unwrap();
    job(&mm, victim, 3, 72, Ok(())).unwrap();
    let other = |ctx: &mut _| create_in(&mm, &info(48), &[anywhere(PCIE)], ctx).map(drop);
    let busy = told(&mm, victim, other);
    assert_eq!(busy, (Error::Busy, Some((true, Step::Wait))));
    // What was in the way of who got its place in the end is nobody's trouble.
    let mut context = ctx();
    create_in(&mm, &info(48), &[anywhere(PCIE)], &mut context).unwrap();
    assert_eq!(context.cause, None);
}

type Call = fn(&Mm<Machine>, Id, &mut Context) -> Result<(), Error>;

const FAULT: Call = |mm, bo, ctx| touch(mm, bo, 0, ctx).map(drop);
const SWAP: Call = |mm, bo, ctx| with(mm, bo, |set| mm.swap_out(set, bo, ctx)).map(drop);
const KERNEL: Call =
    |mm, bo, ctx| with(mm, bo, |set| mm.map_kernel(set, bo, 0..8, ctx, |_| Ok(())));

#[test]
fn a_fault_and_a_swap_say_at_which_step_they_ended() {
    for call in [FAULT, KERNEL] {
        for (site, error, step) in [
            (Site::Pages, Error::NoMemory, Step::Pages),
            (Site::Map, Error::Fault, Step::Pages),
            (Site::Bind, Error::Fault, Step::Bind),
        ] {
            let mm = manager(SIZES);
            let bo = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
            site.of(mm.world()).set(0);
            let ended = told(&mm, bo, |ctx| call(&mm, bo, ctx));
            assert_eq!(ended, (error, Some((true, step))), "{site:?}");
            let mut context = at_once();
            call(&mm, bo, &mut context).unwrap();
            assert_eq!(context.cause, None);
        }
        let mm = manager(SIZES);
        let bo = create(&mm, &info(8), &[anywhere(VISIBLE)]).unwrap();
        let ended = told(&mm, bo, |ctx| call(&mm, bo, ctx));
        assert_eq!(ended, (Error::Busy, Some((true, Step::Wait))), "its clear");
    }
    let mm = manager(SIZES);
    let bo = filled(&mm, 8, PCIE);
    let locked = mm.reservation(bo).unwrap();
    assert!(mm.world().sync().try_lock(&locked, None));
    let ended = told(&mm, bo, |ctx| FAULT(&mm, bo, ctx));
    assert_eq!(ended, (Error::Busy, Some((true, Step::Lock))));
    mm.world().sync().unlock(&locked, None);
    Site::Put.of(mm.world()).set(0);
    let ended = told(&mm, bo, |ctx| SWAP(&mm, bo, ctx));
    assert_eq!(ended, (Error::Busy, Some((true, Step::Store))));
    validate(&mm, bo, PCIE).unwrap();
    job(&mm, bo, 3, 72, Ok(())).unwrap();
    let ended = told(&mm, bo, |ctx| SWAP(&mm, bo, ctx));
    assert_eq!(ended, (Error::Busy, Some((true, Step::Wait))));
    mm.world().work(usize::MAX);
    let mut context = at_once();
    SWAP(&mm, bo, &mut context).unwrap();
    assert_eq!(context.cause, None);
}

#[test]
fn a_fault_says_who_has_the_pages_or_the_place_that_it_needs() {
    // Where the CPU does not reach, it comes near: a place is looked for.
    let mm = manager(SIZES);
    let far = filled(&mm, 8, SegmentId::LocalInvisible);
    let ended = told(&mm, far, |ctx| FAULT(&mm, far, ctx));
    assert_eq!(ended, (Error::Busy, Some((true, Step::Place))));
    // Others have the pages, and their contents cannot be stored.
    let mm = manager(SIZES);
    let giver = filled(&mm, 8, PCIE);
    let needy = create(&mm, &info(8), &[anywhere(PCIE)]).unwrap();
    mm.limit_ram(8);
    job(&mm, giver, 3, 72, Ok(())).unwrap();
    let ended = told(&mm, giver, |ctx| FAULT(&mm, needy, ctx));
    assert_eq!(ended, (Error::Busy, Some((true, Step::Wait))), "the giver");
}
