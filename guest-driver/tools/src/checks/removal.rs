//! The device goes while it is used, and comes back. Last of all: afterwards
//! the node that the checks have open belongs to no device.

use super::{Check, Context, SNOOPED, VISIBLE};
use crate::device::{Device, PAGE};
use crate::error::{Error, Result, ensure};
use presil_uapi as uapi;
use rustix::io::Errno;

pub(super) const CHECKS: &[Check] = &[Check {
    name: "unbound while in use, and bound again",
    run: unbind_and_bind,
}];

fn unbind_and_bind(context: &Context) -> Result<String> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Skipped("only root unbinds a driver".into()));
    }
    let bus = context.device.bus_device()?;
    let buffers = [
        VISIBLE.create(context, 4 * PAGE)?,
        SNOOPED.create(context, 4 * PAGE)?,
    ];
    let mappings = [buffers[0].map()?, buffers[1].map()?];
    for mapping in &mappings {
        mapping.write(&[0xAA; 64])?;
    }

    bus.unbind()?;
    for mapping in &mappings {
        ensure!(
            mapping.touch()? == 0,
            "a mapping still shows what was there"
        );
        mapping.write(&[0x55; 64])?;
    }
    match context.device.info() {
        Err(Error::Call {
            source: Errno::NODEV,
            ..
        }) => {}
        other => ensure!(false, "INFO of a removed device: {other:?}"),
    }
    drop((mappings, buffers));

    bus.bind()?;
    let again = Device::open()?;
    let used = |segments: [uapi::Segment; uapi::SEGMENTS]| segments.map(|s| s.used_bytes);
    let (now, start) = (used(again.info()?.segments), used(context.at_start));
    ensure!(now == start, "used bytes {now:?}, at first {start:?}");
    let buffer = again.create(uapi::CREATE_READBACK, PAGE, &[])?;
    buffer.fill(0, PAGE, 0x0102_0304)?;
    ensure!(buffer.map()?.touch()? == 4, "the GPU does not fill");
    Ok(format!("{}, two buffers mapped", bus.name()))
}
