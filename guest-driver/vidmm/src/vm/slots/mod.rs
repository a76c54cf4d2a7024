//! Process ids of the GPU as slots that address spaces take turns in.

#[cfg(test)]
mod tests;

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
