//! Jobs whose accesses fail: their fences end in an error, nobody else's do,
//! and the ring goes on whatever the GPU does at a fault.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::Reg;
use e3k_regs::pte::L3Entry;
use presil_device::{Chip, Config, OnFault, VramOffset, Width};
use presil_tests::Guest;
use vidmm::{BoId, CreateFlags, Error};

const MIB: u64 = 1 << 20;
const BYTES: u64 = 65536;
const ALL: [OnFault; 3] = [OnFault::Report, OnFault::Halt, OnFault::Retry];

fn guest(on_fault: OnFault) -> Guest {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 64 * MIB, true).unwrap();
    config.mmu.on_fault = on_fault;
    Guest::new(&config).unwrap()
}

fn bo(guest: &mut Guest) -> BoId {
    let bo = guest.create(BYTES, CreateFlags::READBACK).unwrap();
    let fence = guest.adapter.fill(bo, 0, BYTES, 7).unwrap();
    assert_eq!(guest.wait(fence), Ok(()));
    bo
}

/// Somebody changes the entry of a BO's second page behind the driver's back.
/// Returns where, and what it was.
fn spoil(guest: &mut Guest, bo: BoId, entry: L3Entry) -> (VramOffset, u32) {
    let page = guest.adapter.describe(bo).unwrap().gpu_va.page() + 1;
    let tables = guest.report.reserved_vma.as_ref().unwrap().levels;
    let at = tables[1].gpu_phys.add(page * 4);
    let before = guest.machine.vram().load_u32(at).unwrap();
    put(guest, at, entry.into_bits());
    (at, before)
}

fn put(guest: &Guest, at: VramOffset, entry: u32) {
    guest.machine.vram().store_u32(at, entry).unwrap();
    guest.machine.gpu(|gpu| {
        gpu.write(Reg::PtInvMask.offset(), Width::B4, 0);
        for target in [0x40, 0x20] {
            gpu.write(Reg::PtInvTrig.offset(), Width::B4, target);
        }
    });
}

fn not_valid() -> L3Entry {
    L3Entry::new()
}

/// A page of RAM where there is no memory.
fn unanswered() -> L3Entry {
    let entry = L3Entry::new().with_valid(true).with_ns(true);
    entry.with_snoop(true).with_page(0x7)
}

#[test]
fn a_page_fault_ends_its_own_job_in_an_error_under_every_policy() {
    for on_fault in ALL {
        let mut guest = guest(on_fault);
        let (good, bad) = (bo(&mut guest), bo(&mut guest));
        let (entry, before) = spoil(&mut guest, bad, not_valid());
        let earlier = guest.adapter.fill(good, 0, BYTES, 1).unwrap();
        assert_eq!(guest.wait(earlier), Ok(()));
        let fence = guest.adapter.fill(bad, 0, BYTES, 2).unwrap();
        assert_eq!(guest.wait(fence), Err(Error::Io), "{on_fault:?}");
        let later = guest.adapter.fill(good, 0, BYTES, 3).unwrap();
        assert_eq!(guest.wait(later), Ok(()), "{on_fault:?}");
        assert_eq!(guest.read(good, BYTES - 4, 4).unwrap(), [3, 0, 0, 0]);
        // Asked again, after others.
        assert_eq!(guest.wait(fence), Err(Error::Io), "{on_fault:?}");
        assert_eq!(guest.wait(earlier), Ok(()), "{on_fault:?}");

        let counters = guest.timeline().counters();
        assert!(counters.page_faults > 0 && counters.bus_errors == 0);
        assert_eq!(guest.machine.slept_ns(), 0, "{on_fault:?}: no timeout");
        let va = guest.adapter.describe(bad).unwrap().gpu_va.add(4096);
        let line =
            format!("Error: GPU: page fault of blit destination at {va}, level 3, process id 0");
        assert_eq!(guest.machine.log_lines(), [line], "{on_fault:?}");
        let status = |guest: &Guest| {
            let at = Reg::MxuIntStatus.offset();
            guest.machine.gpu(|gpu| gpu.read(at, Width::B4))
        };
        assert_eq!(status(&guest), 0, "the registers are free for the next");
        put(&guest, entry, before);
        for bo in [good, bad] {
            guest.adapter.destroy(bo).unwrap();
        }
        assert_eq!(guest.unload().unwrap().ram().owned(), 0);
    }
}

#[test]
fn a_bus_error_ends_its_own_job_in_an_error_under_every_policy() {
    for on_fault in ALL {
        let mut guest = guest(on_fault);
        guest.machine.expect_reports_of(20003); // an entry is spoiled
        let (good, bad) = (bo(&mut guest), bo(&mut guest));
        let (entry, before) = spoil(&mut guest, bad, unanswered());
        let fence = guest.adapter.copy(good, 0, bad, 0, BYTES).unwrap();
        assert_eq!(guest.wait(fence), Err(Error::Io), "{on_fault:?}");
        let later = guest.adapter.fill(good, 0, BYTES, 3).unwrap();
        assert_eq!(guest.wait(later), Ok(()), "{on_fault:?}");
        let counters = guest.timeline().counters();
        assert!(counters.bus_errors > 0 && counters.page_faults == 0);
        assert_eq!(guest.machine.log_lines().len(), 1, "{on_fault:?}");
        put(&guest, entry, before);
        for bo in [good, bad] {
            guest.adapter.destroy(bo).unwrap();
        }
        assert_eq!(guest.unload().unwrap().ram().owned(), 0);
    }
}

#[test]
fn an_error_is_never_taken_for_success_by_who_queued_beside_it() {
    for on_fault in ALL {
        let mut guest = guest(on_fault);
        let (mine, others) = (bo(&mut guest), bo(&mut guest));
        let (entry, before) = spoil(&mut guest, others, not_valid());
        let fences: Vec<(bool, u64)> = (0..9)
            .map(|n| {
                let bad = n == 4;
                let bo = if bad { others } else { mine };
                (bad, guest.adapter.fill(bo, 0, BYTES, n).unwrap())
            })
            .collect();
        for (bad, fence) in &fences {
            let end = guest.wait(*fence);
            assert!(!bad || end == Err(Error::Io), "{on_fault:?}: {end:?}");
        }
        // Where the ring stands at the fault, everybody before it is told the truth.
        if on_fault != OnFault::Report {
            assert_eq!(guest.wait(fences[0].1), Ok(()), "{on_fault:?}");
        }
        put(&guest, entry, before);
        let after = guest.adapter.fill(mine, 0, BYTES, 1).unwrap();
        assert_eq!(guest.wait(after), Ok(()), "{on_fault:?}");
    }
}

#[test]
fn a_function_reset_changes_no_verdict() {
    for on_fault in ALL {
        let mut guest = guest(on_fault);
        let (good, bad) = (bo(&mut guest), bo(&mut guest));
        let (entry, before) = spoil(&mut guest, bad, not_valid());
        let fence = guest.adapter.fill(bad, 0, BYTES, 2).unwrap();
        assert_eq!(guest.wait(fence), Err(Error::Io));
        let fine = guest.adapter.fill(good, 0, BYTES, 3).unwrap();
        assert_eq!(guest.wait(fine), Ok(()));
        put(&guest, entry, before);
        let cut = guest.adapter.fill(good, 0, BYTES, 4).unwrap();
        guest.machine.gpu(presil_device::Gpu::reset);
        assert_eq!(guest.adapter.resume(), Ok(()));
        assert_eq!(guest.wait(fence), Err(Error::Io), "{on_fault:?}");
        assert_eq!(guest.wait(fine), Ok(()), "{on_fault:?}");
        assert_eq!(guest.wait(cut), Err(Error::Canceled), "{on_fault:?}");
    }
}

#[test]
fn a_ring_that_stands_at_a_fault_does_not_hold_up_a_suspend_or_the_drivers_end() {
    for on_fault in ALL {
        for suspend in [true, false] {
            let mut guest = guest(on_fault);
            let bad = bo(&mut guest);
            let (entry, before) = spoil(&mut guest, bad, not_valid());
            guest.adapter.fill(bad, 0, BYTES, 2).unwrap();
            if suspend {
                assert_eq!(guest.adapter.suspend(1_000_000_000), Ok(()));
            }
            let machine = guest.machine.clone();
            let tables = guest.report.reserved_vma.as_ref().unwrap().levels;
            assert!(tables[1].gpu_phys <= entry);
            put(&guest, entry, before);
            guest.adapter.destroy(bad).unwrap();
            assert_eq!(guest.unload().unwrap().ram().owned(), 0, "{on_fault:?}");
            assert_eq!(machine.slept_ns(), 0, "{on_fault:?}: no timeout");
        }
    }
}

#[test]
fn an_error_whose_interrupt_is_lost_is_found_by_who_waits() {
    for on_fault in ALL {
        let mut guest = guest(on_fault);
        let bad = bo(&mut guest);
        spoil(&mut guest, bad, not_valid());
        guest.machine.set_mute(true);
        let fence = guest.adapter.fill(bad, 0, BYTES, 2).unwrap();
        let minute = 60_000_000_000;
        assert_eq!(guest.adapter.drain(minute), Ok(()), "{on_fault:?}");
        assert_eq!(guest.adapter.judge(fence), Err(Error::Io), "{on_fault:?}");
    }
}

#[test]
fn faults_without_end_fill_no_log() {
    let mut guest = guest(OnFault::Report);
    let bad = bo(&mut guest);
    spoil(&mut guest, bad, not_valid());
    for _ in 0..300 {
        let fence = guest.adapter.fill(bad, 0, BYTES, 2).unwrap();
        assert_eq!(guest.wait(fence), Err(Error::Io));
    }
    assert_eq!(guest.machine.log_lines().len(), 1);
}
