//! `presilctl shared-line`: an interrupt of another device on the function's line
//! while the function sleeps, when an access to it would be an error on the bus.

use crate::bus::{self, BusDevice};
use crate::device::{Device, Mapping, PAGE};
use crate::error::{Error, Result, ensure};
use crate::function::eventually;
use crate::messages::say;
use crate::model::Model;
use presil_uapi as uapi;
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// QEMU's `edu` device raises its line when it is told to.
const EDU: &str = "0x1234 0x11e8";
const EDU_RAISE: u64 = 0x60;
const EDU_LOWER: u64 = 0x64;

/// True if the driver left the sleeping function alone and works afterwards.
pub(crate) fn run(model: &Path) -> Result<bool> {
    let model = Model::open(model)?;
    let function = Device::open()?.bus_device()?;
    let checked = disturb(&function, &model);
    let (ok, detail) = match checked {
        Ok(detail) => (true, detail),
        Err(error) => (false, error.to_string()),
    };
    let name = "another device's interrupt does not reach a function that sleeps";
    println!("{} {name}: {detail}", if ok { "ok  " } else { "FAIL" });
    say(
        "check",
        &json!({ "name": name, "ok": ok, "detail": detail }),
    );
    Ok(ok)
}

fn disturb(function: &BusDevice, model: &Model) -> Result<String> {
    let other = Edu::find()?;
    let (ours, theirs) = (function.get("irq")?, other.attribute("irq")?);
    ensure!(ours == theirs, "lines {ours} and {theirs} are not the same");
    function.set("power/control", "auto")?;
    eventually("the function is in D3", || {
        Ok(function.get("power_state")? == "D3hot")
    })?;
    let (accesses, interrupts) = (register_accesses(model)?, handled(&ours)?);
    other.pulse()?;
    eventually("the handler runs", || Ok(handled(&ours)? > interrupts))?;
    let made = register_accesses(model)? - accesses;
    ensure!(made == 0, "{made} register accesses in D3");
    ensure!(function.get("power_state")? == "D3hot", "it was woken");
    let buffer = Device::open()?.create(uapi::CREATE_READBACK, PAGE, &[])?;
    buffer.fill(0, PAGE, 1)?;
    function.set("power/control", "on")?;
    Ok(format!("line {ours}, no register access"))
}

/// Register accesses that have come to the function, whether it answered or not.
fn register_accesses(model: &Model) -> Result<u64> {
    let counters = model.value("counters")?;
    let count = |name: &str| counters["door"][name].as_u64();
    let both = count("register_reads").zip(count("register_writes"));
    both.map(|(reads, writes)| reads + writes)
        .ok_or_else(|| Error::Wrong("the model's door does not count register accesses".into()))
}

/// How often the handlers of a line ran, on all processors.
fn handled(line: &str) -> Result<u64> {
    let path = Path::new("/proc/interrupts");
    let text = fs::read_to_string(path).map_err(Error::file(path))?;
    let row = text.lines().find_map(|row| {
        let (number, counts) = row.split_once(':')?;
        (number.trim() == line).then_some(counts)
    });
    let counts = row.ok_or_else(|| Error::Wrong(format!("{} has no {line}", path.display())))?;
    Ok(counts
        .split_whitespace()
        .map_while(|count| count.parse::<u64>().ok())
        .sum())
}

/// A device without a driver.
struct Edu(PathBuf);

impl Edu {
    fn find() -> Result<Self> {
        let path = Path::new("/sys/bus/pci/devices");
        let entries = fs::read_dir(path).map_err(Error::file(path))?;
        let mut devices = entries.flatten().map(|entry| Self(entry.path()));
        let found = devices.find(|device| {
            let id = |name| device.attribute(name).unwrap_or_default();
            format!("{} {}", id("vendor"), id("device")) == EDU
        });
        let edu = found.ok_or_else(|| Error::Wrong("no edu device: -device edu".into()))?;
        bus::write(&edu.0.join("enable"), "1")?;
        Ok(edu)
    }

    fn attribute(&self, name: &str) -> Result<String> {
        let path = self.0.join(name);
        let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
        Ok(text.trim().to_owned())
    }

    /// Raises its line and lowers it: what an unhandled line costs, it costs for that long.
    fn pulse(&self) -> Result<()> {
        let path = self.0.join("resource0");
        let file = File::options().read(true).write(true).open(&path);
        let registers = Mapping::of(&file.map_err(Error::file(&path))?, 0, PAGE)?;
        registers.store(EDU_RAISE, 1)?;
        registers.store(EDU_LOWER, 1)
    }
}
