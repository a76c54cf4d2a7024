//! Which mutant of a woven crate is on. Descriptor 9 of the process says it, in
//! decimal; `cover` instead has each place that is passed written to descriptor 8,
//! four bytes each, in the processor's order.
//!
//! Nothing here allocates: the tests of the woven crate count that.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// More places than any crate has.
const PLACES: usize = 1 << 16;
const UNKNOWN: u32 = u32::MAX;
const COVER: u32 = u32::MAX - 1;

static ON: AtomicU32 = AtomicU32::new(UNKNOWN);
static PASSED: [AtomicU64; PLACES / 64] = [const { AtomicU64::new(0) }; PLACES / 64];

/// The mutant that is on, if it is one of the `count` from `first`; 0 otherwise.
#[must_use]
pub fn at(first: u32, count: u32) -> u32 {
    let on = match ON.load(Ordering::Relaxed) {
        UNKNOWN => asked(),
        on => on,
    };
    if on == COVER {
        pass(first);
    }
    if on.wrapping_sub(first) < count {
        on
    } else {
        0
    }
}

#[cold]
fn asked() -> u32 {
    let mut text = [0; 16];
    let read = File::open("/proc/self/fd/9").and_then(|mut file| file.read(&mut text));
    let text = text.get(..read.unwrap_or(0)).unwrap_or_default();
    let on = if text == b"cover" {
        COVER
    } else {
        let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.unwrap_or(0)
    };
    ON.store(on, Ordering::Relaxed);
    on
}

#[cold]
fn pass(first: u32) {
    let bit = 1 << (first % 64);
    let Some(word) = PASSED.get(first as usize / 64) else {
        return;
    };
    if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        let file = File::options().append(true).open("/proc/self/fd/8");
        let _ = file.and_then(|mut file| file.write_all(&first.to_ne_bytes()));
    }
}
