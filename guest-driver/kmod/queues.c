// SPDX-License-Identifier: MIT OR GPL-2.0
/* Register accesses and interrupts (docs/virtio-binding.md 4, 5 and 8). */
#include <linux/jiffies.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>
#include "queues.h"

#define OPS_PER_REQUEST 256
#define OPS_PER_DOORBELL 32
#define FEATURE_DOORBELL BIT(0)
#define EVENT_BUFFERS 64
#define ANSWER_DEADLINE (10 * HZ)

enum { WIRE_READ = 1, WIRE_WRITE = 2 };
enum { WIRE_OK = 0, WIRE_LOST = 6, WIRE_UNANSWERED = U32_MAX };

struct presil_wire_op {
	u8 op;
	u8 width;
	__le16 reserved;
	__le32 offset;
	__le64 value;
};
static_assert(sizeof(struct presil_wire_op) == 16);

struct presil_wire_result {
	__le64 value;
	__le32 status;
	__le32 reserved;
};
static_assert(sizeof(struct presil_wire_result) == 16);
static_assert(offsetof(struct presil_config, mailbox) == 0x30);
static_assert(offsetof(struct presil_config, doorbell) == 0x38);

struct presil_event {
	__le32 biu_status;
	__le32 advanced_status;
	__le64 sequence;
};
static_assert(sizeof(struct presil_event) == 16);

static void request_answered(struct virtqueue *queue)
{
	struct presil_virtio *door = queue->vdev->priv;
	struct presil_requests *requests = &door->requests;
	unsigned long flags;
	bool answered;
	u32 bytes;

	spin_lock_irqsave(&requests->lock, flags);
	answered = virtqueue_get_buf(queue, &bytes);
	if (answered)
		requests->result_bytes = bytes;
	spin_unlock_irqrestore(&requests->lock, flags);
	if (answered)
		complete(&requests->done);
}

static int post_event_buffer(struct presil_events *events, struct presil_event *buffer)
{
	struct scatterlist sg;

	sg_init_one(&sg, buffer, sizeof(*buffer));
	return virtqueue_add_inbuf(events->queue, &sg, 1, buffer, GFP_ATOMIC);
}

static void handle_event(struct presil_virtio *door, const struct presil_event *event, u32 bytes)
{
	if (bytes == sizeof(*event))
		presil_interrupt(&door->presil, door->events.before,
				 le32_to_cpu(event->biu_status),
				 le32_to_cpu(event->advanced_status));
	else
		dev_err_once(&door->vdev->dev, "an event of %u bytes, expected %zu\n", bytes,
			     sizeof(*event));
}

/* Handles every event that is there. */
static void take_events(struct presil_virtio *door)
{
	struct presil_events *events = &door->events;
	bool notify = false;
	unsigned long flags;
	size_t taken = 0;
	u32 bytes;

	spin_lock_irqsave(&events->lock, flags);
	for (;;) {
		u64 fence = presil_fence_memory(&door->presil);
		struct presil_event *event = virtqueue_get_buf(events->queue, &bytes);

		if (!event) {
			/* Whatever comes from now on was latched after `fence` was read. */
			events->before = fence;
			break;
		}
		taken++;
		handle_event(door, event, bytes);
		post_event_buffer(events, event);
	}
	events->taken += taken;
	if (taken)
		notify = virtqueue_kick_prepare(events->queue);
	spin_unlock_irqrestore(&events->lock, flags);
	if (notify)
		virtqueue_notify(events->queue);
}

static void events_arrived(struct virtqueue *queue)
{
	take_events(queue->vdev->priv);
}

/*
 * What was signalled before a register access is in the queue when that has been
 * answered, unless the device had no buffer left for it. Then all buffers have been
 * taken since the last call, by whomever; and this says false.
 */
bool presil_queues_deliver(struct presil_device *presil)
{
	struct presil_virtio *door = container_of(presil, struct presil_virtio, presil);
	struct presil_events *events = &door->events;
	unsigned long flags;
	bool had_buffers;

	take_events(door);
	spin_lock_irqsave(&events->lock, flags);
	had_buffers = events->taken - events->taken_before < events->posted;
	events->taken_before = events->taken;
	spin_unlock_irqrestore(&events->lock, flags);
	return had_buffers;
}

/*
 * Finds the queues and fills the event queue. The buffers are kmalloc memory,
 * which the device can address, and outlive the device's use of them.
 */
int presil_queues_start(struct presil_virtio *door, u32 max_ops)
{
	struct virtqueue_info info[] = {
		{ .name = "requests", .callback = request_answered },
		{ .name = "events", .callback = events_arrived },
	};
	struct presil_requests *requests = &door->requests;
	struct presil_events *events = &door->events;
	struct device *dev = &door->vdev->dev;
	struct virtqueue *queues[2];
	int ret;

	spin_lock_init(&requests->lock);
	spin_lock_init(&events->lock);
	init_completion(&requests->done);
	requests->max_ops = min_t(u32, max_ops, OPS_PER_REQUEST);
	requests->ops = devm_kcalloc(dev, requests->max_ops, 2 * sizeof(*requests->ops), GFP_KERNEL);
	events->buffers = devm_kcalloc(dev, EVENT_BUFFERS, sizeof(*events->buffers), GFP_KERNEL);
	if (!requests->ops || !events->buffers)
		return -ENOMEM;

	ret = virtio_find_vqs(door->vdev, 2, queues, info, NULL);
	if (ret)
		return ret;
	requests->queue = queues[0];
	events->queue = queues[1];
	while (events->posted < EVENT_BUFFERS &&
	       !post_event_buffer(events, &events->buffers[events->posted]))
		events->posted++;
	if (events->posted)
		return 0;
	door->vdev->config->del_vqs(door->vdev);
	return -ENOSPC;
}

/* Shows the event buffers to the device; to be called once it is ready. */
void presil_queues_kick(struct presil_virtio *door)
{
	virtqueue_kick(door->events.queue);
}

/* Tells the device where the mailbox is; to be called once it is ready. */
void presil_queues_find_doorbell(struct presil_virtio *door)
{
	struct presil_requests *requests = &door->requests;
	u64 mailbox = virt_to_phys(requests->ops);
	u32 features;

	virtio_cread_le(door->vdev, struct presil_config, features, &features);
	if (!(features & FEATURE_DOORBELL))
		return;
	virtio_cwrite_le(door->vdev, struct presil_config, mailbox, &mailbox);
	requests->doorbell_ops = min_t(size_t, requests->max_ops, OPS_PER_DOORBELL);
}

static struct presil_wire_result *results_of(const struct presil_requests *requests, size_t count)
{
	return (struct presil_wire_result *)&requests->ops[count];
}

static void encode(struct presil_wire_op *wire, const struct presil_op *op)
{
	wire->op = op->write ? WIRE_WRITE : WIRE_READ;
	wire->width = op->bytes;
	wire->reserved = 0;
	wire->offset = cpu_to_le32(op->offset);
	wire->value = cpu_to_le64(op->write ? op->value : 0);
}

static int send_request(struct presil_requests *requests, size_t count)
{
	struct scatterlist ops, results, *both[] = { &ops, &results };
	bool notify;
	int ret;

	sg_init_one(&ops, requests->ops, count * sizeof(*requests->ops));
	sg_init_one(&results, results_of(requests, count), count * sizeof(struct presil_wire_result));
	spin_lock_irq(&requests->lock);
	ret = virtqueue_add_sgs(requests->queue, both, 1, 1, requests, GFP_ATOMIC);
	notify = !ret && virtqueue_kick_prepare(requests->queue);
	spin_unlock_irq(&requests->lock);
	if (ret)
		return ret;
	if (notify && !virtqueue_notify(requests->queue))
		return -ENODEV;
	return wait_for_completion_timeout(&requests->done, ANSWER_DEADLINE) ? 0 : -ENODEV;
}

/* The device has answered when the write of the doorbell is done. */
static int ring_doorbell(struct presil_virtio *door, size_t count)
{
	struct presil_requests *requests = &door->requests;
	struct presil_wire_result *results = results_of(requests, count);
	u32 doorbell = ++requests->doorbells << 8 | count;
	size_t i;

	for (i = 0; i < count; i++)
		results[i].status = cpu_to_le32(WIRE_UNANSWERED);
	wmb();
	virtio_cwrite_le(door->vdev, struct presil_config, doorbell, &doorbell);
	rmb();
	if (le32_to_cpu(READ_ONCE(results->status)) == WIRE_UNANSWERED)
		return -ENODEV;
	requests->result_bytes = count * sizeof(*results);
	return 0;
}

static int read_results(struct presil_virtio *door, struct presil_op *ops, size_t count)
{
	const struct presil_requests *requests = &door->requests;
	const struct presil_wire_result *results = results_of(requests, count);
	size_t i;

	if (requests->result_bytes != count * sizeof(*results)) {
		dev_err(&door->vdev->dev, "%u result bytes for %zu register accesses\n",
			requests->result_bytes, count);
		return -EIO;
	}
	for (i = 0; i < count; i++) {
		u32 status = le32_to_cpu(results[i].status);

		if (status == WIRE_LOST)
			return -ENODEV;
		if (status != WIRE_OK) {
			dev_err(&door->vdev->dev, "%s of register %#x refused: status %u\n",
				ops[i].write ? "write" : "read", ops[i].offset, status);
			return -EIO;
		}
		if (!ops[i].write)
			ops[i].value = lower_32_bits(le64_to_cpu(results[i].value));
	}
	return 0;
}

static int run_request(struct presil_virtio *door, struct presil_op *ops, size_t count)
{
	struct presil_requests *requests = &door->requests;
	size_t i;
	int ret;

	if (requests->lost)
		return -ENODEV;
	for (i = 0; i < count; i++)
		encode(&requests->ops[i], &ops[i]);
	ret = count <= requests->doorbell_ops ? ring_doorbell(door, count) :
						send_request(requests, count);
	if (ret) {
		requests->lost = true;
		dev_err(&door->vdev->dev, "no answer to %zu register accesses\n", count);
		return ret;
	}
	return read_results(door, ops, count);
}

/* From here on nobody is asked anything: the device is about to be reset. */
void presil_queues_lose(struct presil_virtio *door)
{
	mutex_lock(&door->presil.lock);
	door->requests.lost = true;
	mutex_unlock(&door->presil.lock);
	virtio_break_device(door->vdev);
	/* Event handlers that began before have posted their buffers. */
	virtio_synchronize_cbs(door->vdev);
}

int presil_queues_access(struct presil_device *presil, struct presil_op *ops, size_t count)
{
	struct presil_virtio *door = container_of(presil, struct presil_virtio, presil);
	int ret = 0;

	while (count && !ret) {
		size_t part = min(count, door->requests.max_ops);

		ret = run_request(door, ops, part);
		ops += part;
		count -= part;
	}
	return ret;
}
