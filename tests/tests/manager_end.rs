//! The end of a memory manager on the model: the chip is as `vidmm_init` found it, and
//! every page of RAM is back.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::register::REGISTERS;
use presil_device::{Chip, Config, OnFault};
use presil_tests::host::OneThread;
use presil_tests::manager::Managed;
use presil_tests::{Machine, Process};
use vidmm::placement::{Flags, Place};
use vidmm::{Adapter, Blit, Error, InitReport, OnChip, Options, SegmentId, TablePages, evict};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const TABLES: TablePages = TablePages { all: 16, each: 8 };

fn config() -> Config {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 32 * MIB, true).unwrap();
    config.mmu.on_fault = OnFault::Retry;
    config
}

fn options() -> Options {
    Options {
        snoop_bytes: 8 * MIB,
        unsnoop_bytes: 8 * MIB,
        ..Options::default()
    }
}

fn managed(config: &Config) -> Managed {
    Managed::new(config, options()).unwrap()
}

/// A process with a job on a buffer, which it alone has, until it ends with the manager.
fn work(gpu: &Managed, pages: u64, segment: SegmentId) {
    let process = Process::start(gpu, pages, segment);
    process.fill(gpu, pages, 7);
    gpu.mm.release(process.bo).unwrap();
}

/// Every register that keeps what is written, and all L1 registers.
fn registers(machine: &Machine) -> Vec<(u32, u32)> {
    let all = REGISTERS.iter();
    let offsets = all.flat_map(|info| (0..info.count).map(|index| info.reg.at(index)));
    machine.gpu(|gpu| {
        let read = |at: u32| (at, gpu.peek(at & !3));
        offsets.map(read).collect()
    })
}

fn place(segment: SegmentId) -> [Place; 1] {
    [Place::anywhere(segment, Flags::NONE)]
}

/// Processes with jobs that are still in line, buffers everywhere: of all that nothing is
/// left but what somebody still has.
#[test]
fn after_the_end_the_chip_is_as_it_was_found_and_all_pages_are_back_r_4_5() {
    let config = config();
    let before = registers(&Machine::new(&config).unwrap());
    let gpu = managed(&config);
    let world = gpu.mm.world();
    for n in 0..18 {
        let segment = SegmentId::ALL[[0, 1, 3][n % 3]];
        work(&gpu, 32, segment);
    }
    assert!(!world.is_idle(), "some are in line");
    assert!(gpu.machine.has_dma());
    let filled = |machine: &Machine| machine.gpu(|gpu| gpu.counters().bytes_filled);
    let machine = gpu.end().unwrap();
    assert!(filled(&machine) >= 18 * 32 * PAGE, "jobs were done");
    assert_eq!(machine.ram().owned(), 0);
    assert_eq!(machine.ram().violations(), [""; 0]);
    assert!(!machine.gpu(|gpu| gpu.has_work()) && !machine.has_dma());
    for (now, was) in registers(&machine).iter().zip(&before) {
        assert_eq!(now, was, "{:#x}", now.0);
    }
    assert_eq!(machine.log_lines(), [""; 0]);
}

#[test]
fn the_end_says_what_somebody_still_has() {
    let gpu = managed(&config());
    let kept = gpu.create(4, &place(SegmentId::LocalVisible)).unwrap();
    let bound = gpu.create(3, &place(SegmentId::PcieUnsnoop)).unwrap();
    gpu.place(bound, SegmentId::PcieUnsnoop).unwrap();
    let machine = gpu.machine.clone();
    let left = gpu.end().err().unwrap();
    assert_eq!(left.bytes, [4 * PAGE, 0, 0, 3 * PAGE, 0], "{kept:?}");
    assert!(left.adapter.idle);
    let said = "; 16384 bytes in local-visible; 12288 bytes in pcie-unsnoop";
    assert!(left.to_string().ends_with(said), "{left}");
    assert_eq!(machine.ram().owned(), 3, "those of the buffer");
    assert!(!machine.gpu(|gpu| gpu.has_work()) && !machine.has_dma());
}

/// A job that is never done is stopped, and holds nothing back.
#[test]
fn a_job_that_does_not_end_does_not_keep_the_manager_from_ending() {
    let gpu = managed(&config());
    let world = gpu.mm.world();
    let space = world.start_process(&gpu.mm).unwrap();
    // The GPU repeats it, and nobody is told.
    gpu.run();
    gpu.machine.set_deaf(true);
    let (at, bytes, pattern) = (world.private_zone(), PAGE, 1);
    gpu.job(space, &[Blit::Fill { at, bytes, pattern }])
        .unwrap();
    let machine = gpu.end().unwrap();
    assert_eq!(machine.ram().owned(), 0);
    assert!(!machine.gpu(|gpu| gpu.has_work()) && !machine.has_dma());
}

/// Whatever access fails on the way, nothing is freed that the GPU may reach.
#[test]
fn an_end_that_fails_says_so_and_frees_nothing_that_the_gpu_reaches() {
    let mut clean = 0;
    for call in 1.. {
        let gpu = managed(&config());
        work(&gpu, 8, SegmentId::PcieUnsnoop);
        let machine = gpu.machine.clone();
        machine.fail_call(Some(call));
        let ended = gpu.end();
        let failed = machine.has_failed();
        machine.fail_call(None);
        match ended {
            Ok(_) => {
                clean += 1;
                assert_eq!(machine.ram().owned(), 0, "call {call}");
            }
            Err(left) => assert!(!left.adapter.idle || left.bytes != [0; 5], "call {call}"),
        }
        machine.run();
        assert_eq!(machine.ram().violations(), [""; 0], "call {call}");
        if !failed {
            assert!(call > 6, "{call}");
            break;
        }
    }
    assert!(clean >= 1, "{clean}");
}

/// A GPU that cannot be told to stop may still write to all that it could.
#[test]
fn of_a_gpu_that_cannot_be_stopped_no_page_is_freed() {
    let gpu = managed(&config());
    work(&gpu, 8, SegmentId::PcieUnsnoop);
    let machine = gpu.machine.clone();
    let owned = machine.ram().owned();
    machine.unplug();
    let left = gpu.end().err().unwrap();
    assert!(!left.adapter.idle && left.bytes[3] == 8 * PAGE, "{left}");
    assert_eq!(machine.ram().owned(), owned);
}

/// Whatever fails when a manager begins: the chip is as it was found, and every page is back.
#[test]
fn a_manager_that_cannot_begin_leaves_nothing_behind_r_4_8() {
    let config = config();
    let found = registers(&Machine::new(&config).unwrap());
    let try_with = |unsnoop_bytes: u64, tables, fails: Option<u64>| {
        let machine = Machine::new(&config).unwrap();
        let options = Options {
            unsnoop_bytes,
            ..options()
        };
        let adapter = Adapter::init(machine.clone(), options, &mut InitReport::default()).unwrap();
        machine.fail_call(fails);
        let managed = OnChip::manage(
            adapter,
            OneThread::new(&machine),
            evict::Options::default(),
            tables,
        );
        let failed = machine.has_failed();
        machine.fail_call(None);
        (machine, managed, failed)
    };
    let assert_clean = |machine: &Machine| {
        assert_eq!(machine.ram().owned(), 0);
        assert!(!machine.gpu(|gpu| gpu.has_work()) && !machine.has_dma());
        assert_eq!(registers(machine), found);
        assert_eq!(machine.ram().violations(), [""; 0]);
    };
    // Before there is a manager, and when there is.
    let (machine, managed, _) = try_with(0, TABLES, None);
    assert_eq!(managed.err(), Some(Error::Invalid));
    assert_clean(&machine);
    let too_many = TablePages {
        all: 1 << 20,
        each: 8,
    };
    let (machine, managed, _) = try_with(8 * MIB, too_many, None);
    assert_eq!(managed.err(), Some(Error::NoMemory));
    assert_clean(&machine);
    // Every call of the machine that may fail.
    for call in 1.. {
        let (machine, managed, failed) = try_with(8 * MIB, TABLES, Some(call));
        match managed {
            Ok(mm) => OnChip::end(mm).unwrap(),
            Err(error) => assert!(failed, "{error}"),
        }
        assert_clean(&machine);
        if !failed {
            break;
        }
    }
}

/// How much RAM a manager may have is said when it begins.
#[test]
fn a_manager_has_no_more_ram_than_it_was_told_r_7_13() {
    let limited = evict::Options {
        ram_pages: Some(64),
        ..evict::Options::default()
    };
    let gpu = Managed::with_options(&config(), options(), limited, TABLES).unwrap();
    let owned = gpu.machine.ram().owned();
    let bos = [(); 3].map(|()| gpu.create(32, &place(SegmentId::PcieUnsnoop)).unwrap());
    for bo in bos {
        gpu.place(bo, SegmentId::PcieUnsnoop).unwrap();
        let more = gpu.machine.ram().owned() - owned;
        assert!(more <= 64, "{more}");
    }
}
