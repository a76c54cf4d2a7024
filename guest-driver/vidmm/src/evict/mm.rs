//! The memory manager: what it is made of, and what it says of a buffer.

use super::budget::{Balance, Budget, OwnerId};
use super::cause::{Cause, Step};
use super::fault::Ahead;
use super::lru::PRIORITIES;
use super::object::{Contents, Info, Object, Parts};
use super::options::Options;
use super::state::State;
use super::world::{FenceOf, ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::placement::{SegmentId, leads_back};
use crate::platform::Patience;
use crate::sync::{Deadline, Primitives};
use e3k_regs::PAGE_SIZE;

/// How an operation may wait, and what it did (8.5).
///
/// ```
/// use vidmm::{Patience, evict::Context, sync::Deadline};
/// let now = 5_000_000;
/// let mut context = Context::until(Deadline(now + 1_000_000_000), Patience::UntilSignal);
/// // Of a caller that others wait for: what is not there at once is busy.
/// context.no_wait = true;
/// assert_eq!((context.moved_pages, context.evicted, context.cause), (0, 0, None));
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    /// Whether a signal ends a wait.
    pub patience: Patience,
    /// Never waits for the GPU, but says busy.
    pub no_wait: bool,
    /// Of the whole operation (D-17).
    pub deadline: Deadline,
    /// Pages that changed their place: of the buffer, of each stop on the way, of
    /// each victim (R-8.8).
    pub moved_pages: u64,
    /// Buffers that had to leave.
    pub evicted: u64,
    /// After an error of [`Mm::create`], [`Mm::validate`], [`Mm::make_resident`],
    /// [`Mm::evict_all`], [`Mm::swap_out`], [`Mm::map_kernel`], or [`Mm::fault`] and its
    /// like: what stood in the way first when it was tried last. `None` where nothing did,
    /// but the call was wrong or the contents were lost.
    pub cause: Option<Cause>,
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
            cause: None,
        }
    }

    /// Notes at which step with which buffer an error came, unless there was one before.
    pub(super) fn blame(&mut self, bo: Id, step: Step) {
        self.cause.get_or_insert(Cause { bo, step });
    }
}

/// The memory manager of one GPU.
///
/// It needs a [`World`]; [`crate::OnChip`] is one. What it does on the model is shown by
/// the programs in `tests/examples` and by the example of `presil_tests::manager::Managed`.
pub struct Mm<W: World> {
    pub(super) world: W,
    pub(super) options: Options,
    pub(super) state: W::Lock<State<W>>,
}

impl<W: World + 'static> Mm<W> {
    /// A manager of segments of so many pages.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a segment without pages; [`Error::NoMemory`].
    pub fn new(world: W, pages: [u64; 4], options: Options) -> Result<Self, Error> {
        Self::make(world, pages, options).map_err(|(_, error)| error)
    }

    /// As [`Self::new`], and gives the driver back if there is no manager.
    pub(crate) fn make(world: W, pages: [u64; 4], options: Options) -> Result<Self, (W, Error)> {
        if leads_back(SegmentId::evict_to).is_some() {
            return Err((world, Error::Invalid));
        }
        let state = match State::new(pages, &options) {
            Ok(state) => world.lock(state),
            Err(error) => return Err((world, error)),
        };
        let mm = Self {
            world,
            options,
            state,
        };
        if let Some(pages) = options.ram_pages {
            mm.limit_ram(pages);
        }
        Ok(mm)
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

    /// Whether a buffer was made with a reservation of others, so that it is of use only
    /// to who has that one.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn is_private(&self, id: Id) -> Result<bool, Error> {
        self.state.with(|state| {
            let object = state.objects.get(id)?;
            Ok(!self.world.sync().same(&object.reservation, &object.own))
        })
    }

    /// An account for a client. It may book the part of each segment that
    /// [`Options::client_percent`] says, until its budgets say otherwise.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn open_account(&self) -> Result<OwnerId, Error> {
        self.state.with(|state| {
            let mut limits = [u64::MAX; SegmentId::COUNT];
            for segment in SegmentId::ALL {
                let percent = u64::from(self.options.client_percent.min(100));
                let pages = state.manager(segment).capacity() / PAGE_SIZE;
                limits[segment as usize] = pages * percent / 100 * PAGE_SIZE;
            }
            state.accounts.open(limits)
        })
    }

    /// A client is gone: nothing is promised to it any more. What its buffers hold
    /// stays booked on the account, which goes with the last of them.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn close_account(&self, owner: OwnerId) -> Result<(), Error> {
        self.state.with(|state| {
            state.accounts.close(owner)?;
            for segment in SegmentId::TYPES {
                state.change(segment);
            }
            Ok(())
        })
    }

    /// Says what a client is promised and allowed of a memory type. What it has booked
    /// beyond a new limit stays.
    ///
    /// # Errors
    /// [`Error::Limit`] if all clients together were promised more than there is: with
    /// the memory type's capacity, and what the others were promised.
    /// [`Error::Invalid`] for a promise beyond the limit; [`Error::NotFound`].
    pub fn set_budget(
        &self,
        owner: OwnerId,
        segment: SegmentId,
        budget: Budget,
    ) -> Result<(), Error> {
        self.state.with(|state| {
            let capacity = state.manager(segment).capacity();
            state
                .accounts
                .set_budget(owner, segment, budget, capacity)?;
            state.change(segment);
            Ok(())
        })
    }

    /// What a client has booked of a memory type, and what it may.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn balance(&self, owner: OwnerId, segment: SegmentId) -> Result<Balance, Error> {
        self.state
            .with(|state| state.accounts.balance(owner, segment))
    }

    /// Looks whether a buffer's contents were lost.
    ///
    /// # Errors
    /// [`Error::Lost`] if they were; [`Error::NotFound`].
    pub(super) fn contents(&self, id: Id) -> Result<(), Error> {
        self.state.with(|state| state.contents(&self.world, id))
    }

    /// What a buffer's contents come with, if they are on their way.
    pub(crate) fn coming(&self, id: Id) -> Option<FenceOf<W>> {
        self.state.with(|state| {
            state.contents(&self.world, id).ok()?;
            match &state.objects.get(id).ok()?.contents {
                Contents::Coming(fence) => Some(fence.clone()),
                _ => None,
            }
        })
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
            let coming = (2 * objects).saturating_sub(state.arriving.len());
            state.arriving.try_reserve(coming)?;
            // Whoever gets a place gets one on a list.
            state.lru.reserve(objects)?;
            state.accounts.enroll(info.owner)?;
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
                reserve: None,
                contents: Contents::InPlace,
                entry: None,
                ahead: Ahead::default(),
                cpu_use: 0,
                best: None,
                left: None,
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

    /// Puts them back, or others in their place, and the object where it belongs; to
    /// the tail of its list if it has `moved`.
    pub(super) fn put(&self, id: Id, parts: Parts<W>, moved: bool) -> Result<(), Error> {
        self.state.with(|state| {
            let mut resource = parts.resource;
            if let Some(room) = &mut resource {
                state.arrive(room);
            }
            let object = state.objects.get_mut(id)?;
            object.resource = resource;
            object.vector = parts.vector;
            if let Some(room) = object.resource.as_mut().filter(|_| object.dying) {
                state.accounts.bury(room);
            }
            if moved {
                state.relink(id)
            } else {
                state.settle(id)
            }
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
        self.put(id, parts, false)?;
        Ok(result)
    }
}
