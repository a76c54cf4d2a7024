//! Memory manager init (hardware reference 12.1), and memory that is never
//! paged (8.2).

use super::board::{Board, page_align};
use super::heap::Heap;
use super::layout::{Segment, Sizing, segments};
use super::tables::{Tables, table_bytes};
use super::{Block, Options, Result};
use vidmm::Caching;

const PAGE: u64 = 4096;
const LOW: u64 = 1 << 32;
/// No fence buffer may lie here (hardware reference 8.2).
const FENCE_HOLE: std::ops::Range<u64> = 0xC000_0000..0xC200_0000;

/// A part of the paging segment, with pages behind it.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) at: u64,
    pub(super) pages: usize,
}

/// Segments, tables and the paging window.
pub struct Memory {
    /// The machine.
    pub board: Board,
    /// How much VRAM there is.
    pub sizing: Sizing,
    /// By their number; 0 is no place.
    pub segments: Vec<Segment>,
    pub(super) tables: Tables,
    pub(super) window: Heap,
}

impl Memory {
    /// Steps 1 to 9 of hardware reference 12.1. Step 1, the page budget, is
    /// the board's; of step 4 only what three-channel boards lose exists here.
    pub(super) fn init(mut board: Board, options: Options) -> Result<Self> {
        board.write_byte(0x8A01, 0xff);
        wake(&mut board);
        let sizing = Sizing::read(&mut board)?;
        let mut segments = segments(&sizing, options.gart);
        let window = segments[2]
            .heap
            .take_top(options.window, PAGE)
            .ok_or("no room for the paging window")?;
        let dummy = board.pages(1, Caching::WriteCombined, LOW)?[0];
        let (l3, l2) = table_bytes(sizing.total, options.gart);
        let mut table = |bytes: u64| {
            let bytes = page_align(bytes);
            let (at, small) = segments[1]
                .take(bytes, PAGE, true)
                .ok_or("no room for a table")?;
            let frames = Vec::new();
            Ok::<_, String>(Block {
                segment: 1,
                at,
                bytes,
                frames,
                small,
            })
        };
        let tables = [table(l3)?, table(l2)?];
        let tables = Tables::new(&board, &sizing, options.gart, tables, dummy)?;
        let zeros = Block {
            frames: vec![dummy],
            bytes: PAGE,
            ..Block::default()
        };
        board.put(&zeros, 0, &[0; 4096])?;
        let mut mm = Self {
            board,
            sizing,
            segments,
            tables,
            window: Heap::new(window, options.window),
        };
        mm.settings();
        Ok(mm)
    }

    /// Step 9: the order of these writes is the reference's.
    pub(super) fn settings(&mut self) {
        let (board, channels) = (&mut self.board, self.sizing.channels);
        // The order of chips of hardware reference 1.1.
        let order = [0x00, 0x06, 0x03, 0x02, 0x04, 0x07, 0x08];
        let id = board.device_id_low();
        let from_1020 = order.iter().position(|chip| *chip == id) >= Some(3);
        if from_1020 && id != 0x07 {
            board.write(0x4C910, 1);
        }
        let video_size = u32::try_from(self.sizing.total >> 28).unwrap_or(1) - 1;
        board.write(0x49004, video_size << 8);
        board.write(0x49028, 8);
        board.read(0x49028);
        self.tables.write_ttbrs(board);
        board.write(
            0x49078,
            [0x0120_0003, 0x0130_0003, 0x0136_0003][channels as usize - 1],
        );
        board.write(0x4906C, if from_1020 { 0x40 } else { 0x4 });
        board.write(0x49024, 0b111 & 0b111 << channels);
        board.write(0x4908C, 0x1100_0202);
    }

    /// Memory that stays: `bytes` of segment 1, 2 or 3.
    pub(super) fn fixed(&mut self, segment: usize, bytes: u64, top: bool) -> Result<Block> {
        self.block(
            segment,
            bytes,
            if segment == 1 { 16 << 10 } else { PAGE },
            top,
        )?
        .ok_or_else(|| format!("no room for {bytes:#x} bytes in segment {segment}"))
    }

    /// The same, zeroed and outside the hole of the erratum.
    pub(super) fn fence_buffer(&mut self, segment: usize, bytes: u64) -> Result<Block> {
        let mut refused = Vec::new();
        let block = loop {
            let block = self.fixed(segment, bytes, false)?;
            if block.at >= FENCE_HOLE.end || block.at + block.bytes <= FENCE_HOLE.start {
                break block;
            }
            refused.push((block.at, block.bytes));
            self.release_pages(&block)?;
        };
        for (at, bytes) in refused {
            self.segments[segment].give(at, bytes);
        }
        self.board.put(
            &block,
            0,
            &vec![0; usize::try_from(block.bytes).unwrap_or(0)],
        )?;
        Ok(block)
    }

    /// A block of a segment, its pages mapped; `None` if there is no room.
    pub(super) fn block(
        &mut self,
        segment: usize,
        bytes: u64,
        align: u64,
        top: bool,
    ) -> Result<Option<Block>> {
        let bytes = page_align(bytes);
        let Some((at, small)) = self.segments[segment].take(bytes, align, top) else {
            return Ok(None);
        };
        let mut block = Block {
            segment,
            at,
            bytes,
            frames: Vec::new(),
            small,
        };
        if let Some(caching) = self.segments[segment].caching {
            block.frames = match self.board.pages(bytes / PAGE, caching, u64::MAX) {
                Ok(frames) => frames,
                Err(error) => {
                    self.segments[segment].give(at, bytes);
                    return Err(error);
                }
            };
            self.map(&block)?;
        }
        Ok(Some(block))
    }

    /// Writes the PTEs of a GART block.
    pub(super) fn map(&mut self, block: &Block) -> Result<()> {
        let snoop = block.segment == 3;
        self.tables.map(&self.board, block.at, &block.frames, snoop)
    }

    /// Gives a block back, its pages too.
    pub(super) fn release(&mut self, block: &Block) -> Result<()> {
        if block.segment != 0 {
            self.segments[block.segment].give(block.at, block.bytes);
        }
        self.release_pages(block)
    }

    /// Unmaps a block and frees its pages.
    fn release_pages(&mut self, block: &Block) -> Result<()> {
        self.unmap(block)?;
        self.free_pages(block.frames.clone());
        Ok(())
    }

    /// Frees pages that no entry leads to. No TLB may either: an IOMMU takes their
    /// addresses away.
    pub(super) fn free_pages(&mut self, frames: Vec<u64>) {
        if !frames.is_empty() {
            self.tables.flush(&mut self.board);
        }
        self.board.free(frames);
    }

    /// The dummy page behind a GART block.
    pub(super) fn unmap(&mut self, block: &Block) -> Result<()> {
        match block.segment {
            2 | 3 => {
                let snoop = block.segment == 3;
                self.tables
                    .unmap(&self.board, block.at, block.frames.len(), snoop)
            }
            _ => Ok(()),
        }
    }

    /// A window onto pages; `None` if the paging segment is full.
    pub(super) fn open_window(&mut self, frames: &[u64]) -> Result<Option<Window>> {
        let Some(at) = self.window.take(frames.len() as u64 * PAGE, PAGE) else {
            return Ok(None);
        };
        self.tables.map(&self.board, at, frames, false)?;
        Ok(Some(Window {
            at,
            pages: frames.len(),
        }))
    }

    pub(super) fn close_window(&mut self, window: &Window) -> Result<()> {
        self.window.give(window.at, window.pages as u64 * PAGE);
        self.tables
            .unmap(&self.board, window.at, window.pages, false)
    }

    /// Addresses and masks of the TLB invalidations so far.
    pub fn invalidations(&self) -> &[(u32, u32)] {
        &self.tables.invalidations
    }
}

/// The power handshake (hardware reference 9.3). If nobody answers, power
/// switching stays off.
fn wake(board: &mut Board) {
    board.write(0x8E080, 1);
    _ = (0..100).any(|_| board.read(0x8E000) >> 16 & 0xff == 0x22);
}
