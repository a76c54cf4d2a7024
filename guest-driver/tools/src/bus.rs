//! A device in sysfs: its driver, its power, its going and coming.

use crate::device::Mapping;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A device on its bus.
#[derive(Clone, Debug)]
pub(crate) struct BusDevice {
    path: PathBuf,
    driver: PathBuf,
}

impl BusDevice {
    /// The device with this path in sysfs, and the driver that it has now.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        Ok(Self {
            path: resolve(path)?,
            driver: resolve(&path.join("driver"))?,
        })
    }

    /// The port that it is behind.
    pub(crate) fn port(&self) -> Result<Self> {
        Self::at(&self.path.join(".."))
    }

    /// Its name, `virtio0` or `0000:01:00.0` for example.
    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Whether it is a PCI function.
    pub(crate) fn is_pci(&self) -> bool {
        resolve(&self.path.join("subsystem")).is_ok_and(|bus| bus.ends_with("pci"))
    }

    /// Takes its driver away.
    pub(crate) fn unbind(&self) -> Result<()> {
        write(&self.driver.join("unbind"), self.name())
    }

    /// Gives it its driver back.
    pub(crate) fn bind(&self) -> Result<()> {
        write(&self.driver.join("bind"), self.name())
    }

    /// What one of its attributes says.
    pub(crate) fn get(&self, attribute: &str) -> Result<String> {
        let path = self.path.join(attribute);
        let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
        Ok(text.trim().to_owned())
    }

    /// Sets one of its attributes.
    pub(crate) fn set(&self, attribute: &str, value: &str) -> Result<()> {
        write(&self.path.join(attribute), value)
    }

    /// Maps a part of one of its BARs, beside its driver: for that the kernel is
    /// started with `iomem=relaxed`.
    pub(crate) fn map_bar(&self, bar: u32, offset: u64, bytes: u64) -> Result<Mapping> {
        let path = self.path.join(format!("resource{bar}"));
        let file = File::options().read(true).write(true).open(&path);
        Mapping::of(&file.map_err(Error::file(&path))?, offset, bytes)
    }

    /// Where its configuration space is.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config")
    }
}

/// Looks for PCI functions that were not there before.
pub(crate) fn rescan() -> Result<()> {
    write(Path::new("/sys/bus/pci/rescan"), "1")
}

fn resolve(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(Error::file(path))
}

fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, text).map_err(Error::file(path))
}
