//! Copies and fills, byte by byte (hardware reference 10.12, 10.13).

use crate::rig::{MIB, Rig, SURFACES_AT, copy, fill, noise, nth_page, push_all};
use crate::tables::{plus, snooped, unsnooped, vram};
use e3k_regs::packet::Writer;
use presil_device::{CspErrorKind, GpuVa, Target};
use proptest::prelude::*;

const SOURCE: u64 = SURFACES_AT;
const DESTINATION: u64 = SURFACES_AT + 64 * MIB;
/// Bytes around a destination that must stay.
const GUARD: usize = 4096;

/// The SG packet on the current surfaces: first and last pixel, source offset.
pub(crate) fn sg(
    w: &mut Writer<'_>,
    action: u32,
    x: (u16, u16),
    y: (u16, u16),
    offset: (u16, u16),
) {
    let dwords = if action == 2 { 3 } else { 2 };
    w.push(0x9300_0000 | action << 16 | 2 << 14 | 2 << 12 | dwords);
    w.push(u32::from(x.0) | u32::from(x.1) << 16);
    w.push(u32::from(y.0) | u32::from(y.1) << 16);
    if action == 2 {
        w.push(u32::from(offset.0) | u32::from(offset.1) << 16);
    }
}

/// The destination with its guards before and behind, all noise.
fn guarded(rig: &Rig, len: usize) -> Vec<u8> {
    let before = noise(99, len + 2 * GUARD);
    rig.put(vram(DESTINATION - GUARD as u64), &before);
    before
}

fn guarded_now(rig: &Rig, len: usize) -> Vec<u8> {
    rig.get(vram(DESTINATION - GUARD as u64), len + 2 * GUARD)
}

#[test]
fn copies_and_fills_of_any_size_touch_their_bytes_and_no_other() {
    let sizes = [
        (1, 1),
        (1, 7),
        (3, 5),
        (64, 1),
        (1023, 1),
        (1024, 1),
        (1025, 3),
        (4096, 4),
        (16383, 2),
        (16384, 3),
        (16384, 16),
        (9216, 1),
    ];
    for (width, height) in sizes {
        let len = usize::from(width) * usize::from(height) * 4;
        let mut rig = Rig::new();
        let data = noise(1, len);
        rig.put(vram(SOURCE), &data);
        let mut expected = guarded(&rig, len);
        rig.submit(|w| copy(w, SOURCE, DESTINATION, width, height));
        expected[GUARD..GUARD + len].copy_from_slice(&data);
        assert!(
            guarded_now(&rig, len) == expected,
            "copy {width} x {height}"
        );

        rig.submit(|w| fill(w, DESTINATION, width, height, 0xdead_beef));
        expected[GUARD..GUARD + len]
            .copy_from_slice(&0xdead_beef_u32.to_le_bytes().repeat(len / 4));
        assert!(
            guarded_now(&rig, len) == expected,
            "fill {width} x {height}"
        );

        rig.assert_clean();
        let counters = rig.gpu.counters();
        assert_eq!((counters.copies, counters.fills), (1, 1));
        assert_eq!(
            (counters.bytes_copied, counters.bytes_filled),
            (len as u64, len as u64)
        );
    }
}

#[test]
fn the_references_example_copies_8294400_bytes_in_two_blits() {
    let len = 8_294_400;
    let mut rig = Rig::new();
    let data = noise(3, len);
    rig.put(vram(SOURCE), &data);
    let mut expected = guarded(&rig, len);
    rig.submit(|w| {
        copy(w, SOURCE, DESTINATION, 16384, 126);
        copy(w, SOURCE + 0x7E_0000, DESTINATION + 0x7E_0000, 9216, 1);
    });
    expected[GUARD..GUARD + len].copy_from_slice(&data);
    assert!(guarded_now(&rig, len) == expected);
}

#[test]
fn a_packet_typed_from_the_reference_copies() {
    // Hardware reference 10.12, dwords 0 to 15 and 32 to 35.
    let mut rig = Rig::new();
    let data = noise(4, 8 * 4 * 4);
    rig.put(vram(SOURCE), &data);
    rig.submit(|w| {
        for (group, control, base) in [(0x18_u32, 0x30, DESTINATION), (0x1B, 0x33, SOURCE)] {
            let base = u32::try_from(base >> 8).unwrap();
            let set = |word: u32, count: u32| 4 << 28 | 6 << 23 | word << 10 | count;
            push_all(
                w,
                &[
                    set(group, 3),
                    base,
                    1,
                    1,
                    set(control, 3),
                    89,
                    8 | 4 << 15,
                    1 | 0xf << 2 | 2 << 20,
                ],
            );
        }
        push_all(
            w,
            &[
                9 << 28 | 6 << 23 | 2 << 16 | 2 << 14 | 2 << 12 | 3,
                7 << 16,
                3 << 16,
                0,
            ],
        );
    });
    rig.assert_clean();
    assert_eq!(rig.get(vram(DESTINATION), data.len()), data);
}

#[test]
fn the_clear_colour_has_128_bits_and_repeats_over_memory() {
    let colour = [0x0011_2233, 0x4455_6677, 0x8899_aabb, 0xccdd_eeff_u32];
    let repeated = || colour.iter().flat_map(|dword| dword.to_le_bytes()).cycle();
    // Few pixels, and whole rows that the model fills together, from any pixel on.
    for (width, height, from) in [
        (5, 3, 0),
        (5, 3, 1),
        (5, 3, 2),
        (16384, 5, 0),
        (16384, 5, 3),
    ] {
        let mut rig = Rig::new();
        let bytes = usize::from(width) * usize::from(height) * 4;
        let mut expected = guarded(&rig, bytes);
        rig.submit(|w| {
            w.surface(0, GpuVa(DESTINATION), width, height);
            w.set_register(6, 0xC8, &colour);
            sg(w, 1, (from, width - 1), (0, 0), (0, 0));
            sg(w, 1, (0, width - 1), (1, height - 1), (0, 0));
        });
        let filled = expected[GUARD..][..bytes].iter_mut().zip(repeated());
        for (byte, new) in filled.skip(usize::from(from) * 4) {
            *byte = new;
        }
        assert!(
            guarded_now(&rig, bytes) == expected,
            "{width} x {height} from {from}"
        );
    }
}

/// Pages of all three kinds in an order that no allocator would give.
fn scattered(rig: &mut Rig, va: u64, pages: u64, seed: u64) -> Vec<Target> {
    let targets: Vec<_> = (0..pages)
        .map(|n| {
            let slot = (n * 7 + seed) % pages * 3 + seed % 2;
            match n % 3 {
                0 => nth_page(vram(SURFACES_AT + seed * MIB), slot),
                1 => rig.page(nth_page(snooped(0x4000_0000 + seed * MIB), slot)),
                _ => rig.page(nth_page(unsnooped(0x8000_0000 + seed * MIB), slot)),
            }
        })
        .collect();
    for (n, target) in (0..).zip(&targets) {
        rig.map(6, va + n * 4096, *target);
    }
    targets
}

fn gather(rig: &Rig, pages: &[Target]) -> Vec<u8> {
    pages.iter().flat_map(|page| rig.get(*page, 4096)).collect()
}

#[test]
fn scattered_pages_of_vram_and_system_memory_are_one_surface() {
    let mut rig = Rig::in_va_mode();
    let source = scattered(&mut rig, 0x100_0000, 37, 1);
    // The last page and the first are guards: the copy starts and ends inside them.
    let destination = scattered(&mut rig, 0x200_0000, 37, 2);
    let data = noise(5, 37 * 4096);
    for (page, bytes) in source.iter().zip(data.chunks(4096)) {
        rig.put(*page, bytes);
    }
    // 1000 x 36 pixels from 0x300 on both sides, so pages and rows never agree.
    rig.submit(|w| {
        w.indicator(3, 6);
        copy(w, 0x100_0300, 0x200_0500, 1000, 36);
        w.indicator(0, 0);
    });
    rig.assert_clean();
    let mut expected = vec![0; data.len()];
    expected[0x500..0x500 + 144_000].copy_from_slice(&data[0x300..0x300 + 144_000]);
    assert!(gather(&rig, &destination) == expected);
    assert!(gather(&rig, &source) == data);

    rig.submit(|w| {
        w.indicator(3, 6);
        fill(w, 0x200_0500, 1000, 36, 0x0403_0201);
        w.indicator(0, 0);
    });
    expected[0x500..0x500 + 144_000].copy_from_slice(&[1, 2, 3, 4].repeat(36_000));
    assert!(gather(&rig, &destination) == expected);
}

#[test]
fn only_the_pieces_that_fault_are_missing() {
    let mut rig = Rig::in_va_mode();
    for n in [0, 2, 3] {
        rig.map(0, 0x100_0000 + n * 4096, nth_page(vram(SOURCE), n));
    }
    for n in [0, 1, 3] {
        rig.map(0, 0x200_0000 + n * 4096, nth_page(vram(DESTINATION), n));
    }
    let data = noise(6, 4 * 4096);
    rig.put(vram(SOURCE), &data);
    rig.submit(|w| {
        copy(w, 0x100_0000, 0x200_0000, 1024, 4);
        w.fence(GpuVa(0x200_0000), 1, false);
    });
    assert!(rig.get(vram(DESTINATION + 8), 4088) == data[8..4096]);
    assert!(
        rig.get(vram(DESTINATION + 4096), 8192) == [0; 8192],
        "source, then destination unmapped"
    );
    assert!(rig.get(vram(DESTINATION + 3 * 4096), 4096) == data[3 * 4096..]);
    assert_eq!(rig.load_u64(vram(DESTINATION)), 1, "the ring goes on");
    let counters = rig.gpu.counters();
    assert_eq!(
        (counters.faults, counters.bytes_copied, counters.copies),
        (2, 8192, 1)
    );
    assert_eq!(rig.errors(), []);
}

#[test]
fn pieces_end_at_page_ends_of_either_side() {
    let mut rig = Rig::in_va_mode();
    for n in [0, 2] {
        rig.map(0, 0x100_0000 + n * 4096, nth_page(vram(SOURCE), n));
    }
    for n in 0..3 {
        rig.map(0, 0x200_0000 + n * 4096, nth_page(vram(DESTINATION), n));
    }
    let data = noise(6, 3 * 4096);
    rig.put(vram(SOURCE), &data);
    // The source is 0x100 bytes further into its pages; its second is missing.
    rig.submit(|w| copy(w, 0x100_0100, 0x200_0000, 1024, 2));
    let mut expected = vec![0; 0x2000];
    expected[..0xf00].copy_from_slice(&data[0x100..0x1000]);
    expected[0x1f00..].copy_from_slice(&data[0x2000..0x2100]);
    assert!(rig.get(vram(DESTINATION), 0x2000) == expected);
    assert_eq!(rig.gpu.counters().faults, 2);
}

#[test]
fn an_overlapping_copy_towards_lower_addresses_is_a_move() {
    let mut rig = Rig::new();
    let data = noise(7, 16 * 4096);
    rig.put(vram(SOURCE), &data);
    rig.submit(|w| copy(w, SOURCE + 0x100, SOURCE, 1024, 15));
    assert!(rig.get(vram(SOURCE), 15 * 4096) == data[0x100..0x100 + 15 * 4096]);
}

#[test]
fn an_overlapping_copy_towards_higher_addresses_repeats_the_pieces_before() {
    let mut rig = Rig::new();
    let data = noise(8, 4096);
    rig.put(vram(SOURCE), &data);
    rig.submit(|w| copy(w, SOURCE, SOURCE + 4096, 1024, 4));
    assert!(rig.get(vram(SOURCE), 5 * 4096) == data.repeat(5));
}

fn refused(build: impl FnOnce(&mut Writer<'_>)) -> CspErrorKind {
    let mut rig = Rig::new();
    rig.put(vram(SOURCE), &[0x55; 4096]);
    rig.submit(|w| {
        w.surface(0, GpuVa(DESTINATION), 16, 16);
        w.surface(1, GpuVa(SOURCE), 16, 16);
        build(w);
    });
    assert_eq!(rig.get(vram(DESTINATION), 4096), [0; 4096]);
    assert_eq!(rig.errors().len(), 1);
    rig.errors().remove(0)
}

#[test]
fn surfaces_that_are_not_modelled_are_refused() {
    // RT0 format, RT0 misc, RT1 format, RT1 misc.
    for (word, value) in [
        (0x30, 88),
        (0x30, 0x59 | 1 << 9),
        (0x32, 0x3f),
        (0x33, 88),
        (0x33, 0x59 | 1 << 9),
        (0x35, 0x3f),
    ] {
        let kind = refused(|w| {
            w.set_register(6, word, &[value]);
            sg(w, 2, (0, 15), (0, 15), (0, 0));
        });
        assert!(
            matches!(kind, CspErrorKind::Unsupported { .. }),
            "{word:#x} {value:#x} {kind}"
        );
    }
    // Layers: depth, array size and first, of either surface.
    for (word, value) in [0x19, 0x1A, 0x1C, 0x1D]
        .into_iter()
        .flat_map(|word| [(word, 0), (word, 2)])
        .chain([(0x1A, 1 | 1 << 12), (0x1D, 1 | 1 << 22)])
    {
        let kind = refused(|w| {
            w.set_register(6, word, &[value]);
            sg(w, 2, (0, 15), (0, 15), (0, 0));
        });
        assert!(matches!(kind, CspErrorKind::Unsupported { .. }), "{kind}");
    }
    // Dither to mipmap, the raster operation, the resource type.
    for bit in (6..20).chain([20, 22, 23]).chain(24..29) {
        for word in [0x32, 0x35] {
            let kind = refused(|w| {
                w.set_register(6, word, &[0x20_003d ^ 1 << bit]);
                sg(w, 2, (0, 15), (0, 15), (0, 0));
            });
            assert!(matches!(kind, CspErrorKind::Unsupported { .. }), "{bit}");
        }
    }
    for action in [0, 3, 4] {
        let kind = refused(|w| sg(w, action, (0, 15), (0, 15), (0, 0)));
        assert!(matches!(kind, CspErrorKind::Unsupported { .. }), "{kind}");
    }
    // Another unit than the colour pipe.
    for dwords in [
        [0x9301_2002, 15 << 16, 15 << 16, 0],
        [0x9302_6003, 15 << 16, 15 << 16, 0],
        [0x9302_E003, 15 << 16, 15 << 16, 0],
    ] {
        let kind = refused(|w| push_all(w, &dwords));
        assert!(matches!(kind, CspErrorKind::Unsupported { .. }), "{kind}");
    }
}

#[test]
fn a_clear_with_another_target_enabled_is_refused() {
    for rt in 1..8 {
        let mut rig = Rig::new();
        let clear = |w: &mut Writer<'_>, misc| {
            w.surface(0, GpuVa(DESTINATION), 16, 16);
            w.set_register(6, 0xC8, &[0x55; 4]);
            w.set_register(6, 0x32 + 3 * rt, &[misc]);
            sg(w, 1, (0, 15), (0, 15), (0, 0));
        };
        rig.submit(|w| clear(w, 0x20_003c));
        rig.assert_clean();
        assert_eq!(rig.load(vram(DESTINATION)), 0x55);
        rig.store(vram(DESTINATION), 0);
        rig.submit(|w| clear(w, 0x20_003d));
        assert!(
            matches!(rig.errors()[..], [CspErrorKind::Unsupported { .. }]),
            "{rt}"
        );
        assert_eq!(rig.load(vram(DESTINATION)), 0);
    }
}

#[test]
fn cache_bits_and_reserved_bits_of_a_surface_change_nothing() {
    let mut rig = Rig::new();
    let data = noise(9, 16 * 16 * 4);
    rig.put(vram(SOURCE), &data);
    rig.submit(|w| {
        for (rt, at) in [(0, DESTINATION), (1, SOURCE)] {
            w.surface(rt, GpuVa(at), 16, 16);
            w.set_register(6, 0x19 + 3 * rt, &[0xffff_f001, 0xff80_0001]);
            // L1 and L2.
            w.set_register(6, 0x32 + 3 * rt, &[0xe020_003d]);
        }
        sg(w, 2, (0, 15), (0, 15), (0, 0));
    });
    rig.assert_clean();
    assert_eq!(rig.get(vram(DESTINATION), data.len()), data);
}

#[test]
fn a_write_mask_keeps_the_bytes_that_it_lacks() {
    let len = 1500 * 3 * 4;
    for mask in 0..16_u32 {
        let mut rig = Rig::new();
        let (data, before) = (noise(1, len), noise(2, len));
        rig.put(vram(SOURCE), &data);
        rig.put(vram(DESTINATION), &before);
        let misc = 1 | mask << 2 | 2 << 20;
        let expected = |new: &dyn Fn(usize) -> u8| -> Vec<u8> {
            let byte = |n: usize| {
                if mask >> (n % 4) & 1 == 1 {
                    new(n)
                } else {
                    before[n]
                }
            };
            (0..len).map(byte).collect()
        };
        rig.submit(|w| {
            w.surface(0, GpuVa(DESTINATION), 1500, 3);
            w.surface(1, GpuVa(SOURCE), 1500, 3);
            w.set_register(6, 0x32, &[misc]);
            sg(w, 2, (0, 1499), (0, 2), (0, 0));
        });
        assert!(rig.get(vram(DESTINATION), len) == expected(&|n| data[n]));
        rig.put(vram(DESTINATION), &before);
        rig.submit(|w| {
            w.set_register(6, 0x35, &[0]);
            w.set_register(6, 0xC8, &[0x0403_0201; 4]);
            sg(w, 1, (0, 1499), (0, 2), (0, 0));
        });
        assert!(rig.get(vram(DESTINATION), len) == expected(&|n| [1, 2, 3, 4][n % 4]));
        rig.assert_clean();
    }
}

#[test]
fn a_surface_whose_mask_is_empty_is_not_touched_at_all() {
    let mut rig = Rig::in_va_mode();
    rig.submit(|w| {
        w.surface(0, GpuVa(0x200_0000), 1024, 2);
        w.set_register(6, 0x32, &[0x20_0001]);
        sg(w, 1, (0, 1023), (0, 1), (0, 0));
    });
    // Nothing is mapped there.
    rig.assert_clean();
}

#[test]
fn rectangles_that_cannot_be_are_refused() {
    let cases = [
        (2, (0, 16), (0, 15), (0, 0)),
        (2, (0, 15), (0, 16), (0, 0)),
        (1, (0, 16), (0, 15), (0, 0)),
        (1, (0, 15), (0, 0xffff), (0, 0)),
        (1, (0xffff, 0xffff), (0, 0), (0, 0)),
        (2, (5, 4), (0, 15), (0, 0)),
        (2, (0, 15), (5, 4), (0, 0)),
        (2, (0, 15), (0, 15), (1, 0)),
        (2, (0, 15), (0, 15), (0, 1)),
        (2, (0, 15), (0, 15), (0x7fff, 0x7fff)),
    ];
    for (action, x, y, offset) in cases {
        let kind = refused(|w| sg(w, action, x, y, offset));
        assert!(
            matches!(kind, CspErrorKind::Malformed { .. }),
            "{x:?} {y:?} {offset:?}: {kind}"
        );
    }
    for header in [
        0x9301_A001,
        0x9301_A003,
        0x9302_A002,
        0x9302_A004,
        0x9305_A003,
        0x9307_A003,
    ] {
        let kind = refused(|w| {
            push_all(w, &[header, 0, 0, 0, 0]);
        });
        assert!(
            matches!(kind, CspErrorKind::Malformed { .. }),
            "{header:#x}: {kind}"
        );
    }
}

#[test]
fn a_target_that_is_not_enabled_or_has_no_size_is_refused() {
    for (word, value) in [(0x32, 0x3c), (0x35, 0x3c), (0x31, 0), (0x34, 0)] {
        let kind = refused(|w| {
            w.set_register(6, word, &[value]);
            sg(w, 2, (0, 0), (0, 0), (0, 0));
        });
        assert!(
            matches!(kind, CspErrorKind::Malformed { .. }),
            "{word:#x}: {kind}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any rectangle of any two surfaces, pixel by pixel.
    #[test]
    fn any_rectangle_is_copied_pixel_by_pixel(
        source_width in 1_u16..300, source_height in 1_u16..40,
        width in 1_u16..300, height in 1_u16..40,
        corners in any::<[u16; 4]>(), offset in any::<[u16; 2]>(), page in 0_u64..16,
    ) {
        let columns = width.min(source_width);
        let rows = height.min(source_height);
        let span = |a: u16, b: u16, end: u16| (a % end).min(b % end)..=(a % end).max(b % end);
        let x = span(corners[0], corners[1], columns);
        let y = span(corners[2], corners[3], rows);
        let dx = offset[0] % (source_width - x.end());
        let dy = offset[1] % (source_height - y.end());
        let to = DESTINATION + page * 256;

        let mut rig = Rig::new();
        let data = noise(10, usize::from(source_width) * usize::from(source_height) * 4);
        rig.put(vram(SOURCE), &data);
        let len = usize::from(width) * usize::from(height) * 4;
        let mut expected = noise(11, len + 512);
        rig.put(plus(vram(to), 0), &expected);
        rig.submit(|w| {
            w.surface(0, GpuVa(to), width, height);
            w.surface(1, GpuVa(SOURCE), source_width, source_height);
            sg(w, 2, (*x.start(), *x.end()), (*y.start(), *y.end()), (dx, dy));
        });
        rig.assert_clean();
        for row in y.clone() {
            for column in x.clone() {
                let at = |row: u16, column: u16, pitch: u16| {
                    (usize::from(row) * usize::from(pitch) + usize::from(column)) * 4
                };
                let (to, from) = (at(row, column, width), at(row + dy, column + dx, source_width));
                expected[to..to + 4].copy_from_slice(&data[from..from + 4]);
            }
        }
        prop_assert!(rig.get(vram(to), len + 512) == expected);
    }
}
