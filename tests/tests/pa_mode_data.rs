//! The PA-mode driver's checks on the model, whole and broken.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config, Defect, Defects};
use presil_tests::pa_driver::{
    Board, Driver, Options, Pool, Request, data_checks, paging_checks, power_checks,
};
use presil_tests::{Check, failed};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SEED: u64 = 0x00C0_FFEE;

/// VRAM full of garbage, and a segment 1 that is easily filled.
fn load(defects: Defects, options: Options) -> Driver {
    let mut config = Config::new(Chip::Arise10c0, GIB, 64 * MIB, false).unwrap();
    config.defects = defects;
    let board = Board::new(&config, SEED).unwrap();
    Driver::load(board, options).unwrap()
}

fn run(defects: Defects) -> Vec<Check> {
    let mut driver = load(defects, Options::default());
    let mut checks = data_checks(&mut driver, SEED);
    checks.extend(paging_checks(&mut driver));
    checks.extend(power_checks(&mut driver, SEED ^ 0xff));
    checks
}

#[track_caller]
fn assert_all(checks: &[Check]) {
    let bad: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[track_caller]
fn assert_noticed(checks: &[Check], by: &[&str], not_by: &[&str]) {
    let failed = failed(checks);
    for name in by {
        assert!(failed.contains(name), "{name}: {failed:#?}");
    }
    for name in not_by {
        assert!(!failed.contains(name), "{name}: {checks:#?}");
    }
}

#[test]
fn every_check_holds() {
    let checks = run(Defects::default());
    assert_all(&checks);
    assert!(checks.len() > 40, "{}", checks.len());
}

/// Page-ins do not wait; the fourth one needs the first one's window.
#[test]
fn a_page_in_waits_for_a_window_that_earlier_ones_hold() {
    const PIECE: u64 = 80 * KIB;
    let options = Options {
        window: 256 * KIB,
        ..Options::default()
    };
    let mut driver = load(Defects::default(), options);
    let pieces: Vec<_> = (1..=8)
        .map(|n: u8| {
            let request = Request::new(PIECE, Pool::LocalVisible);
            let id = driver.allocate(request).unwrap();
            driver.write(id, 0, &vec![n; 80 << 10]).unwrap();
            (id, n)
        })
        .collect();
    assert_eq!(driver.page_out(1, &[]), Ok(3), "three windows");
    assert_eq!(driver.page_out(1, &[]), Ok(3));
    assert_eq!(driver.page_out(1, &[]), Ok(2));
    let before = driver.scheduler.fence_interrupts;
    for (n, (id, _)) in pieces.iter().enumerate() {
        driver.page_in(*id, &[]).unwrap();
        let waited = driver.scheduler.fence_interrupts > before;
        assert_eq!(waited, n >= 3, "piece {n}");
    }
    for (id, n) in pieces {
        assert_eq!(driver.locate(id).0, 1);
        assert_eq!(driver.read(id, 0, PIECE).unwrap(), vec![n; 80 << 10]);
    }
}

#[test]
fn a_model_that_ignores_copies_is_noticed() {
    let checks = run(Defects::from([Defect::Copies]));
    assert_noticed(
        &checks,
        &[
            "copy LocalVisible to LocalHidden",
            "copy LocalVisible to Unsnooped",
            "copy Snooped to LocalVisible",
            "out of LocalVisible and in again",
            "the window is used again with other pages",
            "pressure evicts and loses nothing",
            "suspend and resume without power",
        ],
        &[
            "fresh local memory is zero",
            "fill LocalVisible",
            "fill Snooped",
            "all six fences hold the last id",
        ],
    );
}

#[test]
fn a_model_that_ignores_fills_is_noticed() {
    let checks = run(Defects::from([Defect::Fills]));
    assert_noticed(
        &checks,
        &[
            "fresh local memory is zero",
            "fill LocalVisible",
            "fill LocalHidden",
            "fill Unsnooped",
            "fill Snooped",
            "pressure evicts and loses nothing",
        ],
        &[
            "copy LocalVisible to Unsnooped",
            "out of LocalHidden and in again",
            "suspend and resume without power",
        ],
    );
}

#[test]
fn a_model_that_ignores_invalidations_is_noticed() {
    let checks = run(Defects::from([Defect::Invalidations]));
    assert_noticed(
        &checks,
        &[
            "a GART address is used again with other pages",
            "the window is used again with other pages",
            "pressure evicts and loses nothing",
            "suspend and resume without power",
        ],
        &[
            "fresh local memory is zero",
            "fill LocalVisible",
            "copy LocalVisible to LocalVisible",
        ],
    );
}
