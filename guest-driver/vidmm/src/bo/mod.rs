//! Buffer objects and the arena they live in.

pub(crate) mod accounts;
pub(crate) mod gart;
pub(crate) mod memory;
pub mod page_vector;
pub mod pool;

use crate::Error;
use crate::bo::accounts::ClientId;
use crate::placement::segments::{Bus, SegmentId};
use alloc::sync::Arc;
use e3k_regs::PAGE_SIZE;

/// Names a BO. Stale once the BO is destroyed; never reused.
pub use crate::arena::Id as BoId;

/// Who a BO is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An application; its contents start as zeros.
    Device,
    /// The driver itself; pinned, contents start undefined.
    Kernel,
}

/// Proof that a range of a segment is booked. No mapping, no pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) segment: SegmentId,
    pub(crate) first_page: u64,
}

/// The RAM pages behind a BO (the page vector's state, R-7.2).
#[derive(Debug, Default)]
pub(crate) enum Backing<P> {
    /// None yet, or none needed.
    #[default]
    Empty,
    /// Pages exist; the GART may not point at them.
    Populated(Arc<P>),
    /// The GART points at the pages.
    Bound(Arc<P>),
}

impl<P> Backing<P> {
    pub(crate) fn pages(&self) -> Option<&Arc<P>> {
        match self {
            Self::Empty => None,
            Self::Populated(pages) | Self::Bound(pages) => Some(pages),
        }
    }

    /// The same pages, no longer counted as bound.
    pub(crate) fn unbound(self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Populated(pages) | Self::Bound(pages) => Self::Populated(pages),
        }
    }

    pub(crate) fn is_bound(&self) -> bool {
        matches!(self, Self::Bound(_))
    }
}

/// Whether a BO's first contents, zeros, are in place (its KERNEL class). Before
/// they are, its memory shows what another client left there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// They are, or nobody asks for any.
    InPlace,
    /// They are if all fills that clear it end well.
    Clearing(Clearing),
    /// They never will be: it was tried too often.
    Unusable,
}

/// See [`Contents::Clearing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clearing {
    /// The ring's fence of the last fill; `None` while that is queued.
    pub(crate) last: Option<u64>,
    /// How one of the fills ended that did not end well.
    pub(crate) error: Option<Error>,
    /// How often it had an error of its own and was begun anew.
    pub(crate) failed: u32,
}

impl Clearing {
    /// Takes the verdict on one of the fills. An error of its own counts more
    /// than that a reset cut another one off.
    pub(crate) fn note(&mut self, verdict: Result<(), Error>) {
        if let Err(error) = verdict
            && self.error != Some(Error::Io)
        {
            self.error = Some(error);
        }
    }
}

/// A buffer object.
#[derive(Debug)]
pub(crate) struct Bo<P> {
    pub(crate) kind: Kind,
    /// Whose account it is booked on.
    pub(crate) owner: Option<ClientId>,
    /// As asked for.
    pub(crate) bytes: u64,
    pub(crate) pages: u64,
    /// `None`: RAM that the GPU reaches by no range of its own (the dummy page).
    pub(crate) resource: Option<Resource>,
    pub(crate) backing: Backing<P>,
    pub(crate) pins: u32,
    pub(crate) contents: Contents,
    /// BOOKKEEP class: the memory may be reused when this fence is done. 0: it may.
    pub(crate) last_use: u64,
    /// Clients' jobs that use it and are not on the ring, or not all of them is.
    pub(crate) queued: u32,
    /// The newest client's job that uses it: whose client, and its number.
    pub(crate) last_job: Option<(ClientId, u64)>,
    /// Destroyed by its user, memory not yet given back.
    pub(crate) zombie: bool,
}

impl<P> Bo<P> {
    /// Pages needed for a size.
    pub(crate) const fn pages_of(bytes: u64) -> u64 {
        bytes.div_ceil(PAGE_SIZE)
    }

    pub(crate) fn new(kind: Kind, bytes: u64, resource: Option<Resource>) -> Self {
        Self {
            kind,
            owner: None,
            bytes,
            pages: Self::pages_of(bytes),
            resource,
            backing: Backing::Empty,
            pins: 0,
            contents: Contents::InPlace,
            last_use: 0,
            queued: 0,
            last_job: None,
            zombie: false,
        }
    }

    /// What its resource takes away from its segment.
    pub(crate) fn booked_bytes(&self) -> u64 {
        self.pages * PAGE_SIZE
    }

    /// In a picture of its segment.
    pub(crate) fn letter(&self) -> char {
        match (self.kind, self.owner) {
            _ if self.zombie => 'z',
            (Kind::Kernel, _) => 'K',
            _ if self.pins > 0 => 'P',
            (Kind::Device, None) => 'a',
            (Kind::Device, Some(client)) => client.letter(),
        }
    }

    pub(crate) fn is_on(&self, bus: Bus) -> bool {
        self.resource.is_some_and(|r| r.segment.bus() == bus)
    }
}

/// All BOs by id.
pub(crate) type Arena<P> = crate::arena::Arena<Bo<P>>;
