//! What a manager of a memory type does, and the search through places.

use crate::Error;
use crate::placement::{Extent, Flags, Pass, Place, Resource, SegmentId};
use core::fmt;

/// What is to be placed.
///
/// ```
/// use vidmm::placement::Request;
/// let table = Request { align: 16, kernel: true, ..Request::new(64) };
/// assert!(!table.clear);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Size, not 0.
    pub pages: u64,
    /// Pages: a power of two that each extent's begin is a multiple of, unless
    /// the extent is shorter. The buddy hands out no smaller blocks.
    pub align: u64,
    /// Pages that are known to be zero are preferred.
    pub clear: bool,
    /// For the driver itself: may use what is kept back from applications.
    pub kernel: bool,
    /// Keep what rounding up to `align` gave beyond `pages`.
    pub untrimmed: bool,
}

impl Request {
    /// That many pages for an application, at any page, whatever they hold.
    pub const fn new(pages: u64) -> Self {
        Self {
            pages,
            align: 1,
            clear: false,
            kernel: false,
            untrimmed: false,
        }
    }
}

/// How pages come back.
///
/// ```
/// use vidmm::placement::{Buddy, BuddyOptions, Flags, Freed, Request, Window};
/// let mut heap = Buddy::<u64>::new(8, BuddyOptions::default())?;
/// let booking = heap.book(&Request::new(8), Window::ALL, Flags::NONE)?;
/// // The copy that empties it is fence 5.
/// heap.give_back(booking, Freed { cleared: false, fence: Some(5) })?;
/// let next = heap.book(&Request::new(4), Window::ALL, Flags::NONE)?;
/// assert_eq!(next.fences(), [5]);
/// # Ok::<(), vidmm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed<F> {
    /// They are zero.
    pub cleared: bool,
    /// Somebody still works on them until this is done.
    pub fence: Option<F>,
}

impl<F> Default for Freed<F> {
    /// Nobody works on them, and what they hold is not known.
    fn default() -> Self {
        Self {
            cleared: false,
            fence: None,
        }
    }
}

/// Books pages of one memory type. It never touches contents, never waits and
/// never evicts. `F` is what a range may have to wait for.
///
/// ```
/// use vidmm::placement::{Flags, Freed, NoFence, Place, RangeManager, Request};
/// use vidmm::placement::{ResourceManager, SegmentId};
/// let manager: &mut dyn ResourceManager<NoFence> = &mut RangeManager::new(64)?;
/// let place = Place::anywhere(SegmentId::PcieSnoop, Flags::TOPDOWN);
/// let resource = manager.alloc(&Request::new(16), &place)?;
/// assert_eq!((resource.first_page(), manager.usage()), (Some(48), 16 * 4096));
/// manager.free(resource, Freed::default());
/// assert_eq!(manager.usage(), 0);
/// # Ok::<(), vidmm::Error>(())
/// ```
pub trait ResourceManager<F> {
    /// Books the pages of `request` inside the window of `place`.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when it is full or fragmented and freeing something can
    /// help; [`Error::NeverFits`] when nothing can; [`Error::NoMemory`] for the
    /// bookkeeping, [`Error::Invalid`] for a request that means nothing. Nothing
    /// has changed then.
    fn alloc(&mut self, request: &Request, place: &Place) -> Result<Resource<F>, Error>;

    /// Gives back what [`Self::alloc`] of the same manager booked. Cannot fail.
    fn free(&mut self, resource: Resource<F>, freed: Freed<F>);

    /// True if freeing `resource` could help a request for `place`; for any place
    /// if there is none.
    fn intersects(&self, resource: &Resource<F>, place: Option<&Place>) -> bool {
        let window = place.map(|place| place.window);
        let mut extents = resource.booking.extents.iter();
        window.is_none_or(|window| extents.any(|extent| window.intersects(*extent)))
    }

    /// True if `resource` is already entirely inside the window of `place`.
    fn compatible(&self, resource: &Resource<F>, place: &Place) -> bool {
        let mut extents = resource.booking.extents.iter();
        extents.all(|extent| place.window.contains(*extent))
    }

    /// Writes what is free, for a person to read.
    ///
    /// # Errors
    /// What `to` says.
    fn debug(&self, to: &mut dyn fmt::Write) -> fmt::Result;

    /// Bytes it manages.
    fn capacity(&self) -> u64;

    /// Bytes of all resources that are not given back (R-5.10).
    fn usage(&self) -> u64;
}

/// The managers by memory type; a type without one is left out of every search.
pub type Managers<'a, F> = [Option<&'a mut dyn ResourceManager<F>>; SegmentId::COUNT];

/// Books at the first place that has room, in one pass, without evicting.
///
/// ```
/// use vidmm::placement::{Flags, Managers, NoFence, Pass, Place, RangeManager, Request};
/// use vidmm::placement::{SegmentId, Window, book};
/// let mut visible = RangeManager::new(8)?;
/// let mut managers: Managers<'_, NoFence> = Default::default();
/// managers[SegmentId::LocalVisible as usize] = Some(&mut visible);
/// let window = |first_page, last_page| Place {
///     window: Window::new(first_page, last_page),
///     ..Place::anywhere(SegmentId::LocalVisible, Flags::NONE)
/// };
/// let places = [window(0, 4), window(6, 8)];
/// let starts = [0; 3].map(|_| {
///     let booked = book(&mut managers, &places, &Request::new(2), Pass::Free);
///     booked.ok().and_then(|resource| resource.first_page())
/// });
/// assert_eq!(starts, [Some(0), Some(2), Some(6)]);
/// # Ok::<(), vidmm::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoSpace`] when no place has room now; any error of a manager that is
/// not about room ends the search (R-11.1).
pub fn book<F>(
    managers: &mut Managers<'_, F>,
    placement: &[Place],
    request: &Request,
    pass: Pass,
) -> Result<Resource<F>, Error> {
    for place in placement.iter().filter(|p| p.flags.counts_in(pass)) {
        let Some(manager) = &mut managers[place.segment as usize] else {
            continue;
        };
        match manager.alloc(request, place) {
            Err(Error::NoSpace | Error::NeverFits) => {}
            booked => return booked,
        }
    }
    Err(Error::NoSpace)
}

/// True if a buffer with `resource` need not move for `placement` in this pass.
pub fn good_enough<F>(
    manager: &dyn ResourceManager<F>,
    resource: &Resource<F>,
    placement: &[Place],
    pass: Pass,
) -> bool {
    !resource.flags.has(Flags::TEMPORARY) && is_at(manager, resource, placement, pass)
}

/// True if a buffer with `resource` is at one of these places, be it for a while.
pub(crate) fn is_at<F>(
    manager: &dyn ResourceManager<F>,
    resource: &Resource<F>,
    placement: &[Place],
    pass: Pass,
) -> bool {
    placement.iter().any(|place| {
        place.segment == resource.segment
            && place.flags.counts_in(pass)
            && (resource.is_contiguous() || !place.flags.has(Flags::CONTIGUOUS))
            && manager.compatible(resource, place)
    })
}

/// Writes one line for each run of free pages, at most 64.
pub(crate) fn write_free(
    to: &mut dyn fmt::Write,
    free: impl Iterator<Item = Extent>,
) -> fmt::Result {
    let mut free = free.peekable();
    for hole in free.by_ref().take(64) {
        writeln!(
            to,
            "free {:#x} {:#x} {}",
            hole.first,
            hole.end,
            hole.pages()
        )?;
    }
    if free.peek().is_some() {
        writeln!(to, "and more")?;
    }
    Ok(())
}
