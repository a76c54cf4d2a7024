//! Slots by themselves, and beside a list of who waits.

use super::*;
use proptest::prelude::*;

type Three = Slots<u32, u64, 3>;

/// A try by somebody who does not wait.
fn hold(slots: &mut Three, space: u32, done: u64) -> Result<Held, Wait<u64>> {
    let mut turn = Turn::default();
    let held = slots.hold(space, &mut turn, |fence| *fence <= done);
    assert_eq!(slots.leave(&mut turn), None, "nobody else waits");
    held
}

#[test]
fn a_space_keeps_its_slot_and_is_loaded_once() {
    let mut slots = Three::new();
    for (n, loads) in [(1, true), (2, false), (3, false)] {
        let held = hold(&mut slots, 7, 0).unwrap();
        assert_eq!((held.slot, slots.must_load(&held)), (0, loads));
        slots.loaded(&held);
        assert_eq!(slots.submitted(&held, n), None);
    }
    slots.unload();
    let held = hold(&mut slots, 7, 0).unwrap();
    assert!(slots.must_load(&held), "a reset has cleared its registers");
    assert_eq!(slots.abandon(&held), None);
}

#[test]
fn a_slot_that_is_held_or_busy_is_not_given_away() {
    let mut slots = Three::new();
    let held: Vec<_> = (0..3).map(|n| hold(&mut slots, n, 9).unwrap()).collect();
    assert_eq!(hold(&mut slots, 9, 9), Err(Wait::Turn), "all are prepared");
    assert_eq!(slots.forget(1), Err(Error::Busy));
    for (held, fence) in held.iter().zip([30, 10, 20]) {
        assert_eq!(slots.submitted(held, fence), None);
    }
    let least = Err(Wait::Fence(30));
    assert_eq!(hold(&mut slots, 9, 0), least, "the least recently used");
    let held = hold(&mut slots, 9, 20).unwrap();
    assert_eq!(held.slot, 1);
    assert_eq!((slots.of(1), slots.of(9)), (None, Some(1)));
}

#[test]
fn the_slot_of_a_space_that_is_gone_is_taken_first_but_not_before_its_jobs_end() {
    let mut slots = Three::new();
    for n in 0..3 {
        let held = hold(&mut slots, n, 0).unwrap();
        assert_eq!(slots.submitted(&held, 10 + u64::from(n)), None);
    }
    slots.forget(2).unwrap();
    assert_eq!(hold(&mut slots, 9, 0), Err(Wait::Fence(12)));
    let held = hold(&mut slots, 9, 12).unwrap();
    assert_eq!((held.slot, slots.must_load(&held)), (2, true));
}

/// Whoever loads the registers tells who had them, also when the first job that was to
/// run there did not come.
#[test]
fn who_had_a_slot_is_told_before_it_is_loaded_for_another() {
    let mut slots = Three::new();
    for n in 0..3 {
        let held = hold(&mut slots, n, 9).unwrap();
        slots.loaded(&held);
        assert_eq!(slots.submitted(&held, 1), None);
    }
    let first = hold(&mut slots, 7, 9).unwrap();
    assert_eq!(slots.told(&first), Some(0));
    assert_eq!(slots.abandon(&first), None);
    let second = hold(&mut slots, 7, 9).unwrap();
    assert_eq!(slots.told(&second), Some(0));
    slots.loaded(&second);
    assert_eq!(slots.told(&second), None);
}

#[test]
fn who_waits_comes_before_who_comes_later_and_before_the_owner() {
    let mut slots = Three::new();
    let held: Vec<_> = (0..3).map(|n| hold(&mut slots, n, 0).unwrap()).collect();
    let [mut one, mut two, mut own] = [(); 3].map(|()| Turn::default());
    let ask = |slots: &mut Three, space, turn: &mut Turn, done| {
        let held = slots.hold(space, turn, |fence: &u64| *fence <= done);
        held.map(|held| held.slot)
    };
    assert_eq!(ask(&mut slots, 8, &mut one, 0), Err(Wait::Turn));
    assert_eq!(ask(&mut slots, 9, &mut two, 0), Err(Wait::Turn));
    assert!(slots.call(&one, 108) && slots.call(&two, 109));
    // The first that is let go is for the first; its owner comes last.
    assert_eq!(slots.submitted(&held[1], 20), Some(108));
    assert_eq!(ask(&mut slots, 1, &mut own, 0), Err(Wait::Turn));
    assert!(slots.call(&own, 101));
    assert!(!slots.call(&one, 1), "it has been called");
    assert_eq!(ask(&mut slots, 8, &mut one, 0), Err(Wait::Fence(20)));
    // Who gives up passes on what was kept for it.
    assert_eq!(slots.leave(&mut one), Some(109));
    assert_eq!(ask(&mut slots, 9, &mut two, 20), Ok(1));
    assert_eq!(slots.submitted(&held[0], 21), Some(101));
    assert_eq!(ask(&mut slots, 1, &mut own, 20), Err(Wait::Fence(21)));
    assert_eq!(ask(&mut slots, 1, &mut own, 21), Ok(0));
    assert_eq!(slots.waiting(), 0);
}

#[test]
fn a_space_does_not_leave_a_slot_that_its_own_jobs_hold() {
    let mut slots = Three::new();
    let held: Vec<_> = (0..3).map(|n| hold(&mut slots, n, 0).unwrap()).collect();
    let [mut one, mut own, mut two] = [(); 3].map(|()| Turn::default());
    let done = |_: &u64| true;
    for (space, turn) in [(8, &mut one), (0, &mut own), (9, &mut two)] {
        assert_eq!(slots.hold(space, turn, done), Err(Wait::Turn));
    }
    assert!(slots.call(&two, 109));
    // Slot 1 is for the first, slot 2 for the second job of space 0.
    assert_eq!(slots.abandon(&held[1]), None);
    assert_eq!(slots.abandon(&held[2]), None);
    assert_eq!(slots.hold(0, &mut own, done), Ok(Held { slot: 0 }));
    assert_eq!(slots.of(0), Some(0));
    assert_eq!(slots.leave(&mut own), Some(109), "slot 2 is passed on");
    assert_eq!(slots.hold(9, &mut two, done), Ok(Held { slot: 2 }));
    assert_eq!(slots.hold(8, &mut one, done), Ok(Held { slot: 1 }));
}

/// Forty spaces that always want a slot, in whatever order they are let on: between
/// the coming of a job and its claim, no more others get one than had come before.
#[test]
fn of_forty_busy_spaces_none_is_passed_over() {
    const SPACES: usize = 40;
    let mut slots: Slots<usize, u64, 15> = Slots::new();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut turns: Vec<_> = (0..SPACES).map(|_| Turn::default()).collect();
    // How many others may get a slot before it has a claim.
    let mut may: Vec<usize> = vec![0; SPACES];
    let mut held: Vec<Held> = Vec::new();
    let (mut jobs, mut newest, mut done) = (vec![0; SPACES], 0_u64, 0_u64);
    let mut waited = 0;
    for _ in 0..100_000 {
        match random(4) {
            0 => done += u64::from(done < newest),
            1 if !held.is_empty() => {
                let it = held.swap_remove(random(held.len()));
                newest += 1;
                _ = slots.submitted(&it, newest);
            }
            _ => {
                let space = random(SPACES);
                if turns[space].0.is_none() {
                    may[space] = slots.waiting();
                }
                let it = slots.hold(space, &mut turns[space], |fence| *fence <= done);
                let Ok(it) = it else { continue };
                _ = slots.leave(&mut turns[space]);
                held.push(it);
                jobs[space] += 1;
                for (turn, may) in turns.iter().zip(&mut may) {
                    let mut waiting = slots.waiting.iter();
                    if waiting.any(|(number, _)| Some(*number) == turn.0) {
                        waited += 1;
                        *may = may.checked_sub(1).expect("it was passed over");
                    }
                }
            }
        }
    }
    assert!(waited > 1000, "{waited}");
    assert!(jobs.iter().all(|jobs| *jobs > 100), "{jobs:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Hold(u32),
    Submit(usize),
    Abandon(usize),
    Finish(u64),
    Forget(u32),
    Unload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..7_u32).prop_map(Step::Hold),
        4 => any::<usize>().prop_map(Step::Submit),
        1 => any::<usize>().prop_map(Step::Abandon),
        2 => (0..3_u64).prop_map(Step::Finish),
        1 => (0..7_u32).prop_map(Step::Forget),
        1 => Just(Step::Unload),
    ]
}

proptest! {
    /// What the GPU has in each slot is what the job in it wants, always.
    #[test]
    fn every_job_runs_with_the_registers_of_its_own_space(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut slots = Three::new();
        // The GPU's registers; jobs on their way as (fence, slot, space).
        let mut registers = [None; 3];
        let (mut jobs, mut held) = (Vec::new(), Vec::new());
        let (mut fence, mut done) = (0, 0);
        let mut turns: Vec<_> = (0..7).map(|_| Turn::default()).collect();
        for step in steps {
            match step {
                Step::Hold(space) => {
                    let turn = &mut turns[space as usize];
                    match slots.hold(space, turn, |fence| *fence <= done) {
                        Ok(it) => {
                            prop_assert_eq!(slots.of(space), Some(it.slot));
                            _ = slots.leave(turn);
                            held.push((it, space));
                        }
                        Err(Wait::Fence(fence)) => prop_assert!(fence > done),
                        Err(_) => prop_assert!(held.len() + slots.waiting() > 3),
                    }
                }
                Step::Submit(n) if !held.is_empty() => {
                    let (it, space) = held.swap_remove(n % held.len());
                    if slots.must_load(&it) {
                        // Nobody else's job may be running with them.
                        let others = |job: &&(u64, usize, u32)| job.1 == it.slot && job.2 != space;
                        prop_assert_eq!(jobs.iter().find(others), None);
                        let had = registers[it.slot].filter(|had| *had != space);
                        prop_assert!(had.is_none() || slots.told(&it) == had);
                        registers[it.slot] = Some(space);
                        slots.loaded(&it);
                    }
                    fence += 1;
                    jobs.push((fence, it.slot, space));
                    _ = slots.submitted(&it, fence);
                }
                Step::Abandon(n) if !held.is_empty() => {
                    let (it, _) = held.swap_remove(n % held.len());
                    _ = slots.abandon(&it);
                }
                Step::Finish(n) => {
                    done = (done + n).min(fence);
                    jobs.retain(|job| job.0 > done);
                }
                Step::Forget(space) => {
                    let being_prepared = held.iter().any(|(_, owner)| *owner == space);
                    prop_assert_eq!(slots.forget(space).is_err(), being_prepared);
                }
                // A reset: nothing runs any more.
                Step::Unload => {
                    (done, registers) = (fence, [None; 3]);
                    jobs.clear();
                    slots.unload();
                }
                Step::Submit(_) | Step::Abandon(_) => {}
            }
            for (_, slot, space) in &jobs {
                prop_assert_eq!(registers[*slot], Some(*space));
            }
            // Unfinished work or not: three spaces at most have a slot.
            let owners = (0..7).filter(|space| slots.of(*space).is_some()).count();
            prop_assert!(owners <= 3);
        }
    }
}
