//! Copies and fills of linear surfaces (hardware reference 10.12, 10.13), and
//! the pieces that these and other long packets are done in.

use super::mmu::{Access, Missed};
use super::{Naive, Why};

const SOURCE: u32 = 2;
const DESTINATION: u32 = 3;

/// Surface formats that are known besides 89, and their bytes a pixel.
pub(super) const FORMATS: [(u32, u32); 5] = [(0, 1), (7, 2), (90, 4), (200, 8), (511, 16)];

/// What is done at once, and again when it has to wait for a fault.
#[derive(Clone)]
pub(super) enum Piece {
    Pixels {
        process: u8,
        from: From,
        to: u64,
        /// Bytes of each pixel that are written.
        mask: u32,
    },
    Registers {
        by: Access,
        block: u32,
        word: u32,
        at: u64,
        words: u32,
    },
}

#[derive(Clone)]
pub(super) enum From {
    Memory(u64, u32),
    Colour(Vec<u8>),
}

#[derive(Clone, Copy)]
struct Surface {
    base: u64,
    width: u32,
    height: u32,
    mask: u32,
    /// Bytes of a pixel.
    bytes: u32,
}

impl Surface {
    fn pixel(self, x: u32, y: u32) -> u64 {
        self.base + (u64::from(y) * u64::from(self.width) + u64::from(x)) * u64::from(self.bytes)
    }
}

fn to_page_end(va: u64) -> u32 {
    u32::try_from(4096 - va % 4096).unwrap()
}

impl Naive {
    pub(super) fn draw(&mut self, header: u32, payload: &[u32]) -> Result<(), Why> {
        let blit = match header >> 16 & 7 {
            _ if self.ring != 0 => return Err(Why::Unsupported),
            1 => false,
            2 => true,
            0 | 3 | 4 => return Err(Why::Unsupported),
            _ => return Err(Why::Malformed),
        };
        if header >> 14 & 3 != 2 {
            return Err(Why::Unsupported);
        }
        let ([x, y], offset) = match *payload {
            [x, y] if !blit => ([x, y], 0),
            [x, y, offset] if blit => ([x, y], offset),
            _ => return Err(Why::Malformed),
        };
        let [x0, x1] = [x & 0xffff, x >> 16];
        let [y0, y1] = [y & 0xffff, y >> 16];
        let from = if blit { Some(self.surface(1)?) } else { None };
        let to = self.surface(0)?;
        if to.bytes != 4 && to.mask != 0 && to.mask != 0xf {
            return Err(Why::Unsupported);
        }
        if x0 > x1 || y0 > y1 || x1 >= to.width || y1 >= to.height {
            return Err(Why::Malformed);
        }
        let Some(from) = from else {
            if (1..8).any(|rt| self.ff(0x32 + 3 * rt) & 1 != 0) {
                return Err(Why::Unsupported);
            }
            self.rectangle([x0, x1, y0, y1], to, None);
            return Ok(());
        };
        if from.bytes != to.bytes {
            return Err(Why::Unsupported);
        }
        let (dx, dy) = (offset & 0x7fff, offset >> 16 & 0x7fff);
        if x1 + dx >= from.width || y1 + dy >= from.height {
            return Err(Why::Malformed);
        }
        self.rectangle([x0, x1, y0, y1], to, Some((from, dx, dy)));
        Ok(())
    }

    /// Rows from the top, pixels ascending, in pieces that end at page ends of
    /// either side.
    fn rectangle(
        &mut self,
        [x0, x1, y0, y1]: [u32; 4],
        to: Surface,
        from: Option<(Surface, u32, u32)>,
    ) {
        for y in y0..=y1 {
            let mut x = x0;
            while x <= x1 {
                let write_at = to.pixel(x, y);
                let mut bytes = ((x1 + 1 - x) * to.bytes).min(to_page_end(write_at));
                let from = if let Some((from, dx, dy)) = from {
                    let read_at = from.pixel(x + dx, y + dy);
                    bytes = bytes.min(to_page_end(read_at));
                    From::Memory(read_at, bytes)
                } else {
                    From::Colour(self.colour(write_at - to.base, bytes))
                };
                let process = self.process(true);
                self.rings[self.ring].pieces.push_back(Piece::Pixels {
                    process,
                    from,
                    to: write_at,
                    mask: to.mask,
                });
                x += bytes / to.bytes;
            }
        }
    }

    pub(super) fn perform(&mut self, piece: &Piece) -> Result<(), Missed> {
        match *piece {
            Piece::Pixels {
                process,
                ref from,
                to,
                mask,
            } => self.pixels(process, from, to, mask),
            Piece::Registers {
                by,
                block,
                word,
                at,
                words,
            } => self.move_registers(by, block, word, at, words),
        }
    }

    /// A piece is read whole, then written.
    fn pixels(&mut self, process: u8, from: &From, to: u64, mask: u32) -> Result<(), Missed> {
        let access = |client, write| Access {
            client,
            process,
            write,
        };
        let mut bytes = match from {
            From::Colour(bytes) => bytes.clone(),
            From::Memory(at, len) => {
                let mut bytes = vec![0; *len as usize];
                self.access(access(SOURCE, false), *at, &mut bytes)?;
                bytes
            }
        };
        if mask == 0 {
            return Ok(());
        }
        if mask != 0xf {
            let mut old = vec![0; bytes.len()];
            self.access(access(DESTINATION, false), to, &mut old)?;
            for (n, (new, old)) in (0..).zip(bytes.iter_mut().zip(old)) {
                if mask >> (n % 4) & 1 == 0 {
                    *new = old;
                }
            }
        }
        self.access(access(DESTINATION, true), to, &mut bytes)
    }

    /// The clear colour repeats over memory from the surface's start.
    fn colour(&self, offset: u64, bytes: u32) -> Vec<u8> {
        (offset..offset + u64::from(bytes))
            .map(|byte| usize::try_from(byte % 16).unwrap())
            .map(|byte| self.ff(0xC8 + byte / 4).to_le_bytes()[byte % 4])
            .collect()
    }

    fn surface(&self, rt: usize) -> Result<Surface, Why> {
        let [format, size, misc] = [0, 1, 2].map(|word| self.ff(0x30 + 3 * rt + word));
        if misc & 1 == 0 {
            return Err(Why::Malformed);
        }
        let [depth, array] = [1, 2].map(|word| self.ff(0x18 + 3 * rt + word));
        let one_layer = depth & 0xfff == 1 && array & 0xfff == 1 && array >> 12 & 0x7ff == 0;
        let effects = misc >> 6 & 0x3fff | misc >> 24 & 0x1f;
        let two_dimensional = misc >> 20 & 15 == 2;
        let tiled = misc >> 1 & 1 != 0;
        let compressed = format >> 9 & 0x3_ffff != 0;
        if tiled || compressed {
            return Err(Why::Unsupported);
        }
        if !one_layer || effects != 0 || !two_dimensional {
            return Err(Why::Unsupported);
        }
        let known = [(89, 4)].into_iter().chain(FORMATS);
        let mut found = known.filter(|(code, _)| *code == format & 0x1ff);
        let (_, bytes) = found.next().ok_or(Why::Unsupported)?;
        Ok(Surface {
            base: u64::from(self.ff(0x18 + 3 * rt)) << 8,
            width: size & 0x7fff,
            height: size >> 15 & 0x7fff,
            mask: misc >> 2 & 0xf,
            bytes,
        })
    }
}
