//! Ghosts: what a buffer has left behind, until the GPU has copied it (12.4).

use super::mm::Mm;
use super::object::{Info, Parts};
use super::world::{FenceOf, ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::pool::SmallLock;
use crate::sync::{Caller, Guard, Usage};

/// A nameless object that carries what a buffer has left behind until a fence has
/// ended (12.4). Everything it needs is there before the move begins: its
/// place among the objects and on a list, and room for the fence.
pub(super) struct Ghost<'a, W: World> {
    id: Id,
    held: Guard<'a, W::Sync>,
}

impl<'a, W: World + 'static> Ghost<'a, W> {
    pub(super) fn prepare(mm: &Mm<W>, caller: &'a mut Caller<'_, W::Sync>) -> Result<Self, Error> {
        let info = Info {
            kind: Kind::Kernel,
            pages: 1,
            align: 1,
            caching: crate::platform::Caching::Cached,
            priority: 0,
            owner: None,
        };
        let id = mm.new_object(&info, None)?;
        let reservation = mm.reservation(id)?;
        // Nobody else knows it.
        let held = caller.try_lock(&reservation).and_then(|mut held| {
            held.reserve_slots(1)?;
            Ok(held)
        });
        match held {
            Ok(held) => Ok(Self { id, held }),
            Err(error) => {
                mm.forget(id);
                Err(error)
            }
        }
    }

    /// One that waits for all that a buffer waits for now.
    pub(super) fn of(
        mm: &Mm<W>,
        caller: &'a mut Caller<'_, W::Sync>,
        buffer: &ReservationOf<W>,
    ) -> Result<Self, Error> {
        let mut ghost = Self::prepare(mm, caller)?;
        match ghost.held.take_fences_of(buffer) {
            Ok(()) => Ok(ghost),
            Err(error) => {
                ghost.cancel(mm);
                Err(error)
            }
        }
    }

    /// Carries what was left from now on, until this fence, too, has ended.
    pub(super) fn haunt(
        mut self,
        mm: &Mm<W>,
        left: Parts<W>,
        fence: Option<&FenceOf<W>>,
    ) -> Result<(), Error> {
        if let Some(fence) = fence {
            self.held.add(fence, Usage::Bookkeep)?;
        }
        mm.state.with(|state| {
            let object = state.objects.get_mut(self.id)?;
            // Its account is that of the range it carries.
            object.info = Info {
                owner: None,
                ..left.info
            };
            object.resource = left.resource;
            object.vector = left.vector;
            state.bury(self.id)
        })
    }

    pub(super) fn cancel(self, mm: &Mm<W>) {
        mm.forget(self.id);
    }
}
