//! The free pages, and what is known of them.

use super::blocks::Plan;
use crate::Error;
use crate::placement::holes::Holes;
use crate::placement::{Booking, Extent, Fit};
use alloc::vec::Vec;

/// Free pages that somebody still works on.
#[derive(Clone, Debug)]
pub(super) struct Fenced<F> {
    pub(super) extent: Extent,
    pub(super) fence: F,
    /// They are zero when the fence is done.
    clear: bool,
}

/// # Invariants
/// `free` are the pages that are free and nobody works on; what is in `fenced` is
/// in no set. With `states`, its two sets share out the pages of `free`. Every
/// set, and `fenced`, has room for all that is booked or fenced to come back.
#[derive(Debug)]
pub(super) struct Layers<F> {
    pub(super) free: Holes,
    pub(super) states: Option<States>,
    pub(super) fenced: Vec<Fenced<F>>,
    /// Extents that are booked.
    pub(super) booked: usize,
}

/// Which free pages are zero. Sets of their own, so that nothing keeps free
/// neighbours from being one run.
#[derive(Debug)]
pub(super) struct States {
    pub(super) clear: Holes,
    pub(super) dirty: Holes,
}

impl States {
    /// Takes out pages of which `dirty` lists those that are not zero.
    fn take(&mut self, extent: Extent, dirty: &[Extent]) {
        for run in dirty {
            self.dirty.take(*run);
        }
        if dirty != [extent] {
            self.clear.take_all(extent);
        }
    }

    fn of(&mut self, clear: bool) -> &mut Holes {
        if clear {
            &mut self.clear
        } else {
            &mut self.dirty
        }
    }
}

impl<F: Clone + PartialEq> Layers<F> {
    pub(super) fn new(all: Extent, track_clear: bool) -> Result<Self, Error> {
        let states = track_clear.then(|| States {
            clear: Holes::new(),
            dirty: Holes::new(),
        });
        let mut layers = Self {
            free: Holes::new(),
            states,
            fenced: Vec::new(),
            booked: 0,
        };
        layers.secure(1)?;
        layers.put(all, false);
        Ok(layers)
    }

    /// Free pages, also those that somebody still works on.
    pub(super) fn pages(&self) -> u64 {
        self.free.pages() + self.fenced_pages()
    }

    pub(super) fn fenced_pages(&self) -> u64 {
        self.fenced.iter().map(|fenced| fenced.extent.pages()).sum()
    }

    /// Pages that are known to be zero, and that nobody works on.
    pub(super) fn clear_pages(&self) -> u64 {
        self.states
            .as_ref()
            .map_or(0, |states| states.clear.pages())
    }

    /// True if no page of `extent` is free.
    pub(super) fn is_booked(&self, extent: Extent) -> bool {
        let fenced = |fenced: &Fenced<F>| fenced.extent.common(extent).is_some();
        self.free.lowest_in(extent).is_none() && !self.fenced.iter().any(fenced)
    }

    /// INVARIANT: room for all that may come back, and `more` ranges beyond.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing else has changed then.
    pub(super) fn secure(&mut self, more: usize) -> Result<(), Error> {
        let back = self.booked + self.fenced.len() + more;
        self.free.reserve(self.free.ranges() + back)?;
        if let Some(states) = &mut self.states {
            states.clear.reserve(states.clear.ranges() + back)?;
            states.dirty.reserve(states.dirty.ranges() + back)?;
        }
        self.fenced.try_reserve(self.booked + more)?;
        Ok(())
    }

    /// A place among the pages that nobody works on: where all are zero, or none
    /// is, if there is one; else anywhere.
    pub(super) fn find(
        &self,
        pages: u64,
        align: u64,
        window: Extent,
        fit: Fit,
        clear: bool,
    ) -> Option<u64> {
        let preferred = self
            .states
            .as_ref()
            .map(|states| if clear { &states.clear } else { &states.dirty });
        let preferred = preferred.and_then(|set| set.find(pages, align, window, fit));
        preferred.or_else(|| self.free.find(pages, align, window, fit))
    }

    /// Books pages that are free.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing has changed then.
    pub(super) fn take(&mut self, extent: Extent, booking: &mut Booking<F>) -> Result<(), Error> {
        // The range may split one in each set, and so may its last part, which
        // comes back before the rest.
        self.secure(3)?;
        booking.extents.try_reserve(1)?;
        let dirty = booking.dirty.len();
        if let Err(error) = self.list_dirty(extent, &mut booking.dirty) {
            booking.dirty.truncate(dirty);
            return Err(error);
        }
        self.free.take(extent);
        if let Some(states) = &mut self.states {
            states.take(extent, &booking.dirty[dirty..]);
        }
        self.booked += 1;
        booking.extents.push(extent);
        Ok(())
    }

    /// Appends the free pages of `extent` that are not known to be zero.
    fn list_dirty(&self, extent: Extent, list: &mut Vec<Extent>) -> Result<(), Error> {
        let Some(states) = &self.states else {
            list.try_reserve(1)?;
            list.push(extent);
            return Ok(());
        };
        let mut rest = extent;
        while let Some(run) = states.dirty.lowest_in(rest) {
            list.try_reserve(1)?;
            list.push(run);
            rest.first = run.end;
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Adds pages to the sets.
    fn put(&mut self, extent: Extent, clear: bool) {
        self.free.insert(extent);
        if let Some(states) = &mut self.states {
            states.of(clear).insert(extent);
        }
    }

    /// Adds pages of which `dirty` lists those that are not zero.
    fn put_mixed(&mut self, extent: Extent, dirty: &[Extent]) {
        self.free.insert(extent);
        let Some(states) = &mut self.states else {
            return;
        };
        states.clear.insert(extent);
        for run in dirty.iter().filter_map(|run| run.common(extent)) {
            states.clear.take(run);
            states.dirty.insert(run);
        }
    }

    /// Makes as if the booking had never been.
    pub(super) fn undo(&mut self, booking: Booking<F>) {
        self.booked -= booking.extents.len();
        for extent in booking.extents {
            self.put_mixed(extent, &booking.dirty);
        }
    }

    /// Gives back one extent.
    pub(super) fn give(&mut self, extent: Extent, cleared: bool, fence: Option<&F>) {
        self.booked -= 1;
        match fence {
            None => self.put(extent, cleared),
            Some(fence) => self.fenced.push(Fenced {
                extent,
                fence: fence.clone(),
                clear: cleared,
            }),
        }
    }

    /// Gives back pages at one end of an extent of the booking: with what was known
    /// of them, or, if somebody had them, as dirty. Room for them was secured.
    pub(super) fn cut(&mut self, booking: &mut Booking<F>, part: Extent, used: bool) {
        let touched = |extent: &&mut Extent| extent.contains(part);
        let extent = booking.extents.iter_mut().find(touched);
        let Some(extent) = extent.filter(|_| !part.is_empty()) else {
            return;
        };
        *extent = without(*extent, part);
        if used {
            self.put(part, false);
        } else {
            self.put_mixed(part, &booking.dirty);
        }
        booking.dirty.retain_mut(|run| {
            *run = without(*run, part);
            !run.is_empty()
        });
    }

    /// What touches becomes one, in both lists of the booking.
    pub(super) fn join(&mut self, booking: &mut Booking<F>) {
        let before = booking.extents.len();
        for list in [&mut booking.extents, &mut booking.dirty] {
            list.dedup_by(|next, extent| {
                let touch = extent.end == next.first || next.end == extent.first;
                if touch {
                    extent.first = extent.first.min(next.first);
                    extent.end = extent.end.max(next.end);
                }
                touch
            });
        }
        self.booked -= before - booking.extents.len();
    }

    /// As [`Self::fill`], also out of pages that somebody works on; the booking
    /// has the fences of those it took. It takes log n steps for each range that has
    /// a fence, and is asked only when others did not suffice.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::NoMemory`]; nothing has changed then.
    pub(super) fn fill_waiting(&mut self, plan: &Plan) -> Result<Booking<F>, Error> {
        if self.fenced.is_empty() {
            return Err(Error::NoSpace);
        }
        // For the search all are free; what it leaves is fenced again.
        let fenced = core::mem::take(&mut self.fenced);
        for Fenced { extent, clear, .. } in &fenced {
            self.put(*extent, *clear);
        }
        let filled = self.fill(plan).and_then(|mut booking| {
            // What it leaves of a range may be as many pieces as it took, and one
            // more; each may split a run, and each comes back.
            let secured = self.secure(2 * (fenced.len() + booking.extents.len()));
            let told = booking.fences.try_reserve(fenced.len());
            if secured.is_ok() && told.is_ok() {
                return Ok(booking);
            }
            self.undo(booking);
            Err(Error::NoMemory)
        });
        let Ok(mut booking) = filled else {
            for fenced in &fenced {
                self.withdraw(fenced.extent, |_| ());
            }
            self.fenced = fenced;
            return filled;
        };
        for Fenced {
            extent,
            fence,
            clear,
        } in fenced
        {
            let mut rest = Vec::new();
            core::mem::swap(&mut rest, &mut self.fenced);
            let mut left = 0;
            self.withdraw(extent, |extent| {
                left += extent.pages();
                rest.push(Fenced {
                    extent,
                    fence: fence.clone(),
                    clear,
                });
            });
            self.fenced = rest;
            if left < extent.pages() && !booking.fences.contains(&fence) {
                booking.fences.push(fence);
            }
        }
        Ok(booking)
    }

    /// Which pages would be booked if those of `freed`, which are booked now, were free,
    /// as would those that somebody works on. Nothing has changed afterwards.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::NoMemory`].
    pub(super) fn foresee(&mut self, plan: &Plan, freed: &[Extent]) -> Result<Vec<Extent>, Error> {
        let fenced = core::mem::take(&mut self.fenced);
        // INVARIANT: the sets have room for all that is booked or fenced to come back.
        for Fenced { extent, clear, .. } in &fenced {
            self.put(*extent, *clear);
        }
        for extent in freed {
            self.put(*extent, false);
        }
        let taken = self.fill(plan).and_then(|booking| {
            let mut taken = Vec::new();
            let room = taken.try_reserve_exact(booking.extents.len());
            if room.is_ok() {
                taken.extend_from_slice(&booking.extents);
            }
            self.undo(booking);
            Ok(room.map(|()| taken)?)
        });
        let put = fenced.iter().map(|fenced| fenced.extent);
        for extent in put.chain(freed.iter().copied()) {
            self.withdraw(extent, |_| ());
        }
        self.fenced = fenced;
        taken
    }

    /// Takes the free pages of `window` out of all sets, run by run.
    fn withdraw(&mut self, window: Extent, mut taken: impl FnMut(Extent)) {
        while let Some(run) = self.free.lowest_in(window) {
            self.free.take(run);
            taken(run);
        }
        if let Some(states) = &mut self.states {
            states.clear.take_all(window);
            states.dirty.take_all(window);
        }
    }

    pub(super) fn retire(&mut self, mut done: impl FnMut(&F) -> bool) {
        let mut fenced = core::mem::take(&mut self.fenced);
        fenced.retain(|range| {
            let done = done(&range.fence);
            if done {
                self.put(range.extent, range.clear);
            }
            !done
        });
        self.fenced = fenced;
    }

    pub(super) fn reset_clear(&mut self, clear: bool) -> Result<(), Error> {
        let back = self.booked + self.fenced.len();
        let Some(states) = &mut self.states else {
            return Ok(());
        };
        let ranges = states.clear.ranges() + states.dirty.ranges();
        states.of(clear).reserve(ranges + back)?;
        while let Some(run) = states.of(!clear).lowest_in(Extent::new(0, u64::MAX)) {
            states.of(!clear).take(run);
            states.of(clear).insert(run);
        }
        for fenced in &mut self.fenced {
            fenced.clear = clear;
        }
        Ok(())
    }
}

/// `extent` without what it has of `part`, which is not in its middle.
fn without(extent: Extent, part: Extent) -> Extent {
    match extent.common(part) {
        Some(cut) if cut.first == extent.first => Extent::new(cut.end, extent.end),
        Some(cut) => Extent::new(extent.first, cut.first),
        None => extent,
    }
}
