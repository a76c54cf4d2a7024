//! The end of a buffer (section 17).

use super::mm::Mm;
use super::world::{ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::{Caller, Primitives, Usage};

/// How long a release waits for a buffer whose fences it cannot keep (section 3).
const LAST_RESORT_NS: u64 = 30_000_000_000;

/// A buffer that is gone and whose memory is not free yet.
pub(super) struct Stays<'a, W: World> {
    pub(super) reservation: &'a ReservationOf<W>,
    /// Somebody has it locked; else the GPU uses it.
    pub(super) locked: bool,
    /// Pages of RAM that it has.
    pub(super) pages: usize,
}

impl<W: World + 'static> Mm<W> {
    /// Takes another reference.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a buffer that is gone or going.
    pub fn hold(&self, id: Id) -> Result<(), Error> {
        self.state.with(|state| {
            let object = state.objects.get_mut(id)?;
            // The last reference never comes back.
            if object.dying || object.refs == 0 {
                return Err(Error::NotFound);
            }
            object.refs = object.refs.checked_add(1).ok_or(Error::NoMemory)?;
            Ok(())
        })
    }

    /// Gives a reference back. With the last one an idle buffer's memory is free when
    /// this returns; a busy one's is when [`Self::reap`] finds it idle, or
    /// when somebody needs the room. The caller holds no reservation.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn release(&self, id: Id) -> Result<(), Error> {
        self.drop_reference(id, |sync, reservation| {
            let until = self.world.after(LAST_RESORT_NS);
            sync.wait_idle(reservation, Usage::Bookkeep, Patience::Patient, until)
        })
    }

    /// As [`Self::release`], by who makes room for somebody: it holds what others wait for,
    /// and may be a reclaim, so that it never waits. A buffer whose fences it cannot keep
    /// goes when the reservation is idle that it shared.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(super) fn let_go(&self, id: Id) -> Result<(), Error> {
        self.drop_reference(id, |_, _| Err(Error::Busy))
    }

    /// Gives a reference back. `settle`: what to do about a reservation that is shared and
    /// whose fences there is no memory to keep.
    fn drop_reference(
        &self,
        id: Id,
        settle: impl FnOnce(&W::Sync, &ReservationOf<W>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let last = self.state.with(|state| {
            let object = state.objects.get_mut(id)?;
            object.refs = object.refs.checked_sub(1).ok_or(Error::NotFound)?;
            if object.refs > 0 {
                return Ok::<_, Error>(None);
            }
            Ok(Some((object.own.clone(), object.reservation.clone())))
        })?;
        let Some((own, reservation)) = last else {
            return Ok(());
        };
        self.world.unmap_user(id);
        let sync = self.world.sync();
        let shared = !sync.same(&own, &reservation);
        let mut caller = Caller::enter(sync);
        // Who holds it has it in hand; then it dies later.
        let mut guard = caller.try_lock(&own).ok();
        let individual = match guard.as_mut().filter(|_| shared) {
            // Its own fences from now on; without memory for them it has to be idle.
            Some(guard) => guard
                .take_fences_of(&reservation)
                .or_else(|_| settle(sync, &reservation)),
            None if shared => Err(Error::Busy),
            None => Ok(()),
        };
        let (now, mine) = match individual {
            Ok(()) => (own.clone(), guard.as_ref()),
            Err(_) => (reservation.clone(), None),
        };
        let idle = mine.is_some_and(|guard| guard.is_idle(Usage::Bookkeep));
        // What it had is dropped without the lock.
        let before = self.state.with(|state| {
            let object = state.objects.get_mut(id)?;
            let before = core::mem::replace(&mut object.reservation, now);
            state.bury(id)?;
            Ok::<_, Error>(before)
        });
        drop(before);
        if idle {
            self.destroy(id);
        }
        Ok(())
    }

    /// Frees the memory of those that are gone and that nobody uses any more.
    pub fn reap(&self) {
        self.reap_beside(|_| {});
    }

    /// The same: the pages of RAM that were freed with it. Who stays has `stays` look at it.
    pub(super) fn reap_beside(&self, mut stays: impl FnMut(&Stays<'_, W>)) -> usize {
        let (mut at, mut freed) = (0, 0);
        loop {
            let next = self.state.with(|state| {
                let id = *state.dying.get(at)?;
                let object = state.objects.get(id).ok();
                Some((id, object.map(|it| (it.reservation.clone(), it.all_held()))))
            });
            let Some((id, object)) = next else {
                return freed;
            };
            at += 1;
            let Some((reservation, pages)) = object else {
                continue;
            };
            let mut caller = Caller::enter(self.world.sync());
            let lock = caller.try_lock(&reservation);
            match &lock {
                Ok(guard) if guard.is_idle(Usage::Bookkeep) => {
                    self.destroy(id);
                    freed += pages;
                    at -= 1;
                }
                lock => stays(&Stays {
                    reservation: &reservation,
                    locked: lock.is_err(),
                    pages,
                }),
            }
        }
    }

    /// Buffers that are gone and whose memory is not free yet.
    pub fn dying(&self) -> usize {
        self.state.with(|state| state.dying.len())
    }

    /// Buffers, those that are dying included.
    pub fn len(&self) -> usize {
        self.state.with(|state| state.objects.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A buffer that was never handed out, or that nobody uses and whose reservation
    /// is held: its memory is free afterwards.
    pub(super) fn destroy(&self, id: Id) {
        let Ok(parts) = self.take(id) else {
            return;
        };
        self.give_back(parts, None);
        // The object is dropped without the lock.
        let gone = self.state.with(|state| {
            state.dying.retain(|dying| *dying != id);
            // Without a resource it leaves its list.
            let _ = state.relink(id);
            state.remove(id)
        });
        // Pages may be reserved for it until it is gone: nobody holds it for that.
        let reserve = gone.and_then(|mut gone| gone.reserve.take());
        self.drop_pages(reserve);
    }

    /// An object that never had memory.
    pub(super) fn forget(&self, id: Id) {
        let gone = self.state.with(|state| state.remove(id));
        drop(gone);
    }

    /// A buffer that could not be placed.
    pub(super) fn discard(&self, id: Id) {
        let idle = self
            .reservation(id)
            .is_ok_and(|reservation| self.world.sync().is_idle(&reservation, Usage::Bookkeep));
        if idle {
            self.destroy(id);
            return;
        }
        // It is there: nobody else knows its name.
        let _ = self.state.with(|state| state.bury(id));
    }

    /// Everything is back: no buffer, no page booked.
    ///
    /// # Errors
    /// The bytes that are still booked in each memory type.
    pub fn fini(self) -> Result<(), [u64; SegmentId::COUNT]> {
        self.close().1
    }

    /// As [`Self::fini`], and gives the driver back.
    pub(crate) fn close(self) -> (W, Result<(), [u64; SegmentId::COUNT]>) {
        self.reap();
        let mut types = [SegmentId::System; SegmentId::COUNT];
        types[..4].copy_from_slice(&SegmentId::ALL);
        let left = types.map(|segment| self.usage(segment));
        let all = left.iter().all(|bytes| *bytes == 0) && self.is_empty();
        (self.world, if all { Ok(()) } else { Err(left) })
    }
}
