//! Pieces of a copy or fill that follow each other in VRAM: they are moved
//! together, with the same effects as one by one.

use crate::index;
use crate::memory::Vram;
use crate::mmu::{Mxu, Request};
use crate::planted::planted;
use e3k_regs::{GpuVa, VramOffset};

/// Bytes of a colour that are kept to be written again and again: they stay in
/// the host's first-level cache.
pub(crate) const COLOUR_RUN: usize = 16 << 10;

/// One piece: the source if it is a copy's, the destination, the bytes. It ends
/// in the pages where it begins.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) source: Option<(Request, GpuVa)>,
    pub(crate) destination: (Request, GpuVa),
    pub(crate) len: u64,
}

/// What is still to be moved, from VRAM or the colour to VRAM.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run {
    from: Option<VramOffset>,
    to: VramOffset,
    bytes: u64,
}

impl Run {
    /// One piece whose places are known.
    pub(crate) fn new(from: Option<VramOffset>, to: VramOffset, bytes: u64) -> Self {
        Self { from, to, bytes }
    }

    /// Translates a piece and the next ones, `pieces` of them if they are whole
    /// pages, and adds those that follow this run and whose addresses the TLBs
    /// know. Returns how many. The others are not translated: a walk might read
    /// a table that the run is about to write.
    pub(crate) fn extend(&mut self, piece: &Piece, pieces: u64, mxu: &mut Mxu) -> u64 {
        let Self { from, to, bytes } = *self;
        let most = match from {
            // A copy that reads what it has written goes piece by piece.
            Some(from) => from.0.abs_diff(to.0),
            None => u64::MAX,
        };
        let mut pieces = pieces.min(most.saturating_sub(bytes) / piece.len);
        if bytes == 0 || pieces == 0 {
            return 0;
        }
        let mut source = None;
        if let (Some(from), Some((request, va))) = (from, piece.source) {
            source = mxu.peek(request, va, pieces);
            match &source {
                Some(source) if source.at == from.add(bytes) => pieces = source.pages,
                _ => return 0,
            }
        }
        let (request, va) = piece.destination;
        let Some(destination) = mxu.peek(request, va, pieces) else {
            return 0;
        };
        if destination.at != to.add(bytes) {
            return 0;
        }
        pieces = destination.pages;
        if let Some(source) = &source {
            mxu.take(source, pieces);
        }
        mxu.take(&destination, pieces);
        self.bytes += pieces * piece.len;
        pieces
    }

    /// Moves the bytes. `colour` is as it begins at the run's start.
    pub(crate) fn flush(&mut self, colour: &[u8], vram: &Vram) {
        let Self { from, to, bytes } = std::mem::take(self);
        let bytes = index(bytes).saturating_sub(if planted!(LastPixelDropped) { 4 } else { 0 });
        // Its pages are inside VRAM, which is whole pages.
        let _inside = match from {
            Some(from) => vram.copy(from, to, bytes),
            None => vram.fill(to, bytes, colour),
        };
    }
}
