//! Copies and fills as packets: full rows of 64 KiB, then one row for the rest
//! (hardware reference 10.12, 10.13).

use e3k_regs::GpuVa;
use e3k_regs::packet::{Writer, ff};

const PIXEL_BYTES: u64 = 4;
const ROW_PIXELS: u16 = 16384;
const ROW_BYTES: u64 = ROW_PIXELS as u64 * PIXEL_BYTES;
const MAX_ROWS: u64 = ff::MAX_EXTENT as u64;
/// Alignment of both addresses of a copy and of a fill.
pub(crate) const BASE_ALIGN: u64 = 256;
/// Alignment of sizes.
pub(crate) const SIZE_ALIGN: u64 = PIXEL_BYTES;

/// A linear surface that is part of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    offset: u64,
    width: u16,
    height: u16,
}

/// Cuts `bytes` (a multiple of 4) into surfaces.
fn chunks(bytes: u64) -> impl Iterator<Item = Chunk> {
    let mut offset = 0;
    core::iter::from_fn(move || {
        let left = bytes - offset;
        let rows = (left / ROW_BYTES).min(MAX_ROWS);
        let (width, height) = match rows {
            0 => (u16::try_from(left / PIXEL_BYTES).ok()?, 1),
            _ => (ROW_PIXELS, u16::try_from(rows).ok()?),
        };
        let chunk = Chunk {
            offset,
            width,
            height,
        };
        offset += u64::from(width) * u64::from(height) * PIXEL_BYTES;
        (width > 0).then_some(chunk)
    })
}

/// Fills `[at, at + bytes)` with `pattern`.
pub(crate) fn fill(out: &mut Writer<'_>, at: GpuVa, bytes: u64, pattern: u32) {
    for chunk in chunks(bytes) {
        out.surface(0, at.add(chunk.offset), chunk.width, chunk.height);
        out.clear(chunk.width, chunk.height, pattern);
    }
}

/// Copies `bytes` from `src` to `dst`; the ranges do not overlap.
pub(crate) fn copy(out: &mut Writer<'_>, dst: GpuVa, src: GpuVa, bytes: u64) {
    for chunk in chunks(bytes) {
        out.surface(0, dst.add(chunk.offset), chunk.width, chunk.height);
        out.surface(1, src.add(chunk.offset), chunk.width, chunk.height);
        out.blit(chunk.width, chunk.height);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(bytes: u64) -> Vec<(u64, u16, u16)> {
        chunks(bytes)
            .map(|c| (c.offset, c.width, c.height))
            .collect()
    }

    #[test]
    fn the_reference_example_is_one_blit_of_full_rows_and_one_of_the_rest() {
        assert_eq!(cut(8_294_400), [(0, 16384, 126), (0x7E_0000, 9216, 1)]);
    }

    #[test]
    fn sizes_at_the_edges_of_a_row_and_of_a_surface() {
        assert_eq!(cut(0), []);
        assert_eq!(cut(4), [(0, 1, 1)]);
        assert_eq!(cut(65536), [(0, 16384, 1)]);
        assert_eq!(cut(65540), [(0, 16384, 1), (65536, 1, 1)]);
        assert_eq!(
            cut((1 << 30) + 65536 + 8),
            [
                (0, 16384, 16384),
                (1 << 30, 16384, 1),
                ((1 << 30) + 65536, 2, 1)
            ]
        );
    }

    proptest! {
        #[test]
        fn chunks_cover_every_byte_once_in_order(quads in 0u64..1 << 34) {
            let mut next = 0;
            for chunk in chunks(quads * 4) {
                prop_assert_eq!(chunk.offset, next);
                prop_assert!(chunk.offset.is_multiple_of(BASE_ALIGN));
                prop_assert!(chunk.width <= 16384 && chunk.height <= 16384);
                next += u64::from(chunk.width) * u64::from(chunk.height) * 4;
            }
            prop_assert_eq!(next, quads * 4);
        }
    }
}
