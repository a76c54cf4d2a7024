//! What x86-64 has instructions for.

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
use std::ops::Range;

use vm_memory::VolatileSlice;

use crate::STEP;

/// A string store takes longer to begin than wide stores, and less for each page: from
/// so many bytes on it is faster.
const LONG: usize = 12 << 10;
/// The same, where wide stores would first fetch what they replace from beyond the
/// caches, and where a CPU has none.
const SHORT: usize = 4 << 10;
/// Of more bytes in all than that, caches keep nothing.
const UNCACHED: u64 = 8 << 20;

/// Writes the first [`PERIOD`](crate::PERIOD) bytes of `colour` over and over to this
/// part of `to`, if that is in it, whole and aligned steps, and fast.
#[inline]
pub(crate) fn fill(to: &VolatileSlice<'_>, steps: Range<usize>, colour: &[u8], all: u64) -> bool {
    let guard = to.ptr_guard_mut();
    let start = guard.as_ptr().wrapping_add(steps.start);
    let bytes = steps.len();
    let whole = (start.addr() | bytes).is_multiple_of(STEP);
    if !whole || steps.end > to.len() {
        return false;
    }
    let (words, _) = colour.as_chunks();
    let [word, other] = [0, 1].map(|n| u64::from_le_bytes(words[n]));
    let wide = is_x86_feature_detected!("avx512f");
    let string = if wide && all <= UNCACHED { LONG } else { SHORT };
    if word == other && bytes >= string {
        // SAFETY: the steps are in `to`, which lends its memory for writing.
        unsafe { store_words(start, bytes, word) };
    } else if wide {
        // SAFETY: the same; they are whole and aligned, and this CPU has AVX-512.
        unsafe { store_lines(start, bytes, word, other) };
    } else {
        return false;
    }
    true
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

/// The same by stores of a whole cache line, two in a step. Their registers are some
/// that code without AVX-512 does not have, so that it is not slower afterwards. The
/// words come in registers: a load of what was just stored in two halves would wait for
/// all stores before, which are those of the last page.
///
/// # Safety
/// The bytes from `start` on, whole and aligned steps, may be written.
#[target_feature(enable = "avx512f")]
unsafe fn store_lines(start: *mut u8, bytes: usize, low: u64, high: u64) {
    // SAFETY: no other bytes are written, and none if there are none.
    unsafe {
        asm!(
            "vpbroadcastq zmm16, {low}",
            "vpbroadcastq zmm17, {high}",
            "vpunpcklqdq zmm16, zmm16, zmm17",
            "jmp 3f",
            "2:",
            "vmovdqa64 zmmword ptr [{at}], zmm16",
            "vmovdqa64 zmmword ptr [{at} + 64], zmm16",
            "add {at}, 128",
            "3:",
            "cmp {at}, {end}",
            "jne 2b",
            low = in(reg) low,
            high = in(reg) high,
            at = inout(reg) start => _,
            end = in(reg) start.wrapping_add(bytes),
            out("zmm16") _,
            out("zmm17") _,
            options(nostack),
        );
    }
}

/// Asks for the first line of what is soon read.
#[inline]
pub(crate) fn expect_read(from: &VolatileSlice<'_>) {
    let guard = from.ptr_guard();
    // SAFETY: a hint, which is without effect where nothing is mapped.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(guard.as_ptr().cast()) };
}

/// Asks for the first line of what is soon written.
#[inline]
pub(crate) fn expect_write(to: &VolatileSlice<'_>) {
    let guard = to.ptr_guard();
    // SAFETY: a hint, which is without effect where nothing is mapped.
    unsafe { _mm_prefetch::<_MM_HINT_ET0>(guard.as_ptr().cast()) };
}
