/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The virtio transport: a device with two queues. */
#ifndef PRESIL_QUEUES_H
#define PRESIL_QUEUES_H

#include <linux/completion.h>
#include <linux/notifier.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include "presil.h"

/* The configuration space (docs/virtio-binding.md 2). */
struct presil_config {
	__le32 magic;
	__le32 version;
	__le16 vendor_id;
	__le16 device_id;
	__le32 ready;
	__le64 vram_bytes;
	__le64 visible_bytes;
	__le32 bar0_bytes;
	__le32 max_ops;
	__le32 state;
	__le32 features;
	__le64 mailbox;
	__le32 doorbell;
};

/* Register accesses: by the doorbell, and longer lists by queue 0. */
struct presil_requests {
	struct virtqueue *queue;
	spinlock_t lock;		/* the queue's rings */
	struct presil_wire_op *ops;	/* behind those of a request are its results */
	size_t max_ops;
	size_t doorbell_ops;		/* so many go by the doorbell; 0: the device has none */
	u32 doorbells;			/* rung so far */
	struct completion done;
	u32 result_bytes;
	bool lost;			/* no answer came: the buffers are the device's for ever */
};

/* Queue 1: interrupts. */
struct presil_events {
	struct virtqueue *queue;
	spinlock_t lock;	/* the queue and `before` */
	struct presil_event *buffers;
	size_t posted;
	/* Events handled so far, and when presil_queues_deliver() last looked. */
	size_t taken, taken_before;
	u64 before;		/* fence memory, read before the next event was sent */
};

struct presil_virtio {
	struct presil_device presil;
	struct virtio_device *vdev;
	struct presil_requests requests;
	struct presil_events events;
	struct notifier_block end;	/* the kernel's */
};

int presil_queues_start(struct presil_virtio *door, u32 max_ops);
void presil_queues_kick(struct presil_virtio *door);
void presil_queues_find_doorbell(struct presil_virtio *door);
bool presil_queues_deliver(struct presil_device *presil);
void presil_queues_lose(struct presil_virtio *door);
int presil_queues_access(struct presil_device *presil, struct presil_op *ops, size_t count);

#endif
