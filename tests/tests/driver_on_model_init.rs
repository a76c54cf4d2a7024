//! `vidmm_init` against the model: what the driver says, what the model holds.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::pte::{L3Entry, Ttbr};
use e3k_regs::register::REGISTERS;
use e3k_regs::{Chip, GpuVa, Reg};
use presil_device::{Config, Width};
use presil_tests::{Guest, Machine, WINDOW_AT};
use vidmm::{Adapter, Error, InitReport, InitStep, Options, SegmentId};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn machine(vram: u64, visible: u64) -> Machine {
    let config = Config::new(Chip::Arise10c0, vram, visible, true).unwrap();
    Machine::new(&config).unwrap()
}

/// Every declared register that keeps what is written.
fn registers(machine: &Machine) -> Vec<(u32, u32)> {
    let offsets = REGISTERS
        .iter()
        .flat_map(|info| (0..info.count).map(|index| info.reg.at(index)));
    machine.gpu(|gpu| offsets.map(|at| (at, gpu.peek(at & !3))).collect())
}

#[test]
fn the_model_holds_the_l1_values_that_the_driver_wrote_for_all_16_process_ids() {
    let guest = Guest::load(machine(GIB, 512 * MIB)).unwrap();
    let vma = guest.report.reserved_vma.clone().unwrap();
    assert_eq!(vma.l1.len(), 32);
    for l1 in &vma.l1 {
        let va = GpuVa(u64::from(l1.index) << 32);
        let process_id = u8::try_from(l1.process_id).unwrap();
        let held = guest.machine.gpu(|gpu| gpu.walk(process_id, va)).l1;
        assert_eq!((held, l1.read_back), (l1.written, l1.written), "{l1:?}");
        let ttbr = Ttbr::from_bits(held);
        assert!(ttbr.valid() && ttbr.segment());
        let table = vma.levels[0].gpu_phys.page() + u64::from(l1.index);
        assert_eq!(u64::from(ttbr.page()), table);
    }
    for process_id in 0..16 {
        for index in 2..256u64 {
            let walk = guest
                .machine
                .gpu(|gpu| gpu.walk(process_id, GpuVa(index << 32)));
            assert_eq!(walk.l1, 0, "the private zone is nobody's yet");
        }
    }
}

#[test]
fn the_sample_entries_of_the_report_are_those_that_the_model_finds() {
    let guest = Guest::load(machine(GIB, 512 * MIB)).unwrap();
    let vma = guest.report.reserved_vma.clone().unwrap();
    let last = GpuVa(8 * GIB - 4 * MIB);
    let addresses = vma.samples.map(|entry| (entry.level, entry.va));
    let in_zone_1 = GpuVa(4 * GIB);
    assert_eq!(
        addresses,
        [(2, GpuVa(0)), (2, last), (3, GpuVa(0)), (3, in_zone_1)]
    );
    for entry in vma.samples {
        let walk = guest.machine.gpu(|gpu| gpu.walk(9, entry.va));
        let held = if entry.level == 2 { walk.l2 } else { walk.l3 };
        assert_eq!(held, Some(entry.value), "{entry:?}");
        let stored = guest.machine.vram().load_u32(entry.gpu_phys).unwrap();
        assert_eq!(stored, entry.value, "{entry:?}");
    }
}

#[test]
fn the_model_translates_vram_to_itself_and_nothing_beyond_it() {
    let guest = Guest::load(machine(GIB, 512 * MIB)).unwrap();
    let walk = |process_id, va| guest.machine.gpu(|gpu| gpu.walk(process_id, GpuVa(va)));
    for process_id in [0, 7, 15] {
        for va in [0, 4096, 0x3FFF_F000, 0x2000_0000, 0x1234_5000] {
            let l3 = L3Entry::from_bits(walk(process_id, va).l3.unwrap());
            assert!(l3.valid() && l3.segment());
            assert_eq!(u64::from(l3.page()), va >> 12);
        }
        for va in [0x4000_0000, 0x8000_0000, 0xFFFF_F000] {
            assert_eq!(walk(process_id, va).l3, Some(0), "beyond VRAM");
            assert_eq!(walk(process_id, va).target, None);
        }
    }
}

#[test]
fn the_model_finds_the_dummy_page_behind_all_of_zone_1() {
    let guest = Guest::load(machine(GIB, 512 * MIB)).unwrap();
    let dummy = guest.report.reserved_vma.as_ref().unwrap().dummy_page;
    let fence = guest.report.submission.unwrap();
    for page in (0..1u64 << 20).step_by(257).chain([(1 << 20) - 1]) {
        let va = GpuVa((1 << 32) + page * 4096);
        let walk = guest.machine.gpu(|gpu| gpu.walk(3, va));
        let l3 = L3Entry::from_bits(walk.l3.unwrap());
        let want = if va == fence.fence {
            fence.fence_page
        } else {
            dummy
        };
        assert!(l3.valid() && !l3.segment());
        assert_eq!(u64::from(l3.page()), want.page(), "{va}");
    }
}

#[test]
fn the_report_of_the_default_gpu() {
    let guest = Guest::load(machine(GIB, 512 * MIB)).unwrap();
    let report = &guest.report;
    let zones = report
        .zones
        .unwrap()
        .map(|z| (z.name, z.start.0, z.bytes, z.shared));
    assert_eq!(
        zones,
        [
            ("local", 0, 4 * GIB, true),
            ("pcie", 4 * GIB, 4 * GIB, true),
            ("private", 8 * GIB, (1 << 40) - 8 * GIB, false),
        ]
    );
    let segments = report
        .segments
        .unwrap()
        .map(|s| (s.name, s.start.0, s.bytes));
    assert_eq!(
        segments,
        [
            ("local-visible", 0, 512 * MIB),
            ("local-invisible", 512 * MIB, 512 * MIB),
            ("pcie-snoop", 4 * GIB, 2 * GIB),
            ("pcie-unsnoop", 6 * GIB, 2 * GIB),
        ]
    );
    let vma = report.reserved_vma.as_ref().unwrap();
    assert_eq!(vma.table_bytes, 8 * MIB + 8192);
    // TOPDOWN in the local visible segment: L2 first, L3 behind it.
    assert_eq!(vma.levels[0].gpu_phys.0, 512 * MIB - vma.table_bytes);
    assert_eq!(vma.levels[1].gpu_phys.0, 504 * MIB);
    assert_eq!(vma.levels[1].cpu_address, WINDOW_AT + 504 * MIB);
    assert_eq!(vma.mmu_mode, 0x0301, "VA mode, four units of 256 MiB");
}

#[test]
fn every_legal_kind_of_vram_comes_up() {
    let sizes = [
        (256 * MIB, 64 * MIB),
        (256 * MIB, 256 * MIB),
        (768 * MIB, 32 * MIB),
        (3 * GIB - 24 * MIB, 256 * MIB),
        (4 * GIB, 4 * GIB),
        (5 * GIB, 256 * MIB),
        (64 * GIB, 256 * MIB),
    ];
    for (vram, visible) in sizes {
        let guest = Guest::load(machine(vram, visible)).unwrap();
        let [local, invisible, ..] = guest.adapter.segments();
        assert_eq!((local.bytes, invisible.bytes), (visible, vram - visible));
        let last = guest.machine.gpu(|gpu| gpu.walk(9, GpuVa(vram - 4096)));
        let l3 = L3Entry::from_bits(last.l3.unwrap());
        assert_eq!(u64::from(l3.page()), (vram - 4096) >> 12);
        guest.unload().unwrap();
    }
}

#[test]
fn a_window_too_small_for_the_tables_is_refused_and_leaves_nothing() {
    let machine = machine(256 * MIB, 4 * MIB);
    let mut report = InitReport::default();
    let error = Adapter::init(machine.clone(), Options::default(), &mut report)
        .err()
        .unwrap();
    assert_eq!(
        (error.step, error.error),
        (InitStep::ReservedVma, Error::NoMemory)
    );
    assert!(report.segments.is_some() && report.reserved_vma.is_none());
    assert_eq!(machine.ram().owned(), 0);
}

#[test]
fn every_platform_call_of_init_may_fail_and_the_model_is_as_before_r_4_8() {
    let machine = machine(256 * MIB, 16 * MIB);
    // Something that another driver left behind; what it left to engines is stopped.
    machine.gpu(|gpu| {
        gpu.write(Reg::Ttbr.at(5 * 256), Width::B4, 0x0ABC_DEF9);
        gpu.write(Reg::AdapterControl.offset(), Width::B1, 0x10);
    });
    let before = registers(&machine);
    let mut failures = 0;
    for call in 1.. {
        machine.fail_call(Some(call));
        let result = Adapter::init(
            machine.clone(),
            Options::default(),
            &mut InitReport::default(),
        );
        if !machine.has_failed() {
            machine.fail_call(None);
            result.ok().unwrap().fini().unwrap();
            break;
        }
        assert!(result.is_err(), "call {call} failed unnoticed");
        assert_eq!(registers(&machine), before, "call {call}");
        assert_eq!(machine.ram().owned(), 0, "call {call}");
        failures += 1;
    }
    assert!(failures > 15, "{failures}");
    assert_eq!(registers(&machine), before, "after fini");
    assert_eq!(machine.ram().violations(), Vec::<String>::new());
}

#[test]
fn the_driver_loads_and_unloads_20_times_in_a_row() {
    let mut machine = machine(256 * MIB, 16 * MIB);
    let before = registers(&machine);
    for round in 0..20 {
        let guest = Guest::load(machine).unwrap();
        assert_eq!(guest.machine.ram().owned(), 2, "dummy page and fence page");
        assert!(guest.adapter.segments()[SegmentId::LocalVisible as usize].pinned > 8 * MIB);
        machine = guest.unload().unwrap();
        assert_eq!(machine.ram().owned(), 0);
        assert_eq!(registers(&machine), before, "round {round}");
    }
    assert_eq!(machine.log_lines(), Vec::<String>::new());
}

#[test]
fn the_driver_misuses_no_register() {
    let guest = Guest::load(machine(GIB, 512 * MIB)).unwrap();
    let counters = guest.machine.gpu(|gpu| gpu.counters());
    assert!(counters.register_writes > 0);
    assert_eq!(counters.read_only_writes, 0);
    assert_eq!(counters.reserved_writes, 0);
    assert_eq!(counters.wrong_widths, 0);
}
