//! The shared zones' page tables: one L2 table for each L1 register and one
//! L3 table for each L2 entry, all in one piece of VRAM, written by the CPU
//! through the VRAM window.

use crate::chip::ChipOps;
use crate::platform::VramWindow;
use crate::zones::VmInfo;
use e3k_regs::pte::{ENTRY_BYTES, L1_SPAN, TABLE_ENTRIES};
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

const TABLE_BYTES: u64 = TABLE_ENTRIES * ENTRY_BYTES;

/// Entries and tables per level for an address range that begins at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PtLayout {
    /// L3 entries.
    pub(crate) ptes: u64,
    /// L3 tables, which is also the number of L2 entries.
    pub(crate) l3_tables: u64,
    /// L2 tables, which is also the number of L1 registers.
    pub(crate) l2_tables: u64,
}

impl PtLayout {
    /// For `bytes`, a multiple of what an L1 register spans: every table is full.
    pub(crate) const fn for_bytes(bytes: u64) -> Self {
        Self {
            ptes: bytes / PAGE_SIZE,
            l3_tables: bytes / PAGE_SIZE / TABLE_ENTRIES,
            l2_tables: bytes / L1_SPAN,
        }
    }

    pub(crate) const fn l2_bytes(&self) -> u64 {
        self.l2_tables * TABLE_BYTES
    }

    pub(crate) const fn l3_bytes(&self) -> u64 {
        self.l3_tables * TABLE_BYTES
    }
}

/// Tables at a place in VRAM: all L2 tables, then all L3 tables, each level in
/// the order of the addresses it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageTables {
    pub(crate) layout: PtLayout,
    pub(crate) l2: VramOffset,
    pub(crate) l3: VramOffset,
}

impl PageTables {
    pub(crate) fn at(base: VramOffset, layout: PtLayout) -> Self {
        Self {
            layout,
            l2: base,
            l3: base.add(layout.l2_bytes()),
        }
    }

    /// Where the L2 table of L1 register `index` is.
    pub(crate) fn l2_table(&self, index: u64) -> VramOffset {
        self.l2.add(index * TABLE_BYTES)
    }

    /// Where the L3 entry of an address in the shared zones is.
    pub(crate) fn l3_entry(&self, va: GpuVa) -> VramOffset {
        self.l3.add(va.page() * ENTRY_BYTES)
    }

    /// Fills L3, then L2: page n of local memory is page n of VRAM, what is
    /// beyond VRAM is invalid, everything in the PCIe zone is the dummy page.
    pub(crate) fn fill(
        &self,
        window: &impl VramWindow,
        chip: &dyn ChipOps,
        vm: &VmInfo,
        dummy_pte: u32,
    ) {
        let vram_pages = vm.vram_bytes / PAGE_SIZE;
        let local_pages = vm.local.bytes / PAGE_SIZE;
        store_entries(window, self.l3, self.layout.ptes, |page| {
            if page >= local_pages {
                dummy_pte
            } else if page < vram_pages {
                chip.local_pte(VramOffset::from_page(page))
            } else {
                0
            }
        });
        store_entries(window, self.l2, self.layout.l3_tables, |table| {
            chip.l2_entry(self.l3.add(table * TABLE_BYTES))
        });
    }
}

/// Stores `count` consecutive entries at `at`.
pub(crate) fn store_entries(
    window: &impl VramWindow,
    at: VramOffset,
    count: u64,
    mut entry: impl FnMut(u64) -> u32,
) {
    const CHUNK: usize = 128;
    let mut done = 0;
    while done < count {
        let mut chunk = [0; CHUNK];
        let mut filled = 0;
        for slot in &mut chunk {
            if done + filled == count {
                break;
            }
            *slot = entry(done + filled);
            filled += 1;
        }
        let used = usize::try_from(filled).unwrap_or(CHUNK);
        window.store_u32(at.add(done * ENTRY_BYTES), &chunk[..used]);
        done += filled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_4_gib_zone_takes_the_tables_of_the_worked_example() {
        let layout = PtLayout::for_bytes(4 << 30);
        assert_eq!(layout.ptes, 1_048_576);
        assert_eq!((layout.l3_tables, layout.l3_bytes()), (1024, 4 << 20));
        assert_eq!((layout.l2_tables, layout.l2_bytes()), (1, 4096));
    }

    #[test]
    fn entries_are_found_where_a_walk_finds_them() {
        let tables = PageTables::at(VramOffset(0x10_0000), PtLayout::for_bytes(8 << 30));
        let va = GpuVa(0x1_2345_6000);
        let table = tables.l3.add((va.0 >> 22) * TABLE_BYTES);
        assert_eq!(tables.l3_entry(va), table.add(va.l3_index() * 4));
        assert_eq!(tables.l2_table(1), VramOffset(0x10_1000));
        assert_eq!(tables.l3, VramOffset(0x10_2000));
    }
}
