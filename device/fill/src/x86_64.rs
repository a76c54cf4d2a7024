//! What x86-64 has instructions for.

use std::arch::asm;
use std::ops::Range;

use vm_memory::VolatileSlice;

use crate::{PERIOD, STEP};

/// Fewer bytes are copied: the instruction takes longer to begin than it saves on them.
const SHORT: usize = 4 << 10;

/// Writes `period` over and over to this part of `to`, if that is in it, whole and
/// aligned steps, and fast.
#[inline]
pub(crate) fn fill(to: &VolatileSlice<'_>, steps: Range<usize>, period: [u8; PERIOD]) -> bool {
    let guard = to.ptr_guard_mut();
    let start = guard.as_ptr().wrapping_add(steps.start);
    let bytes = steps.len();
    let whole = (start.addr() | bytes).is_multiple_of(STEP);
    let [word, other] =
        [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|n| period[at + n])));
    let fast = whole && steps.end <= to.len() && bytes >= SHORT && word == other;
    if fast {
        // SAFETY: the steps are in `to`, which lends its memory for writing.
        unsafe { store_words(start, bytes, word) };
    }
    fast
}

/// A guest may read or write the same bytes meanwhile: that is for assembly, into
/// which the compiler does not look, as it is for volatile stores.
///
/// # Safety
/// The bytes from `start` on, whole words, may be written.
unsafe fn store_words(start: *mut u8, bytes: usize, word: u64) {
    // SAFETY: no other bytes are written. The direction flag is clear, as it is
    // wherever Rust code begins.
    unsafe {
        asm!(
            "rep stosq",
            inout("rcx") bytes / size_of::<u64>() => _,
            inout("rdi") start => _,
            in("rax") word,
            options(nostack, preserves_flags),
        );
    }
}
