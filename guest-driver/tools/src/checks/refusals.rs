//! What users may say wrong is refused, with the right error.

use super::{Check, Context, INVISIBLE, SNOOPED, VISIBLE};
use crate::device::{Device, PAGE};
use crate::error::{Error, Result, ensure};
use presil_uapi as uapi;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "refused: unknown flags and padding",
        run: flags_and_padding,
    },
    Check {
        name: "refused: bad sizes and windows",
        run: sizes_and_windows,
    },
    Check {
        name: "refused: handles that are not there",
        run: handles,
    },
    Check {
        name: "refused: ranges outside a buffer",
        run: ranges,
    },
    Check {
        name: "refused: fences never submitted",
        run: fences,
    },
    Check {
        name: "refused: private mappings",
        run: mappings,
    },
    Check {
        name: "refused: physical addresses without privilege",
        run: physical_addresses,
    },
];

/// A handle that nobody has.
const NO_HANDLE: u32 = 0xdead;

/// Counts refusals; each must be the expected one.
#[derive(Default)]
struct Refusals(usize);

impl Refusals {
    fn expect<T>(&mut self, errno: Errno, what: &str, result: Result<T>) -> Result<()> {
        match result {
            Err(Error::Call { source, .. }) if source == errno => {
                self.0 += 1;
                Ok(())
            }
            Err(error) => Err(Error::Wrong(format!("{what}: {error}, expected {errno}"))),
            Ok(_) => Err(Error::Wrong(format!("{what}: not refused"))),
        }
    }

    fn all(self) -> String {
        format!("{} refused", self.0)
    }
}

fn create(device: &Device, request: uapi::Create) -> Result<u32> {
    let mut request = request;
    device.call::<{ uapi::IOCTL_CREATE }, _>("CREATE", &mut request)?;
    Ok(request.handle)
}

fn valid() -> uapi::Create {
    uapi::Create {
        bytes: PAGE,
        flags: uapi::CREATE_GPU_MOSTLY,
        ..uapi::Create::default()
    }
}

fn flags_and_padding(context: &Context) -> Result<String> {
    let device = &context.device;
    let mut refusals = Refusals::default();
    for flags in [0, 3, 1 << 4, 1 << 31, u32::MAX] {
        let request = uapi::Create { flags, ..valid() };
        refusals.expect(
            Errno::INVAL,
            &format!("create flags {flags:#x}"),
            create(device, request),
        )?;
    }
    let request = uapi::Create { pad: 1, ..valid() };
    refusals.expect(Errno::INVAL, "create padding", create(device, request))?;
    let mut info = uapi::Info {
        flags: 1,
        ..uapi::Info::default()
    };
    let result = device.call::<{ uapi::IOCTL_INFO }, _>("INFO", &mut info);
    refusals.expect(Errno::INVAL, "info flags", result)?;
    for (flags, pad) in [(1, 0), (0, 1)] {
        let mut wait = uapi::Wait {
            flags,
            pad,
            ..uapi::Wait::default()
        };
        let result = device.call::<{ uapi::IOCTL_WAIT }, _>("WAIT", &mut wait);
        refusals.expect(Errno::INVAL, "wait flags or padding", result)?;
    }
    let buffer = VISIBLE.create(context, PAGE)?;
    let handle = buffer.handle();
    let mut offset = uapi::MapOffset {
        handle,
        flags: 2,
        offset: 0,
    };
    let result = device.call::<{ uapi::IOCTL_MAP_OFFSET }, _>("MAP_OFFSET", &mut offset);
    refusals.expect(Errno::INVAL, "map flags", result)?;
    let mut describe = uapi::Describe {
        handle,
        flags: 2,
        ..uapi::Describe::default()
    };
    let result = device.call::<{ uapi::IOCTL_DESCRIBE }, _>("DESCRIBE", &mut describe);
    refusals.expect(Errno::INVAL, "describe flags", result)?;
    Ok(refusals.all())
}

fn sizes_and_windows(context: &Context) -> Result<String> {
    let device = &context.device;
    let mut refusals = Refusals::default();
    for (bytes, errno) in [
        (0, Errno::INVAL),
        (u64::MAX, Errno::INVAL),
        (i64::MAX.unsigned_abs(), Errno::NOMEM),
        (1 << 40, Errno::NOMEM),
    ] {
        let request = uapi::Create { bytes, ..valid() };
        refusals.expect(errno, &format!("{bytes:#x} bytes"), create(device, request))?;
    }
    let window = |first_page, last_page| {
        let mut windows = [uapi::Window::default(); uapi::MAX_WINDOWS];
        windows[0] = uapi::Window {
            first_page,
            last_page,
        };
        windows
    };
    let cases = [
        (
            "nine windows",
            uapi::Create {
                window_count: 9,
                ..valid()
            },
        ),
        (
            "a window beyond the count",
            uapi::Create {
                windows: window(0, 64),
                ..valid()
            },
        ),
        (
            "a window for readback",
            uapi::Create {
                window_count: 1,
                windows: window(0, 64),
                flags: uapi::CREATE_READBACK,
                ..valid()
            },
        ),
    ];
    let request = uapi::Create {
        window_count: 1,
        windows: window(64, 64),
        ..valid()
    };
    refusals.expect(Errno::NOMEM, "an empty window", create(device, request))?;
    for (what, request) in cases {
        refusals.expect(Errno::INVAL, what, create(device, request))?;
    }
    Ok(refusals.all())
}

fn handles(context: &Context) -> Result<String> {
    let device = &context.device;
    let mut refusals = Refusals::default();
    let mut fill = uapi::Fill {
        handle: NO_HANDLE,
        bytes: 4,
        ..uapi::Fill::default()
    };
    let result = device.call::<{ uapi::IOCTL_FILL }, _>("FILL", &mut fill);
    refusals.expect(Errno::NOENT, "fill", result)?;
    let mut offset = uapi::MapOffset {
        handle: NO_HANDLE,
        ..uapi::MapOffset::default()
    };
    let result = device.call::<{ uapi::IOCTL_MAP_OFFSET }, _>("MAP_OFFSET", &mut offset);
    refusals.expect(Errno::NOENT, "map", result)?;
    let mut describe = uapi::Describe {
        handle: NO_HANDLE,
        ..uapi::Describe::default()
    };
    let result = device.call::<{ uapi::IOCTL_DESCRIBE }, _>("DESCRIBE", &mut describe);
    refusals.expect(Errno::NOENT, "describe", result)?;
    let buffer = VISIBLE.create(context, PAGE)?;
    for (dst_handle, src_handle) in [(buffer.handle(), NO_HANDLE), (NO_HANDLE, buffer.handle())] {
        let mut copy = uapi::Copy {
            dst_handle,
            src_handle,
            bytes: 4,
            ..uapi::Copy::default()
        };
        let result = device.call::<{ uapi::IOCTL_COPY }, _>("COPY", &mut copy);
        refusals.expect(Errno::NOENT, "copy", result)?;
    }
    Ok(refusals.all())
}

fn ranges(context: &Context) -> Result<String> {
    let mut refusals = Refusals::default();
    let buffer = VISIBLE.create(context, 2 * PAGE)?;
    let other = SNOOPED.create(context, PAGE)?;
    for (offset, bytes) in [
        (0, 0),
        (0, 2 * PAGE + 4),
        (2 * PAGE, 4),
        (4, 256),
        (0, 6),
        (u64::MAX - 255, 256),
        (256, u64::MAX - 255),
    ] {
        let what = format!("{bytes:#x} bytes at {offset:#x}");
        refusals.expect(Errno::INVAL, &what, buffer.fill(offset, bytes, 1))?;
        refusals.expect(
            Errno::INVAL,
            &what,
            buffer.copy_from(offset, &other, 0, bytes),
        )?;
        refusals.expect(
            Errno::INVAL,
            &what,
            other.copy_from(0, &buffer, offset, bytes),
        )?;
    }
    refusals.expect(
        Errno::INVAL,
        "overlap",
        buffer.copy_from(256, &buffer, 0, 512),
    )?;
    Ok(refusals.all())
}

fn fences(context: &Context) -> Result<String> {
    let mut refusals = Refusals::default();
    let buffer = SNOOPED.create(context, PAGE)?;
    let newest = buffer.start_fill(0, PAGE, 0)?;
    refusals.expect(
        Errno::INVAL,
        "the next fence",
        context.device.wait(newest + 1),
    )?;
    refusals.expect(
        Errno::INVAL,
        "the last fence",
        context.device.wait(u64::MAX),
    )?;
    refusals.expect(
        Errno::INVAL,
        "another node's fence",
        Device::open()?.wait(newest),
    )?;
    context.device.wait(newest)?;
    ensure!(context.device.is_over(newest)?, "over, and it is not");
    Ok(refusals.all())
}

fn mappings(context: &Context) -> Result<String> {
    let mut refusals = Refusals::default();
    let buffer = VISIBLE.create(context, PAGE)?;
    refusals.expect(Errno::INVAL, "private", buffer.map_privately())?;
    let offset = buffer.map_offset()?;
    let map = |bytes| context.device.map_at(offset, bytes);
    refusals.expect(Errno::INVAL, "beyond the end", map(2 * PAGE))?;
    let mapping = map(PAGE)?;
    drop(buffer);
    ensure!(mapping.touch()? == 0, "a mapping does not keep its buffer");
    drop(mapping);
    refusals.expect(Errno::INVAL, "after the end", map(PAGE))?;
    if INVISIBLE.exists(context) {
        let hidden = INVISIBLE.create(context, PAGE)?;
        drop(hidden.map()?);
    }
    Ok(refusals.all())
}

/// A page-table entry of RAM says where in RAM the page lies.
fn physical_addresses(context: &Context) -> Result<String> {
    let buffer = SNOOPED.create(context, PAGE)?;
    buffer.fill(0, PAGE, 0)?;
    let mine = capabilities(None).map_err(failed)?;
    if !mine.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Err(Error::Skipped("not run with CAP_SYS_ADMIN".into()));
    }
    ensure!(buffer.describe()?.first_pte != 0, "no entry for anybody");
    let mut fewer = mine;
    fewer.effective.remove(CapabilitySet::SYS_ADMIN);
    set_capabilities(None, fewer).map_err(failed)?;
    let seen = buffer.describe();
    set_capabilities(None, mine).map_err(failed)?;
    let entry = seen?.first_pte;
    ensure!(entry == 0, "DESCRIBE tells everybody entry {entry:#x}");
    Ok("shown with CAP_SYS_ADMIN only".into())
}

fn failed(source: Errno) -> Error {
    Error::Call {
        call: "capabilities",
        source,
    }
}
