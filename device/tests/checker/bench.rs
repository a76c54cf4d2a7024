//! A driver on the bench: what the checker finds in what it does.

use crate::rig::{Rig, VRAM_BYTES};
use presil_device::checker::{CacheLines, Checker, Options, Report, Reports, Summary};
use presil_device::{Chip, Config};

/// A checker that looks at a GPU from its function reset on, with the rig's ring set up.
pub(crate) fn watched(levels: &str) -> (Rig, Reports) {
    watched_on(Rig::new(), levels)
}

/// The same of another rig.
pub(crate) fn watched_on(rig: Rig, levels: &str) -> (Rig, Reports) {
    looked_at(rig, Checker::new(&options(levels)))
}

/// The same, with a CPU's caches in view.
pub(crate) fn watched_with(levels: &str, lines: Box<dyn CacheLines>) -> (Rig, Reports) {
    looked_at(Rig::new(), Checker::with_caches(&options(levels), lines))
}

fn options(levels: &str) -> Options {
    Options {
        levels: levels.parse().unwrap(),
        ..Options::default()
    }
}

/// VRAM is of a seed's pattern, or zeros.
fn seeded(seed: Option<u64>) -> Rig {
    let config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true);
    let mut config = config.unwrap();
    config.vram_seed = seed;
    Rig::with_config(&config)
}

fn looked_at(mut rig: Rig, checker: Checker) -> (Rig, Reports) {
    let reports = checker.reports();
    rig.gpu.set_watch(Some(Box::new(checker)));
    rig.gpu.reset();
    rig.start_ring();
    (rig, reports)
}

/// What is found in what a driver does, by all rules that are armed by themselves and
/// those of `levels`.
pub(crate) fn finds(levels: &str, drive: impl FnOnce(&mut Rig)) -> Vec<Report> {
    judged(None, levels, drive).reports
}

/// What came of what a driver did.
pub(crate) struct Judged {
    pub(crate) reports: Vec<Report>,
    pub(crate) summary: Summary,
}

/// As [`finds`], with VRAM of a seed's pattern, and with the summary.
pub(crate) fn judged(seed: Option<u64>, levels: &str, drive: impl FnOnce(&mut Rig)) -> Judged {
    let (mut rig, reports) = watched_on(seeded(seed), levels);
    drive(&mut rig);
    rig.gpu.set_watch(None);
    Judged {
        reports: reports.list(),
        summary: reports.summary(),
    }
}

/// Fails unless the fault is found by rule `id` alone, also by nothing else where that is
/// off, and nothing is found in the near miss, which the rule had to judge.
pub(crate) fn fires(id: u32, fault: impl Fn(&mut Rig), near: impl FnOnce(&mut Rig)) {
    fires_on(None, id, fault, near);
}

/// The same with VRAM of a seed's pattern.
pub(crate) fn fires_on(
    seed: Option<u64>,
    id: u32,
    fault: impl Fn(&mut Rig),
    near: impl FnOnce(&mut Rig),
) {
    let levels = format!("{id}=warn");
    let found = judged(seed, &levels, &fault).reports;
    let ids: Vec<_> = found.iter().map(|report| report.rule.0).collect();
    let text = |found: &[Report]| {
        let lines: Vec<_> = found.iter().map(Report::to_string).collect();
        lines.join("\n")
    };
    assert!(!ids.is_empty(), "the fault of {id} fires nothing");
    assert!(ids.iter().all(|found| *found == id), "{}", text(&found));
    let without = judged(seed, &format!("{id}=off"), fault).reports;
    assert!(without.is_empty(), "{id} is off: {}", text(&without));
    let Judged {
        reports: found,
        summary,
    } = judged(seed, &levels, near);
    assert!(found.is_empty(), "the near miss of {id}: {}", text(&found));
    let judged = summary.rules.iter().find(|rule| rule.rule.0 == id).unwrap();
    assert!(
        judged.checked > 0,
        "{id} had nothing to judge in its near miss"
    );
}
