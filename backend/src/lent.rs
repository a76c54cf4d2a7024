//! What a client lends: descriptors, which may be of any kind, and whose status
//! flags it shares: no use of one may rely on it not to block.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::eventfd_signal;

/// Most address space that one client's memory may take, of the 2^47 bytes that
/// the process has for all of them.
pub(crate) const MAX_ADDRESS_SPACE: u64 = 1 << 42;

/// Where a file is read that has no positions.
const NO_POSITION: u64 = u64::MAX;

/// Whether `fd` may be an eventfd. Those have no file type; directories,
/// regular files, devices, pipes and sockets have.
pub(crate) fn is_event(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|data| FileType::from_raw_mode(data.st_mode) == FileType::Unknown)
}

/// An eventfd that a client lent to be told by.
#[derive(Debug)]
pub(crate) struct LentEvent(OwnedFd);

impl LentEvent {
    /// # Errors
    /// `EINVAL`: it is no eventfd.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        if is_event(&fd) {
            Ok(Self(fd))
        } else {
            Err(Errno::INVAL)
        }
    }

    /// Adds 1 to it, if there is room. Never waits, whatever the client has made of it.
    ///
    /// # Errors
    /// `EINVAL`: it is no eventfd; `EAGAIN`: the kernel has no memory for the moment.
    pub(crate) fn signal(&self) -> Result<(), Errno> {
        eventfd_signal::signal(self.0.as_fd())
    }
}

/// Takes what an eventfd of a client counts. Never waits, whatever the client
/// has made of it. Says whether there was something.
pub(crate) fn take(fd: impl AsFd) -> io::Result<bool> {
    let mut count = [0; 8];
    let taken = preadv2(
        fd,
        &mut [IoSliceMut::new(&mut count)],
        NO_POSITION,
        ReadWriteFlags::NOWAIT,
    );
    match taken {
        Ok(bytes) => Ok(bytes != 0),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether `file` is one that holds memory: `bytes` bytes from `offset` on.
/// Beyond its end an access would be a SIGBUS.
pub(crate) fn is_held(file: &File, offset: u64, bytes: u64) -> io::Result<bool> {
    let data = file.metadata()?;
    let end = offset.checked_add(bytes);
    Ok(data.is_file() && end.is_some_and(|end| end <= data.len()))
}
