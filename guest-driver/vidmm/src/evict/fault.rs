//! CPU accesses to pages that are not mapped: where they are, and how many at once
//! (15.5).

use super::attempt::Attempt;
use super::cause::Step;
use super::mm::{Context, Mm};
use super::object::Parts;
use super::world::{BlockOf, ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::{Has, PageVector};
use crate::bo::pool::SmallLock;
use crate::placement::{Flags, Place, Resource, SegmentId};
use crate::sync::{Caller, Usage};
use core::ops::Range;

/// Where a page of a buffer is.
#[derive(Debug, PartialEq, Eq)]
pub enum Page<'a, B> {
    /// In local memory: the page of the segment.
    Local(SegmentId, u64),
    /// In RAM: the block, and the page in it.
    Ram(&'a B, usize),
}

/// Pages of a buffer that follow each other where they are, too.
#[derive(Debug, PartialEq, Eq)]
pub struct Run<'a, B> {
    /// The first of them, as a page of the buffer.
    pub page: u64,
    /// How many.
    pub pages: u64,
    /// Where the first one is.
    pub at: Page<'a, B>,
}

/// Pages that a fault maps at an address where nobody expected it.
const WINDOW: u64 = 16;
/// The most that it maps while accesses follow each other.
const LARGEST_WINDOW: u64 = 512;
/// Validations of a buffer for which the CPU's use of it counts.
const CPU_USE_LASTS: u8 = 64;
/// How often a buffer is brought to where the CPU reaches it before a fault gives up.
const TRIES: usize = 4;

/// How far the last fault of a buffer went (D-15).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    next: u64,
    window: u64,
}

impl Ahead {
    /// How many pages a fault at `page` maps: twice as many as the last one if it goes
    /// on where that ended.
    fn window(self, page: u64, grows: bool) -> u64 {
        if grows && self.window > 0 && page == self.next {
            (self.window * 2).min(LARGEST_WINDOW)
        } else {
            WINDOW
        }
    }
}

impl<W: World + 'static> Mm<W> {
    /// A CPU access to a page that is not mapped: waits until contents are in place,
    /// makes pages exist, and has `install` map the page where it is (15.5). Until
    /// that returns the buffer cannot move. With `no_wait` of `ctx` nothing is waited
    /// for: what holds a lock that others need may come back without it and try again.
    /// Where the CPU does not reach, the buffer is first brought to where it does, if
    /// that is on (D-16).
    ///
    /// # Errors
    /// [`Error::Interrupted`]: the access is simply repeated. [`Error::NoMemory`];
    /// [`Error::Busy`] when somebody has the buffer or contents are not in place, in
    /// time; [`Error::Fault`] for a page beyond the end, for somebody else's pages, and
    /// for a buffer that is nowhere or where the CPU does not reach. [`Error::Lost`], also
    /// for one whose contents were lost with the GPU: there is nothing to show but an
    /// empty page.
    pub fn fault<R>(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        id: Id,
        page: u64,
        ctx: &mut Context,
        install: impl FnOnce(Page<'_, BlockOf<W>>) -> R,
    ) -> Result<R, Error> {
        let shown = self.show(caller, id, page, ctx, |parts| {
            Ok(install(locate(parts, page)?.at))
        })?;
        self.count_fault(1);
        Ok(shown)
    }

    /// The same for the page and those behind it, run by run: 16 pages, and twice as
    /// many as last time where accesses follow each other, if that is on (D-15); none
    /// beyond the end of the buffer. `install` says whether to go on. Returns how many
    /// pages it has mapped: 0 if not even the first one was.
    ///
    /// # Errors
    /// As [`Self::fault`].
    pub fn fault_around(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        id: Id,
        page: u64,
        ctx: &mut Context,
        mut install: impl FnMut(Run<'_, BlockOf<W>>) -> bool,
    ) -> Result<u64, Error> {
        let ahead = self
            .state
            .with(|state| Ok::<_, Error>(state.objects.get(id)?.ahead))?;
        let window = ahead.window(page, self.options.grow_prefault);
        let end = self.show(caller, id, page, ctx, |parts| {
            let end = page.saturating_add(window).min(parts.info.pages);
            install_runs(parts, page..end, &mut install)
        })?;
        self.state.with(|state| {
            if let Ok(object) = state.objects.get_mut(id) {
                object.ahead = Ahead { next: end, window };
            }
        });
        self.count_fault(end - page);
        Ok(end - page)
    }

    /// Maps all of a buffer at once, where that is asked for with the mapping; else each
    /// page is mapped when it is touched. As [`Self::fault_around`] otherwise.
    ///
    /// # Errors
    /// As [`Self::fault`].
    pub fn map_whole(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        id: Id,
        ctx: &mut Context,
        mut install: impl FnMut(Run<'_, BlockOf<W>>) -> bool,
    ) -> Result<u64, Error> {
        let pages = self.show(caller, id, 0, ctx, |parts| {
            install_runs(parts, 0..parts.info.pages, &mut install)
        })?;
        self.state
            .with(|state| state.counters.mapped_pages += pages);
        Ok(pages)
    }

    fn count_fault(&self, pages: u64) {
        self.state.with(|state| {
            state.counters.faults += 1;
            state.counters.mapped_pages += pages;
        });
    }

    /// Has a buffer's pages looked at that exist and that the CPU reaches.
    fn show<R>(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        id: Id,
        page: u64,
        ctx: &mut Context,
        look: impl FnOnce(&Parts<W>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.alive()?;
        let mut tries = 0;
        let mut attempt = Attempt::passing_by(ctx);
        loop {
            attempt.ctx.cause = None;
            let reservation = self.reservation(id)?;
            let Context {
                no_wait,
                patience,
                deadline,
                ..
            } = *attempt.ctx;
            let held = if no_wait {
                caller.try_lock(&reservation)
            } else {
                caller.lock_until(&reservation, patience, deadline)
            };
            let held = held.map_err(|error| attempt.blame(id, Step::Lock, error))?;
            if page >= self.info(id)?.pages {
                return Err(Error::Fault);
            }
            let far = self.segment(id)? == Some(SegmentId::LocalInvisible);
            if far && self.options.cpu_use && tries < TRIES {
                drop(held);
                tries += 1;
                self.bring_near(caller, id, attempt.ctx)?;
                continue;
            }
            self.idle(&held, Usage::Kernel, attempt.ctx)
                .map_err(|error| attempt.blame(id, Step::Wait, error))?;
            self.contents(id)?;
            if self.options.cpu_use {
                self.state.with(|state| {
                    let object = state.objects.get_mut(id)?;
                    object.cpu_use = CPU_USE_LASTS;
                    Ok::<_, Error>(())
                })?;
            }
            let made = self.with_vector(id, |parts| {
                self.make_pages(id, parts, &reservation, &mut attempt)
            })?;
            match made {
                // Who has the pages may wait for this buffer: nothing is held meanwhile.
                Err(Error::Busy) => {
                    drop(held);
                    attempt.wait_alone(self, caller)?;
                }
                made => {
                    made?;
                    attempt.ctx.cause = None;
                    return self.with_vector(id, |parts| look(parts))?;
                }
            }
        }
    }

    /// Makes the pages of RAM exist behind which a buffer is.
    pub(super) fn make_pages(
        &self,
        id: Id,
        parts: &mut Parts<W>,
        own: &ReservationOf<W>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let at = parts.resource.as_ref().ok_or(Error::Fault)?;
        let Some(vector) = &mut parts.vector else {
            return Ok(());
        };
        if !vector.may_fault() || vector.has() == Has::External {
            return Err(Error::Fault);
        }
        self.populate(vector, Some(own), parts.info.owner, attempt)
            .map_err(|error| attempt.blame(id, Step::Pages, error))?;
        if at.segment() == SegmentId::System {
            return Ok(());
        }
        self.bind(at, vector)
            .map_err(|error| attempt.blame(id, Step::Bind, error))
    }

    /// Moves a buffer to where the CPU reaches it, local memory first (D-16).
    ///
    /// # Errors
    /// [`Error::Fault`] if there is no such place; [`Error::Busy`] if it may not wait.
    fn bring_near(
        &self,
        caller: &mut Caller<'_, W::Sync>,
        id: Id,
        ctx: &mut Context,
    ) -> Result<(), Error> {
        if ctx.no_wait {
            ctx.blame(id, Step::Place);
            return Err(Error::Busy);
        }
        let (info, reservation) = (self.info(id)?, self.reservation(id)?);
        let near = [SegmentId::LocalVisible, info.pcie()];
        let near = near.map(|segment| Place::anywhere(segment, Flags::NONE));
        let mut set = caller.transaction(ctx.patience)?;
        set.until(ctx.deadline);
        let moved = set.run(|set| {
            set.lock(&reservation, 1)?;
            self.place_at(set, id, &near, ctx)
        });
        match moved {
            Err(Error::NoMemory | Error::Invalid | Error::Limit { .. }) => Err(Error::Fault),
            other => other,
        }
    }
}

/// Has pages mapped, run by run, until `install` says to stop: where that was.
pub(super) fn install_runs<W: World + 'static>(
    parts: &Parts<W>,
    pages: Range<u64>,
    install: &mut impl FnMut(Run<'_, BlockOf<W>>) -> bool,
) -> Result<u64, Error> {
    let mut at = pages.start;
    while at < pages.end {
        let mut run = match locate(parts, at) {
            // Who wanted the first page has it.
            Err(_) if at > pages.start => break,
            found => found?,
        };
        run.pages = run.pages.min(pages.end - at);
        let next = at + run.pages;
        if !install(run) {
            break;
        }
        at = next;
    }
    Ok(at)
}

/// Where a page is, and how many follow it there.
fn locate<W: World + 'static>(parts: &Parts<W>, page: u64) -> Result<Run<'_, BlockOf<W>>, Error> {
    let at = parts.resource.as_ref().ok_or(Error::Fault)?;
    match &parts.vector {
        Some(vector) => in_ram(vector, page),
        None => in_segment(at, page),
    }
}

fn in_segment<'a, F, B>(at: &Resource<F>, page: u64) -> Result<Run<'a, B>, Error> {
    if at.segment() != SegmentId::LocalVisible {
        return Err(Error::Fault);
    }
    let mut before = 0;
    for extent in at.booking().extents() {
        if page - before < extent.pages() {
            let first = extent.first + (page - before);
            return Ok(Run {
                page,
                pages: extent.end - first,
                at: Page::Local(at.segment(), first),
            });
        }
        before += extent.pages();
    }
    Err(Error::Fault)
}

fn in_ram<B: crate::bo::pool::Linked>(
    vector: &PageVector<B>,
    page: u64,
) -> Result<Run<'_, B>, Error> {
    let first = usize::try_from(page).map_err(|_| Error::Fault)?;
    let (block, within) = vector.slot(first).ok_or(Error::Fault)?;
    let follows = |more: &usize| {
        let slot = vector.slot(first + more);
        slot.is_some_and(|(other, at)| core::ptr::eq(other, block) && at == within + more)
    };
    let rest = vector.shape().pages - first;
    let more = (1..rest).take_while(follows).count();
    Ok(Run {
        page,
        pages: 1 + more as u64,
        at: Page::Ram(block, within),
    })
}

/// A placement for a buffer that the CPU uses: where it reaches, first, and before
/// others have to leave; elsewhere only where that fails (D-16). `None` if there is
/// nothing to choose from.
pub(super) fn near(placement: &[Place]) -> Result<Option<alloc::vec::Vec<Place>>, Error> {
    let reached = |place: &&Place| place.segment != SegmentId::LocalInvisible;
    let count = placement.iter().filter(reached).count();
    if count == 0 || count == placement.len() {
        return Ok(None);
    }
    let mut near = alloc::vec::Vec::new();
    near.try_reserve_exact(placement.len())?;
    near.extend(placement.iter().filter(reached).map(|place| Place {
        flags: place.flags.without(Flags::FALLBACK),
        ..*place
    }));
    let far = placement.iter().filter(|place| !reached(place));
    // What is only desired is not, now.
    let far = far.filter(|place| !place.flags.has(Flags::DESIRED));
    near.extend(far.map(|place| Place {
        flags: place.flags.with(Flags::FALLBACK),
        ..*place
    }));
    Ok(Some(near))
}
