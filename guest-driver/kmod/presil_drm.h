/* SPDX-License-Identifier: MIT */
/*
 * The ioctls of presil's DRM render node. docs/uapi.md explains them.
 * The crate presil-uapi declares the same for Rust; a test compares the two.
 */
#ifndef PRESIL_DRM_H
#define PRESIL_DRM_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DRM_PRESIL_INFO		0x00
#define DRM_PRESIL_CREATE	0x01
#define DRM_PRESIL_MAP_OFFSET	0x02
#define DRM_PRESIL_FILL		0x03
#define DRM_PRESIL_COPY		0x04
#define DRM_PRESIL_WAIT		0x05
#define DRM_PRESIL_DESCRIBE	0x06

/* Segments, as indices of drm_presil_info.segments. */
#define PRESIL_SEGMENT_LOCAL_VISIBLE	0
#define PRESIL_SEGMENT_LOCAL_INVISIBLE	1
#define PRESIL_SEGMENT_PCIE_SNOOP	2
#define PRESIL_SEGMENT_PCIE_UNSNOOP	3
#define PRESIL_SEGMENTS			4

struct drm_presil_segment {
	__u64 gpu_va;		/* of its first byte */
	__u64 bytes;
	__u64 used_bytes;
	__u64 pinned_bytes;	/* part of used_bytes that never moves */
};

struct drm_presil_info {
	__u32 flags;		/* in: 0 */
	__u16 vendor_id;	/* out, from here on */
	__u16 device_id;
	__u64 vram_bytes;
	__u64 visible_bytes;
	__u64 fence_submitted;	/* of the device: pieces of work given to ring 0 */
	__u64 fence_completed;	/* and how many of them are done */
	__u64 interrupts;
	__u64 fallbacks;	/* fences found done by polling, not by interrupt */
	__u64 page_faults;	/* of the GPU */
	struct drm_presil_segment segments[PRESIL_SEGMENTS];
	__u64 bus_errors;	/* of the GPU: interrupts that said no memory answered */
	__u64 hangs;		/* times ring 0 gave up and was restarted */
};

/* What the buffer is for: exactly one. */
#define PRESIL_CREATE_GPU_ONLY		(1u << 0)
#define PRESIL_CREATE_GPU_MOSTLY	(1u << 1)
#define PRESIL_CREATE_UPLOAD		(1u << 2)
#define PRESIL_CREATE_READBACK		(1u << 3)

#define PRESIL_MAX_WINDOWS	8

/* Pages [first_page, last_page) of the local visible segment. */
struct drm_presil_window {
	__u64 first_page;
	__u64 last_page;
};

struct drm_presil_create {
	__u64 bytes;		/* in: rounded up to whole pages */
	__u32 flags;		/* in: PRESIL_CREATE_* */
	__u32 window_count;	/* in: at most PRESIL_MAX_WINDOWS */
	struct drm_presil_window windows[PRESIL_MAX_WINDOWS];	/* in: zeros beyond the count */
	__u32 handle;		/* out */
	__u32 pad;		/* 0 */
};

struct drm_presil_map_offset {
	__u32 handle;		/* in */
	__u32 flags;		/* in: 0 */
	__u64 offset;		/* out: for mmap(MAP_SHARED) of the node */
};

struct drm_presil_fill {
	__u32 handle;		/* in */
	__u32 pattern;		/* in: the 32-bit value to repeat */
	__u64 offset;		/* in: bytes, a multiple of 256 */
	__u64 bytes;		/* in: a multiple of 4 */
	__u64 fence;		/* out */
};

struct drm_presil_copy {
	__u32 dst_handle;	/* in */
	__u32 src_handle;	/* in */
	__u64 dst_offset;	/* in: bytes, a multiple of 256 */
	__u64 src_offset;	/* in: bytes, a multiple of 256 */
	__u64 bytes;		/* in: a multiple of 4 */
	__u64 fence;		/* out */
};

struct drm_presil_wait {
	__u64 fence;		/* in: one that this open node was given */
	__s64 deadline_ns;	/* in: CLOCK_MONOTONIC; in the past: just ask */
	__u32 flags;		/* in: 0 */
	__u32 pad;		/* 0 */
};

/* How the CPU reaches a buffer. */
#define PRESIL_BUS_IO	0	/* through the VRAM window */
#define PRESIL_BUS_MEM	1	/* RAM pages */

#define PRESIL_STATE_POPULATED	(1u << 0)	/* it has RAM pages */
#define PRESIL_STATE_BOUND	(1u << 1)	/* the GPU's table points at them */
#define PRESIL_STATE_PINNED	(1u << 2)

struct drm_presil_describe {
	__u32 handle;		/* in */
	__u32 flags;		/* in: 0 */
	__u32 segment;		/* out, from here on: PRESIL_SEGMENT_* */
	__u32 bus;		/* PRESIL_BUS_* */
	__u32 state;		/* PRESIL_STATE_* */
	__u32 first_pte;	/* the PTE of the first page as the CPU reads it; CAP_SYS_ADMIN */
	__u64 start_page;	/* inside the segment */
	__u64 pages;
	__u64 gpu_va;
};

/* As DRM_IOWR(DRM_COMMAND_BASE + n, t) of <drm/drm.h>, which not every system has. */
#define PRESIL_IOWR(n, t)	_IOWR('d', 0x40 + (n), t)
#define PRESIL_IOW(n, t)	_IOW('d', 0x40 + (n), t)

#define DRM_IOCTL_PRESIL_INFO		PRESIL_IOWR(DRM_PRESIL_INFO, struct drm_presil_info)
#define DRM_IOCTL_PRESIL_CREATE		PRESIL_IOWR(DRM_PRESIL_CREATE, struct drm_presil_create)
#define DRM_IOCTL_PRESIL_MAP_OFFSET	PRESIL_IOWR(DRM_PRESIL_MAP_OFFSET, struct drm_presil_map_offset)
#define DRM_IOCTL_PRESIL_FILL		PRESIL_IOWR(DRM_PRESIL_FILL, struct drm_presil_fill)
#define DRM_IOCTL_PRESIL_COPY		PRESIL_IOWR(DRM_PRESIL_COPY, struct drm_presil_copy)
#define DRM_IOCTL_PRESIL_WAIT		PRESIL_IOW(DRM_PRESIL_WAIT, struct drm_presil_wait)
#define DRM_IOCTL_PRESIL_DESCRIBE	PRESIL_IOWR(DRM_PRESIL_DESCRIBE, struct drm_presil_describe)

#endif
