//! What a part of a window must hold.

use crate::Result;
use crate::window::Window;

/// A copy of `words` words from byte `start` on. Offsets count from there.
pub(crate) struct Shadow {
    start: usize,
    words: Vec<u32>,
}

impl Shadow {
    /// Fills the part with noise.
    pub(crate) fn new(window: &Window, start: usize, bytes: usize) -> Self {
        let words = vec![0; bytes / 4];
        let mut shadow = Self { start, words };
        for at in (0..bytes).step_by(4) {
            shadow.write(window, at, noise(0x5EED, at));
        }
        shadow
    }

    /// The CPU writes a word.
    pub(crate) fn write(&mut self, window: &Window, at: usize, value: u32) {
        window.write(self.start + at, value);
        self.expect(at, value);
    }

    /// The GPU is to write a word.
    pub(crate) fn expect(&mut self, at: usize, value: u32) {
        self.words[at / 4] = value;
    }

    /// What a word must be.
    pub(crate) fn get(&self, at: usize) -> u32 {
        self.words[at / 4]
    }

    /// Whether every word is.
    pub(crate) fn compare(&self, window: &Window, what: &str) -> Result<()> {
        for (at, wanted) in (0..).step_by(4).zip(&self.words) {
            let found = window.read(self.start + at);
            if found != *wanted {
                return Err(format!(
                    "{what}: {found:#010x} at {at:#x} of {:#x}, expected {wanted:#010x}",
                    self.words.len() * 4
                ));
            }
        }
        Ok(())
    }
}

/// A bit mixer: no two words alike.
pub(crate) fn noise(seed: u32, at: usize) -> u32 {
    let x = u32::try_from(at).unwrap_or(0).wrapping_mul(0x9E37_79B9) ^ seed;
    let x = (x ^ x >> 16).wrapping_mul(0x85EB_CA6B);
    x ^ x >> 13
}
