//! The machine's memory, as the client lends it.

use std::fs::File;
use std::sync::{Arc, Mutex};

use e3k_regs::fields::RingWord;
use presil_device::checker::{Checker, Options, Report, Reports};
use presil_device::{DmaMapping, Event, Gpu, Look, Watch};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::FENCE_AT;
use crate::support::vfio::*;

#[test]
fn ranges_are_pages_of_a_file_and_do_not_overlap() {
    let mut rig = Rig::new();
    let ram = rig.ram.try_clone().unwrap();
    let mut map = |offset, at, bytes| rig.client.dma_map(3, offset, at, bytes, Some(&ram));
    assert_eq!(map(0, 0, 0), Err(EINVAL));
    assert_eq!(map(0, 0, 100), Err(EINVAL));
    assert_eq!(map(0, 100, 4096), Err(EINVAL));
    assert_eq!(map(100, 0, 4096), Err(EINVAL));
    assert_eq!(
        map(RAM_BYTES, 0, 4096),
        Err(EINVAL),
        "beyond the file's end"
    );
    assert_eq!(map(u64::MAX - 4095, 0, 4096), Err(EINVAL));
    assert_eq!(map(0, u64::MAX - 4095, 8192), Err(EINVAL));
    assert_eq!(map(0, 0x10_0000, 0x4000), Ok(()));
    assert_eq!(map(0, 0x10_3000, 0x1000), Err(EEXIST));
    assert_eq!(map(0, 0xF_F000, 0x2000), Err(EEXIST));
    assert_eq!(map(0, 0xF_F000, 0x8000), Err(EEXIST));
    assert_eq!(map(0, 0x10_4000, 0x1000), Ok(()));
    // Flags that do not exist.
    assert_eq!(rig.client.dma_map(4, 0, 0, 4096, None), Err(EINVAL));
    // One range cannot be cut, several can go at once, and nothing is no error.
    assert_eq!(rig.client.dma_unmap(0, 0x10_1000, 0x1000), Err(EINVAL));
    assert_eq!(rig.client.dma_unmap(0, 0x10_0000, 0x1000), Err(EINVAL));
    assert_eq!(
        rig.client.dma_unmap(1, 0x10_0000, 0x5000),
        Err(EINVAL),
        "no dirty pages here"
    );
    assert_eq!(rig.client.dma_unmap(0, u64::MAX, 2), Err(EINVAL));
    assert_eq!(rig.client.dma_unmap(0, 0x10_0000, 0x5000), Ok(()));
    assert_eq!(rig.client.dma_unmap(0, 0x10_0000, 0x5000), Ok(()));
    assert_eq!(
        rig.client.dma_map(3, 0, 0x10_2000, 0x1000, Some(&ram)),
        Ok(())
    );
    // What ends where the address space ends, as when an IOMMU is switched off.
    assert_eq!(rig.client.dma_unmap(0, 1 << 63, 1 << 63), Ok(()));
    assert_eq!(
        rig.client
            .dma_unmap(0, 0x10_3000, 0_u64.wrapping_sub(0x10_3000)),
        Ok(())
    );
    assert_eq!(
        rig.client
            .dma_unmap(0, 0x10_2000, 0_u64.wrapping_sub(0x10_2000)),
        Ok(()),
        "and takes along what lies in it"
    );
    assert_eq!(
        rig.client.dma_map(3, 0, 0x10_2000, 0x1000, Some(&ram)),
        Ok(())
    );
    assert_eq!(rig.client.dma_unmap(2, 0, 0), Ok(()));
    assert_eq!(rig.client.dma_map(3, 0, 0, RAM_BYTES, Some(&ram)), Ok(()));
}

#[test]
fn there_is_an_end_to_ranges() {
    let mut rig = Rig::new();
    let mut number = 0;
    let refused = loop {
        match rig.client.dma_map(3, 0, number << 12, 4096, Some(&rig.ram)) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((number, refused), (1 << 18, 28));
    // They are one file's, so they cost this process one mapping.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.lines().count() < 1000);
    assert_eq!(rig.client.dma_unmap(0, 0, number << 12), Ok(()));
    assert_eq!(rig.client.dma_map(3, 0, 0, 4096, Some(&rig.ram)), Ok(()));
}

#[test]
fn one_client_cannot_use_up_the_mappings_of_the_process() {
    let mut rig = Rig::new();
    // As far apart as pages can be that no mapping has in common.
    let file = File::from(memfd_create("sparse", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(1 << 42).unwrap();
    let mut number = 0;
    let refused = loop {
        match rig
            .client
            .dma_map(3, number << 30, number << 12, 4096, Some(&file))
        {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((number, refused), (2048, 28));
    // Those of ranges that are gone do not count.
    assert_eq!(rig.client.dma_unmap(0, 0, 4096), Ok(()));
    let again = rig.client.dma_map(3, number << 30, 0, 4096, Some(&file));
    assert_eq!(again, Ok(()));
}

#[test]
fn there_is_an_end_to_files_long_before_the_process_has_no_descriptors() {
    let mut rig = Rig::new();
    let mut number = 0;
    let refused = loop {
        let file = File::from(memfd_create("page", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(4096).unwrap();
        match rig.client.dma_map(3, 0, number << 12, 4096, Some(&file)) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((number, refused), (128, 28));
    // Those of ranges that are gone are closed.
    assert_eq!(rig.client.dma_unmap(0, 0, 4096), Ok(()));
    assert_eq!(rig.client.dma_map(3, 0, 0, 4096, Some(&rig.ram)), Ok(()));
}

#[test]
fn ranges_of_huge_pages_are_cut_as_those_of_small_ones() {
    let mut rig = Rig::new();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB;
    let ram = File::from(memfd_create("huge", flags).unwrap());
    ram.set_len(8 << 20).unwrap();
    // Firmware's way. There may be no huge pages here to reach.
    for (at, bytes) in [(0, 0xA_0000), (0xC_0000, 0x4000), (0x10_0000, 0x70_0000)] {
        assert_eq!(rig.client.dma_map(3, at, at, bytes, Some(&ram)), Ok(()));
        assert_eq!(rig.client.dma_unmap(0, at, bytes), Ok(()));
    }
}

#[test]
fn what_the_bus_has_no_wires_for_takes_no_address_space() {
    let is_mapped = |name: &str| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.contains(&format!("/memfd:{name} "))
    };
    let mut rig = Rig::new();
    for (name, at, mapped) in [
        ("on-the-bus", (1 << 40) - 4096, true),
        ("beyond-it", 1 << 40, false),
        ("far-beyond-it", 1 << 60, false),
    ] {
        let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC).unwrap());
        file.set_len(1 << 50).unwrap();
        let bytes = if mapped { 4096 } else { 1 << 50 };
        assert_eq!(rig.client.dma_map(3, 0, at, bytes, Some(&file)), Ok(()));
        assert_eq!(is_mapped(name), mapped, "{name}");
        assert_eq!(rig.client.dma_unmap(0, at, bytes), Ok(()));
        assert!(!is_mapped(name), "{name}");
    }
}

#[test]
fn memory_out_of_reach_is_a_recorded_bus_error() {
    let mut rig = Rig::new();
    rig.client.set_config(4, 2, 6);
    let ram = rig.ram.try_clone().unwrap();
    rig.client.dma_map(3, 0, 0, 0x10_0000, Some(&ram)).unwrap();
    rig.client
        .dma_map(1, 0x10_0000, 0x10_0000, 0x10_0000, Some(&ram))
        .unwrap();
    rig.client
        .dma_map(3, 0, 0x20_0000, 0x10_0000, None)
        .unwrap();
    rig.start_gpu();
    let places = [
        (0x8_0000, 0),
        (0x10_0000, 1),
        (0x20_0000, 2),
        (0x30_0000, 3),
    ];
    for (at, errors) in places {
        rig.submit_fence(at, 7);
        rig.until_idle();
        let counted = rig.gpu.enter().run(|gpu| gpu.counters().bus_errors);
        assert_eq!(counted, Ok(errors), "{at:#x}");
    }
    assert_eq!(rig.ram_u64(0x8_0000), 7);
    assert_eq!(rig.ram_u64(0x10_0000), 0, "read-only");
}

#[test]
fn a_range_that_moves_is_followed() {
    let mut rig = Rig::new();
    let signal = Signal::new();
    rig.bring_up(&signal);
    // Firmware's way: one range becomes three, of other parts of the file.
    let ram = rig.ram.try_clone().unwrap();
    rig.client.dma_unmap(0, 0, RAM_BYTES).unwrap();
    rig.client
        .dma_map(3, 0x20_0000, 0, 0x10_0000, Some(&ram))
        .unwrap();
    rig.client.dma_map(1, 0, 0x10_0000, 0x1000, None).unwrap();
    rig.client
        .dma_map(3, 0, 0x10_1000, 0x10_0000, Some(&ram))
        .unwrap();
    for (at, in_file) in [(0x800, 0x20_0800), (0x10_1000, 0)] {
        rig.submit_fence(at, at + 1);
        signal.wait();
        rig.latch();
        assert_eq!(rig.ram_u64(in_file), at + 1);
    }
}

#[test]
fn ram_that_the_client_takes_away_ends_its_connection_and_nothing_else() {
    let mut rig = Rig::new();
    rig.bring_up(&Signal::new());
    fill_ram_for_long(&mut rig);
    rig.ram.set_len(0).unwrap();
    // The server hangs up.
    until("the end of the connection", || {
        let mut byte = [0];
        rustix::net::recv(&rig.client.stream, &mut byte, rustix::net::RecvFlags::PEEK)
            .is_ok_and(|(_, bytes)| bytes == 0)
    });
    rig.ram = memory(RAM_BYTES);
    rig.reconnect();
    rig.client.write(RingWord::Size.offset(0), 0x1000);
}

/// A page of an IOMMU's.
const PAGE: u64 = 0xFFFF_F000;

/// Remembers what is about to be unmapped, and how its first page was mapped then.
#[derive(Clone, Default)]
struct Unmaps(Arc<Mutex<Vec<(u64, u64, DmaMapping)>>>);

impl Watch for Unmaps {
    fn saw(&mut self, event: &Event<'_>, look: &Look<'_>) {
        if let Event::DmaUnmaps { first, last } = *event {
            let told = (first.0, last.0, look.dma_mapping(first));
            self.0.lock().unwrap().push(told);
        }
    }
}

#[test]
fn what_is_taken_away_is_told_while_it_is_still_there() {
    let mut rig = Rig::new();
    let unmaps = Unmaps::default();
    let watch = Box::new(unmaps.clone());
    rig.gpu
        .enter()
        .run(|gpu| gpu.set_watch(Some(watch)))
        .unwrap();
    let told = || std::mem::take(&mut *unmaps.0.lock().unwrap());
    let ram = rig.ram.try_clone().unwrap();
    let all = (0, RAM_BYTES - 1, DmaMapping::Unknown);
    rig.client.dma_map(3, 0, 0, 3 << 20, Some(&ram)).unwrap();
    rig.client.dma_unmap(0, 0, RAM_BYTES).unwrap();
    assert_eq!(told(), [all], "all RAM");
    rig.client.dma_map(3, 0, PAGE, 0x1000, Some(&ram)).unwrap();
    rig.client
        .dma_map(3, 0, PAGE - 0x5000, 0x2000, Some(&ram))
        .unwrap();
    assert_eq!(rig.client.dma_unmap(0, PAGE - 0x5000, 0x1000), Err(EINVAL));
    assert_eq!(rig.client.dma_unmap(0, PAGE, 0), Ok(()));
    assert_eq!(told(), [], "nothing was taken away");
    rig.client.dma_unmap(0, PAGE, 0x1000).unwrap();
    rig.client.dma_unmap(0, 1 << 63, 1 << 63).unwrap();
    rig.client.dma_unmap(2, 0, 0).unwrap();
    let page = (PAGE, PAGE + 0xFFF, DmaMapping::Mapped);
    let end = (1 << 63, u64::MAX, DmaMapping::Unmapped);
    assert_eq!(told(), [page, end, (0, u64::MAX, DmaMapping::Unmapped)]);
}

/// Lets the rules of lifetime look at a GPU.
fn check(rig: &Rig) -> Reports {
    let levels = "off,2=warn".parse().unwrap();
    let checker = Box::new(Checker::new(&Options {
        levels,
        ..Options::default()
    }));
    let reports = checker.reports();
    let watch = |gpu: &mut Gpu| gpu.set_watch(Some(checker));
    rig.gpu.enter().run(watch).unwrap();
    reports
}

/// What the checker finds of a page that is unmapped behind the GPU's last use of it, where
/// RAM comes in ranges of so many bytes.
fn found_in_ranges_of(bytes: u64) -> (Vec<u32>, Reports) {
    let mut rig = Rig::new();
    let reports = check(&rig);
    let ram = rig.ram.try_clone().unwrap();
    for at in (0..RAM_BYTES).step_by(usize::try_from(bytes).unwrap()) {
        rig.client.dma_map(3, at, at, bytes, Some(&ram)).unwrap();
    }
    rig.client.set_config(4, 2, 6);
    rig.start_gpu();
    rig.submit_fence(FENCE_AT, 1);
    rig.until_idle();
    assert_eq!(rig.ram_u64(FENCE_AT), 1);
    rig.client
        .dma_unmap(0, FENCE_AT & !(bytes - 1), bytes)
        .unwrap();
    // Nothing is judged of a client that leaves.
    rig.await_end();
    rig.gpu.enter().run(|gpu| gpu.set_watch(None)).unwrap();
    let found = reports
        .list()
        .iter()
        .map(|report: &Report| report.rule.0)
        .collect();
    (found, reports)
}

#[test]
fn a_page_that_a_driver_unmaps_too_early_is_found_where_an_iommu_tells() {
    let (found, reports) = found_in_ranges_of(0x1000);
    assert_eq!(found, [20001]);
    assert!(
        !reports
            .summary()
            .to_string()
            .contains("owners of pages of system memory")
    );
    let (found, reports) = found_in_ranges_of(RAM_BYTES);
    assert_eq!(found, [0_u32; 0]);
    assert!(
        reports
            .summary()
            .to_string()
            .contains("owners of pages of system memory")
    );
}

#[test]
fn a_client_that_maps_and_unmaps_without_end_is_judged_in_time() {
    let mut rig = Rig::new();
    let reports = check(&rig);
    rig.client.set_config(4, 2, 6);
    let ram = rig.ram.try_clone().unwrap();
    for n in 0..20_000_u64 {
        let at = 0x1000_0000 + (n * 0x9E37 % 0x1_0000) * 0x1000;
        // Some of them twice, or never mapped.
        let _ = rig.client.dma_map(3, 0, at, 0x1000, Some(&ram));
        if n % 3 != 0 {
            rig.client.dma_unmap(0, at, 0x1000).unwrap();
        }
        if n % 5000 == 0 {
            rig.client.dma_unmap(0, 0, 1 << 40).unwrap();
        }
    }
    let judged = |rule| {
        let summary = reports.summary();
        let rule = summary.rules.iter().find(|one| one.rule.0 == rule).unwrap();
        rule.checked
    };
    assert!(judged(20001) > 10_000);
    assert_eq!(reports.list().len(), 0);
}
