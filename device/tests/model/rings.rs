//! A ring's registers, fences, and what stops and restarts it (hardware
//! reference 9.1, 10.1, 10.4).

use crate::rig::{
    ADVANCED_RAW, BIU_RAW, BUFFERS_AT, CSP_TIMEOUT, ENGINE_RESET, FENCE, HEAD, KICKOFF, PAGE_FAULT,
    RING_ADDRESS, RING_AT, RING_BYTES, RING_SIZE, Rig, SURFACES_AT, TAIL, TOP_BUSY, copy, fill,
    noise, push_all,
};
use crate::tables::{snooped, unsnooped, vram};
use presil_device::{CspErrorKind, FaultCause, GpuVa, Progress, UnmetWait};

const FENCE_AT: u64 = BUFFERS_AT;

#[test]
fn tail_reads_back_at_once_and_head_follows_when_the_engine_runs() {
    let mut rig = Rig::new();
    rig.queue(|w| w.fence(GpuVa(FENCE_AT), 1, false));
    assert_eq!((rig.reg(HEAD), rig.reg(TAIL)), (0, 20));
    assert!(rig.gpu.has_work());
    rig.run();
    assert_eq!((rig.reg(HEAD), rig.reg(TAIL)), (20, 20));
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
}

#[test]
fn nothing_runs_before_the_kick_off() {
    let mut rig = Rig::new();
    rig.set(RING_ADDRESS, u32::try_from(RING_AT >> 12).unwrap());
    rig.queue(|w| w.fence(GpuVa(FENCE_AT), 1, false));
    assert_eq!(rig.gpu.step(u32::MAX), Progress::Idle);
    assert_eq!((rig.reg(HEAD), rig.load_u64(vram(FENCE_AT))), (0, 0));
    rig.set(
        RING_ADDRESS,
        u32::try_from(RING_AT >> 12).unwrap() | KICKOFF,
    );
    rig.run();
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
}

#[test]
fn a_fence_is_in_memory_before_its_interrupt() {
    let mut rig = Rig::in_va_mode();
    rig.page(snooped(0x7000));
    rig.map(0, 0x9000, snooped(0x7000));
    rig.line.watch(&rig.ram, 0x7010);
    rig.enable_interrupts();
    for value in [1, u64::MAX, 0x1234_5678_9abc_def0] {
        rig.submit(|w| w.fence(GpuVa(0x9010), value, true));
        assert_eq!(rig.reg(ADVANCED_RAW), FENCE);
        rig.gpu.latch_interrupts();
    }
    assert_eq!(rig.line.seen(), [1, u64::MAX, 0x1234_5678_9abc_def0]);
    assert_eq!(rig.gpu.counters().fences, 3);
    rig.assert_clean();
}

#[test]
fn the_last_fences_are_told_with_their_place_and_are_not_saved() {
    let mut rig = Rig::in_va_mode();
    let page = rig.page(snooped(0x7000));
    rig.map(0, 0x9000, page);
    rig.gpu.set_clock(123);
    rig.submit(|w| {
        w.fence(GpuVa(0x9010), 0x1_2345_6789, true);
        // The 32-bit fence, which ORs.
        push_all(w, &[8 << 28 | 1 << 13 | 2 << 5 | 3, 0x9010, 0, 0xF0]);
        w.fence(GpuVa(1 << 33), 1, false); // a fault, no fence
    });
    let told: Vec<_> = rig.gpu.fences().copied().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0].target.to_string(), format!("{}", snooped(0x7010)));
    let facts = |n: usize| (told[n].va, told[n].value, told[n].bytes, told[n].interrupt);
    assert_eq!(facts(0), (0x9010, 0x1_2345_6789, 8, true));
    assert_eq!(facts(1), (0x9010, 0x2345_67F9, 4, false));
    assert_eq!(
        (told[0].ring, told[0].ring_offset, told[0].time),
        (0, 0, 123)
    );
    assert_eq!(told[1].ring_offset, 20);
    let saved = |rig: &Rig| {
        let mut state = vec![];
        rig.gpu.save(&mut state).unwrap();
        state
    };
    let state = saved(&rig);
    let again = rig.restored(&state).unwrap();
    assert_eq!(again.gpu.fences().count(), 0);
    assert_eq!(saved(&again), state);
}

#[test]
fn only_the_last_64_fences_are_kept() {
    let mut rig = Rig::new();
    for value in 0..100 {
        rig.submit(|w| w.fence(GpuVa(FENCE_AT), value, false));
        let values: Vec<_> = rig.gpu.fences().map(|fence| fence.value).collect();
        let first = (value + 1).saturating_sub(64);
        assert_eq!(values, (first..=value).collect::<Vec<_>>());
    }
}

#[test]
fn a_fence_comes_after_the_copy_before_it() {
    let mut rig = Rig::in_va_mode();
    rig.page(unsnooped(0x7000));
    rig.page(unsnooped(0x8000));
    for (va, to) in [
        (0x9000, unsnooped(0x7000)),
        (0xA000, vram(SURFACES_AT)),
        (0xB000, unsnooped(0x8000)),
    ] {
        rig.map(0, va, to);
    }
    rig.ram.take_touches();
    rig.submit(|w| {
        copy(w, 0xA000, 0x9000, 1024, 1);
        w.fence(GpuVa(0xB000), 7, true);
    });
    let writes: Vec<_> = rig
        .ram
        .take_touches()
        .iter()
        .map(|touch| (touch.at, touch.bytes))
        .collect();
    assert_eq!(writes, [(0x7000, 4096), (0x8000, 8)]);
}

#[test]
fn the_six_fences_of_a_submission_are_written_in_their_order() {
    let mut rig = Rig::in_va_mode();
    for n in 0..3 {
        rig.page(unsnooped(0x10_0000 + n * 4096));
        rig.map(0, 0x9000 + n * 4096, unsnooped(0x10_0000 + n * 4096));
    }
    rig.ram.take_touches();
    let slots = [0x9000, 0x9008, 0xA000, 0xA008, 0xB000, 0xB008];
    rig.submit(|w| {
        for (n, at) in slots.iter().enumerate() {
            w.fence(GpuVa(*at), 42, n < 2);
        }
    });
    let order: Vec<_> = rig
        .ram
        .take_touches()
        .iter()
        .map(|touch| touch.at)
        .collect();
    assert_eq!(order, slots.map(|at| at - 0x9000 + 0x10_0000));
}

#[test]
fn a_fence_without_its_flag_and_a_fence_for_the_gpu_do_not_interrupt_the_cpu() {
    let mut rig = Rig::new();
    rig.submit(|w| w.fence(GpuVa(FENCE_AT), 1, false));
    rig.submit(|w| {
        // Irq 2, type 3, 4 payload dwords.
        push_all(w, &[0x8000_0000 | 3 << 5 | 2 << 3 | 4, 0x20_0000, 0, 2, 0]);
    });
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 2);
    assert_eq!(rig.reg(ADVANCED_RAW), 0);
}

#[test]
fn an_internal_fence_can_interrupt_and_every_wait_passes() {
    let mut rig = Rig::new();
    rig.submit(|w| {
        // Internal fence: type 0, slot 9, one payload dword; then a wait for it
        // and one that nothing satisfies.
        push_all(
            w,
            &[
                0x8000_0000 | 9 << 7 | 1 << 3 | 1,
                0x0001_0031,
                0x2240_0031,
                0x2240_ffff,
            ],
        );
    });
    assert_eq!(rig.reg(ADVANCED_RAW), FENCE);
    let counters = rig.gpu.counters();
    assert_eq!((counters.waits, counters.unmet_waits), (2, 1));
    let waits: Vec<_> = rig.gpu.unmet_waits().cloned().collect();
    assert_eq!(
        waits,
        [UnmetWait {
            ring: 0,
            offset: 12,
            slot: 9,
            value: 0xffff,
            equal: false,
            counter: 0x31
        }]
    );
    rig.assert_clean();
}

#[test]
fn a_fence_to_an_unmapped_page_is_a_fault_and_the_ring_goes_on() {
    let mut rig = Rig::in_va_mode();
    rig.submit(|w| {
        w.fence(GpuVa(0xdead_0000), 1, false);
        w.fence(GpuVa(RING_AT + 0x8000), 2, false);
    });
    assert_eq!(rig.reg(BIU_RAW), PAGE_FAULT);
    assert_eq!(rig.load_u64(vram(RING_AT + 0x8000)), 2);
    assert_eq!(
        (rig.gpu.counters().fences, rig.gpu.counters().ring_errors),
        (1, 0)
    );
}

#[test]
fn a_fence_that_is_not_aligned_or_not_known_halts() {
    for (header, address) in [
        (0x8000_0064, 0x20_0004_u32), // external 64-bit, no multiple of 8
        (0x8000_0043, 0x20_0002),     // external 32-bit, no multiple of 4
        (0x8000_0042, 0x20_0000),     // external 32-bit, too few dwords
        (0x8000_0024, 0x20_0000),     // type 1
        (0x8000_0063, 0x20_0000),     // too few dwords for its type
    ] {
        let mut rig = Rig::new();
        rig.submit(|w| {
            push_all(w, &[header, address, 0, 1, 0, 0, 0, 0]);
        });
        assert_eq!(rig.errors().len(), 1, "{header:#x}");
        assert_eq!(rig.load_u64(vram(FENCE_AT)), 0, "{header:#x}");
    }
}

#[test]
fn head_runs_over_the_zeros_at_the_end_of_the_ring_and_wraps() {
    let mut rig = Rig::new();
    let mut wraps = 0;
    let mut last = 0;
    for value in 1..=3000_u64 {
        rig.submit(|w| {
            w.fence(GpuVa(FENCE_AT), value, false);
            w.pad_to(16);
            w.push(0);
        });
        assert_eq!(rig.load_u64(vram(FENCE_AT)), value);
        let head = rig.reg(HEAD);
        assert_eq!(head, rig.reg(TAIL));
        wraps += u32::from(head < last);
        last = head;
    }
    assert_eq!(wraps, 3, "3000 packets of 68 bytes in a ring of 64 KiB");
    rig.assert_clean();
}

#[test]
fn a_tail_at_zero_is_reached_over_the_end_of_the_ring() {
    let mut rig = Rig::new();
    rig.set(HEAD, RING_BYTES - 4);
    rig.run();
    assert_eq!((rig.reg(HEAD), rig.gpu.counters().packets), (0, 1));
    rig.assert_clean();
}

#[test]
fn a_packet_is_never_split_over_the_end_of_the_ring() {
    let mut rig = Rig::new();
    rig.store(vram(RING_AT + u64::from(RING_BYTES) - 8), 0x8000_0064);
    rig.set(HEAD, RING_BYTES - 8);
    rig.run();
    assert_eq!(
        rig.errors(),
        [CspErrorKind::Truncated {
            needed: 5,
            available: 2
        }]
    );
}

#[test]
fn sizes_heads_and_tails_that_cannot_be_halt_the_ring() {
    for (size, head, tail) in [
        (0, 0, 4),
        (0x1000, 0, 0x1000),
        (0x1000, 0, 0xffff_fffc),
        (0x1000, 0x1000, 0),
        (0x1000, 0xffff_fffc, 0),
        (0x1000, 0, 2),
        (0x1000, 1, 0),
        (0x1002, 0, 4),
        (u32::MAX, 0, 4),
    ] {
        let mut rig = Rig::new();
        rig.set(RING_SIZE, size);
        rig.set(HEAD, head);
        rig.set(TAIL, tail);
        rig.run();
        assert_eq!(rig.errors(), [CspErrorKind::BadRing { size, head, tail }]);
        assert_eq!(rig.reg(ADVANCED_RAW), CSP_TIMEOUT);
        assert_eq!((rig.reg(HEAD), rig.reg(TAIL)), (head, tail));
    }
}

#[test]
fn the_largest_ring_size_is_no_trouble() {
    let mut rig = Rig::new();
    rig.set(RING_SIZE, 0xffff_fffc);
    rig.set(HEAD, 0xffff_fff8);
    rig.set(TAIL, 0);
    rig.run();
    // The fetch, at 1 MiB + 4 GiB - 8, is beyond this GPU's memory.
    assert_eq!(rig.errors(), [CspErrorKind::FetchFault]);
}

#[test]
fn a_ring_at_the_end_of_the_address_space_does_not_go_on_at_its_beginning() {
    const LAST_PAGE: u64 = (1 << 40) - 4096;
    for (packets, fetched) in [
        (vec![0; 1024], 4096),                                  // skips up to the end
        ([vec![0; 1023], vec![1]].concat(), 4096),              // a skip over the end
        ([vec![0; 1022], vec![0x8000_0001, 5]].concat(), 4096), // a fence that ends there
        ([vec![0; 1023], vec![0x8000_0001]].concat(), 4092),    // a fence over the end
    ] {
        let mut rig = Rig::in_va_mode();
        rig.map(0, 0, vram(SURFACES_AT + 4096));
        rig.map(0, LAST_PAGE, vram(SURFACES_AT));
        rig.put_dwords(vram(SURFACES_AT), &packets);
        rig.set(RING_ADDRESS, 0);
        rig.set(RING_SIZE, 0x2000);
        rig.set(TAIL, 0x1f00);
        rig.set(RING_ADDRESS, KICKOFF | 0x0fff_ffff);
        rig.run();
        assert_eq!(rig.errors(), [CspErrorKind::FetchFault]);
        let faults: Vec<_> = rig
            .gpu
            .faults()
            .map(|fault| (fault.va.0, fault.cause))
            .collect();
        assert_eq!(faults[0].1, FaultCause::AddressTooWide);
        assert!(faults[0].0 >= 1 << 40);
        assert!(rig.reg(HEAD) >= fetched, "{:#x}", rig.reg(HEAD));
    }
}

#[test]
fn a_fence_fits_before_a_page_end_and_before_the_last() {
    let mut rig = Rig::in_va_mode();
    for (va, page) in [(0x9000, 0), (0xFF_FFFF_F000, 1)] {
        rig.map(0, va, vram(SURFACES_AT + page * 4096));
    }
    rig.submit(|w| {
        w.fence(GpuVa(0x9FF8), 7, false);
        w.fence(GpuVa(0xFF_FFFF_FFF8), 8, false);
    });
    rig.assert_clean();
    let at = |page: u64| rig.load_u64(vram(SURFACES_AT + page * 4096 + 0xFF8));
    assert_eq!([at(0), at(1)], [7, 8]);
}

#[test]
fn a_ring_that_calls_itself_halts_at_the_deepest_level() {
    let mut rig = Rig::new();
    rig.submit(|w| {
        w.dma(GpuVa(RING_AT), 4);
        w.push(0);
    });
    assert!(matches!(rig.errors()[..], [CspErrorKind::Malformed { .. }]));
    assert_eq!(rig.gpu.counters().packets, 2);
}

#[test]
fn a_ring_that_is_not_mapped_halts_with_a_page_fault() {
    let mut rig = Rig::new();
    rig.set(crate::rig::MMU_MODE, 1);
    rig.submit(|w| w.push(0));
    assert_eq!(rig.errors(), [CspErrorKind::FetchFault]);
    assert_eq!(rig.reg(BIU_RAW), PAGE_FAULT);
    assert_eq!(rig.reg(ADVANCED_RAW), CSP_TIMEOUT);
    assert_eq!(rig.reg(0x49038), 1, "client bit 0: ring fetch");
}

#[test]
fn a_halted_ring_stands_and_looks_busy_until_an_engine_reset() {
    let mut rig = Rig::new();
    rig.submit(|w| {
        w.push(0);
        w.push(0x5000_0000);
    });
    let error = rig.gpu.ring_errors().next().unwrap().clone();
    assert_eq!(
        (error.ring, error.offset, error.in_buffer, error.dword),
        (0, 4, false, 0x5000_0000)
    );
    assert_eq!(rig.reg(HEAD), 4, "Head stands at the packet");
    assert_eq!(rig.reg(TOP_BUSY) & 1, 1);
    rig.submit(|w| w.fence(GpuVa(FENCE_AT), 1, false));
    rig.start_ring();
    rig.submit(|w| w.fence(GpuVa(FENCE_AT), 1, false));
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 0);

    rig.set(ENGINE_RESET, 0x1FC);
    rig.set(ENGINE_RESET, 0);
    assert_eq!(rig.reg(TOP_BUSY), 0);
    rig.start_ring();
    rig.submit(|w| w.fence(GpuVa(FENCE_AT), 1, false));
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
    assert_eq!(rig.errors().len(), 1);
}

#[test]
fn an_engine_reset_in_the_middle_of_a_copy_drops_the_rest_and_the_ring_recovers() {
    let len = 1 << 20;
    let (from, to) = (SURFACES_AT, SURFACES_AT + 4 * len as u64);
    let mut rig = Rig::new();
    let data = noise(1, len);
    rig.put(vram(from), &data);
    rig.queue(|w| {
        copy(w, from, to, 512, 512);
        w.fence(GpuVa(FENCE_AT), 1, true);
    });
    while rig.gpu.counters().bytes_copied < 16 << 10 {
        assert_eq!(rig.gpu.step(0), Progress::Pending);
    }
    let done = usize::try_from(rig.gpu.counters().bytes_copied).unwrap();
    rig.set(ENGINE_RESET, 0x1FC);
    assert!(!rig.gpu.has_work());
    assert_eq!(rig.gpu.step(u32::MAX), Progress::Idle);
    let written = rig.get(vram(to), len);
    assert_eq!(written[..done], data[..done]);
    assert!(written[done..].iter().all(|byte| *byte == 0));
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 0);
    assert_eq!(rig.reg(ADVANCED_RAW), 0);

    // Held in reset, the ring takes no values.
    rig.start_ring();
    assert_eq!(
        [RING_ADDRESS, RING_SIZE, HEAD, TAIL].map(|at| rig.reg(at)),
        [0; 4]
    );
    rig.set(ENGINE_RESET, 0);
    rig.start_ring();
    rig.submit(|w| {
        copy(w, from, to, 512, 512);
        w.fence(GpuVa(FENCE_AT), 2, true);
    });
    assert_eq!(rig.get(vram(to), len), data);
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 2);
    rig.assert_clean();
}

#[test]
fn an_engine_reset_forgets_surfaces_and_internal_fences() {
    let mut rig = Rig::new();
    rig.submit(|w| {
        fill(w, SURFACES_AT, 4, 4, 1);
        push_all(w, &[0x8000_0481, 5]); // slot 9
    });
    rig.recover();
    rig.submit(|w| push_all(w, &[0x2240_0005]));
    assert_eq!(rig.gpu.unmet_waits().count(), 1);
    rig.assert_clean();
    rig.submit(|w| push_all(w, &[0x9301_A002, 0, 0]));
    assert!(matches!(rig.errors()[..], [CspErrorKind::Malformed { .. }]));
}

#[test]
fn kick_off_zero_drops_work_in_flight() {
    let (from, to) = (SURFACES_AT, SURFACES_AT + (4 << 20));
    let mut rig = Rig::new();
    rig.put(vram(from), &noise(1, 1 << 20));
    rig.queue(|w| copy(w, from, to, 512, 512));
    while rig.gpu.counters().bytes_copied == 0 {
        assert_eq!(rig.gpu.step(0), Progress::Pending);
    }
    let done = rig.gpu.counters().bytes_copied;
    rig.set(RING_ADDRESS, 0);
    assert!(!rig.gpu.has_work());
    rig.start_ring();
    rig.submit(|w| w.fence(GpuVa(FENCE_AT), 3, false));
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 3);
    assert_eq!(rig.gpu.counters().bytes_copied, done);
}

#[test]
fn kick_off_zero_ends_the_process_of_the_work_before() {
    let mut rig = Rig::in_va_mode();
    for process in [0, 5] {
        let page = vram(SURFACES_AT + u64::from(process) * 4096);
        rig.map(process, 0x50_0000, page);
    }
    let filled = |rig: &Rig, process: u64| rig.load(vram(SURFACES_AT + process * 4096));
    rig.submit(|w| {
        w.indicator(3, 5);
        fill(w, 0x50_0000, 1, 1, 1);
    });
    assert_eq!([0, 5].map(|process| filled(&rig, process)), [0, 1]);
    rig.start_ring();
    rig.submit(|w| fill(w, 0x50_0000, 1, 1, 2));
    assert_eq!([0, 5].map(|process| filled(&rig, process)), [2, 1]);
    rig.assert_clean();
}

#[test]
fn the_engines_are_busy_exactly_while_there_is_work() {
    let mut rig = Rig::new();
    assert_eq!(rig.reg(TOP_BUSY), 0);
    rig.queue(|w| w.fence(GpuVa(FENCE_AT), 1, false));
    assert_eq!(rig.reg(TOP_BUSY), 0b11, "CSP and MXUA");
    rig.run();
    assert_eq!(rig.reg(TOP_BUSY), 0);
}

#[test]
fn a_step_with_no_budget_still_makes_progress() {
    let mut rig = Rig::new();
    rig.queue(|w| {
        copy(w, SURFACES_AT, SURFACES_AT + (1 << 20), 1024, 4);
        w.fence(GpuVa(FENCE_AT), 1, false);
    });
    let steps = (0..100)
        .take_while(|_| rig.gpu.step(0) == Progress::Pending)
        .count();
    assert!(steps < 16, "{steps}");
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
}
