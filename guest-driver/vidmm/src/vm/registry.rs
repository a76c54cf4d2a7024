//! The books of all address spaces: which there are, and who maps which buffer.

use super::address_space::{AddressSpace, SpaceMemory};
use super::tree::Tree;
use crate::Error;
use crate::arena::{Arena, Id};
use crate::evict::lru::GroupId;
use crate::evict::{ReservationOf, World};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Names an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(Id);

/// An address space, and the reservation of all that is its own. Who changes
/// what is mapped holds it.
pub(super) struct Shared<W: World, M: SpaceMemory> {
    pub(super) reservation: ReservationOf<W>,
    /// Buffers of its own: they were used when it had a job last.
    pub(super) group: GroupId,
    pub(super) books: W::Lock<AddressSpace<M>>,
}

/// A space, and the number of its last job once that was asked for.
type Dated<W, M> = (u64, Arc<Shared<W, M>>);

/// What a [`Spaces`](super::Spaces) has under its lock.
///
/// # Invariants
/// `users` has a buffer and a space as long as the space's own books have the buffer.
/// Both change under the space's lock, under which this one is taken.
pub struct Registry<W: World, M: SpaceMemory> {
    spaces: Arena<Arc<Shared<W, M>>>,
    /// Which space maps which buffer: (buffer, space).
    users: Tree<(Id, SpaceId), ()>,
    /// Jobs that were prepared so far.
    jobs: u64,
}

impl<W: World, M: SpaceMemory> Registry<W, M> {
    pub(super) const fn new() -> Self {
        Self {
            spaces: Arena::new(),
            users: Tree::new(),
            jobs: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.spaces.len()
    }

    pub(super) fn insert(&mut self, space: Arc<Shared<W, M>>) -> Result<SpaceId, Error> {
        self.spaces.reserve()?;
        Ok(SpaceId(self.spaces.insert(space)))
    }

    pub(super) fn remove(&mut self, space: SpaceId) -> Option<Arc<Shared<W, M>>> {
        self.spaces.remove(space.0)
    }

    pub(super) fn get(&self, space: SpaceId) -> Result<Arc<Shared<W, M>>, Error> {
        self.spaces.get(space.0).cloned()
    }

    /// The first space, or the next one behind another, which may be gone.
    pub(super) fn next(&self, behind: Option<SpaceId>) -> Option<SpaceId> {
        let slot = behind.map_or(0, |SpaceId(id)| id.next_slot());
        self.spaces.from(slot).map(SpaceId)
    }

    /// All spaces but one, none of which was asked yet.
    pub(super) fn others(&self, space: SpaceId) -> Result<Vec<Dated<W, M>>, Error> {
        let mut others = Vec::new();
        others.try_reserve(self.spaces.len())?;
        let all = self.spaces.iter().filter(|(id, _)| *id != space.0);
        others.extend(all.map(|(_, other)| (0, Arc::clone(other))));
        Ok(others)
    }

    /// The number of a job that is being prepared: jobs are counted.
    pub(super) const fn next_job(&mut self) -> u64 {
        self.jobs += 1;
        self.jobs
    }

    /// The next space that maps a buffer, above one.
    pub(super) fn user(&self, bo: Id, above: Option<SpaceId>) -> Option<SpaceId> {
        let next = match above {
            None => self.users.at_or_above((bo, SpaceId(Id::from_bits(0)))),
            Some(above) => self.users.above((bo, above)),
        };
        let ((next, space), ()) = next?;
        (next == bo).then_some(space)
    }

    /// A space begins to map a buffer.
    pub(super) fn enter(&mut self, bo: Id, space: SpaceId) -> Result<(), Error> {
        self.users.reserve(1)?;
        self.users.insert((bo, space), ());
        Ok(())
    }

    /// A space maps nothing of a buffer any more.
    pub(super) fn exit(&mut self, bo: Id, space: SpaceId) {
        self.users.remove((bo, space));
    }
}
