//! Process ids of the GPU as slots that address spaces take turns in.

use crate::Error;

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
}

/// A slot that is held for a job, until [`Slots::submitted`] or [`Slots::abandon`].
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Held<K> {
    /// Which, below the number of slots.
    pub slot: usize,
    /// Whose slot it was; that space has none now.
    pub was: Option<K>,
}

/// `N` slots for any number of address spaces. A space keeps its slot until
/// another needs one: then the least recently used slot goes that no job uses.
///
/// ```
/// use vidmm::vm::Slots;
/// let mut slots: Slots<&str, u64, 2> = Slots::new();
/// let done = |fence: &u64| *fence <= 10;
/// let first = slots.hold("a", done).unwrap();
/// assert!(slots.must_load(&first), "its registers are written before its first job");
/// slots.loaded(&first);
/// slots.submitted(&first, 11);
/// let second = slots.hold("b", done).unwrap();
/// slots.submitted(&second, 10);
/// // The job of "b" has ended, that of "a" has not.
/// let third = slots.hold("c", done).unwrap();
/// assert_eq!((third.slot, third.was), (second.slot, Some("b")));
/// assert_eq!(slots.hold("d", done), Err(Some(11)), "wait for that");
/// ```
///
/// `K` names a space, `F` a fence; jobs in one slot end in the order in which
/// they were submitted.
///
/// # Invariants
/// A space has at most one slot, and a slot at most one owner. A slot with holds, or whose last fence has not
/// signalled, keeps its owner, or belongs to nobody until it has.
#[derive(Debug)]
pub struct Slots<K, F, const N: usize> {
    slots: [Slot<K, F>; N],
    uses: u64,
}

impl<K: Copy + PartialEq, F: Clone, const N: usize> Slots<K, F, N> {
    /// All of them free.
    pub fn new() -> Self {
        Self {
            slots: [const { None }; N].map(|_: Option<()>| Slot {
                owner: None,
                holds: 0,
                last: None,
                used: 0,
                loaded: false,
            }),
            uses: 0,
        }
    }

    /// A slot for a job of a space.
    ///
    /// # Errors
    /// The fence to wait for before another try, when every slot has unfinished
    /// jobs of others; `None` when all are held by jobs that are being prepared.
    pub fn hold(&mut self, space: K, signalled: impl Fn(&F) -> bool) -> Result<Held<K>, Option<F>> {
        let own = self.slots.iter().position(|slot| slot.owner == Some(space));
        let Some(at) = own.or_else(|| self.least_used(&signalled)) else {
            let busy = self.slots.iter().filter(|slot| slot.holds == 0);
            let first = busy.min_by_key(|slot| slot.used);
            return Err(first.and_then(|slot| slot.last.clone()));
        };
        self.uses += 1;
        let slot = &mut self.slots[at];
        let was = slot.owner.filter(|owner| *owner != space);
        slot.owner = Some(space);
        slot.used = self.uses;
        slot.holds += 1;
        if own.is_none() {
            slot.last = None;
            slot.loaded = false;
        }
        Ok(Held { slot: at, was })
    }

    /// Whether the private L1 registers of the slot must be written, and the TLB
    /// entries of its process id invalidated, before the job runs: to be asked right
    /// before the job is given to the GPU, under the lock of who gives it.
    pub fn must_load(&self, held: &Held<K>) -> bool {
        self.slots.get(held.slot).is_some_and(|slot| !slot.loaded)
    }

    /// They were.
    pub fn loaded(&mut self, held: &Held<K>) {
        if let Some(slot) = self.slots.get_mut(held.slot) {
            slot.loaded = true;
        }
    }

    /// The job is on its way. Jobs of one slot are told in the order in which they end.
    pub fn submitted(&mut self, held: &Held<K>, fence: F) {
        if let Some(slot) = self.slots.get_mut(held.slot) {
            slot.last = Some(fence);
            slot.holds = slot.holds.saturating_sub(1);
        }
    }

    /// The job will not come. What the slot was loaded with stays.
    pub fn abandon(&mut self, held: &Held<K>) {
        if let Some(slot) = self.slots.get_mut(held.slot) {
            slot.holds = slot.holds.saturating_sub(1);
        }
    }

    /// A space that is destroyed leaves its slot, which others get once its jobs
    /// have ended.
    ///
    /// # Errors
    /// [`Error::Busy`] while a job of it is being prepared.
    pub fn forget(&mut self, space: K) -> Result<(), Error> {
        for slot in self
            .slots
            .iter_mut()
            .filter(|slot| slot.owner == Some(space))
        {
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
        for slot in &mut self.slots {
            slot.loaded = false;
        }
    }

    /// The slot of a space, if it has one.
    pub fn of(&self, space: K) -> Option<usize> {
        self.slots.iter().position(|slot| slot.owner == Some(space))
    }

    /// Whose a slot is.
    pub fn owner(&self, slot: usize) -> Option<K> {
        self.slots.get(slot)?.owner
    }

    /// The slot to give to another: one without an owner first, then the least
    /// recently used.
    fn least_used(&self, signalled: &impl Fn(&F) -> bool) -> Option<usize> {
        let idle = |slot: &Slot<K, F>| slot.holds == 0 && slot.last.as_ref().is_none_or(signalled);
        let slots = self.slots.iter().enumerate();
        let idle = slots.filter(|(_, slot)| idle(slot));
        let least = idle.min_by_key(|(_, slot)| (slot.owner.is_some(), slot.used));
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

    #[test]
    fn a_space_keeps_its_slot_and_is_loaded_once() {
        let mut slots = Three::new();
        for (n, loads) in [(1, true), (2, false), (3, false)] {
            let held = slots.hold(7, |_| false).unwrap();
            assert_eq!(
                (held.slot, held.was, slots.must_load(&held)),
                (0, None, loads)
            );
            slots.loaded(&held);
            slots.submitted(&held, n);
        }
        slots.unload();
        let held = slots.hold(7, |_| false).unwrap();
        assert!(slots.must_load(&held), "a reset has cleared its registers");
        slots.abandon(&held);
    }

    #[test]
    fn a_slot_that_is_held_or_busy_is_not_given_away() {
        let mut slots = Three::new();
        let held: Vec<_> = (0..3).map(|n| slots.hold(n, |_| true).unwrap()).collect();
        assert_eq!(slots.hold(9, |_| true), Err(None), "all are being prepared");
        assert_eq!(slots.forget(1), Err(Error::Busy));
        for (held, fence) in held.iter().zip([30, 10, 20]) {
            slots.submitted(held, fence);
        }
        assert_eq!(
            slots.hold(9, |_| false),
            Err(Some(30)),
            "the least recently used"
        );
        let held = slots.hold(9, |fence| *fence <= 20).unwrap();
        assert_eq!((held.slot, held.was), (1, Some(1)));
        assert_eq!((slots.of(1), slots.of(9)), (None, Some(1)));
    }

    #[test]
    fn the_slot_of_a_space_that_is_gone_is_taken_first_but_not_before_its_jobs_end() {
        let mut slots = Three::new();
        for n in 0..3 {
            let held = slots.hold(n, |_| true).unwrap();
            slots.submitted(&held, 10 + u64::from(n));
        }
        slots.forget(2).unwrap();
        assert_eq!(slots.hold(9, |_| false), Err(Some(10)));
        let held = slots.hold(9, |_| true).unwrap();
        assert_eq!(
            (held.slot, held.was, slots.must_load(&held)),
            (2, None, true)
        );
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
            for step in steps {
                match step {
                    Step::Hold(space) => match slots.hold(space, |fence| *fence <= done) {
                        Ok(it) => {
                            prop_assert_eq!(slots.of(space), Some(it.slot));
                            held.push((it, space));
                        }
                        Err(Some(fence)) => prop_assert!(fence > done),
                        Err(None) => prop_assert!(held.len() >= 3),
                    },
                    Step::Submit(n) if !held.is_empty() => {
                        let (it, space) = held.swap_remove(n % held.len());
                        if slots.must_load(&it) {
                            // Nobody else's job may be running with them.
                            let others = |job: &&(u64, usize, u32)| job.1 == it.slot && job.2 != space;
                            prop_assert_eq!(jobs.iter().find(others), None);
                            registers[it.slot] = Some(space);
                            slots.loaded(&it);
                        }
                        fence += 1;
                        jobs.push((fence, it.slot, space));
                        slots.submitted(&it, fence);
                    }
                    Step::Abandon(n) if !held.is_empty() => {
                        let (it, _) = held.swap_remove(n % held.len());
                        slots.abandon(&it);
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
