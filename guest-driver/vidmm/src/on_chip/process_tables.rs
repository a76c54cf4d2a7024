//! The page tables of one process on the chip: pages of VRAM from a pool, and the L1
//! registers of the process id that it has at the moment.

use crate::Error;
use crate::bo::pool::SmallLock;
use crate::chip::ChipOps;
use crate::evict::GpuPage;
use crate::placement::SegmentId;
use crate::platform::Os;
use crate::vm::{SpaceMemory, TableMemory};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use e3k_regs::pte::{ENTRY_BYTES, L1_SPAN};
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

/// What the tables of all processes share.
pub(crate) struct Common<O: Os> {
    pub(crate) os: Arc<O>,
    pub(crate) chip: &'static dyn ChipOps,
    /// The private zone.
    pub(crate) zone: Range<u64>,
    /// Where each segment of local memory begins in VRAM.
    pub(crate) local: [VramOffset; 2],
    /// Tables that a process may have.
    pub(crate) tables_each: u64,
    /// The GPU was lost, and stopped: it reaches nothing any more.
    pub(crate) lost: Arc<AtomicBool>,
}

/// Pages of VRAM for the tables of processes. They are pinned; which process has them
/// changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePages {
    /// Of all processes together.
    pub all: u64,
    /// Of one, not more than all of them: it needs one for each 4 MiB of addresses in which
    /// something is mapped, and one for each 4 GiB.
    pub each: u64,
}

/// What a process has of what all share.
#[derive(Debug, Default)]
pub struct Share {
    process_id: Option<u8>,
    /// How many; changed under the lock of the address space.
    tables: u64,
}

/// See the module. `P` is a lock around the pool, `L` one around the process's share.
///
/// # Invariants
/// The pages in the pool and those of all processes' shares together are what
/// [`TablePages::all`] says, and the pool has room for all of them.
pub struct ProcessTables<O: Os, P, L> {
    common: Arc<Common<O>>,
    pool: Arc<P>,
    share: L,
}

impl<O: Os, P, L> ProcessTables<O, P, L>
where
    P: SmallLock<Vec<VramOffset>>,
    L: SmallLock<Share>,
{
    pub(crate) const fn new(common: Arc<Common<O>>, pool: Arc<P>, share: L) -> Self {
        Self {
            common,
            pool,
            share,
        }
    }

    /// The process id that it has from now on.
    pub(crate) fn set_process_id(&self, id: u8) {
        self.share.with(|share| share.process_id = Some(id));
    }

    /// A process id is another's. It may have got a new one meanwhile.
    pub(crate) fn lose_process_id(&self, id: u8) {
        self.share.with(|share| {
            if share.process_id == Some(id) {
                share.process_id = None;
            }
        });
    }
}

impl<O: Os> Common<O> {
    /// Accesses registers. A GPU that was lost has nothing to be told.
    pub(crate) fn access(&self, ops: &mut [crate::RegisterOp]) -> Result<(), Error> {
        match self.os.access(ops) {
            Err(_) if self.lost.load(Ordering::Acquire) => Ok(()),
            other => other,
        }
    }

    /// Makes an L1 register of a process id, counted from the zone's start, point at a
    /// table or nowhere.
    pub(crate) fn l1(
        &self,
        process_id: u8,
        index: u64,
        table: Option<VramOffset>,
    ) -> Result<crate::RegisterOp, Error> {
        let index = u32::try_from(self.zone.start / L1_SPAN + index).map_err(|_| Error::Invalid)?;
        let at = table.unwrap_or_default();
        let mut op = self.chip.l1(process_id.into(), index, at);
        if table.is_none() {
            op.value = 0;
        }
        Ok(op)
    }
}

impl<O: Os, P, L> TableMemory for ProcessTables<O, P, L>
where
    P: SmallLock<Vec<VramOffset>>,
    L: SmallLock<Share>,
{
    fn alloc(&self) -> Result<VramOffset, Error> {
        let each = self.common.tables_each;
        let tables = self.share.with(|share| share.tables);
        if tables >= each {
            return Err(Error::Limit {
                segment: SegmentId::LocalVisible,
                limit: each * PAGE_SIZE,
                booked: tables * PAGE_SIZE,
            });
        }
        let table = self.pool.with(Vec::pop).ok_or(Error::NoSpace)?;
        // INVARIANT: what the pool has no more, the share has.
        self.share.with(|share| share.tables += 1);
        Ok(table)
    }

    fn free(&self, table: VramOffset) {
        self.share.with(|share| share.tables -= 1);
        // INVARIANT: it came from there, so there is room for it.
        self.pool.with(|pool| pool.push(table));
    }

    fn store(&self, table: VramOffset, first: usize, entries: &[u32]) {
        let at = table.add(first as u64 * ENTRY_BYTES);
        self.common.os.store_u32(at, entries);
    }

    fn barrier(&self) {
        self.common.os.write_barrier();
    }

    fn l2_entry(&self, table: VramOffset) -> u32 {
        self.common.chip.l2_entry(table)
    }

    fn set_l1(&self, index: u64, table: Option<VramOffset>) -> Result<(), Error> {
        // Under the lock: nobody else gets the process id meanwhile.
        self.share.with(|share| {
            let Some(process_id) = share.process_id else {
                return Ok(());
            };
            let op = self.common.l1(process_id, index, table)?;
            self.common.access(&mut [op])
        })
    }

    fn invalidate(&self, addresses: Range<u64>) -> Result<(), Error> {
        let bytes = addresses.end - addresses.start;
        let mut ops = self.common.chip.invalidate(GpuVa(addresses.start), bytes);
        self.common.access(&mut ops)
    }
}

impl<O: Os, P, L> SpaceMemory for ProcessTables<O, P, L>
where
    P: SmallLock<Vec<VramOffset>>,
    L: SmallLock<Share>,
{
    type Flags = ();

    fn entry(&self, page: GpuPage, (): ()) -> u32 {
        let Common { chip, local, .. } = &*self.common;
        match page {
            GpuPage::Local(segment, page) => {
                let start = local.get(segment as usize).copied().unwrap_or_default();
                chip.local_pte(start.add(page * PAGE_SIZE))
            }
            GpuPage::Ram(segment, at) => chip.system_pte(at, segment == SegmentId::PcieSnoop),
        }
    }
}
