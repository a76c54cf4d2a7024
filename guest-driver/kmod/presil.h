/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The C shim's own view of the device. */
#ifndef PRESIL_H
#define PRESIL_H

#include <linux/completion.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <drm/drm_device.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>
#include "glue.h"

/* Queue 0: register accesses. */
struct presil_requests {
	struct virtqueue *queue;
	spinlock_t lock;		/* the queue's rings */
	struct presil_wire_op *ops;
	struct presil_wire_result *results;
	size_t max_ops;
	struct completion done;
	u32 result_bytes;
	bool lost;			/* no answer came: the buffers are the device's for ever */
	u64 chains;
	u64 accesses;
};

/* Queue 1: interrupts. */
struct presil_events {
	struct virtqueue *queue;
	struct presil_event *buffers;
	u64 received;
	u64 malformed;
};

struct presil_device {
	struct drm_device drm;
	struct virtio_device *vdev;
	/* Held around every call that takes the adapter. Taken after mmap_lock. */
	struct mutex lock;
	struct presil_adapter *adapter;			/* NULL when stopped */
	const struct presil_timeline *timeline;
	bool patient;					/* starting or stopping: signals do not end waits */
	wait_queue_head_t interrupted;
	struct list_head bos;				/* all of them, under the lock */
	struct work_struct reaper;
	bool zombies;					/* the GPU may still use what was freed */
	struct presil_requests requests;
	struct presil_events events;
	void __iomem *window;
	u64 window_bytes;
};

struct presil_bo {
	struct drm_gem_object gem;
	struct list_head link;
	u64 id;
	struct page *gone_page;		/* what mappings show when the device is gone */
};

#define to_presil(device) container_of(device, struct presil_device, drm)
#define to_bo(object) container_of(object, struct presil_bo, gem)

/* queues.c */
int presil_queues_start(struct presil_device *presil, u32 max_ops);
void presil_queues_kick(struct presil_device *presil);

/* lock.c */
int presil_lock(struct presil_device *presil);
int presil_wait(struct presil_device *presil, u64 fence, s64 deadline_ns);
int presil_call(struct presil_device *presil,
		int (*call)(struct presil_adapter *adapter, void *argument), void *argument);

/* gem.c */
void presil_bo_destroy(struct presil_bo *bo);
struct presil_bo *presil_bo_new(struct presil_device *presil,
				const struct drm_presil_create *request);

/* ioctl.c */
#define PRESIL_IOCTLS 7
extern const struct drm_ioctl_desc presil_ioctls[PRESIL_IOCTLS];

/* debugfs.c */
void presil_debugfs_init(struct drm_minor *minor);

#endif
