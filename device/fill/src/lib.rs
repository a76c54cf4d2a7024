//! Fills memory that a guest uses at the same time with a colour, as fast as memset.
//!
//! It is a crate of its own because the model forbids `unsafe`, and what is safe is
//! slower: a fill would copy the colour from the first-level cache
//! (docs/performance.md has figures). All that is unsafe is in `x86_64.rs`.

#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::ops::Range;
use vm_memory::VolatileSlice;

/// After so many bytes a colour repeats.
pub const PERIOD: usize = 16;
/// What is written fast begins and ends at a multiple of it in the host's memory: two
/// lines of its cache.
const STEP: usize = 128;

/// Writes `colour` to all of `to`, over and over. It holds the same [`PERIOD`] bytes
/// again and again, at least twice; its end may cut them. The longer it is, the faster
/// is a fill where the host has no instruction for it. `all` are the bytes of everything
/// that is filled with it before anything else is done: it makes a fill faster, and
/// nothing else, to know whether they stay in the host's caches.
///
/// # Panics
/// `colour` is too short.
pub fn fill(to: &VolatileSlice<'_>, colour: &[u8], all: u64) {
    assert!(
        colour.len() >= 2 * PERIOD,
        "a colour of {} bytes",
        colour.len()
    );
    let head = to.ptr_guard().as_ptr().align_offset(STEP).min(to.len());
    let steps = head..to.len() - (to.len() - head) % STEP;
    #[cfg(target_arch = "x86_64")]
    let fast = x86_64::fill(to, steps.clone(), &colour[head % PERIOD..], all);
    #[cfg(not(target_arch = "x86_64"))]
    let fast = false;
    if fast {
        copy(to, 0..steps.start, colour);
        copy(to, steps.end..to.len(), colour);
    } else {
        copy(to, 0..to.len(), colour);
    }
}

/// Says that `from` is read soon, and `to` written, so that the host looks up where they
/// are meanwhile. Without effect but on time.
#[inline]
pub fn expect(from: Option<&VolatileSlice<'_>>, to: &VolatileSlice<'_>) {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(from) = from {
            x86_64::expect_read(from);
        }
        x86_64::expect_write(to);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, to);
}

/// Copies the colour, which begins at `to`'s first byte, to a part of it.
#[inline]
fn copy(to: &VolatileSlice<'_>, mut range: Range<usize>, colour: &[u8]) {
    while !range.is_empty()
        && let Ok(rest) = to.subslice(range.start, range.len())
    {
        let next = &colour[range.start % PERIOD..];
        rest.copy_from(next);
        range.start += next.len().min(rest.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Colours whose parts are alike, as those of narrow pixels are, and others.
    fn colours() -> impl Strategy<Value = [u8; PERIOD]> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|pixel| std::array::from_fn(|n| pixel[n % 4])),
            any::<[u8; 8]>().prop_map(|pixel| std::array::from_fn(|n| pixel[n % 8])),
            any::<[u8; PERIOD]>(),
        ]
    }

    /// Lengths around those at which the way changes.
    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![
            0_usize..200,
            4000_usize..4400,
            8000_usize..8500,
            12_000_usize..12_600,
            30_000_usize..70_000
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_fill_writes_its_bytes_and_no_others(
            period in colours(),
            start in 0_usize..200,
            bytes in lengths(),
            repeated in prop_oneof![32_usize..200, Just(32 << 10)],
            all in prop_oneof![Just(0), Just(u64::MAX)],
        ) {
            let colour: Vec<u8> = (0..repeated).map(|n| period[n % PERIOD]).collect();
            let other = !period[0];
            let mut memory = vec![other; start + bytes + 200];
            let whole = VolatileSlice::from(&mut memory[..]);
            fill(&whole.subslice(start, bytes).unwrap(), &colour, all);
            let (before, rest) = memory.split_at(start);
            let (filled, behind) = rest.split_at(bytes);
            prop_assert!(before.iter().chain(behind).all(|byte| *byte == other));
            let wrong = filled.iter().enumerate().find(|(n, byte)| **byte != period[n % PERIOD]);
            prop_assert_eq!(wrong, None);
        }
    }
}
