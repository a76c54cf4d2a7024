//! Mappings: those of the kernel (15.3), and where clients find a buffer (15.2).

use super::attempt::Attempt;
use super::cause::Step;
use super::fault::{Run, install_runs};
use super::mm::{Context, Mm};
use super::world::{BlockOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::pool::SmallLock;
use crate::sync::{LockSet, Usage};
use core::ops::Range;

/// Each buffer has so many bits of page numbers of the device's file: 1 TiB.
const PAGE_BITS: u32 = 28;
/// Page numbers of a file, whose offsets are bytes in 63 bits.
const FILE_BITS: u32 = 51;

impl<W: World + 'static> Mm<W> {
    /// Has pages of a buffer mapped for the kernel, run by run: contents are in place, and
    /// pages exist. The mapping is no pin. It is good while the set holds the
    /// buffer or while that is pinned; who keeps it longer maps what may be another's.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no pages and for those beyond the end, and if the buffer is
    /// not held; [`Error::Fault`] if it is nowhere or where the CPU does not reach; those of
    /// `map`; [`Error::Deadlock`] to be handed up to [`LockSet::run`]; otherwise as
    /// [`Self::fault`].
    pub fn map_kernel(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        pages: Range<u64>,
        ctx: &mut Context,
        mut map: impl FnMut(Run<'_, BlockOf<W>>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        ctx.cause = None;
        self.alive()?;
        let reservation = self.reservation(id)?;
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        if pages.is_empty() || pages.end > self.info(id)?.pages {
            return Err(Error::Invalid);
        }
        self.idle(held, Usage::Kernel, ctx)
            .inspect_err(|_| ctx.blame(id, Step::Wait))?;
        self.contents(id)?;
        Attempt::passing_by(ctx).persist(self, set, |_, attempt| {
            self.with_vector(id, |parts| {
                self.make_pages(id, parts, &reservation, attempt)
            })?
        })?;
        self.with_vector(id, |parts| {
            let mut mapped = Ok(());
            let end = install_runs(parts, pages.clone(), &mut |run| {
                mapped = map(run);
                mapped.is_ok()
            })?;
            mapped?;
            if end < pages.end {
                return Err(Error::Fault);
            }
            Ok(())
        })?
    }

    /// The page of the device's file at which a client maps a buffer: it has as many pages
    /// there as it has itself, and shares them with nobody.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for the driver's own, which no client maps;
    /// [`Error::NeverFits`] for more than 1 TiB, and beyond eight million buffers.
    pub fn file_page(&self, id: Id) -> Result<u64, Error> {
        let info = self.info(id)?;
        if info.kind != Kind::Device {
            return Err(Error::Invalid);
        }
        let number = id.next_slot() as u64;
        if info.pages > 1 << PAGE_BITS || number >= 1 << (FILE_BITS - PAGE_BITS) {
            return Err(Error::NeverFits);
        }
        Ok(number << PAGE_BITS)
    }

    /// The buffer that a client maps with so many pages of the device's file, and the page
    /// of it where that begins. Whether the client may, is for the caller to know: a page
    /// of the file is another's once the buffer is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none; [`Error::Invalid`] for no pages and for
    /// those beyond its end.
    pub fn at_file_page(&self, first: u64, pages: u64) -> Result<(Id, u64), Error> {
        let (number, page) = (first >> PAGE_BITS, first & ((1 << PAGE_BITS) - 1));
        let slot = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        self.state.with(|state| {
            let id = slot.and_then(|slot| state.objects.at(slot));
            let id = id.ok_or(Error::NotFound)?;
            let object = state.objects.get(id)?;
            if object.refs == 0 || object.info.kind != Kind::Device {
                return Err(Error::NotFound);
            }
            let end = page.checked_add(pages);
            if pages == 0 || end.is_none_or(|end| end > object.info.pages) {
                return Err(Error::Invalid);
            }
            Ok((id, page))
        })
    }
}
