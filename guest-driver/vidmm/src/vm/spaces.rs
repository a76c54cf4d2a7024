//! All address spaces of a GPU, and who maps which buffer.

use super::address_space::{AddressSpace, SpaceMemory};
use super::registry::{Registry, Shared, SpaceId};
use super::space::Mapping;
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::{Context, Info, Mm, World};
use crate::placement::Place;
use crate::platform::Patience;
use crate::sync::{Caller, LockSet, Primitives, Usage};
use alloc::sync::Arc;
use core::ops::Range;
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

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
    pub(super) registry: W::Lock<Registry<W, M>>,
}

impl<W: World + 'static, M: SpaceMemory> Spaces<W, M> {
    /// None yet. `lock` puts a value under a lock, as [`World::lock`] does.
    pub fn new(lock: impl FnOnce(Registry<W, M>) -> W::Lock<Registry<W, M>>) -> Self {
        let registry = lock(Registry::new());
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
        let created = self.registry.with(|registry| registry.insert(space));
        created.inspect_err(|_| mm.retire_group(group))
    }

    /// A new buffer of a space's own, as [`Mm::create`] makes it: it has the space's
    /// reservation, which the set holds afterwards, and counts as used with each of its
    /// jobs. No other space can map it, not even when this one is gone. As there, what is
    /// cleared for it counts for nobody.
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
        set.until(ctx.deadline);
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

    /// Puts a mapping where whatever else may be, as [`super::Space::map`] does. The
    /// address space keeps the buffer alive from now on. A buffer that the GPU
    /// reaches where it is, it reaches through the mapping when this returns, if there
    /// are tables left for it; any other with the next job.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range that cannot be, or beyond the buffer's end, and for
    /// a buffer that is private to another space; [`Error::NotFound`];
    /// [`Error::Limit`] where the space may have no more tables; [`Error::NoMemory`];
    /// [`Error::Busy`] when somebody had the space or the buffer locked until the deadline;
    /// [`Error::Interrupted`]: nothing has changed. [`Error::Lost`], [`Error::Io`]: the
    /// mapping is there, and the GPU is told with the next change.
    pub fn map(
        &self,
        mm: &Mm<W>,
        caller: &mut Caller<'_, W::Sync>,
        space: SpaceId,
        new: Mapping<Id, M::Flags>,
        ctx: &Context,
    ) -> Result<(), Error> {
        let shared = self.get(space)?;
        let Some((bo, offset)) = new.object else {
            let mapped = Self::alone(&shared, caller, ctx, |books| {
                books.map::<crate::evict::BlockOf<W>>(new, false, None, || Ok(()))
            });
            let _ = self.let_go(mm, caller, space, &shared, ctx);
            return mapped;
        };
        let end = offset.checked_add(new.bytes).ok_or(Error::Invalid)?;
        mm.hold(bo)?;
        let mut entered = false;
        let mapped = Self::begin(caller, ctx, |set| {
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
                    // INVARIANT: in the registry before its first entry is written.
                    books.map(new, external, side, || {
                        self.registry.with(|registry| registry.enter(bo, space))?;
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
        let _ = self.let_go(mm, caller, space, &shared, ctx);
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
        ctx: &Context,
    ) -> Result<(), Error> {
        let shared = self.get(space)?;
        let unmapped = Self::alone(&shared, caller, ctx, |books| books.unmap(at, bytes));
        let _ = self.let_go(mm, caller, space, &shared, ctx);
        unmapped
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
        let cleared = Self::begin(caller, ctx, |set| {
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
        let let_go = self.let_go(mm, caller, space, &shared, ctx);
        cleared.and(let_go)?;
        let gone = self.registry.with(|registry| registry.remove(space));
        drop(gone);
        // Who has a handle of one of its buffers keeps it.
        mm.retire_group(shared.group);
        Ok(())
    }

    /// Whether a space maps a buffer.
    pub fn is_mapped(&self, bo: Id) -> bool {
        let user = self.registry.with(|registry| registry.user(bo, None));
        user.is_some()
    }

    /// A buffer is about to leave its place, and no job uses it: no space leads to it
    /// any more when this returns.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Io`]: the GPU may still reach it.
    pub fn leave(&self, bo: Id) -> Result<(), Error> {
        let mut above = None;
        let next = |above| self.registry.with(|registry| registry.user(bo, above));
        while let Some(space) = next(above) {
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
        let mut behind = None;
        let next = |behind| self.registry.with(|registry| registry.next(behind));
        while let Some(space) = next(behind) {
            // One that is gone meanwhile leads nowhere.
            if let Ok(shared) = self.get(space) {
                shared.books.with(AddressSpace::give_tables)?;
            }
            behind = Some(space);
        }
        Ok(())
    }

    /// One of them, if there is one.
    pub fn first(&self) -> Option<SpaceId> {
        self.registry.with(|registry| registry.next(None))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.registry.with(|registry| registry.len())
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

    pub(super) fn get(&self, space: SpaceId) -> Result<Arc<Shared<W, M>>, Error> {
        self.registry.with(|registry| registry.get(space))
    }

    /// Gives back the references on buffers of which a space maps nothing any more.
    ///
    /// # Errors
    /// [`Error::Busy`] when others had the space until the deadline: they are given back
    /// after the next change of it.
    fn let_go(
        &self,
        mm: &Mm<W>,
        caller: &mut Caller<'_, W::Sync>,
        space: SpaceId,
        shared: &Shared<W, M>,
        ctx: &Context,
    ) -> Result<(), Error> {
        let leaves = |bo| self.registry.with(|registry| registry.exit(bo, space));
        loop {
            // Nobody prepares a job meanwhile.
            let held = caller.lock_until(&shared.reservation, Patience::Patient, ctx.deadline)?;
            // INVARIANT: it leaves the registry when the TLBs have forgotten it.
            let unused = shared.books.with(|books| books.take_unused(leaves));
            drop(held);
            let Some(bo) = unused else {
                return Ok(());
            };
            // It was held until now.
            let _ = mm.release(bo);
        }
    }

    /// A change of a space that touches no buffer.
    fn alone<R>(
        shared: &Shared<W, M>,
        caller: &mut Caller<'_, W::Sync>,
        ctx: &Context,
        change: impl FnOnce(&mut AddressSpace<M>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let _held = caller.lock_until(&shared.reservation, ctx.patience, ctx.deadline)?;
        shared.books.with(change)
    }

    fn begin<R>(
        caller: &mut Caller<'_, W::Sync>,
        ctx: &Context,
        attempt: impl FnMut(&mut LockSet<'_, W::Sync>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut set = caller.transaction(ctx.patience)?;
        set.until(ctx.deadline);
        set.run(attempt)
    }
}
