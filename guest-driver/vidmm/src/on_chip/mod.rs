//! The memory manager on an e3k: contents are moved by ring 0, the GART's entries and
//! the tables of processes are in its VRAM.

mod blit;
mod end;
mod hang;
mod line;
pub(crate) mod process_tables;
mod processes;
mod sleep;

pub use blit::Blit;
pub use end::Left;
pub use hang::{Cause, Hang};
pub use process_tables::{ProcessTables, Share, TablePages};
pub use sleep::LocalMemory;

use crate::Error;
use crate::adapter::Adapter;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::gart::Gart;
use crate::bo::page_vector::{PageVector, Ram};
use crate::bo::pool::SmallLock;
use crate::chip::pagetable::store_entries;
use crate::evict::{BlockOf, Context, FenceOf, Info, Mm, Options, ReservationOf, Side, World};
use crate::on_chip::blit::MOVE_BYTES;
use crate::on_chip::line::Line;
use crate::on_chip::process_tables::Common;
use crate::placement::{Extent, Place, SegmentId, Window};
use crate::platform::{Caching, Os, Patience};
use crate::sync::{Caller, Deadline, Primitives};
use crate::vm::{Slots, SpaceId, Spaces};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

/// Process ids that processes take turns in; 0 is the kernel's.
pub(super) const PROCESSES: usize = 15;

/// What the manager needs beside the chip: the kernel's, or a test's.
pub trait Host {
    /// As [`World::Sync`].
    type Sync: Primitives;
    /// As [`World::Ram`].
    type Ram: Ram;
    /// As [`World::Lock`].
    type Lock<T>: SmallLock<T>;

    /// Locks, fences and waits. While somebody waits, interrupts go to the adapter's
    /// [`crate::Timeline`], and [`OnChip::advance`] is called behind them, and once a second
    /// in case one was lost; not from within [`crate::Interrupts::deliver`].
    fn sync(&self) -> &Self::Sync;

    /// Pages of RAM.
    fn ram(&self) -> &Self::Ram;

    /// Such a lock around a value.
    fn lock<T>(&self, value: T) -> Self::Lock<T>;

    /// The point in time that is so many nanoseconds away.
    fn after(&self, ns: u64) -> Deadline;

    /// As [`World::unmap_user`].
    fn unmap_user(&self, bo: Id);

    /// How long the GPU may work on a job, or on up to 256 MiB of a larger one, before it
    /// is taken for hung, in nanoseconds.
    fn deadline_ns(&self) -> u64 {
        10_000_000_000
    }
}

type Pool<H> = <H as Host>::Lock<Vec<VramOffset>>;
/// The page tables of a process.
pub type Tables<O, H> = ProcessTables<O, Pool<H>, <H as Host>::Lock<Share>>;
type ProcessIds<O, H> = Slots<SpaceId, FenceOf<OnChip<O, H>>, PROCESSES>;

/// An e3k that was brought up, as a memory manager sees it. Nobody else uses its ring.
///
/// `tests/examples/evict.rs` fills local memory, evicts from it and reads everything back,
/// `processes.rs` beside it has two processes at one address, both on the model.
///
/// # Invariants
/// Neither the line nor the process ids are locked while the other is. A process id that is
/// loaded leads to its owner's tables, and no other process believes that it is its own.
pub struct OnChip<O: Os + 'static, H: Host + 'static> {
    pub(super) host: H,
    pub(super) line: H::Lock<Line<O, H::Sync>>,
    /// Where each segment begins for the GPU.
    starts: [GpuVa; 4],
    pub(super) gart: Gart,
    pub(super) common: Arc<Common<O>>,
    /// The driver's own buffers.
    pub(super) kernel: H::Lock<Vec<Id>>,
    /// Pages for tables.
    pub(super) pool: Arc<Pool<H>>,
    pub(super) spaces: Spaces<Self, Tables<O, H>>,
    pub(super) process_ids: H::Lock<ProcessIds<O, H>>,
}

impl<O: Os + 'static, H: Host + 'static> OnChip<O, H> {
    /// A manager of the memory of an adapter on which nothing was created yet. What the
    /// adapter itself has is pinned in it, and a pool of pages for the tables of processes.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Invalid`]. The adapter has [ended](Adapter::fini) then,
    /// and logged what it left behind: nobody else has its [`crate::Timeline`] yet.
    pub fn manage(
        adapter: Adapter<O>,
        host: H,
        options: Options,
        tables: TablePages,
    ) -> Result<Mm<Self>, Error> {
        let segments = adapter.segments();
        let starts = segments.map(|segment| segment.start);
        let pages = segments.map(|segment| segment.bytes / PAGE_SIZE);
        let memory = &adapter.memory;
        let mut kernel = Vec::new();
        let room = kernel.try_reserve(memory.bos.len());
        if room.is_err() {
            return Err(Self::fail(adapter, Error::NoMemory));
        }
        let placed = |bo: &crate::bo::Bo<O::Pages>| {
            let at = bo.resource?;
            Some((at.segment, at.first_page, bo.pages))
        };
        kernel.extend(memory.bos.iter().filter_map(|(_, bo)| placed(bo)));
        let vm = memory.mm_mgr.vm_info;
        let common = Arc::new(Common {
            os: Arc::clone(&memory.os),
            chip: memory.mm_mgr.chip,
            zone: vm.private.start.0..vm.private.start.0 + vm.private.bytes,
            // In zone 0 a GPU address is the offset in VRAM.
            local: [VramOffset(starts[0].0), VramOffset(starts[1].0)],
            tables_each: tables.each.min(tables.all),
            lost: Arc::default(),
        });
        let gart = adapter.gart;
        let line = Line::new(
            adapter,
            host.sync(),
            Arc::clone(&common.lost),
            host.deadline_ns(),
        );
        let world = Self {
            line: host.lock(line),
            starts,
            gart,
            common,
            kernel: host.lock(Vec::new()),
            pool: Arc::new(host.lock(Vec::new())),
            spaces: Spaces::new(|registry| host.lock(registry)),
            process_ids: host.lock(Slots::new()),
            host,
        };
        let mm = match Mm::make(world, pages, options) {
            Ok(mm) => mm,
            Err((world, error)) => return Err(Self::fail(world.line.into_inner().adapter, error)),
        };
        match Self::furnish(&mm, kernel, tables.all) {
            Ok(()) => Ok(mm),
            Err(error) => {
                // What it leaves behind it has logged.
                let _ = Self::end(mm);
                Err(error)
            }
        }
    }

    /// There is no manager: the adapter ends.
    fn fail(adapter: Adapter<O>, error: Error) -> Error {
        // What it leaves behind it has logged.
        let _ = adapter.fini();
        error
    }

    /// Pins what the adapter has, ranges of pages, and gets pages for tables.
    fn furnish(
        mm: &Mm<Self>,
        kernel: Vec<(SegmentId, u64, u64)>,
        table_pages: u64,
    ) -> Result<(), Error> {
        for (segment, first, pages) in kernel {
            let window = Window::new(first, first + pages);
            let place = Place {
                window,
                ..Place::kernel(segment)
            };
            mm.world().pinned(mm, pages, &place)?;
        }
        if table_pages > 0 {
            let place = Place::kernel(SegmentId::LocalVisible);
            let extents = mm.world().pinned(mm, table_pages, &place)?;
            let world = mm.world();
            world.pool.with(|pool| {
                pool.try_reserve(usize::try_from(table_pages).map_err(|_| Error::Invalid)?)?;
                let pages = extents.first..extents.end;
                let local = world.common.local[0];
                pool.extend(pages.map(|page| local.add(page * PAGE_SIZE)));
                Ok::<_, Error>(())
            })?;
        }
        Ok(())
    }

    /// What the host gave.
    pub const fn host(&self) -> &H {
        &self.host
    }

    /// The address spaces of its processes.
    pub const fn spaces(&self) -> &Spaces<Self, Tables<O, H>> {
        &self.spaces
    }

    /// To be called after interrupts, by who may sleep: fences end, errors are attended
    /// to, and work that waits goes on the ring.
    pub fn advance(&self) {
        self.line.with(|line| line.advance(self.host.sync()));
    }

    /// What ring 0 was doing when it was last reset because a job did not end.
    pub fn last_hang(&self) -> Option<Hang> {
        self.line.with(|line| line.hang())
    }

    /// Whether the GPU has nothing left to do.
    pub fn is_idle(&self) -> bool {
        self.line.with(|line| line.is_empty())
    }

    /// A kernel object, in one piece, that stays where it is.
    fn pinned(&self, mm: &Mm<Self>, pages: u64, place: &Place) -> Result<Extent, Error> {
        let info = Info {
            kind: Kind::Kernel,
            pages,
            align: 1,
            caching: if place.segment == SegmentId::PcieUnsnoop {
                Caching::WriteCombined
            } else {
                Caching::Cached
            },
            priority: 0,
            owner: None,
        };
        let mut caller = Caller::enter(self.host.sync());
        let mut set = caller.transaction(Patience::Patient)?;
        set.run(|set| {
            let mut ctx = Context::until(Deadline::NEVER, Patience::Patient);
            let bo = mm.create(set, &info, None, &[*place], &mut ctx)?;
            mm.pin(set, bo)?;
            self.kernel.with(|kernel| {
                kernel.try_reserve(1)?;
                kernel.push(bo);
                Ok::<_, Error>(())
            })?;
            mm.with_extents(bo, |extents| extents.first().copied())?
                .ok_or(Error::NoMemory)
        })
    }

    fn va(&self, segment: SegmentId, page: u64) -> Result<GpuVa, Error> {
        let start = self.starts.get(segment as usize).ok_or(Error::Invalid)?;
        Ok(start.add(page * PAGE_SIZE))
    }

    /// Queues work of the manager's own.
    fn queue(&self, blits: Vec<Blit>) -> Result<FenceOf<Self>, Error> {
        let sync = self.host.sync();
        self.line.with(|line| line.queue(sync, None, blits, 0))
    }
}

impl<O: Os + 'static, H: Host + 'static> World for OnChip<O, H> {
    type Sync = H::Sync;
    type Ram = H::Ram;
    type Lock<T> = H::Lock<T>;

    fn sync(&self) -> &H::Sync {
        self.host.sync()
    }

    fn ram(&self) -> &H::Ram {
        self.host.ram()
    }

    fn lock<T>(&self, value: T) -> H::Lock<T> {
        self.host.lock(value)
    }

    fn after(&self, ns: u64) -> Deadline {
        self.host.after(ns)
    }

    fn is_lost(&self) -> bool {
        self.common.lost.load(Ordering::Acquire)
    }

    /// The GPU has no address for SYSTEM: contents go over a PCIe type.
    fn hop(&self, from: SegmentId, to: SegmentId) -> Option<SegmentId> {
        let over =
            |system: SegmentId, local: SegmentId| system == SegmentId::System && !local.uses_tt();
        (over(from, to) || over(to, from)).then_some(SegmentId::PcieSnoop)
    }

    fn copy(
        &self,
        _: &ReservationOf<Self>,
        from: &Side<'_, BlockOf<Self>>,
        to: &Side<'_, BlockOf<Self>>,
    ) -> Result<FenceOf<Self>, Error> {
        let mut blits = Vec::new();
        let (mut sources, mut targets) = (from.extents.iter(), to.extents.iter());
        let (mut source, mut target) = (sources.next().copied(), targets.next().copied());
        while let (Some(here), Some(there)) = (source, target) {
            let pages = here.pages().min(there.pages()).min(MOVE_BYTES / PAGE_SIZE);
            blits.try_reserve(1)?;
            blits.push(Blit::Copy {
                to: self.va(to.segment, there.first)?,
                from: self.va(from.segment, here.first)?,
                bytes: pages * PAGE_SIZE,
            });
            let rest = |extent: Extent| {
                let rest = Extent::new(extent.first + pages, extent.end);
                (rest.pages() > 0).then_some(rest)
            };
            source = rest(here).or_else(|| sources.next().copied());
            target = rest(there).or_else(|| targets.next().copied());
        }
        self.queue(blits)
    }

    fn clear(
        &self,
        _: &ReservationOf<Self>,
        to: &Side<'_, BlockOf<Self>>,
    ) -> Result<FenceOf<Self>, Error> {
        let mut blits = Vec::new();
        for extent in to.extents {
            let mut first = extent.first;
            while first < extent.end {
                let pages = (extent.end - first).min(MOVE_BYTES / PAGE_SIZE);
                blits.try_reserve(1)?;
                blits.push(Blit::Fill {
                    at: self.va(to.segment, first)?,
                    bytes: pages * PAGE_SIZE,
                    pattern: 0,
                });
                first += pages;
            }
        }
        self.queue(blits)
    }

    fn bind(
        &self,
        segment: SegmentId,
        extents: &[Extent],
        pages: &PageVector<BlockOf<Self>>,
    ) -> Result<(), Error> {
        let snoop = segment == SegmentId::PcieSnoop;
        let Common { os, chip, .. } = &*self.common;
        let mut index = 0;
        let mut bound = Ok(());
        for extent in extents {
            let va = self.va(segment, extent.first)?;
            let entries = self.gart.tables.l3_entry(va);
            store_entries(&**os, entries, extent.pages(), |_| {
                let at = pages.bus_addr(index);
                index += 1;
                let usable = at.filter(|at| at.in_page() == 0 && at.0 >> ADDRESS_BITS == 0);
                let entry = usable.map(|at| chip.system_pte(at, snoop));
                entry.unwrap_or_else(|| {
                    bound = Err(Error::Fault);
                    self.gart.dummy_pte
                })
            });
        }
        let told = bound.and_then(|()| self.tell(segment, extents));
        if told.is_err() {
            self.unbind(segment, extents);
        }
        told
    }

    fn unbind(&self, segment: SegmentId, extents: &[Extent]) {
        for extent in extents {
            if let Ok(va) = self.va(segment, extent.first) {
                let entries = self.gart.tables.l3_entry(va);
                let dummy = self.gart.dummy_pte;
                store_entries(&*self.common.os, entries, extent.pages(), |_| dummy);
            }
        }
        if self.tell(segment, extents).is_err() {
            // It may still reach the pages. It is not asked to do anything any more.
            self.line.with(|line| line.lose(self.host.sync()));
        }
    }

    fn unmap_user(&self, bo: Id) {
        self.host.unmap_user(bo);
    }

    fn is_mapped(&self, bo: Id) -> bool {
        self.spaces.is_mapped(bo)
    }

    fn unmap_gpu(&self, bo: Id) -> Result<(), Error> {
        self.spaces.leave(bo)
    }
}

impl<O: Os + 'static, H: Host + 'static> OnChip<O, H> {
    /// The TLBs forget what they knew of these pages.
    fn tell(&self, segment: SegmentId, extents: &[Extent]) -> Result<(), Error> {
        let Common { os, chip, .. } = &*self.common;
        os.write_barrier();
        for extent in extents {
            let va = self.va(segment, extent.first)?;
            os.access(&mut chip.invalidate(va, extent.pages() * PAGE_SIZE))?;
        }
        Ok(())
    }
}
