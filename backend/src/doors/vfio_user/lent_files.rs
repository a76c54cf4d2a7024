//! The files that a client lends, mapped in windows that its ranges share.
//!
//! Behind a virtual IOMMU every page of RAM comes as a range of its own: a
//! mapping for each would soon be more than a process may have
//! (`vm.max_map_count`, 65,530 as a rule). So a file is mapped by whole windows
//! of [`WINDOW_BYTES`], and a range is a place in one.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Weak};

use rustix::fs::OFlags;
use rustix::io::Errno;
use vm_memory::mmap::{MmapRegion, MmapRegionError};
use vm_memory::{FileOffset, VolatileMemory, VolatileSlice};

use super::wire::DmaMap;
use crate::doors::lent::{self, LentMemory, MAX_ADDRESS_SPACE};
use crate::doors::system_memory::FileKey;

/// Most files of one client. Each keeps a descriptor open, of which a process has few.
const MAX_FILES: usize = 128;
/// Most mappings of one client: 16 clients share the kernel's 65,530 for a process.
const MAX_MAPPINGS: usize = 2048;
/// Mappings begin and end at multiples of it in their file, or at the file's end.
const WINDOW_BYTES: u64 = 1 << 30;

/// Which file, and whether it was opened for writing.
type FileId = (FileKey, bool);

/// The files of one client.
#[derive(Default)]
pub(super) struct LentFiles {
    files: BTreeMap<FileId, LentFile>,
}

/// One of them, opened once however often it comes.
struct LentFile {
    file: Weak<File>,
    mappings: Vec<Weak<Mapping>>,
}

/// A part of a file in this process's memory.
#[derive(Debug)]
struct Mapping {
    region: MmapRegion,
    /// Where in the file it begins.
    start: u64,
    key: FileKey,
    _file: Arc<File>,
}

/// What holds a range.
#[derive(Clone, Debug)]
pub(super) struct Place {
    mapping: Arc<Mapping>,
    /// In the mapping.
    offset: u64,
}

impl Place {
    /// `bytes` bytes of it from `from` on; `None` where it has not so many.
    pub(super) fn slice(&self, from: u64, bytes: usize) -> Option<VolatileSlice<'_>> {
        let offset = self.offset.checked_add(from)?;
        let offset = usize::try_from(offset).ok()?;
        self.mapping.region.get_slice(offset, bytes).ok()
    }

    /// Its address in this process.
    pub(super) fn address(&self) -> Option<usize> {
        Some(self.slice(0, 0)?.ptr_guard().as_ptr().addr())
    }

    /// Where it begins in its file, in bytes.
    pub(super) fn in_file(&self) -> u64 {
        self.mapping.start + self.offset
    }

    /// Which file it is in.
    pub(super) fn file(&self) -> FileKey {
        self.mapping.key
    }
}

impl Mapping {
    fn holds(&self, offset: u64, bytes: u64) -> bool {
        let end = self.start + self.region.size() as u64;
        self.start <= offset && offset.checked_add(bytes).is_some_and(|last| last <= end)
    }
}

impl LentFiles {
    /// Where the memory of `request` is, which comes with `file`.
    ///
    /// # Errors
    /// `EINVAL`: not all of it is in the file; `EACCES`: it was not opened
    /// for what the range is to allow; `ENOSPC`: too many files or mappings, or
    /// too much address space; or what `mmap` says.
    pub(super) fn place(&mut self, request: &DmaMap, file: LentMemory) -> Result<Place, Errno> {
        let is_held = file.holds(request.offset, request.bytes);
        let (file, id) = self.open(file.into_file())?;
        if request.writable && !id.1 {
            return Err(Errno::ACCESS);
        }
        if !is_held.map_err(|_| Errno::BADF)? {
            return Err(Errno::INVAL);
        }
        let mapping = match self.known(id, request) {
            Some(mapping) => mapping,
            None => self.map(id, file, request)?,
        };
        Ok(Place {
            offset: request.offset - mapping.start,
            mapping,
        })
    }

    /// Whether any of them has ever been written: of RAM that QEMU has mapped
    /// privately the file comes all the same, and stays empty.
    pub(super) fn have_content(&self) -> bool {
        let files = self.files.values().filter_map(|lent| lent.file.upgrade());
        let mut contents = files.filter_map(|file| file.metadata().ok());
        contents.any(|data| data.blocks() != 0)
    }

    fn known(&self, id: FileId, request: &DmaMap) -> Option<Arc<Mapping>> {
        let mappings = self.files.get(&id)?.mappings.iter();
        mappings
            .filter_map(Weak::upgrade)
            .find(|mapping| mapping.holds(request.offset, request.bytes))
    }

    /// The file, or the same one that is open already.
    fn open(&mut self, file: File) -> Result<(Arc<File>, FileId), Errno> {
        let key = FileKey::of(&file).map_err(|_| Errno::BADF)?;
        let mode = rustix::fs::fcntl_getfl(&file)? & OFlags::ACCMODE;
        let id = (key, mode == OFlags::RDWR);
        self.files.retain(|_, lent| lent.file.strong_count() != 0);
        if let Some(known) = self.files.get(&id).and_then(|lent| lent.file.upgrade()) {
            return Ok((known, id));
        }
        if self.files.len() >= MAX_FILES {
            return Err(Errno::NOSPC);
        }
        let file = Arc::new(file);
        let lent = LentFile {
            file: Arc::downgrade(&file),
            mappings: Vec::new(),
        };
        self.files.insert(id, lent);
        Ok((file, id))
    }

    /// Maps the windows that the range lies in.
    fn map(
        &mut self,
        id: FileId,
        file: Arc<File>,
        request: &DmaMap,
    ) -> Result<Arc<Mapping>, Errno> {
        let length = file.metadata().map_err(|_| Errno::BADF)?.len();
        let start = request.offset / WINDOW_BYTES * WINDOW_BYTES;
        let end = (request.offset + request.bytes)
            .checked_next_multiple_of(WINDOW_BYTES)
            .map_or(length, |end| end.min(length));
        let size = (end - start)
            .checked_next_multiple_of(lent::page_bytes(&file)?)
            .ok_or(Errno::INVAL)?;
        self.check_room(size)?;
        let mut protection = libc::PROT_READ;
        if id.1 {
            protection |= libc::PROT_WRITE;
        }
        let backing = FileOffset::from_arc(Arc::clone(&file), start);
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
        let region = MmapRegion::build(Some(backing), size, protection, flags);
        let region = region.map_err(|error| match error {
            MmapRegionError::Mmap(error) => Errno::from_io_error(&error).unwrap_or(Errno::NOMEM),
            _ => Errno::INVAL,
        })?;
        let mapping = Arc::new(Mapping {
            region,
            start,
            key: id.0,
            _file: file,
        });
        if let Some(lent) = self.files.get_mut(&id) {
            lent.mappings.retain(|known| known.strong_count() != 0);
            lent.mappings.push(Arc::downgrade(&mapping));
        }
        Ok(mapping)
    }

    fn check_room(&self, bytes: u64) -> Result<(), Errno> {
        let all = self.files.values().flat_map(|lent| &lent.mappings);
        let sizes = all.filter_map(Weak::upgrade);
        let (number, taken) = sizes.fold((0, 0), |(number, taken), mapping| {
            (number + 1, taken + mapping.region.size() as u64)
        });
        if number >= MAX_MAPPINGS || bytes > MAX_ADDRESS_SPACE - taken {
            return Err(Errno::NOSPC);
        }
        Ok(())
    }
}
