//! The TLB: what stays, what an invalidation drops (hardware reference 5, 10.7).

use crate::rig::{PAGE_A as A, PAGE_B as B, Rig, TTBR, nth_page, push_all, write_as};
use crate::tables::l1_offset;

const PT_INV_ADDR: u32 = 0x49018;
const PT_INV_MASK: u32 = 0x4901C;
const PT_INV_TRIG: u32 = 0x49020;
/// `PT_INV_TRIG`: Target DTLB.
const DTLB: u32 = 2 << 5;

fn invalidate(rig: &mut Rig, address: u32, mask: u32, trigger: u32) {
    rig.set(PT_INV_ADDR, address);
    rig.set(PT_INV_MASK, mask);
    rig.set(PT_INV_TRIG, trigger);
}

/// A rig in VA mode whose process 1 has used the translation of `0x5_0000` to A,
/// and whose tables now say B.
fn stale() -> Rig {
    let mut rig = Rig::in_va_mode();
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
        (0, 0, 1 << 5, false),                  // UTLB
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
        (header(2, 1), [0, 0, 0, 0], false), // UTLB
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
