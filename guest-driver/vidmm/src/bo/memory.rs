//! Segments and BOs together: booking, pinning, page vectors, giving back.
//! Nothing here lets the GPU do anything.

use crate::Error;
use crate::bo::accounts::{Accounts, ClientId};
use crate::bo::{Arena, Backing, Bo, BoId, Kind, Resource};
use crate::chip::ChipOps;
use crate::chip::registers::RegisterLog;
use crate::placement::segments::{Segment, SegmentId, Segments};
use crate::placement::{Fit, Flags, Pass, Place};
use crate::platform::{Caching, LogLevel, Os, SystemInfo};
use crate::zones::VmInfo;
use alloc::sync::Arc;
use core::fmt;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// What `vidmm_init` puts together in steps 1 to 4.
pub(crate) struct MmMgr {
    pub(crate) sysinfo: SystemInfo,
    pub(crate) chip: &'static dyn ChipOps,
    pub(crate) vm_info: VmInfo,
    pub(crate) segments: Segments,
}

/// All memory the driver holds, and what it did to registers.
///
/// # Invariants
/// What is booked in the managers, the `usage` of segments and the accounts are the
/// sums over `bos`; `populated` is that of the pages of RAM they have.
pub(crate) struct Memory<O: Os> {
    pub(crate) os: Arc<O>,
    pub(crate) mm_mgr: MmMgr,
    pub(crate) bos: Arena<O::Pages>,
    pub(crate) accounts: Accounts,
    pub(crate) registers: RegisterLog,
    /// RAM pages that BOs have.
    populated: u64,
}

impl<O: Os> Memory<O> {
    /// `client_percent`: see [`Options`](crate::Options).
    pub(crate) const fn new(os: Arc<O>, mm_mgr: MmMgr, client_percent: u8) -> Self {
        let bos = Arena::new();
        Self {
            os,
            mm_mgr,
            bos,
            accounts: Accounts::new(client_percent),
            registers: RegisterLog::new(),
            populated: 0,
        }
    }

    /// Makes a BO with a resource at the first place that has room: first the
    /// pass that would evict nobody, then the one that might.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when no place has room; [`Error::Limit`] when one has,
    /// but the owner may book no more there, or [`Error::Busy`] when it may once
    /// its zombies are gone. Nothing is booked then.
    pub(crate) fn book(
        &mut self,
        kind: Kind,
        owner: Option<ClientId>,
        bytes: u64,
        places: &[Place],
    ) -> Result<BoId, Error> {
        let pages = Bo::<O::Pages>::pages_of(bytes);
        let (segments, accounts) = (&mut self.mm_mgr.segments, &mut self.accounts);
        self.bos.insert_with(|| {
            let resource = alloc_resource(segments, pages, places, |segment| match owner {
                Some(owner) => accounts.admit(owner, segment, pages * PAGE_SIZE),
                None => Ok(()),
            })?;
            let mut bo = Bo::new(kind, bytes, Some(resource));
            bo.owner = owner;
            // INVARIANT: nothing fails from here on until it is among the BOs.
            segments.get_mut(resource.segment).usage += bo.booked_bytes();
            if let Some(owner) = owner {
                accounts.book(owner, resource.segment, bo.booked_bytes());
            }
            Ok(bo)
        })
    }

    /// Makes a BO a zombie: its user has let go of it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn bury(&mut self, id: BoId) -> Result<&Bo<O::Pages>, Error> {
        let bo = self.bos.get_mut(id)?;
        bo.zombie = true;
        if let (Some(owner), Some(resource)) = (bo.owner, bo.resource) {
            self.accounts
                .dies(owner, resource.segment, bo.booked_bytes());
        }
        Ok(bo)
    }

    /// A pinned BO for the driver itself, away from everything else.
    pub(crate) fn book_kernel(&mut self, segment: SegmentId, bytes: u64) -> Result<BoId, Error> {
        let id = self.book(Kind::Kernel, None, bytes, &[Place::kernel(segment)])?;
        self.pin(id)?;
        Ok(id)
    }

    /// A RAM page for the driver itself that has no GPU address of its own.
    pub(crate) fn kernel_page(&mut self) -> Result<BoId, Error> {
        let id = self
            .bos
            .insert_with(|| Ok(Bo::new(Kind::Kernel, PAGE_SIZE, None)))?;
        let populated = self.populate(id, Caching::Cached);
        populated.inspect_err(|_| self.release(id))?;
        Ok(id)
    }

    /// Pins a BO where it is. Pins nest.
    pub(crate) fn pin(&mut self, id: BoId) -> Result<(), Error> {
        let bo = self.bos.get_mut(id)?;
        bo.pins = bo.pins.checked_add(1).ok_or(Error::Invalid)?;
        if let (1, Some(resource)) = (bo.pins, bo.resource) {
            self.mm_mgr.segments.get_mut(resource.segment).pinned += bo.booked_bytes();
        }
        Ok(())
    }

    /// Gives a BO its RAM pages, zeroed. All BOs together get at most half of
    /// RAM: what they hold belongs to no process, so the kernel
    /// would kill others for it.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; the BO is unchanged then.
    pub(crate) fn populate(&mut self, id: BoId, caching: Caching) -> Result<Arc<O::Pages>, Error> {
        let bo = self.bos.get_mut(id)?;
        if let Some(pages) = bo.backing.pages() {
            return Ok(Arc::clone(pages));
        }
        let populated = self.populated.saturating_add(bo.pages);
        if populated > self.mm_mgr.sysinfo.total_bytes / PAGE_SIZE / 2 {
            return Err(Error::NoMemory);
        }
        let count = usize::try_from(bo.pages).map_err(|_| Error::NoMemory)?;
        let pages = Arc::new(self.os.alloc_pages(count, caching)?);
        bo.backing = Backing::Populated(Arc::clone(&pages));
        // INVARIANT: counted when they are there.
        self.populated = populated;
        Ok(pages)
    }

    /// Takes a BO's pages away again. The GPU cannot reach them any more.
    pub(crate) fn unpopulate(&mut self, id: BoId) {
        if let Ok(bo) = self.bos.get_mut(id) {
            let backing = core::mem::take(&mut bo.backing);
            let count = bo.pages;
            self.free_backing(backing, count);
        }
    }

    /// The GPU address of a BO.
    pub(crate) fn va(&self, id: BoId) -> Result<GpuVa, Error> {
        let resource = self.bos.get(id)?.resource.ok_or(Error::Fault)?;
        let segment = self.mm_mgr.segments.get(resource.segment);
        Ok(segment.va(resource.first_page))
    }

    /// Gives back all that a BO holds. The GPU cannot reach it any more.
    pub(crate) fn release(&mut self, id: BoId) {
        self.unpopulate(id);
        self.forget(id);
    }

    /// Gives a BO's range back; its pages, if it has any, are lost.
    fn forget(&mut self, id: BoId) {
        let Some(bo) = self.bos.remove(id) else {
            return;
        };
        if let Some(resource) = bo.resource {
            let segment = self.mm_mgr.segments.get_mut(resource.segment);
            let given_back = segment.manager.give_back(resource.first_page, bo.pages);
            debug_assert_eq!(given_back, Ok(()));
            segment.usage -= bo.booked_bytes();
            if bo.pins > 0 {
                segment.pinned -= bo.booked_bytes();
            }
            if let Some(owner) = bo.owner {
                self.accounts
                    .free(owner, resource.segment, bo.booked_bytes(), bo.zombie);
            }
        }
    }

    /// Puts the registers back and gives everything back; the end of the
    /// driver, and of a `vidmm_init` that failed. `idle`: the GPU has
    /// been shown to do nothing. If it has not, or if the registers cannot be
    /// put back, RAM that it may reach is lost rather than freed. So are the
    /// pages of BOs that still have a user.
    pub(crate) fn unwind(mut self, idle: bool) -> Leftovers {
        let quiet = self.quiet() && idle;
        let mut left = Leftovers {
            idle: quiet,
            ..Leftovers::default()
        };
        let mut slot = 0;
        while let Some(id) = self.bos.from(slot) {
            slot = id.next_slot();
            let Ok(bo) = self.bos.get(id) else { break };
            let in_use = bo.kind == Kind::Device && !bo.zombie;
            let shared = bo.backing.pages().is_some_and(|p| Arc::strong_count(p) > 1);
            left.bos += usize::from(in_use);
            if bo.backing.pages().is_some() && (in_use || shared || !quiet) {
                left.pages += bo.pages;
                self.forget(id);
            } else {
                self.release(id);
            }
        }
        if left.is_any() {
            self.os.log(LogLevel::Error, format_args!("{left}"));
        }
        left
    }

    /// Puts the registers back, and takes the GPU's DMA away. False: nobody knows
    /// what the registers hold.
    pub(crate) fn quiet(&mut self) -> bool {
        let flush = self.mm_mgr.chip.invalidate_all();
        let restored = self.registers.restore(&*self.os, &flush).is_ok();
        self.os.set_dma(false);
        restored
    }

    fn free_backing(&mut self, backing: Backing<O::Pages>, count: u64) {
        let (Backing::Populated(pages) | Backing::Bound(pages)) = backing else {
            return;
        };
        match Arc::into_inner(pages) {
            Some(pages) => {
                self.os.free_pages(pages);
                self.populated -= count;
            }
            None => self.os.log(
                LogLevel::Error,
                format_args!("vidmm: {count} RAM pages are still in use, not freed"),
            ),
        }
    }
}

fn alloc_resource(
    segments: &mut Segments,
    pages: u64,
    places: &[Place],
    admit: impl Fn(&Segment) -> Result<(), Error>,
) -> Result<Resource, Error> {
    let mut refused = Error::NoMemory;
    for pass in [Pass::Free, Pass::Evict] {
        for place in places.iter().filter(|place| place.flags.counts_in(pass)) {
            let segment = place.segment;
            let found = segments.get_mut(segment);
            let topdown = place.flags.has(Flags::TOPDOWN);
            let fit = if topdown { Fit::High } else { Fit::Low };
            match found.manager.book(pages, 1, place.window, fit) {
                Ok(first_page) => match admit(found) {
                    Ok(()) => {
                        return Ok(Resource {
                            segment,
                            first_page,
                        });
                    }
                    Err(error) => {
                        let given_back = found.manager.give_back(first_page, pages);
                        debug_assert_eq!(given_back, Ok(()));
                        // Of two places, the one that has only to be waited for.
                        if refused != Error::Busy {
                            refused = error;
                        }
                    }
                },
                Err(Error::NoSpace | Error::NeverFits) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Err(refused)
}

/// What could not be given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// BOs that still had a user.
    pub bos: usize,
    /// RAM pages lost: of those BOs, or all that a GPU not shown idle may reach.
    pub pages: u64,
    /// The GPU was shown idle and its registers are as they were found.
    pub idle: bool,
}

impl Leftovers {
    /// True if something is left.
    pub const fn is_any(&self) -> bool {
        self.bos > 0 || self.pages > 0 || !self.idle
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.idle { "idle" } else { "not shown idle" };
        write!(
            f,
            "vidmm: the GPU is {state}; left behind: {} buffer objects in use, {} RAM pages",
            self.bos, self.pages
        )
    }
}
