//! No client books a segment away from the others.

use super::{Check, Context, SNOOPED, VISIBLE};
use crate::device::{Buffer, Device, PAGE};
use crate::error::{Error, Result, ensure};
use crate::fdinfo::{Booking, bookings};
use crate::names;
use presil_uapi as uapi;
use rustix::io::Errno;

pub(super) const CHECKS: &[Check] = &[Check {
    name: "a client's limit, and another's memory",
    run: limits,
}];

fn limits(context: &Context) -> Result<String> {
    let mut said = Vec::new();
    for kind in [SNOOPED, VISIBLE] {
        // All of a client's share of VRAM would be cleared.
        if !(context.small && kind.segment == VISIBLE.segment) {
            said.push(limit(kind.segment, kind.flags)?);
        }
    }
    Ok(said.join("; "))
}

fn limit(segment: u32, flags: u32) -> Result<String> {
    let name = names::segment(segment);
    let whole = [uapi::Window::default()];
    // The one segment and no other.
    let windows: &[_] = if segment == VISIBLE.segment {
        &whole
    } else {
        &[]
    };
    let (greedy, other) = (Device::open()?, Device::open()?);
    let share = |device: &Device| Ok(bookings(device)?[segment as usize]);
    let Booking { booked, limit } = share(&greedy)?;
    ensure!(booked == 0, "{name}: {booked} bytes are booked at first");
    ensure!(limit > 0, "{name}: fdinfo tells no limit");
    if limit == greedy.info()?.segments[segment as usize].bytes {
        return Err(Error::Skipped("client_percent is 100: no limits".into()));
    }
    let all = greedy.create(flags, limit, windows)?;
    let full = share(&greedy)?;
    ensure!(full.booked == limit, "{name}: {full:?} at the limit");
    refused(name, greedy.create(flags, PAGE, windows))?;
    let theirs = other.create(flags, limit / 2, windows)?;
    let at = theirs.describe()?.segment;
    ensure!(
        at == segment,
        "{name}: the other's buffer is in segment {at}"
    );
    drop((all, theirs));
    // The GPU may still be clearing them: then the call waits. What the next check finds is free.
    for client in [greedy, other] {
        client.create(flags, PAGE, windows)?.fill(0, PAGE, 0)?;
        client.info()?;
    }
    Ok(format!("{name}: {limit} bytes, then no more"))
}

fn refused(name: &str, created: Result<Buffer>) -> Result<()> {
    match created {
        Err(Error::Call {
            source: Errno::NOSPC,
            ..
        }) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::Wrong(format!(
            "{name}: a client got a page beyond its limit"
        ))),
    }
}
