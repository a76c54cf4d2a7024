//! What a job of an address space needs before it runs.

use super::address_space::{AddressSpace, SpaceMemory};
use super::registry::{Registry, Shared, SpaceId};
use super::spaces::Spaces;
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::lru::GroupId;
use crate::evict::{Context, Mm, World};
use crate::sync::{Deadline, LockSet, Usage};
use alloc::vec::Vec;

/// So often in a row tables are looked for where nobody seems to have any: each time
/// others may just have been between giving theirs back and taking them again.
const MISSES: u32 = 100;
/// How long each of those who have tables is waited for at first.
const FIRST_LOOK_NS: u64 = 1_000_000;

impl<W: World + 'static, M: SpaceMemory> Spaces<W, M> {
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
        set.until(ctx.deadline);
        set.lock(&shared.reservation, 1)?;
        let mut above = None;
        while let Some(bo) = shared.books.with(|books| books.external(above)) {
            set.lock(&mm.reservation(bo)?, 1)?;
            above = Some(bo);
        }
        if shared.books.with(|books| books.is_closed()) {
            return Err(Error::NotFound);
        }
        let job = self.registry.with(Registry::next_job);
        shared.books.with(|books| books.set_used(job));
        let (mut nobody_had, mut look_ns) = (0, FIRST_LOOK_NS);
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
                Err(Error::NoSpace) => match self.take_tables(mm, set, space, ctx, &mut look_ns) {
                    // Nobody had any by now: they may have been given back meanwhile.
                    Err(Error::NoMemory) if nobody_had < MISSES => nobody_had += 1,
                    taken => {
                        taken?;
                        nobody_had = 0;
                    }
                },
                other => other?,
            }
        }
        Ok(())
    }

    /// Has another space give its tables back: the one whose last job is the
    /// longest ago, of those that have none on their way if there are such. Else each is
    /// waited for `look_ns`, and the next time twice as long: who hangs does not keep this
    /// from another's. When it returns there may be tables.
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
        look_ns: &mut u64,
    ) -> Result<(), Error> {
        let mut others = self.registry.with(|registry| registry.others(space))?;
        others.retain_mut(|(used, other)| {
            let (has_tables, last) = other.books.with(|books| books.use_of_tables());
            *used = last;
            has_tables
        });
        if others.is_empty() {
            return Err(Error::NoMemory);
        }
        others.sort_unstable_by_key(|(used, _)| *used);
        for look in [None, Some(*look_ns)] {
            for (_, other) in others.iter().filter(|_| look.is_none() || !ctx.no_wait) {
                let look = look.map(|ns| mm.world().after(ns).min(ctx.deadline));
                set.until(look.unwrap_or(ctx.deadline));
                let given = Self::give_tables(mm, set, other, ctx, look);
                set.until(ctx.deadline);
                match given {
                    Err(Error::Busy | Error::Already) => {}
                    given => return given,
                }
            }
        }
        *look_ns = look_ns.saturating_mul(2);
        if ctx.no_wait || mm.world().after(0) >= ctx.deadline {
            return Err(Error::Busy);
        }
        Ok(())
    }

    /// Has a space give its tables back once its jobs have ended. `until`: how long it is
    /// waited for, if it is.
    fn give_tables(
        mm: &Mm<W>,
        set: &mut LockSet<'_, W::Sync>,
        other: &Shared<W, M>,
        ctx: &Context,
        until: Option<Deadline>,
    ) -> Result<(), Error> {
        let ctx = &Context {
            no_wait: until.is_none(),
            deadline: until.unwrap_or(ctx.deadline),
            ..ctx.clone()
        };
        let mut victim = set.victim(&other.reservation, until.is_some())?;
        let held = victim.locked().ok_or(Error::Deadlock)?;
        mm.idle(held, Usage::Bookkeep, ctx)?;
        other.books.with(AddressSpace::give_tables)
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

    /// The group of the buffers of a space's own: what a job of it [uses](crate::evict::Used)
    /// beside its [externals](Self::externals).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn group(&self, space: SpaceId) -> Result<GroupId, Error> {
        Ok(self.get(space)?.group)
    }
}
