//! Translation (hardware reference 4).

use crate::machine::Touch;
use crate::rig::{
    MMU_MODE, PAGE_A as A, PAGE_B as B, RING_AT, Rig, SURFACES_AT, VRAM_BYTES, fill, nth_page,
    write_as,
};
use crate::tables::{LOCAL, VALID, entry, l1_offset, snooped, unsnooped, vram};
use presil_device::{FaultClient, GpuVa, Snoop, Target};

#[test]
fn in_pa_mode_addresses_below_the_video_size_are_vram_offsets() {
    let mut rig = Rig::new();
    write_as(&mut rig, 7, SURFACES_AT, 0x1111);
    write_as(&mut rig, 0, VRAM_BYTES - 256, 0x2222);
    assert_eq!(rig.load(A), 0x1111);
    assert_eq!(rig.load(vram(VRAM_BYTES - 256)), 0x2222);
    assert_eq!(rig.gpu.counters().walks, 0);
    rig.assert_clean();
}

#[test]
fn in_pa_mode_addresses_from_the_video_size_on_walk_the_tables_of_process_0() {
    let mut rig = Rig::new();
    rig.map(0, VRAM_BYTES, A);
    rig.map(5, VRAM_BYTES, B);
    write_as(&mut rig, 5, VRAM_BYTES, 0x1111);
    assert_eq!((rig.load(A), rig.load(B)), (0x1111, 0));
    // A fault is process 0's, too.
    write_as(&mut rig, 5, VRAM_BYTES + 0x1000, 0x1111);
    assert_eq!(rig.gpu.faults().next().unwrap().process_id, 0);
    assert_eq!(rig.reg(0x49040) >> 20 & 0xf, 0);
}

#[test]
fn the_video_size_register_moves_the_boundary() {
    // 512 MiB on a GPU of 256 MiB: what lies between is outside VRAM.
    let mut rig = Rig::new();
    rig.map(0, VRAM_BYTES, A);
    rig.set(MMU_MODE, 1 << 8);
    write_as(&mut rig, 0, VRAM_BYTES, 0x1111);
    assert_eq!(rig.load(A), 0);
    let fault = rig.gpu.faults().next().unwrap();
    assert_eq!(fault.cause, presil_device::FaultCause::OutsideVram);
}

#[test]
fn in_va_mode_each_of_16_processes_has_its_own_addresses() {
    let mut rig = Rig::in_va_mode();
    for process_id in 0..16_u8 {
        rig.map(process_id.into(), 0x5_0000, nth_page(A, process_id.into()));
    }
    for process_id in 0..16_u8 {
        write_as(
            &mut rig,
            process_id,
            0x5_0000,
            0x1000 + u32::from(process_id),
        );
    }
    for process_id in 0..16 {
        let value = rig.load(nth_page(A, process_id));
        assert_eq!(u64::from(value), 0x1000 + process_id);
    }
    rig.assert_clean();
}

#[test]
fn the_ring_and_its_fences_stay_with_process_0_and_called_buffers_do_not() {
    let mut rig = Rig::in_va_mode();
    rig.map(0, 0x5_0000, A);
    rig.map(9, 0x5_0000, B);
    rig.map(9, 0x6_0000, nth_page(B, 1));
    let dwords = rig.buffer(nth_page(B, 1), |w| w.fence(GpuVa(0x5_0000), 2, false));
    rig.submit(|w| {
        w.indicator(3, 9);
        w.fence(GpuVa(0x5_0000), 1, false);
        w.dma(GpuVa(0x6_0000), dwords);
        w.indicator(0, 0);
    });
    rig.assert_clean();
    assert_eq!((rig.load_u64(A), rig.load_u64(B)), (1, 2));
}

#[test]
fn an_indicator_with_info_off_ends_the_process() {
    let mut rig = Rig::in_va_mode();
    rig.map(0, 0x5_0000, A);
    rig.map(9, 0x5_0000, B);
    rig.submit(|w| {
        w.indicator(3, 9);
        w.indicator(0, 9);
        fill(w, 0x5_0000, 1, 1, 1);
    });
    assert_eq!((rig.load(A), rig.load(B)), (1, 0));
}

#[test]
fn a_ring_that_is_stopped_forgets_its_process() {
    for recover in [Rig::start_ring as fn(&mut Rig), Rig::recover] {
        let mut rig = Rig::in_va_mode();
        rig.map(0, 0x5_0000, A);
        rig.map(9, 0x5_0000, B);
        rig.submit(|w| w.indicator(3, 9));
        recover(&mut rig); // begins with Kickoff 0, or with an engine reset
        rig.submit(|w| fill(w, 0x5_0000, 1, 1, 1));
        assert_eq!((rig.load(A), rig.load(B)), (1, 0));
    }
}

#[test]
fn every_bit_of_the_address_is_translated_where_the_reference_says() {
    // L1: VA[39:32], L2: VA[31:22], L3: VA[21:12]; the first and the last of each.
    let mut rig = Rig::in_va_mode();
    let mut n = 0;
    for l1 in [0, 1, 254, 255_u64] {
        for l2 in [1, 2, 1023_u64] {
            for l3 in [0, 1, 15, 16, 1023_u64] {
                let va = l1 << 32 | l2 << 22 | l3 << 12;
                rig.map(2, va, nth_page(A, n));
                write_as(&mut rig, 2, va | 0xf00, u32::try_from(va >> 12).unwrap());
                let target = nth_page(A, n);
                assert_eq!(
                    u64::from(rig.load(crate::tables::plus(target, 0xf00))),
                    va >> 12
                );
                n += 1;
            }
        }
    }
    rig.assert_clean();
}

#[test]
fn pages_and_tables_go_where_segment_and_snoop_say_at_every_level() {
    for tables in [None, Some(Snoop::Snooped), Some(Snoop::Unsnooped)] {
        for page in [vram(SURFACES_AT), snooped(0x7000), unsnooped(0x7000)] {
            let mut rig = Rig::in_va_mode();
            rig.tables_in_ram = tables;
            rig.page(page);
            rig.map(1, 0x1_0000_0000, page);
            rig.ram.take_touches();
            write_as(&mut rig, 1, 0x1_0000_0000, 0x55);
            assert_eq!(rig.load(page), 0x55);
            rig.assert_clean();

            let touches = rig.ram.take_touches();
            assert!(
                touches
                    .iter()
                    .all(|touch| touch.access.client == FaultClient::BlitDestination)
            );
            let (data, walk): (Vec<Touch>, Vec<Touch>) =
                touches.iter().copied().partition(|touch| touch.write);
            // One L2 entry and a line of 16 L3 entries.
            assert_eq!(walk.len(), if tables.is_some() { 17 } else { 0 });
            assert!(walk.iter().all(|touch| Some(touch.access.snoop) == tables));
            match page {
                Target::System(_, snoop) => {
                    assert!(data.iter().all(|touch| touch.access.snoop == snoop));
                }
                Target::Vram(_) => assert_eq!(data, []),
            }
        }
    }
}

#[test]
fn each_client_is_named_to_the_memory() {
    let mut rig = Rig::in_va_mode();
    for n in 0..4 {
        rig.page(unsnooped(0x10_0000 + n * 4096));
        rig.map(0, 0x5_0000 + n * 4096, unsnooped(0x10_0000 + n * 4096));
    }
    let dwords = rig.buffer(unsnooped(0x10_0000), |w| {
        crate::rig::copy(w, 0x5_1000, 0x5_2000, 4, 4);
        w.fence(GpuVa(0x5_3000), 1, false);
    });
    rig.ram.take_touches();
    rig.submit(|w| w.dma(GpuVa(0x5_0000), dwords));
    let client_of = |page: u64, touches: &[Touch]| {
        let mut clients: Vec<_> = touches
            .iter()
            .filter(|t| t.at >> 12 == page)
            .map(|t| t.access.client)
            .collect();
        clients.dedup();
        clients
    };
    let touches = rig.ram.take_touches();
    assert_eq!(client_of(0x100, &touches), [FaultClient::BufferFetch]);
    assert_eq!(client_of(0x101, &touches), [FaultClient::BlitSource]);
    assert_eq!(client_of(0x102, &touches), [FaultClient::BlitDestination]);
    assert_eq!(client_of(0x103, &touches), [FaultClient::Fence]);
}

#[test]
fn a_walk_shows_the_entries_and_disturbs_nothing() {
    let mut rig = Rig::in_va_mode();
    rig.page(snooped(0x7000));
    rig.map(3, 0x12_3456_7000, snooped(0x7000));
    let (before, l3) = (rig.gpu.counters(), entry(snooped(0x7000)));
    let walk = rig.gpu.walk(3, GpuVa(0x12_3456_7010));
    assert_eq!(walk.l1, rig.reg(l1_offset(3, 0x12_3456_7010)));
    assert_eq!(walk.l2.map(|l2| l2 & (VALID | LOCAL)), Some(VALID | LOCAL));
    assert_eq!(walk.l3, Some(l3));
    assert_eq!(walk.target.as_deref(), Some("bus:0x0000007010 snooped"));
    let nowhere = rig.gpu.walk(4, GpuVa(0x12_3456_7010));
    assert_eq!(
        (nowhere.l1, nowhere.l2, nowhere.l3, nowhere.target),
        (0, None, None, None)
    );
    let after = rig.gpu.counters();
    assert_eq!(
        (before.walks, before.tlb_hits, before.faults),
        (after.walks, after.tlb_hits, after.faults)
    );
    assert_eq!(rig.gpu.faults().count(), 0);
}

#[test]
fn a_walk_that_ends_outside_vram_has_no_target() {
    let mut rig = Rig::in_va_mode();
    rig.map(0, 0x5_0000, vram(VRAM_BYTES));
    assert_eq!(rig.gpu.walk(0, GpuVa(0x5_0000)).target, None);
    rig.set(MMU_MODE, 1 << 8); // PA mode, 512 MiB of VRAM range
    assert_eq!(rig.gpu.walk(0, GpuVa(VRAM_BYTES)).target, None);
    assert_eq!(
        rig.gpu.walk(0, GpuVa(RING_AT)).target.as_deref(),
        Some("vram:0x0000100000")
    );
}
