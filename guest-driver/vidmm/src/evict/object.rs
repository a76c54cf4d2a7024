//! What the books say of one buffer object.

use super::accounts::Room;
use super::budget::OwnerId;
use super::fault::Ahead;
use super::lru::{EntryId, Facts, GroupId};
use super::world::{BlockOf, FenceOf, ReservationOf, World};
use crate::Error;
use crate::bo::Kind;
use crate::bo::page_vector::{Has, PageVector, Shape};
use crate::placement::{Place, Request, SegmentId};
use crate::platform::Caching;
use crate::sync::Primitives;
use e3k_regs::PAGE_SIZE;

/// A fence that a free range may have to wait for (D-9).
pub(super) struct Mark<W: World> {
    pub(super) fence: FenceOf<W>,
    pub(super) identity: (u64, u64),
}

impl<W: World> Mark<W> {
    pub(super) fn new(world: &W, fence: &FenceOf<W>) -> Self {
        Self {
            fence: fence.clone(),
            identity: world.sync().identity(fence),
        }
    }
}

impl<W: World> Clone for Mark<W> {
    fn clone(&self) -> Self {
        Self {
            fence: self.fence.clone(),
            identity: self.identity,
        }
    }
}

impl<W: World> PartialEq for Mark<W> {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

/// What a buffer object is, for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Who it is for.
    pub kind: Kind,
    /// Its size, not 0.
    pub pages: u64,
    /// As [`Request::align`].
    pub align: u64,
    /// The mode of its pages of RAM. Of the two PCIe types, only the one of
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

    pub(super) const fn bytes(&self) -> u64 {
        self.info.pages.saturating_mul(PAGE_SIZE)
    }

    /// What decides on the list that it belongs on.
    pub(super) fn facts(&self) -> Option<Facts> {
        Some(Facts {
            mem_type: self.segment()? as usize,
            priority: self.info.priority,
            pinned: self.pins > 0,
            swapped: self.has() == Has::Swapped,
            group: self.group,
        })
    }
}

/// The last of the fences that a range has to wait for. They are of one context, and
/// end in order.
pub(super) fn latest<W: World>(resource: &Room<W>) -> Option<Mark<W>> {
    let fences = resource.booking().fences().iter();
    fences.max_by_key(|mark| mark.identity.1).cloned()
}

/// What makes an object's memory.
pub(super) struct Parts<W: World> {
    pub(super) info: Info,
    pub(super) resource: Option<Room<W>>,
    pub(super) vector: Option<PageVector<BlockOf<W>>>,
}
