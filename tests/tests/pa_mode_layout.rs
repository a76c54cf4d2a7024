//! What the PA-mode driver makes of a chip's memory: sizes, segments, tables,
//! and the registers that it sets up.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config, GpuVa};
use presil_tests::pa_driver::{Board, Driver, Options, Pool, Request};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SEED: u64 = 7;

fn load(chip: Chip, vram: u64, visible: u64) -> Driver {
    let config = Config::new(chip, vram, visible, false).unwrap();
    let board = Board::new(&config, SEED).unwrap();
    Driver::load(board, Options::default()).unwrap()
}

/// Total, available, and the starts of segments 2 to 5 in MiB.
#[test]
fn sizes_and_segments_follow_from_channels_and_bar1() {
    // (VRAM, BAR1), channels, total, (start, size) of segments 2 to 5.
    type Case = ((u64, u64), u32, u64, [(u64, u64); 4]);
    let cases: [Case; 4] = [
        (
            (1024, 256),
            1,
            1024,
            [(1024, 4096), (5120, 4096), (256, 768), (1024, 0)],
        ),
        (
            (8192, 64),
            1,
            8192,
            [(8192, 4096), (12288, 4096), (64, 4032), (4096, 4096)],
        ),
        (
            (3 * 1024 - 24, 64),
            3,
            3072,
            [(3072, 4096), (7168, 4096), (64, 3008), (3072, 0)],
        ),
        (
            (6 * 1024 - 72, 64),
            3,
            6144,
            [(6144, 4096), (10240, 4096), (64, 4032), (4096, 2048)],
        ),
    ];
    for ((vram, visible), channels, total, segments) in cases {
        let driver = load(Chip::E3k, vram * MIB, visible * MIB);
        let sizing = driver.mm.sizing;
        assert_eq!(sizing.channels, channels);
        assert_eq!((sizing.total, sizing.available), (total * MIB, vram * MIB));
        for (segment, (start, bytes)) in driver.mm.segments[2..].iter().zip(segments) {
            let found = (segment.start, segment.bytes);
            assert_eq!(found, (start * MIB, bytes * MIB), "{vram} MiB of VRAM");
        }
        let end = &driver.mm.segments[if total > 4096 { 5 } else { 4 }];
        let lost = (total - vram) * MIB;
        assert_eq!(end.free_bytes(), end.bytes - lost, "what nobody has");
    }
}

/// The registers of the example of the reference, and the tables as the model walks them.
#[test]
fn one_gib_with_256_mib_visible_gives_the_tables_of_the_reference() {
    let driver = load(Chip::Arise10c0, GIB, 256 * MIB);
    let l3_at = 256 * MIB - 4 * MIB - 8 * MIB;
    let starts = [(GIB, 0xFFFD9), (4 * GIB, 0xFFFE9), (8 * GIB, 0xFFFF9)];
    for (at, ttbr) in starts {
        let walk = driver.mm.board.gpu().walk(0, GpuVa(at));
        let table = l3_at + (at - GIB) / 1024;
        assert_eq!(walk.l1, ttbr, "{at:#x}");
        assert_eq!(walk.l2.map(u64::from), Some(table >> 8 | 0b1001), "{at:#x}");
    }
    let end = driver.mm.board.gpu().walk(0, GpuVa(9 * GIB - 4096));
    assert!(end.l3.is_some_and(|entry| entry & 1 == 1));
    let vram = driver.mm.board.gpu().walk(0, GpuVa(0));
    assert_eq!(vram.target.as_deref(), Some("vram:0x0000000000"), "no walk");
}

#[test]
fn the_set_up_registers_read_back_what_the_reference_lists() {
    // Chip, VRAM in GiB; channel control, reserve, pending buffers, video decoupling.
    let cases = [
        (Chip::E3k, 1, [0b110, 0x0120_0003, 0x4, 0]),
        (Chip::Arise1020, 16, [0b100, 0x0130_0003, 0x40, 1]),
        (Chip::Arise2030, 1, [0b110, 0x0120_0003, 0x40, 0]),
    ];
    for (chip, gib, [channels, reserve, pending, decoupled]) in cases {
        let mut driver = load(chip, gib * GIB, 64 * MIB);
        let wanted = [
            (0x49004, u32::try_from(gib * 4 - 1).unwrap() << 8),
            (0x49024, channels),
            (0x49028, 8),
            (0x49054, 4 << 20),
            (0x49060, 1 << 20),
            (0x4906C, pending),
            (0x49078, reserve),
            (0x4908C, 0x1100_0202),
            (0x4C910, decoupled),
            (0x30020, 0x40000),
        ];
        for (at, value) in wanted {
            assert_eq!(driver.mm.board.read(at), value, "{at:#x} of {chip:?}");
        }
        let flags = driver.mm.board.read(0x4900C) >> 4 & 0x7_FFFF;
        let range = [0xD390, 0xD394].map(|at| driver.mm.board.read(at) >> 12);
        assert_eq!(range, [flags, flags + 512], "the buffer of flags");
    }
}

/// Segment 2 begins at 0xC0000000 there, where no fence buffer may lie; the
/// fences still come, and hidden memory ends where the board's does.
#[test]
fn three_channels_of_one_gib_work() {
    let mut driver = load(Chip::Arise2020, 3 * GIB - 24 * MIB, 64 * MIB);
    let bytes = 1 << 16;
    let hidden = driver
        .allocate(Request::new(bytes, Pool::LocalHidden))
        .unwrap();
    let back = driver.allocate(Request::new(bytes, Pool::Snooped)).unwrap();
    driver.fill(hidden, 0, bytes, 0x1234_5678).unwrap();
    driver.copy(back, 0, hidden, 0, bytes).unwrap();
    let found = driver.read(back, 0, bytes).unwrap();
    assert!(
        found
            .chunks(4)
            .all(|pixel| pixel == 0x1234_5678_u32.to_le_bytes())
    );
    let fences = driver.scheduler.fence_buffers();
    assert_eq!(fences[0], 0xC200_0000);
}

/// With 8 GiB, hidden memory lies beyond 4 GiB: packets carry all 40 bits.
#[test]
fn hidden_memory_beyond_4_gib_is_paged_out_and_in() {
    let mut driver = load(Chip::Arise10c0, 8 * GIB, 64 * MIB);
    let bytes = 100 << 10;
    let back = driver.allocate(Request::new(bytes, Pool::Snooped)).unwrap();
    let id = driver
        .allocate(Request::new(bytes, Pool::LocalHidden))
        .unwrap();
    assert_eq!(driver.locate(id), (5, 4 * GIB));
    driver.fill(id, 0, bytes, 0xCAFE_F00D).unwrap();
    assert_eq!(driver.page_out(5, &[]), Ok(1));
    let pixel = 0xCAFE_F00D_u32.to_le_bytes();
    let out = driver.read(id, 0, bytes).unwrap();
    assert!(out.chunks(4).all(|found| found == pixel), "while out");
    driver.copy(back, 0, id, 0, bytes).unwrap();
    assert_eq!(driver.locate(id).0, 5);
    let found = driver.read(back, 0, bytes).unwrap();
    assert!(found.chunks(4).all(|found| found == pixel), "back");
}
