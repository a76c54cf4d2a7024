//! First touch: pages come to exist where somebody needs them.

use super::attempt::Attempt;
use super::mm::{Context, Mm};
use super::world::{BlockOf, Side, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::{Has, PageVector};
use crate::bo::pool::SmallLock;
use crate::placement::{Extent, Resource, SegmentId};
use crate::sync::{Caller, LockSet, Usage};

/// Where a page of a buffer is.
#[derive(Debug, PartialEq, Eq)]
pub enum Page<'a, B> {
    /// In local memory: the page of the segment.
    Local(SegmentId, u64),
    /// In RAM: the block, and the page in it.
    Ram(&'a B, usize),
}

impl<W: World + 'static> Mm<W> {
    /// Makes the GPU able to work on a buffer where it is: pages exist and the GART
    /// points at them. The set holds it.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Fault`]; [`Error::Invalid`] for a buffer that is
    /// nowhere, or in SYSTEM, where the GPU has no addresses for it; [`Error::Lost`].
    pub fn make_resident(&self, set: &mut LockSet<'_, W::Sync>, id: Id) -> Result<(), Error> {
        self.alive()?;
        let reservation = self.reservation(id)?;
        set.get(&reservation).ok_or(Error::Invalid)?;
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

    /// A CPU access to a page that is not mapped: waits until contents are in place,
    /// makes pages exist, and has `install` map the page where it is (15.5). Until
    /// that returns the buffer cannot move. With `no_wait` of `ctx` nothing is waited
    /// for: what holds a lock that others need may come back without it and try again.
    ///
    /// # Errors
    /// [`Error::Interrupted`]: the access is simply repeated. [`Error::NoMemory`];
    /// [`Error::Busy`] when somebody has the buffer or contents are not in place, in
    /// time; [`Error::Fault`] for a page beyond the end, for somebody else's pages, and
    /// for a buffer that is nowhere or where the CPU does not reach. [`Error::Lost`]: there
    /// is nothing to show but an empty page.
    pub fn fault<R>(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        id: Id,
        page: u64,
        ctx: &Context,
        install: impl FnOnce(Page<'_, BlockOf<W>>) -> R,
    ) -> Result<R, Error> {
        self.alive()?;
        let reservation = self.reservation(id)?;
        let held = if ctx.no_wait {
            caller.try_lock(&reservation)?
        } else {
            caller.lock(&reservation, ctx.patience)?
        };
        if page >= self.info(id)?.pages {
            return Err(Error::Fault);
        }
        self.idle(&held, Usage::Kernel, ctx)?;
        self.with_vector(id, |parts| {
            let at = parts.resource.as_ref().ok_or(Error::Fault)?;
            let Some(vector) = &mut parts.vector else {
                return Ok(install(local(at, page)?));
            };
            if !vector.may_fault() || vector.has() == Has::External {
                return Err(Error::Fault);
            }
            vector.populate(self.world.ram())?;
            if at.segment() != SegmentId::System {
                self.bind(at, vector)?;
            }
            let slot = usize::try_from(page)
                .ok()
                .and_then(|page| vector.slot(page));
            let (block, page) = slot.ok_or(Error::Fault)?;
            Ok(install(Page::Ram(block, page)))
        })?
    }

    /// Stores a buffer's contents and gives its pages back (13.2). The set holds it;
    /// it goes to SYSTEM first.
    ///
    /// # Errors
    /// [`Error::Busy`] for a buffer that is pinned, has no pages, or would have to be
    /// waited for; others of the move.
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
        if self.segment(id)? != Some(SegmentId::System) {
            self.evict(set, id, &mut Attempt::patient(ctx))?;
        }
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        self.idle(held, Usage::Bookkeep, ctx)?;
        self.world.unmap_user(id);
        self.with_vector(id, |parts| {
            let vector: &mut PageVector<_> = parts.vector.as_mut().ok_or(Error::Busy)?;
            vector.swap_out(self.world.ram())
        })?
    }
}

/// The page of a segment that is page `page` of a buffer.
fn local<'a, F, B>(at: &Resource<F>, page: u64) -> Result<Page<'a, B>, Error> {
    if at.segment() != SegmentId::LocalVisible {
        return Err(Error::Fault);
    }
    let mut before = 0;
    for extent in at.booking().extents() {
        if page - before < extent.pages() {
            let first = extent.first + (page - before);
            return Ok(Page::Local(at.segment(), first));
        }
        before += extent.pages();
    }
    Err(Error::Fault)
}
