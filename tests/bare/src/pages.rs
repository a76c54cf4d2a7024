//! RAM for the GPU: single pages that lie apart, each between pages that the
//! GPU has no business with.

use crate::Result;
use crate::shadow::Shadow;
use crate::window::Window;
use std::fs::File;
use std::os::unix::fs::FileExt;

pub(crate) const PAGE: usize = 4096;
/// The GPU gets one page of so many, and those in another order.
const STRIDE: usize = 3;
/// Bits 54:0 of a word of pagemap: the page frame number; bit 63: it is there.
const FRAME: u64 = (1 << 55) - 1;
const PRESENT: u64 = 1 << 63;

/// Locked pages full of noise.
pub(crate) struct Pages {
    window: Window,
    /// Guard pages included.
    shadow: Shadow,
    frames: Vec<u64>,
    count: usize,
}

impl Pages {
    /// `count` pages for the GPU.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let window = Window::locked(count * STRIDE * PAGE)?;
        let shadow = Shadow::new(&window, 0, window.bytes());
        let frames = frames(&window)?;
        Ok(Self {
            window,
            shadow,
            frames,
            count,
        })
    }

    /// The CPU writes what the GPU sees at an offset of its pages.
    pub(crate) fn write(&mut self, offset: usize, value: u32) {
        self.shadow.write(&self.window, self.at(offset), value);
    }

    /// The CPU reads it.
    pub(crate) fn read(&self, offset: usize) -> u32 {
        self.window.read(self.at(offset))
    }

    /// The GPU is to write it.
    pub(crate) fn expect(&mut self, offset: usize, value: u32) {
        self.shadow.expect(self.at(offset), value);
    }

    /// What it must be.
    pub(crate) fn wanted(&self, offset: usize) -> u32 {
        self.shadow.get(self.at(offset))
    }

    /// Whether all of it is.
    pub(crate) fn compare(&self) -> Result<()> {
        self.shadow.compare(&self.window, "RAM")
    }

    /// Offset in the window of what the GPU sees at an offset of its pages.
    fn at(&self, offset: usize) -> usize {
        // The step has no divisor in common with a count that is no multiple of 7.
        let page = offset / PAGE * 7 % self.count;
        page * STRIDE * PAGE + offset % PAGE
    }

    /// Bus address of the GPU's page of this number.
    pub(crate) fn bus_address(&self, page: usize) -> u64 {
        self.frames[self.at(page * PAGE) / PAGE] * PAGE as u64
    }

    /// Whether every page is still where it was.
    pub(crate) fn have_stayed(&self) -> Result<()> {
        if frames(&self.window)? == self.frames {
            Ok(())
        } else {
            Err("the kernel has moved a page".into())
        }
    }
}

fn frames(window: &Window) -> Result<Vec<u64>> {
    let failed = |error| format!("/proc/self/pagemap: {error}");
    let pagemap = File::open("/proc/self/pagemap").map_err(failed)?;
    let first = window.address() / PAGE;
    (first..first + window.bytes() / PAGE)
        .map(|page| {
            let mut word = [0; 8];
            pagemap
                .read_exact_at(&mut word, page as u64 * 8)
                .map_err(failed)?;
            match u64::from_le_bytes(word) {
                word if word & PRESENT != 0 && word & FRAME != 0 => Ok(word & FRAME),
                word => Err(format!("pagemap says {word:#x}: are we root?")),
            }
        })
        .collect()
}
