//! A real QEMU without a guest: `-accel qtest` lets a test be the CPU. It
//! plays firmware (bus numbers, BARs) and virtio driver.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::PATIENCE;
use super::server::{Server, presil};

/// Where firmware puts BARs: 32-bit ones and 64-bit ones.
const LOW_BARS: u64 = 0xE000_0000;
const HIGH_BARS: u64 = 0x10_0000_0000;
/// Where the driver keeps its queues and buffers.
const QUEUES: u64 = 0x10_0000;
pub const REQUEST: u64 = 0x20_0000;
pub const RESULT: u64 = 0x30_0000;
pub const EVENT: u64 = 0x40_0000;
const QUEUE_SIZE: u16 = 64;

/// virtio status: acknowledge, driver, features OK, driver OK.
const DRIVER: u64 = 3;
const FEATURES_OK: u64 = DRIVER | 8;
const DRIVER_OK: u64 = FEATURES_OK | 4;

/// Virtio structures by their capability's type.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;
const SHARED_MEMORY: u8 = 8;

pub struct Machine {
    child: Child,
    qtest: BufReader<UnixStream>,
    monitor: Option<BufReader<UnixStream>>,
    server_dir: std::path::PathBuf,
    /// Address and notify multiplier of each structure.
    structures: BTreeMap<u8, (u64, u64)>,
    offered: [u16; 2],
}

impl Machine {
    /// Starts QEMU at `server` with the options that presil prints; `edit`
    /// changes them.
    pub fn start(server: &Server, edit: impl Fn(String) -> String) -> Self {
        let dir = server.dir.path();
        let listener = UnixListener::bind(dir.join("qtest")).unwrap();
        let printed = presil()
            .args([
                "serve",
                "--print-qemu-args",
                "--guest-ram",
                "64M",
                "--vhost-user",
            ])
            .arg(server.socket())
            .output()
            .unwrap();
        let options = edit(String::from_utf8(printed.stdout).unwrap());
        let qemu = std::env::var("PRESIL_QEMU").expect("PRESIL_QEMU is QEMU's command");
        let mut words = qemu.split_whitespace();
        let mut child = Command::new(words.next().expect("a command"))
            .args(words)
            .args(options.split_whitespace())
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
        let mut machine = Self {
            child,
            qtest: BufReader::new(stream),
            monitor: None,
            server_dir: dir.to_owned(),
            structures: BTreeMap::new(),
            offered: [0; 2],
        };
        machine.enumerate();
        machine
    }

    /// One qtest command; `None` when QEMU is gone.
    fn try_command(&mut self, command: &str) -> Option<Vec<String>> {
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

    fn config(&mut self, bus: u64, device: u64, at: u64) -> u64 {
        let address = 0x8000_0000 | bus << 16 | device << 11 | (at & 0xFC);
        self.command(&format!("outl 0xcf8 {address:#x}"));
        self.value("inl 0xcfc")
    }

    fn set_config(&mut self, bus: u64, device: u64, at: u64, value: u64) {
        let address = 0x8000_0000 | bus << 16 | device << 11 | (at & 0xFC);
        self.command(&format!("outl 0xcf8 {address:#x}"));
        self.command(&format!("outl 0xcfc {value:#x}"));
    }

    /// What firmware does: the root port's bus and windows, the device's BARs.
    fn enumerate(&mut self) {
        let port = (1..31)
            .find(|device| self.config(0, *device, 8) >> 16 == 0x0604)
            .expect("a root port");
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
        assert_eq!(
            self.config(1, 0, 0),
            0x1066_1AF4,
            "the virtio device of id 38"
        );
        let bars = self.place_bars();
        self.set_config(1, 0, 4, 7);
        let mut at = self.config(1, 0, 0x34) & 0xFF;
        while at != 0 {
            let header = self.config(1, 0, at);
            if header & 0xFF == 9 {
                let bar = usize::try_from(self.config(1, 0, at + 4) & 0xFF).unwrap();
                let offset = self.config(1, 0, at + 8);
                let multiplier = self.config(1, 0, at + 16);
                let kind = u8::try_from(header >> 24).unwrap();
                self.structures
                    .entry(kind)
                    .or_insert((bars[bar] + offset, multiplier));
            }
            at = header >> 8 & 0xFF;
        }
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

    fn structure(&self, kind: u8) -> u64 {
        self.structures[&kind].0
    }

    /// The VRAM window.
    pub fn window(&self) -> u64 {
        self.structure(SHARED_MEMORY)
    }

    pub fn ready(&mut self) -> u64 {
        self.load(self.structure(DEVICE) + 0x0C, 4)
    }

    /// Reads and clears the interrupt status.
    pub fn interrupt_status(&mut self) -> u64 {
        self.load(self.structure(ISR), 1)
    }

    /// Device reset, as a driver does it.
    pub fn reset(&mut self) {
        self.store(self.structure(COMMON) + 0x14, 1, 0);
    }

    /// The same where QEMU may not survive it.
    pub fn try_reset(&mut self) -> bool {
        let status = self.structure(COMMON) + 0x14;
        self.try_command(&format!("writeb {status:#x} 0x0"))
            .is_some()
    }

    /// `DRIVER_OK` with queues at `table`; `false` when QEMU does not survive it.
    pub fn start_driver_at(&mut self, table: u64) -> bool {
        let common = self.structure(COMMON);
        if !self.try_reset() {
            return false;
        }
        self.store(common + 0x14, 1, DRIVER);
        self.store(common + 8, 4, 1);
        self.store(common + 0x0C, 4, 1);
        self.store(common + 0x14, 1, FEATURES_OK);
        self.write(QUEUES, &[0; 0x3000]);
        self.write(QUEUES + 0x1_0000, &[0; 0x3000]);
        for queue in [0, 1] {
            let at = table + 0x1_0000 * queue;
            self.store(common + 0x16, 2, queue);
            self.store(common + 0x18, 2, QUEUE_SIZE.into());
            self.store(common + 0x20, 8, at);
            self.store(common + 0x28, 8, at + 0x1000);
            self.store(common + 0x30, 8, at + 0x2000);
            self.store(common + 0x1C, 2, 1);
        }
        self.offered = [0; 2];
        let status = common + 0x14;
        self.try_command(&format!("writeb {status:#x} {DRIVER_OK:#x}"))
            .is_some()
    }

    /// `DRIVER_OK` without waiting for the window.
    pub fn start_driver(&mut self) -> bool {
        self.start_driver_at(QUEUES)
    }

    /// `DRIVER_OK` and READY; its epoch.
    pub fn bring_up(&mut self) -> u64 {
        assert_eq!(self.ready(), 0);
        assert!(self.start_driver());
        self.await_ready()
    }

    pub fn await_ready(&mut self) -> u64 {
        self.until("READY", |machine| {
            Some(machine.ready()).filter(|ready| *ready != 0)
        })
    }

    fn until<R>(&mut self, what: &str, mut check: impl FnMut(&mut Self) -> Option<R>) -> R {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(result) = check(self) {
                return result;
            }
            assert!(Instant::now() < end, "{what} does not come");
        }
    }

    /// Makes one buffer pair or one writable buffer available, and kicks.
    pub fn offer(&mut self, queue: usize, buffers: &[(u64, u32, bool)]) {
        let base = QUEUES + 0x1_0000 * queue as u64;
        let head = self.offered[queue] * 2 % QUEUE_SIZE;
        for (index, (at, bytes, writable)) in (head..).zip(buffers) {
            let last = usize::from(index - head) + 1 == buffers.len();
            let flags = u16::from(!last) | if *writable { 2 } else { 0 };
            let mut raw = at.to_le_bytes().to_vec();
            raw.extend(bytes.to_le_bytes());
            raw.extend(flags.to_le_bytes());
            raw.extend((index + 1).to_le_bytes());
            self.write(base + 16 * u64::from(index), &raw);
        }
        let slot = u64::from(self.offered[queue] % QUEUE_SIZE);
        self.store(base + 0x1004 + 2 * slot, 2, head.into());
        self.offered[queue] += 1;
        self.store(base + 0x1002, 2, self.offered[queue].into());
        let (notify, multiplier) = self.structures[&NOTIFY];
        self.store(notify + multiplier * queue as u64, 2, queue as u64);
    }

    /// Waits until everything offered on `queue` is used.
    pub fn await_used(&mut self, queue: usize) {
        let used = QUEUES + 0x1_0000 * queue as u64 + 0x2002;
        let offered = u64::from(self.offered[queue]);
        self.until("the used element", |machine| {
            (machine.load(used, 2) == offered).then_some(())
        });
    }

    /// A register access by queue 0; (value, status).
    pub fn access(&mut self, operation: [u8; 16]) -> (u64, u64) {
        self.write(REQUEST, &operation);
        self.offer(0, &[(REQUEST, 16, false), (RESULT, 16, true)]);
        self.await_used(0);
        (self.load(RESULT, 8), self.load(RESULT + 8, 4))
    }

    /// A command of the monitor without arguments.
    pub fn monitor(&mut self, command: &str) {
        let path = self.server_dir.join("qmp");
        let monitor = self.monitor.get_or_insert_with(|| {
            let mut monitor = BufReader::new(UnixStream::connect(path).unwrap());
            monitor.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
            monitor.read_line(&mut String::new()).unwrap();
            ask(&mut monitor, "qmp_capabilities");
            monitor
        });
        ask(monitor, command);
    }

    /// Firmware and driver have to begin anew after this.
    pub fn system_reset(&mut self) {
        self.monitor("system_reset");
        // The reset itself is done by QEMU's main loop a little later.
        self.until("the reset", |machine| {
            (machine.config(1, 0, 0) == 0xFFFF_FFFF).then_some(())
        });
        self.structures.clear();
        self.enumerate();
    }

    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

fn ask(monitor: &mut BufReader<UnixStream>, command: &str) {
    writeln!(monitor.get_mut(), "{{\"execute\":\"{command}\"}}").unwrap();
    loop {
        let mut line = String::new();
        assert_ne!(
            monitor.read_line(&mut line).unwrap(),
            0,
            "QEMU is gone: {command}"
        );
        assert!(!line.contains("\"error\""), "{command}: {line}");
        if line.contains("\"return\"") {
            return;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}
