//! What the kernel says about RAM, page frame by page frame
//! (Documentation/admin-guide/mm/pagemap.rst). It wants root.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

const FLAGS: &str = "/proc/kpageflags";
/// `KPF_ARCH`: on x86 the kernel maps this frame write-combined, and so does
/// everybody who maps it (arch/x86/mm/pat/memtype.c).
const WRITE_COMBINED: u64 = 1 << 38;

/// How many frames are write-combined now.
pub(crate) fn write_combined() -> Result<u64> {
    let failed = Error::file(Path::new(FLAGS));
    let mut file = File::open(FLAGS).map_err(&failed)?;
    let mut part = vec![0; 1 << 16];
    let mut count = 0;
    loop {
        // The kernel gives whole entries.
        let got = file.read(&mut part).map_err(&failed)?;
        if got == 0 {
            return Ok(count);
        }
        let entries = part[..got].as_chunks().0.iter();
        let entries = entries.map(|entry| u64::from_ne_bytes(*entry));
        count += entries.filter(|flags| flags & WRITE_COMBINED != 0).count() as u64;
    }
}
