//! The GART: the PCIe zone's last-level entries. An entry that is not bound
//! points at the dummy page, so a stray access is harmless.

use crate::Error;
use crate::chip::ChipOps;
use crate::chip::pagetable::{PageTables, store_entries};
use crate::platform::Os;
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::{BusAddr, GpuVa, PAGE_SIZE};

/// Writes bindings into the shared tables.
#[derive(Clone, Copy)]
pub(crate) struct Gart {
    pub(crate) tables: PageTables,
    pub(crate) dummy_pte: u32,
}

impl Gart {
    /// Points `count` entries from `va` on at `pages`: entries, barrier, TLB
    /// invalidation. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Fault`] for a page without a usable bus address, or a failing
    /// invalidation. Entries may be written then: [`Self::unbind`] is due.
    pub(crate) fn bind<O: Os>(
        &self,
        os: &O,
        chip: &dyn ChipOps,
        va: GpuVa,
        pages: &O::Pages,
        count: u64,
        snoop: bool,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        store_entries(
            os,
            self.tables.l3_entry(va),
            count,
            |index| match bus_addr(os, pages, index) {
                Ok(page) => chip.system_pte(page, snoop),
                Err(error) => {
                    result = Err(error);
                    self.dummy_pte
                }
            },
        );
        os.write_barrier();
        result?;
        os.access(&mut chip.invalidate(va, count * PAGE_SIZE))
    }

    /// Points `count` entries from `va` on at the dummy page: entries, barrier,
    /// TLB invalidation. The caller has made sure that no job uses them.
    ///
    /// # Errors
    /// Those of the invalidation; until it succeeds the GPU may still reach the pages.
    pub(crate) fn unbind<O: Os>(
        &self,
        os: &O,
        chip: &dyn ChipOps,
        va: GpuVa,
        count: u64,
    ) -> Result<(), Error> {
        store_entries(os, self.tables.l3_entry(va), count, |_| self.dummy_pte);
        os.write_barrier();
        os.access(&mut chip.invalidate(va, count * PAGE_SIZE))
    }
}

/// The bus address of page `index`, if a page-table entry can say it.
///
/// # Errors
/// [`Error::Fault`].
pub(crate) fn bus_addr<O: Os>(os: &O, pages: &O::Pages, index: u64) -> Result<BusAddr, Error> {
    let index = usize::try_from(index).map_err(|_| Error::Fault)?;
    let addr = os.bus_addr(pages, index).ok_or(Error::Fault)?;
    let usable = addr.in_page() == 0 && addr.0 >> ADDRESS_BITS == 0;
    usable.then_some(addr).ok_or(Error::Fault)
}
