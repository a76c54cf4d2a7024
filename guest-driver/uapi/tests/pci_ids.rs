//! The module's table of PCI ids is the chip family's.

#![expect(clippy::unwrap_used, reason = "a test")]

use e3k_regs::Chip;
use std::collections::BTreeSet;

const SOURCE: &str = include_str!("../../kmod/pci.c");

fn id(text: &str) -> u16 {
    u16::from_str_radix(text.trim().strip_prefix("0x").unwrap(), 16).unwrap()
}

#[test]
fn the_module_binds_every_chip_of_the_family_and_nothing_else() {
    let rows = SOURCE.split("PCI_DEVICE(").skip(1);
    let bound: BTreeSet<_> = rows
        .map(|row| {
            let (vendor, device) = row.split_once(')').unwrap().0.split_once(',').unwrap();
            (id(vendor), id(device))
        })
        .collect();
    let family: BTreeSet<_> = Chip::ALL
        .iter()
        .map(|chip| (chip.vendor_id(), chip.device_id()))
        .collect();
    assert_eq!(bound, family);
}
