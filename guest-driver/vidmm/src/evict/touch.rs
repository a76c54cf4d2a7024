//! Pages of RAM: they come to exist when the GPU needs them, and go to a store.

use super::attempt::Attempt;
use super::mm::{Context, Mm};
use super::world::{BlockOf, Side, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::{Has, PageVector};
use crate::bo::pool::SmallLock;
use crate::placement::{Extent, SegmentId};
use crate::sync::{LockSet, Usage};

impl<W: World + 'static> Mm<W> {
    /// Makes the GPU able to work on a buffer where it is: pages exist and the GART
    /// points at them. The set holds it.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Fault`]; [`Error::Invalid`] for a buffer that is
    /// nowhere, or in SYSTEM, where the GPU has no addresses for it; [`Error::Lost`] for
    /// one whose contents were lost with the GPU.
    pub fn make_resident(&self, set: &mut LockSet<'_, W::Sync>, id: Id) -> Result<(), Error> {
        self.alive()?;
        let reservation = self.reservation(id)?;
        set.get(&reservation).ok_or(Error::Invalid)?;
        self.contents(id)?;
        self.with_vector(id, |parts| {
            let at = parts.resource.as_ref().ok_or(Error::Invalid)?;
            if at.segment() == SegmentId::System {
                return Err(Error::Invalid);
            }
            if let Some(vector) = &mut parts.vector {
                vector.populate(self.world.ram())?;
                self.bind(at, vector)?;
            }
            Ok(())
        })?
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

    /// Stores a buffer's contents and gives its pages back (13.2). The set holds it;
    /// it goes to SYSTEM first.
    ///
    /// # Errors
    /// [`Error::Busy`] for a buffer that is pinned, has no pages, or would have to be
    /// waited for; [`Error::Lost`] for one without contents; others of the move.
    pub fn swap_out(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        ctx: &mut Context,
    ) -> Result<usize, Error> {
        self.alive()?;
        let reservation = self.reservation(id)?;
        let suitable = self.state.with(|state| {
            let object = state.objects.get(id)?;
            let pages = matches!(object.has(), Has::Pages | Has::BoundPages);
            Ok::<_, Error>(object.pins == 0 && pages && object.segment().is_some())
        })?;
        if !suitable {
            return Err(Error::Busy);
        }
        self.contents(id)?;
        if self.segment(id)? != Some(SegmentId::System) {
            match self.evict(set, id, &mut Attempt::patient(ctx)) {
                Err(Error::NoSpace) => return Err(Error::NoMemory),
                left => left?,
            }
        }
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        self.idle(held, Usage::Bookkeep, ctx)?;
        self.contents(id)?;
        self.world.unmap_user(id);
        self.with_vector(id, |parts| {
            let vector: &mut PageVector<_> = parts.vector.as_mut().ok_or(Error::Busy)?;
            vector.swap_out(self.world.ram())
        })?
    }
}
