//! Registers from and to memory, fences of all types, compression flags
//! (hardware reference 10.3 to 10.11).

use crate::rig::{ADVANCED_RAW, BUFFERS_AT, FENCE, MIB, MMU_MODE, Rig, TTBR, noise, push_all};
use crate::tables::{snooped, vram};
use presil_device::{FaultClient, GpuVa};

/// Values in VRAM.
const VALUES_AT: u64 = 12 * MIB;
const LOW: u32 = 12 << 20;

fn values(count: u32) -> Vec<u32> {
    (0..count).map(|n| 0x1000_0001 + n * 0x10).collect()
}

fn bytes(dwords: &[u32]) -> Vec<u8> {
    dwords
        .iter()
        .flat_map(|dword| dword.to_le_bytes())
        .collect()
}

/// `Set_Register` from memory: block, first word, more header bits, count.
fn load(block: u32, word: u32, bits: u32, low: u32, count: u32) -> [u32; 3] {
    [
        4 << 28 | block << 23 | word << 10 | 1 << 8 | bits | 2,
        low,
        count << 19,
    ]
}

/// `Query_Dump`: block, more header bits, count, first word.
fn dump(block: u32, bits: u32, low: u32, count: u32, word: u32) -> [u32; 3] {
    [
        3 << 28 | block << 23 | bits | count << 7 | 2,
        low,
        word << 19,
    ]
}

#[test]
fn a_masked_write_changes_the_bits_of_its_mask() {
    let mut rig = Rig::new();
    rig.submit(|w| {
        w.set_register(18, 700, &[0xffff_0000]);
        push_all(w, &[0x4900_0202 | 700 << 10, 0x1234_5678, 0x00ff_00ff]);
        w.set_register(12, 1, &[0x300]);
        push_all(w, &[0x4600_0602, 0x0500, 0x0f00]);
    });
    rig.assert_clean();
    assert_eq!(rig.reg(TTBR + 700 * 4), 0xff34_0078);
    assert_eq!(rig.reg(MMU_MODE), 0x500);
}

#[test]
fn a_masked_write_to_a_status_clears_only_bits_of_its_mask() {
    const INT_STATUS: u32 = 0x49038;
    let mut rig = Rig::in_va_mode();
    rig.submit(|w| {
        w.fence(GpuVa(0xdead_0000), 1, false);
        w.dma(GpuVa(0xdead_0000), 1);
    });
    rig.recover();
    let both = 1 << 1 | 1 << 4;
    assert_eq!(rig.reg(INT_STATUS), both);
    let header = 4 << 28 | 12 << 23 | 0xE << 10 | 1 << 9 | 2;
    rig.submit(|w| push_all(w, &[header, u32::MAX, 1 << 4]));
    assert_eq!(rig.reg(INT_STATUS), 1 << 1);
    rig.submit(|w| push_all(w, &[header, 0, u32::MAX]));
    assert_eq!(rig.reg(INT_STATUS), 1 << 1);
}

#[test]
fn the_crossbars_plain_registers_are_the_same_for_packets_and_the_bus() {
    const PROC_SEC: u32 = 0x49014;
    const DEC_CTRL: u32 = 0x49028;
    let mut rig = Rig::new();
    rig.set(DEC_CTRL, 8);
    rig.put_dwords(vram(VALUES_AT), &[0x1234_5678]);
    rig.submit(|w| {
        w.set_register(12, 5, &[0x8001]);
        push_all(w, &dump(12, 0, LOW + 0x20, 6, 5));
        push_all(w, &load(12, 0x15, 0, LOW, 1)); // RB_FL2[0]
        push_all(
            w,
            &[4 << 28 | 12 << 23 | 5 << 10 | 1 << 9 | 2, 0xffff, 0x30],
        );
        w.set_register(12, 0, &[7]); // nothing is declared there
    });
    rig.assert_clean();
    assert_eq!(rig.load(vram(VALUES_AT + 0x20)), 0x8001);
    assert_eq!(rig.load(vram(VALUES_AT + 0x34)), 8);
    let held = [PROC_SEC, 0x49054, 0x49000].map(|at| rig.reg(at));
    assert_eq!(held, [0x8031, 0x1234_5678, 0]);
}

#[test]
fn registers_are_loaded_from_memory_and_dumped_to_it() {
    for count in [1, 63, 64, 65, 1500, 4096] {
        let mut rig = Rig::new();
        let values = values(count);
        // Across a page's end.
        let low = LOW - 0x40;
        rig.put_dwords(vram(low.into()), &values);
        rig.submit(|w| {
            push_all(w, &load(18, 0, 0, low, count));
            push_all(w, &dump(18, 0, 2 * LOW - 0x20, count, 0));
            w.fence(GpuVa(BUFFERS_AT), 1, false);
        });
        rig.assert_clean();
        assert_eq!(rig.reg(TTBR + (count - 1) * 4), *values.last().unwrap());
        let dumped = rig.get(vram((2 * LOW - 0x20).into()), values.len() * 4 + 4);
        assert!(dumped == [bytes(&values), vec![0; 4]].concat(), "{count}");
        assert_eq!(rig.load_u64(vram(BUFFERS_AT)), 1);
    }
}

#[test]
fn blocks_are_dumped_as_far_as_they_have_behaviour() {
    let mut rig = Rig::new();
    rig.set(0x4900C, 0x0100_0002);
    rig.submit(|w| {
        w.set_register(6, 0x18, &[7, 8]);
        push_all(w, &dump(6, 0, LOW, 2, 0x18));
        push_all(w, &dump(12, 0, LOW + 0x10, 4, 0));
        push_all(w, &dump(0, 0, LOW + 0x20, 2, 7)); // ring 0: address, size
        push_all(w, &dump(3, 0, LOW + 0x30, 2, 0));
        push_all(w, &dump(0, 0, LOW + 0x40, 2, 0x1FFE));
    });
    rig.assert_clean();
    let words: Vec<u32> = (0..20).map(|n| rig.load(vram(VALUES_AT + n * 4))).collect();
    assert_eq!(words[..2], [7, 8]);
    assert_eq!(words[4..8], [0, 0, 0, 0x0100_0002]);
    assert_eq!(words[8..10], [0x8000_0100, 0x1_0000]);
    assert_eq!(words[12..], [0; 8]);
}

#[test]
fn offsets_count_from_the_context_of_a_save_or_restore_buffer() {
    for mode in [1_u32, 2] {
        let mut rig = Rig::new();
        let values = values(4);
        rig.put_dwords(vram(VALUES_AT + 0x800 + 0x40), &values);
        let len = rig.buffer(vram(BUFFERS_AT), |w| {
            push_all(w, &load(18, 100, 1 << 7, 0x40, 4));
            push_all(w, &dump(18, 1 << 20, 0x80, 4, 100));
        });
        rig.submit(|w| {
            let base = (LOW + 0x800) >> 11;
            push_all(
                w,
                &[1 << 28 | mode << 26 | u32::from(len), 0x20_0000, 0, base],
            );
        });
        rig.assert_clean();
        assert_eq!(rig.reg(TTBR + 103 * 4), values[3]);
        assert_eq!(rig.get(vram(VALUES_AT + 0x880), 16), bytes(&values));
    }
}

#[test]
fn a_piece_of_registers_that_faults_is_left_out() {
    let mut rig = Rig::in_va_mode();
    rig.map(0, 0x9000, vram(VALUES_AT));
    rig.put_dwords(vram(VALUES_AT + 0xFF8), &[0x11, 0x21]);
    rig.submit(|w| {
        push_all(w, &load(18, 300, 0, 0x9FF8, 4));
        push_all(w, &dump(18, 0, 0x9FF0, 6, 300));
        w.fence(GpuVa(0x9000), 1, false);
    });
    assert_eq!(
        (rig.reg(TTBR + 301 * 4), rig.reg(TTBR + 302 * 4)),
        (0x21, 0)
    );
    assert_eq!(rig.get(vram(VALUES_AT + 0xFF0), 8), bytes(&[0x11, 0x21]));
    let clients: Vec<_> = rig
        .gpu
        .faults()
        .map(|fault| (fault.client, fault.write))
        .collect();
    assert_eq!(
        clients,
        [
            (FaultClient::RegisterLoad, false),
            (FaultClient::RegisterDump, true)
        ]
    );
    assert_eq!(rig.load_u64(vram(VALUES_AT)), 1);
}

#[test]
fn a_timestamp_is_stored_as_one_64_bit_word() {
    let mut rig = Rig::in_va_mode();
    rig.page(snooped(0x7000));
    rig.map(0, 0x9000, snooped(0x7000));
    rig.gpu.set_clock(0x1234_5678_9abc);
    rig.ram.take_touches();
    rig.submit(|w| push_all(w, &dump(0, 1 << 21, 0x9008, 0, 0)));
    rig.assert_clean();
    assert_eq!(rig.load_u64(snooped(0x7008)), 0x1234_5678_9abc);
    let writes: Vec<_> = rig
        .ram
        .take_touches()
        .iter()
        .map(|touch| touch.bytes)
        .collect();
    assert_eq!(writes, [8]);
}

#[test]
fn fences_of_32_bits_and_fences_that_or() {
    let at = u32::try_from(BUFFERS_AT).unwrap();
    let mut rig = Rig::new();
    rig.put(vram(BUFFERS_AT), &[0xf0; 24]);
    rig.submit(|w| {
        push_all(w, &[0x8000_004B, at + 4, 0, 0x0102_0304]);
        push_all(w, &[0x8000_2043, at + 12, 0, 0x0102_0304]);
        push_all(w, &[0x8000_2064, at + 16, 0, 0x0102_0304, 0x0506_0708]);
        // Internal, slot 3: 5, then or 0x18; a wait for exactly 0x1d.
        push_all(w, &[0x8000_0181, 5, 0x8000_2181, 0x18, 0x20C4_001D]);
    });
    rig.assert_clean();
    let words: Vec<u32> = (0..6).map(|n| rig.load(vram(BUFFERS_AT + n * 4))).collect();
    let f = 0xf0f0_f0f0;
    assert_eq!(
        words,
        [
            f,
            0x0102_0304,
            f,
            f | 0x0102_0304,
            f | 0x0102_0304,
            f | 0x0506_0708
        ]
    );
    let counters = rig.gpu.counters();
    assert_eq!((counters.fences, counters.unmet_waits), (3, 0));
    assert_eq!(rig.reg(ADVANCED_RAW), FENCE);
}

/// Clears `count` bytes of flags at `start`.
fn clear_flags(rig: &mut Rig, start: u64, count: u32, values: u32, mask: u32) {
    rig.submit(|w| {
        let high = u32::try_from(start >> 32).unwrap();
        let low = u32::try_from(start & 0xffff_ffff).unwrap();
        push_all(w, &[0x9010_0003 | count << 3, low, values | high, mask]);
    });
}

#[test]
fn flags_are_cleared_in_the_flag_buffer_only() {
    // 8 MiB at 16 MiB (hardware reference 8.4: offset in 22:4).
    const BUFFER: u64 = 16 * MIB;
    let before = noise(1, 0x1_0000);
    let with = |start: u64, count: u32, mask: u32| {
        let mut rig = Rig::new();
        rig.set(0x4900C, 0x100 << 4);
        rig.put(vram(BUFFER - 0x8000), &before);
        // Value 1 is 5, value 0 is 0xa.
        clear_flags(&mut rig, start, count, 0xA500_0000, mask);
        rig.assert_clean();
        rig.get(vram(BUFFER - 0x8000), before.len())
    };
    let mut expected = before.clone();
    expected[0x8003..0x8003 + 0x2345].fill(0x5a);
    assert!(with(BUFFER + 3, 0x2345, u32::MAX) == expected);
    let mut expected = before.clone();
    expected[0x8000..0x8100].fill(0x5a);
    assert!(with(BUFFER - 0x100, 0x200, u32::MAX) == expected, "clipped");
    assert!(with(BUFFER - 0x200, 0x200, u32::MAX) == before, "outside");
    assert!(with(1 << 39, 0x1_ffff, u32::MAX) == before, "far outside");
    let mut expected = before.clone();
    for at in (0x8000..0x8010).step_by(4) {
        expected[at] = expected[at] & 0xf0 | 0x0a;
        expected[at + 3] = 0x5a;
    }
    assert!(with(BUFFER, 16, 0xff00_000f) == expected, "masked");
}

#[test]
fn the_flag_buffer_is_8_mib_and_doubles_with_its_size() {
    for size in 0..=4_u32 {
        let mut rig = Rig::new();
        rig.set(0x4900C, 0x80 << 4 | size);
        let end = (8 + (8 << size)) * MIB;
        clear_flags(&mut rig, end - 16, 32, 0xA500_0000, u32::MAX);
        let expected = [[0x5a; 16], [0; 16]].concat();
        assert_eq!(rig.get(vram(end - 16), 32), expected, "{size}");
    }
}

#[test]
fn context_saves_and_restores_are_counted() {
    let mut rig = Rig::new();
    rig.submit(|w| {
        push_all(w, &[0x9020_0002, 0, 0]);
        push_all(w, &[0x9038_0002, 0, 0]);
    });
    rig.assert_clean();
    assert_eq!(rig.gpu.counters().context_switches, 2);
}

#[test]
fn the_first_submission_runs_through() {
    // Hardware reference 10.11: Indicator, slice mask, 8 zeros, five registers,
    // an inline restore of 36 dwords, Indicator off; 64 dwords.
    let mut rig = Rig::new();
    rig.submit(|w| {
        w.indicator(3, 0);
        push_all(w, &[0; 8]);
        for (block, word) in [(3, 1), (10, 0), (8, 0), (0, 5), (11, 2)] {
            w.set_register(block, word, &[u32::MAX]);
        }
        let start = w.len();
        push_all(w, &[0x9030_0002, LOW, 0]);
        for block in [1, 2, 3, 4, 5, 6, 8] {
            push_all(w, &load(block, 0, 0, LOW, 64));
        }
        push_all(w, &[0x8000_0481, 0x1_0010, 0x2240_0010, 0x2244_0010]);
        while w.len() < start + 36 {
            w.push(0);
        }
        w.indicator(0, 0);
        w.pad_to(64);
        assert_eq!(w.len(), 64);
    });
    rig.assert_clean();
    assert_eq!(rig.gpu.counters().unmet_waits, 0);
    assert_eq!(rig.gpu.counters().context_switches, 1);
}

#[test]
fn the_context_switch_skeleton_is_72_dwords_and_runs_through() {
    // Hardware reference 10.11, kind 0, by its byte offsets.
    let mut rig = Rig::new();
    let at = u32::try_from(BUFFERS_AT).unwrap();
    rig.put_dwords(vram(BUFFERS_AT + 0x1000), &[0; 65]);
    let base = LOW >> 11;
    rig.submit(|w| {
        w.indicator(3, 0);
        push_all(w, &[0; 5]);
        push_all(w, &[0; 4]);
        assert_eq!(w.len(), 0x2C / 4);
        push_all(w, &[0x1800_0001, at + 0x1000, 0, base]); // restore
        push_all(w, &[0; 4]); // hang dump
        assert_eq!(w.len(), 0x4C / 4);
        push_all(w, &[0x1000_0004, at + 0x1000, 0]); // commands
        push_all(w, &[0x1C00_0041, at + 0x1000, 0]); // cache flush, 65 dwords
        assert_eq!(w.len(), 0x64 / 4);
        push_all(w, &[0x1400_0001, at + 0x1000, 0, base]); // save
        for slot in 0..6_u64 {
            w.fence(GpuVa(BUFFERS_AT + slot * 8), 9, slot < 2);
        }
        assert_eq!(w.len(), 0xEC / 4);
        push_all(w, &[0; 11]);
        assert_eq!(w.len(), 0x118 / 4);
        w.indicator(0, 0);
        assert_eq!(w.len(), 72);
        w.pad_to(16);
        assert_eq!(w.len(), 80);
    });
    rig.assert_clean();
    assert!((0..6).all(|slot| rig.load_u64(vram(BUFFERS_AT + slot * 8)) == 9));
}
