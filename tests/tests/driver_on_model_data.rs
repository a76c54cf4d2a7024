//! The driver's data checks on the model, whole and broken.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config, Defect, Defects};
use presil_tests::{Check, Guest, data_checks, failed};

const MIB: u64 = 1 << 20;
const SEED: u64 = 0x00C0_FFEE;

fn config(defects: Defects) -> Config {
    let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 64 * MIB, true).unwrap();
    config.vram_seed = Some(SEED);
    config.defects = defects;
    config
}

fn run(defects: Defects) -> Vec<Check> {
    let mut guest = Guest::new(&config(defects)).unwrap();
    data_checks(&mut guest, SEED)
}

#[track_caller]
fn assert_all(checks: &[Check]) {
    let bad: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_data_check_holds_and_again_after_a_reboot_and_after_a_reload() {
    let mut guest = Guest::new(&config(Defects::default())).unwrap();
    let checks = data_checks(&mut guest, SEED);
    assert_all(&checks);
    assert!(checks.len() > 25, "{}", checks.len());

    // The guest reboots without a goodbye: the function is reset, VRAM stays.
    let machine = guest.machine.clone();
    drop(guest);
    machine.reboot();
    let mut guest = Guest::load(machine).unwrap();
    assert_all(&data_checks(&mut guest, SEED));

    // Unloaded properly, and loaded once more.
    let machine = guest.unload().unwrap();
    assert_eq!(machine.ram().owned(), 0, "every page given back");
    let mut guest = Guest::load(machine).unwrap();
    assert_all(&data_checks(&mut guest, SEED));
    guest.unload().unwrap();
}

#[test]
fn a_model_that_ignores_copies_is_noticed() {
    let checks = run(Defects::from([Defect::Copies]));
    let failed = failed(&checks);
    for from in ["local-visible", "pcie-snoop", "pcie-unsnoop"] {
        for to in ["local-visible", "pcie-snoop", "pcie-unsnoop"] {
            let name = format!("copy {from} to {to}");
            assert!(failed.contains(&name.as_str()), "{name}: {failed:?}");
        }
    }
    assert!(!failed.contains(&"fill local-visible"), "{failed:?}");
}

#[test]
fn a_model_that_ignores_fills_is_noticed() {
    let checks = run(Defects::from([Defect::Fills]));
    let failed = failed(&checks);
    let wanted = [
        "fill local-visible",
        "fill local-invisible",
        "fill pcie-snoop",
        "fill pcie-unsnoop",
        "fresh local memory is zero",
    ];
    for name in wanted {
        assert!(failed.contains(&name), "{name}: {failed:?}");
    }
    assert!(
        !failed.contains(&"copy pcie-snoop to pcie-unsnoop"),
        "{failed:?}"
    );
}

#[test]
fn a_model_that_ignores_segments_is_noticed() {
    let checks = run(Defects::from([Defect::Segments]));
    let failed = failed(&checks);
    for name in [
        "every fence came by interrupt",
        "fill pcie-snoop",
        "copy local-visible to pcie-unsnoop",
    ] {
        assert!(failed.contains(&name), "{name}: {failed:?}");
    }
}

#[test]
fn a_model_that_ignores_invalidations_is_noticed() {
    let checks = run(Defects::from([Defect::Invalidations]));
    let failed = failed(&checks);
    for name in [
        "neighbours bound later are reached",
        "a reused GPU address reaches the new pages",
    ] {
        assert!(failed.contains(&name), "{name}: {failed:?}");
    }
    assert!(!failed.contains(&"fill local-visible"), "{failed:?}");
}
