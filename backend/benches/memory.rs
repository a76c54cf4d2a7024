//! What the largest GPU takes of the host: memory, and the time until the
//! daemon listens.
#![allow(missing_docs, reason = "a benchmark is a program")]
#![allow(clippy::expect_used, reason = "a benchmark may fail by panicking")]

#[path = "../tests/support/large.rs"]
mod large;

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let figures = large::measure();
    let mib = |bytes: u64| bytes >> 10;
    println!("64 GiB of VRAM, 8 GiB of GART mapped:");
    println!(
        "  anonymous memory {} KiB (limit 32768)",
        mib(figures.anonymous)
    );
    for (name, (taken, touched)) in [("VRAM", figures.vram), ("RAM", figures.ram)] {
        let (taken, touched) = (mib(taken), mib(touched));
        println!("  {name}: {taken} KiB taken, {touched} KiB in the pages touched");
    }
    let starts = (0..20).map(|_| start());
    let (time, anonymous) = starts.min().expect("some starts");
    println!(
        "presil serve --vram 64G: listens after {:.1} ms (limit 50), anonymous memory {} KiB",
        time.as_secs_f64() * 1e3,
        mib(anonymous)
    );
}

/// Starts a daemon; returns the time until it listens, and its anonymous memory.
fn start() -> (Duration, u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let begin = Instant::now();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_presil"))
        .args(["serve", "--vhost-user", "gpu", "--control", "control"])
        .args(["--vram", "64G", "--visible", "4G"])
        .current_dir(&dir)
        // With it the daemon reads its symbols before it is jailed: 60 ms, 45 MB.
        .env_remove("RUST_BACKTRACE")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("presil starts");
    while UnixStream::connect(dir.path().join("control")).is_err() {
        assert_eq!(
            daemon.try_wait().expect("a child"),
            None,
            "presil has ended"
        );
        std::thread::yield_now();
    }
    let time = begin.elapsed();
    let anonymous = large::anonymous_of(&daemon.id().to_string());
    daemon.kill().expect("a child");
    daemon.wait().expect("a child");
    (time, anonymous)
}
