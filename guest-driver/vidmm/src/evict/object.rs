//! What the books say of one buffer object.

use super::accounts::Room;
use super::budget::OwnerId;
use super::fault::Ahead;
use super::lru::{EntryId, Facts, GroupId};
use super::world::{BlockOf, COPY_RINGS, FenceOf, ReservationOf, World};
use crate::Error;
use crate::bo::Kind;
use crate::bo::page_vector::{Has, PageVector, Shape};
use crate::placement::{Place, Request, SegmentId};
use crate::platform::Caching;
use crate::sync::Primitives;
use e3k_regs::PAGE_SIZE;

/// A fence, its context and sequence.
type Identified<W> = (FenceOf<W>, (u64, u64));

/// What a free range may have to wait for: the newest fence of each ring (D-9).
///
/// # Invariants
/// One fence of a context at most.
pub(super) struct Mark<W: World> {
    fences: [Option<Identified<W>>; COPY_RINGS],
}

impl<W: World> Mark<W> {
    /// Nothing.
    pub(super) const NONE: Self = Self {
        fences: [const { None }; COPY_RINGS],
    };

    pub(super) fn new(world: &W, fence: &FenceOf<W>) -> Self {
        let mut mark = Self::NONE;
        mark.fences[0] = Some((fence.clone(), world.sync().identity(fence)));
        mark
    }

    /// Waits for what the other one waits for, too.
    pub(super) fn join(&mut self, other: &Self) {
        for (fence, (context, sequence)) in other.fences.iter().flatten() {
            let mut of_context = self
                .fences
                .iter()
                .position(|own| matches!(own, Some((_, identity)) if identity.0 == *context));
            of_context = of_context.or_else(|| self.fences.iter().position(Option::is_none));
            debug_assert!(of_context.is_some(), "more rings than COPY_RINGS");
            let own = &mut self.fences[of_context.unwrap_or(0)];
            // INVARIANT: a context ends in order, so its newest is enough.
            if own
                .as_ref()
                .is_none_or(|(_, identity)| identity.1 < *sequence)
            {
                *own = Some((fence.clone(), (*context, *sequence)));
            }
        }
    }

    pub(super) fn fences(&self) -> impl Iterator<Item = &FenceOf<W>> {
        self.fences.iter().flatten().map(|(fence, _)| fence)
    }

    pub(super) fn has_ended(&self, world: &W) -> bool {
        self.fences()
            .all(|fence| world.sync().result(fence).is_some())
    }
}

impl<W: World> Clone for Mark<W> {
    fn clone(&self) -> Self {
        let fences = self.fences.clone();
        Self { fences }
    }
}

impl<W: World> PartialEq for Mark<W> {
    fn eq(&self, other: &Self) -> bool {
        let identities = |mark: &Self| mark.fences.each_ref().map(|it| it.as_ref().map(|it| it.1));
        identities(self) == identities(other)
    }
}

/// What a buffer object is, for its life.
///
/// ```
/// use vidmm::{Caching, SegmentId, bo::Kind, evict::Info};
/// let info = Info {
///     kind: Kind::Device,
///     pages: 256,
///     align: 1,
///     caching: Caching::WriteCombined,
///     priority: 0,
///     owner: None,
/// };
/// assert_eq!(info.pcie(), SegmentId::PcieUnsnoop, "in RAM it is past the CPU's caches");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Who it is for.
    pub kind: Kind,
    /// Its size, not 0.
    pub pages: u64,
    /// As [`Request::align`].
    pub align: u64,
    /// The mode of its pages of RAM (R-7.5). Of the two PCIe types, only the one of
    /// this mode may have it.
    pub caching: Caching,
    /// When it has to leave: 0 first.
    pub priority: usize,
    /// Whose account it is booked on; none: the driver's.
    pub owner: Option<OwnerId>,
}

impl Info {
    /// The PCIe type that its pages may be in.
    pub const fn pcie(&self) -> SegmentId {
        match self.caching {
            Caching::Cached => SegmentId::PcieSnoop,
            Caching::WriteCombined => SegmentId::PcieUnsnoop,
        }
    }

    /// Whether it can be at all of these places, and there is one.
    pub(super) fn may_be_at(&self, placement: &[Place]) -> bool {
        let may = |place: &Place| match place.segment {
            SegmentId::PcieSnoop | SegmentId::PcieUnsnoop => place.segment == self.pcie(),
            _ => true,
        };
        !placement.is_empty() && placement.iter().all(may)
    }

    pub(super) const fn request(&self) -> Request {
        Request {
            pages: self.pages,
            align: self.align,
            clear: matches!(self.kind, Kind::Device),
            kernel: matches!(self.kind, Kind::Kernel),
            untrimmed: false,
        }
    }

    pub(super) fn shape(&self) -> Result<Shape, Error> {
        Ok(Shape {
            pages: usize::try_from(self.pages).map_err(|_| Error::Invalid)?,
            caching: self.caching,
            low: false,
            mapped: true,
            beneficial_order: 9,
        })
    }
}

/// Whether a buffer's contents are where it is.
pub(super) enum Contents<W: World> {
    /// They are, or there are none.
    InPlace,
    /// They are when this copy or clear has ended well.
    Coming(FenceOf<W>),
    /// They never will be. What lies there may be another's (R-7.8).
    Lost,
}

/// A buffer object.
pub(super) struct Object<W: World> {
    pub(super) info: Info,
    /// Held to change what follows.
    pub(super) reservation: ReservationOf<W>,
    /// Its own, where `reservation` is shared with others.
    pub(super) own: ReservationOf<W>,
    /// Handles, mappings and whoever works on it.
    pub(super) refs: u32,
    /// The last reference is gone; its memory is not yet.
    pub(super) dying: bool,
    pub(super) pins: u32,
    pub(super) group: Option<GroupId>,
    pub(super) resource: Option<Room<W>>,
    pub(super) vector: Option<PageVector<BlockOf<W>>>,
    /// Pages of RAM, for when it has to leave local memory: see [`Mm::reserve_ram`](super::Mm::reserve_ram).
    pub(super) reserve: Option<PageVector<BlockOf<W>>>,
    pub(super) contents: Contents<W>,
    pub(super) entry: Option<EntryId>,
    /// How far the last fault went.
    pub(super) ahead: Ahead,
    /// Validations for which it counts that the CPU uses it (D-16).
    pub(super) cpu_use: u8,
    /// Where it was wanted most (D-3).
    pub(super) best: Option<Place>,
    /// Where it had to leave last.
    pub(super) left: Option<Eviction>,
}

/// That a buffer had to leave a memory type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eviction {
    pub(super) from: SegmentId,
    pub(super) at_ns: u64,
}

impl<W: World> Object<W> {
    pub(super) fn segment(&self) -> Option<SegmentId> {
        self.resource.as_ref().map(|room| room.segment())
    }

    pub(super) fn has(&self) -> Has {
        self.vector.as_ref().map_or(Has::Nothing, PageVector::has)
    }

    /// Pages of RAM that it has.
    pub(super) fn held(&self) -> usize {
        self.vector.as_ref().map_or(0, PageVector::held)
    }

    /// Whether all its contents are in the store: there is nothing to give up any more.
    fn is_stored(&self) -> bool {
        let stored = self.vector.as_ref().map_or(0, PageVector::stored);
        stored > 0 && self.held() == 0
    }

    /// The same, and those that are reserved for it.
    pub(super) fn all_held(&self) -> usize {
        self.held() + self.reserve.as_ref().map_or(0, PageVector::held)
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.info.pages.saturating_mul(PAGE_SIZE)
    }

    /// What decides on the list that it belongs on (R-10.3).
    pub(super) fn facts(&self) -> Option<Facts> {
        Some(Facts {
            mem_type: self.segment()? as usize,
            priority: self.info.priority,
            pinned: self.pins > 0,
            // In SYSTEM, which such a buffer went to. A place elsewhere is a new one (R-6.4).
            swapped: self.segment()? == SegmentId::System && self.is_stored(),
            group: self.group,
        })
    }
}

/// What has to end before a range that was booked may be used.
pub(super) fn before<W: World>(resource: &Room<W>) -> Option<Mark<W>> {
    let mut all = resource.booking().fences().iter();
    let mut first = all.next()?.clone();
    all.for_each(|mark| first.join(mark));
    Some(first)
}

/// What makes an object's memory.
pub(super) struct Parts<W: World> {
    pub(super) info: Info,
    pub(super) resource: Option<Room<W>>,
    pub(super) vector: Option<PageVector<BlockOf<W>>>,
}
