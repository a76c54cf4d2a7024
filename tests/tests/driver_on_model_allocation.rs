//! The story of an allocation: flags, place, manager, resource, BO, handle.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config};
use presil_tests::{Guest, WINDOW_AT};
use vidmm::{Bus, CreateFlags, Error, SegmentId, Window};

const MIB: u64 = 1 << 20;
const K: u64 = 1024;

/// `--vram 1G --visible 512M`: the local visible segment is 128K pages.
fn guest() -> Guest {
    let config = Config::new(Chip::Arise10c0, 1024 * MIB, 512 * MIB, false).unwrap();
    Guest::new(&config).unwrap()
}

const WINDOWS: [Window; 3] = [
    Window {
        first_page: 64 * K,
        last_page: 68 * K,
    },
    Window {
        first_page: 88 * K,
        last_page: 92 * K,
    },
    Window {
        first_page: 100 * K,
        last_page: 104 * K,
    },
];

#[test]
fn the_worked_example_comes_out_exactly_twelve_times_and_is_then_refused() {
    let mut guest = guest();
    let before = guest.adapter.segments();
    assert_eq!(before[0].bytes / 4096, 128 * K);
    let mut bos = Vec::new();
    for start in [64, 65, 66, 67, 88, 89, 90, 91, 100, 101, 102, 103] {
        let bo = guest
            .create_in(4 * MIB, CreateFlags::GPU_MOSTLY, &WINDOWS)
            .unwrap();
        let d = guest.adapter.describe(bo).unwrap();
        assert_eq!(d.segment, SegmentId::LocalVisible);
        assert_eq!((d.start_page, d.pages), (start * K, K));
        assert_eq!(d.gpu_va.0, start * K * 4096);
        bos.push(bo);
    }
    let thirteenth = guest.create_in(4 * MIB, CreateFlags::GPU_MOSTLY, &WINDOWS);
    assert_eq!(thirteenth, Err(Error::NoMemory));
    assert_eq!(
        guest.adapter.segments()[0].usage,
        before[0].usage + 48 * MIB
    );

    // A hole in the second window is found again; the first window stays full.
    guest.machine.run();
    guest.adapter.destroy(bos.remove(6)).unwrap();
    let again = guest
        .create_in(4 * MIB, CreateFlags::GPU_MOSTLY, &WINDOWS)
        .unwrap();
    assert_eq!(guest.adapter.describe(again).unwrap().start_page, 90 * K);
    bos.push(again);

    guest.machine.run();
    for bo in bos {
        guest.adapter.destroy(bo).unwrap();
    }
    assert_eq!(
        guest.adapter.segments(),
        before,
        "freeing returns everything"
    );
    guest.unload().unwrap();
}

#[test]
fn without_windows_the_lowest_free_address_of_the_segment_is_taken() {
    let mut guest = guest();
    for n in 0..3 {
        let bo = guest.create(4 * MIB, CreateFlags::GPU_MOSTLY).unwrap();
        assert_eq!(guest.adapter.describe(bo).unwrap().start_page, n * K);
    }
}

#[test]
fn each_flag_takes_its_bus_and_segment() {
    let mut guest = guest();
    let rows = [
        (
            CreateFlags::GPU_ONLY,
            SegmentId::LocalInvisible,
            Bus::Io,
            512 * MIB,
        ),
        (CreateFlags::GPU_MOSTLY, SegmentId::LocalVisible, Bus::Io, 0),
        (
            CreateFlags::READBACK,
            SegmentId::PcieSnoop,
            Bus::Sys,
            4096 * MIB,
        ),
        (
            CreateFlags::UPLOAD,
            SegmentId::PcieUnsnoop,
            Bus::Sys,
            6144 * MIB,
        ),
    ];
    for (flags, segment, bus, va) in rows {
        let bo = guest.create(100, flags).unwrap();
        let d = guest.adapter.describe(bo).unwrap();
        assert_eq!((d.segment, d.bus, d.gpu_va.0), (segment, bus, va));
        assert_eq!((d.bytes, d.pages, d.pinned), (100, 1, false));
    }
}

#[test]
fn a_local_fault_maps_the_vram_window_at_the_bos_place() {
    let mut guest = guest();
    let bo = guest
        .create_in(4 * MIB, CreateFlags::GPU_MOSTLY, &WINDOWS[1..])
        .unwrap();
    assert_eq!(
        guest.adapter.fault(bo, 0),
        Err(Error::Busy),
        "still being cleared"
    );
    guest.machine.run();
    for page in [0, 1, 1023] {
        let frame = guest.adapter.fault(bo, page).unwrap();
        assert_eq!(frame.pfn, WINDOW_AT / 4096 + 88 * K + page);
        assert!(frame.io);
    }
    assert_eq!(guest.adapter.fault(bo, 1024), Err(Error::Fault));
}

#[test]
fn ram_that_runs_out_fails_the_touch_and_not_the_placement_r_7_12() {
    let mut guest = guest();
    // The machine has 32 MiB.
    let large = guest.create(40 * MIB, CreateFlags::READBACK).unwrap();
    let placed = guest.adapter.describe(large).unwrap();
    assert_eq!(guest.adapter.fault(large, 0), Err(Error::NoMemory));
    assert_eq!(guest.adapter.fill(large, 0, 4096, 0), Err(Error::NoMemory));
    assert_eq!(guest.adapter.describe(large).unwrap(), placed);
    let small = guest.create(MIB, CreateFlags::READBACK).unwrap();
    assert!(guest.adapter.fault(small, 0).is_ok());
}

#[test]
fn the_bo_list_names_every_place() {
    let mut guest = guest();
    let bo = guest
        .create_in(4 * MIB, CreateFlags::GPU_MOSTLY, &WINDOWS)
        .unwrap();
    let mut list = String::new();
    guest.adapter.write_bo_list(&mut list).unwrap();
    let line = format!(
        "{:#x} device local-visible 65536 1024 0x10000000 local 0 1",
        bo.to_bits()
    );
    assert!(list.lines().any(|l| l == line), "{list}");
    assert_eq!(
        list.lines().filter(|l| l.contains(" kernel ")).count(),
        4,
        "{list}"
    );
}
