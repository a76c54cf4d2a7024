//! The memory manager: what it is made of, and what it says of a buffer.

use super::lru::PRIORITIES;
use super::object::{Info, Object, Parts};
use super::state::State;
use super::world::{ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::placement::{BuddyOptions, SegmentId};
use crate::platform::Patience;
use crate::sync::{Deadline, Primitives};

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
        let state = world.lock(State::new(pages, options)?);
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
