//! Local memory that goes, with a sleep or unawares, and what comes of it (D-6).

use super::attempt::Attempt;
use super::mm::{Context, Mm};
use super::object::{Contents, Object};
use super::world::{BlockOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::page_vector::{Has, PageVector};
use crate::bo::pool::SmallLock;
use crate::placement::SegmentId;
use crate::sync::Caller;
use e3k_regs::PAGE_SIZE;

impl<W: World + 'static> Mm<W> {
    /// Has pages of RAM ready for every buffer in local memory, while everything still
    /// runs: evicting them needs no others then. Where there may be no more, buffers in RAM
    /// are stored for it. What has its pages already keeps them, so that it may be done
    /// early, and again. Who has them does not go from one part of local memory to the
    /// other when it has to leave. The caller holds no reservation.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when RAM is short, and for a buffer that is larger than what
    /// is not pinned of the PCIe segment that it has to go through; [`Error::Fault`];
    /// [`Error::Busy`] for a buffer that is pinned there, and where others could give up
    /// pages after a wait that is not allowed or too long. Nobody has left local memory, and
    /// no page is reserved then.
    pub fn reserve_ram(&self, ctx: &mut Context) -> Result<(), Error> {
        let mut caller = Caller::enter(self.world.sync());
        let mut attempt = Attempt::passing_by(ctx);
        let report = self.report();
        let room = report
            .types
            .map(|it| it.capacity.saturating_sub(it.pinned) / PAGE_SIZE);
        let reserved = self.each(|id| {
            let found = self.state.with(|state| {
                let object = state.objects.get(id).ok()?;
                let user = object.info.kind == Kind::Device && !object.dying;
                let reserves = user && object.is_local() && object.reserve.is_none();
                reserves.then_some((object.info, object.pins > 0))
            });
            let Some((info, pinned)) = found else {
                return Ok(());
            };
            if pinned {
                return Err(Error::Busy);
            }
            if info.pages > room[info.pcie() as usize] {
                return Err(Error::NoMemory);
            }
            let mut vector = PageVector::new(info.shape()?, false);
            // Nothing is held: who shares its reservation may give up pages, too.
            attempt.persist_alone(self, &mut caller, |attempt| {
                self.populate(&mut vector, None, None, attempt)
            })?;
            // It may have left meanwhile; then it is a page vector that nobody needs.
            let spare = self.state.with(|state| match state.objects.get_mut(id) {
                Ok(object) if !object.dying => object.reserve.replace(vector),
                _ => Some(vector),
            });
            self.drop_pages(spare);
            Ok(())
        });
        reserved.inspect_err(|_| self.unreserve_ram())
    }

    /// Gives back what was reserved and not needed.
    pub fn unreserve_ram(&self) {
        // It does not fail.
        let _ = self.each(|id| {
            self.give_reserve_back(id);
            Ok(())
        });
    }

    /// The tables behind the GART were lost and written anew, empty: it points again at
    /// all pages that it pointed at.
    ///
    /// # Errors
    /// Those of [`World::bind`]; it does not point at all of them then.
    pub(crate) fn bind_again(&self) -> Result<(), Error> {
        self.each(|id| {
            self.with_vector(id, |parts| match (&parts.resource, &parts.vector) {
                (Some(at), Some(vector)) if vector.has() == Has::BoundPages => {
                    let extents = at.booking().extents();
                    self.world.bind(at.segment(), extents, vector)
                }
                _ => Ok(()),
            })?
        })
    }

    /// Local memory was lost: the contents of buffers that are there are, too, and nobody
    /// sees what lies there now. The driver's own are its own to write again.
    pub(crate) fn lose_local(&self) {
        // It does not fail.
        let _ = self.each(|id| {
            let lost = self.state.with(|state| {
                let object = state.objects.get_mut(id).ok();
                let object = object.filter(|it| it.is_local() && it.info.kind == Kind::Device);
                object.is_some_and(|object| {
                    object.contents = Contents::Lost;
                    true
                })
            });
            if lost {
                self.world.unmap_user(id);
            }
            Ok(())
        });
    }

    /// The pages that are reserved for a buffer.
    pub(super) fn take_reserve(&self, id: Id) -> Option<PageVector<BlockOf<W>>> {
        self.state
            .with(|state| state.objects.get_mut(id).ok()?.reserve.take())
    }

    pub(super) fn give_reserve_back(&self, id: Id) {
        self.drop_pages(self.take_reserve(id));
    }

    /// Looks at all buffers, without the lock.
    fn each(&self, mut look: impl FnMut(Id) -> Result<(), Error>) -> Result<(), Error> {
        let mut slot = 0;
        while let Some(id) = self.state.with(|state| state.objects.from(slot)) {
            slot = id.next_slot();
            match look(id) {
                // It went by itself.
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<W: World> Object<W> {
    fn is_local(&self) -> bool {
        self.segment()
            .is_some_and(|segment| !SegmentId::uses_tt(segment))
    }
}
