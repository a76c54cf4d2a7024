//! A real QEMU without a guest: `-accel qtest` lets a test be the CPU. It
//! plays firmware (bus numbers, BARs); the virtio driver is in
//! `qtest_virtio.rs`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::PATIENCE;
use super::qtest_virtio::Virtio;
use super::server::{Server, presil};

/// Where firmware puts BARs: 32-bit ones and 64-bit ones.
const LOW_BARS: u64 = 0xE000_0000;
const HIGH_BARS: u64 = 0x10_0000_0000;
pub struct Machine {
    child: Child,
    qtest: BufReader<UnixStream>,
    monitor: Option<BufReader<UnixStream>>,
    server_dir: std::path::PathBuf,
    /// Where firmware has put the device's BARs.
    pub bars: [u64; 6],
    /// Of its virtio driver.
    pub virtio: Virtio,
}

impl Machine {
    /// Starts QEMU at `server` with the options that presil prints; `edit`
    /// changes them. Then does what firmware does.
    pub fn start(server: &Server, edit: impl Fn(String) -> String) -> Self {
        let mut machine = Self::power_on(server, edit);
        machine.enumerate();
        machine
    }

    /// As [`Self::start`], without firmware.
    pub fn power_on(server: &Server, edit: impl Fn(String) -> String) -> Self {
        let dir = server.dir.path();
        let listener = UnixListener::bind(dir.join("qtest")).unwrap();
        let printed = presil()
            .args([
                "serve",
                "--print-qemu-args",
                "--guest-ram",
                "64M",
                server.door,
            ])
            .arg(server.socket())
            .output()
            .unwrap();
        let options = edit(String::from_utf8(printed.stdout).unwrap());
        let qemu = std::env::var("PRESIL_QEMU").expect("PRESIL_QEMU is QEMU's command");
        let mut words = qemu.split_whitespace();
        let mut child = Command::new(words.next().expect("a command"))
            .args(words)
            .args(options.split_whitespace().map(unquoted))
            .args([
                "-accel",
                "qtest",
                "-qtest-log",
                "/dev/null",
                "-display",
                "none",
                "-nodefaults",
            ])
            .args([
                "-qtest",
                "unix:qtest",
                "-qmp",
                "unix:qmp,server=on,wait=off",
            ])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("QEMU starts");
        let stream = accept(&listener, &mut child);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            child,
            qtest: BufReader::new(stream),
            monitor: None,
            server_dir: dir.to_owned(),
            bars: [0; 6],
            virtio: Virtio::default(),
        }
    }

    /// One qtest command; `None` when QEMU is gone.
    pub fn try_command(&mut self, command: &str) -> Option<Vec<String>> {
        writeln!(self.qtest.get_mut(), "{command}").ok()?;
        loop {
            let mut line = String::new();
            if self.qtest.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if !line.starts_with("IRQ") {
                return Some(line.split_whitespace().map(str::to_owned).collect());
            }
        }
    }

    fn command(&mut self, command: &str) -> Vec<String> {
        self.try_command(command)
            .unwrap_or_else(|| panic!("QEMU is gone: {command}"))
    }

    fn value(&mut self, command: &str) -> u64 {
        let answer = self.command(command);
        u64::from_str_radix(answer[1].trim_start_matches("0x"), 16).unwrap()
    }

    fn letter(bytes: usize) -> char {
        ['b', 'w', 'l', 'q'][bytes.trailing_zeros() as usize]
    }

    pub fn load(&mut self, at: u64, bytes: usize) -> u64 {
        self.value(&format!("read{} {at:#x}", Self::letter(bytes)))
    }

    pub fn store(&mut self, at: u64, bytes: usize, value: u64) {
        self.command(&format!("write{} {at:#x} {value:#x}", Self::letter(bytes)));
    }

    pub fn read(&mut self, at: u64, bytes: usize) -> Vec<u8> {
        (at..)
            .take(bytes)
            .map(|at| u8::try_from(self.load(at, 1)).unwrap())
            .collect()
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut hex = String::new();
        for byte in bytes {
            write!(hex, "{byte:02x}").unwrap();
        }
        self.command(&format!("write {at:#x} {:#x} 0x{hex}", bytes.len()));
    }

    pub fn config(&mut self, bus: u64, device: u64, at: u64) -> u64 {
        let address = 0x8000_0000 | bus << 16 | device << 11 | (at & 0xFC);
        self.command(&format!("outl 0xcf8 {address:#x}"));
        self.value("inl 0xcfc")
    }

    pub fn set_config(&mut self, bus: u64, device: u64, at: u64, value: u64) {
        let address = 0x8000_0000 | bus << 16 | device << 11 | (at & 0xFC);
        self.command(&format!("outl 0xcf8 {address:#x}"));
        self.command(&format!("outl 0xcfc {value:#x}"));
    }

    /// The root port's device number.
    pub fn port(&mut self) -> u64 {
        (1..31)
            .find(|device| self.config(0, *device, 8) >> 16 == 0x0604)
            .expect("a root port")
    }

    /// What firmware does: the root port's bus and windows, the device's BARs.
    pub fn enumerate(&mut self) {
        let port = self.port();
        for (at, value) in [
            (0x18, 0x0001_0100),
            (0x20, 0xEFF0_E000),
            (0x24, 0xFFF1_0001),
            (0x28, HIGH_BARS >> 32),
            (0x2C, 0x2F),
            (4, 7),
        ] {
            self.set_config(0, port, at, value);
        }
        self.bars = self.place_bars();
        self.set_config(1, 0, 4, 7);
        self.find_structures();
    }

    fn place_bars(&mut self) -> [u64; 6] {
        let mut bars = [0; 6];
        let (mut low, mut high) = (LOW_BARS, HIGH_BARS);
        let mut index = 0;
        while index < bars.len() {
            let at = 0x10 + 4 * index as u64;
            self.set_config(1, 0, at, 0xFFFF_FFFF);
            let mask = self.config(1, 0, at);
            if mask & 4 == 0 {
                bars[index] = low;
                self.set_config(1, 0, at, low);
                low += 0x10_0000;
                index += 1;
                continue;
            }
            self.set_config(1, 0, at + 4, 0xFFFF_FFFF);
            let mask = self.config(1, 0, at + 4) << 32 | mask & !0xF;
            let size = (!mask).wrapping_add(1);
            high = high.next_multiple_of(size);
            bars[index] = high;
            self.set_config(1, 0, at, high & 0xFFFF_FFFF);
            self.set_config(1, 0, at + 4, high >> 32);
            high += size;
            index += 2;
        }
        bars
    }

    pub fn until<R>(&mut self, what: &str, mut check: impl FnMut(&mut Self) -> Option<R>) -> R {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(result) = check(self) {
                return result;
            }
            assert!(Instant::now() < end, "{what} does not come");
        }
    }

    /// A command of the monitor without arguments; what it returns.
    pub fn monitor(&mut self, command: &str) -> Value {
        self.monitor_with(command, &json!({}))
    }

    /// A command of the monitor; what it returns.
    pub fn monitor_with(&mut self, command: &str, arguments: &Value) -> Value {
        let path = self.server_dir.join("qmp");
        let monitor = self.monitor.get_or_insert_with(|| {
            let mut monitor = BufReader::new(UnixStream::connect(path).unwrap());
            monitor.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
            monitor.read_line(&mut String::new()).unwrap();
            ask(&mut monitor, "qmp_capabilities", &json!({}));
            monitor
        });
        ask(monitor, command, arguments)
    }

    /// Runs a job of the monitor to its end.
    pub fn job(&mut self, command: &str, mut arguments: Value) {
        arguments["job-id"] = json!(command);
        self.monitor_with(command, &arguments);
        let job = self.until(command, |machine| {
            let jobs = machine.monitor("query-jobs");
            let job = jobs.as_array()?.first()?.clone();
            (job["status"] == "concluded").then_some(job)
        });
        assert_eq!(job.get("error"), None, "{command}");
        self.monitor_with("job-dismiss", &json!({ "id": command }));
    }

    /// Firmware and driver have to begin anew after this.
    pub fn system_reset(&mut self) {
        self.monitor("system_reset");
        // The reset itself is done by QEMU's main loop a little later.
        self.until("the reset", |machine| {
            (machine.config(1, 0, 0) == 0xFFFF_FFFF).then_some(())
        });
        self.enumerate();
    }

    /// What a guest's ACPI does when a device behind the root port is to go:
    /// slot 0 of whichever bus has it is ejected.
    pub fn eject(&mut self) {
        for bus in 0..8 {
            self.command(&format!("outl 0xcd0 {bus}"));
            self.command("outl 0xcc8 1");
        }
    }

    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a QEMU in `dir` that fails by itself; what it says on standard error.
pub fn qemu_that_ends(options: &str, dir: &std::path::Path) -> String {
    let qemu = std::env::var("PRESIL_QEMU").expect("PRESIL_QEMU is QEMU's command");
    let mut words = qemu.split_whitespace();
    let ended = Command::new(words.next().expect("a command"))
        .args(words)
        .args(options.split_whitespace().map(unquoted))
        .args(["-accel", "qtest", "-display", "none", "-nodefaults"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("QEMU starts");
    assert!(!ended.status.success());
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// A word as the shell would pass it on: the options have no other quotes.
fn unquoted(word: &str) -> &str {
    word.trim_matches('\'')
}

/// QEMU's connection; a QEMU that ends instead is told.
fn accept(listener: &UnixListener, qemu: &mut Child) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return stream;
        }
        let ended = qemu.try_wait().unwrap();
        assert!(ended.is_none(), "QEMU does not start: {ended:?}");
        assert!(Instant::now() < end, "QEMU does not connect");
        std::thread::yield_now();
    }
}

fn ask(monitor: &mut BufReader<UnixStream>, command: &str, arguments: &Value) -> Value {
    let request = json!({ "execute": command, "arguments": arguments });
    writeln!(monitor.get_mut(), "{request}").unwrap();
    loop {
        let mut line = String::new();
        assert_ne!(
            monitor.read_line(&mut line).unwrap(),
            0,
            "QEMU is gone: {command}"
        );
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer.get("error"), None, "{command}");
        if let Some(result) = answer.get_mut("return") {
            return result.take();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}
