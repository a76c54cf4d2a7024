//! `vidmm_init` and its end.

use super::fake::{Fake, OPTIONS, VISIBLE_BYTES, VRAM_BYTES, WINDOW_AT};
use crate::{Adapter, Error, InitReport, InitStep, Options, VramWindow};
use e3k_regs::Reg;
use e3k_regs::fields::RingWord;
use e3k_regs::pte::{L2Entry, L3Entry, Ttbr};

fn init(fake: &Fake) -> (Result<Adapter<Fake>, (InitStep, Error)>, InitReport) {
    init_with(fake, OPTIONS)
}

fn init_with(
    fake: &Fake,
    options: Options,
) -> (Result<Adapter<Fake>, (InitStep, Error)>, InitReport) {
    let mut report = InitReport::default();
    let result = Adapter::init(fake.clone(), options, &mut report);
    (result.map_err(|e| (e.step, e.error)), report)
}

#[test]
fn every_step_reports_its_figures() {
    let fake = Fake::new();
    let (adapter, report) = init(&fake);
    assert!(adapter.is_ok());
    assert_eq!(report.system.unwrap().total_bytes, 1 << 30);
    let chip = report.chip.unwrap();
    assert_eq!(
        (chip.name, chip.vram_bytes, chip.visible_bytes),
        ("e3k", VRAM_BYTES, VISIBLE_BYTES)
    );
    let zones = report
        .zones
        .unwrap()
        .map(|z| (z.start.0 >> 32, z.bytes >> 32, z.shared));
    assert_eq!(zones, [(0, 1, true), (1, 1, true), (2, 254, false)]);
    let segments = report
        .segments
        .unwrap()
        .map(|s| (s.start.0, s.bytes, s.usage));
    assert_eq!(
        segments,
        [
            (0, VISIBLE_BYTES, 0),
            (VISIBLE_BYTES, VRAM_BYTES - VISIBLE_BYTES, 0),
            (1 << 32, OPTIONS.snoop_bytes, 0),
            ((1 << 32) + OPTIONS.snoop_bytes, OPTIONS.unsnoop_bytes, 0),
        ]
    );
    let vma = report.reserved_vma.unwrap();
    let tables = vma.levels.map(|l| (l.level, l.entries, l.tables, l.bytes));
    let two_zones = [(2, 2048, 2, 8192), (3, 2_097_152, 2048, 8 << 20)];
    assert_eq!(tables, two_zones, "R-19.6");
    assert!(
        vma.levels
            .iter()
            .all(|l| l.cpu_address == WINDOW_AT + l.gpu_phys.0)
    );
    assert_eq!(
        (vma.ptes.local, vma.ptes.invalid, vma.ptes.dummy),
        (65536, 1_048_576 - 65536, 1_048_576)
    );
    assert_eq!(vma.l1.len(), 32, "two registers for each of 16 process ids");
    assert!(vma.l1.iter().all(|l1| l1.written == l1.read_back));
    assert_eq!(vma.mmu_mode, 1);
    assert_eq!(report.submission.unwrap().ring_bytes, 256 << 10);
}

#[test]
fn the_shared_zones_are_in_every_process_ids_bank() {
    let fake = Fake::new();
    let (_adapter, report) = init(&fake);
    let l2 = report.reserved_vma.unwrap().levels[0].gpu_phys;
    let registers = fake.registers();
    for process_id in 0..16 {
        for index in 0..256 {
            let value = registers.get(&Reg::Ttbr.at(process_id * 256 + index));
            let table = l2.add(u64::from(index) * 4096).page();
            let want = Ttbr::new()
                .with_valid(true)
                .with_segment(true)
                .with_page(table as u32);
            assert_eq!(value.copied(), (index < 2).then_some(want.into_bits()));
        }
    }
}

#[test]
fn tables_map_vram_to_itself_and_the_rest_of_zone_0_to_nothing() {
    let fake = Fake::new();
    let (_adapter, report) = init(&fake);
    let vma = report.reserved_vma.unwrap();
    let [l2, l3] = vma.levels.map(|l| l.gpu_phys);
    for n in 0..2048 {
        let entry = L2Entry::from_bits(fake.load_u32(l2.add(n * 4)));
        assert!(entry.valid() && entry.segment());
        assert_eq!(u64::from(entry.page()), l3.page() + n);
    }
    for page in (0..1_048_576)
        .step_by(1021)
        .chain([65535, 65536, 1_048_575])
    {
        let entry = L3Entry::from_bits(fake.load_u32(l3.add(page * 4)));
        if page < 65536 {
            assert!(entry.valid() && entry.segment());
            assert_eq!(u64::from(entry.page()), page);
        } else {
            assert_eq!(
                entry.into_bits(),
                0,
                "beyond VRAM is invalid, whatever VRAM held"
            );
        }
    }
    for page in (1_048_576..2_097_152).step_by(4099).chain([2_097_151]) {
        let entry = L3Entry::from_bits(fake.load_u32(l3.add(page * 4)));
        if page != 1_048_576 + 2047 {
            assert!(entry.valid() && !entry.segment() && entry.ns());
            assert_eq!(u64::from(entry.page()), vma.dummy_page.page());
        }
    }
}

#[test]
fn translation_starts_after_every_l1_register_is_written_r_4_10() {
    let fake = Fake::new();
    let (_adapter, _) = init(&fake);
    let writes = fake.writes.borrow();
    let last_l1 = writes
        .iter()
        .rposition(|w| (0x50000..0x54000).contains(&w.0))
        .unwrap();
    let mode = writes
        .iter()
        .position(|w| w.0 == Reg::MmuMode.offset())
        .unwrap();
    let flush = writes
        .iter()
        .skip(mode)
        .position(|w| w.0 == Reg::PtInvTrig.offset());
    let ring = writes
        .iter()
        .position(|w| *w == (RingWord::Address.offset(0), w.1) && w.1 >> 31 == 1);
    assert!(last_l1 < mode && flush.is_some());
    assert!(mode < ring.unwrap());
}

#[test]
fn kernel_objects_are_pinned_at_the_top_of_their_segments_r_4_9() {
    let fake = Fake::new();
    let adapter = fake.start();
    let [local, invisible, snoop, unsnoop] = adapter.segments();
    assert_eq!(local.usage, (8 << 20) + 8192 + (260 << 10));
    assert_eq!(local.pinned, local.usage);
    assert_eq!((snoop.usage, snoop.pinned), (4096, 4096));
    assert_eq!((invisible.usage, unsnoop.usage), (0, 0));
    let mut list = String::new();
    adapter.write_bo_list(&mut list).unwrap();
    assert!(
        list.contains("kernel pcie-snoop 2047 1 0x1007ff000 bound 1 0"),
        "{list}"
    );
    assert!(
        list.contains("kernel local-visible 2046 2050 0x7fe000 local 1 0"),
        "{list}"
    );
}

#[test]
fn each_step_that_fails_is_named_and_leaves_nothing_behind_r_4_8() {
    use InitStep::{ChipFunctions, ReservedVma, Submission, SystemMemory, Zones};
    let too_large = Options {
        snoop_bytes: 1 << 41,
        ..OPTIONS
    };
    let no_room = Options {
        snoop_bytes: 16 << 30,
        ..OPTIONS
    };
    let refused = |step, error, break_it: &dyn Fn(&Fake), options| {
        let fake = Fake::new();
        break_it(&fake);
        let before = fake.registers();
        let (result, report) = init_with(&fake, options);
        assert_eq!(result.err(), Some((step, error)));
        let done = [
            report.system.is_some(),
            report.chip.is_some(),
            report.zones.is_some(),
            report.segments.is_some(),
            report.reserved_vma.is_some(),
            report.submission.is_some(),
        ];
        let steps_done = done.iter().take_while(|d| **d).count();
        assert_eq!(steps_done, step as usize, "report of {step:?}");
        assert_eq!(fake.live_pages(), 0);
        assert_eq!(fake.registers(), before, "{step:?}");
    };
    let nothing = |_: &Fake| {};
    let large_pages = |f: &Fake| f.page_bytes.set(16384);
    let not_ready = |f: &Fake| f.set_register(Reg::MemReady.offset(), 0);
    let contradiction = |f: &Fake| f.set_register(Reg::MemChannels.offset(), 0x11);
    let unknown_size = |f: &Fake| f.vram_told.set(None);
    let no_window = |f: &Fake| f.window_works.set(false);
    let stuck = |offset: u32| move |f: &Fake| _ = f.stuck.borrow_mut().insert(offset);
    refused(SystemMemory, Error::Invalid, &large_pages, OPTIONS);
    refused(ChipFunctions, Error::Io, &not_ready, OPTIONS);
    refused(ChipFunctions, Error::Invalid, &contradiction, OPTIONS);
    refused(ChipFunctions, Error::Invalid, &unknown_size, OPTIONS);
    refused(Zones, Error::Invalid, &nothing, too_large);
    refused(ReservedVma, Error::NoMemory, &nothing, no_room);
    refused(ReservedVma, Error::Io, &no_window, OPTIONS);
    refused(
        ReservedVma,
        Error::Io,
        &stuck(Reg::Ttbr.at(15 * 256 + 1)),
        OPTIONS,
    );
    refused(
        ReservedVma,
        Error::Io,
        &stuck(Reg::MmuMode.offset()),
        OPTIONS,
    );
    refused(
        Submission,
        Error::Io,
        &stuck(Reg::AdvancedEnable.offset()),
        OPTIONS,
    );
}

#[test]
fn every_platform_call_of_init_may_fail_and_leaves_the_state_before_r_4_8() {
    let mut failures = 0;
    for call in 1.. {
        let fake = Fake::new();
        // What firmware might have left there.
        fake.set_register(Reg::Ttbr.at(256), 0xABCD_0019);
        fake.set_register(RingWord::Size.offset(0), 0x1000);
        let before = fake.registers();
        fake.fail_call(call);
        let (result, _) = init(&fake);
        if !fake.has_failed() {
            assert!(result.is_ok());
            break;
        }
        assert!(result.is_err(), "call {call} failed unnoticed");
        assert_eq!(fake.registers(), before, "call {call}");
        assert_eq!(fake.live_pages(), 0, "call {call}");
        failures += 1;
    }
    assert!(failures > 15, "{failures}");
}

#[test]
fn a_device_that_stops_answering_costs_the_pages_it_may_reach_and_says_so() {
    let fake = Fake::new();
    let adapter = fake.start();
    fake.fail_from.set(true);
    fake.fail_call(1);
    let left = adapter.fini().unwrap_err();
    assert_eq!((left.bos, left.pages, left.idle), (0, 2, false));
    assert_eq!(fake.live_pages(), 2, "lost, not freed");
    assert!(
        fake.log
            .borrow()
            .iter()
            .any(|line| line.contains("not shown idle"))
    );
}

#[test]
fn fini_gives_everything_back_and_init_works_again() {
    let fake = Fake::new();
    let before = fake.registers();
    for _ in 0..3 {
        let adapter = fake.start();
        assert_eq!(fake.live_pages(), 2, "dummy and fence page");
        adapter.fini().unwrap();
        assert_eq!(fake.live_pages(), 0);
        assert_eq!(fake.registers(), before);
    }
}

#[test]
fn page_tables_that_do_not_fit_are_told_with_both_sizes() {
    let fake = Fake::new();
    let options = Options {
        snoop_bytes: 16 << 30,
        ..OPTIONS
    };
    let (result, _) = init_with(&fake, options);
    assert_eq!(result.err(), Some((InitStep::ReservedVma, Error::NoMemory)));
    // 24 GiB of zones: 24 MiB of L3 and six L2 tables.
    let line = "25190400 bytes of page tables in local-visible of 16777216 bytes";
    assert!(fake.log.borrow().iter().any(|said| said.contains(line)));
}

#[test]
fn vram_that_is_ready_a_little_later_is_waited_for() {
    let fake = Fake::new();
    fake.slow_ready.set(5);
    let mut report = InitReport::default();
    assert!(Adapter::init(fake.clone(), OPTIONS, &mut report).is_ok());
    assert_eq!(fake.slow_ready.get(), 0);
}

#[test]
fn what_was_left_running_is_stopped_before_the_gpu_may_reach_memory() {
    let fake = Fake::new();
    let _adapter = fake.start();
    let writes = fake.writes.borrow();
    let first: Vec<u32> = writes.iter().map(|write| write.0).take(4).collect();
    let expected = [
        Reg::BiuEnable,
        Reg::AdvancedEnable,
        Reg::EngineReset,
        Reg::EngineReset,
    ];
    assert_eq!(first, expected.map(Reg::offset));
    assert_eq!(
        fake.writes_before_dma.get(),
        2 + 2 + 4,
        "interrupts closed, engines reset, TLBs flushed"
    );
    assert!(fake.dma.get());
}

#[test]
fn a_plan_that_is_refused_leaves_the_gpu_without_dma_r_4_8() {
    let fake = Fake::new();
    let options = Options {
        snoop_bytes: 1 << 60,
        ..OPTIONS
    };
    let error = Adapter::init(fake.clone(), options, &mut InitReport::default()).err();
    assert_eq!(error.map(|error| error.step), Some(InitStep::Zones));
    assert!(fake.writes_before_dma.get() > 0, "it was on before");
    assert!(!fake.dma.get());
}
