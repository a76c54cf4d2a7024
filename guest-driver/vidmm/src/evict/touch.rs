//! Where a buffer is, for the GPU: pages of RAM come to exist when it needs them.

use super::attempt::Attempt;
use super::cause::Step;
use super::mm::{Context, Mm};
use super::world::{BlockOf, Side, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::Has;
use crate::bo::pool::SmallLock;
use crate::placement::{Extent, SegmentId};
use crate::sync::LockSet;

impl<W: World + 'static> Mm<W> {
    /// Makes the GPU able to work on a buffer where it is: pages exist and the GART
    /// points at them. The set holds it.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Fault`]; [`Error::Busy`] where others could give up
    /// pages after a wait that is not allowed or too long, and where they cannot be stored
    /// [`Error::Deadlock`] to be handed up to [`LockSet::run`];
    /// [`Error::Invalid`] for a buffer that is nowhere, or in SYSTEM,
    /// where the GPU has no addresses for it; [`Error::Lost`] for one whose contents were
    /// lost with the GPU.
    pub fn make_resident(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        ctx: &mut Context,
    ) -> Result<(), Error> {
        ctx.cause = None;
        self.alive()?;
        let reservation = self.reservation(id)?;
        set.get(&reservation).ok_or(Error::Invalid)?;
        self.contents(id)?;
        Attempt::passing_by(ctx).persist(self, set, |_, attempt| {
            self.with_vector(id, |parts| {
                let at = parts.resource.as_ref().ok_or(Error::Invalid)?;
                if at.segment() == SegmentId::System {
                    return Err(Error::Invalid);
                }
                if let Some(vector) = &mut parts.vector {
                    let owner = parts.info.owner;
                    self.populate(vector, Some(&reservation), owner, attempt)
                        .map_err(|error| attempt.blame(id, Step::Pages, error))?;
                    self.bind(at, vector)
                        .map_err(|error| attempt.blame(id, Step::Bind, error))?;
                }
                Ok(())
            })?
        })
    }

    /// Looks at where a buffer is that the set holds, as page-table entries name it; `None`
    /// where it has to be made resident first.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if it is not held.
    pub fn with_place<R>(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        look: impl FnOnce(Option<&Side<'_, BlockOf<W>>>) -> R,
    ) -> Result<R, Error> {
        let reservation = self.reservation(id)?;
        set.get(&reservation).ok_or(Error::Invalid)?;
        self.with_vector(id, |parts| {
            let at = parts.resource.as_ref();
            let at = at.filter(|at| match &parts.vector {
                None => !at.segment().uses_tt(),
                Some(vector) => vector.has() == Has::BoundPages,
            });
            let side = at.map(|at| Side {
                segment: at.segment(),
                extents: at.booking().extents(),
                pages: parts.vector.as_ref(),
            });
            look(side.as_ref())
        })
    }

    /// Looks at the ranges that a buffer has booked where it is, in pages of its memory type.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn with_extents<R>(&self, id: Id, look: impl FnOnce(&[Extent]) -> R) -> Result<R, Error> {
        self.state.with(|state| {
            let resource = state.objects.get(id)?.resource.as_ref();
            Ok(look(resource.map_or(&[], |at| at.booking().extents())))
        })
    }
}
