//! What the function is, and where its BARs answer.

use e3k_regs::Reg;
use e3k_regs::fields::MmuMode;
use presil::doors::pci::{Class, Identity};
use presil_device::Chip;

use crate::support::vfio::*;

#[test]
fn the_identity_is_the_chips_with_class_and_subsystem_by_option() {
    for chip in Chip::ALL {
        let mut rig = Rig::with(Identity::default(), *chip);
        let ids = u32::from(chip.device_id()) << 16 | u32::from(chip.vendor_id());
        assert_eq!(rig.client.config(0, 4), ids, "{chip}");
        assert_eq!(rig.client.config(0x2C, 4), ids, "{chip}");
        assert_eq!(rig.client.config(8, 4), 0x0380_0000);
    }
    let identity = Identity {
        class: Class::Vga,
        subsystem: Some((0x1234, 0x5678)),
    };
    let mut rig = Rig::with(identity, Chip::E3k);
    assert_eq!(rig.client.config(8, 4), 0x0300_0000);
    assert_eq!(rig.client.config(0x2C, 4), 0x5678_1234);
    rig.client.set_config(4, 2, 0xFFFF);
    assert_eq!(rig.client.config(4, 2), 0x0547, "a VGA has I/O enable");
}

#[test]
fn registers_of_every_width_are_those_of_the_model() {
    let mut rig = Rig::new();
    rig.client.set_config(4, 2, 2);
    rig.client
        .write_region(BAR0, 0x7_0000, &[1, 2, 3, 4, 5, 6, 7, 8])
        .unwrap();
    for (at, bytes) in [(0, 8), (0, 4), (4, 4), (2, 2), (6, 2), (5, 1)] {
        let read = rig.client.read_region(BAR0, 0x7_0000 + at, bytes).unwrap();
        let expected: Vec<u8> = (1..=8)
            .skip(usize::try_from(at).unwrap())
            .take(bytes as usize)
            .collect();
        assert_eq!(read, expected);
    }
    assert_eq!(rig.client.read(Reg::MemReady.offset()), 0xDEAD_BEAF);
    assert_eq!(rig.client.read(Reg::MemChannels.offset()), 0x11);
}

#[test]
fn bars_answer_only_with_memory_enable_and_in_d0() {
    let mut rig = Rig::new();
    let reads = |rig: &mut Rig| {
        let window = rig.client.read_region(BAR1, 0, 4).unwrap();
        (rig.client.read(Reg::MemReady.offset()), window[0])
    };
    assert_eq!(reads(&mut rig), (0xFFFF_FFFF, 0xFF), "as after power-on");
    rig.client.set_config(4, 2, 2);
    assert_eq!(reads(&mut rig), (0xDEAD_BEAF, 0));
    rig.client.write_region(BAR1, 0, &[7]).unwrap();
    assert_eq!(reads(&mut rig).1, 7);
    rig.client.set_config(0x44, 2, 3);
    assert_eq!(reads(&mut rig), (0xFFFF_FFFF, 0xFF), "D3");
    rig.client.write_region(BAR1, 0, &[9]).unwrap();
    rig.client.write(Reg::MmuMode.offset(), 1);
    rig.client.set_config(0x44, 2, 0);
    rig.client.set_config(4, 2, 2);
    assert_eq!(reads(&mut rig), (0xDEAD_BEAF, 7), "VRAM is kept");
    assert_eq!(
        rig.client.read(Reg::MmuMode.offset()),
        0,
        "the write was lost"
    );
}

#[test]
fn bar0_mirrors_the_msi_capability() {
    let mut rig = Rig::new();
    rig.client.set_config(4, 2, 2);
    assert_eq!(rig.client.read(Reg::MsiControl.offset()), 0x0080_6005);
    assert_eq!(rig.client.read(Reg::MsiAddress.offset()), 0);
    rig.client.set_config(0x4C, 4, 0xFEE0_1003);
    assert_eq!(rig.client.read(Reg::MsiAddress.offset()), 0xFEE0_1000);
    rig.client.write(Reg::MsiControl.offset(), 1 << 16 | 0xFF);
    assert_eq!(rig.client.config(0x48, 4), 0x0081_6005);
    let both = rig.client.read_region(BAR0, 0x8048, 8).unwrap();
    assert_eq!(both, [5, 0x60, 0x81, 0, 0, 0x10, 0xE0, 0xFE]);
    rig.client.write(Reg::MsiControl.offset(), 0);
    assert_eq!(rig.client.config(0x4A, 2), 0x80);
}

#[test]
fn what_d1_and_d2_are_is_not_supported() {
    let mut rig = Rig::new();
    for state in [1, 2] {
        rig.client.set_config(0x44, 2, state);
        assert_eq!(rig.client.config(0x44, 2), 0);
    }
    assert_eq!(rig.counters.power_ups.get(), 0);
}

#[test]
fn a_lost_gpu_reads_all_ones_and_the_client_stays() {
    let mut rig = Rig::new();
    rig.bring_up(&Signal::new());
    assert!(rig.gpu.enter().run(|_| panic!("on purpose")).is_err());
    assert_eq!(rig.client.read(Reg::MemReady.offset()), 0xFFFF_FFFF);
    rig.client
        .write(Reg::MmuMode.offset(), MmuMode::new().into_bits());
    assert!(rig.client.call(RESET, &[], &[]).is_ok());
    assert_eq!(rig.client.config(0, 4), 0x3D00_6766);
    rig.client.set_config(4, 2, 2);
    assert_eq!(rig.client.read_region(BAR1, 0x9_0000, 1), Ok(vec![0]));
}
