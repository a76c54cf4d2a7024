//! Ring 0 on the model: load, wrap, lost interrupts, a ring that gives up.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::fields::RingWord;
use e3k_regs::packet::{CspCommand, Writer};
use e3k_regs::{GpuVa, Reg, VramOffset};
use presil_device::{Chip, Config, Width};
use presil_tests::Guest;
use vidmm::{BoId, CreateFlags, Error};

const MIB: u64 = 1 << 20;

fn guest() -> Guest {
    let config = Config::new(Chip::Arise10c0, 256 * MIB, 64 * MIB, true).unwrap();
    Guest::new(&config).unwrap()
}

fn bo(guest: &mut Guest) -> BoId {
    guest.create(65536, CreateFlags::READBACK).unwrap()
}

#[test]
fn a_full_ring_says_busy_and_takes_work_again_once_the_gpu_has_read_it() {
    let mut guest = guest();
    let bo = bo(&mut guest);
    let mut newest = 0;
    let error = loop {
        match guest.adapter.fill(bo, 0, 4, 1) {
            Ok(fence) => newest = fence,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Busy);
    assert!(newest > 1000);
    // What the kernel module does: wait without the lock, try again.
    guest.wait(guest.timeline().completed() + 1).unwrap();
    assert!(guest.adapter.fill(bo, 0, 4, 1).is_ok());
    guest.machine.run();
    assert_eq!(guest.timeline().completed(), newest + 1);
}

#[test]
fn the_ring_wraps_without_splitting_a_packet() {
    let mut guest = guest();
    let bo = bo(&mut guest);
    for n in 0..6000u32 {
        let fence = match n % 3 {
            0 => guest.adapter.copy(bo, 0, bo, 32768, 32768),
            _ => guest.adapter.fill(bo, u64::from(n % 64) * 256, 256, n),
        };
        guest.wait(fence.unwrap()).unwrap();
    }
    let counters = guest.machine.gpu(|gpu| gpu.counters());
    assert_eq!((counters.ring_errors, counters.faults), (0, 0));
    assert_eq!(guest.timeline().counters().fallbacks, 0);
}

#[test]
fn interrupts_that_get_lost_cost_time_and_are_counted() {
    let mut guest = guest();
    let bo = bo(&mut guest);
    guest.machine.set_deaf(true);
    let fence = guest.adapter.fill(bo, 0, 4, 1).unwrap();
    guest.wait(fence).unwrap();
    let c = guest.timeline().counters();
    assert_eq!((c.completed, c.fallbacks, c.interrupts), (fence, 1, 0));
    assert!(guest.machine.slept_ns() > 0);
}

#[test]
fn memory_in_use_outlives_its_handle_until_the_fence_is_done() {
    let mut guest = guest();
    let before = guest.adapter.segments();
    let (src, dst) = (bo(&mut guest), bo(&mut guest));
    let owned = guest.machine.ram().owned();
    guest.adapter.copy(dst, 0, src, 0, 65536).unwrap();
    guest.adapter.destroy(src).unwrap();
    guest.adapter.destroy(dst).unwrap();
    assert_eq!(guest.machine.ram().owned(), owned + 32);
    guest.machine.run();
    guest.adapter.reap();
    assert_eq!(guest.machine.ram().owned(), owned);
    assert_eq!(guest.adapter.segments(), before);
    assert_eq!(guest.machine.ram().violations(), Vec::<String>::new());
}

#[test]
fn fini_waits_for_the_ring_and_then_gives_everything_back() {
    let mut guest = guest();
    let bo = bo(&mut guest);
    for _ in 0..100 {
        guest.adapter.fill(bo, 0, 65536, 9).unwrap();
    }
    guest.adapter.destroy(bo).unwrap();
    let machine = guest.unload().unwrap();
    assert_eq!(machine.ram().owned(), 0);
    assert_eq!(machine.ram().violations(), Vec::<String>::new());
}

#[test]
fn a_ring_that_gave_up_costs_its_job_and_what_stood_behind_it_and_goes_on() {
    let mut guest = guest();
    let bo = bo(&mut guest);
    let fresh = guest.create(65536, CreateFlags::GPU_MOSTLY).unwrap();
    let ready = guest.adapter.ready_fence(fresh).unwrap();
    guest.wait(ready).unwrap();
    let at = ring_tail(&guest);
    let fence = guest.adapter.fill(bo, 0, 4, 1).unwrap();
    let behind = guest.adapter.fill(bo, 0, 4, 2).unwrap();
    let unclear = guest.create(65536, CreateFlags::GPU_MOSTLY).unwrap();
    // Somebody scribbles over the ring before the GPU reads it.
    guest.machine.vram().store_u32(at, 0x7000_0000).unwrap();
    guest.machine.run();
    assert_eq!(guest.adapter.fill(bo, 0, 4, 3), Err(Error::Busy));
    assert_eq!(guest.wait(fence), Err(Error::Io));
    assert_eq!(guest.wait(behind), Err(Error::Canceled));
    assert_eq!(guest.wait(ready), Ok(()), "long done");
    assert_eq!(guest.machine.slept_ns(), 0, "no timeout was needed");
    assert_eq!(guest.timeline().counters().hangs, 1);
    assert_eq!(guest.machine.log_lines().len(), 1);
    let after = guest.adapter.fill(bo, 0, 4, 4).unwrap();
    assert_eq!(guest.wait(after), Ok(()));
    assert_eq!(guest.read(bo, 0, 4).unwrap(), [4, 0, 0, 0]);
    let shown = guest.read(unclear, 0, 65536).unwrap();
    assert!(shown.iter().all(|byte| *byte == 0), "cleared after all");
    guest.adapter.destroy(fresh).unwrap();
    guest.adapter.destroy(unclear).unwrap();
    guest.adapter.destroy(bo).unwrap();
    assert_eq!(guest.machine.ram().owned(), 2);
    assert_eq!(guest.unload().unwrap().ram().owned(), 0);
}

#[test]
fn a_gpu_that_is_lost_fails_fast_and_keeps_what_it_may_reach_until_an_engine_reset() {
    let mut guest = guest();
    let bo = bo(&mut guest);
    let fence = guest.adapter.fill(bo, 0, 4, 1).unwrap();
    guest.machine.fail_call(Some(1));
    assert_eq!(guest.adapter.fill(bo, 0, 4, 1), Err(Error::Lost));
    guest.machine.fail_call(None);
    guest.machine.set_deaf(true);
    assert_eq!(guest.timeline().wait(fence, 1), Err(Error::Lost));
    assert_eq!(
        guest.create(4096, CreateFlags::GPU_MOSTLY),
        Err(Error::Lost)
    );
    guest.adapter.destroy(bo).unwrap();
    assert_eq!(
        guest.machine.ram().owned(),
        2 + 16,
        "kept while the GPU may reach it"
    );
    let machine = guest.unload().unwrap();
    assert_eq!(machine.ram().owned(), 0);
    // And the next driver works.
    let mut guest = Guest::load(machine).unwrap();
    let bo = guest.create(4096, CreateFlags::READBACK).unwrap();
    let fence = guest.adapter.fill(bo, 0, 4096, 0x4242_4242).unwrap();
    guest.wait(fence).unwrap();
    assert_eq!(guest.read(bo, 0, 4096).unwrap(), [0x42; 4096]);
}

#[test]
fn a_page_fault_is_counted_and_the_ring_goes_on() {
    let mut guest = guest();
    let bo = guest.create(65536, CreateFlags::GPU_MOSTLY).unwrap();
    guest.machine.run();
    // Somebody invalidates the PTE of the BO's second page behind the driver's back.
    let tables = guest.report.reserved_vma.as_ref().unwrap().levels;
    let page = guest.adapter.describe(bo).unwrap().start_page + 1;
    let entry = tables[1].gpu_phys.add(page * 4);
    guest.machine.vram().store_u32(entry, 0).unwrap();
    guest.machine.gpu(|gpu| {
        gpu.write(Reg::PtInvMask.offset(), Width::B4, 0);
        gpu.write(Reg::PtInvTrig.offset(), Width::B4, 0x40);
    });
    let fence = guest.adapter.fill(bo, 0, 65536, 3).unwrap();
    assert_eq!(guest.wait(fence), Err(Error::Io));
    assert!(guest.timeline().counters().page_faults > 0);
    let fault = guest
        .machine
        .gpu(|gpu| gpu.faults().next().cloned())
        .unwrap();
    assert_eq!(GpuVa(fault.va.0 & !0xfff), GpuVa(page * 4096));
}

/// Where the driver writes its next job.
fn ring_tail(guest: &Guest) -> VramOffset {
    let tail_at = RingWord::Tail.offset(0);
    let tail = guest.machine.gpu(|gpu| gpu.read(tail_at, Width::B4));
    VramOffset(guest.report.submission.unwrap().ring.0 + tail)
}

/// A job that the driver never submitted: fills four bytes at `va`, by writing
/// into the ring behind the driver's back. The driver cannot be used afterwards.
fn stray_fill(guest: &Guest, va: GpuVa, pattern: u32) {
    let mut packet = [0; 64];
    let mut writer = Writer::new(&mut packet);
    writer.indicator(CspCommand::INFO_3D, 0);
    writer.surface(0, va, 1, 1);
    writer.clear(1, 1, pattern);
    writer.indicator(CspCommand::INFO_OFF, 0);
    let ring = guest.report.submission.unwrap().ring;
    let tail_at = RingWord::Tail.offset(0);
    let tail = guest.machine.gpu(|gpu| gpu.read(tail_at, Width::B4));
    for (n, dword) in (0..).zip(packet) {
        let at = VramOffset(ring.0 + tail + n * 4);
        guest.machine.vram().store_u32(at, dword).unwrap();
    }
    guest
        .machine
        .gpu(|gpu| gpu.write(tail_at, Width::B4, tail + 256));
    guest.machine.run();
}

#[test]
fn a_stray_job_on_a_dead_bos_address_hits_the_dummy_page_r_7_7() {
    let mut guest = guest();
    let dead = bo(&mut guest);
    let va = guest.adapter.describe(dead).unwrap().gpu_va;
    // The GPU uses the address, so its TLB knows the page.
    let fence = guest.adapter.fill(dead, 0, 65536, 1).unwrap();
    guest.wait(fence).unwrap();
    guest.adapter.destroy(dead).unwrap();
    let fills = guest.machine.gpu(|gpu| gpu.counters()).fills;
    stray_fill(&guest, va, 0x0BAD_0BAD);
    let counters = guest.machine.gpu(|gpu| gpu.counters());
    assert_eq!((counters.fills, counters.faults), (fills + 1, 0));
    assert_eq!(
        guest.machine.ram().violations(),
        Vec::<String>::new(),
        "pages were given back only after the TLB forgot them"
    );
}
