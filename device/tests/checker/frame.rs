//! Levels, suppressions, reports and the summary.

use crate::bench::{finds, watched};
use crate::rig::{MMU_MODE, Rig, TOP_BUSY};
use presil_device::checker::{
    Checker, Group, Level, Levels, LevelsError, Options, Suppressions, text, texts,
};
use presil_device::{GpuVa, Width};

fn level(levels: &str, rule: u32) -> Level {
    let levels: Levels = levels.parse().unwrap();
    levels.of(rule, text(rule).unwrap().level)
}

#[test]
fn a_rule_s_level_is_its_own_then_its_group_s_then_that_of_all() {
    assert_eq!(level("", 60001), Level::Warn);
    assert_eq!(level("off", 60001), Level::Off);
    assert_eq!(level("off, 6=fault", 60001), Level::Fault);
    assert_eq!(level("6=fault,60001=warn", 60001), Level::Warn);
    assert_eq!(level("60001=warn,6=off", 60001), Level::Warn);
    assert_eq!(level("6=off", 50001), Level::Warn);
}

#[test]
fn rules_that_are_off_by_themselves_are_armed_by_group_or_by_name_only() {
    assert_eq!(level("warn", 70004), Level::Off);
    assert_eq!(level("fault", 70004), Level::Off);
    assert_eq!(level("7=warn", 70004), Level::Warn);
    assert_eq!(level("off,70004=warn", 70004), Level::Warn);
}

#[test]
fn levels_that_do_not_exist_are_refused_by_name() {
    for (levels, error) in [
        ("loud", LevelsError::Level("loud".into())),
        ("6=", LevelsError::Level(String::new())),
        ("8=warn", LevelsError::Target("8".into())),
        ("60999=off", LevelsError::Target("60999".into())),
        ("0060001=off", LevelsError::Target("0060001".into())),
    ] {
        assert_eq!(levels.parse::<Levels>(), Err(error), "{levels}");
    }
}

#[test]
fn a_rule_that_is_off_finds_nothing_and_is_listed_as_off() {
    assert_eq!(finds("", |rig| rig.set(TOP_BUSY, 1)).len(), 1);
    assert_eq!(finds("70001=off", |rig| rig.set(TOP_BUSY, 1)).len(), 0);
    let (_rig, reports) = watched("70001=off");
    let summary = reports.summary();
    assert!(summary.off.iter().any(|rule| rule.0 == 70001));
    assert!(summary.rules.iter().all(|rule| rule.rule.0 != 70001));
}

#[test]
fn repeats_are_counted_and_not_listed() {
    let found = finds("", |rig| (0..5).for_each(|_| rig.set(TOP_BUSY, 1)));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].count, 5);
    assert!(found[0].to_string().contains("found 5 times here"));
    assert!(found[0].line().contains("count=5 register=TOP_BUSY"));
}

#[test]
fn places_beyond_16_of_one_rule_are_counted() {
    let (mut rig, reports) = watched("");
    for n in 0..40 {
        rig.gpu.write(0x49000 + n, Width::B1, 0); // of registers of 4 bytes
        rig.gpu.write(0x4905C + n, Width::B1, 0);
        rig.gpu.write(0x30000 + 4 * n, Width::B2, 0);
    }
    let list = reports.list();
    let of = list.iter().filter(|report| report.rule.0 == 70003);
    let counts: Vec<_> = of.map(|report| report.count).collect();
    let summary = reports.summary();
    let mut rules = summary.rules.iter();
    let rule = rules.find(|rule| rule.rule.0 == 70003).unwrap();
    assert_eq!(counts.len(), 16, "{rule:?}");
    assert!(rule.unlisted > 0);
    assert_eq!(counts.iter().sum::<u64>() + rule.unlisted, rule.found);
}

#[test]
fn a_suppression_covers_its_place_and_no_other_and_unmatched_ones_are_listed() {
    let suppressions: Suppressions = "\n# known\n\
         70001 register=TOP_BUSY # written at load since ever\n\
         70002 register=TTBR[3] # nobody does\n"
        .parse()
        .unwrap();
    let mut rig = Rig::new();
    let checker = Checker::new(&Options {
        suppressions,
        ..Options::default()
    });
    let reports = checker.reports();
    rig.gpu.set_watch(Some(Box::new(checker)));
    rig.set(TOP_BUSY, 1);
    rig.set(0x30630, 1); // VIDEO_BUSY
    rig.set(MMU_MODE, 2);
    let lines: Vec<_> = reports
        .list()
        .iter()
        .map(presil_device::checker::Report::line)
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("register=VIDEO_BUSY") && lines[1].contains("register=MMU_MODE"));
    let summary = reports.summary();
    assert_eq!(summary.suppressed, 1);
    assert_eq!(summary.unmatched.len(), 1);
    assert_eq!(summary.unmatched[0].reason, "nobody does");
    assert!(
        summary
            .to_string()
            .contains("a suppression of 70002 matched nothing")
    );
}

#[test]
fn a_suppression_needs_a_rule_and_a_reason() {
    for (text, what) in [
        ("70001", "the reason is missing"),
        ("\n70001 # ", "the reason is empty"),
        ("70999 # x", "`70999` is no rule"),
        ("70001 TOP_BUSY # x", "`TOP_BUSY` is no KEY=VALUE"),
    ] {
        let error = text.parse::<Suppressions>().unwrap_err();
        assert_eq!(error.what, what);
        assert_eq!(error.line, if text.starts_with('\n') { 2 } else { 1 });
    }
}

#[test]
fn a_run_without_work_says_that_it_says_nothing() {
    let (mut rig, reports) = watched("");
    assert!(!reports.summary().saw_work());
    assert!(reports.summary().to_string().contains("no work was seen"));
    let idle = reports.summary().without_input().count();
    rig.submit(|w| w.fence(GpuVa(4 << 20), 1, false));
    let summary = reports.summary();
    assert!(summary.saw_work() && summary.packets == 1);
    assert!(summary.without_input().count() < idle);
    assert!(summary.without_input().any(|rule| rule.0 == 10020));
    assert!(!summary.to_string().contains("no work was seen"));
    assert!(summary.to_string().contains("not watched: CPU caches"));
}

#[test]
fn at_least_thirty_rules_are_armed() {
    let (_rig, reports) = watched("");
    assert!(reports.summary().rules.len() >= 30);
}

#[test]
fn a_report_is_json_with_stable_keys() {
    let found = finds("", |rig| rig.set(TOP_BUSY, 1));
    let json = serde_json::to_value(&found[0]).unwrap();
    assert_eq!(json["rule"], 70001);
    assert_eq!(json["level"], "warn");
    assert_eq!(json["place"]["register"], "TOP_BUSY");
    let (_rig, reports) = watched("");
    let json = serde_json::to_value(reports.summary()).unwrap();
    assert!(json["rules"].as_array().unwrap().len() >= 30);
    assert_eq!(
        json["unwatched"][2]["why"],
        "the guest's IOMMU does not tell of mappings"
    );
}

#[test]
fn what_is_reported_does_not_depend_on_how_it_is_read() {
    let drive = |rig: &mut Rig| {
        rig.set(TOP_BUSY, 1);
        rig.submit(|w| w.push(0xA000_0000));
    };
    let [first, second] = [finds("", drive), finds("", drive)];
    let text = |found: &[presil_device::checker::Report]| format!("{found:?}");
    assert_eq!(text(&first), text(&second));
}

#[test]
fn every_rule_has_a_number_of_its_own_in_a_group_and_a_whole_text() {
    let mut last = 0;
    for text in texts() {
        let id = text.id.0;
        assert!(last < id && (10_000..80_000).contains(&id), "{id}");
        last = id;
        assert!(Group(text.group().0).name().is_some());
        for part in [
            text.title,
            text.what,
            text.why,
            text.happened,
            text.mend,
            text.limits,
        ] {
            assert!(part.len() > 10 && !part.contains("  "), "{id}: {part:?}");
        }
        assert!(!text.title.ends_with('.'));
    }
}
