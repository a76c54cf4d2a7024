//! `presil serve` as a process.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;

/// The command under test, with a quiet environment.
pub fn presil() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_presil"));
    command.env_remove("PRESIL_LOG").env_remove("RUST_LOG");
    command
}

/// Runs `presil` with `args` to its end, which must come soon.
pub fn run(args: &[&str]) -> Output {
    let mut child = presil()
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("presil starts");
    let end = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > end {
            child.kill().expect("a child");
            panic!("{args:?} does not end");
        }
        std::thread::yield_now();
    }
    child.wait_with_output().expect("output")
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server in a directory of its own; killed when dropped.
pub struct Server {
    pub dir: TempDir,
    /// The option of its socket.
    pub door: &'static str,
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), args)
    }

    /// The same in a directory that holds something already.
    pub fn start_in(dir: TempDir, args: &[&str]) -> Self {
        Self::launch(dir, "--vhost-user", args, |_| {})
    }

    /// The same by a command that `prepare` has changed.
    pub fn start_prepared(args: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::launch(dir, "--vhost-user", args, prepare)
    }

    /// The same for a PCI function.
    pub fn start_pci(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::launch(dir, "--vfio-user", args, |_| {})
    }

    fn launch(
        dir: TempDir,
        door: &'static str,
        args: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = presil();
        command
            .args(["serve", door, "gpu", "--control", "ctl"])
            .args(args)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().expect("presil starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self {
            dir,
            door,
            child,
            log,
            seen: Vec::new(),
        };
        server.await_log("waiting for QEMU");
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("gpu")
    }

    pub fn control(&self) -> PathBuf {
        self.dir.path().join("ctl")
    }

    /// Nobody reads the log any more: its pipe is closed behind the next line.
    pub fn close_log(&mut self) {
        (_, self.log) = mpsc::channel();
    }

    /// Waits for the next log line with `text` in it.
    pub fn await_log(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self
                .log
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no log line with '{text}' in {:#?}", self.seen)
                }
            }
        }
    }

    /// Everything logged, once the server has ended.
    pub fn whole_log(&mut self) -> String {
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the server runs");
    }

    /// How many descriptors the server may have open; `None` is as many as the test.
    pub fn limit_files(&self, number: Option<u64>) {
        let ours = getrlimit(Resource::Nofile);
        let current = number.or(ours.current);
        let limit = Rlimit { current, ..ours };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit)
            .expect("the server runs");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many it has.
    pub fn files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).expect("the server runs").count()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for the server's end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < end, "the server does not end");
            std::thread::yield_now();
        }
    }

    /// A question by `presil query`; its JSON answer.
    pub fn query(&self, words: &[&str]) -> Value {
        let output = presil()
            .arg("query")
            .arg(self.control())
            .args(words)
            .output()
            .expect("runs");
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.seen.extend(self.log.try_iter());
            let last = self.seen.len().saturating_sub(30);
            eprintln!("the server's last lines: {:#?}", &self.seen[last..]);
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
