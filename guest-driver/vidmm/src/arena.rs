//! Things by names that go stale and never come back.

use crate::Error;
use alloc::vec::Vec;

/// Names a thing in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    slot: u32,
    generation: u32,
}

impl Id {
    /// The slot after its own, for [`Arena::from`].
    pub(crate) const fn next_slot(self) -> usize {
        self.slot as usize + 1
    }

    /// As one number, never 0.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// The id with these bits. Any number is safe: one that names nothing is
    /// [`Error::NotFound`] where it is used.
    pub const fn from_bits(bits: u64) -> Self {
        let [slot, generation] = e3k_regs::packet::halves(bits);
        Self { slot, generation }
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    thing: Option<T>,
}

/// Things that come and go, each under a name of its own.
///
/// ```
/// use vidmm::{Error, arena::Arena};
/// let mut arena = Arena::new();
/// arena.reserve()?;
/// let first = arena.insert("first");
/// assert_eq!(arena.remove(first), Some("first"));
/// arena.reserve()?;
/// let second = arena.insert("second");
/// // The place is used again, the name is not.
/// assert_eq!(arena.get(first), Err(Error::NotFound));
/// assert_eq!(arena.get(second), Ok(&"second"));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
/// `free` has room for every slot, so that removing cannot fail. `len` things are in
/// slots; a slot without one is in `free`, or its generations are used up.
#[derive(Debug)]
pub struct Arena<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
    /// Slots that were looked at.
    #[cfg(test)]
    pub(crate) steps: core::sync::atomic::AtomicU64,
}

impl<T> Arena<T> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
            #[cfg(test)]
            steps: core::sync::atomic::AtomicU64::new(0),
        }
    }

    /// How many things there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Room for one thing more.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn reserve(&mut self) -> Result<(), Error> {
        if u32::try_from(self.slots.len()).is_err() {
            return Err(Error::NoMemory);
        }
        self.slots.try_reserve(1)?;
        // INVARIANT: room for every slot, the one to come included.
        let room = self.slots.len() + 1 - self.free.len();
        Ok(self.free.try_reserve(room)?)
    }

    /// Adds a thing, for which room was reserved.
    pub fn insert(&mut self, thing: T) -> Id {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            let reused = &mut self.slots[slot as usize];
            reused.thing = Some(thing);
            let generation = reused.generation;
            return Id { slot, generation };
        }
        // `reserve` keeps it a u32.
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot {
            generation: 1,
            thing: Some(thing),
        });
        let generation = 1;
        Id { slot, generation }
    }

    /// Books a thing under a new name. When `make` fails, nothing has changed.
    ///
    /// # Errors
    /// [`Error::NoMemory`], or what `make` says.
    pub(crate) fn insert_with(
        &mut self,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Id, Error> {
        self.reserve()?;
        Ok(self.insert(make()?))
    }

    /// A thing by its name.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a stale name.
    pub fn get(&self, id: Id) -> Result<&T, Error> {
        let slot = self.slots.get(id.slot as usize);
        let slot = slot.filter(|slot| slot.generation == id.generation);
        let thing = slot.and_then(|slot| slot.thing.as_ref());
        thing.ok_or(Error::NotFound)
    }

    /// The same, to change it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a stale name.
    pub fn get_mut(&mut self, id: Id) -> Result<&mut T, Error> {
        let slot = self.slots.get_mut(id.slot as usize);
        let slot = slot.filter(|slot| slot.generation == id.generation);
        let thing = slot.and_then(|slot| slot.thing.as_mut());
        thing.ok_or(Error::NotFound)
    }

    /// Takes a thing out; its name is stale from now on.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let thing = slot.thing.take()?;
        self.len -= 1;
        // A slot whose generations are used up is retired.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id.slot);
        }
        Some(thing)
    }

    /// All things, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots_from(0)
    }

    /// The first thing whose slot is `slot` or a later one.
    pub(crate) fn from(&self, slot: usize) -> Option<Id> {
        self.slots_from(slot).next().map(|(id, _)| id)
    }

    /// The thing in a slot.
    pub(crate) fn at(&self, slot: usize) -> Option<Id> {
        let it = self.slots.get(slot)?;
        it.thing.as_ref()?;
        let (slot, generation) = (u32::try_from(slot).ok()?, it.generation);
        Some(Id { slot, generation })
    }

    fn slots_from(&self, first: usize) -> impl Iterator<Item = (Id, &T)> {
        // In constant time, unlike the skip of most iterators.
        let slots = self.slots.iter().enumerate().skip(first);
        slots.filter_map(|(slot, it)| {
            #[cfg(test)]
            self.steps
                .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            let slot = u32::try_from(slot).ok()?;
            let generation = it.generation;
            Some((Id { slot, generation }, it.thing.as_ref()?))
        })
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_stale_once_its_thing_is_gone_and_never_comes_back() {
        let mut arena = Arena::new();
        arena.reserve().unwrap();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first), Some("first"));
        arena.reserve().unwrap();
        let second = arena.insert("second");
        assert_eq!(second.slot, first.slot, "the slot is used again");
        assert_eq!(arena.get(first), Err(Error::NotFound));
        assert!(arena.get_mut(first).is_err() && arena.remove(first).is_none());
        assert_eq!((arena.get(second), arena.len()), (Ok(&"second"), 1));
        arena.slots[0].generation = u32::MAX;
        let last = Id {
            generation: u32::MAX,
            ..second
        };
        assert!(arena.remove(last).is_some() && arena.is_empty());
        arena.reserve().unwrap();
        assert_eq!(
            arena.insert("third").slot,
            1,
            "a slot without names is retired"
        );
    }

    #[test]
    fn what_cannot_be_made_leaves_no_trace() {
        let mut arena: Arena<()> = Arena::new();
        assert_eq!(
            arena.insert_with(|| Err(Error::NoSpace)),
            Err(Error::NoSpace)
        );
        assert_eq!((arena.iter().count(), arena.len()), (0, 0));
    }

    #[test]
    fn any_bits_are_a_safe_name() {
        let mut arena = Arena::new();
        let first = arena.insert_with(|| Ok("first")).unwrap();
        assert_ne!(first.to_bits(), 0);
        assert_eq!(Id::from_bits(first.to_bits()), first);
        for bits in [0, 1, u64::MAX, 2 << 32, 1 << 32 | 7] {
            assert!(arena.get(Id::from_bits(bits)).is_err(), "{bits:#x}");
        }
    }
}
