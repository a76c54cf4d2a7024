//! The ioctls of presil's DRM render node: what `presil_drm.h` declares for C
//! is here for Rust, for the kernel module and for its users. A test holds the
//! two against each other. `docs/uapi.md` explains the calls.
#![no_std]
#![forbid(unsafe_code)]

/// The name DRM knows the driver by.
pub const DRIVER_NAME: &str = "presil";

/// Segments of the GPU's memory.
pub const SEGMENTS: usize = 4;
/// Their names, in the order of their numbers: what fdinfo and debugfs call them.
pub const SEGMENT_NAMES: [&str; SEGMENTS] = [
    "local-visible",
    "local-invisible",
    "pcie-snoop",
    "pcie-unsnoop",
];
/// Most windows of one creation.
pub const MAX_WINDOWS: usize = 8;

/// The buffer is for the GPU alone: [`Create::flags`].
pub const CREATE_GPU_ONLY: u32 = 1 << 0;
/// The GPU uses it most of the time, the CPU sometimes.
pub const CREATE_GPU_MOSTLY: u32 = 1 << 1;
/// The CPU writes it, the GPU reads it.
pub const CREATE_UPLOAD: u32 = 1 << 2;
/// The GPU writes it, the CPU reads it.
pub const CREATE_READBACK: u32 = 1 << 3;

/// The CPU reaches the buffer through the VRAM window: [`Describe::bus`].
pub const BUS_IO: u32 = 0;
/// The buffer is RAM pages.
pub const BUS_MEM: u32 = 1;

/// It has RAM pages: [`Describe::state`].
pub const STATE_POPULATED: u32 = 1 << 0;
/// The GPU's table points at its pages.
pub const STATE_BOUND: u32 = 1 << 1;
/// It stays where it is.
pub const STATE_PINNED: u32 = 1 << 2;

/// One segment's figures.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// GPU address of its first byte.
    pub gpu_va: u64,
    /// Size.
    pub bytes: u64,
    /// Booked bytes.
    pub used_bytes: u64,
    /// Booked bytes that never move.
    pub pinned_bytes: u64,
}

/// `DRM_IOCTL_PRESIL_INFO`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Info {
    /// In: 0.
    pub flags: u32,
    /// PCI vendor id of the chip; this and what follows is out.
    pub vendor_id: u16,
    /// PCI device id of the chip.
    pub device_id: u16,
    /// VRAM.
    pub vram_bytes: u64,
    /// VRAM that the CPU reaches.
    pub visible_bytes: u64,
    /// Of the device: pieces of work given to ring 0.
    pub fence_submitted: u64,
    /// How many of them are done.
    pub fence_completed: u64,
    /// Interrupts the driver was told of.
    pub interrupts: u64,
    /// Fences found done by polling, not by interrupt.
    pub fallbacks: u64,
    /// Page faults of the GPU.
    pub page_faults: u64,
    /// Local visible, local invisible, PCIe snooped, PCIe unsnooped.
    pub segments: [Segment; SEGMENTS],
    /// Bus errors of the GPU: interrupts that said no memory answered.
    pub bus_errors: u64,
    /// Times the GPU gave up and was restarted.
    pub hangs: u64,
}

/// Pages `[first_page, last_page)` of the local visible segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// First page.
    pub first_page: u64,
    /// One past the last page.
    pub last_page: u64,
}

/// `DRM_IOCTL_PRESIL_CREATE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Create {
    /// In: size, rounded up to whole pages.
    pub bytes: u64,
    /// In: one of `CREATE_*`.
    pub flags: u32,
    /// In: how many windows count.
    pub window_count: u32,
    /// In: zeros beyond the count.
    pub windows: [Window; MAX_WINDOWS],
    /// Out: the handle.
    pub handle: u32,
    /// 0.
    pub pad: u32,
}

/// `DRM_IOCTL_PRESIL_MAP_OFFSET`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapOffset {
    /// In: the buffer.
    pub handle: u32,
    /// In: 0.
    pub flags: u32,
    /// Out: offset for a shared mapping of the node.
    pub offset: u64,
}

/// `DRM_IOCTL_PRESIL_FILL`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill {
    /// In: the buffer.
    pub handle: u32,
    /// In: the value to repeat.
    pub pattern: u32,
    /// In: bytes, a multiple of 256.
    pub offset: u64,
    /// In: a multiple of 4.
    pub bytes: u64,
    /// Out.
    pub fence: u64,
}

/// `DRM_IOCTL_PRESIL_COPY`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Copy {
    /// In: the target.
    pub dst_handle: u32,
    /// In: the source.
    pub src_handle: u32,
    /// In: bytes, a multiple of 256.
    pub dst_offset: u64,
    /// In: bytes, a multiple of 256.
    pub src_offset: u64,
    /// In: a multiple of 4.
    pub bytes: u64,
    /// Out.
    pub fence: u64,
}

/// `DRM_IOCTL_PRESIL_WAIT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    /// In: what to wait for.
    pub fence: u64,
    /// In: nanoseconds of `CLOCK_MONOTONIC`; in the past it just asks.
    pub deadline_ns: i64,
    /// In: 0.
    pub flags: u32,
    /// 0.
    pub pad: u32,
}

/// `DRM_IOCTL_PRESIL_DESCRIBE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Describe {
    /// In: the buffer.
    pub handle: u32,
    /// In: 0.
    pub flags: u32,
    /// Index into [`Info::segments`]; this and what follows is out.
    pub segment: u32,
    /// `BUS_*`.
    pub bus: u32,
    /// `STATE_*`.
    pub state: u32,
    /// The PTE of the first page as the CPU reads it.
    pub first_pte: u32,
    /// First page inside the segment.
    pub start_page: u64,
    /// Size in pages.
    pub pages: u64,
    /// GPU address.
    pub gpu_va: u64,
}

/// `DRM_IOWR` of a driver's own command, as `asm-generic/ioctl.h` builds it.
const fn read_write<T>(command: u32) -> u32 {
    3 << 30 | number::<T>(command)
}

/// `DRM_IOW` likewise.
const fn write<T>(command: u32) -> u32 {
    1 << 30 | number::<T>(command)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the structures are below 16 KiB, which the test against the header shows"
)]
const fn number<T>(command: u32) -> u32 {
    const DRM_TYPE: u32 = b'd' as u32;
    const DRM_COMMAND_BASE: u32 = 0x40;
    (size_of::<T>() as u32) << 16 | DRM_TYPE << 8 | (DRM_COMMAND_BASE + command)
}

/// Request number of [`Info`].
pub const IOCTL_INFO: u32 = read_write::<Info>(0);
/// Request number of [`Create`].
pub const IOCTL_CREATE: u32 = read_write::<Create>(1);
/// Request number of [`MapOffset`].
pub const IOCTL_MAP_OFFSET: u32 = read_write::<MapOffset>(2);
/// Request number of [`Fill`].
pub const IOCTL_FILL: u32 = read_write::<Fill>(3);
/// Request number of [`struct@Copy`].
pub const IOCTL_COPY: u32 = read_write::<Copy>(4);
/// Request number of [`Wait`].
pub const IOCTL_WAIT: u32 = write::<Wait>(5);
/// Request number of [`Describe`].
pub const IOCTL_DESCRIBE: u32 = read_write::<Describe>(6);
