//! Random steps against a naive reference: a list of all fences that were ever added.

use proptest::prelude::*;
use vidmm::Patience::Patient;
use vidmm::sync::portable::{Portable, Single};
use vidmm::sync::{Caller, Deadline, FenceContext, FenceError, FenceResult, Primitives, Usage};

type Sync = Portable<Single>;
type Fence = <Sync as Primitives>::Fence;

#[derive(Clone, Debug)]
enum Step {
    /// A new fence of a context, in so many reservations.
    Commit {
        context: usize,
        bos: Vec<(usize, usize)>,
    },
    /// An old fence once more.
    Again {
        fence: usize,
        bo: usize,
        class: usize,
    },
    Reach {
        context: usize,
        by: u64,
    },
    Fail {
        context: usize,
    },
    Reset {
        context: usize,
    },
    Copy {
        to: usize,
        from: usize,
    },
}

const BOS: usize = 4;
const CONTEXTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let bo = || 0..BOS;
    let context = || 0..CONTEXTS;
    let bos = prop::collection::vec((bo(), 0..4_usize), 1..4);
    prop_oneof![
        8 => (context(), bos).prop_map(|(context, bos)| Step::Commit { context, bos }),
        2 => (any::<usize>(), bo(), 0..4_usize)
            .prop_map(|(fence, bo, class)| Step::Again { fence, bo, class }),
        4 => (context(), 0..3_u64).prop_map(|(context, by)| Step::Reach { context, by }),
        1 => context().prop_map(|context| Step::Fail { context }),
        1 => context().prop_map(|context| Step::Reset { context }),
        2 => (bo(), bo()).prop_map(|(to, from)| Step::Copy { to, from }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What is idle, in which class, and how each fence ended, after every step.
    #[test]
    fn a_reservation_is_idle_exactly_when_all_that_was_added_has_ended(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let sync = Sync::new(Single::new());
        let bos = [(); BOS].map(|()| sync.new_reservation().unwrap());
        let mut rings = [(); CONTEXTS].map(|()| FenceContext::new(&sync));
        // Every fence with its end; of each reservation, all that was ever added.
        let mut fences: Vec<(Fence, usize, Option<FenceResult>)> = Vec::new();
        let mut added: [Vec<(usize, Usage)>; BOS] = Default::default();
        let end = |fences: &mut Vec<(Fence, usize, Option<FenceResult>)>,
                       context, through: u64, result: FenceResult| {
            for (fence, of, ended) in fences {
                if *of == context && sync.identity(fence).1 <= through && ended.is_none() {
                    *ended = Some(result);
                }
            }
        };
        for step in steps {
            let mut caller = Caller::enter(&sync);
            match step {
                Step::Commit { context, bos: of } => {
                    let mut set = caller.transaction(Patient).unwrap();
                    set.lock_all(of.iter().map(|(bo, _)| &bos[*bo]), 1).unwrap();
                    let ring = &mut rings[context];
                    let memory = ring.prepare(&sync).unwrap();
                    let fence = ring.arm(&sync, memory);
                    let class = |bo: usize| {
                        let uses = of.iter().filter(|(other, _)| *other == bo);
                        Usage::ALL[uses.map(|(_, class)| *class).min().unwrap()]
                    };
                    set.commit(&fence, |it| {
                        class(bos.iter().position(|bo| sync.same(bo, it)).unwrap())
                    }).unwrap();
                    for (bo, added) in added.iter_mut().enumerate() {
                        if of.iter().any(|(other, _)| *other == bo) {
                            added.push((fences.len(), class(bo)));
                        }
                    }
                    fences.push((fence, context, None));
                }
                Step::Again { fence, bo, class } if !fences.is_empty() => {
                    let fence = fence % fences.len();
                    let mut locked = caller.lock(&bos[bo], Patient).unwrap();
                    locked.reserve_slots(1).unwrap();
                    locked.add(&fences[fence].0, Usage::ALL[class]).unwrap();
                    added[bo].push((fence, Usage::ALL[class]));
                }
                Step::Again { .. } => {}
                Step::Reach { context, by } => {
                    let through = rings[context].ended() + by;
                    rings[context].end_through(&sync, through);
                    end(&mut fences, context, through, Ok(()));
                }
                Step::Fail { context } => {
                    let through = rings[context].ended() + 1;
                    rings[context].end_failed(&sync, through, FenceError::Failed);
                    end(&mut fences, context, through, Err(FenceError::Failed));
                }
                Step::Reset { context } => {
                    let first = rings[context].ended() + 1;
                    rings[context].end_all(&sync, FenceError::TimedOut, FenceError::Canceled);
                    end(&mut fences, context, first, Err(FenceError::TimedOut));
                    end(&mut fences, context, u64::MAX, Err(FenceError::Canceled));
                }
                Step::Copy { to, from } => {
                    let mut locked = caller.lock(&bos[to], Patient).unwrap();
                    let may = to != from && locked.is_idle(Usage::Bookkeep);
                    prop_assert_eq!(locked.take_fences_of(&bos[from]).is_ok(), may);
                    if may {
                        let copy = added[from].clone();
                        added[to].extend(copy);
                    }
                }
            }
            for (fence, _, end) in &fences {
                prop_assert_eq!(sync.result(fence), *end);
            }
            for (bo, added) in bos.iter().zip(&added) {
                for usage in Usage::ALL {
                    let mut of_class = added.iter().filter(|(_, of)| *of <= usage);
                    let idle = of_class.all(|(fence, _)| fences[*fence].2.is_some());
                    prop_assert_eq!(sync.is_idle(bo, usage), idle);
                    let now = Deadline(sync.host().now_ns());
                    let waited = sync.wait_idle(bo, usage, Patient, now);
                    prop_assert_eq!(waited.is_ok(), idle);
                }
            }
        }
    }
}
