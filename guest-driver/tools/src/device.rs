//! The GPU's render node: its ioctls, buffers and mappings.

use crate::bus::BusDevice;
use crate::error::{Error, Result};
use presil_uapi as uapi;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{self, Opcode, Updater};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::c_void;
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

/// A CPU and GPU page.
pub(crate) const PAGE: u64 = 4096;
/// How long a fence may take: thousands of times what it does take, for the host may be busy.
const FENCE_SECONDS: u64 = 60;

/// `DRM_IOCTL_GEM_CLOSE`, and its argument.
const GEM_CLOSE: Opcode = 1 << 30 | 8 << 16 | (b'd' as u32) << 8 | 0x09;
#[repr(C)]
struct GemClose {
    handle: u32,
    pad: u32,
}

/// `DRM_IOCTL_PRIME_HANDLE_TO_FD`, and its argument.
const PRIME_HANDLE_TO_FD: Opcode = 3 << 30 | 12 << 16 | (b'd' as u32) << 8 | 0x2d;
#[repr(C)]
struct PrimeHandle {
    handle: u32,
    flags: u32,
    fd: i32,
}

/// An open render node.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    node: Arc<File>,
    path: PathBuf,
}

impl Device {
    /// The first render node whose driver is presil.
    pub(crate) fn open() -> Result<Self> {
        let path = find_node().ok_or(Error::NoDevice)?;
        let node = File::options().read(true).write(true).open(&path);
        let node = node.map_err(Error::file(&path))?;
        Ok(Self {
            node: node.into(),
            path,
        })
    }

    /// `/dev/dri/renderD128`, for example.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The driver's directory in debugfs.
    pub(crate) fn debugfs(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        Path::new("/sys/kernel/debug/dri").join(name.trim_start_matches("renderD"))
    }

    /// The device on its bus, a virtio device or a PCI function.
    pub(crate) fn bus_device(&self) -> Result<BusDevice> {
        let name = self.path.file_name().unwrap_or_default();
        BusDevice::at(&Path::new("/sys/class/drm").join(name).join("device"))
    }

    /// What /proc says of the open node.
    pub(crate) fn fdinfo(&self) -> Result<String> {
        let path = PathBuf::from(format!("/proc/self/fdinfo/{}", self.node.as_raw_fd()));
        fs::read_to_string(&path).map_err(Error::file(&path))
    }

    /// The chip, the segments, the fences.
    pub(crate) fn info(&self) -> Result<uapi::Info> {
        let mut info = uapi::Info::default();
        self.call::<{ uapi::IOCTL_INFO }, _>("INFO", &mut info)?;
        Ok(info)
    }

    /// Makes a buffer.
    pub(crate) fn create(
        &self,
        flags: u32,
        bytes: u64,
        windows: &[uapi::Window],
    ) -> Result<Buffer> {
        let mut request = uapi::Create {
            bytes,
            flags,
            window_count: u32::try_from(windows.len()).unwrap_or(u32::MAX),
            ..uapi::Create::default()
        };
        for (to, from) in request.windows.iter_mut().zip(windows) {
            *to = *from;
        }
        self.call::<{ uapi::IOCTL_CREATE }, _>("CREATE", &mut request)?;
        Ok(Buffer {
            device: self.clone(),
            handle: request.handle,
            bytes,
        })
    }

    /// Waits for a fence.
    pub(crate) fn wait(&self, fence: u64) -> Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let deadline = now.tv_sec.saturating_add_unsigned(FENCE_SECONDS);
        let mut request = uapi::Wait {
            fence,
            deadline_ns: deadline
                .saturating_mul(1_000_000_000)
                .saturating_add(now.tv_nsec),
            ..uapi::Wait::default()
        };
        match self.call::<{ uapi::IOCTL_WAIT }, _>("WAIT", &mut request) {
            Err(Error::Call {
                source: Errno::TIMEDOUT,
                ..
            }) => Err(Error::FenceLate {
                fence,
                seconds: FENCE_SECONDS,
            }),
            result => result,
        }
    }

    /// Whether a job of this node's is over, however it ended.
    pub(crate) fn is_over(&self, fence: u64) -> Result<bool> {
        let mut request = uapi::Wait {
            fence,
            deadline_ns: i64::MIN,
            ..uapi::Wait::default()
        };
        match self.call::<{ uapi::IOCTL_WAIT }, _>("WAIT", &mut request) {
            Err(Error::Call {
                source: Errno::TIMEDOUT,
                ..
            }) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Maps `bytes` from an offset on, whatever is there.
    pub(crate) fn map_at(&self, offset: u64, bytes: u64) -> Result<Mapping> {
        self.map(offset, bytes, MapFlags::SHARED)
    }

    fn map(&self, offset: u64, bytes: u64, flags: MapFlags) -> Result<Mapping> {
        Mapping::new(&self.node, offset, bytes, flags)
    }

    /// Any ioctl; `T` has the layout that the number `OP` carries in it.
    pub(crate) fn call<const OP: Opcode, T>(
        &self,
        call: &'static str,
        value: &mut T,
    ) -> Result<()> {
        const { assert!((OP >> 16 & 0x3fff) as usize == size_of::<T>()) };
        rustix::io::retry_on_intr(|| {
            // SAFETY: the number says the argument's size, and the assertion that it is T's. All
            // structures are plain integers, so that any answer is a valid T.
            unsafe { ioctl::ioctl(&self.node, Updater::<OP, T>::new(value)) }
        })
        .map_err(|source| Error::Call { call, source })
    }
}

fn find_node() -> Option<PathBuf> {
    let mut nodes: Vec<_> = fs::read_dir("/sys/class/drm")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("renderD"))
        .collect();
    nodes.sort();
    let name = nodes.into_iter().find(|name| {
        let driver = fs::read_link(format!("/sys/class/drm/{name}/device/driver"));
        driver.is_ok_and(|driver| driver.ends_with(uapi::DRIVER_NAME))
    })?;
    Some(Path::new("/dev/dri").join(name))
}

/// A buffer object; closed when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    device: Device,
    handle: u32,
    bytes: u64,
}

impl Buffer {
    /// The handle.
    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    /// Where it is and in what state.
    pub(crate) fn describe(&self) -> Result<uapi::Describe> {
        let mut description = uapi::Describe {
            handle: self.handle,
            ..uapi::Describe::default()
        };
        self.device
            .call::<{ uapi::IOCTL_DESCRIBE }, _>("DESCRIBE", &mut description)?;
        Ok(description)
    }

    /// The offset for a mapping.
    pub(crate) fn map_offset(&self) -> Result<u64> {
        let mut request = uapi::MapOffset {
            handle: self.handle,
            ..uapi::MapOffset::default()
        };
        self.device
            .call::<{ uapi::IOCTL_MAP_OFFSET }, _>("MAP_OFFSET", &mut request)?;
        Ok(request.offset)
    }

    /// A dma-buf of it, which outlives the handle and the node.
    pub(crate) fn export(&self) -> Result<OwnedFd> {
        let mut request = PrimeHandle {
            handle: self.handle,
            flags: OFlags::CLOEXEC.bits(),
            fd: -1,
        };
        self.device
            .call::<PRIME_HANDLE_TO_FD, _>("PRIME_HANDLE_TO_FD", &mut request)?;
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(request.fd) })
    }

    /// Maps all of it, without touching it.
    pub(crate) fn map(&self) -> Result<Mapping> {
        self.device
            .map(self.map_offset()?, self.bytes, MapFlags::SHARED)
    }

    /// Tries a private mapping.
    pub(crate) fn map_privately(&self) -> Result<Mapping> {
        self.device
            .map(self.map_offset()?, self.bytes, MapFlags::PRIVATE)
    }

    /// Lets the GPU fill a range; returns the fence.
    pub(crate) fn start_fill(&self, offset: u64, bytes: u64, pattern: u32) -> Result<u64> {
        let mut request = uapi::Fill {
            handle: self.handle,
            pattern,
            offset,
            bytes,
            fence: 0,
        };
        self.device
            .call::<{ uapi::IOCTL_FILL }, _>("FILL", &mut request)?;
        Ok(request.fence)
    }

    /// Lets the GPU fill a range and waits for it.
    pub(crate) fn fill(&self, offset: u64, bytes: u64, pattern: u32) -> Result<()> {
        self.device.wait(self.start_fill(offset, bytes, pattern)?)
    }

    /// Lets the GPU copy from another buffer and waits for it.
    pub(crate) fn copy_from(
        &self,
        offset: u64,
        source: &Buffer,
        source_offset: u64,
        bytes: u64,
    ) -> Result<()> {
        let fence = self.start_copy_from(offset, source, source_offset, bytes)?;
        self.device.wait(fence)
    }

    /// Lets the GPU copy from another buffer; returns the fence.
    pub(crate) fn start_copy_from(
        &self,
        offset: u64,
        source: &Buffer,
        source_offset: u64,
        bytes: u64,
    ) -> Result<u64> {
        let mut request = uapi::Copy {
            dst_handle: self.handle,
            src_handle: source.handle,
            dst_offset: offset,
            src_offset: source_offset,
            bytes,
            fence: 0,
        };
        self.device
            .call::<{ uapi::IOCTL_COPY }, _>("COPY", &mut request)?;
        Ok(request.fence)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut request = GemClose {
            handle: self.handle,
            pad: 0,
        };
        // A handle that is gone already is what was wanted.
        let _ = self.device.call::<GEM_CLOSE, _>("GEM_CLOSE", &mut request);
    }
}

/// A mapping of a buffer; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    bytes: usize,
}

impl Mapping {
    /// A shared mapping of a part of a file.
    pub(crate) fn of(file: &File, offset: u64, bytes: u64) -> Result<Self> {
        Self::new(file, offset, bytes, MapFlags::SHARED)
    }

    fn new(file: &File, offset: u64, bytes: u64, flags: MapFlags) -> Result<Self> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let failed = |source| Error::Call {
            call: "mmap",
            source,
        };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(std::ptr::null_mut(), length, access, flags, file, offset) };
        let start = NonNull::new(start.map_err(failed)?).ok_or(failed(Errno::NOMEM))?;
        Ok(Self {
            start,
            bytes: length,
        })
    }

    /// One aligned store of 32 bits, `at` bytes from the beginning.
    pub(crate) fn store(&self, at: u64, value: u32) -> Result<()> {
        let inside = usize::try_from(at).ok().filter(|at| {
            at.is_multiple_of(size_of::<u32>()) && at + size_of::<u32>() <= self.bytes
        });
        let at = inside.ok_or_else(|| Error::Wrong(format!("no word at {at:#x} of a mapping")))?;
        // SAFETY: the word is inside the mapping and aligned, as its start is.
        unsafe {
            self.start
                .as_ptr()
                .byte_add(at)
                .cast::<u32>()
                .write_volatile(value);
        };
        Ok(())
    }

    /// All bytes as they are now.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        self.touch()?;
        let mut data = vec![0; self.bytes];
        // SAFETY: the mapping is `bytes` long, and the GPU's work on it is waited for.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.start.as_ptr().cast(),
                data.as_mut_ptr(),
                self.bytes,
            );
        }
        Ok(data)
    }

    /// Writes from the beginning on, as far as both reach.
    pub(crate) fn write(&self, data: &[u8]) -> Result<()> {
        self.touch()?;
        let bytes = data.len().min(self.bytes);
        // SAFETY: as in `read`.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), self.start.as_ptr().cast(), bytes);
        }
        Ok(())
    }

    /// The last four bytes as they are now.
    pub(crate) fn last_word(&self) -> u32 {
        let last = self.bytes / 4 - 1;
        // SAFETY: the mapping is `bytes` long and begins at a page. The GPU may be writing.
        unsafe { self.start.as_ptr().cast::<u32>().add(last).read_volatile() }
    }

    /// The mapping as words. What the driver cannot provide ends the process here.
    pub(crate) fn words(&mut self) -> &mut [u64] {
        let count = self.bytes / size_of::<u64>();
        // SAFETY: the mapping is `bytes` long and begins at a page. Who asks for it lets the GPU
        // and other mappings of the buffer rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), count) }
    }

    /// Touches the first byte. The kernel does it, for a page that the driver
    /// cannot provide is an error there and the end of the process here.
    pub(crate) fn touch(&self) -> Result<u8> {
        let failed = |source| Error::Call {
            call: "first touch of a mapping",
            source,
        };
        let (from, to) = rustix::pipe::pipe().map_err(failed)?;
        // SAFETY: the mapping has a first byte.
        let first = unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<u8>(), 1) };
        rustix::io::write(&to, first).map_err(failed)?;
        let mut byte = [0];
        rustix::io::read(&from, &mut byte).map_err(failed)?;
        Ok(byte[0])
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing points into it.
        let _ = unsafe { munmap(self.start.as_ptr(), self.bytes) };
    }
}
