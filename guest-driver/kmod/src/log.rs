//! Lines of text for the kernel.

use crate::glue::{Level, SeqFile, presil_log, presil_print};
use core::fmt::{self, Write};

/// The longest log line; the rest is cut off.
const LINE_BYTES: usize = 256;

/// A line under construction, on the stack: logging must not need memory.
struct Line {
    text: [u8; LINE_BYTES],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.text.get_mut(self.used..).unwrap_or_default();
        for (to, from) in free.iter_mut().zip(text.bytes()) {
            *to = from;
            self.used += 1;
        }
        Ok(())
    }
}

/// Writes one line to the kernel log.
pub(crate) fn line(level: Level, text: fmt::Arguments<'_>) {
    let mut line = Line {
        text: [0; LINE_BYTES],
        used: 0,
    };
    // Only a formatted value itself can fail; what came so far is worth a line.
    let _ = line.write_fmt(text);
    // SAFETY: the text is `used` bytes long.
    unsafe { presil_log(level, line.text.as_ptr(), line.used) }
}

/// A debugfs file being read.
pub(crate) struct Listing(pub(crate) *mut SeqFile);

impl Write for Listing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the caller of the listing keeps the file open; the text is `len` bytes long.
        unsafe { presil_print(self.0, text.as_ptr(), text.len()) }
        Ok(())
    }
}
