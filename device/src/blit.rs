//! The copy and fill paths of the fixed-function block: 2D blit and fast clear
//! of linear surfaces (hardware reference 10.12, 10.13).
//!
//! Pixels are moved in ascending order, rows from the top.

mod saved;

use crate::budget::{Allowance, PACKET_COST};
use crate::config::{Pixel, SurfaceFormats};
use crate::defect::Defect;
use crate::index::index;
use crate::mmu::{Mxu, Request, Stop};
use crate::refused::Refused;
use crate::run::{COLOUR_BYTES, Colour, Piece, Run};
use crate::surface::Surface;
use crate::watch::Onlooker;
use e3k_regs::packet::{Range, RtMisc, SourceOffset, ff};
use e3k_regs::{GpuVa, PAGE_SHIFT, PAGE_SIZE};

/// The most that is moved at once: one page.
const PIECE_BYTES: usize = 1 << PAGE_SHIFT;
/// The least price of a piece, so that thin rows are not free.
const PIECE_COST: u64 = 64;
/// The write mask of every byte.
const WHOLE_PIXEL: u8 = 0xf;

/// The rectangle of an operation on its destination, and how far it has come.
#[derive(Clone, Copy, Debug)]
struct Rectangle {
    x: Range,
    y: Range,
    at_x: u32,
    at_y: u32,
}

impl Rectangle {
    /// `short`: its rows end one pixel early, if they have more than one.
    fn parse([x, y]: [u32; 2], short: bool) -> Result<Self, Refused> {
        let [mut x, y] = [x, y].map(Range::from_bits);
        if short && x.max() > x.min() {
            x.set_max(x.max() - 1);
        }
        if x.min() > x.max() || y.min() > y.max() {
            return Err(Refused::malformed(
                "a rectangle whose first pixel is behind its last",
            ));
        }
        Ok(Self {
            x,
            y,
            at_x: x.min().into(),
            at_y: y.min().into(),
        })
    }

    /// Pixels of a row.
    fn width(&self) -> u32 {
        u32::from(self.x.max() - self.x.min()) + 1
    }

    /// Moves on by whole pixels, inside the row or by whole rows; `true` at the end of
    /// the last one.
    fn advance(&mut self, pixels: u32) -> bool {
        self.at_x += pixels;
        if self.at_x <= self.x.max().into() {
            return false;
        }
        let behind = self.at_x - u32::from(self.x.min());
        self.at_x = u32::from(self.x.min()) + behind % self.width();
        self.at_y += behind / self.width();
        self.at_y > self.y.max().into()
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Clear,
    Blit {
        source: Surface,
        offset: SourceOffset,
        request: Request,
    },
}

/// A blit or clear in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    kind: Kind,
    /// Of both surfaces.
    pixel: Pixel,
    destination: Surface,
    request: Request,
    rectangle: Rectangle,
}

impl Operation {
    /// Whether a defect drops it.
    fn is_ignored(&self, watch: impl Onlooker) -> bool {
        watch.bends(match self.kind {
            Kind::Clear => Defect::Fills,
            Kind::Blit { .. } => Defect::Copies,
        })
    }

    /// The price of a piece of so many bytes: 1 for every four that are copied, and for
    /// every eight that are only written, is what a host needs.
    fn price(&self, len: u64) -> u64 {
        let bytes = match self.kind {
            Kind::Clear => 8,
            Kind::Blit { .. } => 4,
        };
        len.div_ceil(bytes).max(PIECE_COST)
    }

    /// Bytes that it writes from its beginning to its end.
    fn bytes(&self) -> u64 {
        let y = self.rectangle.y;
        let rows = u64::from(y.max() - y.min()) + 1;
        (u64::from(self.rectangle.width()) * rows) << self.pixel.shift()
    }

    /// Bytes left in the current row.
    fn row_left(&self) -> u64 {
        let Rectangle { x, at_x, .. } = self.rectangle;
        (u64::from(x.max()) + 1 - u64::from(at_x)) << self.pixel.shift()
    }

    /// Whole pages left, where the next piece is one: those of the row, and of the next
    /// rows if each is whole pages that follow the row before in both surfaces.
    fn pages_left(&self) -> u64 {
        let Rectangle { y, at_y, .. } = self.rectangle;
        let width = self.rectangle.width();
        let row = u64::from(width) << self.pixel.shift();
        let packed = self.destination.width == width
            && match &self.kind {
                Kind::Clear => true,
                Kind::Blit { source, .. } => source.width == width,
            };
        let rows = if packed && row.is_multiple_of(PAGE_SIZE) {
            u64::from(y.max()) - u64::from(at_y)
        } else {
            0
        };
        (self.row_left() + rows * row) / PAGE_SIZE
    }

    /// What comes next: it ends at the end of the row, or of a page of either side.
    fn piece(&self) -> Piece {
        let Rectangle { at_x, at_y, .. } = self.rectangle;
        let to = self.destination.place(self.pixel, at_x, at_y);
        let mut len = self.row_left().min(PAGE_SIZE - to.in_page());
        let source = match &self.kind {
            Kind::Clear => None,
            Kind::Blit {
                source,
                offset,
                request,
            } => {
                let (x, y) = (u32::from(offset.x()), u32::from(offset.y()));
                let from = source.place(self.pixel, at_x + x, at_y + y);
                len = len.min(PAGE_SIZE - from.in_page());
                Some((*request, from))
            }
        };
        Piece {
            source,
            destination: (self.request, to),
            len,
        }
    }
}

/// The block's registers and its buffers.
pub(crate) struct Ff {
    words: [u32; ff::WORDS as usize],
    /// Pixels on their way.
    pixels: Box<[u8; PIECE_BYTES]>,
    colour: Box<Colour>,
    /// What a partly masked piece becomes.
    merged: Box<[u8; PIECE_BYTES]>,
}

#[expect(
    clippy::unnecessary_box_returns,
    reason = "the value of a field that is a box"
)]
fn zeros<const N: usize>() -> Box<[u8; N]> {
    Box::new([0; N])
}

impl Ff {
    pub(crate) fn new() -> Self {
        Self {
            words: [0; ff::WORDS as usize],
            pixels: zeros(),
            colour: Box::default(),
            merged: zeros(),
        }
    }

    /// The registers to zero; the buffers hold nothing between two pieces.
    pub(crate) fn reset(&mut self) {
        let Self {
            words,
            pixels: _,
            colour: _,
            merged: _,
        } = self;
        words.fill(0);
    }

    /// A register of the block.
    pub(crate) fn get(&self, word: u32) -> u32 {
        self.words.get(word as usize).copied().unwrap_or(0)
    }

    /// Writes a register of the block; those that no copy or fill uses are dropped.
    pub(crate) fn set(&mut self, word: u32, value: u32) {
        if let Some(register) = self.words.get_mut(word as usize) {
            *register = value;
        }
    }

    /// A fast clear as the registers and the packet's payload say it.
    pub(crate) fn clear(
        &mut self,
        watch: impl Onlooker,
        ranges: [u32; 2],
        request: Request,
        formats: &SurfaceFormats,
    ) -> Result<Operation, Refused> {
        let operation = self.operation(watch, ranges, request, Kind::Clear, formats)?;
        if (1..ff::TARGETS).any(|rt| self.misc(rt).enable()) {
            return Err(Refused::unsupported(
                "a fast clear while another render target than 0 is enabled",
            ));
        }
        self.load_colour(u16::from(watch.bends(Defect::ColourPhase)));
        Ok(operation)
    }

    /// Repeats the clear colour. It cannot change while a clear is in flight, so
    /// what is repeated need not be saved. It begins with the dword `late`, of four.
    pub(crate) fn load_colour(&mut self, late: u16) {
        let mut colour = [0; COLOUR_BYTES];
        for (chunk, at) in colour.as_chunks_mut::<4>().0.iter_mut().zip(late..) {
            *chunk = self.words[usize::from(ff::CLEAR_COLOUR + at % 4)].to_le_bytes();
        }
        if !self.colour.bytes.starts_with(&colour) {
            self.colour.bytes.as_chunks_mut().0.fill(colour);
        }
    }

    /// A blit as the registers and the packet's payload say it.
    pub(crate) fn blit(
        &mut self,
        watch: impl Onlooker,
        [x, y, offset]: [u32; 3],
        source_request: Request,
        request: Request,
        formats: &SurfaceFormats,
    ) -> Result<Operation, Refused> {
        let offset = if watch.bends(Defect::SourceOffsetIgnored) {
            SourceOffset::new()
        } else {
            SourceOffset::from_bits(offset)
        };
        let (source, pixel) = Surface::read(|at| self.get(at.into()), 1, formats, watch)?;
        let kind = Kind::Blit {
            source,
            offset,
            request: source_request,
        };
        let operation = self.operation(watch, [x, y], request, kind, formats)?;
        if pixel != operation.pixel {
            let [from, to] = [pixel, operation.pixel].map(Pixel::bytes);
            return Err(Refused::unsupported(format!(
                "a blit from pixels of {from} bytes to pixels of {to}"
            )));
        }
        let last_x = u32::from(operation.rectangle.x.max()) + u32::from(offset.x());
        let last_y = u32::from(operation.rectangle.y.max()) + u32::from(offset.y());
        if !source.contains(last_x, last_y) {
            return Err(Refused::malformed(
                "a blit that reads beyond its source surface",
            ));
        }
        Ok(operation)
    }

    /// Does pieces, at least one, as long as there is something to spend. Returns
    /// whether the operation is done. A piece whose source or destination faults
    /// is the last; it is dropped, or stalls and is to be done again.
    pub(crate) fn advance<W: Onlooker>(
        &mut self,
        watch: W,
        operation: &mut Operation,
        allowance: &mut Allowance,
        mxu: &mut Mxu,
    ) -> bool {
        self.colour.all = operation.bytes();
        let mut run = Run::default();
        let (mut bytes, mut done) = (0, false);
        let ignored = operation.is_ignored(watch);
        let plain = operation.destination.mask == WHOLE_PIXEL && !ignored;
        loop {
            let piece = operation.piece();
            let mut pieces = 1;
            if piece.len == PAGE_SIZE {
                let affordable = allowance.pieces(operation.price(PAGE_SIZE));
                pieces = operation.pages_left().min(affordable);
            }
            let known = if plain {
                run.extend(watch, &piece, pieces, &self.colour, mxu)
            } else {
                0
            };
            pieces = known.max(1);
            let mut result = Ok(());
            if known == 0 {
                run.flush(&self.colour, &mxu.memory.vram);
                result = if ignored {
                    Err(Stop::Dropped)
                } else {
                    let begun = self.begin(watch, operation, &piece, mxu);
                    begun.map(|begun| run = begun)
                };
            }
            if result == Err(Stop::Stalled) {
                allowance.spend(PACKET_COST, mxu.counters.walks);
                break;
            }
            let len = pieces * piece.len;
            #[expect(clippy::cast_possible_truncation, reason = "at most a surface")]
            let pixels = (len >> operation.pixel.shift()) as u32;
            done = operation.rectangle.advance(pixels);
            bytes += if result.is_ok() { len } else { 0 };
            allowance.spend(pieces * operation.price(piece.len), mxu.counters.walks);
            if done || result.is_err() || !allowance.goes_on() {
                break;
            }
        }
        run.flush(&self.colour, &mxu.memory.vram);
        let counters = &mut mxu.counters;
        let (moved, finished) = match operation.kind {
            Kind::Clear => (&mut counters.bytes_filled, &mut counters.fills),
            Kind::Blit { .. } => (&mut counters.bytes_copied, &mut counters.copies),
        };
        *moved += bytes;
        *finished += u64::from(done);
        done
    }

    /// Executes one piece. Between two places in VRAM it only translates, and
    /// returns the run for the caller to merge with the next.
    fn begin<W: Onlooker>(
        &mut self,
        watch: W,
        operation: &Operation,
        piece: &Piece,
        mxu: &mut Mxu,
    ) -> Result<Run, Stop> {
        let len = index(piece.len);
        let (_, to) = piece.destination;
        let buffer = if piece.source.is_some() {
            &mut self.pixels[..len]
        } else {
            &mut self.colour.run_mut(to.0)[..len]
        };
        let mask = operation.destination.mask;
        if mask == WHOLE_PIXEL {
            return piece.begin(watch, mxu, buffer);
        }
        if let Some((request, from)) = piece.source {
            mxu.read(watch, request, from, buffer)?;
        }
        let (request, to) = piece.destination;
        let merged = &mut self.merged;
        write_masked(watch, mxu, request, to, buffer, (mask, merged)).map(|()| Run::default())
    }

    fn operation(
        &self,
        watch: impl Onlooker,
        ranges: [u32; 2],
        request: Request,
        kind: Kind,
        formats: &SurfaceFormats,
    ) -> Result<Operation, Refused> {
        let (destination, pixel) = Surface::read(|at| self.get(at.into()), 0, formats, watch)?;
        let mask = destination.mask;
        // A mask bit is a colour channel; only in formats of 4 bytes is a channel one byte.
        if pixel != Pixel::B4 && mask != 0 && mask != WHOLE_PIXEL {
            let bytes = pixel.bytes();
            return Err(Refused::unsupported(format!(
                "write mask {mask:#x} for pixels of {bytes} bytes"
            )));
        }
        let rectangle = Rectangle::parse(ranges, watch.bends(Defect::RowsEndEarly))?;
        if !destination.contains(rectangle.x.max().into(), rectangle.y.max().into()) {
            return Err(Refused::malformed(
                "a rectangle beyond its destination surface",
            ));
        }
        Ok(Operation {
            kind,
            pixel,
            destination,
            request,
            rectangle,
        })
    }

    fn misc(&self, rt: u16) -> RtMisc {
        RtMisc::from_bits(self.get(ff::rt_misc(rt).into()))
    }
}

/// Writes the bytes of whole pixels that `mask` has, which is not all. What it has not is read
/// and written back, so a CPU that writes there meanwhile may lose its write.
fn write_masked<W: Onlooker>(
    watch: W,
    mxu: &mut Mxu,
    request: Request,
    to: GpuVa,
    piece: &[u8],
    (mask, merged): (u8, &mut [u8; PIECE_BYTES]),
) -> Result<(), Stop> {
    if mask == 0 {
        return Ok(());
    }
    let mask = if watch.bends(Defect::WriteMaskReversed) {
        mask.reverse_bits() >> 4
    } else {
        mask
    };
    let merged = &mut merged[..piece.len()];
    let reading = Request {
        write: false,
        ..request
    };
    mxu.read(watch, reading, to, merged)?;
    for (byte, (new, channel)) in merged.iter_mut().zip(piece.iter().zip((0..4).cycle())) {
        if mask >> channel & 1 == 1 {
            *byte = *new;
        }
    }
    mxu.write(watch, request, to, merged)
}
