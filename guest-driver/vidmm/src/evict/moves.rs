//! Moving contents (section 12).

use super::accounts::Room;
use super::attempt::Attempt;
use super::budget::Terms;
use super::cause::Step;
use super::ghost::Ghost;
use super::mm::Mm;
use super::object::{Contents, Mark, Parts, before};
use super::world::{COPY_RINGS, FenceOf, Side, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::page_vector::{Has, PageVector};
use crate::bo::pool::SmallLock;
use crate::placement::{Flags, Place, SegmentId};
use crate::sync::{Caller, LockSet, Locked, Usage};

/// How contents come from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// There are none, or the pages of RAM stay what they are.
    Null,
    /// There are none, and somebody may look: local memory is cleared.
    Clear,
    /// The copy engine.
    Copy,
}

impl<W: World + 'static> Mm<W> {
    /// Moves a buffer, which the set holds and which has a fence slot, to a range that
    /// is booked for it, over a stop where one is needed (12.3).
    ///
    /// # Errors
    /// As [`Self::validate`]; the range is given back.
    pub(super) fn move_to(
        &self,
        set: &mut LockSet<'_, W::Sync>,
        id: Id,
        new: Room<W>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let info = self.info(id)?;
        let hop = self.stop(id, new.segment());
        let reservation = self.reservation(id)?;
        let moved = hop.and_then(|hop| {
            let Some(hop) = hop else {
                return Ok(());
            };
            let place = [Place::anywhere(hop, Flags::TEMPORARY)];
            // What can fail comes before a range is booked.
            let held = set.get(&reservation).ok_or(Error::Invalid)?;
            held.reserve_slots(2)?;
            let booked = self.find_space(set, id, &place, Terms::Passing, attempt)?;
            let Some(held) = set.get(&reservation) else {
                self.state.with(|state| state.unbook(booked));
                return Err(Error::Invalid);
            };
            self.move_once(held, id, booked, attempt)?;
            attempt.ctx.moved_pages += info.pages;
            self.state.with(|state| state.counters.stops += 1);
            Ok(())
        });
        if let Err(error) = moved {
            self.state.with(|state| state.unbook(new));
            return Err(error);
        }
        let held = set.get(&reservation).ok_or(Error::Invalid)?;
        self.move_once(held, id, new, attempt)?;
        attempt.ctx.moved_pages += info.pages;
        Ok(())
    }

    /// The stop that a buffer's contents must make on their way.
    pub(super) fn stop(&self, id: Id, to: SegmentId) -> Result<Option<SegmentId>, Error> {
        self.state.with(|state| {
            let object = state.objects.get(id)?;
            let from = object.segment();
            let contents = match from {
                Some(from) if from.uses_tt() => object.has() != Has::Nothing,
                Some(_) => true,
                None => false,
            };
            let from = from.filter(|_| contents);
            let asked = from.and_then(|from| self.world.hop(from, to));
            // Of the two PCIe types, only one can have its pages.
            Ok(asked.map(|_| object.info.pcie()))
        })
    }

    /// One move. What can fail comes before anything has changed.
    pub(super) fn move_once(
        &self,
        held: &mut Locked<'_, W::Sync>,
        id: Id,
        new: Room<W>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        let mut caller = Caller::enter(self.world.sync());
        // Its own fence, and those of what was there before.
        let prepared = held
            .reserve_slots(1 + COPY_RINGS)
            .map_err(|error| attempt.blame(id, Step::Books, error))
            .and_then(|()| self.unmap_gpu(held, id, attempt))
            .and_then(|()| {
                let ghost = Ghost::prepare(self, &mut caller);
                ghost.map_err(|error| attempt.blame(id, Step::Books, error))
            });
        let ghost = match prepared {
            Ok(ghost) => ghost,
            Err(error) => {
                self.state.with(|state| state.unbook(new));
                return Err(error);
            }
        };
        self.world.unmap_user(id);
        let lost = self.contents(id) == Err(Error::Lost);
        let mut parts = match self.take(id) {
            Ok(parts) => parts,
            Err(error) => {
                self.state.with(|state| state.unbook(new));
                ghost.cancel(self);
                return Err(error);
            }
        };
        let moved = self.transfer(held, id, &mut parts, &new, lost, attempt);
        let is_there = moved.is_ok();
        if is_there {
            let from = parts.resource.as_ref().map(|room| room.segment());
            self.count_move(id, from, &new);
        }
        let mut left = Parts {
            info: parts.info,
            resource: None,
            vector: None,
        };
        let result = match moved {
            Ok(fence) => {
                if let Some(fence) = &fence {
                    let coming = Contents::Coming(fence.clone());
                    self.state.with(|state| {
                        if let Ok(object) = state.objects.get_mut(id) {
                            object.contents = coming;
                        }
                    });
                }
                left.resource = parts.resource.replace(new);
                if !parts
                    .resource
                    .as_ref()
                    .is_some_and(|r| r.segment().uses_tt())
                {
                    // A buffer in local memory keeps no pages.
                    left.vector = parts.vector.take();
                }
                self.leave_behind(ghost, left, fence)
            }
            Err(error) => {
                self.state.with(|state| state.unbook(new));
                ghost.cancel(self);
                Err(error)
            }
        };
        self.put(id, parts, is_there)?;
        result
    }

    /// No address space leads to a buffer that is about to leave. The CPU writes their
    /// entries, at once, so jobs that may use them have ended.
    pub(super) fn unmap_gpu(
        &self,
        held: &Locked<'_, W::Sync>,
        id: Id,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<(), Error> {
        if !self.world.is_mapped(id) {
            return Ok(());
        }
        attempt
            .idle(self, held, Usage::Bookkeep)
            .map_err(|error| attempt.blame(id, Step::Wait, error))?;
        let unmapped = self.world.unmap_gpu(id);
        unmapped.map_err(|error| attempt.blame(id, Step::Unmap, error))
    }

    /// Counts a move, and whether it is one back (a thrash).
    fn count_move(&self, id: Id, from: Option<SegmentId>, new: &Room<W>) {
        let now = self.world.after(0).0;
        let to = new.segment();
        let stays = !new.flags().has(Flags::TEMPORARY);
        self.state.with(|state| {
            let Ok(object) = state.objects.get_mut(id) else {
                return;
            };
            let bytes = object.bytes();
            let back = object.left.filter(|left| stays && left.from == to);
            if back.is_some_and(|left| now.saturating_sub(left.at_ns) < self.options.thrash_ns) {
                state.counters.thrashed_pages += object.info.pages;
            }
            if let Some(from) = from {
                state.traffic[from as usize].bytes_out += bytes;
            }
            state.traffic[to as usize].bytes_in += bytes;
        });
    }

    /// Brings contents over, or begins to: the fence of the copy, if there is one. Where
    /// they are `lost`, nothing is brought.
    fn transfer(
        &self,
        held: &mut Locked<'_, W::Sync>,
        id: Id,
        parts: &mut Parts<W>,
        new: &Room<W>,
        lost: bool,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<Option<FenceOf<W>>, Error> {
        let to = new.segment();
        let from = parts.resource.as_ref().map(|room| room.segment());
        let from_pages = from.is_some_and(SegmentId::uses_tt);
        let has = parts.vector.as_ref().map_or(Has::Nothing, PageVector::has);
        let copies = match from {
            _ if lost => false,
            // From one PCIe type to SYSTEM and back, pages stay what they are.
            Some(_) if from_pages => !to.uses_tt() && has != Has::Nothing,
            Some(_) => true,
            None => false,
        };
        // Whatever comes to local memory comes after what was there (D-9).
        for fence in before(new).iter().flat_map(Mark::fences) {
            held.add(fence, Usage::Kernel)?;
        }
        let way = if copies {
            Way::Copy
        } else if !to.uses_tt() && parts.info.kind == Kind::Device && !lost {
            Way::Clear
        } else {
            Way::Null
        };
        let fence = match way {
            Way::Null => {
                // Entries that point at the pages go, once nobody uses them, and so does
                // local memory whose contents are lost.
                if has == Has::BoundPages || from.is_some_and(|from| !from.uses_tt()) {
                    attempt
                        .idle(self, held, Usage::Bookkeep)
                        .map_err(|error| attempt.blame(id, Step::Wait, error))?;
                    self.unbind(parts);
                }
                if to.uses_tt() && parts.vector.is_none() {
                    let zero = parts.info.kind == Kind::Device;
                    parts.vector = Some(PageVector::new(parts.info.shape()?, zero));
                }
                None
            }
            Way::Clear => {
                let dirty = Side {
                    segment: to,
                    extents: new.booking().dirty(),
                    pages: None,
                };
                if dirty.extents.is_empty() {
                    None
                } else {
                    let cleared = self.world.clear(held.reservation(), &dirty);
                    Some(cleared.map_err(|error| attempt.blame(id, Step::Clear, error))?)
                }
            }
            Way::Copy => Some(self.copy(held, id, parts, new, attempt)?),
        };
        if let Some(fence) = &fence {
            held.add(fence, Usage::Kernel)?;
        }
        self.state.with(|state| {
            *match way {
                Way::Null => &mut state.counters.null_moves,
                Way::Clear => &mut state.counters.clears,
                Way::Copy => &mut state.counters.copies,
            } += 1;
        });
        Ok(fence)
    }

    fn copy(
        &self,
        held: &Locked<'_, W::Sync>,
        id: Id,
        parts: &mut Parts<W>,
        new: &Room<W>,
        attempt: &mut Attempt<'_, W>,
    ) -> Result<FenceOf<W>, Error> {
        let own = held.reservation();
        let old = parts.resource.as_ref().ok_or(Error::Invalid)?;
        let mut fresh = None;
        if new.segment().uses_tt() {
            let mut vector = match self.take_reserve(id) {
                Some(reserved) => reserved,
                None => PageVector::new(parts.info.shape()?, false),
            };
            self.populate(&mut vector, Some(own), None, attempt)
                .map_err(|error| attempt.blame(id, Step::Pages, error))?;
            if let Err(error) = self.bind(new, &mut vector) {
                self.drop_pages(Some(vector));
                return Err(attempt.blame(id, Step::Bind, error));
            }
            fresh = Some(vector);
        } else if let Some(vector) = &mut parts.vector {
            self.populate(vector, Some(own), None, attempt)
                .map_err(|error| attempt.blame(id, Step::Pages, error))?;
            self.bind(old, vector)
                .map_err(|error| attempt.blame(id, Step::Bind, error))?;
        }
        let from = Side {
            segment: old.segment(),
            extents: old.booking().extents(),
            pages: parts.vector.as_ref(),
        };
        let to = Side {
            segment: new.segment(),
            extents: new.booking().extents(),
            pages: fresh.as_ref(),
        };
        let fence = self.world.copy(held.reservation(), &from, &to);
        let fence = fence.map_err(|error| attempt.blame(id, Step::Copy, error));
        match (fence, fresh) {
            (Ok(fence), fresh) => {
                if fresh.is_some() {
                    parts.vector = fresh;
                }
                Ok(fence)
            }
            (Err(error), Some(mut vector)) => {
                self.world.unbind(new.segment(), new.booking().extents());
                vector.unbound();
                self.drop_pages(Some(vector));
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Makes the GART point at populated pages, if it does not.
    pub(super) fn bind(
        &self,
        at: &Room<W>,
        vector: &mut PageVector<super::world::BlockOf<W>>,
    ) -> Result<(), Error> {
        if vector.has() == Has::Pages {
            self.world
                .bind(at.segment(), at.booking().extents(), vector)?;
            vector.bound()?;
        }
        Ok(())
    }

    /// Makes it point nowhere. Nobody uses the buffer.
    pub(super) fn unbind(&self, parts: &mut Parts<W>) {
        if let (Some(at), Some(vector)) = (&parts.resource, &mut parts.vector)
            && vector.has() == Has::BoundPages
        {
            self.world.unbind(at.segment(), at.booking().extents());
            vector.unbound();
        }
    }

    /// What a buffer has left behind is free for others when the copy has ended.
    fn leave_behind(
        &self,
        ghost: Ghost<'_, W>,
        left: Parts<W>,
        fence: Option<FenceOf<W>>,
    ) -> Result<(), Error> {
        match (left, fence) {
            // Pages go back when the GPU has read them.
            (
                left @ Parts {
                    vector: Some(_), ..
                },
                Some(fence),
            ) => ghost.haunt(self, left, Some(&fence)),
            (left, fence) => {
                ghost.cancel(self);
                // Ranges of the GART have no contents that a copy reads.
                let old = left.resource.as_ref();
                let read = old.is_some_and(|old| !old.segment().uses_tt());
                let fence = fence.filter(|_| read);
                let mark = fence.map(|fence| Mark::new(&self.world, &fence));
                self.give_back(left, mark);
                Ok(())
            }
        }
    }
}
