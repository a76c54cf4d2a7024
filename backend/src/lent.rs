//! What a client lends: descriptors, which may be of any kind.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Makes every use of it end at once, for all who have it: with
/// [`Errno::AGAIN`] where it would have waited.
pub(crate) fn never_wait(fd: impl AsFd) -> Result<(), Errno> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
}

/// Whether `file` has `bytes` bytes from `offset` on: beyond its end an access
/// would be a SIGBUS. What is no file of a size has as many as are asked for.
pub(crate) fn is_held(file: &File, offset: u64, bytes: u64) -> io::Result<bool> {
    let data = file.metadata()?;
    let end = offset.checked_add(bytes);
    Ok(!data.is_file() || end.is_some_and(|end| end <= data.len()))
}
