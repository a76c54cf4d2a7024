//! Where buffers go, and that all of it comes back.

use super::{Check, Context, INVISIBLE, SNOOPED, UNSNOOPED, VISIBLE};
use crate::device::PAGE;
use crate::error::{Error, Result, ensure};
use presil_uapi as uapi;
use rustix::io::Errno;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "placement of the worked example",
        run: worked_example,
    },
    Check {
        name: "freed while the GPU is busy",
        run: freed_while_busy,
    },
    Check {
        name: "usage as before all checks",
        run: usage,
    },
];

/// Pages of the three windows, and of a buffer.
const WINDOWS: [(u64, u64); 3] = [
    (64 << 10, 68 << 10),
    (88 << 10, 92 << 10),
    (100 << 10, 104 << 10),
];
const BUFFER_PAGES: u64 = 1 << 10;

/// Three windows of four buffers: twelve fit, each at the lowest free address
/// of the first window with room; the thirteenth is refused.
fn worked_example(context: &Context) -> Result<String> {
    let visible = context.device.info()?.segments[0].bytes / PAGE;
    if visible < WINDOWS[2].1 {
        let needed = WINDOWS[2].1;
        return Err(Error::Skipped(format!(
            "{visible} visible pages, it needs {needed}"
        )));
    }
    let windows = WINDOWS.map(|(first_page, last_page)| uapi::Window {
        first_page,
        last_page,
    });
    let create = || {
        let bytes = BUFFER_PAGES * PAGE;
        context
            .device
            .create(uapi::CREATE_GPU_MOSTLY, bytes, &windows)
    };
    let expected = WINDOWS
        .iter()
        .flat_map(|(first, last)| (*first..*last).step_by(1 << 10));
    let mut buffers = Vec::new();
    for (number, expected) in expected.enumerate() {
        let buffer = create()?;
        let page = buffer.describe()?.start_page;
        ensure!(
            page == expected,
            "buffer {} is at page {page}, expected {expected}",
            number + 1
        );
        buffers.push(buffer);
    }
    let count = buffers.len();
    ensure!(count == 12, "{count} buffers");
    match create() {
        Err(Error::Call {
            source: Errno::NOMEM,
            ..
        }) => {}
        Err(error) => return Err(error),
        Ok(_) => ensure!(false, "the thirteenth buffer was not refused"),
    }
    Ok("12 buffers at pages 64K to 103K, the 13th refused: out of memory".into())
}

/// A buffer that the GPU still uses gives its memory back when the GPU is
/// done: who needs that memory waits for it.
fn freed_while_busy(context: &Context) -> Result<String> {
    const BYTES: u64 = 32 << 20;
    let place = [uapi::Window {
        first_page: 0,
        last_page: BYTES / PAGE,
    }];
    let create = || {
        context
            .device
            .create(uapi::CREATE_GPU_MOSTLY, BYTES, &place)
    };
    // What the checks before have freed may be busy too.
    SNOOPED.create(context, PAGE)?.fill(0, PAGE, 0)?;
    let before = used(&context.device.info()?.segments);
    let buffer = create()?;
    buffer.start_fill(0, BYTES, 0x5A5A_5A5A)?;
    drop(buffer);
    let next = create()?;
    let fence = next.start_fill(0, BYTES, 0)?;
    drop(next);
    context.device.wait(fence)?;
    let after = used(&context.device.info()?.segments);
    ensure!(before == after, "used bytes {after:?}, before {before:?}");
    Ok(format!("{BYTES} bytes, and the same place again"))
}

/// Nothing that the checks booked is left.
fn usage(context: &Context) -> Result<String> {
    let kinds = [VISIBLE, INVISIBLE, SNOOPED, UNSNOOPED];
    for kind in kinds.iter().filter(|kind| kind.exists(context)) {
        let buffer = kind.create(context, 3 * PAGE + 1)?;
        buffer.fill(0, 256, 1)?;
        let now = context.device.info()?.segments[kind.segment as usize].used_bytes;
        let start = context.at_start[kind.segment as usize].used_bytes;
        ensure!(
            now == start + 4 * PAGE,
            "{}: {now} bytes used, at the start {start}",
            kind.name
        );
    }
    let (now, start) = (
        used(&context.device.info()?.segments),
        used(&context.at_start),
    );
    ensure!(now == start, "used bytes {now:?}, at the start {start:?}");
    Ok(format!("{now:?} bytes used in the four segments"))
}

fn used(segments: &[uapi::Segment; uapi::SEGMENTS]) -> [u64; uapi::SEGMENTS] {
    segments.map(|segment| segment.used_bytes)
}
