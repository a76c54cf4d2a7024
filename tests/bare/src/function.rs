//! The PCI function as sysfs shows it.

use crate::Result;
use crate::window::Window;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The chips' vendor ids.
const VENDORS: [&str; 2] = ["0x6766", "0x1d17"];
/// Offset of the command register in config space, and its bus master bit.
const COMMAND: u64 = 4;
const BUS_MASTER: u16 = 1 << 2;

/// The GPU's function; it may do DMA until this is dropped.
pub(crate) struct Function {
    directory: PathBuf,
    /// BAR0.
    pub(crate) registers: Window,
    /// BAR1.
    pub(crate) vram: Window,
}

impl Function {
    /// The first one of the machine.
    pub(crate) fn open() -> Result<Self> {
        let directory = find()?;
        let write = |name: &str, value: &str| {
            let path = directory.join(name);
            fs::write(&path, value).map_err(|error| format!("{}: {error}", path.display()))
        };
        if directory.join("driver").exists() {
            return Err(format!("a driver has bound {}", directory.display()));
        }
        write("enable", "1")?;
        let map = |name: &str| {
            let path = directory.join(name);
            let failed = |error| format!("{}: {error}", path.display());
            let file = OpenOptions::new().read(true).write(true).open(&path);
            let file = file.map_err(failed)?;
            let bytes = file.metadata().map_err(failed)?.len();
            Window::of_file(&file, usize::try_from(bytes).map_err(|e| e.to_string())?)
        };
        let function = Self {
            registers: map("resource0")?,
            vram: map("resource1")?,
            directory,
        };
        function.set_bus_master(true)?;
        Ok(function)
    }

    /// Whether it may do DMA.
    pub(crate) fn set_bus_master(&self, on: bool) -> Result<()> {
        let path = self.directory.join("config");
        let failed = |error| format!("{}: {error}", path.display());
        let config = OpenOptions::new().read(true).write(true).open(&path);
        let config: File = config.map_err(failed)?;
        let mut command = [0; 2];
        config
            .read_exact_at(&mut command, COMMAND)
            .map_err(failed)?;
        let command = u16::from_le_bytes(command);
        let command = if on {
            command | BUS_MASTER
        } else {
            command & !BUS_MASTER
        };
        config
            .write_all_at(&command.to_le_bytes(), COMMAND)
            .map_err(failed)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // Our memory goes away with the process: no DMA after this.
        if let Err(error) = self.set_bus_master(false) {
            eprintln!("{error}");
        }
        _ = fs::write(self.directory.join("enable"), "0");
    }
}

fn find() -> Result<PathBuf> {
    let devices = fs::read_dir("/sys/bus/pci/devices").map_err(|error| error.to_string())?;
    for device in devices.flatten() {
        let read = |name: &str| fs::read_to_string(device.path().join(name)).unwrap_or_default();
        let display = read("class").starts_with("0x03");
        if display && VENDORS.contains(&read("vendor").trim()) {
            return Ok(device.path());
        }
    }
    Err(format!(
        "no PCI display function of the vendors {VENDORS:?}"
    ))
}
