//! What the C shim calls. The shim's promises, which every SAFETY line below
//! stands on: pointers it passes are valid for the call, an adapter is used
//! under the device lock and not after `presil_rs_stop`, a timeline not after
//! `presil_rs_release`.

use crate::bench;
use crate::glue::{Board, Device, Level, RawBooking, RawFrame, SeqFile, listing};
use crate::log::{self, Listing};
use crate::os::Kernel;
use crate::report;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ptr::NonNull;
use e3k_regs::Reg;
use presil_uapi as uapi;
use vidmm::{
    Adapter, BoId, Bus, Caching, Client, CreateRequest, Error, InitReport, Options, Window,
};

/// `struct presil_adapter`.
pub(crate) struct Driver {
    adapter: Adapter<Kernel>,
    report: InitReport,
}

/// `struct presil_timeline`.
type Timeline = vidmm::Timeline<Kernel>;

/// What latches the interrupt status, and where it is read then.
#[unsafe(export_name = "presil_rs_shadows")]
static SHADOWS: [u32; 2] = [Reg::BiuShadow.offset(), Reg::AdvancedShadow.offset()];

/// Not an error of `vidmm`: it is not over yet.
const EAGAIN: i32 = 11;

/// As C functions report: 0 or a negative errno.
fn status(result: Result<(), Error>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => -error.errno(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_start(
    device: NonNull<Device>,
    board: &Board,
    client_percent: u8,
    driver: &mut *mut Driver,
    timeline: &mut *const Timeline,
) -> i32 {
    // SAFETY: the shim frees the device after the adapter and the timeline.
    let kernel = unsafe { Kernel::new(device, *board) };
    let mut report = InitReport::default();
    let options = Options {
        // The shim waits for the ring itself, with the interrupt handler still connected.
        idle_timeout_ns: 0,
        client_percent,
        ..Options::default()
    };
    match Adapter::init(kernel, options, &mut report) {
        Ok(adapter) => {
            *timeline = Arc::into_raw(adapter.timeline());
            *driver = Box::into_raw(Box::new(Driver { adapter, report }));
            0
        }
        Err(error) => {
            log::line(Level::Error, format_args!("{error}"));
            -error.error.errno()
        }
    }
}

/// What could not be given back is in the log.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_stop(driver: *mut Driver) {
    // SAFETY: it came from `presil_rs_start` and ends here.
    let driver = unsafe { Box::from_raw(driver) };
    let _ = driver.adapter.fini();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_client_open(driver: &mut Driver, client: &mut *mut Client) -> i32 {
    status(driver.adapter.open_client().map(|opened| {
        *client = Box::into_raw(Box::new(opened));
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_client_close(driver: Option<&mut Driver>, client: *mut Client) {
    // SAFETY: it came from `presil_rs_client_open` and ends here.
    let client = unsafe { Box::from_raw(client) };
    if let Some(driver) = driver {
        driver.adapter.close_client(*client);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_client_bookings(
    driver: &mut Driver,
    client: &Client,
    out: &mut [RawBooking; uapi::SEGMENTS],
) {
    driver.adapter.advance();
    *out = driver.adapter.bookings(client).map(|booking| RawBooking {
        booked: booking.booked,
        limit: booking.limit,
    });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_create(
    driver: &mut Driver,
    client: &Client,
    request: &uapi::Create,
    bo: &mut u64,
    segment: &mut u32,
) -> i32 {
    let windows = request.windows.map(|window| Window {
        first_page: window.first_page,
        last_page: window.last_page,
    });
    let count = usize::try_from(request.window_count).ok();
    let Some(windows) = count.and_then(|count| windows.get(..count)) else {
        return -Error::Invalid.errno();
    };
    let wanted = CreateRequest {
        bytes: request.bytes,
        flags: request.flags,
        windows,
    };
    let created = driver.adapter.create_for(client, &wanted);
    if let Err(error @ Error::Limit { .. }) = created {
        log::line(Level::Debug, format_args!("{error}"));
    }
    status(created.and_then(|id| {
        *bo = id.to_bits();
        *segment = driver.adapter.describe(id)?.segment as u32;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_destroy(driver: &mut Driver, bo: u64) {
    if let Err(error) = driver.adapter.destroy(BoId::from_bits(bo)) {
        log::line(
            Level::Warning,
            format_args!("buffer {bo:#x} not destroyed: {error}"),
        );
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_fault(
    driver: &mut Driver,
    bo: u64,
    page: u64,
    frame: &mut RawFrame,
) -> i32 {
    let bo = BoId::from_bits(bo);
    let found = driver.adapter.fault(bo, page);
    if found == Err(Error::Busy) {
        frame.fence = driver.adapter.ready_fence(bo).unwrap_or(0);
    }
    status(found.map(|found| {
        frame.pfn = found.pfn;
        frame.write_combined = (found.caching == Caching::WriteCombined).into();
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_fill(
    driver: &mut Driver,
    client: &Client,
    bo: u64,
    request: &mut uapi::Fill,
) -> i32 {
    let bo = BoId::from_bits(bo);
    let filled =
        driver
            .adapter
            .fill_for(client, bo, request.offset, request.bytes, request.pattern);
    status(filled.map(|fence| request.fence = fence))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_copy(
    driver: &mut Driver,
    client: &Client,
    dst: u64,
    src: u64,
    request: &mut uapi::Copy,
) -> i32 {
    let copied = driver.adapter.copy_for(
        client,
        BoId::from_bits(dst),
        request.dst_offset,
        BoId::from_bits(src),
        request.src_offset,
        request.bytes,
    );
    status(copied.map(|fence| request.fence = fence))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_describe(driver: &Driver, bo: u64, out: &mut uapi::Describe) -> i32 {
    let described = driver.adapter.describe(BoId::from_bits(bo));
    status(described.map(|bo| {
        let states = [
            (bo.populated, uapi::STATE_POPULATED),
            (bo.bound, uapi::STATE_BOUND),
            (bo.pinned, uapi::STATE_PINNED),
        ];
        *out = uapi::Describe {
            handle: out.handle,
            flags: 0,
            segment: bo.segment as u32,
            bus: match bo.bus {
                Bus::Io => uapi::BUS_IO,
                Bus::Sys => uapi::BUS_MEM,
            },
            state: states
                .iter()
                .filter(|state| state.0)
                .map(|state| state.1)
                .sum(),
            first_pte: bo.first_pte,
            start_page: bo.start_page,
            pages: bo.pages,
            gpu_va: bo.gpu_va.0,
        };
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_info(driver: &mut Driver, info: &mut uapi::Info) {
    driver.adapter.advance();
    let board = driver.adapter.os().board();
    let fences = driver.adapter.timeline().counters();
    *info = uapi::Info {
        flags: 0,
        vendor_id: board.vendor_id,
        device_id: board.device_id,
        vram_bytes: driver.report.chip.map_or(0, |chip| chip.vram_bytes),
        visible_bytes: board.visible_bytes,
        fence_submitted: fences.submitted,
        fence_completed: fences.completed,
        interrupts: fences.interrupts,
        fallbacks: fences.fallbacks,
        page_faults: fences.page_faults,
        segments: driver.adapter.segments().map(|segment| uapi::Segment {
            gpu_va: segment.start.0,
            bytes: segment.bytes,
            used_bytes: segment.usage,
            pinned_bytes: segment.pinned,
        }),
        bus_errors: fences.bus_errors,
        hangs: fences.hangs,
    };
}

/// Looks at the errors that interrupts told of, and for interrupts that are lost.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_attend(driver: &mut Driver) {
    if let Err(error) = driver.adapter.attend() {
        log::line(Level::Error, format_args!("the GPU is lost: {error}"));
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_ask(
    driver: &mut Driver,
    client: &Client,
    fence: u64,
    next: &mut u64,
) -> i32 {
    match driver.adapter.ask(client, fence) {
        Ok(None) => 0,
        Ok(Some(ring)) => {
            *next = ring;
            -EAGAIN
        }
        Err(error) => -error.errno(),
    }
}

/// Waits for everything that was submitted.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_drain(driver: &mut Driver, timeout_ns: u64) {
    // A GPU that hangs is dealt with when the adapter stops.
    let _ = driver.adapter.drain(timeout_ns);
}

/// True while the GPU still works, so that more may be given back later.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_advance(driver: &mut Driver) -> bool {
    driver.adapter.advance();
    let fences = driver.adapter.timeline().counters();
    fences.completed < fences.submitted
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_has_queued(driver: &Driver) -> bool {
    driver.adapter.has_queued()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_list(driver: &Driver, what: u32, to: *mut SeqFile) -> i32 {
    let mut to = Listing(to);
    let written = match what {
        listing::BOS => driver.adapter.write_bo_list(&mut to),
        listing::INIT => report::init(&mut to, &driver.report),
        listing::COUNTERS => report::counters(&mut to, driver.adapter.timeline().counters()),
        _ => return -Error::Invalid.errno(),
    };
    status(written.map_err(|_| Error::Io))
}

/// Measures, which takes about a second.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_bench(driver: &mut Driver, to: *mut SeqFile) -> i32 {
    status(bench::run(&mut driver.adapter, &mut Listing(to)))
}

/// An error says that work is unfinished.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_suspend(driver: &mut Driver, timeout_ns: u64) -> i32 {
    status(driver.adapter.suspend(timeout_ns))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_resume(driver: &mut Driver) -> i32 {
    status(driver.adapter.resume())
}

/// Waits for everything that was submitted, and leaves a GPU that does nothing.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_shut_down(driver: &mut Driver, timeout_ns: u64) -> i32 {
    status(driver.adapter.shut_down(timeout_ns))
}

/// Called by the interrupt handler.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_in_memory(timeline: &Timeline) -> u64 {
    timeline.in_memory()
}

/// Called by the interrupt handler.
#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_interrupt(
    timeline: &Timeline,
    before: u64,
    biu: u32,
    advanced: u32,
) -> bool {
    timeline.interrupt(before, biu, advanced)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_has_trouble(timeline: &Timeline) -> bool {
    timeline.has_trouble()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_completed(timeline: &Timeline) -> u64 {
    timeline.completed()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_submitted(timeline: &Timeline) -> u64 {
    timeline.submitted()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_wait(timeline: &Timeline, fence: u64, timeout_ns: u64) -> i32 {
    status(timeline.wait(fence, timeout_ns))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn presil_rs_release(timeline: *const Timeline) {
    // SAFETY: it came from `presil_rs_start` and ends here.
    drop(unsafe { Arc::from_raw(timeline) });
}
