//! Which blocks a request is made of.

use super::layers::Layers;
use crate::Error;
use crate::placement::{Booking, Extent, Fit, Flags, Request};

/// A request that an empty heap could fulfil.
#[derive(Debug)]
pub(super) struct Plan {
    /// Pages to take: those asked for, rounded up where it is to be blocks.
    pub(super) pages: u64,
    /// Pages to give back of the last block.
    excess: u64,
    align: u64,
    /// One run, at a multiple of `align`.
    one_run: bool,
    window: Extent,
    fit: Fit,
    clear: bool,
}

impl Plan {
    /// # Errors
    /// [`Error::Invalid`] for an exact window that is not aligned,
    /// [`Error::NeverFits`] when an empty heap could not do it.
    pub(super) fn new(
        request: &Request,
        window: Extent,
        flags: Flags,
        fit: Fit,
    ) -> Result<Self, Error> {
        let Request { pages, align, .. } = *request;
        let exact = window.pages() == pages;
        if exact && !(window.first | window.end).is_multiple_of(align) {
            return Err(Error::Invalid);
        }
        let small = pages < align && pages.is_power_of_two();
        let one_run = exact || small || flags.has(Flags::CONTIGUOUS);
        let mut plan = Self {
            pages,
            excess: 0,
            align,
            one_run,
            window,
            fit: if flags.has(Flags::TOPDOWN) {
                Fit::High
            } else {
                fit
            },
            clear: request.clear,
        };
        let mut end = window.end;
        if !one_run {
            plan.pages = pages
                .checked_next_multiple_of(align)
                .ok_or(Error::NeverFits)?;
            end -= end % align;
        }
        if !request.untrimmed {
            plan.excess = plan.pages - pages;
        }
        let first = window.first.checked_next_multiple_of(align);
        let room = first.and_then(|first| end.checked_sub(first));
        if room.is_none_or(|room| room < plan.pages) {
            return Err(Error::NeverFits);
        }
        Ok(plan)
    }
}

impl<F: Clone + PartialEq> Layers<F> {
    /// Books what the plan says out of pages that nobody works on.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::NoMemory`]; nothing has changed then.
    pub(super) fn fill(&mut self, plan: &Plan) -> Result<Booking<F>, Error> {
        let mut booking = Booking::new();
        let filled = if plan.one_run {
            self.take_block(plan, plan.pages, plan.align, &mut booking)
        } else {
            self.take_blocks(plan, &mut booking)
        };
        match filled {
            Ok(()) => {
                self.trim_last(plan.excess, &mut booking);
                Ok(booking)
            }
            Err(error) => {
                self.undo(booking);
                Err(error)
            }
        }
    }

    /// Gives back the last pages that were taken.
    fn trim_last(&mut self, excess: u64, booking: &mut Booking<F>) {
        if let Some(last) = booking.extents.last() {
            let part = Extent::new(last.end - excess, last.end);
            self.cut(booking, part, false);
        }
    }

    /// The largest blocks that are left, down to `align`.
    fn take_blocks(&mut self, plan: &Plan, booking: &mut Booking<F>) -> Result<(), Error> {
        let mut left = plan.pages;
        let mut block = u64::MAX;
        while left > 0 {
            block = block.min(1 << left.ilog2());
            match self.take_block(plan, block, block, booking) {
                Ok(()) => left -= block,
                Err(Error::NoSpace) if block > plan.align => block /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_block(
        &mut self,
        plan: &Plan,
        pages: u64,
        align: u64,
        booking: &mut Booking<F>,
    ) -> Result<(), Error> {
        let first = self.find(pages, align, plan.window, plan.fit, plan.clear);
        let first = first.ok_or(Error::NoSpace)?;
        self.take(Extent::new(first, first + pages), booking)
    }
}
