//! Buffer objects: placing, first touch, giving back; and every platform call failing.

use super::fake::{Fake, VISIBLE_BYTES, VRAM_BYTES, WINDOW_AT};
use crate::{
    Adapter, BoId, Bus, Caching, CreateFlags, CreateRequest, Error, Frame, Options, Platform,
    SegmentId, Window,
};
use e3k_regs::Reg;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn create(a: &mut Adapter<Fake>, bytes: u64, flags: CreateFlags) -> Result<BoId, Error> {
    a.create(&CreateRequest {
        bytes,
        flags: flags.0,
        windows: &[],
    })
}

fn idle(fake: &Fake, a: &Adapter<Fake>) {
    fake.complete(a, a.timeline().submitted());
}

#[test]
fn a_bo_is_booked_before_anything_is_mapped_r_1_4() {
    let fake = Fake::new();
    let mut a = fake.start();
    let bo = create(&mut a, 3 * MIB + 1, CreateFlags::READBACK).unwrap();
    let d = a.describe(bo).unwrap();
    assert_eq!(
        (d.segment, d.start_page, d.pages),
        (SegmentId::PcieSnoop, 0, 769)
    );
    assert_eq!(
        (d.bytes, d.gpu_va.0, d.bus),
        (3 * MIB + 1, 1 << 32, Bus::Sys)
    );
    assert!(!d.populated && !d.bound && !d.pinned);
    assert_eq!(d.first_pte, a.gart.dummy_pte, "lazy: not bound (R-7.10)");
    assert_eq!(fake.live_pages(), 2, "and no pages");
    fake.check(&a);
}

#[test]
fn buffers_never_hold_more_than_half_of_ram_r_7_13() {
    let fake = Fake::new();
    fake.ram_bytes.set(4 * MIB);
    let mut a = fake.start();
    let [first, second] =
        [CreateFlags::READBACK, CreateFlags::UPLOAD].map(|f| create(&mut a, MIB, f).unwrap());
    a.fault(first, 0).unwrap();
    // The driver's own two pages count, too.
    assert_eq!(a.fault(second, 0), Err(Error::NoMemory));
    assert_eq!(a.fill(second, 0, 4, 1), Err(Error::NoMemory));
    assert_eq!(fake.live_pages(), 2 + 256);
    assert!(!a.describe(second).unwrap().populated);
    a.destroy(first).unwrap();
    a.fault(second, 0).unwrap();
    fake.check(&a);
}

#[test]
fn buffers_hold_half_of_ram_and_no_page_more_r_7_13() {
    let fake = Fake::new();
    fake.ram_bytes.set(4 * MIB);
    let mut a = fake.start();
    // With the driver's own two pages.
    let half = |a: &mut _, flags| {
        let bo = create(a, MIB - 4096, flags).unwrap();
        a.fault(bo, 0).unwrap();
        bo
    };
    half(&mut a, CreateFlags::READBACK);
    let one_more = create(&mut a, 4096, CreateFlags::READBACK).unwrap();
    // As often as it comes and goes.
    for _ in 0..3 {
        let other = half(&mut a, CreateFlags::UPLOAD);
        assert_eq!(a.fault(one_more, 0), Err(Error::NoMemory));
        a.destroy(other).unwrap();
    }
    a.fault(one_more, 0).unwrap();
    fake.check(&a);
}

#[test]
fn the_first_touch_populates_and_binds_then_finds_the_page_r_1_8() {
    let fake = Fake::new();
    let mut a = fake.start();
    for (flags, caching) in [
        (CreateFlags::READBACK, Caching::Cached),
        (CreateFlags::UPLOAD, Caching::WriteCombined),
    ] {
        let bo = create(&mut a, MIB, flags).unwrap();
        let frames: Vec<Frame> = (0..256).map(|page| a.fault(bo, page).unwrap()).collect();
        assert!(frames.iter().all(|f| !f.io && f.caching == caching));
        let pages = a.memory.bos.get(bo).unwrap().backing.pages().unwrap();
        let want: Vec<u64> = (0..256).map(|n| fake.frame(pages, n).unwrap()).collect();
        assert_eq!(frames.iter().map(|f| f.pfn).collect::<Vec<_>>(), want);
        let d = a.describe(bo).unwrap();
        assert!(d.populated && d.bound && d.first_pte != a.gart.dummy_pte);
        assert_eq!(a.fault(bo, 256), Err(Error::Fault), "beyond the end");
        fake.check(&a);
    }
}

#[test]
fn local_memory_is_cleared_before_the_cpu_sees_it_r_7_8() {
    let fake = Fake::new();
    let mut a = fake.start();
    let bo = create(&mut a, MIB, CreateFlags::GPU_MOSTLY).unwrap();
    assert_eq!(a.ready_fence(bo), Some(1));
    assert_eq!(a.fault(bo, 3), Err(Error::Busy));
    fake.complete(&a, 1);
    assert_eq!(a.ready_fence(bo), None);
    let frame = a.fault(bo, 3).unwrap();
    assert_eq!(frame.pfn, WINDOW_AT / 4096 + 3);
    assert!(frame.io && frame.caching == Caching::WriteCombined, "R-1.7");
}

#[test]
fn a_size_is_whole_pages_before_anything_is_booked_r_1_1() {
    let fake = Fake::new();
    let mut a = fake.start();
    for (bytes, pages) in [(1, 1), (4096, 1), (4097, 2)] {
        let before = a.segments()[2].usage;
        create(&mut a, bytes, CreateFlags::READBACK).unwrap();
        assert_eq!(a.segments()[2].usage - before, pages * 4096, "{bytes}");
    }
}

#[test]
fn the_gpu_may_be_first_and_finds_pages_r_1_9() {
    let fake = Fake::new();
    let mut a = fake.start();
    let bo = create(&mut a, MIB, CreateFlags::READBACK).unwrap();
    a.fill(bo, 0, 4, 1).unwrap();
    let d = a.describe(bo).unwrap();
    assert!(d.populated && d.bound && d.first_pte != a.gart.dummy_pte);
    fake.check(&a);
}

#[test]
fn an_unbind_leads_nowhere_and_the_tlbs_know_before_pages_go_r_16_2() {
    let fake = Fake::new();
    let mut a = fake.start();
    let told = |fake: &Fake| {
        let writes = fake.writes.borrow();
        let triggers = writes
            .iter()
            .filter(|(at, _)| *at == Reg::PtInvTrig.offset());
        triggers.count()
    };
    let bo = create(&mut a, MIB, CreateFlags::READBACK).unwrap();
    a.fault(bo, 0).unwrap();
    let before = told(&fake);
    // The machine panics at a register access before the barrier.
    a.destroy(bo).unwrap();
    assert!(told(&fake) > before);
    assert_eq!(fake.live_pages(), 2);
    let next = create(&mut a, MIB, CreateFlags::READBACK).unwrap();
    assert_eq!(a.describe(next).unwrap().first_pte, a.gart.dummy_pte);

    a.fault(next, 0).unwrap();
    fake.fail_call(1);
    _ = a.destroy(next);
    assert!(fake.has_failed(), "the TLBs may still lead there");
    assert_eq!(fake.live_pages(), 2 + 256);
}

#[test]
fn a_bind_that_fails_half_way_leads_nowhere_r_16_4() {
    let fake = Fake::new();
    let mut a = fake.start();
    let bo = create(&mut a, MIB, CreateFlags::READBACK).unwrap();
    // The pages, then the bus address of each.
    fake.fail_call(100);
    assert_eq!(a.fault(bo, 0), Err(Error::Fault));
    let d = a.describe(bo).unwrap();
    assert_eq!((d.bound, d.first_pte), (false, a.gart.dummy_pte));
    fake.check(&a);
    a.fault(bo, 0).unwrap();
    fake.check(&a);
}

#[test]
fn memory_without_a_cpu_window_cannot_be_touched_by_the_cpu() {
    let fake = Fake::new();
    let mut a = fake.start();
    let bo = create(&mut a, MIB, CreateFlags::GPU_ONLY).unwrap();
    idle(&fake, &a);
    assert_eq!(a.describe(bo).unwrap().segment, SegmentId::LocalInvisible);
    assert_eq!(a.fault(bo, 0), Err(Error::Fault));
}

#[test]
fn a_full_segment_passes_the_request_on_in_the_order_of_the_policy_r_1_3() {
    let fake = Fake::new();
    let mut a = fake.start();
    let mut place = |flags, bytes| {
        let bo = create(&mut a, bytes, flags)?;
        idle(&fake, &a);
        a.describe(bo).map(|d| d.segment)
    };
    let invisible = VRAM_BYTES - VISIBLE_BYTES;
    assert_eq!(
        place(CreateFlags::GPU_MOSTLY, 7 * MIB),
        Ok(SegmentId::LocalVisible)
    );
    assert_eq!(
        place(CreateFlags::GPU_MOSTLY, 7 * MIB),
        Ok(SegmentId::LocalInvisible),
        "DESIRED comes before FALLBACK"
    );
    assert_eq!(
        place(CreateFlags::GPU_ONLY, invisible - 7 * MIB),
        Ok(SegmentId::LocalInvisible)
    );
    assert_eq!(
        place(CreateFlags::GPU_ONLY, 8 * MIB),
        Ok(SegmentId::PcieUnsnoop)
    );
    assert_eq!(
        place(CreateFlags::GPU_ONLY, MIB / 2),
        Ok(SegmentId::LocalVisible)
    );
    assert_eq!(place(CreateFlags::UPLOAD, MIB), Err(Error::NoMemory));
    assert_eq!(place(CreateFlags::READBACK, 9 * MIB), Err(Error::NoMemory));
    fake.check(&a);
}

#[test]
fn a_request_larger_than_anything_is_refused_r_5_6() {
    let fake = Fake::new();
    let mut a = fake.start();
    for bytes in [VRAM_BYTES + 1, 1 << 63, u64::MAX] {
        for flags in [CreateFlags::GPU_ONLY, CreateFlags::READBACK] {
            assert_eq!(create(&mut a, bytes, flags), Err(Error::NoMemory));
        }
    }
    assert_eq!(
        create(&mut a, 0, CreateFlags::READBACK),
        Err(Error::Invalid)
    );
    let hostile = [(5, 5), (9, 3), (0, u64::MAX), (u64::MAX, 0), (4096, 4097)];
    for (first_page, last_page) in hostile {
        let window = Window {
            first_page,
            last_page,
        };
        let request = CreateRequest {
            bytes: 4096,
            flags: CreateFlags::GPU_MOSTLY.0,
            windows: &[window],
        };
        assert_eq!(a.create(&request), Err(Error::NoMemory), "{window:?}");
    }
    fake.check(&a);
}

#[test]
fn an_idle_bo_is_freed_before_destroy_returns_r_17_4() {
    let fake = Fake::new();
    let mut a = fake.start();
    let before = a.segments();
    let bo = create(&mut a, MIB, CreateFlags::UPLOAD).unwrap();
    a.fault(bo, 0).unwrap();
    assert_eq!(fake.live_pages(), 2 + 256);
    a.destroy(bo).unwrap();
    assert_eq!(a.segments(), before);
    assert_eq!(fake.live_pages(), 2);
    assert_eq!(a.destroy(bo), Err(Error::NotFound));
    fake.check(&a);
}

#[test]
fn a_busy_bo_is_a_zombie_until_its_fence_is_done() {
    let fake = Fake::new();
    let mut a = fake.start();
    let before = a.segments();
    let bo = create(&mut a, MIB, CreateFlags::READBACK).unwrap();
    let fence = a.fill(bo, 0, MIB, 7).unwrap();
    a.destroy(bo).unwrap();
    assert_eq!(a.describe(bo), Err(Error::NotFound));
    assert_eq!(a.fault(bo, 0), Err(Error::NotFound));
    assert_eq!(fake.live_pages(), 2 + 256, "the GPU may still write there");
    a.reap();
    assert_eq!(
        a.segments()[2].usage,
        4096 + MIB,
        "a zombie's memory counts (R-5.10)"
    );
    fake.check(&a);
    fake.complete(&a, fence);
    a.reap();
    assert_eq!(a.segments(), before);
    assert_eq!(fake.live_pages(), 2);
    fake.check(&a);
}

#[test]
fn kernel_objects_cannot_be_named_by_users() {
    let fake = Fake::new();
    let mut a = fake.start();
    let kernel: Vec<BoId> = a.memory.bos.iter().map(|(id, _)| id).collect();
    assert_eq!(kernel.len(), 4, "tables, dummy page, ring, fences");
    for id in kernel {
        assert_eq!(a.destroy(id), Err(Error::NotFound));
        assert_eq!(a.fill(id, 0, 4, 0), Err(Error::NotFound));
        assert_eq!(a.fault(id, 0), Err(Error::NotFound));
        assert_eq!(a.describe(id), Err(Error::NotFound));
    }
}

#[test]
fn ranges_that_a_packet_cannot_name_are_refused() {
    let fake = Fake::new();
    let mut a = fake.start();
    let bo = create(&mut a, 8192, CreateFlags::READBACK).unwrap();
    let bad = [
        (0, 0),
        (0, 3),
        (4, 4),
        (128, 4),
        (0, 8196),
        (8192, 4),
        (256, 8192),
        (u64::MAX - 255, 256),
        (256, u64::MAX - 3),
    ];
    for (offset, bytes) in bad {
        assert_eq!(
            a.fill(bo, offset, bytes, 1),
            Err(Error::Invalid),
            "{offset} {bytes}"
        );
        assert_eq!(a.copy(bo, offset, bo, 0, bytes), Err(Error::Invalid));
        assert_eq!(a.copy(bo, 0, bo, offset, bytes), Err(Error::Invalid));
    }
    for (to, from, bytes) in [(0, 0, 4), (256, 0, 512), (0, 256, 512), (256, 0, 260)] {
        let overlap = a.copy(bo, to, bo, from, bytes);
        assert_eq!(overlap, Err(Error::Invalid), "{to} {from} {bytes}");
    }
    assert!(
        !a.describe(bo).unwrap().populated,
        "a refused job makes nothing resident"
    );
    assert_eq!(a.copy(bo, 0, bo, 4096, 4096), Ok(1));
    assert_eq!(a.fill(bo, 256, 8192 - 256, 1), Ok(2));
}

#[test]
fn a_bo_still_in_use_at_the_end_is_reported_and_its_pages_are_not_freed_r_4_5() {
    let fake = Fake::new();
    let mut a = fake.start();
    let bo = create(&mut a, MIB, CreateFlags::READBACK).unwrap();
    a.fault(bo, 0).unwrap();
    let left = a.fini().unwrap_err();
    assert_eq!((left.bos, left.pages, left.idle), (1, 256, true));
    assert_eq!(fake.live_pages(), 256);
}

/// A day in the life: touches every public call that can fail.
fn scenario(
    fake: &Fake,
    a: &mut Adapter<Fake>,
    step: usize,
    bos: &mut Vec<BoId>,
) -> Result<bool, Error> {
    match step {
        0 => bos.push(create(a, 64 << 10, CreateFlags::READBACK)?),
        1 => bos.push(create(a, 64 << 10, CreateFlags::UPLOAD)?),
        2 => bos.push(create(a, 64 << 10, CreateFlags::GPU_MOSTLY)?),
        3 => _ = a.fault(bos[0], 3)?,
        4 => _ = a.fill(bos[1], 0, 65536, 9)?,
        5 | 7 => idle(fake, a),
        6 => _ = a.copy(bos[2], 0, bos[0], 256, 4096)?,
        8 => a.destroy(bos[0])?,
        9 => a.destroy(bos[1])?,
        10 => a.destroy(bos[2])?,
        _ => return Ok(false),
    }
    Ok(true)
}

#[test]
fn every_platform_call_may_fail_and_leaves_the_invariants_true() {
    let mut failures = 0;
    for call in 1.. {
        let fake = Fake::new();
        let mut a = fake.start();
        let mut bos = Vec::new();
        fake.fail_call(call);
        let mut step = 0;
        loop {
            let segments = a.segments();
            let had_failed = fake.has_failed();
            let result = scenario(&fake, &mut a, step, &mut bos);
            fake.check(&a);
            match result {
                Ok(true) => step += 1,
                // After a failing doorbell nothing more can be said.
                Ok(false) | Err(Error::Lost) => break,
                Err(error) => {
                    assert!(
                        fake.has_failed() && !had_failed,
                        "call {call}, step {step}: {error}"
                    );
                    assert_eq!(a.segments(), segments, "call {call}, step {step}");
                }
            }
        }
        if !fake.has_failed() {
            break;
        }
        failures += 1;
        a.reap();
        for bo in bos {
            _ = a.destroy(bo);
        }
        assert_eq!(a.fini(), Ok(()), "call {call}");
        assert_eq!(fake.live_pages(), 0, "call {call}");
    }
    assert!(failures > 40, "{failures}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_calls_leaves_the_invariants_true(
        ops in prop::collection::vec((0u8..7, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1u64..2_000_000), 1..60),
        fail in prop::option::of(1u64..120),
    ) {
        let fake = Fake::new();
        let mut a = fake.start();
        let before = a.segments();
        let mut bos = Vec::new();
        if let Some(call) = fail {
            fake.fail_call(call);
        }
        for (op, x, y, size) in ops {
            let flags = [CreateFlags::GPU_ONLY, CreateFlags::GPU_MOSTLY, CreateFlags::UPLOAD, CreateFlags::READBACK];
            if bos.is_empty() || op == 0 {
                bos.extend(create(&mut a, size, flags[x.index(4)]));
                continue;
            }
            let (one, two) = (bos[x.index(bos.len())], bos[y.index(bos.len())]);
            match op {
                1 => _ = a.fault(one, size / 4096),
                2 => _ = a.fill(one, 0, size & !3, 1),
                3 => _ = a.copy(one, 0, two, 256, size & !3),
                4 => idle(&fake, &a),
                5 => {
                    bos.retain(|bo| *bo != one);
                    a.destroy(one).unwrap();
                }
                _ => a.reap(),
            }
        }
        fake.check(&a);
        fake.fail_at.set(None);
        for bo in bos {
            a.destroy(bo).unwrap();
        }
        idle(&fake, &a);
        a.reap();
        if !a.timeline().is_lost() {
            a.reap();
            prop_assert_eq!(a.segments(), before);
        }
        fake.check(&a);
        prop_assert_eq!(a.fini(), Ok(()));
        prop_assert_eq!(fake.live_pages(), 0);
    }
}

#[test]
fn default_options_are_two_gibibytes_each() {
    let options = Options::default();
    assert_eq!(
        (options.snoop_bytes, options.unsnoop_bytes),
        (2 << 30, 2 << 30)
    );
}
