//! Pieces of a copy or fill that follow each other in VRAM: they are moved
//! together, with the same effects as one by one.

use crate::index;
use crate::memory::Vram;
use crate::mmu::{Mxu, Request};
use crate::planted::planted;
use e3k_regs::{GpuVa, VramOffset};

/// Bytes of a colour that are kept to be written again and again: they stay in
/// the host's first-level cache.
pub(crate) const COLOUR_RUN: usize = 32 << 10;

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
    /// pages, as far as the TLBs know them and they follow each other. Returns how
    /// many, with the run that they are. The others are not translated: a walk might
    /// read a table that a run is about to write.
    pub(crate) fn next(piece: &Piece, pieces: u64, mxu: &mut Mxu) -> Option<(Self, u64)> {
        let (request, va) = piece.destination;
        let destination = mxu.peek(request, va, pieces)?;
        let mut pieces = destination.pages;
        let source = match piece.source {
            Some((request, va)) => Some(mxu.peek(request, va, pieces)?),
            None => None,
        };
        if let Some(source) = &source {
            pieces = source.pages;
            // A copy that reads what it has written goes piece by piece.
            let apart = source.at.0.abs_diff(destination.at.0);
            pieces = pieces.min(apart / piece.len).max(1);
            mxu.take(source, pieces);
        }
        mxu.take(&destination, pieces);
        let from = source.map(|source| source.at);
        let run = Self::new(from, destination.at, pieces * piece.len);
        Some((run, pieces))
    }

    /// Makes one run of both, if the next one's pieces follow this one's.
    pub(crate) fn append(&mut self, next: &Self) -> bool {
        let bytes = self.bytes + next.bytes;
        let follow = next.to == self.to.add(self.bytes)
            && match (self.from, next.from) {
                (None, None) => true,
                (Some(from), Some(next)) => {
                    next == from.add(self.bytes) && bytes <= from.0.abs_diff(self.to.0)
                }
                _ => false,
            };
        let follow = follow && self.bytes > 0;
        if follow {
            self.bytes = bytes;
        }
        follow
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
