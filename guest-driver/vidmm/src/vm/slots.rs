//! Process ids of the GPU as slots that address spaces take turns in.

use crate::Error;
use alloc::collections::VecDeque;

/// What is known of one slot.
#[derive(Clone, Copy, Debug)]
struct Slot<K, F> {
    owner: Option<K>,
    /// Jobs that are being prepared for it: it stays.
    holds: u32,
    /// The fence of the last job that ran in it; jobs end in order.
    last: Option<F>,
    used: u64,
    /// The GPU has its owner's L1 registers.
    loaded: bool,
    /// Who was told last that the slot is its own, and was not told otherwise.
    told: Option<K>,
    /// The turn of who gets it next, when its jobs have ended. Nobody holds it meanwhile.
    claimed: Option<u64>,
}

/// A slot that is held for a job, until [`Slots::submitted`] or [`Slots::abandon`].
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// Which, below the number of slots.
    pub slot: usize,
}

/// A space's place among those that wait for a slot, until
/// [`Slots::leave`].
#[derive(Debug, Default)]
pub struct Turn(Option<u64>);

/// Why a space has no slot yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait<F> {
    /// For this fence, before another try.
    Fence(F),
    /// For its turn: see [`Slots::call`].
    Turn,
    /// There is no memory to write down that it waits.
    NoMemory,
}

/// `N` slots for any number of address spaces. A space keeps its slot until
/// another needs one: then the least recently used slot goes, of those that no job uses
/// if there are such. Who waits for a slot is served before who comes later, also before
/// the one whose slot it was.
///
/// ```
/// use vidmm::vm::{Slots, Turn, Wait};
/// let mut slots: Slots<&str, u64, 2> = Slots::new();
/// let done = |fence: &u64| *fence <= 10;
/// let first = slots.hold("a", &mut Turn::default(), done)?;
/// assert!(slots.must_load(&first), "its registers are written before its first job");
/// slots.loaded(&first);
/// slots.submitted(&first, 11);
/// let second = slots.hold("b", &mut Turn::default(), done)?;
/// slots.submitted(&second, 10);
/// // The job of "b" has ended, that of "a" has not.
/// let third = slots.hold("c", &mut Turn::default(), done)?;
/// assert_eq!(third.slot, second.slot);
/// let mut waits = Turn::default();
/// assert_eq!(slots.hold("d", &mut waits, done), Err(Wait::Fence(11)));
/// // "a" comes behind "d", whose slot that will be.
/// assert_eq!(slots.hold("a", &mut Turn::default(), done), Err(Wait::Turn));
/// assert_eq!(slots.hold("d", &mut waits, |_| true)?.slot, first.slot);
/// # Ok::<(), Wait<u64>>(())
/// ```
///
/// `K` names a space, `F` a fence; jobs in one slot end in the order in which
/// they were submitted.
///
/// # Invariants
/// A space has at most one slot, and a slot at most one owner. A slot with holds, or whose
/// last fence has not signalled, keeps its owner, or belongs to nobody until it has. While
/// somebody waits without a claim, every slot is claimed or held.
#[derive(Debug)]
pub struct Slots<K, F, const N: usize> {
    all: [Slot<K, F>; N],
    uses: u64,
    turns: u64,
    /// Who has no claim yet, in the order of coming, and what ends when it has one.
    waiting: VecDeque<(u64, Option<F>)>,
}

impl<K: Copy + PartialEq, F: Clone, const N: usize> Slots<K, F, N> {
    /// All of them free.
    pub fn new() -> Self {
        Self {
            all: [const { None }; N].map(|_: Option<()>| Slot {
                owner: None,
                holds: 0,
                last: None,
                used: 0,
                loaded: false,
                told: None,
                claimed: None,
            }),
            uses: 0,
            turns: 0,
            waiting: VecDeque::new(),
        }
    }

    /// A slot for a job of a space. `turn` is its place among those that wait: the same
    /// one at each try for that job, to be [left](Self::leave) afterwards however it ended.
    ///
    /// # Errors
    /// What to wait for before another try.
    pub fn hold(
        &mut self,
        space: K,
        turn: &mut Turn,
        signalled: impl Fn(&F) -> bool,
    ) -> Result<Held, Wait<F>> {
        let own = self.of(space);
        // Where others wait it comes behind them, so that what is held becomes free.
        let free = |at: &usize| self.all[*at].claimed.is_none() && self.waiting.is_empty();
        if let Some(at) = own.filter(free) {
            return Ok(self.give(at));
        }
        let number = match turn.0 {
            Some(number) => number,
            None => *turn.0.insert(self.come(&signalled)?),
        };
        let claims = |slot: &Slot<K, F>| slot.claimed == Some(number);
        let Some(at) = self.all.iter().position(claims) else {
            return Err(Wait::Turn);
        };
        // INVARIANT: jobs that are being prepared keep their slot: this one joins them, and
        // leaves what it claimed to others.
        if let Some(own) = own.filter(|own| self.all[*own].holds > 0) {
            return Ok(self.give(own));
        }
        if own != Some(at) {
            // A job in its old one is told what changes in the space, and it alone.
            for at in [Some(at), own].into_iter().flatten() {
                let last = self.all[at].last.as_ref();
                if let Some(last) = last.filter(|last| !signalled(last)) {
                    return Err(Wait::Fence(last.clone()));
                }
            }
            if let Some(own) = own {
                (self.all[own].owner, self.all[own].loaded) = (None, false);
            }
            // INVARIANT: it has no other any more, and the jobs in this one have ended.
            let slot = &mut self.all[at];
            (slot.owner, slot.last, slot.loaded) = (Some(space), None, false);
        }
        turn.0 = None;
        self.all[at].claimed = None;
        Ok(self.give(at))
    }

    /// A new turn: it claims a slot if nobody else waits and one can be had.
    fn come(&mut self, signalled: &impl Fn(&F) -> bool) -> Result<u64, Wait<F>> {
        let number = self.turns + 1;
        // INVARIANT: if one can be had, nobody waits without a claim.
        if let Some(at) = self.least_used(signalled) {
            self.all[at].claimed = Some(number);
        } else {
            let room = self.waiting.try_reserve(1);
            room.map_err(|_| Wait::NoMemory)?;
            self.waiting.push_back((number, None));
        }
        self.turns = number;
        Ok(number)
    }

    fn give(&mut self, at: usize) -> Held {
        self.uses += 1;
        let slot = &mut self.all[at];
        slot.used = self.uses;
        slot.holds += 1;
        Held { slot: at }
    }

    /// Has `fence` be given back by who passes a slot on to this turn, to be signalled.
    /// False if that has happened: to be tried again at once.
    pub fn call(&mut self, turn: &Turn, fence: F) -> bool {
        let mut waiting = self.waiting.iter_mut();
        let place = waiting.find(|(number, _)| Some(*number) == turn.0);
        place.map(|(_, call)| *call = Some(fence)).is_some()
    }

    /// Who waited does so no more, with a slot or without. Gives back a fence that is to
    /// be signalled: a slot is there for somebody else.
    #[must_use = "somebody waits for it"]
    pub fn leave(&mut self, turn: &mut Turn) -> Option<F> {
        let number = turn.0.take()?;
        self.waiting.retain(|(other, _)| *other != number);
        let mut slots = self.all.iter();
        let at = slots.position(|slot| slot.claimed == Some(number))?;
        self.all[at].claimed = None;
        self.pass_on(at)
    }

    /// A slot that may be free is for the first of those who wait without a claim.
    fn pass_on(&mut self, at: usize) -> Option<F> {
        let slot = self.all.get_mut(at)?;
        if slot.holds > 0 || slot.claimed.is_some() {
            return None;
        }
        // INVARIANT: it does not stay unclaimed while somebody waits.
        let (number, call) = self.waiting.pop_front()?;
        slot.claimed = Some(number);
        call
    }

    /// How many turns there are: jobs that wait for a slot.
    pub fn waiting(&self) -> usize {
        let claims = self.all.iter().filter(|slot| slot.claimed.is_some());
        self.waiting.len() + claims.count()
    }

    /// Whether the private L1 registers of the slot must be written, and the TLB
    /// entries of its process id invalidated, before the job runs: to be asked right
    /// before the job is given to the GPU, under the lock of who gives it.
    pub fn must_load(&self, held: &Held) -> bool {
        self.all.get(held.slot).is_some_and(|slot| !slot.loaded)
    }

    /// Who has to be told, before the slot is loaded, that it is not its own any more.
    pub fn told(&self, held: &Held) -> Option<K> {
        let slot = self.all.get(held.slot)?;
        slot.told.filter(|told| slot.owner != Some(*told))
    }

    /// The GPU has the owner's registers, and who had the slot before was told.
    pub fn loaded(&mut self, held: &Held) {
        if let Some(slot) = self.all.get_mut(held.slot) {
            slot.loaded = true;
            slot.told = slot.owner;
        }
    }

    /// The job is on its way. Jobs of one slot are told in the order in which they end.
    /// Gives back a fence as [`Self::leave`] does.
    #[must_use = "somebody waits for it"]
    pub fn submitted(&mut self, held: &Held, fence: F) -> Option<F> {
        self.all.get_mut(held.slot)?.last = Some(fence);
        self.abandon(held)
    }

    /// The job will not come. What the slot was loaded with stays. Gives back a fence as
    /// [`Self::leave`] does.
    #[must_use = "somebody waits for it"]
    pub fn abandon(&mut self, held: &Held) -> Option<F> {
        let slot = self.all.get_mut(held.slot)?;
        slot.holds = slot.holds.saturating_sub(1);
        self.pass_on(held.slot)
    }

    /// A space that is destroyed leaves its slot, which others get once its jobs
    /// have ended.
    ///
    /// # Errors
    /// [`Error::Busy`] while a job of it is being prepared.
    pub fn forget(&mut self, space: K) -> Result<(), Error> {
        for slot in self.all.iter_mut().filter(|slot| slot.owner == Some(space)) {
            if slot.holds > 0 {
                return Err(Error::Busy);
            }
            slot.owner = None;
            slot.loaded = false;
        }
        Ok(())
    }

    /// After a reset of the GPU, or when a space's own L1 registers have changed,
    /// nothing is loaded.
    pub fn unload(&mut self) {
        for slot in &mut self.all {
            slot.loaded = false;
        }
    }

    /// The slot of a space, if it has one.
    pub fn of(&self, space: K) -> Option<usize> {
        self.all.iter().position(|slot| slot.owner == Some(space))
    }

    /// Whose a slot is.
    pub fn owner(&self, slot: usize) -> Option<K> {
        self.all.get(slot)?.owner
    }

    /// The slot to give to another, of those that nobody holds or waits for: one that no
    /// job uses first, of these one without an owner, then the least recently used.
    fn least_used(&self, signalled: &impl Fn(&F) -> bool) -> Option<usize> {
        let slots = self.all.iter().enumerate();
        let free = slots.filter(|(_, slot)| slot.holds == 0 && slot.claimed.is_none());
        let busy = |slot: &Slot<K, F>| slot.last.as_ref().is_some_and(|last| !signalled(last));
        let least = free.min_by_key(|(_, slot)| (busy(slot), slot.owner.is_some(), slot.used));
        least.map(|(at, _)| at)
    }
}

impl<K: Copy + PartialEq, F: Clone, const N: usize> Default for Slots<K, F, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
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
}
