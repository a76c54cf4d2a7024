//! What the CPU's caches hold of the machine's memory: asked of who follows its loads,
//! stores and flushes.

use crate::memory::Snoop;
use e3k_regs::BusAddr;

/// Bytes of a line of the CPU's caches.
pub const LINE_BYTES: u64 = 64;

/// The caches of all CPUs together, as lines of [`LINE_BYTES`]. In a mask of a line's
/// bytes bit n is byte n. Where nothing is known of an address the masks are 0.
///
/// Real caches write lines back whenever they like; here a line stays until it is flushed.
/// So dirty means that memory may be old, not that it is.
pub trait CacheLines: Send {
    /// What of the CPU is followed. It may begin late, and is asked for each time.
    fn follows(&self) -> Follows;

    /// The bytes of a line that the CPU has stored and memory may not have. `line` is a
    /// multiple of [`LINE_BYTES`].
    fn dirty(&self, line: BusAddr) -> u64;

    /// Whether the CPU has used this page of 4 KiB write-combined while its caches held
    /// lines that came there through a write-back mapping.
    fn mixed(&self, page: BusAddr) -> bool;

    /// The GPU is about to write these bytes of a line: snooped, the caches let go of
    /// them; unsnooped, what they hold of them is old from now on.
    fn written(&mut self, line: BusAddr, bytes: u64, snoop: Snoop);

    /// The next of the CPU's loads of old bytes that nobody has been told of.
    fn next_load(&mut self) -> Option<OldLoad>;
}

/// What of a CPU is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follows {
    /// Nothing: no rule of caches judges.
    #[default]
    Nothing,
    /// Stores and flushes.
    Stores,
    /// Stores, flushes and loads.
    StoresAndLoads,
}

/// The CPU has loaded bytes that it held since before the GPU wrote them unsnooped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldLoad {
    /// The first byte.
    pub at: BusAddr,
    /// How many.
    pub bytes: u64,
}

/// The lines that bytes are in, each with the mask of its bytes.
pub(crate) fn lines(at: BusAddr, bytes: u64) -> impl Iterator<Item = (BusAddr, u64)> {
    let end = at.0.saturating_add(bytes);
    let first = at.0 - at.0 % LINE_BYTES;
    (first..end).step_by(64).map(move |line| {
        let from = at.0.max(line) - line;
        let to = end.min(line + LINE_BYTES) - line;
        (
            BusAddr(line),
            (u64::MAX >> (LINE_BYTES - (to - from))) << from,
        )
    })
}
