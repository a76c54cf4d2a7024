//! What answers of the displays: counters by the clock, and the lines to
//! monitors (hardware reference 7.4 and 7.5).

use crate::rig::{BIU_ENABLE, BIU_RAW, Rig};
use presil_device::{Chip, Config, Width};

/// Nanoseconds of a frame at 60 Hz.
const FRAME: u64 = 16_666_667;
const FRAME_WORDS: [u32; 4] = [0x8220, 0x8230, 0x34014, 0x34714];
const PORTS: [u32; 5] = [0x88A0, 0x88AA, 0x89C5, 0x89C6, 0x89F8];
const BLANKS: [u32; 2] = [0x8834, 0x8934];
/// Of 1920 x 1080, blanks included.
const LINES: u32 = 1125;
const PIXELS: u32 = 2200;

fn position(rig: &mut Rig, display: usize) -> (u32, u32) {
    let word = rig.reg(FRAME_WORDS[display] + 4);
    (word & 0xffff, word >> 16)
}

fn byte(rig: &mut Rig, at: u32) -> u64 {
    rig.gpu.read(at, Width::B1)
}

#[test]
fn each_vertical_blank_finds_the_next_number_in_every_frame_counter() {
    let mut rig = Rig::new();
    rig.set(BIU_ENABLE, 0x1D);
    for frame in 1..4 {
        rig.gpu.set_clock(u64::from(frame) * FRAME - 1);
        assert_eq!(rig.reg(BIU_RAW), 0);
        for at in FRAME_WORDS {
            assert_eq!(rig.reg(at) & 0xffff, frame - 1, "{at:#x}");
        }
        rig.gpu.set_clock(u64::from(frame) * FRAME);
        assert_eq!(rig.gpu.latch_interrupts().biu, 0x1D);
        for at in FRAME_WORDS {
            assert_eq!(rig.reg(at) & 0xffff, frame, "{at:#x}");
        }
    }
    rig.gpu.set_clock(0x1_0005 * FRAME);
    assert_eq!(rig.reg(FRAME_WORDS[0]) & 0xffff, 5, "the counter wraps");
}

#[test]
fn the_beam_goes_over_every_line_of_a_frame_once_and_starts_again_at_the_sync() {
    let mut rig = Rig::new();
    let mut last = (0, 0);
    for step in 0..=10_000 {
        rig.gpu.set_clock(7 * FRAME + step * FRAME / 10_000);
        let at = position(&mut rig, 0);
        assert!(at.0 < LINES && at.1 < PIXELS, "{at:?}");
        assert_eq!(rig.reg(FRAME_WORDS[0]) >> 16, at.0, "the line counter");
        for display in 1..4 {
            assert_eq!(position(&mut rig, display), at);
        }
        if step == 10_000 {
            assert_eq!((last.0, at.0), (LINES - 1, 0));
        } else {
            assert!(at >= last && at.0 <= last.0 + 1, "{last:?} to {at:?}");
        }
        last = at;
    }
    rig.gpu.set_clock(9 * FRAME - 1);
    assert_eq!(position(&mut rig, 0), (LINES - 1, PIXELS - 1));
}

#[test]
fn the_blank_is_all_but_the_lines_of_the_picture() {
    let mut rig = Rig::new();
    let mut lines = [0, 0];
    for line in 0..LINES {
        // The middle of the line.
        let dot = u64::from(line * PIXELS + PIXELS / 2);
        rig.gpu
            .set_clock(FRAME + dot * FRAME / u64::from(LINES * PIXELS));
        assert_eq!(position(&mut rig, 0).0, line);
        let blank = byte(&mut rig, BLANKS[0]);
        assert!(blank == 0 || blank == 0xff);
        assert_eq!(byte(&mut rig, BLANKS[1]), blank);
        lines[usize::from(blank == 0)] += 1;
        assert_eq!(blank == 0, (41..41 + 1080).contains(&line), "{line}");
    }
    assert_eq!(lines, [45, 1080]);
}

#[test]
fn the_counters_go_on_over_a_reset_and_a_restore() {
    let mut rig = Rig::new();
    rig.gpu.set_clock(5 * FRAME + FRAME / 2);
    let words = |rig: &mut Rig| FRAME_WORDS.map(|at| (rig.reg(at), rig.reg(at + 4)));
    let before = words(&mut rig);
    rig.gpu.reset();
    assert_eq!(words(&mut rig), before);
    let mut state = vec![];
    rig.gpu.save(&mut state).unwrap();
    let mut restored = rig.restored(&state).unwrap();
    assert_eq!(words(&mut restored), before);
}

#[test]
fn without_vertical_blanks_all_counters_stand_at_zero() {
    let mut config = Config::new(Chip::Arise10c0, 1 << 30, 256 << 20, true).unwrap();
    config.vsync = false;
    let mut rig = Rig::with_config(&config);
    for clock in [0, FRAME / 2, 100 * FRAME] {
        rig.gpu.set_clock(clock);
        for at in FRAME_WORDS {
            assert_eq!((rig.reg(at), rig.reg(at + 4)), (0, 0));
        }
        for at in BLANKS {
            assert_eq!(byte(&mut rig, at), 0);
        }
    }
}

#[test]
fn a_line_to_a_monitor_is_low_only_while_an_enabled_port_drives_it_low() {
    for at in PORTS {
        let mut rig = Rig::new();
        assert_eq!(byte(&mut rig, at), 0x0C, "{at:#x}: pulled up");
        for (written, read) in [
            (0x10, 0x10),
            (0x11, 0x15),
            (0x12, 0x1A),
            (0x13, 0x1F),
            (0x1F, 0x1F),
            (0x1C, 0x10), // the lines are not written
            (0x00, 0x0C),
            (0x03, 0x0F),
            (0xE0, 0xEC),
        ] {
            rig.gpu.write(at, Width::B1, written);
            assert_eq!(byte(&mut rig, at), read, "{at:#x} written {written:#x}");
        }
        rig.gpu.write(at, Width::B1, 0x10);
        for other in PORTS.into_iter().filter(|other| *other != at) {
            assert_eq!(byte(&mut rig, other), 0x0C, "its own lines");
        }
        rig.gpu.reset();
        assert_eq!(byte(&mut rig, at), 0x0C);
        assert_eq!(rig.gpu.counters().reserved_writes, 0);
    }
}
