//! What a client lends: descriptors, which may be of any kind, and whose status
//! flags it shares: no use of one may rely on it not to block.
//!
//! Even to ask for its size, or to close it, may wait for ever: a file of a FUSE
//! file system asks a process of the client's. So the kernel alone says what kind
//! one is, and what is of a wrong kind is dropped before any lock is taken.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::fcntl_get_seals;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::doors::eventfd_signal;
use crate::shared_gpu::SharedGpu;

/// Most address space that one client's memory may take, of the 2^47 bytes that
/// the process has for all of them.
pub(crate) const MAX_ADDRESS_SPACE: u64 = 1 << 42;

/// Said of memory that is refused.
const NO_MEMORY: &str = "guest memory is in a file that is neither of tmpfs (as a \
    memory-backend-memfd) nor of hugetlbfs: the GPU might wait for its pages for ever";
/// The same, where only a part of it is there.
pub(crate) const TOO_SHORT: &str = "a file is shorter than the memory that it is to hold";

/// Bytes of a usual page.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Where a file is read that has no positions.
const NO_POSITION: u64 = u64::MAX;

/// Whether `fd` is an eventfd. Never waits.
pub(crate) fn is_event(fd: impl AsFd) -> bool {
    eventfd_signal::is_eventfd(fd.as_fd())
}

/// Whether `fd` is a file that is memory, and whose pages nobody is asked for: of
/// tmpfs or hugetlbfs, as each memfd is. Only those have seals. Never waits.
fn is_memory(fd: impl AsFd) -> bool {
    fcntl_get_seals(fd).is_ok()
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

/// A file of memory that a client lent.
#[derive(Debug)]
pub(crate) struct LentMemory(File);

impl LentMemory {
    /// # Errors
    /// `EINVAL`: it is of another kind, and pages of it might never come.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        if is_memory(&fd) {
            Ok(Self(fd.into()))
        } else {
            tracing::warn!("{NO_MEMORY}");
            Err(Errno::INVAL)
        }
    }

    /// Whether it holds `bytes` bytes from `offset` on: beyond its end an access
    /// would be a SIGBUS. Never waits.
    pub(crate) fn holds(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        let end = offset.checked_add(bytes);
        let held = self.0.metadata()?.len();
        Ok(end.is_some_and(|end| end <= held))
    }

    pub(crate) fn into_file(self) -> File {
        self.0
    }
}

/// Bytes of the pages of a file of memory. What is mapped of huge ones must be whole:
/// the kernel maps a part of one, and unmaps it never. Never waits.
pub(crate) fn page_bytes(file: &File) -> Result<u64, Errno> {
    let system = rustix::fs::fstatfs(file)?;
    let is_huge = system.f_type == libc::HUGETLBFS_MAGIC;
    let bytes = u64::try_from(system.f_bsize).ok().filter(|_| is_huge);
    Ok(bytes.unwrap_or(PAGE_BYTES).max(PAGE_BYTES))
}

/// Where memory is that a client lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    /// In the guest: an address of its bus.
    pub(crate) guest: u64,
    /// In the file behind it, in bytes.
    pub(crate) in_file: u64,
}

impl Display for Lent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { guest, in_file } = self;
        write!(
            f,
            "guest address {guest:#x}, byte {in_file:#x} of the file behind it"
        )
    }
}

/// Has the connection of the client at `socket` ended whose memory is not there any
/// more. `find` says where in its memory an address of this process is; it must
/// neither wait nor use the GPU.
pub(crate) fn end_when_memory_is_gone(
    gpu: &SharedGpu,
    stream: &UnixStream,
    socket: &Path,
    find: impl Fn(usize) -> Option<Lent> + Send + 'static,
) -> io::Result<()> {
    let stream = stream.try_clone()?;
    let socket = socket.display().to_string();
    gpu.set_client(Some(Box::new(move |at| {
        let place = find(at).map_or("taken away meanwhile".to_owned(), |it| it.to_string());
        tracing::error!(
            "{socket}: guest memory is gone while the GPU uses it ({place}): the file that the \
             client lent was cut short, or has no huge pages. The client is sent away"
        );
        // It may have left by itself.
        let _ = stream.shutdown(Shutdown::Both);
    })));
    Ok(())
}
