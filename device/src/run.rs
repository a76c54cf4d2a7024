//! Pieces of a copy or fill that follow each other: they are moved together, with
//! the same effects as one by one.

#![expect(
    clippy::inline_always,
    reason = "what a call hands back in memory is read only when the page stored before is; see docs/performance.md"
)]

use crate::index::index;
use crate::memory::{Target, Vram};
use crate::mmu::{Mxu, Request, Stop};
use crate::watch::Onlooker;
use e3k_regs::{GpuVa, VramOffset};

/// Bytes of a colour that are kept to be written again and again: they stay in
/// the host's first-level cache.
pub(crate) const COLOUR_RUN: usize = 32 << 10;
/// Bytes of the clear colour. It repeats from the surface's start, whose address is a
/// multiple of it.
pub(crate) const COLOUR_BYTES: usize = 16;

/// The clear colour, repeated, and how many bytes the operation fills with it in all. It
/// begins at a page: just below one's end, a host's loads of it wait for the stores
/// before them, and a fill takes a tenth longer.
#[repr(align(4096))]
pub(crate) struct Colour {
    pub(crate) bytes: [u8; COLOUR_RUN + COLOUR_BYTES],
    pub(crate) all: u64,
}

impl Default for Colour {
    #[expect(clippy::large_stack_arrays, reason = "it is boxed at once")]
    fn default() -> Self {
        Self {
            bytes: [0; COLOUR_RUN + COLOUR_BYTES],
            all: 0,
        }
    }
}

impl Colour {
    /// As it is from this address on.
    pub(crate) fn run(&self, at: u64) -> &[u8] {
        &self.bytes[Self::phase(at)..][..COLOUR_RUN]
    }

    /// The same.
    pub(crate) fn run_mut(&mut self, at: u64) -> &mut [u8] {
        &mut self.bytes[Self::phase(at)..][..COLOUR_RUN]
    }

    fn phase(at: u64) -> usize {
        index(at) % COLOUR_BYTES
    }
}

/// One piece: the source if it is a copy's, the destination, the bytes. It ends
/// in the pages where it begins.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) source: Option<(Request, GpuVa)>,
    pub(crate) destination: (Request, GpuVa),
    pub(crate) len: u64,
}

impl Piece {
    /// The one that comes after so many.
    fn behind(&self, pieces: u64) -> Self {
        let bytes = pieces * self.len;
        let (writing, to) = self.destination;
        Self {
            source: self
                .source
                .map(|(reading, from)| (reading, from.add(bytes))),
            destination: (writing, to.add(bytes)),
            len: self.len,
        }
    }
}

impl Piece {
    /// Moves it: all is read, then all is written. Between places in VRAM it is only
    /// translated, and left to the caller. `buffer` holds what is written, a copy's on
    /// its way.
    pub(crate) fn begin<W: Onlooker>(
        &self,
        watch: W,
        mxu: &mut Mxu,
        buffer: &mut [u8],
    ) -> Result<Run, Stop> {
        let done = Run::default();
        let (writing, to) = self.destination;
        let local = match self.source {
            None => None,
            Some((reading, from)) => {
                let source = mxu.reach(watch, reading, from, self.len)?;
                if let Target::Vram(at) = source.target() {
                    Some(at)
                } else {
                    mxu.read_at(watch, reading, from, source, buffer)?;
                    return mxu.write(watch, writing, to, buffer).map(|()| done);
                }
            }
        };
        let place = mxu.reach(watch, writing, to, self.len)?;
        if let Target::Vram(at) = place.target() {
            return Ok(Run::new(local, at, self.len));
        }
        if let Some(from) = local {
            // Read only now: a place that is translated lies inside VRAM, which answers.
            let _inside = mxu.memory.vram.read(from, buffer);
        }
        mxu.write_at(watch, writing, to, place, buffer)
            .map(|()| done)
    }
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
    /// pages, as far as the TLBs know them, and makes them a part of the run. Memory of
    /// the machine's that is mapped is copied or filled at once. Returns how many
    /// pieces; after none, nothing has happened. The others are not translated: a walk
    /// might read a table that a run is about to write.
    pub(crate) fn extend<W: Onlooker>(
        &mut self,
        watch: W,
        piece: &Piece,
        pieces: u64,
        colour: &Colour,
        mxu: &mut Mxu,
    ) -> u64 {
        let mut next = *piece;
        let mut done = 0;
        while done < pieces {
            let more = self.extend_once(watch, &next, pieces - done, colour, mxu);
            if more == 0 {
                break;
            }
            done += more;
            next = next.behind(more);
        }
        done
    }

    /// The same, as far as the pieces follow each other in memory.
    #[inline(always)]
    fn extend_once<W: Onlooker>(
        &mut self,
        watch: W,
        piece: &Piece,
        pieces: u64,
        colour: &Colour,
        mxu: &mut Mxu,
    ) -> u64 {
        let (writing, va) = piece.destination;
        let Some(destination) = mxu.peek(watch, writing, va, pieces) else {
            return 0;
        };
        let mut pieces = destination.pages;
        let mut source = None;
        if let Some((reading, va)) = piece.source {
            let Some(peeked) = mxu.peek(watch, reading, va, pieces) else {
                return 0;
            };
            pieces = peeked.pages;
            source = Some((reading, peeked));
        }
        let from = source.as_ref().map(|(_, source)| source.place.target());
        let to = destination.place.target();
        if let (Some(Target::Vram(from)), Target::Vram(to)) = (from, to) {
            // A copy that reads what it has written goes piece by piece.
            pieces = pieces.min(from.0.abs_diff(to.0) / piece.len).max(1);
        }
        let admits = |mxu: &Mxu, bytes: u64| {
            let reads = source.as_ref();
            reads.is_none_or(|(reading, source)| mxu.admits_known(watch, *reading, source, bytes))
                && mxu.admits_known(watch, writing, &destination, bytes)
        };
        if let (None | Some(Target::Vram(_)), Target::Vram(to)) = (from, to) {
            let from = match from {
                Some(Target::Vram(from)) => Some(from),
                _ => None,
            };
            let next = Self::new(from, to, pieces * piece.len);
            if !self.add(next, colour, mxu, admits) {
                return 0;
            }
        } else {
            self.flush(colour, &mxu.memory.vram);
            let from = source.as_ref();
            let from = from.map(|(reading, source)| source.place.with_origin(*reading));
            let to = destination.place.with_origin(writing);
            let mut bytes = index(pieces * piece.len);
            let unit = index(piece.len);
            if !W::NOBODY {
                // While the machine's memory is in use, nobody can look at it.
                bytes = mxu.memory.exchanges(from, to, [bytes, unit]);
                if bytes == 0 || !admits(mxu, bytes as u64) {
                    return 0;
                }
            }
            let colour = (colour.run(va.0), colour.all);
            let done = mxu.memory.exchange(from, to, [bytes, unit], colour);
            pieces = done as u64 / piece.len;
            if pieces == 0 {
                return 0;
            }
        }
        if let Some((reading, source)) = &source {
            mxu.take(watch, *reading, source, pieces);
        }
        mxu.take(watch, writing, &destination, pieces);
        pieces
    }

    /// Makes one run of it and the next one, or flushes it and begins anew. `false` if
    /// that is not admitted: then nothing is added.
    #[inline(always)]
    fn add(
        &mut self,
        next: Self,
        colour: &Colour,
        mxu: &Mxu,
        admits: impl Fn(&Mxu, u64) -> bool,
    ) -> bool {
        let follows = self.is_followed_by(&next);
        if !follows {
            mxu.memory.vram.expect(next.from, next.to);
            self.flush(colour, &mxu.memory.vram);
        }
        if !admits(mxu, next.bytes) {
            return false;
        }
        if follows {
            self.bytes += next.bytes;
        } else {
            *self = next;
        }
        true
    }

    /// Whether the next one's pieces follow this one's, so that both can be one run.
    fn is_followed_by(&self, next: &Self) -> bool {
        let bytes = self.bytes + next.bytes;
        let follow = next.to == self.to.add(self.bytes)
            && match (self.from, next.from) {
                (None, None) => true,
                (Some(from), Some(next)) => {
                    next == from.add(self.bytes) && bytes <= from.0.abs_diff(self.to.0)
                }
                _ => false,
            };
        follow && self.bytes > 0
    }

    /// Moves the bytes.
    pub(crate) fn flush(&mut self, colour: &Colour, vram: &Vram) {
        let Self { from, to, bytes } = std::mem::take(self);
        if bytes == 0 {
            return;
        }
        let bytes = index(bytes);
        // Its pages are inside VRAM, which is whole pages.
        let _inside = match from {
            Some(from) => vram.copy(from, to, bytes),
            None => vram.fill(to, bytes, colour.run(to.0), colour.all),
        };
    }
}
