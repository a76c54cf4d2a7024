//! BAR0 at every width, identity, and what a function reset clears and keeps
//! (hardware reference 1, 2, 3).

use crate::rig::{
    ADVANCED_ENABLE, ADVANCED_RAW, BIU_ENABLE, BIU_RAW, BIU_SHADOW, BUFFERS_AT, GATE, HEAD,
    MMU_MODE, RING_ADDRESS, RING_SIZE, Rig, SURFACES_AT, TAIL, TOP_BUSY, TTBR, copy, noise,
};
use crate::tables::vram;
use presil_device::{Chip, Config, Gpu, GpuVa, Width};

const BAR0: u32 = 0x10_0000;
/// Registers that read back what was written and do nothing else here.
const PLAIN: [u32; 10] = [
    0x1000, 0x8A00, 0x4900C, 0x49024, 0x49028, 0x49054, 0x49078, 0x4908C, 0xD390, 0x7_D000,
];

#[test]
fn identity_reads_as_the_chip_says() {
    for (vram_bytes, channels) in [
        (1_u64 << 30, 0x11),
        (8 << 30, 0x18),
        (16 << 30, 0x28),
        (256 << 20, 0),
    ] {
        let config = Config::new(Chip::E3k, vram_bytes, 256 << 20, true).unwrap();
        let mut rig = Rig::with_config(&config);
        assert_eq!(rig.reg(0xD370), 0xDEAD_BEAF);
        assert_eq!(rig.reg(0xD374), channels);
        assert_eq!(rig.gpu.read(0x8852, Width::B1), 0x0A);
        assert_eq!(rig.gpu.vram().bytes(), vram_bytes);
    }
}

#[test]
fn each_chip_keeps_its_own_ids() {
    let ids: Vec<_> = Chip::ALL
        .iter()
        .map(|chip| {
            let config = Config::new(*chip, 1 << 30, 256 << 20, false).unwrap();
            let rig = Rig::with_config(&config);
            (
                rig.gpu.config().chip.vendor_id(),
                rig.gpu.config().chip.device_id(),
            )
        })
        .collect();
    assert_eq!(
        ids,
        [
            (0x1D17, 0x3D00),
            (0x6766, 0x3D00),
            (0x6766, 0x3D06),
            (0x6766, 0x3D0E),
            (0x6766, 0x3D03),
            (0x6766, 0x3D02),
            (0x6766, 0x3D04),
            (0x6766, 0x3D07),
            (0x6766, 0x3D08),
        ]
    );
}

#[test]
fn every_width_reads_and_writes_the_same_bytes() {
    let mut rig = Rig::new();
    for at in [0x1000, 0x7000, 0x49058, TTBR + 0x400] {
        rig.gpu.write(at, Width::B8, 0x8877_6655_4433_2211);
        assert_eq!(rig.gpu.read(at, Width::B8), 0x8877_6655_4433_2211);
        assert_eq!(rig.gpu.read(at, Width::B4), 0x4433_2211);
        assert_eq!(rig.gpu.read(at + 4, Width::B4), 0x8877_6655);
        assert_eq!(rig.gpu.read(at + 2, Width::B2), 0x4433);
        assert_eq!(rig.gpu.read(at + 7, Width::B1), 0x88);
        rig.gpu.write(at + 2, Width::B2, 0xffff_ffff_ffff_abcd);
        rig.gpu.write(at + 5, Width::B1, 0x1ef);
        assert_eq!(rig.gpu.read(at, Width::B8), 0x8877_ef55_abcd_2211);
    }
}

#[test]
fn misaligned_and_outside_accesses_read_all_ones_and_write_nothing() {
    let mut rig = Rig::new();
    let before: Vec<_> = (0..BAR0).step_by(4).map(|at| rig.reg(at)).collect();
    let cases = [
        (1, Width::B2, 0xffff),
        (2, Width::B4, 0xffff_ffff),
        (4, Width::B8, u64::MAX),
        (BAR0, Width::B1, 0xff),
        (BAR0 - 4, Width::B8, u64::MAX),
        (BAR0 - 1, Width::B2, 0xffff),
        (u32::MAX, Width::B1, 0xff),
        (u32::MAX - 7, Width::B8, u64::MAX),
    ];
    for (at, width, ones) in cases {
        assert_eq!(rig.gpu.read(at, width), ones, "{at:#x}");
        rig.gpu.write(at, width, 0x5555_5555_5555_5555);
    }
    assert_eq!(rig.gpu.counters().refused_accesses, 16);
    let after: Vec<_> = (0..BAR0).step_by(4).map(|at| rig.reg(at)).collect();
    assert!(before == after);
    assert_eq!(rig.gpu.read(BAR0 - 8, Width::B8), 0, "the last one inside");
}

#[test]
fn read_only_registers_keep_their_values() {
    let mut rig = Rig::new();
    rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 1, true));
    for at in [
        0xD370,
        0xD374,
        BIU_RAW,
        ADVANCED_RAW,
        0x8578,
        TOP_BUSY,
        0x30004,
        0x30018,
        0x30630,
        0x49040,
        0x49044,
        0x49048,
        0x4904C,
        0x49050,
        0x49068,
    ] {
        let before = rig.reg(at);
        for (width, lanes) in [(Width::B1, 1), (Width::B2, 2), (Width::B4, 4)] {
            for lane in (0..4).step_by(lanes) {
                rig.gpu.write(at + lane, width, u64::MAX);
                rig.gpu.write(at + lane, width, 0);
            }
        }
        rig.gpu.write(at & !7, Width::B8, u64::MAX);
        assert_eq!(rig.reg(at), before, "{at:#x}");
    }
}

#[test]
fn what_has_no_behaviour_is_plain_storage_and_what_is_not_declared_is_counted() {
    let mut rig = Rig::new();
    let before = rig.gpu.counters().undeclared_accesses;
    for at in PLAIN {
        rig.set(at, 0x1234_5678 ^ at);
    }
    for at in PLAIN {
        assert_eq!(rig.reg(at), 0x1234_5678 ^ at, "{at:#x}");
    }
    assert_eq!(
        rig.gpu.counters().undeclared_accesses,
        before + 6,
        "0x1000, 0x7D000, and bytes beside those of 0x8A00, each written and read"
    );
}

#[test]
fn accesses_to_what_is_not_declared_are_counted_by_block() {
    let mut rig = Rig::new();
    let used = |rig: &Rig| -> Vec<_> {
        let blocks = rig.gpu.undeclared();
        blocks
            .map(|all| (all.start, all.words, all.reads, all.writes))
            .collect()
    };
    assert_eq!(used(&rig), []);
    rig.set(0x8200, 1);
    rig.gpu.write(0x8201, Width::B1, 2);
    rig.gpu.read(0x8208, Width::B8);
    // A plain byte beside a register of one byte, and the register.
    rig.gpu.write(0x8851, Width::B1, 3);
    rig.gpu.write(0x8852, Width::B1, 4);
    rig.reg(0xF_FFFC);
    let expected = [(0x8200, 3, 2, 2), (0x8800, 1, 0, 1), (0x8_0000, 1, 1, 0)];
    assert_eq!(used(&rig), expected);
    rig.gpu.reset();
    assert_eq!(used(&rig), expected, "a reset does not forget");
    assert_eq!(rig.gpu.counters().undeclared_accesses, 6);
}

#[test]
fn byte_registers_share_their_word_with_plain_bytes() {
    let mut rig = Rig::new();
    assert_eq!(rig.reg(0x8850), 0x000A_0000);
    rig.set(0x8850, 0x4433_2211);
    assert_eq!(rig.gpu.read(0x8852, Width::B1), 0x33);
    rig.set(GATE, 0xffff_ff01);
    assert_eq!(rig.reg(GATE), 0xffff_ff01);
    rig.gpu.write(GATE + 1, Width::B1, 0);
    assert_eq!(rig.reg(GATE), 0xffff_0001, "the gate stays open");
    rig.gpu.write(0x8A01, Width::B1, 0xff);
    assert_eq!(
        rig.gpu.read(0x8A01, Width::B1),
        0xff,
        "clock gates read back"
    );
}

#[test]
fn a_narrow_write_to_a_status_clears_only_its_byte() {
    let mut rig = Rig::in_va_mode();
    rig.submit(|w| w.fence(GpuVa(0xdead_0000), 1, false));
    assert_eq!(rig.reg(0x49038), 1 << 4);
    rig.gpu.write(0x49039, Width::B1, 0xff);
    rig.gpu.write(0x4903A, Width::B2, 0xffff);
    assert_eq!(rig.reg(0x49038), 1 << 4);
    rig.gpu.write(0x49038, Width::B1, 1 << 4);
    assert_eq!(rig.reg(0x49038), 0);
}

#[test]
fn the_registers_of_all_rings_store() {
    let mut rig = Rig::new();
    for at in (0x3002C..0x3008C)
        .step_by(4)
        .chain((0x30600..0x30630).step_by(4))
    {
        rig.set(at, at);
    }
    assert!(!rig.gpu.has_work(), "none is kicked off");
    for at in (0x3002C..0x3008C)
        .step_by(4)
        .chain((0x30600..0x30630).step_by(4))
    {
        assert_eq!(rig.reg(at), at);
    }
}

/// Every word of BAR0.
fn all(gpu: &mut Gpu) -> Vec<u64> {
    (0..BAR0)
        .step_by(4)
        .map(|at| gpu.read(at, Width::B4))
        .collect()
}

/// A rig in the middle of everything: faults, interrupts, a blit, odd values.
fn busy() -> Rig {
    let mut rig = Rig::in_va_mode();
    rig.enable_interrupts();
    rig.put(vram(SURFACES_AT), &noise(1, 1 << 20));
    rig.submit(|w| {
        w.fence(GpuVa(0xdead_0000), 1, true);
        w.set_register(6, 0, &[0xffff_ffff; 127]);
    });
    for at in PLAIN {
        rig.set(at, u32::MAX);
    }
    rig.set(0x8E000, 0x24); // a power state, and its doorbell
    rig.set(0x8E080, 1);
    rig.set(MMU_MODE, 3 << 8); // PA mode; addresses from 256 MiB on are faults
    rig.set(BIU_SHADOW, 0);
    rig.submit(|w| {
        w.fence(GpuVa(256 << 20), 1, false);
        w.fence(GpuVa(BUFFERS_AT), 1, true);
    });
    rig.queue(|w| copy(w, SURFACES_AT, SURFACES_AT + (8 << 20), 512, 512));
    while rig.gpu.counters().bytes_copied == 0 {
        rig.gpu.step(0);
    }
    rig
}

#[test]
fn after_a_function_reset_every_register_is_as_at_power_on() {
    let config = Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true).unwrap();
    let fresh = all(&mut Gpu::new(&config, Box::new(crate::machine::Line::default())).unwrap());
    let mut rig = busy();
    assert!(all(&mut rig.gpu) != fresh);
    rig.gpu.reset();
    assert!(all(&mut rig.gpu) == fresh);
    assert!(!rig.gpu.has_work() && !rig.gpu.interrupt_pending());
    assert_eq!(rig.gpu.counters().resets, 1);
}

#[test]
fn a_function_reset_keeps_vram_the_logs_and_the_counters() {
    let mut rig = busy();
    let fence = rig.load_u64(vram(BUFFERS_AT));
    let data = rig.get(vram(SURFACES_AT), 1 << 20);
    let counters = rig.gpu.counters();
    rig.gpu.reset();
    assert_eq!((fence, rig.load_u64(vram(BUFFERS_AT))), (1, 1));
    assert!(rig.get(vram(SURFACES_AT), 1 << 20) == data);
    assert_eq!(rig.gpu.faults().count(), 2);
    assert_eq!(
        rig.gpu.counters(),
        presil_device::Counters {
            resets: 1,
            ..counters
        }
    );
}

#[test]
fn a_gpu_works_after_a_function_reset() {
    for held in [false, true] {
        let mut rig = busy();
        if held {
            rig.set(crate::rig::ENGINE_RESET, 0x1FC);
        }
        rig.gpu.reset();
        rig.start_ring();
        let raised = rig.line.raised();
        rig.enable_interrupts();
        rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 9, true));
        assert_eq!(rig.load_u64(vram(BUFFERS_AT)), 9);
        assert_eq!(rig.line.raised(), raised + 1);
    }
}

#[test]
fn a_function_reset_forgets_translations() {
    let mut rig = Rig::in_va_mode();
    rig.map(1, 0x5_0000, vram(SURFACES_AT));
    let write = |rig: &mut Rig| {
        rig.submit(|w| {
            w.indicator(3, 1);
            crate::rig::fill(w, 0x5_0000, 1, 1, 0x55);
        });
    };
    write(&mut rig);
    rig.gpu.reset();
    rig.start_ring();
    rig.enter_va_mode();
    write(&mut rig);
    assert_eq!(
        rig.gpu.faults().last().unwrap().cause,
        presil_device::FaultCause::InvalidL1
    );
}

#[test]
fn the_whole_reset_bit_also_flushes_the_tlb_and_the_3d_bits_do_not() {
    for (units, dropped) in [(1, true), (0x3c, false), (0x1FC, false), (0x40, false)] {
        let mut rig = Rig::in_va_mode();
        rig.map(1, 0x5_0000, vram(SURFACES_AT));
        let write = |rig: &mut Rig, value| {
            rig.submit(|w| {
                w.indicator(3, 1);
                crate::rig::fill(w, 0x5_0000, 1, 1, value);
            });
        };
        write(&mut rig, 1);
        rig.map(1, 0x5_0000, vram(SURFACES_AT + 4096));
        rig.set(crate::rig::ENGINE_RESET, units);
        rig.set(crate::rig::ENGINE_RESET, 0);
        rig.start_ring();
        write(&mut rig, 2);
        let fresh = rig.load(vram(SURFACES_AT + 4096)) == 2;
        assert_eq!(fresh, dropped, "{units:#x}");
    }
}

#[test]
fn an_engine_reset_leaves_everything_but_the_ring() {
    const RING_COMMAND: u32 = 0x303C0;
    for units in [1, 0x3c] {
        let mut rig = busy();
        let before = all(&mut rig.gpu);
        rig.set(crate::rig::ENGINE_RESET, units);
        rig.set(crate::rig::ENGINE_RESET, 0);
        let after = all(&mut rig.gpu);
        let changed: Vec<u32> = (0..)
            .zip(before.iter().zip(&after))
            .filter(|(_, (before, after))| before != after)
            .map(|(word, _): (u32, _)| word * 4)
            .collect();
        assert_eq!(
            changed,
            [TOP_BUSY, RING_ADDRESS, RING_SIZE, HEAD, TAIL, RING_COMMAND],
            "{units:#x}"
        );
    }
}

#[test]
fn reading_every_register_changes_none() {
    let mut rig = busy();
    rig.gpu.latch_interrupts();
    rig.run();
    let first = all(&mut rig.gpu);
    assert!(all(&mut rig.gpu) == first);
    for at in [BIU_ENABLE, ADVANCED_ENABLE] {
        assert_eq!(rig.reg(at), u32::MAX);
    }
}
