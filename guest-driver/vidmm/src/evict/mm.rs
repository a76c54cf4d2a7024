//! The manager's books: buffer objects, where they are, and in which order they
//! have to leave.

use super::lru::{EntryId, Facts, GroupId, Lru, PRIORITIES};
use super::world::{BlockOf, FenceOf, ReservationOf, World};
use crate::Error;
use crate::arena::{Arena, Id};
use crate::bo::Kind;
use crate::bo::page_vector::{Has, PageVector, Shape};
use crate::bo::pool::SmallLock;
use crate::placement::{
    Buddy, BuddyOptions, Freed, Place, Request, Resource, ResourceManager, SegmentId, SystemManager,
};
use crate::platform::{Caching, Patience};
use crate::sync::{Deadline, Primitives};
use alloc::vec::Vec;

/// A fence that a free range may have to wait for (D-9).
pub(super) struct Mark<W: World> {
    pub(super) fence: FenceOf<W>,
    identity: (u64, u64),
}

impl<W: World> Mark<W> {
    pub(super) fn new(world: &W, fence: &FenceOf<W>) -> Self {
        Self {
            fence: fence.clone(),
            identity: world.sync().identity(fence),
        }
    }
}

impl<W: World> Clone for Mark<W> {
    fn clone(&self) -> Self {
        Self {
            fence: self.fence.clone(),
            identity: self.identity,
        }
    }
}

impl<W: World> PartialEq for Mark<W> {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

/// What a buffer object is, for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Who it is for.
    pub kind: Kind,
    /// Its size, not 0.
    pub pages: u64,
    /// As [`Request::align`].
    pub align: u64,
    /// The mode of its pages of RAM. Of the two PCIe types, only the one of
    /// this mode may have it.
    pub caching: Caching,
    /// When it has to leave: 0 first.
    pub priority: usize,
}

impl Info {
    /// The PCIe type that its pages may be in.
    pub const fn pcie(&self) -> SegmentId {
        match self.caching {
            Caching::Cached => SegmentId::PcieSnoop,
            Caching::WriteCombined => SegmentId::PcieUnsnoop,
        }
    }

    pub(super) const fn request(&self) -> Request {
        Request {
            pages: self.pages,
            align: self.align,
            clear: matches!(self.kind, Kind::Device),
            kernel: matches!(self.kind, Kind::Kernel),
            untrimmed: false,
        }
    }

    pub(super) fn shape(&self) -> Result<Shape, Error> {
        Ok(Shape {
            pages: usize::try_from(self.pages).map_err(|_| Error::Invalid)?,
            caching: self.caching,
            low: false,
            mapped: true,
            beneficial_order: 9,
        })
    }
}

/// How an operation may wait, and what it did (8.5).
#[derive(Clone, Debug)]
pub struct Context {
    /// Whether a signal ends a wait.
    pub patience: Patience,
    /// Never waits for the GPU, but says busy.
    pub no_wait: bool,
    /// Of the whole operation (D-17).
    pub deadline: Deadline,
    /// Pages that changed their place: of the buffer, of each stop on the way, of
    /// each victim.
    pub moved_pages: u64,
    /// Buffers that had to leave.
    pub evicted: u64,
}

impl Context {
    /// It may wait until then.
    pub const fn until(deadline: Deadline, patience: Patience) -> Self {
        Self {
            patience,
            no_wait: false,
            deadline,
            moved_pages: 0,
            evicted: 0,
        }
    }
}

/// A buffer object.
pub(super) struct Object<W: World> {
    pub(super) info: Info,
    /// Held to change what follows.
    pub(super) reservation: ReservationOf<W>,
    /// Its own, where `reservation` is shared with others.
    pub(super) own: ReservationOf<W>,
    /// Handles, mappings and whoever works on it.
    pub(super) refs: u32,
    /// The last reference is gone; its memory is not yet.
    pub(super) dying: bool,
    pub(super) pins: u32,
    pub(super) group: Option<GroupId>,
    pub(super) resource: Option<Resource<Mark<W>>>,
    pub(super) vector: Option<PageVector<BlockOf<W>>>,
    pub(super) entry: Option<EntryId>,
}

impl<W: World> Object<W> {
    pub(super) fn segment(&self) -> Option<SegmentId> {
        self.resource.as_ref().map(Resource::segment)
    }

    pub(super) fn has(&self) -> Has {
        self.vector.as_ref().map_or(Has::Nothing, PageVector::has)
    }

    /// What decides on the list that it belongs on.
    fn facts(&self) -> Option<Facts> {
        Some(Facts {
            mem_type: self.segment()? as usize,
            priority: self.info.priority,
            pinned: self.pins > 0,
            swapped: self.has() == Has::Swapped,
            group: self.group,
        })
    }
}

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

/// The memory manager of one GPU.
pub struct Mm<W: World> {
    pub(super) world: W,
    pub(super) state: W::Lock<State<W>>,
}

impl<W: World + 'static> Mm<W> {
    /// A manager of segments of so many pages.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a segment without pages; [`Error::NoMemory`].
    pub fn new(world: W, pages: [u64; 4], options: BuddyOptions) -> Result<Self, Error> {
        let [a, b, c, d] = pages.map(|pages| Buddy::new(pages, options).map(Manager::Pages));
        let state = State {
            objects: Arena::new(),
            managers: [a?, b?, c?, d?, Manager::System(SystemManager::default())],
            lru: Lru::new(),
            last_moves: [const { None }; SegmentId::COUNT],
            dying: Vec::new(),
        };
        let state = world.lock(state);
        Ok(Self { world, state })
    }

    /// The driver.
    pub const fn world(&self) -> &W {
        &self.world
    }

    /// Bytes that are booked in a memory type.
    pub fn usage(&self, segment: SegmentId) -> u64 {
        self.state.with(|state| state.manager(segment).usage())
    }

    /// Whether a buffer is pinned.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn is_pinned(&self, id: Id) -> Result<bool, Error> {
        self.state.with(|state| Ok(state.objects.get(id)?.pins > 0))
    }

    /// Which memory type a buffer is in.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn segment(&self, id: Id) -> Result<Option<SegmentId>, Error> {
        self.state
            .with(|state| Ok(state.objects.get(id)?.segment()))
    }

    /// The reservation of a buffer.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn reservation(&self, id: Id) -> Result<ReservationOf<W>, Error> {
        self.state
            .with(|state| Ok(state.objects.get(id)?.reservation.clone()))
    }

    /// What a buffer is.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn info(&self, id: Id) -> Result<Info, Error> {
        self.state.with(|state| Ok(state.objects.get(id)?.info))
    }

    /// A new object, without a place. One reference is the caller's.
    pub(super) fn new_object(
        &self,
        info: &Info,
        shared: Option<&ReservationOf<W>>,
    ) -> Result<Id, Error> {
        if info.pages == 0 || info.priority >= PRIORITIES {
            return Err(Error::Invalid);
        }
        let own = self.world.sync().new_reservation()?;
        let reservation = shared.unwrap_or(&own).clone();
        self.state.with(|state| {
            state.objects.reserve()?;
            // Whoever lives may die.
            let objects = state.objects.len() + 1;
            let room = objects - state.dying.len();
            state.dying.try_reserve(room)?;
            // Whoever gets a place gets one on a list.
            state.lru.reserve(objects)?;
            Ok(state.objects.insert(Object {
                info: *info,
                reservation,
                own,
                refs: 1,
                dying: false,
                pins: 0,
                group: None,
                resource: None,
                vector: None,
                entry: None,
            }))
        })
    }

    /// Takes resource and pages out of an object, to work on them. Its reservation
    /// is held, so that nobody misses them.
    pub(super) fn take(&self, id: Id) -> Result<Parts<W>, Error> {
        self.state.with(|state| {
            let object = state.objects.get_mut(id)?;
            Ok(Parts {
                info: object.info,
                resource: object.resource.take(),
                vector: object.vector.take(),
            })
        })
    }

    /// Puts them back, or others in their place, and the object where it belongs.
    pub(super) fn put(&self, id: Id, parts: Parts<W>) -> Result<(), Error> {
        self.state.with(|state| {
            let object = state.objects.get_mut(id)?;
            object.resource = parts.resource;
            object.vector = parts.vector;
            state.relink(id)
        })
    }

    /// Looks at the page vector of an object whose reservation is held.
    pub(super) fn with_vector<R>(
        &self,
        id: Id,
        f: impl FnOnce(&mut Parts<W>) -> R,
    ) -> Result<R, Error> {
        let mut parts = self.take(id)?;
        let result = f(&mut parts);
        self.put(id, parts)?;
        Ok(result)
    }
}

/// The last of the fences that a range has to wait for. They are of one context, and
/// end in order.
pub(super) fn latest<W: World>(resource: &Resource<Mark<W>>) -> Option<Mark<W>> {
    let fences = resource.booking().fences().iter();
    fences.max_by_key(|mark| mark.identity.1).cloned()
}

/// What makes an object's memory.
pub(super) struct Parts<W: World> {
    pub(super) info: Info,
    pub(super) resource: Option<Resource<Mark<W>>>,
    pub(super) vector: Option<PageVector<BlockOf<W>>>,
}
