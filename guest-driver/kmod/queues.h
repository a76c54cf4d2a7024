/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The virtio transport: a device with two queues. */
#ifndef PRESIL_QUEUES_H
#define PRESIL_QUEUES_H

#include <linux/completion.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include "presil.h"

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
};

/* Queue 1: interrupts. */
struct presil_events {
	struct virtqueue *queue;
	struct presil_event *buffers;
};

struct presil_virtio {
	struct presil_device presil;
	struct virtio_device *vdev;
	struct presil_requests requests;
	struct presil_events events;
};

int presil_queues_start(struct presil_virtio *door, u32 max_ops);
void presil_queues_kick(struct presil_virtio *door);
int presil_queues_access(struct presil_device *presil, struct presil_op *ops, size_t count);

#endif
