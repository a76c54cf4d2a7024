//! Measures how far the GPU is: register accesses, and from a doorbell to its
//! interrupt. Everything goes the way that the driver's own accesses and
//! submissions go, whatever the transport.

use crate::os::Kernel;
use alloc::vec::Vec;
use core::fmt::Write;
use e3k_regs::Reg;
use vidmm::{Adapter, BoId, CreateFlags, CreateRequest, Error, Platform, Registers};

/// Enough for a 99th percentile, and no soft lockup on a slow host.
const ACCESSES: usize = 4096;
const KICKS: usize = 1024;
/// Says what the next invalidation means, and does nothing before its trigger.
const REGISTER: Reg = Reg::PtInvAddr;
const FENCE_DEADLINE_NS: u64 = 5_000_000_000;
/// The least work: one pixel.
const FILL_BYTES: u64 = 4;

/// Measures and writes the figures, in nanoseconds, as JSON.
///
/// # Errors
/// Those of the accesses and submissions, and [`Error::NoMemory`].
pub(crate) fn run(adapter: &mut Adapter<Kernel>, to: &mut impl Write) -> Result<(), Error> {
    let os = adapter.os();
    let at = REGISTER.offset();
    let held = os.read(at)?;
    let read = accesses(os, || os.read(at).map(|_| ()))?;
    let write = accesses(os, || os.write(at, held))?;
    let kick = kicks(adapter)?;
    let written = write!(
        to,
        r#"{{"register_read":{read},"register_write":{write},"kick_to_interrupt":{kick}}}"#
    );
    written.map_err(|_| Error::Io)
}

/// Each access by itself, its answer awaited.
fn accesses(os: &Kernel, mut access: impl FnMut() -> Result<(), Error>) -> Result<Figures, Error> {
    measure(ACCESSES, || {
        let before = os.now_ns();
        access()?;
        Ok(os.now_ns().saturating_sub(before))
    })
}

/// From before the doorbell is written until the handler knows its interrupt;
/// the next one follows when the last is done.
fn kicks(adapter: &mut Adapter<Kernel>) -> Result<Figures, Error> {
    let bo = adapter.create(&CreateRequest {
        bytes: FILL_BYTES,
        flags: CreateFlags::GPU_MOSTLY.0,
        windows: &[],
    })?;
    if let Some(fence) = adapter.ready_fence(bo) {
        adapter.timeline().wait(fence, FENCE_DEADLINE_NS)?;
    }
    let figures = measure(KICKS, || kick(adapter, bo));
    adapter.destroy(bo)?;
    figures
}

fn kick(adapter: &mut Adapter<Kernel>, bo: BoId) -> Result<u64, Error> {
    let fence = adapter.fill(bo, 0, FILL_BYTES, 0)?;
    adapter.timeline().wait(fence, FENCE_DEADLINE_NS)?;
    let times = adapter.os().times();
    Ok(times.interrupted.saturating_sub(times.access_began))
}

/// What samples come to, in nanoseconds.
struct Figures {
    samples: usize,
    min: u64,
    p50: u64,
    p99: u64,
}

impl core::fmt::Display for Figures {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            samples,
            min,
            p50,
            p99,
        } = self;
        write!(
            f,
            r#"{{"samples":{samples},"min_ns":{min},"p50_ns":{p50},"p99_ns":{p99}}}"#
        )
    }
}

fn measure(
    samples: usize,
    mut sample: impl FnMut() -> Result<u64, Error>,
) -> Result<Figures, Error> {
    let mut times = Vec::new();
    times.try_reserve_exact(samples)?;
    for _ in 0..samples {
        times.push(sample()?);
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(samples * percent / 100).copied().unwrap_or(0);
    Ok(Figures {
        samples,
        min: at(0),
        p50: at(50),
        p99: at(99),
    })
}
