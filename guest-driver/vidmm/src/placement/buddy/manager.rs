//! The buddy as the manager of a memory type.

use super::Buddy;
use crate::Error;
use crate::placement::manager::write_free;
use crate::placement::{Freed, Place, Request, Resource, ResourceManager};
use core::fmt;
use e3k_regs::PAGE_SIZE;

impl<F: Clone + PartialEq> ResourceManager<F> for Buddy<F> {
    fn alloc(&mut self, request: &Request, place: &Place) -> Result<Resource<F>, Error> {
        Ok(Resource {
            segment: place.segment,
            flags: place.flags,
            pages: request.pages,
            booking: self.book(request, place.window, place.flags)?,
        })
    }

    fn free(&mut self, resource: Resource<F>, freed: Freed<F>) {
        let given_back = self.give_back(resource.booking, freed);
        debug_assert_eq!(given_back, Ok(()), "of another manager");
    }

    fn debug(&self, to: &mut dyn fmt::Write) -> fmt::Result {
        let stats = self.stats();
        writeln!(
            to,
            "pages {} free {} clear {} in use {} longest {} fragmented {}/1000",
            stats.total,
            stats.avail,
            stats.clear_avail,
            stats.fenced,
            stats.largest_free_run,
            stats.fragmentation()
        )?;
        for (order, blocks) in stats.free_blocks.iter().enumerate() {
            if *blocks > 0 {
                writeln!(to, "blocks of 2^{order} chunks: {blocks}")?;
            }
        }
        write_free(to, self.layers.free.iter())
    }

    fn capacity(&self) -> u64 {
        self.pages.saturating_mul(PAGE_SIZE)
    }

    fn usage(&self) -> u64 {
        (self.pages - self.layers.pages()).saturating_mul(PAGE_SIZE)
    }
}
