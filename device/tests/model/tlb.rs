//! The TLB: what stays, what an invalidation drops (hardware reference 5, 10.7).

use crate::rig::{
    MMU_MODE, PAGE_A as A, PAGE_B as B, Rig, TTBR, VRAM_BYTES, nth_page, push_all, write_as,
};
use crate::tables::{entry, l1_offset};
use e3k_regs::GpuVa;
use presil_device::{DtlbShape, MmuOptions, UtlbSize};

const PT_INV_ADDR: u32 = 0x49018;
const PT_INV_MASK: u32 = 0x4901C;
const PT_INV_TRIG: u32 = 0x49020;
/// `PT_INV_TRIG`: Target.
const UTLB: u32 = 1 << 5;
const DTLB: u32 = 2 << 5;

fn invalidate(rig: &mut Rig, address: u32, mask: u32, trigger: u32) {
    rig.set(PT_INV_ADDR, address);
    rig.set(PT_INV_MASK, mask);
    rig.set(PT_INV_TRIG, trigger);
}

/// A rig in VA mode whose process 1 has used the translation of `0x5_0000` to A,
/// and whose tables now say B.
fn stale() -> Rig {
    stale_with(MmuOptions::default())
}

fn stale_with(mmu: MmuOptions) -> Rig {
    let mut rig = Rig::with_mmu(mmu);
    rig.enter_va_mode();
    rig.map(1, 0x5_0000, A);
    write_as(&mut rig, 1, 0x5_0000, 1);
    rig.map(1, 0x5_0000, B);
    rig
}

/// Whether process 1 sees the new translation.
fn is_fresh(rig: &mut Rig) -> bool {
    write_as(rig, 1, 0x5_0000, 2);
    rig.load(B) == 2
}

#[test]
fn a_translation_is_stale_until_it_is_invalidated() {
    let mut rig = stale();
    assert!(!is_fresh(&mut rig));
    assert_eq!(rig.load(A), 2);
    invalidate(&mut rig, 0, 0, DTLB);
    assert!(is_fresh(&mut rig));
}

#[test]
fn a_walk_tells_what_the_tlbs_hold_beside_what_the_tables_say() {
    let mut rig = stale();
    let held = entry(A);
    let walk = |rig: &Rig, process_id| rig.gpu.walk(process_id, GpuVa(0x5_0000));
    let seen = walk(&rig, 1);
    assert_eq!((seen.l3, seen.dtlb), (Some(entry(B)), Some(held)));
    assert_eq!(seen.utlb, [("blit destination", held)].into());
    let other = walk(&rig, 2);
    assert_eq!((other.dtlb, other.utlb.len()), (None, 0));
    invalidate(&mut rig, 0, 0, DTLB);
    let seen = walk(&rig, 1);
    assert_eq!((seen.dtlb, seen.utlb.len()), (None, 0));
}

#[test]
fn what_the_tlbs_hold_is_told_unit_by_unit_beside_what_the_tables_say() {
    let mut rig = stale();
    let before = rig.gpu.counters();
    let told = |rig: &Rig, process_id, va: u64| {
        let held = rig.gpu.tlb(process_id, Some(GpuVa(va)));
        held.map(|held| held.to_string()).collect::<Vec<_>>()
    };
    let stale = format!(
        "{A} ({:#010x}), the tables say {B} ({:#010x})",
        entry(A),
        entry(B)
    );
    let expected = [
        format!("the DTLB has {stale}"),
        format!("the UTLB of blit destination has {stale}"),
    ];
    assert_eq!(told(&rig, Some(1), 0x5_0abc), expected);
    assert_eq!(told(&rig, None, 0x5_0000), expected);
    assert!(told(&rig, Some(2), 0x5_0000).is_empty());
    assert!(told(&rig, Some(1), 0x5_1000).is_empty());
    let all = rig.gpu.tlb(None, None).collect::<Vec<_>>();
    let stale = all.iter().filter(|held| held.is_stale());
    assert_eq!(stale.count(), 2, "{all:?}");
    // The ring's own pages, in the TLB of its fetches.
    assert!(
        all.iter()
            .any(|held| held.process_id == 0 && !held.is_stale())
    );
    assert_eq!(rig.gpu.counters(), before, "looking is no access");
    invalidate(&mut rig, 0, 0, DTLB);
    assert_eq!(rig.gpu.tlb(None, None).count(), 0);
}

#[test]
fn pages_that_follow_each_other_in_a_tlb_and_in_memory_go_on_in_each_other() {
    let mut rig = Rig::in_va_mode();
    let next = nth_page(A, 1);
    rig.map(1, 0x5_0000, A);
    rig.map(1, 0x5_1000, next);
    rig.map(1, 0x5_2000, B);
    write_as(&mut rig, 1, 0x5_0000, 1);
    let held: Vec<_> = rig.gpu.tlb(Some(1), None).collect();
    let held: Vec<_> = held.iter().filter(|held| held.client.is_none()).collect();
    assert_eq!(held.len(), 3);
    assert!(held[0].goes_on_in(held[1]));
    assert!(!held[1].goes_on_in(held[2]) && !held[1].goes_on_in(held[0]));
    // Now the first is stale and the second is not.
    rig.map(1, 0x5_0000, B);
    let held: Vec<_> = rig.gpu.tlb(Some(1), None).collect();
    assert!(!held[0].goes_on_in(&held[1]));
}

#[test]
fn invalidation_compares_the_masked_bits_of_address_and_process() {
    const ALL: u32 = u32::MAX;
    // Address (0x5_0000 >> 12 = 0x50, process 1), mask, trigger, drops it.
    let cases = [
        (0x1000_0050, ALL, DTLB, true),
        (0x1000_0040, ALL, DTLB, false),        // another line
        (0x1000_0040, ALL & !0x10, DTLB, true), // the differing bit is not compared
        (0x2000_0050, ALL, DTLB, false),        // another process
        (0x2000_0050, 0x0fff_ffff, DTLB, true), // the process is not compared
        (0x3000_0050, 0x1fff_ffff, DTLB, true), // one of its bits is
        (0x2000_0050, 0x1fff_ffff, DTLB, false),
        (0x1fff_ffff, 0xf000_0000, DTLB, true), // only the process is compared
        (0x1000_005f, ALL, DTLB, true),         // the low four bits lie inside a line
        (0x1000_0050, ALL, DTLB | 0x10, true),  // Addr_Valid changes nothing
        (0x1000_0050, ALL, DTLB | 0xf, true),   // nor does the trigger's own process id
        (0, 0, 0, false),                       // target off
        (0, 0, UTLB, false),                    // the DTLB still has it
        (0, 0, 3 << 5, false),                  // reserved
    ];
    for (address, mask, trigger, drops) in cases {
        let mut rig = stale();
        invalidate(&mut rig, address, mask, trigger);
        assert_eq!(
            is_fresh(&mut rig),
            drops,
            "{address:#x} {mask:#x} {trigger:#x}"
        );
    }
}

#[test]
fn a_ring_command_invalidates_by_address_mask_and_process() {
    // Block 12, Cmd_Type 13:12, Proc_Id 21:18; start low and high, mask low and high.
    let header = |kind: u32, process_id: u32| 0x9600_0004 | kind << 12 | process_id << 18;
    let cases = [
        (header(3, 1), [0x5_0000, 0, !0, 0xff], true),
        (header(3, 1), [0x6_0000, 0, !0, 0xff], false),
        (header(3, 1), [0x5_0000, 1, !0, 0xff], false), // 4 GiB further
        (header(3, 1), [0x5_0000, 1, !0, 0], true),
        (header(3, 2), [0x5_0000, 0, !0, 0xff], false),
        (header(3, 1), [0, 0, 0, 0], true),
        (header(3, 2), [0, 0, 0, 0], false),
        (header(2, 1), [0, 0, 0, 0], false), // UTLB: the DTLB still has it
        (header(0, 1), [0, 0, 0, 0], false), // compression flags
        (header(1, 1), [0, 0, 0, 0], false),
    ];
    for (header, payload, drops) in cases {
        let mut rig = stale();
        rig.submit(|w| {
            w.push(header);
            push_all(w, &payload);
        });
        assert_eq!(is_fresh(&mut rig), drops, "{header:#x} {payload:x?}");
        rig.assert_clean();
    }
}

#[test]
fn rewriting_an_l1_register_flushes_nothing() {
    let mut rig = Rig::in_va_mode();
    rig.map(1, 0x5_0000, A);
    rig.map(2, 0x5_0000, B);
    rig.map(2, 0x40_0000, nth_page(B, 1));
    write_as(&mut rig, 1, 0x5_0000, 1);
    // Process 1 gets process 2's tables, by the ring.
    let tables = rig.reg(l1_offset(2, 0));
    rig.submit(|w| w.set_register(18, 256, &[tables]));
    assert_eq!(rig.reg(TTBR + 256 * 4), tables);
    write_as(&mut rig, 1, 0x5_0000, 2);
    assert_eq!(
        (rig.load(A), rig.load(B)),
        (2, 0),
        "still the old translation"
    );
    write_as(&mut rig, 1, 0x40_0000, 3);
    assert_eq!(
        rig.load(nth_page(B, 1)),
        3,
        "never used before: the new tables"
    );
    invalidate(&mut rig, 0x1000_0000, 0xf000_0000, DTLB);
    write_as(&mut rig, 1, 0x5_0000, 4);
    assert_eq!((rig.load(A), rig.load(B)), (2, 4));
}

#[test]
fn one_line_holds_16_pages() {
    let mut rig = Rig::in_va_mode();
    for n in 0..32 {
        rig.map(1, 0x10_0000 + n * 4096, nth_page(A, n));
    }
    let walks = |rig: &Rig| rig.gpu.counters().walks;
    write_as(&mut rig, 1, 0x10_0000, 1);
    let before = walks(&rig);
    for n in 1..16 {
        write_as(&mut rig, 1, 0x10_0000 + n * 4096, 1);
    }
    assert_eq!(walks(&rig), before);
    write_as(&mut rig, 1, 0x10_0000 + 16 * 4096, 1);
    assert_eq!(walks(&rig), before + 1);
}

#[test]
fn an_invalid_entry_is_not_cached() {
    let mut rig = Rig::in_va_mode();
    rig.map(1, 0x5_1000, B); // its neighbour, so that the tables exist
    write_as(&mut rig, 1, 0x5_0000, 1);
    assert_eq!(rig.gpu.counters().faults, 1);
    rig.map(1, 0x5_0000, A);
    write_as(&mut rig, 1, 0x5_0000, 2);
    assert_eq!(rig.load(A), 2);
}

#[test]
fn replaced_lines_are_walked_again() {
    let mut rig = Rig::in_va_mode();
    let pages = 1024_u64;
    for n in 0..pages {
        rig.map(1, n << 16, nth_page(A, n));
    }
    for round in 0..2_u32 {
        for n in 0..pages {
            write_as(&mut rig, 1, n << 16, u32::try_from(n).unwrap() + round);
        }
    }
    for n in 0..pages {
        assert_eq!(u64::from(rig.load(nth_page(A, n))), n + 1);
    }
    rig.assert_clean();
}

/// TLBs of which an invalidation of the DTLB does not reach the UTLBs.
fn strict() -> MmuOptions {
    MmuOptions {
        strict_utlb: true,
        ..MmuOptions::default()
    }
}

#[test]
fn a_driver_that_never_names_the_utlb_is_served_unless_the_utlb_is_strict() {
    for (mmu, fresh) in [(MmuOptions::default(), true), (strict(), false)] {
        let mut rig = stale_with(mmu);
        invalidate(&mut rig, 0, 0, DTLB);
        assert_eq!(is_fresh(&mut rig), fresh);
    }
}

#[test]
fn a_strict_utlb_needs_an_invalidation_of_its_own_behind_the_dtlbs() {
    for (targets, fresh) in [
        (&[UTLB][..], false),
        (&[DTLB], false),
        (&[DTLB, UTLB], true),
        (&[UTLB, DTLB], true), // nothing was translated between them
    ] {
        let mut rig = stale_with(strict());
        for target in targets {
            invalidate(&mut rig, 0, 0, *target);
        }
        assert_eq!(is_fresh(&mut rig), fresh, "{targets:x?}");
    }
    let mut rig = stale_with(strict());
    invalidate(&mut rig, 0, 0, UTLB);
    assert!(!is_fresh(&mut rig), "filled again from the DTLB");
    invalidate(&mut rig, 0, 0, DTLB);
    assert!(!is_fresh(&mut rig));
    invalidate(&mut rig, 0, 0, UTLB);
    assert!(is_fresh(&mut rig));
}

#[test]
fn a_utlb_is_invalidated_page_by_page_and_by_ring_too() {
    // The DTLB is off, so that only the UTLB can be stale.
    let mmu = MmuOptions {
        dtlb: DtlbShape::OFF,
        ..strict()
    };
    for (address, mask, fresh) in [
        (0x1000_0050, u32::MAX, true),
        (0x1000_0051, u32::MAX, false), // its neighbour in the line
        (0x1000_0051, !1, true),
        (0x2000_0050, u32::MAX, false),
    ] {
        let mut rig = stale_with(mmu);
        invalidate(&mut rig, address, mask, UTLB);
        assert_eq!(is_fresh(&mut rig), fresh, "{address:#x} {mask:#x}");
    }
    for (process_id, page, fresh) in [
        (1, 0x5_0000, true),
        (1, 0x5_1000, false),
        (2, 0x5_0000, false),
    ] {
        let mut rig = stale_with(mmu);
        let header = 0x9600_2004 | process_id << 18;
        rig.submit(|w| push_all(w, &[header, page, 0, !0, 0xff]));
        assert_eq!(is_fresh(&mut rig), fresh, "{process_id} {page:#x}");
    }
}

#[test]
fn each_client_has_a_utlb_of_its_own() {
    let mut rig = Rig::with_mmu(MmuOptions {
        dtlb: DtlbShape::OFF,
        ..MmuOptions::default()
    });
    rig.enter_va_mode();
    rig.map(0, 0x5_0000, A);
    rig.map(0, 0x6_0000, nth_page(A, 1));
    let walks = |rig: &mut Rig, from, to| {
        let before = rig.gpu.counters().walks;
        rig.submit(|w| crate::rig::copy(w, from, to, 1, 1));
        rig.gpu.counters().walks - before
    };
    // The ring's page and the two of the copy; then both the other way round.
    assert_eq!(walks(&mut rig, 0x5_0000, 0x6_0000), 3);
    assert_eq!(walks(&mut rig, 0x5_0000, 0x6_0000), 0);
    assert_eq!(walks(&mut rig, 0x6_0000, 0x5_0000), 2);
}

#[test]
fn a_utlb_entry_outlives_its_dtlb_line() {
    let mut rig = Rig::with_mmu(MmuOptions {
        dtlb: DtlbShape::new(1, 1).unwrap(),
        ..MmuOptions::default()
    });
    rig.enter_va_mode();
    rig.map(1, 0x5_0000, A);
    rig.map(1, 0x16_1000, nth_page(A, 1));
    write_as(&mut rig, 1, 0x5_0000, 1);
    write_as(&mut rig, 1, 0x16_1000, 1); // takes the only line
    rig.map(1, 0x5_0000, B);
    write_as(&mut rig, 1, 0x5_0000, 2);
    assert_eq!((rig.load(A), rig.load(B)), (2, 0));
    // Its invalidation reaches the UTLB although no line is left.
    invalidate(&mut rig, 0x1000_0050, u32::MAX, DTLB);
    write_as(&mut rig, 1, 0x5_0000, 3);
    assert_eq!((rig.load(A), rig.load(B)), (2, 3));
}

#[test]
fn without_tlbs_nothing_is_stale() {
    let mut rig = stale_with(MmuOptions {
        utlb: UtlbSize::OFF,
        dtlb: DtlbShape::OFF,
        ..MmuOptions::default()
    });
    assert!(is_fresh(&mut rig));
    let counters = rig.gpu.counters();
    assert_eq!((counters.utlb_hits, counters.dtlb_hits), (0, 0));
    assert!(counters.walks > 0);
}

#[test]
fn changing_the_mode_flushes_nothing() {
    let mut rig = Rig::new();
    rig.map(0, VRAM_BYTES, A);
    write_as(&mut rig, 0, VRAM_BYTES, 1); // in PA mode
    rig.map(0, VRAM_BYTES, B);
    rig.enter_va_mode();
    write_as(&mut rig, 0, VRAM_BYTES, 2);
    rig.set(MMU_MODE, 0);
    write_as(&mut rig, 0, VRAM_BYTES, 3);
    assert_eq!((rig.load(A), rig.load(B)), (3, 0));
    invalidate(&mut rig, 0, 0, DTLB);
    write_as(&mut rig, 0, VRAM_BYTES, 4);
    assert_eq!((rig.load(A), rig.load(B)), (3, 4));
}

#[test]
fn resets_empty_both_tlbs() {
    for reset in [
        (|rig: &mut Rig| {
            rig.gpu.reset();
            rig.start_ring();
            rig.enter_va_mode();
            // The bank was cleared: the tables of before again.
            let tables = rig.new_table();
            rig.set(TTBR + 256 * 4, crate::tables::entry(tables));
            rig.map(1, 0x5_0000, B);
        }) as fn(&mut Rig),
        |rig| {
            rig.set(crate::rig::ENGINE_RESET, 1);
            rig.set(crate::rig::ENGINE_RESET, 0);
            rig.start_ring();
        },
    ] {
        let mut rig = stale_with(strict());
        reset(&mut rig);
        assert!(is_fresh(&mut rig));
    }
}
