//! `presil serve --check`, and what tells of it.

mod support;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde_json::Value;
use support::gpu;
use support::qemu::Qemu;
use support::server::{Server, run, stderr, stdout};

/// A register that is read-only: the guest's writes of it are misuse.
const CLOCK: u32 = 0x300A4;
const MISUSE: u64 = 70001;

/// A guest that misuses a register twice and leaves.
fn misuse(server: &Server) {
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    gpu::write(&mut qemu, CLOCK, 1);
    gpu::write(&mut qemu, CLOCK, 2);
}

fn rules(answer: &Value) -> Vec<u64> {
    assert!(answer["reports"].is_array(), "{answer}");
    let reports = answer["reports"].as_array().into_iter().flatten();
    reports
        .map(|report| report["rule"].as_u64().unwrap_or_default())
        .collect()
}

#[test]
fn what_a_driver_does_wrong_is_answered_logged_written_down_and_the_exit_code() {
    let mut server = Server::start(&["--check", "warn", "--check-report", "reports"]);
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    assert_eq!(rules(&server.query(&["reports"])), [] as [u64; 0]);
    gpu::write(&mut qemu, CLOCK, 1);
    gpu::write(&mut qemu, CLOCK, 2);
    let answer = server.query(&["reports"]);
    assert_eq!(rules(&answer), [MISUSE]);
    let report = &answer["reports"][0];
    assert_eq!(report["count"], 2, "{report}");
    assert!(
        report["text"].as_str().unwrap().contains("presil[70001]"),
        "{report}"
    );
    let control = server.control();
    let people = run(&["query", "--human", control.to_str().unwrap(), "reports"]);
    let people = stdout(&people);
    assert!(people.contains("\n  presil[70001] "), "{people}");
    assert!(people.contains("\n    would do   "), "{people}");
    assert!(people.contains("\n  driver checker: "), "{people}");
    drop(qemu);
    assert_eq!(server.wait().code(), Some(3));
    let log = server.whole_log();
    assert!(log.contains("presil[70001]"), "{log}");
    assert!(log.contains("rules armed"), "{log}");
    let written = fs::read_to_string(server.dir.path().join("reports")).unwrap();
    assert_eq!(written.lines().count(), 1, "{written}");
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(rules(&written), [MISUSE]);
    assert_eq!(written["gpu"], 0);
}

#[test]
fn caches_are_watched_from_when_qemu_s_plugin_comes() {
    let server = Server::start(&[
        "--check",
        "warn",
        "--check-caches",
        "lines",
        "--check-caches-ram",
        "1M",
    ]);
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    let unwatched = |qemu: &mut Qemu| {
        gpu::write(qemu, CLOCK, 1);
        server.query(&["reports"])["summary"]["text"].to_string()
    };
    assert!(unwatched(&mut qemu).contains("not watched: CPU caches of unsnooped memory"));
    let lines = server.dir.path().join("lines");
    let lines = fs::OpenOptions::new().write(true).open(lines).unwrap();
    assert_eq!(lines.metadata().unwrap().mode() & 0o777, 0o600);
    lines.write_all_at(&2_u64.to_ne_bytes(), 16).unwrap();
    assert!(!unwatched(&mut qemu).contains("cache"));
    lines.write_all_at(&1_u64.to_ne_bytes(), 16).unwrap();
    assert!(unwatched(&mut qemu).contains("not watched: what the CPU reads from its caches"));
}

#[test]
fn a_rule_that_is_off_and_a_finding_that_is_known_are_no_reports() {
    let mut server = Server::start(&["--check", "warn,70001=off"]);
    misuse(&server);
    assert_eq!(server.wait().code(), Some(0));

    let dir = tempfile::tempdir().unwrap();
    let known = dir.path().join("known");
    fs::write(&known, "70001 # it is known\n60001 # nothing is like it\n").unwrap();
    let known = known.to_str().unwrap();
    let mut server = Server::start(&["--check", "warn", "--check-suppressions", known]);
    misuse(&server);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.whole_log();
    assert!(log.contains("of them suppressed 2"), "{log}");
    assert!(
        log.contains("a suppression of 60001 matched nothing"),
        "{log}"
    );
}

#[test]
fn each_guest_is_judged_on_its_own_and_its_reports_count_to_the_end() {
    let mut server = Server::start(&["--keep", "--check", "warn", "--check-report", "reports"]);
    misuse(&server);
    server.await_log("power-cycled");
    {
        let mut qemu = Qemu::attach(&server.socket());
        qemu.start();
        gpu::read(&mut qemu, CLOCK);
        assert_eq!(rules(&server.query(&["reports"])), [] as [u64; 0]);
    }
    server.await_log("power-cycled");
    let written = fs::read_to_string(server.dir.path().join("reports")).unwrap();
    let written: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        written.iter().map(rules).collect::<Vec<_>>(),
        [vec![MISUSE], vec![]]
    );
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(3));
}

#[test]
fn a_signal_right_behind_the_guest_loses_no_report() {
    for keep in [&[][..], &["--keep"]] {
        let options = ["--check", "warn", "--check-report", "reports"];
        let mut server = Server::start(&[&options, keep].concat());
        misuse(&server);
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.wait().code(), Some(3));
        let written = fs::read_to_string(server.dir.path().join("reports")).unwrap();
        assert_eq!(written.lines().count(), 1, "{written}");
    }
}

#[test]
fn without_the_checker_nothing_is_judged_and_the_answer_says_how_to_have_it() {
    for off in [&[][..], &["--check", "off"]] {
        let mut server = Server::start(off);
        let said = server.query(&["reports"])["checker"].to_string();
        assert!(said.contains("--check warn"), "{said}");
        misuse(&server);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_command_line_of_the_checker_that_is_wrong_is_refused_with_what_was_expected() {
    let serve = ["serve", "--vhost-user", "gpu"];
    for (more, code, expected) in [
        (&["--check", "loud"][..], 2, "off, warn or fault"),
        (&["--check", "10=off"], 2, "group (1 to 7)"),
        (&["--check", "19999=off"], 2, "five digits"),
        (&["--check-report", "x"], 2, "--check"),
        (
            &["--check", "warn", "--check-suppressions", "/nowhere"],
            1,
            "/nowhere",
        ),
        (
            &["--check", "warn", "--check-report", "/nowhere/x"],
            1,
            "/nowhere/x",
        ),
    ] {
        let output = run(&[&serve[..], more].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {said}");
        assert!(said.contains(expected), "{more:?}: {said}");
    }
}

#[test]
fn explain_lists_every_rule_and_tells_one_whole() {
    let list = String::from_utf8(run(&["explain"]).stdout).unwrap();
    let rules: Vec<_> = list.lines().skip(1).map(|line| &line[..5]).collect();
    assert!(rules.contains(&"70001"), "{list}");
    for rule in rules {
        let page = String::from_utf8(run(&["explain", rule]).stdout).unwrap();
        assert!(page.starts_with(&format!("# {rule}: ")), "{page}");
        assert!(page.contains("How to mend it"), "{page}");
    }
    let unknown = run(&["explain", "12"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("lists them"));
}
