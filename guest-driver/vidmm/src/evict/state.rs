//! What lies under the lock: all objects, the managers of the memory types, the
//! order in which buffers have to leave.

use super::lru::Lru;
use super::object::{Mark, Object, latest};
use super::world::World;
use crate::Error;
use crate::arena::{Arena, Id};
use crate::placement::{
    Buddy, BuddyOptions, Freed, Place, Request, Resource, ResourceManager, SegmentId, SystemManager,
};
use crate::sync::Primitives;
use alloc::vec::Vec;

/// The manager of one memory type.
#[expect(clippy::large_enum_variant, reason = "there are five of them")]
enum Manager<F> {
    Pages(Buddy<F>),
    System(SystemManager),
}

impl<F: Clone + PartialEq + 'static> Manager<F> {
    fn any(&self) -> &dyn ResourceManager<F> {
        match self {
            Self::Pages(buddy) => buddy,
            Self::System(system) => system,
        }
    }

    fn any_mut(&mut self) -> &mut dyn ResourceManager<F> {
        match self {
            Self::Pages(buddy) => buddy,
            Self::System(system) => system,
        }
    }
}

/// What lies under the lock.
///
/// # Invariants
/// An object with a resource has an entry in `lru`, on the list that its facts say;
/// one without has none.
pub struct State<W: World> {
    pub(super) objects: Arena<Object<W>>,
    managers: [Manager<Mark<W>>; SegmentId::COUNT],
    pub(super) lru: Lru<Id, { SegmentId::COUNT }>,
    /// The newest fence behind which a range of each type became free.
    last_moves: [Option<Mark<W>>; SegmentId::COUNT],
    /// Objects that wait for their fences to be freed; room for all there are.
    pub(super) dying: Vec<Id>,
}

impl<W: World + 'static> State<W> {
    /// Empty segments of so many pages.
    ///
    /// # Errors
    /// As [`Buddy::new`].
    pub(super) fn new(pages: [u64; 4], options: BuddyOptions) -> Result<Self, Error> {
        let [a, b, c, d] = pages.map(|pages| Buddy::new(pages, options).map(Manager::Pages));
        Ok(Self {
            objects: Arena::new(),
            managers: [a?, b?, c?, d?, Manager::System(SystemManager::default())],
            lru: Lru::new(),
            last_moves: [const { None }; SegmentId::COUNT],
            dying: Vec::new(),
        })
    }

    pub(super) fn manager(&self, segment: SegmentId) -> &dyn ResourceManager<Mark<W>> {
        self.managers[segment as usize].any()
    }

    /// Puts an object where it belongs now, at the tail, after its resource or any of
    /// its facts has changed. The entry exists already where there was a resource.
    pub(super) fn relink(&mut self, id: Id) -> Result<(), Error> {
        let object = self.objects.get(id)?;
        match (object.entry, object.facts()) {
            (None, None) => Ok(()),
            (Some(entry), Some(facts)) => self.lru.relink(entry, facts),
            (None, Some(facts)) => {
                let entry = self.lru.insert(id, facts)?;
                self.objects.get_mut(id)?.entry = Some(entry);
                Ok(())
            }
            (Some(entry), None) => {
                self.lru.remove(entry)?;
                self.objects.get_mut(id)?.entry = None;
                Ok(())
            }
        }
    }

    /// Gives a range back, for others after the fence.
    pub(super) fn free(&mut self, resource: Resource<Mark<W>>, fence: Option<Mark<W>>) {
        if let Some(mark) = &fence {
            let last = &mut self.last_moves[resource.segment() as usize];
            let newer = last
                .as_ref()
                .is_none_or(|last| last.identity < mark.identity);
            if newer {
                *last = Some(mark.clone());
            }
        }
        let freed = Freed {
            cleared: false,
            fence,
        };
        let manager = &mut self.managers[resource.segment() as usize];
        manager.any_mut().free(resource, freed);
    }

    /// See [`Self::last_moves`].
    pub(super) const fn last_move(&self, segment: SegmentId) -> Option<&Mark<W>> {
        self.last_moves[segment as usize].as_ref()
    }

    /// Gives back a range that was booked and not used: whoever had it before may
    /// still work on it.
    pub(super) fn unbook(&mut self, resource: Resource<Mark<W>>) {
        let fence = latest(&resource);
        self.free(resource, fence);
    }

    /// Books a range; ranges whose fences have ended count as free.
    pub(super) fn book(
        &mut self,
        world: &W,
        request: &Request,
        place: &Place,
    ) -> Result<Resource<Mark<W>>, Error> {
        let manager = &mut self.managers[place.segment as usize];
        if let Manager::Pages(buddy) = manager {
            buddy.retire(|mark| world.sync().result(&mark.fence).is_some());
        }
        manager.any_mut().alloc(request, place)
    }
}
