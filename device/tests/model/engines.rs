//! The rings beside ring 0, turns between them, and what the command processor
//! shows (hardware reference 9, 10.1, 10.2).

use crate::rig::{
    ADVANCED_RAW, BUFFERS_AT, CSP_TIMEOUT, ENGINE_RESET, FENCE, MIB, Rig, TOP_BUSY, VRAM_BYTES,
    push_all,
};
use crate::tables::vram;
use e3k_regs::packet::Writer;
use presil_device::{Chip, Config, CspErrorKind, GpuVa, OnWait, Progress, UnmetWait, Width};

const FENCE_AT: u64 = BUFFERS_AT;
const VIDEO_BUSY: u32 = 0x30630;

/// A ring's registers (hardware reference 10.1).
fn base(ring: u32) -> u32 {
    if ring < 7 {
        0x3001C + 0x10 * ring
    } else {
        0x30600 + 0x10 * (ring - 7)
    }
}

/// Fills ring `number`, 4 KiB in VRAM, and kicks it.
fn kick(rig: &mut Rig, number: u32, build: impl FnOnce(&mut Writer<'_>)) {
    let at = (4 + u64::from(number)) * MIB;
    let dwords = crate::rig::packets(build);
    rig.put_dwords(vram(at), &dwords);
    let page = u32::try_from(at >> 12).unwrap();
    for (word, value) in [
        (0, page),
        (4, 0x1000),
        (8, 0),
        (0xC, 0),
        (0, page | 1 << 31),
    ] {
        rig.set(base(number) + word, value);
    }
    rig.set(base(number) + 0xC, u32::try_from(dwords.len() * 4).unwrap());
}

fn fence_at(ring: u32) -> u64 {
    FENCE_AT + u64::from(ring) * 8
}

#[test]
fn rings_7_8_and_9_run_and_interrupt() {
    for ring in 7..10 {
        let mut rig = Rig::new();
        kick(&mut rig, ring, |w| {
            // Skip, internal fence in slot 9, a wait for it, Set_Register.
            push_all(w, &[1, 0x5000_0000, 0x8000_0481, 7, 0x2240_0007]);
            push_all(w, &[0x4780_0002, 0, 0]);
            w.indicator(4, 3);
            // Back end, then front end (hardware reference 10.11).
            push_all(w, &[0x8100_006C, 0x20_0100, 0, 5, 0]);
            w.fence(GpuVa(fence_at(ring)), 5, true);
            w.indicator(0, 0);
        });
        assert_eq!(rig.reg(VIDEO_BUSY), 1 << (ring - 7));
        assert_eq!(rig.reg(TOP_BUSY), 0b10, "MXUA");
        rig.run();
        rig.assert_clean();
        assert_eq!(rig.reg(VIDEO_BUSY), 0);
        assert_eq!(rig.reg(base(ring) + 8), rig.reg(base(ring) + 0xC));
        assert_eq!(rig.load_u64(vram(fence_at(ring))), 5);
        assert_eq!(rig.load_u64(vram(0x20_0100)), 5);
        assert_eq!(rig.reg(ADVANCED_RAW), FENCE);
        assert_eq!(rig.gpu.counters().unmet_waits, 0);
    }
}

#[test]
fn work_on_a_disabled_ring_is_an_error_and_runs_nothing() {
    for ring in 1..7 {
        let mut rig = Rig::new();
        kick(&mut rig, ring, |w| w.fence(GpuVa(FENCE_AT), 1, false));
        rig.run();
        assert_eq!(rig.errors(), [CspErrorKind::Disabled]);
        assert_eq!(
            rig.gpu.ring_errors().next().unwrap().ring,
            u8::try_from(ring).unwrap()
        );
        assert_eq!(rig.load_u64(vram(FENCE_AT)), 0);
        assert_eq!(rig.reg(ADVANCED_RAW), CSP_TIMEOUT);
        assert_eq!(rig.reg(base(ring) + 8), 0, "Head stands");
        rig.submit(|w| w.fence(GpuVa(FENCE_AT), 2, false));
        assert_eq!(rig.load_u64(vram(FENCE_AT)), 2, "ring 0 still runs");
    }
}

#[test]
fn the_video_rings_have_their_own_packets() {
    for (ring, bit) in [(7, 1 << 2), (8, 1 << 6)] {
        for header in [
            0x1000_0000,
            0x3000_0000,
            0x6000_0000,
            0x7000_0000,
            0xA000_0000,
            0xB000_0000,
            0xC000_0000,
            0xD000_0000,
            0xE000_0000,
            0xF000_0000,
        ] {
            let mut rig = Rig::new();
            kick(&mut rig, ring, |w| {
                push_all(w, &[0x5000_0001, 0, header]); // the second Set_Register
                w.fence(GpuVa(FENCE_AT), 1, false);
            });
            rig.run();
            let error = rig.gpu.ring_errors().next().unwrap().clone();
            assert_eq!((error.offset, error.dword), (8, header));
            let no_length = matches!(header >> 28, 7 | 0xC | 0xD | 0xE);
            assert_eq!(
                matches!(error.kind, CspErrorKind::Unsupported { .. }),
                no_length,
                "{error}"
            );
            assert_eq!(rig.load_u64(vram(FENCE_AT)), 0);
            assert_eq!(rig.reg(ADVANCED_RAW), bit);
        }
    }
}

#[test]
fn block_commands_of_ring_0_mean_nothing_on_a_video_ring() {
    let mut rig = Rig::new();
    kick(&mut rig, 7, |w| {
        push_all(w, &[0x9302_A003, 0, 0, 0]); // a copy
        push_all(w, &[0x9600_3001, 0]); // half an invalidation
        push_all(w, &[0x9300_3000]); // what ring 0 does not know
        w.fence(GpuVa(FENCE_AT), 1, false);
    });
    rig.run();
    rig.assert_clean();
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
    assert_eq!(rig.gpu.counters().without_effect, 3);
}

#[test]
fn the_post_processors_ring_has_no_3d_pipe() {
    let mut rig = Rig::new();
    kick(&mut rig, 9, |w| {
        push_all(w, &[0xC000_0002, 0, 0]);
        crate::rig::fill(w, FENCE_AT, 64, 1, 1);
    });
    rig.run();
    assert!(matches!(
        rig.errors()[..],
        [CspErrorKind::Unsupported { .. }]
    ));
    assert_eq!(rig.reg(ADVANCED_RAW), 1 << 18);
    assert_eq!(rig.load(vram(FENCE_AT)), 0);
}

#[test]
fn an_endless_ring_does_not_starve_another() {
    let mut rig = Rig::new();
    // Buffers that store the time and call themselves.
    let times = [0, 9].map(|ring| vram(fence_at(ring)));
    let buffers = [0, 9].map(|ring| {
        let at = 20 * MIB + u64::from(ring) * 4096;
        rig.buffer(vram(at), |w| {
            push_all(w, &[0x3020_0002, GpuVa(fence_at(ring)).low(), 0]);
            w.dma(GpuVa(at), 6);
        });
        GpuVa(at)
    });
    rig.gpu.set_clock(5);
    rig.queue(|w| w.dma(buffers[0], 6));
    kick(&mut rig, 9, |w| w.dma(buffers[1], 6));
    for _ in 0..4 {
        for at in times {
            rig.put(at, &[0; 8]);
        }
        assert_eq!(rig.gpu.step(64 << 10), Progress::Pending);
        assert_eq!(times.map(|at| rig.load_u64(at)), [5, 5]);
    }
    for ring in [7, 8] {
        kick(&mut rig, ring, |w| {
            (0..100).for_each(|_| w.push(0));
            w.fence(GpuVa(fence_at(ring)), 1, false);
        });
    }
    for _ in 0..16 {
        assert_eq!(rig.gpu.step(64 << 10), Progress::Pending);
    }
    assert_eq!(
        [7, 8].map(|ring| rig.load_u64(vram(fence_at(ring)))),
        [1, 1]
    );
    rig.set(ENGINE_RESET, 0x1FC);
    assert!(!rig.gpu.has_work());
}

#[test]
fn turns_do_not_depend_on_how_a_run_is_cut() {
    let order = |budget: u32| {
        let mut rig = Rig::new();
        for ring in 7..10 {
            kick(&mut rig, ring, |w| {
                for n in 0..100 {
                    w.push(0);
                    // Each ring writes the same words: the last one shows.
                    w.fence(GpuVa(FENCE_AT + n * 8), ring.into(), false);
                }
            });
        }
        while rig.gpu.step(budget) == Progress::Pending {}
        rig.assert_clean();
        rig.get(vram(FENCE_AT), 800)
    };
    let whole = order(u32::MAX);
    for budget in [0, 1, 1000, 5000, 1 << 16] {
        assert!(order(budget) == whole, "{budget}");
    }
}

#[test]
fn each_reset_bit_stops_its_own_rings() {
    let buffer = 20 * MIB;
    for (units, stopped) in [
        (1_u32, vec![0, 7, 8, 9]),
        (1 << 1, vec![]),
        (1 << 2, vec![0]),
        (1 << 3, vec![0]),
        (1 << 4, vec![0]),
        (1 << 5, vec![0]),
        (1 << 6, vec![9]),
        (1 << 7, vec![7]),
        (1 << 8, vec![8]),
        (0x1FC, vec![0, 7, 8, 9]),
        (0xFFFF_FE00, vec![]),
    ] {
        let mut rig = Rig::new();
        rig.buffer(vram(buffer), |w| w.dma(GpuVa(buffer), 3));
        for ring in [0, 9] {
            kick(&mut rig, ring, |w| w.dma(GpuVa(buffer), 3));
        }
        for ring in [7, 8] {
            kick(&mut rig, ring, |w| (0..1000).for_each(|_| w.push(0)));
        }
        rig.gpu.step(1 << 10);
        rig.set(ENGINE_RESET, units);
        for ring in [0, 7, 8, 9] {
            let is_stopped = stopped.contains(&ring);
            assert_eq!(rig.reg(base(ring)) == 0, is_stopped, "{units:#x} {ring}");
            let busy = if ring == 0 {
                rig.reg(TOP_BUSY) & 1
            } else {
                rig.reg(VIDEO_BUSY) >> (ring - 7) & 1
            };
            assert_eq!(busy == 0, is_stopped, "{units:#x} {ring}");
        }
        rig.set(ENGINE_RESET, 0x1FC);
        rig.set(ENGINE_RESET, 0);
        for ring in [0, 7, 8, 9] {
            kick(&mut rig, ring, |w| w.fence(GpuVa(fence_at(ring)), 3, false));
        }
        rig.run();
        assert!(
            [0, 7, 8, 9]
                .iter()
                .all(|ring| rig.load_u64(vram(fence_at(*ring))) == 3)
        );
    }
}

#[test]
fn a_halted_ring_leaves_the_others_alone() {
    let mut rig = Rig::new();
    rig.submit(|w| w.push(0x5000_0000));
    kick(&mut rig, 7, |w| w.fence(GpuVa(FENCE_AT), 1, false));
    rig.run();
    assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
    assert_eq!((rig.reg(TOP_BUSY) & 1, rig.reg(VIDEO_BUSY)), (1, 0));
}

/// Slot 3 holds 5; then this Wait.
fn wait(on_wait: OnWait, header: u32) -> Rig {
    let mut config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true).unwrap();
    config.on_wait = on_wait;
    let mut rig = Rig::with_config(&config);
    rig.submit(|w| {
        push_all(w, &[0x8000_0181, 5, header]);
        w.fence(GpuVa(FENCE_AT), 1, false);
    });
    rig
}

#[test]
fn waits_compare_their_slot() {
    const EQUAL: u32 = 1 << 18;
    for (header, met) in [
        (0x20C0_0005, true),
        (0x20C0_0004, true),
        (0x20C0_0006, false),
        (0x20C0_0005 | EQUAL, true),
        (0x20C0_0004 | EQUAL, false),
        (0x2100_0000, true),
        (0x2100_0001, false),
        (0x20C1_0006, true), // mode 1
        (0x20C2_0006, true), // mode 2
    ] {
        let rig = wait(OnWait::Pass, header);
        assert_eq!(rig.gpu.unmet_waits().count() == 0, met, "{header:#x}");
        assert_eq!(rig.load_u64(vram(FENCE_AT)), 1);
        rig.assert_clean();

        let rig = wait(OnWait::Halt, header);
        assert_eq!(rig.errors().is_empty(), met, "{header:#x}");
        assert_eq!(rig.load_u64(vram(FENCE_AT)) == 1, met, "{header:#x}");
        assert_eq!(rig.gpu.unmet_waits().count(), 0);
    }
    let rig = wait(OnWait::Halt, 0x20C0_0006);
    let kind = CspErrorKind::UnmetWait {
        slot: 3,
        value: 6,
        counter: 5,
    };
    assert_eq!(rig.errors(), [kind]);
}

#[test]
fn each_ring_has_its_own_slots() {
    let mut rig = Rig::new();
    rig.submit(|w| push_all(w, &[0x8000_0181, 5]));
    kick(&mut rig, 7, |w| w.push(0x20C0_0005));
    rig.run();
    let waits: Vec<_> = rig.gpu.unmet_waits().cloned().collect();
    let expected = UnmetWait {
        ring: 7,
        offset: 0,
        slot: 3,
        value: 5,
        equal: false,
        counter: 0,
    };
    assert_eq!(waits, [expected]);
}

#[test]
fn the_timestamp_is_the_clock_where_the_chip_has_it() {
    for (chip, at, other) in [
        (Chip::E3k, 0x300A4, 0x300B4),
        (Chip::Arise1040, 0x300A4, 0x300B4),
        (Chip::Arise1020, 0x300B4, 0x300A4),
        (Chip::Arise2020, 0x300B4, 0x300A4),
    ] {
        let config = Config::new(chip, VRAM_BYTES, VRAM_BYTES, true).unwrap();
        let mut rig = Rig::with_config(&config);
        assert_eq!(rig.reg(at), 0);
        rig.gpu.set_clock(0x1_2345_6789);
        assert_eq!((rig.reg(at), rig.reg(at + 4)), (0x2345_6789, 1));
        assert_eq!((rig.reg(other), rig.reg(other + 4)), (0, 0));
        rig.gpu.set_clock(7);
        assert_eq!(rig.reg(at), 0x2345_6789, "it never goes back");
        rig.set(at, 5);
        assert_eq!(rig.reg(at), 0x2345_6789);
        rig.gpu.reset();
        assert_eq!(rig.reg(at), 0x2345_6789);
    }
}

#[test]
fn the_current_command_words_show_the_last_headers() {
    let (outer, inner) = (20 * MIB, 21 * MIB);
    let mut rig = Rig::new();
    rig.buffer(vram(inner), |w| push_all(w, &[0x0000_0001, 0]));
    rig.buffer(vram(outer), |w| {
        w.dma(GpuVa(inner), 2);
        push_all(w, &[0x0000_0002, 0, 0]);
    });
    rig.submit(|w| {
        w.dma(GpuVa(outer), 6);
        push_all(w, &[0x0000_0003, 0, 0, 0]);
    });
    kick(&mut rig, 8, |w| push_all(w, &[0x0000_0004, 0, 0, 0, 0]));
    rig.run();
    assert_eq!((rig.reg(0x303B8), rig.reg(0x303BC)), (2, 1));
    assert_eq!((rig.reg(0x303C0), rig.reg(0x303C0 + 4 * 8)), (3, 4));
}

#[test]
fn the_power_handshake_is_done_at_once_for_the_six_states() {
    const STATE: u32 = 0x8E000;
    const DOORBELL: u32 = 0x8E080;
    let mut rig = Rig::new();
    assert_eq!(rig.reg(STATE), 0);
    rig.set(DOORBELL, 1);
    assert_eq!(rig.reg(STATE) >> 16 & 0xff, 0x22);
    for state in [0x00, 0x10, 0x12, 0x22, 0x24, 0x44] {
        rig.set(STATE, 0x11 << 16 | state);
        assert_eq!(
            rig.reg(STATE) >> 16 & 0xff,
            0x11,
            "nothing before the doorbell"
        );
        rig.set(DOORBELL, 0);
        assert_eq!(rig.reg(STATE) >> 16 & 0xff, 0x11);
        rig.set(DOORBELL, 1);
        assert_eq!(rig.reg(STATE), state << 24 | 0x22 << 16 | state);
    }
    rig.set(STATE, 0x11 << 16 | 0x11);
    rig.set(DOORBELL, 1);
    assert_eq!(
        rig.reg(STATE),
        0x44 << 24 | 0x33 << 16 | 0x11,
        "no such state"
    );
    rig.gpu.reset();
    assert_eq!(rig.reg(STATE), 0);
}

#[test]
fn the_clock_gates_read_back() {
    let mut rig = Rig::new();
    for value in [0xff, 0x70, 0] {
        rig.gpu.write(0x8A01, Width::B1, value);
        assert_eq!(rig.gpu.read(0x8A01, Width::B1), value);
    }
}
