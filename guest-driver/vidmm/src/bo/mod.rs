//! Buffer objects and the arena they live in.

pub(crate) mod accounts;
pub(crate) mod gart;
pub(crate) mod memory;
pub mod page_vector;
pub mod pool;

use crate::Error;
use crate::bo::accounts::ClientId;
use crate::placement::segments::{Bus, SegmentId};
use alloc::sync::Arc;
use alloc::vec::Vec;
use e3k_regs::PAGE_SIZE;

/// Names a BO. Stale once the BO is destroyed; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BoId {
    index: u32,
    generation: u32,
}

impl BoId {
    /// The slot after its own, for [`Arena::from`].
    pub(crate) const fn next_slot(self) -> usize {
        self.index as usize + 1
    }

    /// As one number, never 0.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The id with these bits. Any number is safe: one that names no BO is
    /// [`Error::NotFound`] where it is used.
    pub const fn from_bits(bits: u64) -> Self {
        let [index, generation] = e3k_regs::packet::halves(bits);
        Self { index, generation }
    }
}

/// Who a BO is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An application; its contents start as zeros.
    Device,
    /// The driver itself; pinned, contents start undefined.
    Kernel,
}

/// Proof that a range of a segment is booked. No mapping, no pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) segment: SegmentId,
    pub(crate) first_page: u64,
}

/// The RAM pages behind a BO (the page vector's state, R-7.2).
#[derive(Debug, Default)]
pub(crate) enum Backing<P> {
    /// None yet, or none needed.
    #[default]
    Empty,
    /// Pages exist; the GART may not point at them.
    Populated(Arc<P>),
    /// The GART points at the pages.
    Bound(Arc<P>),
}

impl<P> Backing<P> {
    pub(crate) fn pages(&self) -> Option<&Arc<P>> {
        match self {
            Self::Empty => None,
            Self::Populated(pages) | Self::Bound(pages) => Some(pages),
        }
    }

    /// The same pages, no longer counted as bound.
    pub(crate) fn unbound(self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Populated(pages) | Self::Bound(pages) => Self::Populated(pages),
        }
    }

    pub(crate) fn is_bound(&self) -> bool {
        matches!(self, Self::Bound(_))
    }
}

/// Whether a BO's first contents, zeros, are in place (its KERNEL class). Before
/// they are, its memory shows what another client left there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// They are, or nobody asks for any.
    InPlace,
    /// They are if all fills that clear it end well.
    Clearing(Clearing),
    /// They never will be: it was tried too often.
    Unusable,
}

/// See [`Contents::Clearing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clearing {
    /// The ring's fence of the last fill; `None` while that is queued.
    pub(crate) last: Option<u64>,
    /// How one of the fills ended that did not end well.
    pub(crate) error: Option<Error>,
    /// How often it had an error of its own and was begun anew.
    pub(crate) failed: u32,
}

impl Clearing {
    /// Takes the verdict on one of the fills. An error of its own counts more
    /// than that a reset cut another one off.
    pub(crate) fn note(&mut self, verdict: Result<(), Error>) {
        if let Err(error) = verdict
            && self.error != Some(Error::Io)
        {
            self.error = Some(error);
        }
    }
}

/// A buffer object.
#[derive(Debug)]
pub(crate) struct Bo<P> {
    pub(crate) kind: Kind,
    /// Whose account it is booked on.
    pub(crate) owner: Option<ClientId>,
    /// As asked for.
    pub(crate) bytes: u64,
    pub(crate) pages: u64,
    /// `None`: RAM that the GPU reaches by no range of its own (the dummy page).
    pub(crate) resource: Option<Resource>,
    pub(crate) backing: Backing<P>,
    pub(crate) pins: u32,
    pub(crate) contents: Contents,
    /// BOOKKEEP class: the memory may be reused when this fence is done. 0: it may.
    pub(crate) last_use: u64,
    /// Clients' jobs that use it and are not on the ring, or not all of them is.
    pub(crate) queued: u32,
    /// The newest client's job that uses it: whose client, and its number.
    pub(crate) last_job: Option<(ClientId, u64)>,
    /// Destroyed by its user, memory not yet given back.
    pub(crate) zombie: bool,
}

impl<P> Bo<P> {
    /// Pages needed for a size.
    pub(crate) const fn pages_of(bytes: u64) -> u64 {
        bytes.div_ceil(PAGE_SIZE)
    }

    pub(crate) fn new(kind: Kind, bytes: u64, resource: Option<Resource>) -> Self {
        Self {
            kind,
            owner: None,
            bytes,
            pages: Self::pages_of(bytes),
            resource,
            backing: Backing::Empty,
            pins: 0,
            contents: Contents::InPlace,
            last_use: 0,
            queued: 0,
            last_job: None,
            zombie: false,
        }
    }

    /// What its resource takes away from its segment.
    pub(crate) fn booked_bytes(&self) -> u64 {
        self.pages * PAGE_SIZE
    }

    /// In a picture of its segment.
    pub(crate) fn letter(&self) -> char {
        match (self.kind, self.owner) {
            _ if self.zombie => 'z',
            (Kind::Kernel, _) => 'K',
            _ if self.pins > 0 => 'P',
            (Kind::Device, None) => 'a',
            (Kind::Device, Some(client)) => client.letter(),
        }
    }

    pub(crate) fn is_on(&self, bus: Bus) -> bool {
        self.resource.is_some_and(|r| r.segment.bus() == bus)
    }
}

#[derive(Debug)]
struct Slot<P> {
    generation: u32,
    bo: Option<Bo<P>>,
}

/// All BOs by id.
#[derive(Debug)]
pub(crate) struct Arena<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u32>,
    /// Slots that were looked at.
    #[cfg(test)]
    pub(crate) steps: core::sync::atomic::AtomicU64,
}

impl<P> Arena<P> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            #[cfg(test)]
            steps: core::sync::atomic::AtomicU64::new(0),
        }
    }

    /// Books a BO under a new id. When `make` fails, nothing has changed.
    ///
    /// # Errors
    /// [`Error::NoMemory`], or what `make` says.
    pub(crate) fn insert_with(
        &mut self,
        make: impl FnOnce() -> Result<Bo<P>, Error>,
    ) -> Result<BoId, Error> {
        let next = u32::try_from(self.slots.len()).map_err(|_| Error::NoMemory)?;
        self.slots.try_reserve(1)?;
        // Room for every slot, so that giving an id back cannot fail.
        self.free
            .try_reserve(self.slots.len() + 1 - self.free.len())?;
        let bo = make()?;
        let index = self.free.pop().unwrap_or(next);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.bo = Some(bo);
            let generation = slot.generation;
            return Ok(BoId { index, generation });
        }
        self.slots.push(Slot {
            generation: 1,
            bo: Some(bo),
        });
        Ok(BoId {
            index,
            generation: 1,
        })
    }

    pub(crate) fn get(&self, id: BoId) -> Result<&Bo<P>, Error> {
        let slot = self.slots.get(id.index as usize).ok_or(Error::NotFound)?;
        let current = slot
            .bo
            .as_ref()
            .filter(|_| slot.generation == id.generation);
        current.ok_or(Error::NotFound)
    }

    pub(crate) fn get_mut(&mut self, id: BoId) -> Result<&mut Bo<P>, Error> {
        let slot = self
            .slots
            .get_mut(id.index as usize)
            .ok_or(Error::NotFound)?;
        let current = slot
            .bo
            .as_mut()
            .filter(|_| slot.generation == id.generation);
        current.ok_or(Error::NotFound)
    }

    /// Takes a BO out; its id is stale from now on.
    pub(crate) fn remove(&mut self, id: BoId) -> Option<Bo<P>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let bo = slot.bo.take()?;
        // A slot whose generations are used up is retired: no id ever comes back.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id.index);
        }
        Some(bo)
    }

    /// All BOs in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BoId, &Bo<P>)> {
        self.slots_from(0)
    }

    fn slots_from(&self, first: usize) -> impl Iterator<Item = (BoId, &Bo<P>)> {
        let slots = self.slots.iter().enumerate().skip(first);
        slots.filter_map(|(index, slot)| {
            #[cfg(test)]
            self.steps
                .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            let id = BoId {
                index: u32::try_from(index).ok()?,
                generation: slot.generation,
            };
            Some((id, slot.bo.as_ref()?))
        })
    }

    /// The first BO whose slot is `slot` or a later one.
    pub(crate) fn from(&self, slot: usize) -> Option<BoId> {
        self.slots_from(slot).next().map(|(id, _)| id)
    }

    /// At least as many as there are BOs.
    pub(crate) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(arena: &mut Arena<()>) -> BoId {
        let made = arena.insert_with(|| Ok(Bo::new(Kind::Device, 1, None)));
        made.unwrap()
    }

    #[test]
    fn an_id_is_stale_once_its_bo_is_gone_and_never_comes_back() {
        let mut arena = Arena::new();
        let first = insert(&mut arena);
        assert_ne!(first.to_bits(), 0);
        assert_eq!(BoId::from_bits(first.to_bits()), first);
        assert!(arena.remove(first).is_some());
        let second = insert(&mut arena);
        assert_eq!(second.index, first.index, "the slot is reused");
        assert_eq!(arena.get(first).err(), Some(Error::NotFound));
        assert!(arena.get_mut(first).is_err() && arena.remove(first).is_none());
        assert!(arena.get(second).is_ok());
    }

    #[test]
    fn a_slot_without_generations_left_is_retired() {
        let mut arena = Arena::new();
        let mut id = insert(&mut arena);
        arena.slots[0].generation = u32::MAX;
        id.generation = u32::MAX;
        assert!(arena.remove(id).is_some());
        assert!(arena.get(id).is_err());
        assert_eq!(insert(&mut arena).index, 1);
    }

    #[test]
    fn a_bo_that_cannot_be_made_leaves_no_trace() {
        let mut arena: Arena<()> = Arena::new();
        assert_eq!(
            arena.insert_with(|| Err(Error::NoSpace)),
            Err(Error::NoSpace)
        );
        assert_eq!(arena.iter().count(), 0);
    }

    #[test]
    fn any_bits_are_a_safe_id() {
        let mut arena = Arena::new();
        insert(&mut arena);
        for bits in [0, 1, u64::MAX, 2 << 32, 1 << 32 | 7] {
            assert!(arena.get(BoId::from_bits(bits)).is_err(), "{bits:#x}");
        }
    }
}
