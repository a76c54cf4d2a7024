//! Mapped memory that somebody else reads and writes, too.

use crate::Result;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use std::fs::File;
use std::ptr::{NonNull, null_mut};

/// A mapping for the rest of the process; every access is one of 32 bits, as it stands.
pub(crate) struct Window {
    start: NonNull<u32>,
    bytes: usize,
}

impl Window {
    /// The first `bytes` of a file, shared with whoever else has it.
    pub(crate) fn of_file(file: &File, bytes: usize) -> Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(null_mut(), bytes, access, MapFlags::SHARED, file, 0) };
        Self::new(start, bytes)
    }

    /// Memory of the process that stays where it is.
    pub(crate) fn locked(bytes: usize) -> Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::LOCKED | MapFlags::POPULATE;
        // SAFETY: as above.
        let start = unsafe { mmap_anonymous(null_mut(), bytes, access, flags) };
        Self::new(start, bytes)
    }

    fn new(start: rustix::io::Result<*mut std::ffi::c_void>, bytes: usize) -> Result<Self> {
        let start = start.map_err(|error| format!("mmap of {bytes} bytes: {error}"))?;
        let start = NonNull::new(start.cast()).ok_or("mmap at address 0")?;
        Ok(Self { start, bytes })
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The process's address of its first byte.
    pub(crate) fn address(&self) -> usize {
        self.start.addr().get()
    }

    /// The word at a byte offset.
    pub(crate) fn read(&self, at: usize) -> u32 {
        // SAFETY: `word` is inside the mapping, which is never taken away.
        u32::from_le(unsafe { self.word(at).read_volatile() })
    }

    /// Sets the word at a byte offset.
    pub(crate) fn write(&self, at: usize, value: u32) {
        // SAFETY: as above; nobody has a reference to the memory.
        unsafe { self.word(at).write_volatile(value.to_le()) };
    }

    fn word(&self, at: usize) -> NonNull<u32> {
        let inside = at.is_multiple_of(4) && at < self.bytes;
        assert!(inside, "offset {at:#x} of a window of {:#x}", self.bytes);
        // SAFETY: the offset is inside the mapping.
        unsafe { self.start.add(at / 4) }
    }
}
