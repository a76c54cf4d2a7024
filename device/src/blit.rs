//! The copy and fill paths of the fixed-function block: 2D blit and fast clear
//! of linear surfaces (hardware reference 10.12, 10.13).
//!
//! Only the 4-byte format that the reference names. Pixels are moved in ascending order, rows from the top.

use crate::config::Defects;
use crate::csp::CspErrorKind;
use crate::mmu::{Mxu, Request, Stop};
use crate::planted::planted;
use crate::{index, sparse};
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::packet::{Range, RtFormat, RtMisc, RtSize, SourceOffset, ff};
use e3k_regs::{GpuVa, PAGE_SHIFT, PAGE_SIZE};
use serde::{Deserialize, Serialize};

const PIXEL_BYTES: u64 = 4;
/// The most that is moved between two looks at the budget: one page.
const PIECE_BYTES: usize = 1 << PAGE_SHIFT;
/// The price of a piece besides its bytes, so that thin rows are not free.
const PIECE_COST: u64 = 64;
/// Bytes of the clear colour.
const COLOUR_BYTES: usize = 16;

/// A render target as its registers describe it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Surface {
    base: GpuVa,
    width: u32,
    height: u32,
    /// Which bytes of a pixel are written.
    mask: u8,
}

impl Surface {
    fn pixel(&self, x: u32, y: u32) -> GpuVa {
        let index = u64::from(y) * u64::from(self.width) + u64::from(x);
        self.base.add(index * PIXEL_BYTES)
    }

    /// Whether its registers can say it.
    fn is_sound(&self) -> bool {
        self.base.0.is_multiple_of(1 << 8)
            && self.base.0 >> ADDRESS_BITS == 0
            && self.width.max(self.height) <= u16::MAX.into()
    }

    fn contains(&self, x: u32, y: u32) -> bool {
        x < self.width && y < self.height
    }
}

/// The rectangle of an operation on its destination, and how far it has come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Rectangle {
    x: Range,
    y: Range,
    at_x: u32,
    at_y: u32,
}

impl Rectangle {
    fn parse(payload: &[u32]) -> Result<Self, CspErrorKind> {
        let &[x, y, ..] = payload else {
            return Err(crate::csp::too_short());
        };
        let (x, y) = (Range::from_bits(x), Range::from_bits(y));
        if x.min() > x.max() || y.min() > y.max() {
            return Err(CspErrorKind::Malformed {
                what: "a rectangle whose first pixel is behind its last".into(),
            });
        }
        Ok(Self {
            x,
            y,
            at_x: x.min().into(),
            at_y: y.min().into(),
        })
    }

    /// Bytes left in the current row.
    fn row_left(&self) -> u64 {
        (u64::from(self.x.max()) + 1 - u64::from(self.at_x)) * PIXEL_BYTES
    }

    /// Moves on by whole pixels inside the row; `true` at the end of the last one.
    fn advance(&mut self, pixels: u32) -> bool {
        self.at_x += pixels;
        if self.at_x <= self.x.max().into() {
            return false;
        }
        self.at_x = self.x.min().into();
        self.at_y += 1;
        self.at_y > self.y.max().into()
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Kind {
    Clear,
    Blit {
        source: Surface,
        offset: SourceOffset,
        request: Request,
    },
}

/// A blit or clear in flight.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Operation {
    kind: Kind,
    destination: Surface,
    request: Request,
    rectangle: Rectangle,
}

impl Operation {
    /// Whether a restored one can be true: it stays inside its surfaces.
    pub(crate) fn is_sound(&self) -> bool {
        let Rectangle { x, y, at_x, at_y } = self.rectangle;
        let last = [x.max(), y.max()].map(u32::from);
        let source = match self.kind {
            Kind::Clear => true,
            Kind::Blit { source, offset, .. } => {
                let [x, y] = last;
                source.is_sound()
                    && source.contains(x + u32::from(offset.x()), y + u32::from(offset.y()))
            }
        };
        source
            && self.destination.is_sound()
            && self.destination.contains(last[0], last[1])
            && (u32::from(x.min())..=last[0]).contains(&at_x)
            && (u32::from(y.min())..=last[1]).contains(&at_y)
    }
}

/// The block's registers and its buffer.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ff {
    #[serde(with = "sparse")]
    words: [u32; ff::WORDS as usize],
    /// Pixels on their way; for a clear the colour, repeated.
    #[serde(skip, default = "zeros")]
    buffer: Box<[u8; PIECE_BYTES + COLOUR_BYTES]>,
    /// What a partly masked piece becomes.
    #[serde(skip, default = "zeros")]
    merged: Box<[u8; PIECE_BYTES]>,
    defects: Defects,
}

#[expect(
    clippy::unnecessary_box_returns,
    reason = "the value of a field that is a box"
)]
fn zeros<const N: usize>() -> Box<[u8; N]> {
    Box::new([0; N])
}

impl Ff {
    pub(crate) fn new(defects: Defects) -> Self {
        Self {
            words: [0; ff::WORDS as usize],
            buffer: zeros(),
            merged: zeros(),
            defects,
        }
    }

    /// Whether a restored one can be true.
    pub(crate) fn is_sound(&self, defects: Defects) -> bool {
        self.defects == defects
    }

    pub(crate) fn reset(&mut self) {
        self.words.fill(0);
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
        payload: &[u32],
        request: Request,
    ) -> Result<Operation, CspErrorKind> {
        let operation = self.operation(payload, request, Kind::Clear)?;
        self.load_colour();
        Ok(operation)
    }

    /// Fills the buffer with the clear colour. It cannot change while a clear
    /// is in flight, so the buffer need not be saved.
    pub(crate) fn load_colour(&mut self) {
        for (chunk, at) in self.buffer.as_chunks_mut::<4>().0.iter_mut().zip(0_u16..) {
            *chunk = self.words[usize::from(ff::CLEAR_COLOUR + at % 4)].to_le_bytes();
        }
    }

    /// A blit as the registers and the packet's payload say it.
    pub(crate) fn blit(
        &mut self,
        payload: &[u32],
        source_request: Request,
        request: Request,
    ) -> Result<Operation, CspErrorKind> {
        let &[_, _, offset, ..] = payload else {
            return Err(crate::csp::too_short());
        };
        let offset = SourceOffset::from_bits(offset);
        let source = self.surface(1)?;
        let kind = Kind::Blit {
            source,
            offset,
            request: source_request,
        };
        let operation = self.operation(payload, request, kind)?;
        let last_x = u32::from(operation.rectangle.x.max()) + u32::from(offset.x());
        let last_y = u32::from(operation.rectangle.y.max()) + u32::from(offset.y());
        if !source.contains(last_x, last_y) {
            return Err(CspErrorKind::Malformed {
                what: "a blit that reads beyond its source surface".into(),
            });
        }
        Ok(operation)
    }

    /// Does one piece. Returns its price, and whether the operation is done.
    /// A piece whose source or destination faults is dropped, or stalls and is
    /// to be done again.
    pub(crate) fn advance(
        &mut self,
        operation: &mut Operation,
        mxu: &mut Mxu,
    ) -> Result<(u64, bool), Stop> {
        let rectangle = &operation.rectangle;
        let (target, mask) = (operation.request, operation.destination.mask);
        let to = operation.destination.pixel(rectangle.at_x, rectangle.at_y);
        let mut len = rectangle.row_left().min(PAGE_SIZE - to.in_page());
        let result = match &operation.kind {
            Kind::Clear => {
                let late = if planted!(ColourPhase) { 4 } else { 0 };
                let phase = (index(to.0) + late) % COLOUR_BYTES;
                let piece = &self.buffer[phase..phase + index(len)];
                if self.defects.ignore_fills {
                    Err(Stop::Dropped)
                } else {
                    write_masked(mxu, target, to, piece, mask, &mut self.merged)
                }
            }
            Kind::Blit {
                source,
                offset,
                request,
            } => {
                let offset = if planted!(SourceOffsetIgnored) {
                    SourceOffset::new()
                } else {
                    *offset
                };
                let x = rectangle.at_x + u32::from(offset.x());
                let y = rectangle.at_y + u32::from(offset.y());
                let from = source.pixel(x, y);
                len = len.min(PAGE_SIZE - from.in_page());
                let piece = &mut self.buffer[..index(len)];
                if self.defects.ignore_copies {
                    Err(Stop::Dropped)
                } else {
                    mxu.read(*request, from, piece)
                        .and_then(|()| write_masked(mxu, target, to, piece, mask, &mut self.merged))
                }
            }
        };
        if result == Err(Stop::Stalled) {
            return Err(Stop::Stalled);
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most one page")]
        let done = operation.rectangle.advance((len / PIXEL_BYTES) as u32);
        let counters = &mut mxu.counters;
        let (bytes, finished) = match operation.kind {
            Kind::Clear => (&mut counters.bytes_filled, &mut counters.fills),
            Kind::Blit { .. } => (&mut counters.bytes_copied, &mut counters.copies),
        };
        *bytes += if result.is_ok() { len } else { 0 };
        *finished += u64::from(done);
        Ok((len + PIECE_COST, done))
    }

    fn operation(
        &self,
        payload: &[u32],
        request: Request,
        kind: Kind,
    ) -> Result<Operation, CspErrorKind> {
        let destination = self.surface(0)?;
        let rectangle = Rectangle::parse(payload)?;
        if !destination.contains(rectangle.x.max().into(), rectangle.y.max().into()) {
            return Err(CspErrorKind::Malformed {
                what: "a rectangle beyond its destination surface".into(),
            });
        }
        Ok(Operation {
            kind,
            destination,
            request,
            rectangle,
        })
    }

    /// Render target `rt` from its registers.
    fn surface(&self, rt: u16) -> Result<Surface, CspErrorKind> {
        let word = |at: u16| self.words.get(usize::from(at)).copied().unwrap_or(0);
        let control = ff::rt_control(rt);
        let format = RtFormat::from_bits(word(control));
        let size = RtSize::from_bits(word(control + 1));
        let misc = RtMisc::from_bits(word(control + 2));
        let unsupported = if !misc.enable() {
            return Err(CspErrorKind::Malformed {
                what: "a copy or fill with a render target that is not enabled".into(),
            });
        } else if misc.tiled() {
            "a tiled surface"
        } else if format.bl_slot() != 0 {
            "a compressed surface"
        } else if format.format() != RtFormat::B8G8R8A8 {
            "a surface format other than B8G8R8A8"
        } else {
            return Ok(Surface {
                base: GpuVa(u64::from(word(ff::rt_address(rt))) << 8),
                width: size.width().into(),
                height: size.height().into(),
                mask: misc.write_mask(),
            });
        };
        Err(CspErrorKind::Unsupported {
            what: unsupported.into(),
        })
    }
}

/// Writes the bytes of whole pixels that `mask` has. What it has not is read
/// and written back, so a CPU that writes there meanwhile may lose its write.
fn write_masked(
    mxu: &mut Mxu,
    request: Request,
    to: GpuVa,
    piece: &[u8],
    mask: u8,
    merged: &mut [u8; PIECE_BYTES],
) -> Result<(), Stop> {
    match mask {
        0xf => mxu.write(request, to, piece),
        0 => Ok(()),
        _ => {
            let merged = &mut merged[..piece.len()];
            let reading = Request {
                write: false,
                ..request
            };
            mxu.read(reading, to, merged)?;
            for (byte, (new, channel)) in merged.iter_mut().zip(piece.iter().zip((0..4).cycle())) {
                let channel = if planted!(WriteMaskReversed) {
                    3 - channel
                } else {
                    channel
                };
                if mask >> channel & 1 == 1 {
                    *byte = *new;
                }
            }
            mxu.write(request, to, merged)
        }
    }
}
