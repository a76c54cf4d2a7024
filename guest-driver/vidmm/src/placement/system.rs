//! The manager of SYSTEM: parked memory, which the GPU does not reach.

use crate::Error;
use crate::placement::{Booking, Freed, Place, Request, Resource, ResourceManager};
use core::fmt;
use e3k_regs::PAGE_SIZE;

/// Books nothing, so that it is never full: there are no addresses to share out.
///
/// ```
/// use vidmm::placement::{NoFence, PARKED, Request, ResourceManager, SystemManager};
/// let system: &mut dyn ResourceManager<NoFence> = &mut SystemManager::default();
/// let parked = system.alloc(&Request::new(1 << 40), &PARKED[0])?;
/// assert_eq!((parked.first_page(), parked.bytes()), (None, 1 << 52));
/// # Ok::<(), vidmm::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct SystemManager {
    pages: u64,
}

impl<F> ResourceManager<F> for SystemManager {
    fn alloc(&mut self, request: &Request, place: &Place) -> Result<Resource<F>, Error> {
        if request.pages == 0 {
            return Err(Error::Invalid);
        }
        let pages = self.pages.checked_add(request.pages);
        // Bytes must be a number, too.
        let pages = pages.filter(|pages| *pages <= u64::MAX / PAGE_SIZE);
        self.pages = pages.ok_or(Error::NeverFits)?;
        Ok(Resource {
            segment: place.segment,
            flags: place.flags,
            pages: request.pages,
            booking: Booking::new(),
        })
    }

    fn free(&mut self, resource: Resource<F>, _: Freed<F>) {
        self.pages = self.pages.saturating_sub(resource.pages);
    }

    fn debug(&self, to: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(to, "pages {} parked", self.pages)
    }

    fn capacity(&self) -> u64 {
        u64::MAX
    }

    fn usage(&self) -> u64 {
        self.pages * PAGE_SIZE
    }
}
