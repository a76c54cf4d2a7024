//! `presilctl info` and `presilctl alloc`.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::fdinfo::{Booking, bookings};
use crate::names;
use presil_uapi as uapi;
use rustix::io::Errno;

/// Prints what the GPU is and how it is doing.
pub(crate) fn info(device: &Device) -> Result<()> {
    let info = device.info()?;
    println!("node     {}", device.path().display());
    println!("chip     {:04x}:{:04x}", info.vendor_id, info.device_id);
    println!(
        "VRAM     {} MiB, {} MiB visible",
        info.vram_bytes >> 20,
        info.visible_bytes >> 20
    );
    println!();
    println!("segment            GPU address        size MiB      used KiB    pinned KiB");
    for (index, segment) in (0..).zip(&info.segments) {
        println!(
            "{:<16} {:#014x} {:>13} {:>13} {:>13}",
            names::segment(index),
            segment.gpu_va,
            segment.bytes >> 20,
            segment.used_bytes >> 10,
            segment.pinned_bytes >> 10
        );
    }
    println!();
    println!(
        "fences   {} submitted, {} completed; {} interrupts, {} found by polling",
        info.fence_submitted, info.fence_completed, info.interrupts, info.fallbacks
    );
    println!(
        "errors   {} page faults, {} bus errors, {} hangs",
        info.page_faults, info.bus_errors, info.hangs
    );
    Ok(())
}

/// Makes a buffer and prints where it is.
pub(crate) fn alloc(
    device: &Device,
    flags: u32,
    bytes: u64,
    windows: &[uapi::Window],
    touch: bool,
) -> Result<()> {
    let buffer = device
        .create(flags, bytes, windows)
        .map_err(|error| beyond_limit(device, error))?;
    println!("handle      {}", buffer.handle());
    describe(&buffer.describe()?);
    if touch {
        let value = buffer.map()?.touch()?;
        println!("touched: the first byte is {value:#04x}");
        describe(&buffer.describe()?);
    }
    Ok(())
}

/// Says which limits there are, where one was the reason.
fn beyond_limit(device: &Device, error: Error) -> Error {
    let (Error::Call { source, .. }, Ok(bookings)) = (&error, bookings(device)) else {
        return error;
    };
    if *source != Errno::NOSPC {
        return error;
    }
    let limits: Vec<_> = (0..)
        .zip(bookings)
        .map(|(segment, Booking { booked, limit })| {
            let name = names::segment(segment);
            format!("{name}: {booked} bytes booked of at most {limit}")
        })
        .collect();
    Error::Wrong(format!(
        "beyond this client's limit (presil.client_percent): {}",
        limits.join("; ")
    ))
}

fn describe(at: &uapi::Describe) {
    println!(
        "segment     {}, bus {}",
        names::segment(at.segment),
        names::bus(at.bus)
    );
    println!("pages       {} from page {}", at.pages, at.start_page);
    println!("GPU address {:#x}", at.gpu_va);
    println!("first PTE   {:#010x}", at.first_pte);
    println!("state       {}", names::states(at.state));
}
