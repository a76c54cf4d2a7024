//! The tables in PA mode and the TLB (hardware reference 4.7, 5, 12.4).

use super::board::{Board, split};
use super::layout::Sizing;
use super::{Block, Result};

const PAGE: u64 = 4096;
/// GPU addresses that one L2 entry covers.
const L2_SPAN: u64 = 4 << 20;
const TTBR: u32 = 0x50000;
const VALID: u64 = 1 << 0;
const NS: u64 = 1 << 1;
const SNOOP: u64 = 1 << 2;
const LOCAL: u64 = 1 << 3;

/// The tables, and what of them has changed since the last submission.
pub(crate) struct Tables {
    /// The first address of the GART.
    start: u64,
    bytes: u64,
    pub(super) l3: Block,
    pub(super) l2: Block,
    /// Bus address of the page behind everything that is not mapped.
    pub(super) dummy: u64,
    dirty: Option<Dirty>,
    /// Address and mask of every invalidation, oldest first.
    pub(super) invalidations: Vec<(u32, u32)>,
}

/// The smallest aligned power of two around all changed addresses.
#[derive(Clone, Copy)]
struct Dirty {
    base: u64,
    /// Bits in which the addresses differ, and all below them.
    bits: u64,
}

impl Dirty {
    fn merge(self, first: u64, last: u64) -> Self {
        let differ = self.bits | self.base ^ first | self.base ^ last;
        let bits = differ.checked_ilog2().map_or(0, |top| (2 << top) - 1);
        Self {
            base: self.base & !bits,
            bits,
        }
    }
}

/// Bytes of the L3 and of the L2 table.
pub(crate) fn table_bytes(total: u64, gart: u64) -> (u64, u64) {
    (gart / PAGE * 4, (gart + total) / L2_SPAN * 4)
}

impl Tables {
    /// Fills both tables: every page is the dummy page.
    pub(crate) fn new(
        board: &Board,
        sizing: &Sizing,
        gart: u64,
        [l3, l2]: [Block; 2],
        dummy: u64,
    ) -> Result<Self> {
        let tables = Self {
            start: sizing.total,
            bytes: gart,
            l3,
            l2,
            dummy,
            // The quirk of hardware reference 5: the first invalidation
            // covers everything from 0 up.
            dirty: Some(Dirty { base: 0, bits: 0 }),
            invalidations: Vec::new(),
        };
        let page = entry(VALID | dummy).repeat(1024);
        let (l3_bytes, _) = table_bytes(sizing.total, gart);
        for at in (0..l3_bytes).step_by(page.len()) {
            board.put(&tables.l3, at, &page)?;
        }
        let vram = (0..sizing.total / L2_SPAN).map(|_| VALID | LOCAL);
        let pages = (tables.l3.at..tables.l3.at + l3_bytes).step_by(4096);
        let entries = vram.chain(pages.map(|at| VALID | LOCAL | at));
        let l2: Vec<u8> = entries.flat_map(entry).collect();
        board.put(&tables.l2, 0, &l2)?;
        Ok(tables)
    }

    /// The TTBR registers (part of step 9 of 12.1).
    pub(crate) fn write_ttbrs(&self, board: &mut Board) {
        let count = (self.start + self.bytes).div_ceil(1 << 32);
        for (n, register) in (0..count).zip((TTBR..).step_by(4)) {
            let value = u32::from_le_bytes(entry(VALID | LOCAL | (self.l2.at + n * PAGE)));
            board.write(register, value);
        }
    }

    /// Maps pages.
    pub(crate) fn map(
        &mut self,
        board: &Board,
        at: u64,
        frames: &[u64],
        snoop: bool,
    ) -> Result<()> {
        self.set(board, at, frames.iter().copied(), snoop)
    }

    /// Puts the dummy page behind `pages` pages.
    pub(crate) fn unmap(
        &mut self,
        board: &Board,
        at: u64,
        pages: usize,
        snoop: bool,
    ) -> Result<()> {
        self.set(board, at, std::iter::repeat_n(self.dummy, pages), snoop)
    }

    fn set(
        &mut self,
        board: &Board,
        at: u64,
        frames: impl ExactSizeIterator<Item = u64>,
        snoop: bool,
    ) -> Result<()> {
        let last = at + frames.len() as u64 * PAGE - 1;
        if at < self.start || last >= self.start + self.bytes {
            return Err(format!("{at:#x} to {last:#x} is not in the GART"));
        }
        let bits = VALID | NS | if snoop { SNOOP } else { 0 };
        let entries: Vec<u8> = frames.flat_map(|frame| entry(bits | frame)).collect();
        board.put(&self.l3, (at - self.start) / PAGE * 4, &entries)?;
        let dirty = self.dirty.unwrap_or(Dirty { base: at, bits: 0 });
        self.dirty = Some(dirty.merge(at, last));
        Ok(())
    }

    /// Before a submission: tells the TLB, if any entry has changed.
    pub(crate) fn flush(&mut self, board: &mut Board) {
        if let Some(Dirty { base, bits }) = self.dirty.take() {
            let page = |address: u64| split(address >> 16 << 4 & 0x0FFF_FFFF)[0];
            self.invalidate(board, page(base), page(!bits));
        }
    }

    /// Tells the TLB to drop everything (hardware reference 5: mask 0).
    pub(crate) fn flush_all(&mut self, board: &mut Board) {
        self.dirty = None;
        self.invalidate(board, 0, 0);
    }

    fn invalidate(&mut self, board: &mut Board, address: u32, mask: u32) {
        board.write(0x49018, address);
        board.write(0x4901C, mask);
        board.write(0x49020, 0x40);
        self.invalidations.push((address, mask));
    }
}

/// An L2 or L3 entry: attributes in bits 3:0, the page number from bit 4 on.
/// `bits` has the attributes and the address of the page.
fn entry(bits: u64) -> [u8; 4] {
    let [entry, _] = split(bits >> 12 << 4 | bits & 0xf);
    entry.to_le_bytes()
}
