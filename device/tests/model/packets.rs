//! Packet lengths, called buffers, and packets that cannot be executed
//! (hardware reference 10.2 to 10.11).

use crate::rig::{
    ADVANCED_RAW, BUFFERS_AT, CSP_TIMEOUT, HEAD, MMU_MODE, Rig, TAIL, TTBR, push_all,
};
use crate::tables::vram;
use e3k_regs::packet::Writer;
use presil_device::{CspErrorKind, GpuVa, Progress};

const FENCE_AT: u64 = BUFFERS_AT;
const INNER: u64 = BUFFERS_AT + 0x1_0000;
const OUTER: u64 = BUFFERS_AT + 0x2_0000;
/// No packet has this opcode: a parser that trips over it halts.
const TRAP: u32 = 0x5000_0000;

fn fence(w: &mut Writer<'_>, value: u64) {
    w.fence(GpuVa(FENCE_AT), value, false);
}

/// Submits these dwords and a fence behind them; returns whether it was reached.
fn passes(dwords: &[u32]) -> bool {
    let mut rig = Rig::new();
    rig.submit(|w| {
        push_all(w, dwords);
        fence(w, 1);
    });
    let passed = rig.load_u64(vram(FENCE_AT)) == 1;
    assert_eq!(passed, rig.errors().is_empty());
    passed
}

#[test]
fn each_packet_without_effect_is_passed_by_its_exact_length() {
    let mut max_block = vec![TRAP; 4096];
    max_block[0] = 0x9580_0FFF; // block 11 (L2), Dwc 4095
    let mut video = vec![TRAP; 5001];
    video[0] = 0x9780_1388; // block 15, 15-bit Dwc
    let cases: &[&[u32]] = &[
        &[0],
        &[0x0000_0003, TRAP, TRAP, TRAP],
        &[0x2240_0031],
        &[0x4180_0004, TRAP, TRAP, TRAP, TRAP], // Set_Register, block 3 (EU_FS)
        &[
            0x9180_0000 | 3 << 20 | 7,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
        ], // block 3
        &[0x9000_0000 | 1 << 20 | 3, TRAP, TRAP, TRAP], // CSP: clear BL flags
        &[0x9000_0000 | 3 << 20 | 2, TRAP, TRAP], // CSP: restore context
        &[0x9300_0000],                         // FF flush
        &[0x9600_0004, TRAP, TRAP, TRAP, TRAP], // MXU: flush BL cache
        &[0x8000_0001, TRAP],                   // internal fence
        &[0x3000_0002, TRAP, 0],                // Query_Dump of no registers
        &[0x6000_0003, TRAP, TRAP, TRAP],       // Set_Object
        &[
            0xB000_000F,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
            TRAP,
        ], // Gp
        &[0xC000_0007, TRAP, TRAP, TRAP, TRAP, TRAP, TRAP, TRAP], // Vpp
        &[0xF000_0000],                         // TBR indicator
        &max_block,
        &video,
    ];
    for case in cases {
        assert!(passes(case), "{:#010x}", case[0]);
    }
}

#[test]
fn the_longest_skip_passes_over_a_whole_ring() {
    let mut rig = Rig::new();
    rig.set(crate::rig::RING_SIZE, 0x8_0000);
    rig.store(vram(crate::rig::RING_AT), 0xffff);
    rig.set(TAIL, 0x4_0000);
    rig.run();
    assert_eq!((rig.reg(HEAD), rig.gpu.counters().packets), (0x4_0000, 1));
    rig.assert_clean();
}

#[test]
fn a_skip_does_not_read_what_it_skips() {
    const VA: u64 = 0x50_0000;
    let mut rig = Rig::in_va_mode();
    rig.map(0, VA, vram(INNER));
    // Nothing is mapped at VA + 0x1000.
    rig.map(0, VA + 0x2000, vram(INNER + 0x2000));
    rig.map(0, FENCE_AT, vram(FENCE_AT));
    rig.buffer(vram(INNER + 0xFFC), |w| w.push(1024));
    rig.buffer(vram(INNER + 0x2000), |w| fence(w, 1));
    rig.submit(|w| w.dma(GpuVa(VA + 0xFFC), 1 + 1024 + 5));
    rig.assert_clean();
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
}

#[test]
fn what_is_unknown_or_not_modelled_halts_with_a_record_and_an_interrupt() {
    for opcode in [0x5, 0x7, 0xA, 0xD, 0xE] {
        let header: u32 = opcode << 28;
        let mut rig = Rig::new();
        rig.submit(|w| {
            push_all(w, &[0, 0, header]);
            fence(w, 1);
        });
        let error = rig.gpu.ring_errors().next().unwrap().clone();
        assert_eq!((error.offset, error.dword), (8, header));
        let unknown = opcode != 0x7;
        assert_eq!(
            error.kind == CspErrorKind::UnknownOpcode,
            unknown,
            "{error}"
        );
        assert_eq!(rig.reg(ADVANCED_RAW), CSP_TIMEOUT);
        assert_eq!(rig.load_u64(vram(FENCE_AT)), 0);
    }
}

#[test]
fn forms_that_are_not_modelled_halt() {
    let cases: &[&[u32]] = &[
        &[0x8000_0019, 0],        // fence with Irq 3
        &[0x900A_0001, 0],        // Indicator with Info 5
        &[0x9050_0001, 0],        // CSP command 5
        &[0x9300_3000],           // FF command 3
        &[0x2003_0000],           // external wait
        &[0x4300_0102, 0, 0x200], // Set_Register from a physical address
        &[0x4300_0182, 0, 0],     // from the context, where there is none
        &[0x4300_0101, 0],        // from memory, one dword
        &[0x4300_0203, 0, 0, 0],  // with a mask, three dwords
        &[0x4300_0302, 0, 0],     // from memory and with a mask
        &[0x3000_0001, 0],        // Query_Dump, one dword
        &[0x3010_0082, 0, 0],     // Query_Dump to the context, where there is none
        &[0x3000_0082, 2, 0],     // Query_Dump to no multiple of 4
        &[0x3020_0002, 4, 0],     // timestamp to no multiple of 8
        &[0x9600_3003, 0, 0, 0],  // TLB invalidation with three dwords
    ];
    for case in cases {
        assert!(!passes(case), "{:#010x}", case[0]);
    }
}

/// Forms whose count the reference gives, with that count.
const COUNTED: [u32; 14] = [
    0x8000_0001, // internal fence
    0x8000_0043, // external 32-bit fence
    0x8000_0064, // external 64-bit fence
    0x9000_0001, // Indicator
    0x9010_0003, // clear BL flags
    0x9020_0002, // save context
    0x9030_0002, // restore context
    0x9600_0004, // MXU: flush BL cache
    0x9600_1004, // invalidate BL cache
    0x9600_2004, // invalidate UTLB
    0x9600_3004, // invalidate DTLB
    0x3000_0002, // Query_Dump
    0x4300_0102, // Set_Register from memory
    0x4300_0202, // with a mask
];

#[test]
fn a_packet_of_another_count_than_its_forms_halts() {
    let packet = |header: u32| {
        let mut dwords = vec![0; 1 + (header & 7) as usize];
        dwords[0] = header;
        dwords
    };
    for header in COUNTED {
        assert!(passes(&packet(header)), "{header:#010x}");
        for header in [header - 1, header + 1] {
            assert!(!passes(&packet(header)), "{header:#010x}");
        }
    }
}

#[test]
fn a_packet_to_a_block_that_does_not_exist_halts() {
    // GPCTOP is the last (hardware reference 3).
    for (block, exists) in [(24, true), (25, false), (31, false)] {
        for header in [0x3000_0002, 0x4000_0002, 0x9000_0002] {
            let dwords = [header | block << 23, 0, 0];
            assert_eq!(passes(&dwords), exists, "{:#010x}", dwords[0]);
        }
    }
}

#[test]
fn head_stands_behind_a_packet_that_was_fetched_and_refused() {
    let mut rig = Rig::new();
    rig.submit(|w| {
        push_all(w, &[0, 0x4300_0102, 0, 0x200]); // Set_Register from a physical address
        fence(w, 1);
    });
    assert_eq!(rig.gpu.ring_errors().next().unwrap().offset, 4);
    assert_eq!((rig.reg(HEAD), rig.reg(TAIL)), (16, 36));
}

#[test]
fn a_packet_longer_than_what_is_there_halts() {
    let mut rig = Rig::new();
    rig.submit(|w| push_all(w, &[0x4300_0004, 1, 2]));
    assert_eq!(
        rig.errors(),
        [CspErrorKind::Truncated {
            needed: 5,
            available: 3
        }]
    );

    let mut rig = Rig::new();
    rig.buffer(vram(INNER), |w| fence(w, 1));
    rig.submit(|w| {
        w.dma(GpuVa(INNER), 4);
        fence(w, 2);
    });
    assert_eq!(
        rig.errors(),
        [CspErrorKind::Truncated {
            needed: 5,
            available: 4
        }]
    );
    assert!(rig.gpu.ring_errors().all(|error| error.in_buffer));
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 0);
}

#[test]
fn a_called_buffer_runs_and_the_ring_goes_on_behind_the_call() {
    // Modes 0 and 3 have three dwords, modes 1 and 2 four.
    for mode in 0..4_u32 {
        let mut rig = Rig::new();
        let dwords = rig.buffer(vram(INNER), |w| fence(w, 1));
        rig.submit(|w| {
            let header = 0x1000_0000 | mode << 26 | u32::from(dwords);
            push_all(w, &[header, GpuVa(INNER).low(), 0]);
            if mode == 1 || mode == 2 {
                w.push(TRAP);
            }
            w.fence(GpuVa(FENCE_AT + 8), 2, false);
        });
        assert_eq!(rig.load_u64(vram(FENCE_AT)), 1, "mode {mode}");
        assert_eq!(rig.load_u64(vram(FENCE_AT + 8)), 2, "mode {mode}");
        rig.assert_clean();
    }
}

#[test]
fn an_empty_buffer_is_no_call() {
    assert!(passes(&[0x1000_0000, 0xdead_0000, 0xff]));
}

#[test]
fn a_call_of_a_buffer_that_does_not_begin_at_a_dword_halts() {
    for odd in 1..4 {
        let mut rig = Rig::new();
        rig.buffer(vram(INNER + odd), |w| fence(w, 1));
        rig.submit(|w| w.dma(GpuVa(INNER + odd), 5));
        assert!(matches!(rig.errors()[..], [CspErrorKind::Malformed { .. }]));
        assert_eq!(rig.load_u64(vram(FENCE_AT)), 0);
    }
}

#[test]
fn a_buffer_may_call_a_buffer_but_not_deeper() {
    let mut rig = Rig::new();
    let inner = rig.buffer(vram(INNER), |w| fence(w, 1));
    let outer = rig.buffer(vram(OUTER), |w| {
        w.dma(GpuVa(INNER), inner);
        w.fence(GpuVa(FENCE_AT + 8), 2, false);
    });
    rig.submit(|w| {
        w.dma(GpuVa(OUTER), outer);
        w.fence(GpuVa(FENCE_AT + 16), 3, false);
    });
    rig.assert_clean();
    assert_eq!(
        [0, 8, 16].map(|at| rig.load_u64(vram(FENCE_AT + at))),
        [1, 2, 3]
    );

    let inner = rig.buffer(vram(INNER), |w| {
        w.dma(GpuVa(INNER + 0x1000), 5);
        w.push(0);
    });
    rig.submit(|w| {
        w.dma(GpuVa(OUTER), outer);
        w.push(u32::from(inner));
    });
    assert!(matches!(rig.errors()[..], [CspErrorKind::Malformed { .. }]));
}

#[test]
fn a_call_at_a_buffers_end_does_not_nest_deeper() {
    let mut rig = Rig::new();
    for n in 0..8 {
        rig.buffer(vram(INNER + n * 0x1000), |w| {
            w.dma(GpuVa(INNER + (n + 1) * 0x1000), 3);
        });
    }
    rig.buffer(vram(INNER + 8 * 0x1000), |w| {
        w.push(0x0000_0002);
    });
    rig.submit(|w| {
        w.dma(GpuVa(INNER), 3);
        fence(w, 1);
    });
    rig.assert_clean();
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
}

#[test]
fn a_buffer_that_calls_itself_forever_ends_only_by_software() {
    let mut rig = Rig::new();
    rig.buffer(vram(INNER), |w| w.dma(GpuVa(INNER), 3));
    rig.queue(|w| w.dma(GpuVa(INNER), 3));
    for _ in 0..100 {
        let before = rig.gpu.counters().packets;
        assert_eq!(rig.gpu.step(1 << 16), Progress::Pending);
        let packets = rig.gpu.counters().packets - before;
        assert!(
            (1..=256).contains(&packets),
            "{packets} packets in one step"
        );
    }
    rig.set(crate::rig::ENGINE_RESET, 0x3c);
    assert!(!rig.gpu.has_work());
}

#[test]
fn the_l1_bank_is_written_by_set_register_to_block_18() {
    let mut rig = Rig::new();
    rig.submit(|w| w.set_register(18, 3 * 256 + 5, &[0x11, 0x0fff_fff9]));
    assert_eq!(rig.reg(TTBR + (3 * 256 + 5) * 4), 0x11);
    assert_eq!(rig.reg(TTBR + (3 * 256 + 6) * 4), 0x0fff_fff9);
    // The bank ends after 4096 registers.
    rig.submit(|w| w.set_register(18, 4095, &[0x21, 0x31]));
    assert_eq!(rig.reg(TTBR + 4095 * 4), 0x21);
    assert_eq!(rig.reg(TTBR), 0);
    rig.assert_clean();
}

#[test]
fn the_crossbar_is_written_by_set_register_to_block_12_and_only_it() {
    let mut rig = Rig::new();
    rig.submit(|w| w.set_register(12, 1, &[0x300]));
    assert_eq!(rig.reg(MMU_MODE), 0x300);
    rig.submit(|w| w.set_register(12, 3, &[0x0100_1003])); // BL_SIZE
    assert_eq!(rig.reg(0x4900C), 0x0100_1003);
    // Word 0x1C00 of the block would be 0x50000, were the block that long.
    rig.submit(|w| w.set_register(12, 0x1C00, &[0x11; 4]));
    assert_eq!(rig.reg(TTBR), 0);
    rig.submit(|w| w.set_register(12, 0x1fff, &[0x11; 127]));
    rig.assert_clean();
}

#[test]
fn registers_of_blocks_that_only_draw_have_no_effect() {
    let mut rig = Rig::new();
    for block in 0..=24 {
        if ![6, 12, 18].contains(&block) {
            rig.submit(|w| w.set_register(block, 0, &[0x11; 127]));
        }
    }
    rig.assert_clean();
    assert_eq!((rig.reg(TTBR), rig.reg(MMU_MODE)), (0, 0));
}

#[test]
fn the_submission_skeletons_run_through() {
    // Hardware reference 10.11, kinds 1 and 2: 72 dwords, padded to 80.
    for paging in [true, false] {
        let mut rig = Rig::new();
        let commands = rig.buffer(vram(INNER), |w| fence(w, 1));
        let flush = rig.buffer(vram(OUTER), |w| {
            push_all(w, &[0x9300_0000, 0x9300_1000, 0x9580_0000]);
        });
        rig.submit(|w| {
            w.indicator(3, 0);
            if paging {
                push_all(w, &[0; 17]);
                w.dma(GpuVa(INNER), commands);
                w.dma(GpuVa(OUTER), flush);
                push_all(w, &[3, TRAP, TRAP, TRAP]);
            } else {
                push_all(w, &[0; 27]);
            }
            for slot in 1..=6 {
                w.fence(GpuVa(FENCE_AT + slot * 8), 5, slot <= 2);
            }
            push_all(w, &[0; 11]);
            w.indicator(0, 0);
            w.pad_to(16);
            assert_eq!(w.len(), 80);
        });
        rig.assert_clean();
        assert!((1..=6).all(|slot| rig.load_u64(vram(FENCE_AT + slot * 8)) == 5));
        assert_eq!(rig.load_u64(vram(FENCE_AT)), u64::from(paging));
    }
}
