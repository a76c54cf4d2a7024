//! The declarations as a driver meets them: reset values, access modes, and
//! what is counted and said when it does what it should not.

use crate::machine::Line;
use crate::rig::{GATE, MMU_MODE, Rig};
use crate::state::saved;
use e3k_regs::register::REGISTERS;
use e3k_regs::{Access, Reg, RegInfo};
use presil_device::{Chip, Config, Counters, Gpu, Misuse, Width};

/// (read-only, reserved, width)
fn misuses(counters: Counters) -> (u64, u64, u64) {
    (
        counters.read_only_writes,
        counters.reserved_writes,
        counters.wrong_widths,
    )
}

fn width(info: &RegInfo) -> Width {
    Width::from_bytes(info.width).unwrap()
}

#[test]
fn at_power_on_every_register_reads_its_reset_value() {
    let config = Config::new(Chip::Arise10c0, 1 << 30, 256 << 20, true).unwrap();
    let mut gpu = Gpu::new(&config, Box::new(Line::default())).unwrap();
    for info in REGISTERS.iter().filter(|i| i.reg != Reg::MemChannels) {
        for index in [0, info.count - 1] {
            let value = gpu.read(info.reg.at(index), width(info));
            assert_eq!(value, u64::from(info.reset), "{}", info.label(index));
        }
    }
    assert_eq!(misuses(gpu.counters()), (0, 0, 0));
}

#[test]
fn a_look_at_a_word_is_what_a_read_finds_and_no_access() {
    let mut rig = Rig::new();
    for info in REGISTERS.iter().filter(|i| i.access != Access::ReadOnly) {
        rig.gpu.write(info.offset, width(info), 0x5a);
    }
    for offset in (0..0x10_0000).step_by(0x1000) {
        rig.gpu.write(offset + 0xf00, Width::B4, offset.into());
    }
    let before = (rig.gpu.counters(), rig.gpu.undeclared().collect::<Vec<_>>());
    let words = || (0..0x10_0000).step_by(4);
    let seen: Vec<u32> = words().map(|offset| rig.gpu.peek(offset)).collect();
    let after = (rig.gpu.counters(), rig.gpu.undeclared().collect::<Vec<_>>());
    assert_eq!(after, before);
    for (offset, seen) in words().zip(seen) {
        let read = rig.gpu.read(offset, Width::B4);
        assert_eq!(u64::from(seen), read, "{offset:#x}");
    }
    for offset in [2, 0x10_0000, u32::MAX] {
        assert_eq!(rig.gpu.peek(offset), u32::MAX);
    }
}

#[test]
fn every_read_write_register_reads_back_what_was_written() {
    for info in REGISTERS.iter().filter(|i| i.access == Access::ReadWrite) {
        // The state that the chip is in is the chip's to say.
        if info.reg == Reg::PowerState {
            continue;
        }
        for index in [0, info.count - 1] {
            let mut rig = Rig::new();
            let all = if info.width == 1 { 0xff } else { u32::MAX };
            let value = u64::from(0x5a5a_5a5a & all & !info.layout(index).reserved);
            rig.gpu.write(info.reg.at(index), width(info), value);
            let held = rig.gpu.read(info.reg.at(index), width(info));
            assert_eq!(held, value, "{}", info.label(index));
            assert_eq!(misuses(rig.gpu.counters()), (0, 0, 0));
        }
    }
}

#[test]
fn a_write_to_any_read_only_register_is_lost_and_counted() {
    let mut rig = Rig::new();
    let mut count = 0;
    for info in REGISTERS.iter().filter(|i| i.access == Access::ReadOnly) {
        for index in [0, info.count - 1] {
            let at = info.reg.at(index);
            let before = rig.gpu.read(at, width(info));
            rig.gpu.write(at, width(info), !before);
            count += 1;
            assert_eq!(
                rig.gpu.read(at, width(info)),
                before,
                "{}",
                info.label(index)
            );
            assert_eq!(misuses(rig.gpu.counters()), (count, 0, 0));
        }
    }
}

#[test]
fn ones_in_reserved_bits_are_counted_and_stored() {
    let mut rig = Rig::new();
    rig.set(MMU_MODE, 0x0000_03e0);
    assert_eq!(rig.reg(MMU_MODE), 0x0000_03e0);
    assert_eq!(misuses(rig.gpu.counters()), (0, 1, 0));
    rig.set(MMU_MODE, 0xffff_ff11);
    rig.set(0x49020, 0x5f);
    rig.gpu.write(GATE, Width::B1, 0x11);
    assert_eq!(misuses(rig.gpu.counters()), (0, 1, 0), "no reserved bit");
    rig.set(0x49020, 0x80);
    rig.gpu.write(GATE, Width::B1, 0x02);
    rig.set(0x49038, 1 << 30);
    assert_eq!(misuses(rig.gpu.counters()), (0, 4, 0));
}

#[test]
fn what_packets_write_is_counted_like_what_the_bus_writes() {
    let mut rig = Rig::new();
    rig.submit(|w| {
        w.set_register(12, 0x10, &[1]); // PAGE_FAULT_STATUS0
        w.set_register(12, 1, &[0x20]); // MMU_MODE, bit 5
        w.set_register(18, 7, &[0xf000_0000]); // TTBR[7], bits 31:28
        w.set_register(18, 8, &[0x0fff_ffff]);
        w.set_register(12, 0x10, &[]);
    });
    assert_eq!(misuses(rig.gpu.counters()), (1, 2, 0));
    assert_eq!(rig.reg(0x5001C), 0xf000_0000);
}

#[test]
fn reserved_bits_that_a_narrow_write_leaves_alone_do_not_count() {
    let mut rig = Rig::new();
    rig.gpu.write(MMU_MODE + 1, Width::B1, 0xff);
    assert_eq!(misuses(rig.gpu.counters()), (0, 0, 1));
    rig.gpu.write(MMU_MODE, Width::B1, 0xff);
    assert_eq!(misuses(rig.gpu.counters()), (0, 1, 2));
}

#[test]
fn accesses_in_another_width_than_the_registers_are_counted() {
    let mut rig = Rig::new();
    for (at, width, wrong) in [
        (MMU_MODE, Width::B4, 0),
        (0x300A0, Width::B8, 0), // two times 32 bits
        (MMU_MODE, Width::B2, 1),
        (MMU_MODE + 3, Width::B1, 1),
        (GATE, Width::B1, 0),
        (GATE, Width::B2, 1),
        (GATE, Width::B4, 2),   // with the byte of ENGINE_RESET_BYTE
        (0x8AA1, Width::B1, 0), // nothing declared
        (0x83C0, Width::B4, 4),
        (0x8A70, Width::B1, 0), // CR registers are bytes to software
        (0x8A6F, Width::B1, 0),
        (0x8A70, Width::B2, 1),
        (0x70020, Width::B1, 0), // tag and version are text
        (0x7005F, Width::B1, 0),
        (0x70020, Width::B2, 1),
        (0x7CE00, Width::B2, 0), // the signature
        (0x7CE00, Width::B1, 1),
        (0x88A0, Width::B1, 0),
        (0x8220, Width::B2, 1),
        (0x1000, Width::B2, 0),
    ] {
        let before = rig.gpu.counters().wrong_widths;
        rig.gpu.read(at, width);
        assert_eq!(rig.gpu.counters().wrong_widths - before, wrong, "{at:#x}");
        rig.gpu.write(at, width, 0);
        let both = rig.gpu.counters().wrong_widths - before;
        assert_eq!(both, 2 * wrong, "{at:#x}");
    }
}

#[test]
fn every_misuse_is_told_with_its_register_and_how_often() {
    let mut rig = Rig::new();
    rig.set(0xD370, 7);
    rig.set(0xD370, 8);
    rig.set(0x3005C, 3 << 29);
    rig.gpu.read(MMU_MODE + 3, Width::B1);
    rig.gpu.write(GATE, Width::B1, 0x02);
    rig.gpu.reset();
    let told: Vec<_> = rig
        .gpu
        .misuses()
        .map(|all| (all.register, all.offset, all.kind, all.count))
        .collect();
    let one = |name: &str, offset, kind, count| (name.to_owned(), offset, kind, count);
    assert_eq!(
        told,
        [
            one("ADAPTER_CONTROL", GATE, Misuse::Reserved, 1),
            one("MEM_READY", 0xD370, Misuse::ReadOnly, 2),
            one("RING[4].ADDRESS", 0x3005C, Misuse::Reserved, 1),
            one("MMU_MODE", MMU_MODE, Misuse::Width, 1),
        ]
    );
    let restored: Vec<_> = rig
        .restored(&saved(&rig.gpu))
        .unwrap()
        .gpu
        .misuses()
        .collect();
    assert_eq!(restored, rig.gpu.misuses().collect::<Vec<_>>());
}

#[test]
fn undeclared_words_are_told_one_by_one() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.reg(0x33000);
    }
    rig.set(0x33000, 1);
    rig.gpu.write(0x1002, Width::B2, 1);
    let told: Vec<_> = rig
        .gpu
        .undeclared_words()
        .map(|word| (word.block, word.offset, word.reads, word.writes))
        .collect();
    assert_eq!(
        told,
        [
            ("unknown, below 0x5000", 0x1000, 0, 1),
            ("display, from 0x33000", 0x33000, 3, 1),
        ]
    );
}
