//! Copies and fills of linear surfaces (hardware reference 10.12, 10.13).

use super::mmu::Access;
use super::{Naive, Why};

const SOURCE: u32 = 2;
const DESTINATION: u32 = 3;

#[derive(Clone, Copy)]
struct Surface {
    base: u64,
    width: u32,
    height: u32,
}

impl Surface {
    fn pixel(self, x: u32, y: u32) -> u64 {
        self.base + (u64::from(y) * u64::from(self.width) + u64::from(x)) * 4
    }
}

fn to_page_end(va: u64) -> u32 {
    u32::try_from(4096 - va % 4096).unwrap()
}

impl Naive {
    pub(super) fn draw(&mut self, header: u32, payload: &[u32]) -> Result<(), Why> {
        let blit = match header >> 16 & 7 {
            1 => false,
            2 => true,
            0 | 3 | 4 => return Err(Why::Undescribed),
            _ => return Err(Why::Malformed),
        };
        let (&[x, y, ..], needed) = (payload, if blit { 3 } else { 2 }) else {
            return Err(Why::Malformed);
        };
        if payload.len() < needed {
            return Err(Why::Malformed);
        }
        let [x0, x1] = [x & 0xffff, x >> 16];
        let [y0, y1] = [y & 0xffff, y >> 16];
        let to = self.surface(0)?;
        if x0 > x1 || y0 > y1 || x1 >= to.width || y1 >= to.height {
            return Err(Why::Malformed);
        }
        if !blit {
            self.rectangle([x0, x1, y0, y1], to, None);
            return Ok(());
        }
        let from = self.surface(1)?;
        let (dx, dy) = (payload[2] & 0x7fff, payload[2] >> 16 & 0x7fff);
        if x1 + dx >= from.width || y1 + dy >= from.height {
            return Err(Why::Malformed);
        }
        self.rectangle([x0, x1, y0, y1], to, Some((from, dx, dy)));
        Ok(())
    }

    /// Rows from the top, pixels ascending, in pieces that end at page ends of
    /// either side; a piece is read whole, then written.
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
                let mut bytes = ((x1 + 1 - x) * 4).min(to_page_end(write_at));
                if let Some((from, dx, dy)) = from {
                    let read_at = from.pixel(x + dx, y + dy);
                    bytes = bytes.min(to_page_end(read_at));
                    let mut piece = vec![0; bytes as usize];
                    if self.access(self.by(SOURCE), read_at, &mut piece) {
                        self.access(self.by(DESTINATION), write_at, &mut piece);
                    }
                } else {
                    let mut piece = self.colour(write_at - to.base, bytes);
                    self.access(self.by(DESTINATION), write_at, &mut piece);
                }
                x += bytes / 4;
            }
        }
    }

    fn by(&self, client: u32) -> Access {
        Access {
            client,
            process: self.process(),
            write: client == DESTINATION,
        }
    }

    /// The clear colour repeats over memory from the surface's start.
    fn colour(&self, offset: u64, bytes: u32) -> Vec<u8> {
        (offset / 4..)
            .map(|dword| self.ff(0xC8 + usize::try_from(dword % 4).unwrap()))
            .flat_map(u32::to_le_bytes)
            .take(bytes as usize)
            .collect()
    }

    fn surface(&self, rt: usize) -> Result<Surface, Why> {
        let [format, size, misc] = [0, 1, 2].map(|word| self.ff(0x30 + 3 * rt + word));
        if misc & 1 == 0 {
            return Err(Why::Malformed);
        }
        let tiled = misc >> 1 & 1 != 0;
        let compressed = format >> 9 & 0x3_ffff != 0;
        if tiled || compressed || format & 0x1ff != 89 || misc >> 2 & 0xf != 0xf {
            return Err(Why::Undescribed);
        }
        Ok(Surface {
            base: u64::from(self.ff(0x18 + 3 * rt)) << 8,
            width: size & 0x7fff,
            height: size >> 15 & 0x7fff,
        })
    }
}
