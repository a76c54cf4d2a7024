//! How much memory there is, and the segments over it (hardware reference 2, 8.1).

use super::Result;
use super::board::Board;
use super::heap::Heap;
use vidmm::Caching;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The last part of segments 1 to 3, for small requests.
const SMALL_HEAP: u64 = 4 * MIB;

/// What the chip and BAR1 say about VRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// Memory channels.
    pub channels: u32,
    /// Bytes of VRAM: the start of the GART.
    pub total: u64,
    /// Bytes of it that may be used.
    pub available: u64,
    /// Bytes of BAR1.
    pub visible: u64,
}

impl Sizing {
    /// Waits for the memory and asks for its size.
    ///
    /// # Errors
    /// What is not as it must be.
    pub fn read(board: &mut Board) -> Result<Self> {
        if (0..10_001).all(|_| board.read(0xD370) != 0xDEAD_BEAF) {
            return Err("0xD370 never read 0xDEADBEAF".into());
        }
        let told = board.read(0xD374) & 0xff;
        let (channels, gib) = match told {
            0 => (3 - (board.read(0x49024) & 7).count_ones(), 4),
            _ => (told >> 4, told & 0xf),
        };
        let total = u64::from(channels * gib) * GIB;
        let lost = match (channels, total / GIB) {
            (3, 3) => 24,
            (3, 6) => 72,
            (3, 12) => 144,
            (3, 24) => 288,
            (3, gib) => return Err(format!("three channels with {gib} GiB")),
            _ => 0,
        };
        let visible = board.visible_bytes();
        if total == 0 || visible > total.min(4 * GIB) {
            return Err(format!(
                "BAR1 of {visible:#x} bytes over {total:#x} bytes of VRAM"
            ));
        }
        Ok(Self {
            channels,
            total,
            available: total - lost * MIB,
            visible,
        })
    }
}

/// One segment of the GPU's address space.
#[derive(Clone, Debug)]
pub struct Segment {
    /// First GPU address.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
    /// How the CPU maps its system pages; `None` for VRAM.
    pub(super) caching: Option<Caching>,
    pub(super) heap: Heap,
    pub(super) small: Heap,
    /// The largest request that the small heap takes.
    pub(super) small_up_to: u64,
}

impl Segment {
    fn new(start: u64, bytes: u64, caching: Option<Caching>, small_up_to: u64) -> Self {
        let small = if small_up_to > 0 {
            SMALL_HEAP.min(bytes)
        } else {
            0
        };
        Self {
            start,
            bytes,
            caching,
            heap: Heap::new(start, bytes - small),
            small: Heap::new(start + bytes - small, small),
            small_up_to,
        }
    }

    /// An address from the small heap if it takes the request, else from the
    /// heap; and whether it came from the small one.
    pub(super) fn take(&mut self, bytes: u64, align: u64, top: bool) -> Option<(u64, bool)> {
        let from = |heap: &mut Heap| {
            if top {
                heap.take_top(bytes, align)
            } else {
                heap.take(bytes, align)
            }
        };
        let small = if bytes <= self.small_up_to {
            from(&mut self.small)
        } else {
            None
        };
        match small {
            Some(at) => Some((at, true)),
            None => from(&mut self.heap).map(|at| (at, false)),
        }
    }

    pub(super) fn give(&mut self, at: u64, bytes: u64) {
        let small = self.small_up_to > 0 && at >= self.start + self.bytes - SMALL_HEAP;
        if small {
            &mut self.small
        } else {
            &mut self.heap
        }
        .give(at, bytes);
    }

    /// Free bytes, the small heap's included.
    pub fn free_bytes(&self) -> u64 {
        self.heap.free_bytes() + self.small.free_bytes()
    }
}

/// Segments 0 to 5, by their number. Segment 0 is no place: it stands for
/// system pages that the GPU does not see. `gart` is the size of segments 2
/// and 3 together.
pub fn segments(sizing: &Sizing, gart: u64) -> Vec<Segment> {
    let Sizing { total, visible, .. } = *sizing;
    let snooped = gart / 2 / 16 * 16;
    let unsnooped = gart - snooped;
    let low = total.min(4 * GIB);
    let pages = Some(Caching::WriteCombined);
    let mut segments = vec![
        Segment::new(0, 0, None, 0),
        Segment::new(0, visible, None, 32 << 10),
        Segment::new(total, unsnooped, pages, 64 << 10),
        Segment::new(total + unsnooped, snooped, Some(Caching::Cached), 64 << 10),
        Segment::new(visible, low - visible, None, 0),
        Segment::new(low, total - low, None, 0),
    ];
    // What three-channel boards lose is the end of VRAM (step 4 of 12.1).
    let lost = total - sizing.available;
    let end = if total > low { 5 } else { 4 };
    if lost > 0 {
        _ = segments[end].heap.take_top(lost, 1);
    }
    segments
}
