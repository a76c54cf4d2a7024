// SPDX-License-Identifier: MIT OR GPL-2.0
/* The virtio driver: a device's start and end (docs/virtio-binding.md 3 and 6). */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/virtio_config.h>
#include <drm/drm_drv.h>
#include "queues.h"

#define VIRTIO_ID_PRESIL 38
#define BINDING_MAGIC 0x4c535250
#define BINDING_VERSION 1
#define VRAM_REGION 0
#define READY_DEADLINE_MS 60000
#define READY_LONGEST_SLEEP_US 16000U

static int check_binding(struct virtio_device *vdev, u32 *max_ops)
{
	u32 magic, version, ready;

	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1)) {
		dev_err(&vdev->dev, "the device is not virtio 1\n");
		return -ENODEV;
	}
	virtio_cread_le(vdev, struct presil_config, magic, &magic);
	virtio_cread_le(vdev, struct presil_config, version, &version);
	virtio_cread_le(vdev, struct presil_config, ready, &ready);
	virtio_cread_le(vdev, struct presil_config, max_ops, max_ops);
	if (magic != BINDING_MAGIC) {
		dev_err(&vdev->dev, "magic is %#x, expected %#x: not a presil device\n", magic,
			BINDING_MAGIC);
		return -ENODEV;
	}
	if (version != BINDING_VERSION || !*max_ops) {
		dev_err(&vdev->dev, "binding version %u with %u operations, expected version %u\n",
			version, *max_ops, BINDING_VERSION);
		return -ENODEV;
	}
	if (ready) {
		dev_err(&vdev->dev, "ready is %#x before the device was started\n", ready);
		return -EBUSY;
	}
	return 0;
}

/*
 * The VRAM window is mapped a moment after DRIVER_OK, and no interrupt tells
 * when. Until then it must not be touched and the device not be reset. Each look
 * takes the lock that the VMM wants for the mapping, so they become rarer: on a busy
 * host it would get that lock for seconds only by chance.
 */
static int wait_until_ready(struct virtio_device *vdev)
{
	ktime_t deadline = ktime_add_ms(ktime_get(), READY_DEADLINE_MS);
	unsigned int sleep_us = 50;
	bool late = false;
	u32 ready;

	for (;;) {
		virtio_cread_le(vdev, struct presil_config, ready, &ready);
		if (ready)
			return 0;
		if (late) {
			dev_err(&vdev->dev, "the VRAM window is not there after %d ms\n",
				READY_DEADLINE_MS);
			return -ETIMEDOUT;
		}
		usleep_range(sleep_us, 2 * sleep_us);
		sleep_us = min(2 * sleep_us, READY_LONGEST_SLEEP_US);
		late = ktime_after(ktime_get(), deadline);
	}
}

static int map_window(struct presil_virtio *door, struct presil_board *board)
{
	struct virtio_device *vdev = door->vdev;
	struct virtio_shm_region region;

	virtio_cread_le(vdev, struct presil_config, vendor_id, &board->vendor_id);
	virtio_cread_le(vdev, struct presil_config, device_id, &board->device_id);
	virtio_cread_le(vdev, struct presil_config, vram_bytes, &board->vram_bytes);
	virtio_cread_le(vdev, struct presil_config, visible_bytes, &board->visible_bytes);
	if (!virtio_get_shm_region(vdev, &region, VRAM_REGION) ||
	    region.len < board->visible_bytes) {
		dev_err(&vdev->dev, "no shared-memory region of %llu bytes\n",
			board->visible_bytes);
		return -ENODEV;
	}
	return presil_map_window(&door->presil, region.addr, board);
}

static void synchronize(struct presil_device *presil)
{
	virtio_synchronize_cbs(container_of(presil, struct presil_virtio, presil)->vdev);
}

static const struct presil_transport transport = {
	.access = presil_queues_access,
	.synchronize = synchronize,
	.deliver = presil_queues_deliver,
};

/* After this the device neither interrupts nor touches memory. */
static void stop_device(struct presil_virtio *door)
{
	virtio_reset_device(door->vdev);
	door->vdev->config->del_vqs(door->vdev);
}

static struct presil_virtio *new_device(struct virtio_device *vdev)
{
	struct presil_virtio *door;
	int ret;

	door = devm_drm_dev_alloc(&vdev->dev, &presil_driver, struct presil_virtio, presil.drm);
	if (IS_ERR(door))
		return door;
	door->vdev = vdev;
	vdev->priv = door;
	/* No DMA device: without VIRTIO_F_ACCESS_PLATFORM bus addresses are physical. */
	ret = presil_init(&door->presil, &transport, NULL);
	return ret ? ERR_PTR(ret) : door;
}

/*
 * A virtio driver's own shutdown is known to some kernels only, and what the bus
 * does of itself to others: this comes before either, on all of them. The queues
 * stay, for users may still come, and find the device lost.
 */
static int shut_down(struct notifier_block *block, unsigned long event, void *unused)
{
	struct presil_virtio *door = container_of(block, struct presil_virtio, end);

	presil_shut_down(&door->presil);
	presil_queues_lose(door);
	virtio_reset_device(door->vdev);
	return NOTIFY_DONE;
}

static int presil_probe(struct virtio_device *vdev)
{
	struct presil_board board = {};
	struct presil_virtio *door;
	u32 max_ops;
	int ret;

	ret = check_binding(vdev, &max_ops);
	if (ret)
		return ret;
	door = new_device(vdev);
	if (IS_ERR(door))
		return PTR_ERR(door);
	ret = presil_queues_start(door, max_ops);
	if (ret)
		return ret;
	virtio_device_ready(vdev);
	presil_queues_kick(door);
	ret = wait_until_ready(vdev);
	if (!ret)
		presil_queues_find_doorbell(door);
	if (!ret)
		ret = map_window(door, &board);
	if (!ret)
		ret = presil_start(&door->presil, &board);
	if (ret) {
		stop_device(door);
		return ret;
	}
	door->end.notifier_call = shut_down;
	return register_reboot_notifier(&door->end);
}

static void presil_remove(struct virtio_device *vdev)
{
	struct presil_virtio *door = vdev->priv;

	unregister_reboot_notifier(&door->end);
	presil_stop(&door->presil);
	stop_device(door);
}

/* A GPU that slept has lost its registers, and VRAM may not survive. */
static int presil_freeze(struct virtio_device *vdev)
{
	dev_err(&vdev->dev, "suspending is not supported\n");
	return -EBUSY;
}

static const struct virtio_device_id ids[] = {
	{ VIRTIO_ID_PRESIL, VIRTIO_DEV_ANY_ID },
	{ }
};
MODULE_DEVICE_TABLE(virtio, ids);

struct virtio_driver presil_virtio_driver = {
	.driver.name = "presil",
	.id_table = ids,
	.probe = presil_probe,
	.remove = presil_remove,
	.freeze = presil_freeze,
};
