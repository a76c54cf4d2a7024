//! Latch, enable, gate (hardware reference 7).

use crate::rig::{
    ADVANCED_ENABLE, ADVANCED_RAW, ADVANCED_SHADOW, BIU_ENABLE, BIU_RAW, BIU_SHADOW, BUFFERS_AT,
    FENCE, GATE, PAGE_FAULT, Rig,
};
use presil_device::{Chip, Config, GpuVa, Latched, Width};

fn fence(rig: &mut Rig) {
    rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 1, true));
}

fn gate(rig: &mut Rig, open: bool) {
    rig.gpu.write(GATE, Width::B1, open.into());
}

#[test]
fn nothing_is_raised_unless_source_enable_and_gate_agree() {
    for (enable, open) in [(0, true), (!FENCE, true), (FENCE, false)] {
        let mut rig = Rig::new();
        rig.set(BIU_ENABLE, u32::MAX);
        rig.set(ADVANCED_ENABLE, enable);
        gate(&mut rig, open);
        fence(&mut rig);
        assert_eq!((rig.reg(ADVANCED_RAW), rig.line.raised()), (FENCE, 0));
        assert!(!rig.gpu.interrupt_pending());
    }
}

#[test]
fn a_write_to_the_shadow_latches_and_clears_both_words() {
    let mut rig = Rig::in_va_mode();
    rig.enable_interrupts();
    rig.submit(|w| w.fence(GpuVa(0xdead_0000), 1, true));
    assert_eq!(
        (rig.reg(BIU_RAW), rig.reg(ADVANCED_RAW)),
        (PAGE_FAULT, FENCE)
    );
    assert_eq!((rig.reg(BIU_SHADOW), rig.reg(ADVANCED_SHADOW)), (0, 0));
    rig.set(BIU_SHADOW, 0);
    assert_eq!((rig.reg(BIU_RAW), rig.reg(ADVANCED_RAW)), (0, 0));
    assert_eq!(
        (rig.reg(BIU_SHADOW), rig.reg(ADVANCED_SHADOW)),
        (PAGE_FAULT, FENCE)
    );
    assert!(!rig.gpu.interrupt_pending());
    rig.set(BIU_SHADOW, u32::MAX);
    assert_eq!(
        (rig.reg(BIU_SHADOW), rig.reg(ADVANCED_SHADOW)),
        (0, 0),
        "what was latched is gone"
    );
}

#[test]
fn any_width_of_write_latches() {
    for (at, width) in [
        (0x8574, Width::B1),
        (0x8577, Width::B1),
        (0x8576, Width::B2),
        (0x8570, Width::B8),
    ] {
        let mut rig = Rig::new();
        fence(&mut rig);
        rig.gpu.write(at, width, 0);
        assert_eq!(
            (rig.reg(ADVANCED_RAW), rig.reg(ADVANCED_SHADOW)),
            (0, FENCE),
            "{at:#x}"
        );
    }
}

#[test]
fn a_latch_by_the_door_is_the_same_as_a_write() {
    let mut rig = Rig::in_va_mode();
    rig.submit(|w| w.fence(GpuVa(0xdead_0000), 1, true));
    let latched = rig.gpu.latch_interrupts();
    assert_eq!(
        latched,
        Latched {
            biu: PAGE_FAULT,
            advanced: FENCE
        }
    );
    assert_eq!(
        (rig.reg(BIU_SHADOW), rig.reg(ADVANCED_SHADOW)),
        (PAGE_FAULT, FENCE)
    );
    assert_eq!((rig.reg(BIU_RAW), rig.reg(ADVANCED_RAW)), (0, 0));
}

#[test]
fn sources_merge_until_the_latch_and_raise_once() {
    let mut rig = Rig::new();
    rig.enable_interrupts();
    for _ in 0..5 {
        fence(&mut rig);
    }
    assert_eq!(rig.line.raised(), 1);
    rig.set(BIU_SHADOW, 0);
    assert_eq!(rig.line.raised(), 1);
    fence(&mut rig);
    assert_eq!(rig.line.raised(), 2);
    assert_eq!(rig.gpu.counters().interrupts, 2);
}

#[test]
fn a_second_source_raises_nothing_while_the_line_is_up() {
    let mut rig = Rig::in_va_mode();
    rig.enable_interrupts();
    rig.submit(|w| w.fence(GpuVa(0xdead_0000), 1, false));
    rig.submit(|w| w.fence(GpuVa(0xdead_0000), 1, true));
    assert_eq!(rig.line.raised(), 1);
    assert_eq!(
        rig.gpu.latch_interrupts(),
        Latched {
            biu: PAGE_FAULT,
            advanced: FENCE
        }
    );
}

#[test]
fn enabling_a_source_that_is_pending_raises() {
    let mut rig = Rig::new();
    gate(&mut rig, true);
    fence(&mut rig);
    rig.set(ADVANCED_ENABLE, FENCE);
    assert_eq!(rig.line.raised(), 1);
    assert!(rig.gpu.interrupt_pending());
}

#[test]
fn opening_the_gate_over_a_pending_source_raises() {
    let mut rig = Rig::new();
    rig.set(ADVANCED_ENABLE, FENCE);
    fence(&mut rig);
    gate(&mut rig, true);
    assert_eq!(rig.line.raised(), 1);
    gate(&mut rig, true);
    assert_eq!(rig.line.raised(), 1, "it was up already");
    gate(&mut rig, false);
    assert!(!rig.gpu.interrupt_pending());
    gate(&mut rig, true);
    assert_eq!(rig.line.raised(), 2, "it fell and rose");
}

#[test]
fn disabling_a_source_takes_the_line_down_and_keeps_the_source() {
    let mut rig = Rig::new();
    rig.enable_interrupts();
    fence(&mut rig);
    rig.set(ADVANCED_ENABLE, 0);
    assert!(!rig.gpu.interrupt_pending());
    assert_eq!(rig.reg(ADVANCED_RAW), FENCE);
    rig.set(ADVANCED_ENABLE, FENCE);
    assert_eq!(rig.line.raised(), 2);
}

#[test]
fn the_enable_words_read_back_every_bit() {
    let mut rig = Rig::new();
    for value in [u32::MAX, 0, 0xa5a5_5a5a, 1 << 31] {
        for at in [BIU_ENABLE, ADVANCED_ENABLE] {
            rig.set(at, value);
            assert_eq!(rig.reg(at), value);
        }
    }
}

#[test]
fn the_drivers_enable_sequence_leaves_nothing_pending() {
    // Hardware reference 7.2 "Enable", with a fence from before.
    let mut rig = Rig::new();
    fence(&mut rig);
    rig.set(BIU_ENABLE, 0);
    rig.set(ADVANCED_ENABLE, FENCE);
    gate(&mut rig, true);
    rig.set(BIU_SHADOW, 0);
    assert!(!rig.gpu.interrupt_pending());
    assert_eq!(rig.reg(ADVANCED_ENABLE), FENCE);
    fence(&mut rig);
    assert!(rig.gpu.interrupt_pending());
}

/// Nanoseconds of a frame at 60 Hz.
const FRAME: u64 = 16_666_667;
const VSYNCS: u32 = 0x1D;

#[test]
fn each_frame_of_the_clock_signals_the_vertical_blanks_that_are_enabled() {
    let mut rig = Rig::new();
    rig.gpu.set_clock(5 * FRAME);
    assert_eq!(rig.gpu.next_vsync(), None);
    rig.set(BIU_ENABLE, 0x05);
    gate(&mut rig, true);
    assert_eq!(rig.gpu.next_vsync(), Some(6 * FRAME));
    rig.gpu.set_clock(6 * FRAME - 1);
    assert!(!rig.gpu.interrupt_pending());
    for frame in 6..10 {
        rig.gpu.set_clock(frame * FRAME);
        let latched = rig.gpu.latch_interrupts();
        assert_eq!(
            latched,
            Latched {
                biu: 0x05,
                advanced: 0
            }
        );
        rig.gpu.set_clock(frame * FRAME + 1);
        assert!(!rig.gpu.interrupt_pending(), "once for each frame");
    }
    assert_eq!(rig.line.raised(), 4);
    rig.gpu.set_clock(1_000 * FRAME);
    assert_eq!(
        rig.gpu.latch_interrupts().biu,
        0x05,
        "frames that went by are one"
    );
    rig.set(BIU_ENABLE, VSYNCS);
    rig.gpu.set_clock(1_001 * FRAME);
    assert_eq!(rig.reg(BIU_RAW), VSYNCS);
}

#[test]
fn the_last_moment_of_the_clock_has_no_vertical_blank_behind_it() {
    let mut rig = Rig::new();
    rig.set(BIU_ENABLE, VSYNCS);
    rig.gpu.set_clock(u64::MAX);
    assert_eq!(rig.gpu.next_vsync(), Some(u64::MAX));
}

#[test]
fn a_gpu_without_displays_has_no_vertical_blanks() {
    let mut config = Config::new(Chip::Arise10c0, 1 << 30, 256 << 20, true).unwrap();
    config.vsync = false;
    let mut rig = Rig::with_config(&config);
    rig.set(BIU_ENABLE, VSYNCS);
    rig.gpu.set_clock(100 * FRAME);
    assert_eq!((rig.reg(BIU_RAW), rig.gpu.next_vsync()), (0, None));
}
