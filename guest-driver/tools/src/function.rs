//! `presilctl function`: what happens to a PCI function under a running driver.

use crate::bus::{self, BusDevice};
use crate::checks::{self, Context, Outcome};
use crate::debugfs;
use crate::device::{Buffer, Device, Mapping, PAGE};
use crate::error::{Error, Result, ensure};
use crate::messages::{self, say};
use crate::model::Model;
use e3k_regs::Reg;
use e3k_regs::fields::{RingAddress, RingWord};
use e3k_regs::pte::L3Entry;
use presil_uapi as uapi;
use rustix::io::Errno;
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const UNBIND_CYCLES: usize = 50;
/// How long something may take that has no event to wait for.
const LIMIT: Duration = Duration::from_mins(1);
const RETRY: Duration = Duration::from_millis(1);
/// How long a function that has a reason is seen to stay awake: without one it
/// falls asleep in a few milliseconds.
const AWAKE: Duration = Duration::from_millis(500);
/// The command register in configuration space, and two bits of it: whether
/// memory is reached behind it, and whether it reaches memory itself.
const COMMAND: u64 = 4;
const MEMORY: u8 = 1 << 1;
const BUS_MASTER: u8 = 1 << 2;
const PATTERN: u8 = 0xAA;
/// A page of the bus that no guest has memory at.
const NO_MEMORY: u32 = 0xF0_0000;

type Case = (&'static str, fn(&BusDevice, &Path) -> Result<String>);

const CASES: &[Case] = &[
    ("unbound and bound 50 times", |function, _| {
        for _ in 0..UNBIND_CYCLES {
            function.unbind()?;
            function.bind()?;
        }
        Ok(function.name())
    }),
    ("unbound in use", |function, model| {
        gone_in_use(function, model, || function.unbind(), || function.bind())
    }),
    ("removed and found again", |function, _| {
        function.set("remove", "1")?;
        bus::rescan()?;
        Ok(function.name())
    }),
    ("removed in use", |function, model| {
        let remove = || function.set("remove", "1");
        gone_in_use(function, model, remove, bus::rescan)
    }),
    ("function-level reset", |function, _| reset(function, "flr")),
    ("function-level reset in use", |function, model| {
        reset_in_use(function, model, "flr")
    }),
    ("bus reset", |function, _| reset(function, "bus")),
    ("bus reset in use", |function, model| {
        reset_in_use(function, model, "bus")
    }),
    ("asleep in D3 and back", |function, _| sleep(function)),
    ("a wake-up that fails is not the last one", |function, _| {
        failed_wake(function)
    }),
    ("a job with a page fault ends in EIO", |function, model| {
        let faults = failing_job(function, L3Entry::new(), "page fault of", |info| {
            info.page_faults
        })?;
        let model = Model::open(model)?;
        eventually("the fault is acknowledged", || {
            Ok(model.register(Reg::MxuIntStatus.offset())? == 0)
        })?;
        Ok(format!(
            "{faults} page faults, another client's jobs are good"
        ))
    }),
    ("a job with a bus error ends in EIO", |function, _| {
        let nowhere = L3Entry::new().with_valid(true).with_ns(true);
        let nowhere = nowhere.with_snoop(true).with_page(NO_MEMORY);
        let errors = failing_job(function, nowhere, "no memory answered", |info| {
            info.bus_errors
        })?;
        Ok(format!(
            "{errors} bus errors, another client's jobs are good"
        ))
    }),
    ("jobs end while the bus is cut off", |function, _| {
        cut_off(function)
    }),
];

/// Runs every case that has `only` in its name, and the demo's checks after each.
/// True if all passed.
pub(crate) fn run(model: &Path, only: &str) -> Result<bool> {
    let function = Device::open()?.bus_device()?;
    if !function.is_pci() {
        let name = function.name();
        return Err(Error::Wrong(format!("{name} is not a PCI function")));
    }
    let mut passed = true;
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(only)) {
        let result = case(&function, model)
            .and_then(|detail| Ok(format!("{detail}; then {}", everything_works(model)?)));
        let (ok, detail) = match result {
            Ok(detail) => (true, detail),
            Err(error) => (false, error.to_string()),
        };
        passed &= ok;
        println!("{} {name}: {detail}", if ok { "ok  " } else { "FAIL" });
        say(
            "check",
            &json!({ "name": name, "ok": ok, "detail": detail }),
        );
    }
    Ok(passed)
}

/// The demo's checks, untold.
fn everything_works(model: &Path) -> Result<String> {
    let context = Context::new(Device::open()?, Some(Model::open(model)?))?;
    let mut failed = Vec::new();
    let checks = checks::of_demo();
    checks::run(&checks, &context, |check, outcome| {
        if let Outcome::Failed(detail) | Outcome::Skipped(detail) = outcome {
            failed.push(format!("{}: {detail}", check.name));
        }
    });
    if let Some(first) = failed.first() {
        let (failed, all) = (failed.len(), checks.len());
        return Err(Error::Wrong(format!(
            "{failed} of {all} checks fail: {first}"
        )));
    }
    Ok(format!("{} checks", checks.len()))
}

fn reset(function: &BusDevice, method: &str) -> Result<String> {
    function.set("reset_method", method)?;
    function.set("reset", "1")?;
    function.get("reset_method")
}

/// Somebody who has the node open, a buffer in VRAM and one in RAM mapped, and
/// waits for a fence that never comes.
struct User {
    device: Device,
    buffers: [Buffer; 2],
    mappings: [Mapping; 2],
    waiter: JoinHandle<Result<()>>,
}

impl User {
    fn new(function: &BusDevice, model: &Path) -> Result<Self> {
        let device = Device::open()?;
        let buffers = [
            device.create(uapi::CREATE_GPU_MOSTLY, 4 * PAGE, &[])?,
            device.create(uapi::CREATE_READBACK, 4 * PAGE, &[])?,
        ];
        let mappings = [buffers[0].map()?, buffers[1].map()?];
        for mapping in &mappings {
            mapping.write(&[PATTERN; 64])?;
        }
        let fence = unfinished_fence(function, &buffers[0], model)?;
        let theirs = device.clone();
        Ok(Self {
            device,
            buffers,
            mappings,
            waiter: thread::spawn(move || theirs.wait(fence)),
        })
    }

    /// The device is gone: what is left of it, to its last close.
    fn without_device(self) -> Result<()> {
        ends_in(joined(self.waiter)?, Errno::NODEV)?;
        for mapping in &self.mappings {
            let first = mapping.touch()?;
            ensure!(
                first == 0,
                "a mapping of a device that is gone shows {first:#x}"
            );
            mapping.write(&[PATTERN; 64])?;
        }
        match self.device.info() {
            Err(Error::Call {
                source: Errno::NODEV,
                ..
            }) => Ok(()),
            other => Err(Error::Wrong(format!(
                "INFO of a device that is gone: {other:?}"
            ))),
        }
    }

    /// The device was reset: all but the fence is as before.
    fn after_reset(self) -> Result<()> {
        ends_in(joined(self.waiter)?, Errno::CANCELED)?;
        for mapping in &self.mappings {
            let first = mapping.touch()?;
            ensure!(
                first == PATTERN,
                "a mapping shows {first:#x}, expected {PATTERN:#x}"
            );
        }
        let [vram, ram] = &self.buffers;
        self.mappings[1].write(&[0; 64])?;
        ram.copy_from(0, vram, 0, 4 * PAGE)?;
        let copied = self.mappings[1].touch()?;
        ensure!(
            copied == PATTERN,
            "the GPU copied {copied:#x}, expected {PATTERN:#x}"
        );
        Ok(())
    }
}

/// Checks how a wait for a fence ended.
fn ends_in(end: Result<()>, expected: Errno) -> Result<()> {
    match end {
        Err(Error::Call { source, .. }) if source == expected => Ok(()),
        other => Err(Error::Wrong(format!(
            "the wait for the fence ended in {other:?}, expected {expected}"
        ))),
    }
}

/// A fence that never comes: somebody stops the ring behind the driver's back.
fn unfinished_fence(function: &BusDevice, vram: &Buffer, model: &Path) -> Result<u64> {
    let at = RingWord::Address.offset(0);
    let ring = Model::open(model)?.register(at)?;
    let stopped = RingAddress::from_bits(ring).with_kickoff(false);
    let at = u64::from(at);
    let registers = function.map_bar(0, at - at % PAGE, PAGE)?;
    registers.store(at % PAGE, stopped.into_bits())?;
    // Page 1: page 0 is looked at later.
    vram.start_fill(PAGE, PAGE, 0)
}

/// Two clients' jobs while the GPU may not reach memory: their fences are lost, and
/// the interrupts, too. Both are told, and work goes on when that is over.
fn cut_off(function: &BusDevice) -> Result<String> {
    let clients = [Device::open()?, Device::open()?];
    // VRAM needs nothing of the bus but the fences.
    let [one, two] = clients.each_ref();
    let buffers = [
        one.create(uapi::CREATE_GPU_MOSTLY, PAGE, &[])?,
        two.create(uapi::CREATE_GPU_MOSTLY, PAGE, &[])?,
    ];
    for buffer in &buffers {
        buffer.fill(0, PAGE, 1)?;
    }
    messages::provoke("no memory answered")?;
    set_command(function, BUS_MASTER, false)?;
    let fences = buffers
        .each_ref()
        .map(|buffer| buffer.start_fill(0, PAGE, 2));
    let ends = [0, 1].map(|n| match &fences[n] {
        Ok(fence) => clients[n].wait(*fence),
        Err(error) => Err(Error::Wrong(error.to_string())),
    });
    set_command(function, BUS_MASTER, true)?;
    for end in ends {
        ends_in(end, Errno::IO)?;
    }
    for buffer in &buffers {
        buffer.fill(0, PAGE, 3)?;
        let first = buffer.map()?.touch()?;
        ensure!(first == 3, "{first:#x} after a fill with 3");
    }
    Ok("EIO for both, then jobs are good".into())
}

fn joined(waiter: JoinHandle<Result<()>>) -> Result<Result<()>> {
    let panicked = |_| Error::Wrong("the waiter panicked".into());
    waiter.join().map_err(panicked)
}

fn set_command(device: &BusDevice, bit: u8, on: bool) -> Result<()> {
    let path = device.config();
    let edit = || {
        let config = File::options().read(true).write(true).open(&path)?;
        let mut command = [0];
        config.read_exact_at(&mut command, COMMAND)?;
        command[0] = command[0] & !bit | if on { bit } else { 0 };
        config.write_all_at(&command, COMMAND)
    };
    edit().map_err(Error::file(&path))
}

fn gone_in_use(
    function: &BusDevice,
    model: &Path,
    leave: impl FnOnce() -> Result<()>,
    come_back: impl FnOnce() -> Result<()>,
) -> Result<String> {
    let users = users_of_the_module()?;
    let user = User::new(function, model)?;
    leave()?;
    user.without_device()?;
    let left = users_of_the_module()?;
    ensure!(left == users, "{left} users of the module, {users} before");
    come_back()?;
    Ok("ENODEV, zeros in the mappings".into())
}

fn reset_in_use(function: &BusDevice, model: &Path, method: &str) -> Result<String> {
    let user = User::new(function, model)?;
    reset(function, method)?;
    user.after_reset()?;
    Ok(format!("{method}: ECANCELED, data intact"))
}

/// A job that comes upon a page-table entry that somebody has spoilt: its fence
/// arrives and ends in an error, another client's do not. Returns how many errors
/// INFO counts.
fn failing_job(
    function: &BusDevice,
    spoilt: L3Entry,
    message: &str,
    count: fn(&uapi::Info) -> u64,
) -> Result<u64> {
    // In the middle of many pages, so that no TLB line that a neighbour filled has it.
    const PAGES: u64 = 64;
    const SPOILT: u64 = 40;
    let [mine, others] = [Device::open()?, Device::open()?];
    let good = others.create(uapi::CREATE_READBACK, PAGE, &[])?;
    let bad = mine.create(uapi::CREATE_READBACK, PAGES * PAGE, &[])?;
    bad.map()?.touch()?;
    let tables = debugfs::number(&debugfs::reserved_vma(&mine)?["levels"][1], "gpu_phys")?;
    let entry = tables + (bad.describe()?.gpu_va / PAGE + SPOILT) * 4;
    messages::provoke(message)?;
    let window = function.map_bar(1, entry - entry % PAGE, PAGE)?;
    window.store(entry % PAGE, spoilt.into_bits())?;

    let before = mine.info()?;
    good.fill(0, PAGE, 1)?;
    match mine.wait(bad.start_fill(0, PAGES * PAGE, 2)?) {
        Err(Error::Call {
            source: Errno::IO, ..
        }) => {}
        other => {
            return Err(Error::Wrong(format!(
                "the job with the error ended in {other:?}, expected {}",
                Errno::IO
            )));
        }
    }
    good.fill(0, PAGE, 3)?;
    let errors = count(&mine.info()?) - count(&before);
    ensure!(errors > 0, "INFO counts no such error");
    Ok(errors)
}

/// With nobody at the node and no buffer the function sleeps; the next open wakes it.
fn sleep(function: &BusDevice) -> Result<String> {
    let is_in = |state: &str| Ok(function.get("power_state")? == state);
    function.set("power/control", "auto")?;
    eventually("the function is in D3", || is_in("D3hot"))?;
    let device = Device::open()?;
    ensure!(is_in("D0")?, "it sleeps in use");
    let buffer = device.create(uapi::CREATE_READBACK, PAGE, &[])?;
    buffer.fill(0, PAGE, 1)?;
    let exported = buffer.export()?;
    drop((buffer, device));
    let end = Instant::now() + AWAKE;
    while Instant::now() < end {
        ensure!(is_in("D0")?, "it sleeps under a buffer that was exported");
        thread::sleep(RETRY);
    }
    drop(exported);
    eventually("the function is in D3 once more", || is_in("D3hot"))?;
    function.set("power/control", "on")?;
    Ok("D3hot, D0 while a node is open or a buffer is there".into())
}

/// Whoever opens the node while the function cannot be reached is refused, and who
/// comes later is not.
fn failed_wake(function: &BusDevice) -> Result<String> {
    let port = function.port()?;
    // Else it would be put right by its own wake-up.
    port.set("power/control", "on")?;
    function.set("power/control", "auto")?;
    eventually("the function is in D3", || {
        Ok(function.get("power_state")? == "D3hot")
    })?;
    messages::provoke("the GPU did not come back")?;
    set_command(&port, MEMORY, false)?;
    let refused = Device::open();
    set_command(&port, MEMORY, true)?;
    ensure!(refused.is_err(), "a function that cannot be reached works");
    let buffer = Device::open()?.create(uapi::CREATE_READBACK, PAGE, &[])?;
    buffer.fill(0, PAGE, 1)?;
    function.set("power/control", "on")?;
    Ok("refused while it lasts".into())
}

/// How many hold the module: open nodes do.
fn users_of_the_module() -> Result<u32> {
    let path = Path::new("/sys/module/presil/refcnt");
    let text = fs::read_to_string(path).map_err(Error::file(path))?;
    let count = text.trim().parse();
    count.map_err(|_| Error::Wrong(format!("{} says '{}'", path.display(), text.trim())))
}

/// Waits for what sysfs or the model tell only when asked.
fn eventually(what: &str, mut happened: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !happened()? {
        ensure!(
            Instant::now() < deadline,
            "not in {} s: {what}",
            LIMIT.as_secs()
        );
        thread::sleep(RETRY);
    }
    Ok(())
}
