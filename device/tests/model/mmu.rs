//! Translation (hardware reference 4).

use crate::machine::Touch;
use crate::rig::{
    MMU_MODE, PAGE_A as A, PAGE_B as B, RING_AT, Rig, SURFACES_AT, VRAM_BYTES, fill, nth_page,
    write_as,
};
use crate::tables::{LARGE, LOCAL, NS, VALID, entry, l1_offset, plus, snooped, unsnooped, vram};
use presil_device::{
    FaultCause, FaultClient, GpuVa, LargePage, MmuOptions, Progress, Snoop, Target,
};

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
    assert_eq!(fault.cause, FaultCause::OutsideVram);
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
        (
            before.walks,
            before.dtlb_hits,
            before.utlb_hits,
            before.faults
        ),
        (after.walks, after.dtlb_hits, after.utlb_hits, after.faults)
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
    let above = 2 * VRAM_BYTES;
    rig.map(0, above, A);
    let walked = rig.gpu.walk(7, GpuVa(above)).target;
    assert_eq!(walked, Some(A.to_string()), "process 0's");
    assert_eq!(
        rig.gpu.walk(0, GpuVa(RING_AT)).target.as_deref(),
        Some("vram:0x0000100000")
    );
}

#[test]
fn every_bit_of_a_page_number_counts_at_every_level() {
    const VA: u64 = 0x12_3456_7000;
    // 24 bits in L1, 27 in L2, 28 in L3; on the bus, where memory may be that high.
    let [l2, l3, page] = [0xff_ffff, 0x7ff_ffff, 0xfff_ffff].map(|n| snooped(n << 12));
    let mut rig = Rig::in_va_mode();
    for at in [l2, l3, page] {
        rig.page(at);
    }
    rig.set(l1_offset(1, VA), entry(l2));
    rig.store(plus(l2, (VA >> 22 & 0x3ff) * 4), entry(l3));
    rig.store(plus(l3, (VA >> 12 & 0x3ff) * 4), entry(page));
    write_as(&mut rig, 1, VA, 0x55);
    rig.assert_clean();
    assert_eq!(rig.load(page), 0x55);
    let walk = rig.gpu.walk(1, GpuVa(VA));
    assert_eq!(walk.target, Some(page.to_string()));
    // 24 in an entry of 64 KiB pages, whose number ends 4 bits higher.
    rig.store(plus(l2, (VA >> 22 & 0x3ff) * 4), LARGE | entry(l3));
    rig.store(
        plus(l3, (VA >> 16 & 0x3f) * 4),
        entry_64k(snooped(0xff_ffff << 16)),
    );
    rig.set(0x49020, 2 << 5); // with PT_INV_MASK 0: everything
    write_as(&mut rig, 1, VA & !0xffff | 0xf000, 0x66);
    rig.assert_clean();
    assert_eq!(rig.load(page), 0x66);
}

/// A page of 64 KiB, at a multiple of 64 KiB, in the format of hardware
/// reference 4.5 with its reserved bits set.
fn entry_64k(to: Target) -> u32 {
    let place = entry(to) & 0xf;
    match to {
        Target::Vram(at) => place | 0xf0 | u32::try_from(at.0 >> 16).unwrap() << 8,
        Target::System(at, _) => place | 0xf0 | u32::try_from(at.0 >> 16).unwrap() << 8,
    }
}

/// Gives the L2 entry of `va` its `LargePage` bit and, if given, another value.
/// Returns where the L3 table is that it leads to.
fn make_large(rig: &mut Rig, process_id: u32, va: u64, value: Option<u32>) -> Target {
    let Target::Vram(l3) = rig.l3_entry_at(process_id, va & !0x3f_ffff) else {
        panic!("the tables are in VRAM");
    };
    let l1 = rig.reg(l1_offset(process_id, va));
    let l2_at = (u64::from(l1 >> 4 & 0xff_ffff) << 12) + (va >> 22 & 0x3ff) * 4;
    let value = value.unwrap_or(rig.load(vram(l2_at)));
    rig.store(vram(l2_at), value | LARGE);
    vram(l3.0)
}

#[test]
fn a_large_page_bit_means_an_l3_table_of_64_kib_pages() {
    const VA: u64 = 0x12_3440_0000;
    for first in [vram(SURFACES_AT), snooped(0x4_0000), unsnooped(0x4_0000)] {
        let mut rig = Rig::in_va_mode();
        let l3 = make_large(&mut rig, 3, VA, None);
        // The last of 64 entries; behind them nothing counts.
        for (index, to) in [(63, first), (62, plus(first, 0x1_0000)), (64, vram(0))] {
            rig.store(plus(l3, index * 4), entry_64k(to));
        }
        for n in 0..32 {
            rig.page(nth_page(first, n));
        }
        for n in 0..32_u64 {
            // 62 leads to the upper half, 63 to the lower.
            write_as(
                &mut rig,
                3,
                VA + 62 * 0x1_0000 + n * 4096 + 0x100,
                u32::try_from(n + 1).unwrap(),
            );
        }
        rig.assert_clean();
        for n in 0..32 {
            let at = plus(nth_page(first, n ^ 16), 0x100);
            assert_eq!(u64::from(rig.load(at)), n + 1);
        }
        let walk = rig.gpu.walk(3, GpuVa(VA + 63 * 0x1_0000 + 0x2345));
        assert_eq!(walk.l3, Some(entry_64k(first)));
        assert_eq!(walk.target, Some(plus(first, 0x2345).to_string()));
        // A line of the TLB for each page; no other entry is there.
        assert_eq!(rig.gpu.counters().walks, 2 + 1);
        write_as(&mut rig, 3, VA, 1);
        let fault = rig.gpu.faults().next().unwrap();
        assert_eq!((fault.cause, fault.level), (FaultCause::InvalidL3, 3));
    }
}

/// Pages that the TLBs hold of a process id, and those that the tables do not say.
fn held_and_stale(rig: &Rig, process_id: u8) -> (usize, usize) {
    let held: Vec<_> = rig.gpu.tlb(Some(process_id), None).collect();
    let stale = held.iter().filter(|held| held.is_stale());
    (held.len(), stale.count())
}

#[test]
fn a_64_kib_page_is_stale_as_a_whole_until_its_line_is_invalidated() {
    let mut rig = Rig::in_va_mode();
    let l3 = make_large(&mut rig, 1, 0x40_0000, None);
    rig.store(l3, entry_64k(A));
    write_as(&mut rig, 1, 0x40_0000, 1);
    assert_eq!(
        held_and_stale(&rig, 1),
        (17, 0),
        "a line, and a page of the UTLB"
    );
    rig.store(l3, entry_64k(B));
    assert_eq!(held_and_stale(&rig, 1), (17, 17));
    write_as(&mut rig, 1, 0x40_f000, 2); // another part of it
    assert_eq!(rig.load(nth_page(A, 15)), 2);
    rig.set(0x49018, 0x1000_040f);
    rig.set(0x4901C, u32::MAX);
    rig.set(0x49020, 0x40);
    write_as(&mut rig, 1, 0x40_0000, 3);
    write_as(&mut rig, 1, 0x40_f000, 4);
    assert_eq!((rig.load(B), rig.load(nth_page(B, 15))), (3, 4));
}

#[test]
fn a_large_page_bit_can_be_told_to_mean_a_leaf_of_4_mib() {
    const VA: u64 = 0x1_0080_0000;
    let mut rig = Rig::with_mmu(MmuOptions {
        large_page: LargePage::Leaf4M,
        ..MmuOptions::default()
    });
    rig.enter_va_mode();
    // The low ten page bits do not count.
    make_large(&mut rig, 2, VA, Some(entry(vram(SURFACES_AT + 0x7000))));
    for at in [0, 0x1_2300, 0x3f_ff00] {
        write_as(&mut rig, 2, VA + at, 0x77);
        assert_eq!(rig.load(vram(SURFACES_AT + at)), 0x77);
        let walk = rig.gpu.walk(2, GpuVa(VA + at));
        assert_eq!(walk.target, Some(vram(SURFACES_AT + at).to_string()));
        assert_eq!(walk.l3, None);
    }
    assert_eq!(held_and_stale(&rig, 2), (3 * 17, 0));
    rig.assert_clean();
}

#[test]
fn a_leaf_of_4_mib_beyond_vram_is_a_fault_of_level_2() {
    const VA: u64 = 0x1_0080_0000;
    let mut rig = Rig::with_mmu(MmuOptions {
        large_page: LargePage::Leaf4M,
        ..MmuOptions::default()
    });
    rig.enter_va_mode();
    make_large(&mut rig, 2, VA, Some(entry(vram(VRAM_BYTES))));
    write_as(&mut rig, 2, VA + 0x1_2300, 0x77);
    let fault = rig.gpu.faults().next().unwrap();
    assert_eq!((fault.cause, fault.level), (FaultCause::OutsideVram, 2));
    assert_eq!(rig.reg(0x4904C), l1_offset(2, VA));
}

#[test]
fn a_mode_change_in_the_middle_of_a_copy_counts_from_the_next_piece_on() {
    let mut rig = Rig::in_va_mode();
    // In VA mode both pages of the destination lie elsewhere.
    for n in 0..2 {
        rig.map(0, SURFACES_AT + n * 4096, nth_page(B, n));
    }
    rig.queue(|w| fill(w, SURFACES_AT, 2048, 1, 0x99));
    while rig.gpu.counters().bytes_filled == 0 {
        assert_eq!(rig.gpu.step(1), Progress::Pending);
    }
    rig.set(MMU_MODE, 0);
    rig.run();
    let found = [A, B].map(|at| [0, 1].map(|n| rig.load(nth_page(at, n)) == 0x99));
    assert_eq!(found, [[false, true], [true, false]]);
    rig.assert_clean();
}

#[test]
fn the_non_secure_bit_goes_to_the_memory_with_tables_and_pages() {
    for (l1_ns, l2_ns, l3_ns) in [(NS, 0, 0), (0, NS, 0), (0, 0, NS), (NS, NS, NS)] {
        let mut rig = Rig::in_va_mode();
        rig.tables_in_ram = Some(Snoop::Snooped);
        let page = rig.page(snooped(0x7000));
        rig.map(1, 0x1_0000_0000, page);
        let l1_at = l1_offset(1, 0x1_0000_0000);
        let l1 = rig.reg(l1_at);
        let l2_at = snooped(u64::from(l1 >> 4) << 12);
        let l3_at = rig.l3_entry_at(1, 0x1_0000_0000);
        rig.set(l1_at, l1 | l1_ns);
        rig.store(l2_at, rig.load(l2_at) | l2_ns);
        rig.store(l3_at, rig.load(l3_at) | l3_ns);
        rig.ram.take_touches();
        write_as(&mut rig, 1, 0x1_0000_0000, 0x55);
        let touches = rig.ram.take_touches();
        let bits: Vec<_> = touches.iter().map(|t| t.access.non_secure).collect();
        assert_eq!(bits[0], l1_ns != 0, "the L2 entry");
        assert!(bits[1..17].iter().all(|ns| *ns == (l2_ns != 0)));
        assert_eq!(bits[17..], [l3_ns != 0], "the data");
    }
}

#[test]
fn a_large_page_has_the_snoop_and_the_non_secure_bit_of_its_own_entry() {
    const VA: u64 = 0x12_3440_0000;
    for (large_page, to) in [
        (LargePage::Table64K, snooped(0x4_0000)),
        (LargePage::Table64K, unsnooped(0x4_0000)),
        (LargePage::Leaf4M, snooped(0x40_0000)),
        (LargePage::Leaf4M, unsnooped(0x40_0000)),
    ] {
        for ns in [0, NS] {
            let mut rig = Rig::with_mmu(MmuOptions {
                large_page,
                ..MmuOptions::default()
            });
            rig.enter_va_mode();
            rig.page(to);
            if large_page == LargePage::Table64K {
                let l3 = make_large(&mut rig, 3, VA, None);
                rig.store(l3, entry_64k(to) | ns);
            } else {
                make_large(&mut rig, 3, VA, Some(entry(to) | ns));
            }
            rig.ram.take_touches();
            write_as(&mut rig, 3, VA, 0x55);
            assert_eq!(rig.load(to), 0x55);
            let [touch] = rig.ram.take_touches()[..] else {
                panic!("only the data is on the bus");
            };
            let Target::System(_, snoop) = to else {
                panic!("a page on the bus");
            };
            let bits = (touch.access.snoop, touch.access.non_secure);
            assert_eq!(bits, (snoop, ns != 0), "{large_page:?} {to}");
        }
    }
}
