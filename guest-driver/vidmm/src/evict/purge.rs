//! Memory that goes while its buffer stays (11.6).

use super::attempt::Attempt;
use super::ghost::Ghost;
use super::mm::Mm;
use super::object::{Contents, Mark, Parts};
use super::world::World;
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::sync::{Caller, LockSet, Usage};

impl<W: World + 'static> Mm<W> {
    /// Throws a buffer's contents away, wherever they are, and all its memory with them.
    /// What the GPU still works on is free when it is done. The set holds the buffer.
    ///
    /// # Errors
    /// As [`Self::validate`]; it is where it was.
    pub(super) fn purge(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let reservation = self.reservation(id)?;
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        let (pinned, placed) = self.state.with(|state| {
            let object = state.objects.get(id)?;
            Ok::<_, Error>((object.pins > 0, object.resource.is_some()))
        })?;
        if pinned {
            return Err(Error::Invalid);
        }
        if !placed {
            return Ok(());
        }
        self.unmap_gpu(held, id, attempt)?;
        let mut caller = Caller::enter(self.world.sync());
        let ghost = if held.is_idle(Usage::Bookkeep) {
            None
        } else {
            match Ghost::of(self, &mut caller, &reservation) {
                // Who has no memory for it has to wait.
                Err(Error::NoMemory) => {
                    self.idle(held, Usage::Bookkeep, attempt.ctx)?;
                    None
                }
                ghost => Some(ghost?),
            }
        };
        self.world.unmap_user(id);
        let left = self.state.with(|state| {
            let object = state.objects.get_mut(id)?;
            let left = Parts {
                info: object.info,
                resource: object.resource.take(),
                vector: object.vector.take(),
            };
            // The next ones are zeros, as at the beginning.
            object.contents = Contents::InPlace;
            (object.best, object.left) = (None, None);
            Ok::<_, Error>(left)
        });
        let gone = match (left, ghost) {
            (Ok(left), Some(ghost)) => ghost.haunt(self, left, None),
            (Ok(left), None) => {
                self.give_back(left, None);
                Ok(())
            }
            (Err(error), ghost) => {
                if let Some(ghost) = ghost {
                    ghost.cancel(self);
                }
                Err(error)
            }
        };
        // Until then it stands on its list for what it had, so that who looks for room
        // finds somebody to wait for.
        self.state.with(|state| state.relink(id))?;
        self.give_reserve_back(id);
        gone
    }

    /// Gives back what a buffer had, which nobody uses; a range for others after the
    /// fence.
    pub(super) fn give_back(&self, mut left: Parts<W>, fence: Option<Mark<W>>) {
        self.unbind(&mut left);
        self.drop_pages(left.vector);
        if let Some(old) = left.resource {
            self.state.with(|state| state.free(old, fence));
        }
    }
}
