//! Blits and clears in flight, and the block's registers, as a saved state has them.

use super::{Ff, Kind, Operation, Rectangle};
use crate::config::Pixel;
use crate::mmu::Request;
use crate::saved::csp::{Draw, Source};
use crate::saved::sparse::{self, Sparse};
use crate::saved::{Damage, ensure};
use crate::surface::Surface;

impl Operation {
    pub(crate) fn save(&self) -> Draw {
        let &Self {
            kind,
            pixel,
            destination,
            request,
            rectangle: Rectangle { x, y, at_x, at_y },
        } = self;
        Draw {
            source: match kind {
                Kind::Clear => None,
                Kind::Blit {
                    source,
                    offset,
                    request,
                } => Some(Source {
                    surface: source.save(),
                    offset,
                    request: request.save(),
                }),
            },
            pixel_bytes: 1 << pixel.shift(),
            destination: destination.save(),
            request: request.save(),
            x,
            y,
            at_x,
            at_y,
        }
    }

    /// # Errors
    /// It does not stay inside its surfaces.
    pub(crate) fn restore(saved: Draw) -> Result<Self, Damage> {
        let Draw {
            source,
            pixel_bytes,
            destination,
            request,
            x,
            y,
            at_x,
            at_y,
        } = saved;
        let pixel = Pixel::from_bytes(pixel_bytes)
            .ok_or_else(|| Damage::new(format!("a pixel of {pixel_bytes} bytes")))?;
        let destination = Surface::restore(destination)?;
        let last = [x.max(), y.max()].map(u32::from);
        let mut inside = destination.contains(last[0], last[1])
            && (u32::from(x.min())..=last[0]).contains(&at_x)
            && (u32::from(y.min())..=last[1]).contains(&at_y);
        let kind = match source {
            None => Kind::Clear,
            Some(Source {
                surface,
                offset,
                request,
            }) => {
                let source = Surface::restore(surface)?;
                let [x, y] = [u32::from(offset.x()), u32::from(offset.y())];
                inside = inside && source.contains(last[0] + x, last[1] + y);
                Kind::Blit {
                    source,
                    offset,
                    request: Request::restore(request),
                }
            }
        };
        ensure(inside, || {
            format!("a copy or fill at pixel ({at_x}, {at_y}), outside its rectangle or surfaces")
        })?;
        Ok(Self {
            kind,
            pixel,
            destination,
            request: Request::restore(request),
            rectangle: Rectangle { x, y, at_x, at_y },
        })
    }
}

impl Ff {
    /// The block's registers.
    pub(crate) fn save(&self) -> Sparse<u32> {
        sparse::save(&self.words)
    }

    /// # Errors
    /// The block has no such register.
    pub(crate) fn restore(words: Sparse<u32>) -> Result<Self, Damage> {
        let mut ff = Self::new();
        sparse::restore(&mut ff.words, words, "word of the surfaces")?;
        // The registers say it.
        ff.load_colour(0);
        Ok(ff)
    }
}
