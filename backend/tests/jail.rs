//! The jail of a running server, also on kernels that lack a part of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use support::qemu::Qemu;
use support::server::Server;

/// What the kernel says of each thread of `server` in this field.
fn told(server: &Server, field: &str) -> Vec<String> {
    let folder = format!("/proc/{}/task", server.pid());
    let threads = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    // A thread may end meanwhile.
    let alive = threads.filter_map(|it| std::fs::read_to_string(it.path().join("status")).ok());
    let value = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap().trim().to_owned()
    };
    alive.map(value).collect()
}

fn assert_all(server: &Server, field: &str, value: &str) {
    let found = told(server, field);
    assert!(found.len() > 3, "{found:?}");
    assert!(
        found.iter().all(|found| found == value),
        "{field} {found:?}"
    );
}

#[test]
fn every_thread_of_a_server_is_jailed_unless_it_is_told_not_to() {
    let server = Server::start(&["--vfio-user", "other"]);
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    assert_all(&server, "NoNewPrivs:", "1");
    assert_all(&server, "Seccomp:", "2");
    let free = Server::start(&["--no-sandbox"]);
    assert_all(&free, "Seccomp:", "0");
}

/// Serves a guest where the kernel does not know these system calls; the log.
/// `filters` are the server's own, behind the one that hides the calls.
fn serve_without(calls: &[libc::c_long], filters: u32) -> String {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, vec![])).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, unknown, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let hide = |command: &mut Command| {
        let hide = move || apply_filter(&program).map_err(io::Error::other);
        // SAFETY: it makes two system calls, and takes memory only where it fails.
        unsafe { command.pre_exec(hide) };
    };
    let mut server = Server::start_prepared(&[], hide);
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    assert_all(&server, "Seccomp_filters:", &(1 + filters).to_string());
    server.signal(Signal::TERM);
    drop(qemu);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.socket().exists());
    server.whole_log()
}

#[test]
fn a_kernel_without_landlock_is_told_and_the_filter_of_calls_is_in_force() {
    let log = serve_without(&[libc::SYS_landlock_create_ruleset], 2);
    assert!(log.contains("not complete: Landlock"), "{log}");
    assert!(!log.contains("not complete: seccomp"), "{log}");
}

#[test]
fn a_kernel_without_filters_of_calls_is_told_and_serves_all_the_same() {
    let log = serve_without(&[libc::SYS_seccomp], 0);
    assert!(log.contains("not complete: seccomp"), "{log}");
    assert!(!log.contains("not complete: Landlock"), "{log}");
}
