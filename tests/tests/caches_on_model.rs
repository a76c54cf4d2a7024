//! Unsnooped memory and the CPU's caches: each write barrier and each change of a page's
//! caching mode that the driver makes is needed. The machine keeps stores back and lines
//! dirty for as long as it may, and tells what was too early.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::Reg;
use e3k_regs::fields::RingWord;
use e3k_regs::pte::L1_SPAN;
use presil_device::{Chip, Config};
use presil_tests::manager::Managed;
use presil_tests::{Guest, Machine, Process};
use vidmm::placement::{Flags, Place};
use vidmm::{BoId, CreateFlags, Error, LocalMemory, Options, SegmentId, TablePages};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const PAGES: u64 = 40;

fn config() -> Config {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 16 * MIB, true).unwrap();
    config.vram_seed = None;
    config
}

fn guest() -> Guest {
    Guest::new(&config()).unwrap()
}

#[track_caller]
fn assert_nothing_was_early(machine: &Machine) {
    assert_eq!(machine.ram().violations(), [""; 0]);
}

/// What the GPU reads in a buffer: it copies it to where the CPU's caches are snooped.
fn as_the_gpu_sees(guest: &mut Guest, bo: BoId, bytes: u64) -> Vec<u8> {
    let seen = guest.create(bytes, CreateFlags::READBACK).unwrap();
    let fence = guest
        .call(|adapter| adapter.copy(seen, 0, bo, 0, bytes))
        .unwrap();
    guest.wait(fence).unwrap();
    guest
        .read(seen, 0, usize::try_from(bytes).unwrap())
        .unwrap()
}

/// What the driver was too early for when it wrote a register.
fn early_at(machine: &Machine, register: u32) -> Vec<String> {
    let mut violations = machine.ram().violations();
    violations.retain(|it| it.starts_with(&format!("register {register:#x} ")));
    violations
}

#[test]
fn tables_are_in_memory_before_translation_begins() {
    let guest = guest();
    assert_eq!(
        early_at(&guest.machine, Reg::PtInvTrig.offset()),
        [""; 0],
        "the TLBs are told at the end"
    );
}

#[test]
fn the_echo_is_in_memory_before_the_ring_runs() {
    let guest = guest();
    let start = RingWord::Address.offset(0);
    assert_eq!(early_at(&guest.machine, start), [""; 0]);
}

#[test]
fn fresh_unsnooped_pages_are_zero_to_the_gpu() {
    let mut guest = guest();
    let bo = guest.create(PAGES * PAGE, CreateFlags::UPLOAD).unwrap();
    let seen = as_the_gpu_sees(&mut guest, bo, PAGES * PAGE);
    assert!(seen.iter().all(|byte| *byte == 0));
    assert_nothing_was_early(&guest.machine);
}

/// The rules that find something when the platform forgets what `set_pages_array_wc` does:
/// zeros of fresh pages stay in the caches.
fn reported_without_flushes(rule: u32, used: impl Fn(&mut Guest, BoId)) -> Vec<u32> {
    let mut guest = guest();
    guest.machine.expect_reports_of(rule);
    guest.machine.ram().forget_to_flush();
    let bo = guest.create(PAGES * PAGE, CreateFlags::UPLOAD).unwrap();
    used(&mut guest, bo);
    guest.machine.reported()
}

#[test]
fn the_checker_names_pages_that_were_not_flushed_for_the_gpu() {
    let reads = reported_without_flushes(30020, |guest, bo| {
        as_the_gpu_sees(guest, bo, PAGES * PAGE);
    });
    assert_eq!(reads, [30020]);
    let writes = reported_without_flushes(30022, |guest, bo| {
        let fence = guest.adapter.fill(bo, 0, PAGES * PAGE, 7).unwrap();
        guest.wait(fence).unwrap();
    });
    assert_eq!(writes, [30022]);
}

#[test]
fn pages_of_an_unsnooped_buffer_go_back_as_others_map_them() {
    let mut guest = guest();
    let bo = guest.create(PAGES * PAGE, CreateFlags::UPLOAD).unwrap();
    guest.write(bo, 0, &[9; 100]).unwrap();
    guest.adapter.destroy(bo).unwrap();
    assert_nothing_was_early(&guest.machine);
}

#[test]
fn entries_are_in_memory_before_the_tlbs_are_told() {
    let mut guest = guest();
    let bo = guest.create(PAGE, CreateFlags::UPLOAD).unwrap();
    let before = guest.machine.ram().violations().len();
    guest.touch(bo, 0).unwrap();
    assert_eq!(guest.machine.ram().violations()[before..], [""; 0]);
}

#[test]
fn entries_lead_nowhere_in_memory_before_the_tlbs_are_told() {
    let mut guest = guest();
    let bo = guest.create(PAGE, CreateFlags::UPLOAD).unwrap();
    guest.touch(bo, 0).unwrap();
    let before = guest.machine.ram().violations().len();
    guest.adapter.destroy(bo).unwrap();
    assert_eq!(guest.machine.ram().violations()[before..], [""; 0]);
}

#[test]
fn a_job_and_what_its_user_stored_are_in_memory_before_the_doorbell() {
    let mut guest = guest();
    for flags in [CreateFlags::UPLOAD, CreateFlags::GPU_MOSTLY] {
        let bo = guest.create(PAGE, flags).unwrap();
        // Bound, or cleared, before: nothing else asks for a barrier now.
        as_the_gpu_sees(&mut guest, bo, 4);
        let seen = guest.create(PAGE, CreateFlags::READBACK).unwrap();
        guest.touch(seen, 0).unwrap();
        guest.write(bo, 0, &[0xAB; 64]).unwrap();
        let fence = guest.adapter.copy(seen, 0, bo, 0, PAGE).unwrap();
        guest.wait(fence).unwrap();
        assert_eq!(guest.read(seen, 0, 64).unwrap(), [0xAB; 64], "{flags:?}");
    }
    assert_nothing_was_early(&guest.machine);
}

fn managed() -> Managed {
    let options = Options {
        snoop_bytes: 4 * MIB,
        unsnoop_bytes: 4 * MIB,
        ..Options::default()
    };
    Managed::new(&config(), options).unwrap()
}

fn move_to(gpu: &Managed, bo: BoId, segment: SegmentId) {
    let reservation = gpu.mm.reservation(bo).unwrap();
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        let places = [Place::anywhere(segment, Flags::NONE)];
        gpu.mm.validate(set, bo, &places, &mut Managed::ctx())
    })
    .unwrap();
    gpu.run();
}

fn create(gpu: &Managed, segment: SegmentId) -> BoId {
    let places = [Place::anywhere(segment, Flags::NONE)];
    gpu.create(PAGES, &places).unwrap()
}

/// Has a process write a word to all pages of a buffer, unsnooped or not.
fn fill(gpu: &Managed, bo: BoId, pattern: u32) {
    let fence = Process::of(gpu, bo, PAGES).fill(gpu, PAGES, pattern);
    gpu.run();
    gpu.wait(&fence).unwrap();
}

#[track_caller]
fn assert_words(gpu: &Managed, bo: BoId, word: u32) {
    let words = gpu.words(bo).unwrap();
    assert!(words.iter().all(|it| *it == word), "{words:#x?}");
    assert_nothing_was_early(&gpu.machine);
}

#[test]
fn lines_have_left_the_caches_before_pages_are_write_combined() {
    let gpu = managed();
    // Zeroed by the CPU, for the GPU to copy.
    let fresh = create(&gpu, SegmentId::PcieUnsnoop);
    assert_words(&gpu, fresh, 0);
    move_to(&gpu, fresh, SegmentId::LocalVisible);
    assert_words(&gpu, fresh, 0);
    // With what somebody left in them, for the GPU to write.
    let moved = create(&gpu, SegmentId::LocalVisible);
    fill(&gpu, moved, 0x1234);
    move_to(&gpu, moved, SegmentId::PcieUnsnoop);
    assert_words(&gpu, moved, 0x1234);
}

#[test]
fn pages_of_the_pool_go_back_as_others_map_them() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::PcieUnsnoop);
    assert_words(&gpu, bo, 0);
    gpu.mm.release(bo).unwrap();
    gpu.run();
    gpu.mm.reap();
    gpu.empty_pool();
    assert_nothing_was_early(&gpu.machine);
}

#[test]
fn pages_that_are_stored_one_by_one_go_back_as_others_map_them() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::PcieUnsnoop);
    fill(&gpu, bo, 5);
    move_to(&gpu, bo, SegmentId::System);
    let reservation = gpu.mm.reservation(bo).unwrap();
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        gpu.mm.swap_out(set, bo, &mut Managed::ctx())
    })
    .unwrap();
    gpu.empty_pool();
    assert_words(&gpu, bo, 5);
}

#[test]
fn the_managers_entries_are_in_memory_before_the_tlbs_are_told() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::PcieUnsnoop);
    // The CPU's access binds it, and a move away unbinds it.
    assert_words(&gpu, bo, 0);
    move_to(&gpu, bo, SegmentId::System);
    assert_nothing_was_early(&gpu.machine);
}

#[test]
fn a_process_that_begins_finds_its_tables_in_memory() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::LocalVisible);
    fill(&gpu, bo, 1);
    assert_words(&gpu, bo, 1);
}

/// For the second table of a mapping there is no room: the first is emptied already, and
/// nothing has been said of it to the TLBs.
#[test]
fn a_table_that_is_not_used_yet_is_in_memory_before_its_process_gets_a_process_id() {
    let tables = TablePages { all: 8, each: 3 };
    let gpu = Managed::with_tables(&config(), Options::default(), tables).unwrap();
    let bo = create(&gpu, SegmentId::LocalVisible);
    assert_words(&gpu, bo, 0);
    let process = Process::of(&gpu, bo, PAGES);
    let world = gpu.mm.world();
    let far = process.at.add(L1_SPAN);
    let mapped = world.map(&gpu.mm, process.space, far, PAGE, (bo, 0), &Managed::ctx());
    assert!(matches!(mapped, Err(Error::Limit { .. })), "{mapped:?}");
    process.fill(&gpu, PAGES, 1);
    gpu.run();
    assert_words(&gpu, bo, 1);
}

/// A program stores a word in some pages, of which each is in a line of its own.
fn stores(gpu: &Managed, bo: BoId, word: u32) {
    for page in [0, 3, PAGES - 1] {
        gpu.program_stores(bo, page, word).unwrap();
    }
}

#[track_caller]
fn assert_stored(gpu: &Managed, bo: BoId, word: u32) {
    let words = gpu.words(bo).unwrap();
    let last = words.len() - 1;
    assert_eq!(
        [words[0], words[1], words[3], words[last]],
        [word, 0, word, word]
    );
    assert_nothing_was_early(&gpu.machine);
}

#[test]
fn what_a_program_has_stored_goes_with_its_buffer_r_16_5() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::LocalVisible);
    let ways = [
        SegmentId::PcieUnsnoop,
        SegmentId::LocalVisible,
        SegmentId::System,
        SegmentId::LocalVisible,
    ];
    for (n, to) in (1..).zip(ways) {
        // It asks for no barrier itself, and does not know that anything moves.
        stores(&gpu, bo, n);
        move_to(&gpu, bo, to);
        assert_stored(&gpu, bo, n);
        stores(&gpu, bo, 10 * n);
        assert_stored(&gpu, bo, 10 * n);
    }
}

#[test]
fn what_a_program_has_stored_goes_to_the_store_with_its_buffer() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::System);
    let reservation = gpu.mm.reservation(bo).unwrap();
    stores(&gpu, bo, 1);
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        gpu.mm.swap_out(set, bo, &mut Managed::ctx())
    })
    .unwrap();
    gpu.empty_pool();
    assert_stored(&gpu, bo, 1);
    stores(&gpu, bo, 2);
    assert_stored(&gpu, bo, 2);
}

#[test]
fn what_a_program_has_stored_goes_nowhere_when_its_buffer_is_gone() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::PcieUnsnoop);
    stores(&gpu, bo, 1);
    gpu.mm.release(bo).unwrap();
    gpu.mm.reap();
    gpu.empty_pool();
    gpu.program_barrier();
    assert_nothing_was_early(&gpu.machine);
}

#[test]
fn what_a_program_has_stored_goes_nowhere_when_its_buffer_is_thrown_away() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::PcieUnsnoop);
    let reservation = gpu.mm.reservation(bo).unwrap();
    stores(&gpu, bo, 1);
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        gpu.mm.validate(set, bo, &[], &mut Managed::ctx())
    })
    .unwrap();
    gpu.empty_pool();
    gpu.program_barrier();
    assert_nothing_was_early(&gpu.machine);
}

#[test]
fn zeros_of_the_pool_are_in_memory_before_a_page_is_somebody_elses() {
    let gpu = managed();
    let place = [Place::anywhere(SegmentId::System, Flags::NONE)];
    let first = gpu.create(1, &place).unwrap();
    gpu.program_stores(first, 0, 6).unwrap();
    gpu.mm.release(first).unwrap();
    gpu.mm.reap();
    let second = gpu.create(1, &place).unwrap();
    assert_eq!(gpu.words(second).unwrap(), [0]);
    gpu.program_stores(second, 0, 7).unwrap();
    assert_eq!(gpu.words(second).unwrap(), [7]);
}

#[test]
fn a_program_does_not_reach_where_its_contents_were_lost() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::LocalVisible);
    stores(&gpu, bo, 1);
    gpu.run();
    gpu.lose_power();
    let world = gpu.mm.world();
    world.resume(&gpu.mm, LocalMemory::Lost).unwrap();
    assert_eq!(gpu.program_stores(bo, 0, 2), Err(Error::Lost));
}

#[test]
fn what_is_written_anew_is_in_memory_before_the_ring_runs_again() {
    let gpu = managed();
    let bo = create(&gpu, SegmentId::PcieUnsnoop);
    fill(&gpu, bo, 1);
    let before = gpu.machine.ram().violations().len();
    gpu.lose_power();
    let world = gpu.mm.world();
    world.resume(&gpu.mm, LocalMemory::Lost).unwrap();
    assert_eq!(gpu.machine.ram().violations()[before..], [""; 0]);
    fill(&gpu, bo, 2);
    assert_words(&gpu, bo, 2);
}
