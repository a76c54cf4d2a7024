//! What lies under the lock: all objects, the managers of the memory types, the
//! order in which buffers have to leave.

use super::accounts::{Accounts, Room};
use super::budget::{OwnerId, Terms};
use super::lru::Lru;
use super::object::{Contents, Mark, Object, before};
use super::options::Options;
use super::promote::Spent;
use super::report::{Counters, Traffic};
use super::used::Bulk;
use super::world::World;
use crate::Error;
use crate::arena::{Arena, Id};
use crate::placement::{
    Buddy, BuddyStats, Extent, Freed, Pass, Place, Request, ResourceManager, SegmentId,
    SystemManager, good_enough, is_at,
};
use crate::sync::Primitives;
use alloc::vec::Vec;
use e3k_regs::PAGE_SIZE;

/// The manager of one memory type.
#[expect(clippy::large_enum_variant, reason = "there are five of them")]
enum Manager<F> {
    Pages(Buddy<F>),
    System(SystemManager),
}

impl<F: Clone + PartialEq + 'static> Manager<F> {
    fn any(&self) -> &dyn ResourceManager<F> {
        match self {
            Self::Pages(buddy) => buddy,
            Self::System(system) => system,
        }
    }

    fn any_mut(&mut self) -> &mut dyn ResourceManager<F> {
        match self {
            Self::Pages(buddy) => buddy,
            Self::System(system) => system,
        }
    }
}

/// What a range is booked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) buffer: Id,
    pub(super) request: Request,
    pub(super) owner: Option<OwnerId>,
    pub(super) terms: Terms,
}

impl Claim {
    /// Whose promises do not count. Who has to leave himself takes nothing from others
    /// of his client below what was promised to it.
    pub(super) fn hunts_for(&self) -> Option<OwnerId> {
        self.owner.filter(|_| self.terms == Terms::Asked)
    }
}

/// What lies under the lock.
///
/// # Invariants
/// An object with a resource has an entry in `lru`, on the list that its facts say;
/// one without has none.
pub struct State<W: World> {
    pub(super) objects: Arena<Object<W>>,
    managers: [Manager<Mark<W>>; SegmentId::COUNT],
    pub(super) lru: Lru<Id, { SegmentId::COUNT }>,
    /// The newest fences behind which a range of each type became free.
    last_moves: [Mark<W>; SegmentId::COUNT],
    /// Objects that wait for their fences to be freed; room for all there are.
    pub(super) dying: Vec<Id>,
    pub(super) accounts: Accounts,
    /// Pages of RAM that buffers have, or are about to have.
    pub(super) populated: usize,
    /// How many there may be.
    pub(super) ram_limit: usize,
    /// Buffers for which something is booked where they are not yet: they are on no
    /// list there, and who looks for room must not take it for nothing that could
    /// leave. Room for two of each there is: itself and its stop.
    pub(super) arriving: Vec<(Id, SegmentId)>,
    /// Bulk groups.
    pub(super) groups: Vec<Bulk<W>>,
    /// What promotion has moved lately.
    pub(super) spent: Spent,
    pub(super) counters: Counters,
    changes: [u64; SegmentId::COUNT],
    /// Jobs that sent buffers to the tails of their lists.
    pub(super) touches: u64,
    /// By memory type.
    pub(super) traffic: [Traffic; SegmentId::COUNT],
}

impl<W: World + 'static> State<W> {
    /// Empty segments of so many pages.
    ///
    /// # Errors
    /// As [`Buddy::new`].
    pub(super) fn new(pages: [u64; 4], options: &Options) -> Result<Self, Error> {
        let [a, b, c, d] = pages.map(|pages| Buddy::new(pages, options.buddy).map(Manager::Pages));
        Ok(Self {
            objects: Arena::new(),
            managers: [a?, b?, c?, d?, Manager::System(SystemManager::default())],
            lru: Lru::new(),
            last_moves: [const { Mark::NONE }; SegmentId::COUNT],
            dying: Vec::new(),
            accounts: Accounts::new(),
            populated: 0,
            ram_limit: usize::MAX,
            arriving: Vec::new(),
            groups: Vec::new(),
            spent: Spent::default(),
            counters: Counters::default(),
            changes: [0; SegmentId::COUNT],
            touches: 0,
            traffic: [Traffic::default(); SegmentId::COUNT],
        })
    }

    pub(super) fn manager(&self, segment: SegmentId) -> &dyn ResourceManager<Mark<W>> {
        self.managers[segment as usize].any()
    }

    /// Puts an object where it belongs now, at the tail, after its resource or any of
    /// its facts has changed. The entry exists already where there was a resource.
    pub(super) fn relink(&mut self, id: Id) -> Result<(), Error> {
        let object = self.objects.get(id)?;
        let facts = object.facts();
        // Also where it only goes to the tail: a walk that is under way ends before that.
        if let Some(new) = facts {
            self.changes[new.mem_type] += 1;
        }
        // INVARIANT: on a list as long as it has a resource, on the one that its facts say.
        match (object.entry, facts) {
            (None, None) => Ok(()),
            (Some(entry), Some(facts)) => self.lru.relink(entry, facts),
            (None, Some(facts)) => {
                let entry = self.lru.insert(id, facts)?;
                self.objects.get_mut(id)?.entry = Some(entry);
                Ok(())
            }
            (Some(entry), None) => {
                self.lru.remove(entry)?;
                self.objects.get_mut(id)?.entry = None;
                Ok(())
            }
        }
    }

    /// How often something has happened to a memory type that may make room there: a range
    /// became free, or a buffer came to be there whose leaving may help.
    pub(super) const fn changes(&self, segment: SegmentId) -> u64 {
        self.changes[segment as usize] + self.touches
    }

    pub(super) const fn change(&mut self, segment: SegmentId) {
        self.changes[segment as usize] += 1;
    }

    /// See [`Mm::contents`](super::Mm::contents).
    pub(super) fn contents(&mut self, world: &W, id: Id) -> Result<(), Error> {
        let object = self.objects.get_mut(id)?;
        if let Contents::Coming(fence) = &object.contents {
            match world.sync().result(fence) {
                None => {}
                Some(Ok(())) => object.contents = Contents::InPlace,
                Some(Err(_)) => object.contents = Contents::Lost,
            }
        }
        match object.contents {
            Contents::Lost => Err(Error::Lost),
            _ => Ok(()),
        }
    }

    /// Whether a buffer may stay where it is in a pass.
    pub(super) fn fits(&self, object: &Object<W>, placement: &[Place], pass: Pass) -> bool {
        object.resource.as_ref().is_some_and(|room| {
            let manager = self.manager(room.segment());
            good_enough(manager, room, placement, pass)
        })
    }

    /// Has a buffer stay where it is if that will do where nothing better is found: also at a
    /// stop on its way, of which it would need as much again. Whether it does.
    pub(super) fn stay(&mut self, id: Id, placement: &[Place]) -> Result<bool, Error> {
        let object = self.objects.get(id)?;
        let Some(room) = &object.resource else {
            return Ok(false);
        };
        let manager = self.manager(room.segment());
        if !is_at(manager, room, placement, Pass::Evict) || self.accounts.is_beyond_limit(room) {
            return Ok(false);
        }
        if let Some(room) = &mut self.objects.get_mut(id)?.resource {
            self.accounts.stay(room);
        }
        Ok(true)
    }

    /// Whether a buffer is where it should be: what is pinned need not be where it would
    /// be best.
    pub(super) fn stands(&self, object: &Object<W>, placement: &[Place]) -> bool {
        self.fits(object, placement, Pass::Free)
            || (object.pins > 0 && self.fits(object, placement, Pass::Evict))
    }

    /// Whether a request that found no room, and why, may have others leave: in the
    /// second pass, and before that where it takes no more than was promised to its
    /// client (D-20).
    pub(super) fn may_evict(&self, claim: &Claim, place: &Place, pass: Pass, why: Error) -> bool {
        let bytes = claim.request.pages.saturating_mul(PAGE_SIZE);
        let promised = || {
            self.accounts
                .is_protected(claim.owner, place.segment, bytes)
        };
        let about_room = match why {
            Error::NoSpace => pass == Pass::Evict || promised(),
            Error::Limit { .. } => pass == Pass::Evict,
            _ => false,
        };
        about_room && place.segment != SegmentId::System && place.flags.counts_in(Pass::Evict)
    }

    /// Nobody has an object any more; it goes when the GPU is done with it.
    pub(super) fn bury(&mut self, id: Id) -> Result<(), Error> {
        let object = self.objects.get_mut(id)?;
        (object.refs, object.pins, object.dying) = (0, 0, true);
        if let Some(room) = &mut object.resource {
            self.accounts.bury(room);
        }
        self.dying.push(id);
        // It may have a reservation of its own from now on.
        self.regroup(id, None)
    }

    /// What is free of a memory type that has addresses.
    pub(super) fn free_stats(&self, segment: SegmentId) -> Option<BuddyStats> {
        match &self.managers[segment as usize] {
            Manager::Pages(buddy) => Some(buddy.stats()),
            Manager::System(_) => None,
        }
    }

    /// See [`Buddy::foresee`]; in SYSTEM, where nothing has an address, nothing.
    pub(super) fn foresee_booking(
        &mut self,
        request: &Request,
        place: &Place,
        freed: &[Extent],
    ) -> Result<Vec<Extent>, Error> {
        match &mut self.managers[place.segment as usize] {
            Manager::Pages(buddy) => buddy.foresee(request, place.window, place.flags, freed),
            Manager::System(_) => Ok(Vec::new()),
        }
    }

    /// An object goes out of the books.
    pub(super) fn remove(&mut self, id: Id) -> Option<Object<W>> {
        let gone = self.objects.remove(id)?;
        self.accounts.strike(gone.info.owner);
        Some(gone)
    }

    /// Puts an object on another list if that is where it belongs now. What was not
    /// moved and not used stays where it is on its list.
    pub(super) fn settle(&mut self, id: Id) -> Result<(), Error> {
        let object = self.objects.get(id)?;
        let listed = object.entry.and_then(|entry| self.lru.entry(entry).ok());
        if listed.map(|(_, facts)| facts) == object.facts() {
            return Ok(());
        }
        self.relink(id)
    }

    /// Gives a range back, for others after the fence.
    pub(super) fn free(&mut self, mut room: Room<W>, fence: Option<Mark<W>>) {
        self.arrive(&mut room);
        let resource = self.accounts.refund(room);
        self.change(resource.segment());
        if let Some(mark) = &fence {
            self.last_moves[resource.segment() as usize].join(mark);
        }
        let freed = Freed {
            cleared: false,
            fence,
        };
        let manager = &mut self.managers[resource.segment() as usize];
        manager.any_mut().free(resource, freed);
    }

    /// A buffer is where something was booked for it, or will not come.
    pub(super) fn arrive(&mut self, room: &mut Room<W>) {
        let buffer = room.arrived();
        if buffer.is_some() {
            self.accounts.settle(room);
        }
        let came = |it: &(Id, SegmentId)| Some(it.0) == buffer && it.1 == room.segment();
        if let Some(at) = self.arriving.iter().position(came) {
            self.arriving.swap_remove(at);
        }
    }

    /// Somebody else who is on his way to a memory type.
    pub(super) fn arriving_at(&self, segment: SegmentId, own: Id, but: &[Id]) -> Option<Id> {
        let mut all = self.arriving.iter();
        let found = all.find(|(id, to)| *to == segment && *id != own && !but.contains(id));
        found.map(|(id, _)| *id)
    }

    /// See [`Self::last_moves`].
    pub(super) const fn last_moves(&self, segment: SegmentId) -> &Mark<W> {
        &self.last_moves[segment as usize]
    }

    /// They have ended; those that came behind them are kept.
    pub(super) fn forget_moves(&mut self, segment: SegmentId, ended: &Mark<W>) {
        let last = &mut self.last_moves[segment as usize];
        if last == ended {
            *last = Mark::NONE;
        }
    }

    /// Gives back a range that was booked and not used: whoever had it before may
    /// still work on it.
    pub(super) fn unbook(&mut self, room: Room<W>) {
        let fence = before(&room);
        self.free(room, fence);
    }

    /// Books a range, and charges for it; ranges whose fences have ended count as free.
    ///
    /// # Errors
    /// Those of the manager; [`Error::Limit`] where the owner may book no more.
    pub(super) fn book(
        &mut self,
        world: &W,
        claim: &Claim,
        place: &Place,
    ) -> Result<Room<W>, Error> {
        let bytes = claim.request.pages.saturating_mul(PAGE_SIZE);
        let (owner, segment) = (claim.owner, place.segment);
        self.accounts.admit(owner, segment, bytes, claim.terms)?;
        let manager = &mut self.managers[place.segment as usize];
        if let Manager::Pages(buddy) = manager {
            buddy.retire(|mark| mark.has_ended(world));
        }
        let alloc = manager.any_mut().alloc(&claim.request, place);
        if let Err(Error::NoSpace) = alloc {
            let free = manager
                .any()
                .capacity()
                .saturating_sub(manager.any().usage());
            let traffic = &mut self.traffic[segment as usize];
            if free < bytes {
                traffic.refused_full += 1;
            } else {
                traffic.refused_fragmented += 1;
            }
        }
        let resource = alloc?;
        self.arriving.push((claim.buffer, segment));
        Ok(self.accounts.charge(resource, owner, claim.buffer))
    }
}
