//! The invariants of the books, looked at by tests (section 23).

use super::budget::OwnerId;
use super::mm::Mm;
use super::world::{ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::Has;
use crate::bo::pool::SmallLock;
use crate::placement::{Extent, Flags, SegmentId};
use std::collections::HashMap;

/// A buffer with a place, those that are dying and what moves have left included.
pub(crate) struct Seen<W: World> {
    pub(crate) id: Id,
    pub(crate) segment: SegmentId,
    pub(crate) extents: Vec<Extent>,
    pub(crate) has: Has,
    /// Where the GPU finds its pages of RAM.
    pub(crate) frames: Vec<u64>,
    pub(crate) reservation: ReservationOf<W>,
}

impl<W: World + 'static> Mm<W> {
    /// All buffers that have a place.
    pub(crate) fn seen(&self) -> Vec<Seen<W>> {
        self.state.with(|state| {
            let seen = state.objects.iter().filter_map(|(id, object)| {
                let at = object.resource.as_ref()?;
                let slots = 0..usize::try_from(object.info.pages).unwrap();
                let vector = object.vector.as_ref();
                let frames = slots.filter_map(|slot| Some(vector?.bus_addr(slot)?.page()));
                Some(Seen {
                    id,
                    segment: at.segment(),
                    extents: at.booking().extents().to_vec(),
                    has: object.has(),
                    frames: frames.collect(),
                    reservation: object.reservation.clone(),
                })
            });
            seen.collect()
        })
    }

    /// Whether a buffer's contents are in the store.
    pub(crate) fn is_swapped(&self, id: Id) -> bool {
        let object = |state: &mut super::State<W>| Some(state.objects.get(id).ok()?.has());
        self.state.with(object) == Some(Has::Swapped)
    }

    /// Whether a buffer's contents were lost with the GPU.
    pub(crate) fn is_lost(&self, id: Id) -> bool {
        self.contents(id) == Err(Error::Lost)
    }

    /// Where a buffer lies.
    pub(crate) fn extents(&self, id: Id) -> Result<Vec<Extent>, Error> {
        self.state.with(|state| {
            let resource = state.objects.get(id)?.resource.as_ref();
            Ok(resource.map_or(Vec::new(), |at| at.booking().extents().to_vec()))
        })
    }

    /// Pages of RAM that buffers hold.
    pub(crate) fn held_pages(&self) -> usize {
        self.state.with(|state| {
            let objects = state.objects.iter();
            objects.map(|(_, object)| object.all_held()).sum()
        })
    }

    /// Moves to the tail of a list so far.
    pub(crate) fn stamps(&self) -> u64 {
        self.state.with(|state| state.lru.stamps())
    }

    /// Every byte is somebody's (what clients, the driver and free lists say is all).
    ///
    /// # Panics
    /// When it is not.
    fn check_bytes(&self) {
        let report = self.report();
        for it in report.types {
            let sum = it.clients + it.kernel + it.free;
            assert_eq!(sum, it.capacity, "{it:?}");
            assert!(it.fenced + it.longest_free_run <= it.free, "{it:?}");
            assert!(it.pinned + it.dying <= it.clients + it.kernel, "{it:?}");
        }
        let ram = report.ram.clients + report.ram.kernel;
        assert_eq!(ram, self.held_pages() as u64, "{:?}", report.ram);
    }

    /// # Panics
    /// When an invariant does not hold.
    pub(crate) fn check(&self) {
        self.check_bytes();
        self.state.with(|state| {
            state.lru.check();
            let held = state.objects.iter().map(|(_, object)| object.all_held());
            let held: usize = held.sum();
            assert_eq!(state.populated, held, "invariant 6");
            assert_eq!(state.arriving, [], "nothing is under way");
            let mut used: HashMap<SegmentId, u64> = HashMap::new();
            let mut taken: HashMap<SegmentId, Vec<Extent>> = HashMap::new();
            let mut charged: HashMap<(Option<OwnerId>, SegmentId), [u64; 3]> = HashMap::new();
            let mut unevictable = 0;
            let mut listed = 0;
            for (id, object) in state.objects.iter() {
                assert_eq!(object.entry.is_some(), object.resource.is_some());
                assert_eq!(object.refs == 0, object.dying);
                assert_eq!(object.dying, state.dying.contains(&id));
                let Some(at) = &object.resource else { continue };
                let entry = state.lru.entry(object.entry.unwrap());
                assert_eq!(
                    entry.ok(),
                    object.facts().map(|facts| (id, facts)),
                    "R-10.3"
                );
                listed += 1;
                let held = object.has() == Has::BackedUp && object.held() > 0;
                let stored = matches!(object.has(), Has::Swapped | Has::BackedUp) && !held;
                let swapped = at.segment() == SegmentId::System && stored;
                unevictable += usize::from(object.pins > 0 || swapped);
                *used.entry(at.segment()).or_default() += at.bytes();
                let [booked, dying, passing] =
                    charged.entry((at.owner(), at.segment())).or_default();
                *booked += at.bytes();
                *dying += if object.dying { at.bytes() } else { 0 };
                let passes = !object.dying && at.flags().has(Flags::TEMPORARY);
                *passing += if passes { at.bytes() } else { 0 };
                taken
                    .entry(at.segment())
                    .or_default()
                    .extend(at.booking().extents());
                // A type without pages of RAM keeps none.
                assert!(at.segment().uses_tt() || object.vector.is_none());
                assert!(!at.segment().uses_tt() || object.vector.is_some(), "R-8.1");
            }
            assert_eq!(state.lru.unevictable(), unevictable);
            let lengths = (0..SegmentId::COUNT).map(|t| state.lru.lengths(t).unwrap());
            let evictable: usize = lengths.flatten().sum();
            assert_eq!(evictable + unevictable, listed);
            for segment in SegmentId::ALL.into_iter().chain([SegmentId::System]) {
                let booked = used.get(&segment).copied().unwrap_or(0);
                assert_eq!(state.manager(segment).usage(), booked, "{segment:?}");
                // Every byte is on one account (D-20), and every charge has its range.
                let mut sum = state.accounts.kernel(segment);
                for (owner, balance) in state.accounts.clients(segment) {
                    let found = charged.remove(&(Some(owner), segment)).unwrap_or_default();
                    assert_eq!(
                        [balance.booked, balance.dying, balance.passing],
                        found,
                        "{owner:?} {segment:?}"
                    );
                    sum += balance.booked;
                }
                assert_eq!(sum, booked, "{segment:?}");
                let extents = taken.entry(segment).or_default();
                extents.sort();
                assert!(extents.windows(2).all(|pair| pair[0].end <= pair[1].first));
            }
        });
    }
}
