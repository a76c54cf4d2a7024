//! What x86-64 has instructions for.
//!
//! Their stores are the compiler's to leave alone, since a guest may read or write the
//! same bytes meanwhile: it does not look into assembly, and others are volatile.

use std::arch::asm;
use std::arch::x86_64::{__m256i, _mm256_set_epi64x};

use std::ops::Range;
use vm_memory::VolatileSlice;

use crate::{PERIOD, STEP};

/// Fewer bytes are written by vector stores: a string instruction takes longer to
/// begin than it saves on them.
const SHORT: usize = 8 << 10;
/// Vectors of a step.
const VECTORS: usize = STEP / size_of::<__m256i>();

/// Writes `period` over and over to this part of `to`, if that is in it, whole and
/// aligned steps, and fast.
#[inline]
pub(crate) fn fill(to: &VolatileSlice<'_>, steps: Range<usize>, period: [u8; PERIOD]) -> bool {
    let guard = to.ptr_guard_mut();
    let start = guard.as_ptr().wrapping_add(steps.start);
    let bytes = steps.len();
    if steps.end > to.len() || !(start.addr() | bytes).is_multiple_of(STEP) {
        return false;
    }
    let words = [0, 8].map(|at| i64::from_le_bytes(std::array::from_fn(|n| period[at + n])));
    if bytes < SHORT {
        let vectors = is_x86_feature_detected!("avx2");
        if vectors {
            // SAFETY: the processor has AVX2; the steps are in `to`, which lends its
            // memory for writing, and aligned.
            unsafe { store_vectors(start, bytes, words) };
        }
        return vectors;
    }
    let [word, other] = words;
    if word == other {
        // SAFETY: the steps are in `to`, which lends its memory for writing.
        unsafe { store_words(start, bytes, word) };
    }
    word == other
}

/// # Safety
/// The bytes from `start` on, whole words, may be written.
unsafe fn store_words(start: *mut u8, bytes: usize, word: i64) {
    // SAFETY: no other bytes are written. The direction flag is clear, as it is
    // wherever Rust code begins.
    unsafe {
        asm!(
            "rep stosq",
            inout("rcx") bytes / size_of::<i64>() => _,
            inout("rdi") start => _,
            in("rax") word,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// The processor has AVX2. The bytes from `start` on, whole and aligned steps, may be
/// written.
#[target_feature(enable = "avx2")]
unsafe fn store_vectors(start: *mut u8, bytes: usize, [low, high]: [i64; 2]) {
    let vector = _mm256_set_epi64x(high, low, high, low);
    #[expect(clippy::cast_ptr_alignment, reason = "the steps are aligned")]
    let vectors = start.cast::<__m256i>();
    for step in (0..bytes / size_of::<__m256i>()).step_by(VECTORS) {
        for n in step..step + VECTORS {
            // SAFETY: it is in one of the steps.
            unsafe { vectors.add(n).write_volatile(vector) };
        }
    }
}
