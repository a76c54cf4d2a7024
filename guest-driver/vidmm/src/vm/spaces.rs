//! All address spaces of a GPU, and who maps which buffer.

use super::address_space::{AddressSpace, SpaceMemory};
use super::space::Mapping;
use super::tree::Tree;
use crate::Error;
use crate::arena::{Arena, Id};
use crate::bo::pool::SmallLock;
use crate::evict::lru::GroupId;
use crate::evict::{Context, Info, Mm, ReservationOf, World};
use crate::placement::Place;
use crate::platform::Patience;
use crate::sync::{Caller, LockSet, Primitives, Usage};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

/// Names an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(Id);

/// An address space, and the reservation of all that is its own. Who changes
/// what is mapped holds it.
struct Shared<W: World, M: SpaceMemory> {
    reservation: ReservationOf<W>,
    /// Buffers of its own: they were used when it had a job last.
    group: GroupId,
    books: W::Lock<AddressSpace<M>>,
}

/// What a [`Spaces`] has under its lock.
pub struct Registry<W: World, M: SpaceMemory> {
    spaces: Arena<Arc<Shared<W, M>>>,
    /// Which space maps which buffer: (buffer, space).
    users: Tree<(Id, SpaceId), ()>,
    /// Jobs that were prepared so far.
    jobs: u64,
}

/// The address spaces of a GPU's processes (section 19). A [`World`] that has them
/// answers [`World::is_mapped`] and [`World::unmap_gpu`] with [`Self::is_mapped`] and
/// [`Self::leave`].
///
/// Nobody waits under its locks. Under a space's, those of the registry and of where its
/// tables are may be taken, and none under these.
///
/// # Invariants
/// Whom a space maps is in the registry from before its first entry is written until
/// after the TLBs have forgotten its last one.
pub struct Spaces<W: World, M: SpaceMemory> {
    registry: W::Lock<Registry<W, M>>,
}

impl<W: World + 'static, M: SpaceMemory> Spaces<W, M> {
    /// None yet. `lock` puts a value under a lock, as [`World::lock`] does.
    pub fn new(lock: impl FnOnce(Registry<W, M>) -> W::Lock<Registry<W, M>>) -> Self {
        let registry = lock(Registry {
            spaces: Arena::new(),
            users: Tree::new(),
            jobs: 0,
        });
        Self { registry }
    }

    /// A new address space without mappings: its addresses, those of them that are the
    /// driver's own, and where its tables are.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range that is not whole L1 registers;
    /// [`Error::NoMemory`].
    pub fn create(
        &self,
        mm: &Mm<W>,
        range: Range<u64>,
        reserved: Option<Range<u64>>,
        memory: M,
    ) -> Result<SpaceId, Error> {
        let world = mm.world();
        let books = world.lock(AddressSpace::new(range, reserved, memory)?);
        let reservation = world.sync().new_reservation()?;
        let group = mm.new_group(&reservation)?;
        let space = Arc::new(Shared {
            reservation,
            group,
            books,
        });
        let created = self.registry.with(|registry| {
            registry.spaces.reserve()?;
            Ok(SpaceId(registry.spaces.insert(space)))
        });
        created.inspect_err(|_| mm.retire_group(group))
    }

    /// A new buffer of a space's own, as [`Mm::create`] makes it: it has the space's
    /// reservation, which the set holds afterwards, and counts as used with each of its
    /// jobs. No other space can map it, not even when this one is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of [`Mm::create`].
    pub fn create_private(
        &self,
        mm: &Mm<W>,
        set: &mut LockSet<'_, W::Sync>,
        space: SpaceId,
        info: &Info,
        placement: &[Place],
        ctx: &mut Context,
    ) -> Result<Id, Error> {
        let shared = self.get(space)?;
        set.lock(&shared.reservation, 1)?;
        if shared.books.with(|books| books.is_closed()) {
            return Err(Error::NotFound);
        }
        let bo = mm.create(set, info, Some(&shared.reservation), placement, ctx)?;
        let joined = mm.join(set, bo, Some(shared.group));
        joined.map(|()| bo).inspect_err(|_| {
            let _ = mm.release(bo);
        })
    }

    /// The group of the buffers of a space's own: what a job of it [uses](crate::evict::Used)
    /// beside its [externals](Self::externals).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn group(&self, space: SpaceId) -> Result<GroupId, Error> {
        Ok(self.get(space)?.group)
    }

    /// Puts a mapping where whatever else may be, as [`super::Space::map`] does. The
    /// address space keeps the buffer alive from now on. A buffer that the GPU
    /// reaches where it is, it reaches through the mapping when this returns, if there
    /// are tables left for it; any other with the next job.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range that cannot be, or beyond the buffer's end, and for
    /// a buffer that is private to another space; [`Error::NotFound`];
    /// [`Error::Limit`] where the space may have no more tables; [`Error::NoMemory`];
    /// [`Error::Interrupted`]: nothing has changed. [`Error::Lost`], [`Error::Io`]: the
    /// mapping is there, and the GPU is told with the next change.
    pub fn map(
        &self,
        mm: &Mm<W>,
        caller: &mut Caller<'_, W::Sync>,
        space: SpaceId,
        new: Mapping<Id, M::Flags>,
        patience: Patience,
    ) -> Result<(), Error> {
        let shared = self.get(space)?;
        let Some((bo, offset)) = new.object else {
            let mapped = Self::alone(&shared, caller, patience, |books| {
                books.map::<crate::evict::BlockOf<W>>(new, false, None, || Ok(()))
            });
            self.let_go(mm, caller, space, &shared);
            return mapped;
        };
        let end = offset.checked_add(new.bytes).ok_or(Error::Invalid)?;
        mm.hold(bo)?;
        let mut entered = false;
        let mapped = Self::begin(caller, patience, |set| {
            set.lock(&shared.reservation, 0)?;
            let reservation = mm.reservation(bo)?;
            set.lock(&reservation, 0)?;
            if end > mm.info(bo)?.pages.saturating_mul(PAGE_SIZE) {
                return Err(Error::Invalid);
            }
            let external = !mm.world().sync().same(&reservation, &shared.reservation);
            if external && mm.is_private(bo)? {
                return Err(Error::Invalid);
            }
            // What is there before its contents are is somebody else's, and a job of this
            // space may be on its way.
            let in_place = set
                .get(&reservation)
                .is_some_and(|held| held.is_idle(Usage::Kernel));
            mm.with_place(set, bo, |side| {
                let side = side.filter(|_| in_place);
                shared.books.with(|books| {
                    books.map(new, external, side, || {
                        self.enter(bo, space)?;
                        entered = true;
                        Ok(())
                    })
                })
            })?
        });
        if !entered {
            // It has a reference already, or needs none.
            let _ = mm.release(bo);
        }
        self.let_go(mm, caller, space, &shared);
        mapped
    }

    /// Empties a range, as [`super::Space::unmap`] does. What was there is out of the
    /// GPU's reach when this returns, also for jobs that are running.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn unmap(
        &self,
        mm: &Mm<W>,
        caller: &mut Caller<'_, W::Sync>,
        space: SpaceId,
        at: GpuVa,
        bytes: u64,
        patience: Patience,
    ) -> Result<(), Error> {
        let shared = self.get(space)?;
        let unmapped = Self::alone(&shared, caller, patience, |books| books.unmap(at, bytes));
        self.let_go(mm, caller, space, &shared);
        unmapped
    }

    /// Makes everything that is mapped ready for a job: all is held by the set
    /// afterwards, with room for the job's fence, resident, and mapped. The job begins when
    /// the kernel's fences in these reservations have ended. `place` finds a
    /// place for a buffer, by [`Mm::validate`]. To be called in a run of the set, which
    /// is then [committed](LockSet::commit) with the fence.
    ///
    /// # Errors
    /// Those of `place`, [`Mm::make_resident`] and [`Self::map`]; [`Error::Busy`] where
    /// other spaces have all tables and need them longer than this may wait. What was
    /// made ready stays so.
    pub fn prepare(
        &self,
        mm: &Mm<W>,
        set: &mut LockSet<'_, W::Sync>,
        space: SpaceId,
        ctx: &mut Context,
        mut place: impl FnMut(&mut LockSet<'_, W::Sync>, Id, &mut Context) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let shared = self.get(space)?;
        set.lock(&shared.reservation, 1)?;
        let mut above = None;
        while let Some(bo) = shared.books.with(|books| books.external(above)) {
            set.lock(&mm.reservation(bo)?, 1)?;
            above = Some(bo);
        }
        if shared.books.with(|books| books.is_closed()) {
            return Err(Error::NotFound);
        }
        let job = self.registry.with(|registry| {
            registry.jobs += 1;
            registry.jobs
        });
        shared.books.with(|books| books.set_used(job));
        while let Some(bo) = shared.books.with(|books| books.stale()) {
            place(set, bo, ctx)?;
            mm.make_resident(set, bo, ctx)?;
            // An earlier job of this space would see what is there before the contents are.
            let alone = set
                .get(&shared.reservation)
                .is_some_and(|held| held.is_idle(Usage::Bookkeep));
            if !alone {
                let held = set.get(&mm.reservation(bo)?).ok_or(Error::Invalid)?;
                mm.idle(held, Usage::Kernel, ctx)?;
            }
            let freshened = mm.with_place(set, bo, |side| {
                let side = side.ok_or(Error::Invalid)?;
                shared.books.with(|books| books.freshen(bo, side))
            })?;
            match freshened {
                Err(Error::NoSpace) => self.take_tables(mm, set, space, ctx)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Has another space give its tables back: the one whose last job is the
    /// longest ago, of those that have none on their way if there are such.
    ///
    /// # Errors
    /// [`Error::NoMemory`] if no other has tables; [`Error::Busy`] if those that do need
    /// them longer than this may wait; others of [`LockSet::victim`]; [`Error::Lost`],
    /// [`Error::Io`].
    fn take_tables(
        &self,
        mm: &Mm<W>,
        set: &mut LockSet<'_, W::Sync>,
        space: SpaceId,
        ctx: &Context,
    ) -> Result<(), Error> {
        let mut others = Vec::new();
        self.registry.with(|registry| {
            others.try_reserve(registry.spaces.len())?;
            let all = registry.spaces.iter().filter(|(id, _)| *id != space.0);
            others.extend(all.map(|(_, other)| (0, Arc::clone(other))));
            Ok::<_, Error>(())
        })?;
        others.retain_mut(|(used, other)| {
            let (has_tables, last) = other.books.with(|books| books.use_of_tables());
            *used = last;
            has_tables
        });
        others.sort_unstable_by_key(|(used, _)| *used);
        for waits in [false, true] {
            for (_, other) in others.iter().filter(|_| !waits || !ctx.no_wait) {
                let mut victim = match set.victim(&other.reservation, waits) {
                    Err(Error::Busy | Error::Already) => continue,
                    victim => victim?,
                };
                let held = victim.locked().ok_or(Error::Deadlock)?;
                if waits {
                    mm.idle(held, Usage::Bookkeep, ctx)?;
                }
                if held.is_idle(Usage::Bookkeep) {
                    return other.books.with(AddressSpace::give_tables);
                }
            }
        }
        Err(if others.is_empty() {
            Error::NoMemory
        } else {
            Error::Busy
        })
    }

    /// The buffers with a reservation of their own that a space maps, in no order: what
    /// a job of it [uses](crate::evict::Used), beside those that share the space's.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NoMemory`].
    pub fn externals(&self, space: SpaceId) -> Result<Vec<Id>, Error> {
        let shared = self.get(space)?;
        let mut all = Vec::new();
        while let Some(bo) = shared
            .books
            .with(|books| books.external(all.last().copied()))
        {
            all.try_reserve(1)?;
            all.push(bo);
        }
        Ok(all)
    }

    /// Looks at the L2 tables that the space's L1 registers must point at, by number, and
    /// at where its tables are. No table comes or goes meanwhile.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn with_tables<R>(
        &self,
        space: SpaceId,
        look: impl FnOnce(&dyn Fn(u64) -> Option<VramOffset>, &M) -> R,
    ) -> Result<R, Error> {
        let shared = self.get(space)?;
        Ok(shared
            .books
            .with(|books| look(&|index| books.l1(index), books.memory())))
    }

    /// Destroys an address space: waits until its jobs have ended, unmaps everything
    /// and gives the tables back.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Busy`] when jobs do not end in time,
    /// [`Error::Interrupted`], [`Error::Lost`], [`Error::Io`]: it is still there.
    pub fn destroy(
        &self,
        mm: &Mm<W>,
        caller: &mut Caller<'_, W::Sync>,
        space: SpaceId,
        ctx: &Context,
    ) -> Result<(), Error> {
        let shared = self.get(space)?;
        let cleared = Self::begin(caller, ctx.patience, |set| {
            set.until(ctx.deadline);
            let held = set.lock(&shared.reservation, 0)?;
            if ctx.no_wait && !held.is_idle(Usage::Bookkeep) {
                return Err(Error::Busy);
            }
            // Of a GPU that is lost, too: its jobs have ended (D-17).
            let idle = held.wait_idle(Usage::Bookkeep, ctx.patience, ctx.deadline);
            idle.map_err(|error| match error {
                Error::TimedOut => Error::Busy,
                other => other,
            })?;
            shared.books.with(AddressSpace::clear)
        });
        self.let_go(mm, caller, space, &shared);
        cleared?;
        let gone = self
            .registry
            .with(|registry| registry.spaces.remove(space.0));
        drop(gone);
        // Who has a handle of one of its buffers keeps it.
        mm.retire_group(shared.group);
        Ok(())
    }

    /// Whether a space maps a buffer.
    pub fn is_mapped(&self, bo: Id) -> bool {
        self.user(bo, None).is_some()
    }

    /// A buffer is about to leave its place, and no job uses it: no space leads to it
    /// any more when this returns.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Io`]: the GPU may still reach it.
    pub fn leave(&self, bo: Id) -> Result<(), Error> {
        let mut above = None;
        while let Some(space) = self.user(bo, above) {
            // One that is gone meanwhile leads nowhere.
            if let Ok(shared) = self.get(space) {
                shared.books.with(|books| books.leave(bo))?;
            }
            above = Some(space);
        }
        Ok(())
    }

    /// No space leads anywhere any more when this returns, and none has tables, until the
    /// next job of each: before or after tables are lost. There are no jobs.
    ///
    /// # Errors
    /// As [`Self::leave`].
    pub fn leave_all(&self) -> Result<(), Error> {
        let mut slot = 0;
        let next = |slot| self.registry.with(|registry| registry.spaces.from(slot));
        while let Some(id) = next(slot) {
            slot = id.next_slot();
            // One that is gone meanwhile leads nowhere.
            if let Ok(shared) = self.get(SpaceId(id)) {
                shared.books.with(AddressSpace::give_tables)?;
            }
        }
        Ok(())
    }

    /// One of them, if there is one.
    pub fn first(&self) -> Option<SpaceId> {
        self.registry
            .with(|registry| registry.spaces.iter().next().map(|(id, _)| SpaceId(id)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.registry.with(|registry| registry.spaces.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at the mappings of a space, and at where its tables are.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn look<R>(
        &self,
        space: SpaceId,
        look: impl FnOnce(&super::Space<Id, M::Flags>, &M) -> R,
    ) -> Result<R, Error> {
        let shared = self.get(space)?;
        Ok(shared
            .books
            .with(|books| look(books.space(), books.memory())))
    }

    fn get(&self, space: SpaceId) -> Result<Arc<Shared<W, M>>, Error> {
        self.registry
            .with(|registry| registry.spaces.get(space.0).cloned())
    }

    /// The next space that maps a buffer, above one.
    fn user(&self, bo: Id, above: Option<SpaceId>) -> Option<SpaceId> {
        self.registry.with(|registry| {
            let next = match above {
                None => registry.users.at_or_above((bo, SpaceId(Id::from_bits(0)))),
                Some(above) => registry.users.above((bo, above)),
            };
            let ((next, space), ()) = next?;
            (next == bo).then_some(space)
        })
    }

    fn enter(&self, bo: Id, space: SpaceId) -> Result<(), Error> {
        self.registry.with(|registry| {
            registry.users.reserve(1)?;
            registry.users.insert((bo, space), ());
            Ok(())
        })
    }

    /// Gives back the references on buffers of which a space maps nothing any more.
    fn let_go(
        &self,
        mm: &Mm<W>,
        caller: &mut Caller<'_, W::Sync>,
        space: SpaceId,
        shared: &Shared<W, M>,
    ) {
        let leaves = |bo| {
            self.registry
                .with(|registry| registry.users.remove((bo, space)));
        };
        loop {
            // Nobody prepares a job meanwhile.
            let Ok(held) = caller.lock(&shared.reservation, Patience::Patient) else {
                return;
            };
            let unused = shared.books.with(|books| books.take_unused(leaves));
            drop(held);
            let Some(bo) = unused else {
                return;
            };
            // It was held until now.
            let _ = mm.release(bo);
        }
    }

    /// A change of a space that touches no buffer.
    fn alone<R>(
        shared: &Shared<W, M>,
        caller: &mut Caller<'_, W::Sync>,
        patience: Patience,
        change: impl FnOnce(&mut AddressSpace<M>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let _held = caller.lock(&shared.reservation, patience)?;
        shared.books.with(change)
    }

    fn begin<R>(
        caller: &mut Caller<'_, W::Sync>,
        patience: Patience,
        attempt: impl FnMut(&mut LockSet<'_, W::Sync>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        caller.transaction(patience)?.run(attempt)
    }
}
