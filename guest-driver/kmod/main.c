// SPDX-License-Identifier: MIT OR GPL-2.0
/* The module and its virtio driver: a device's start and end (docs/virtio-binding.md 3 and 6). */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/virtio_config.h>
#include <drm/drm_drv.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_managed.h>
#include "presil.h"

#define VIRTIO_ID_PRESIL 38
#define BINDING_MAGIC 0x4c535250
#define BINDING_VERSION 1
#define VRAM_REGION 0
#define READY_DEADLINE_MS 5000
#define DRAIN_DEADLINE_NS (2ULL * NSEC_PER_SEC)

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
};

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
 * when. Until then it must not be touched and the device not be reset.
 */
static int wait_until_ready(struct virtio_device *vdev)
{
	ktime_t deadline = ktime_add_ms(ktime_get(), READY_DEADLINE_MS);
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
		usleep_range(50, 200);
		late = ktime_after(ktime_get(), deadline);
	}
}

static int map_window(struct presil_device *presil, struct presil_board *board)
{
	struct virtio_device *vdev = presil->vdev;
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
	if (!devm_request_mem_region(&vdev->dev, region.addr, board->visible_bytes, "presil-vram"))
		return -EBUSY;
	presil->window = devm_ioremap_wc(&vdev->dev, region.addr, board->visible_bytes);
	if (!presil->window)
		return -ENOMEM;
	presil->window_bytes = board->visible_bytes;
	board->cpu_address = region.addr;
	return 0;
}

static int start_adapter(struct presil_device *presil, const struct presil_board *board)
{
	const struct presil_timeline *timeline = NULL;
	int ret;

	mutex_lock(&presil->lock);
	presil->patient = true;
	ret = presil_rs_start(presil, board, &presil->adapter, &timeline);
	presil->patient = false;
	/* From here on the interrupt handler knows whom to tell. */
	smp_store_release(&presil->timeline, timeline);
	mutex_unlock(&presil->lock);
	return ret;
}

/*
 * Nobody waits for a fence any more and no mapping is left: the device is
 * unplugged, or was never registered.
 */
static void stop_adapter(struct presil_device *presil)
{
	const struct presil_timeline *timeline = presil->timeline;
	struct presil_bo *bo, *next;

	mutex_lock(&presil->lock);
	presil->patient = true;
	presil_rs_drain(timeline, DRAIN_DEADLINE_NS);
	list_for_each_entry_safe(bo, next, &presil->bos, link)
		presil_bo_destroy(bo);
	/* The adapter wants to be the last user of its fences. */
	WRITE_ONCE(presil->timeline, NULL);
	virtio_synchronize_cbs(presil->vdev);
	presil_rs_release(timeline);
	presil_rs_stop(presil->adapter);
	presil->adapter = NULL;
	mutex_unlock(&presil->lock);
}

/* After this the device neither interrupts nor touches memory. */
static void stop_device(struct presil_device *presil)
{
	virtio_reset_device(presil->vdev);
	presil->vdev->config->del_vqs(presil->vdev);
	cancel_work_sync(&presil->reaper);
}

static void reap(struct work_struct *work)
{
	struct presil_device *presil = container_of(work, struct presil_device, reaper);

	mutex_lock(&presil->lock);
	if (presil->adapter)
		WRITE_ONCE(presil->zombies, presil_rs_reap(presil->adapter));
	mutex_unlock(&presil->lock);
}

DEFINE_DRM_GEM_FOPS(presil_fops);

static const struct drm_driver presil_driver = {
	.driver_features = DRIVER_GEM | DRIVER_RENDER,
	.fops = &presil_fops,
	.ioctls = presil_ioctls,
	.num_ioctls = ARRAY_SIZE(presil_ioctls),
	.debugfs_init = presil_debugfs_init,
	.name = "presil",
	.desc = "presil e3k GPU",
	.major = 1,
};

static struct presil_device *new_device(struct virtio_device *vdev)
{
	struct presil_device *presil;
	int ret;

	presil = devm_drm_dev_alloc(&vdev->dev, &presil_driver, struct presil_device, drm);
	if (IS_ERR(presil))
		return presil;
	presil->vdev = vdev;
	vdev->priv = presil;
	init_waitqueue_head(&presil->interrupted);
	INIT_LIST_HEAD(&presil->bos);
	INIT_WORK(&presil->reaper, reap);
	ret = drmm_mutex_init(&presil->drm, &presil->lock);
	return ret ? ERR_PTR(ret) : presil;
}

static int presil_probe(struct virtio_device *vdev)
{
	struct presil_board board = {};
	struct presil_device *presil;
	u32 max_ops;
	int ret;

	ret = check_binding(vdev, &max_ops);
	if (ret)
		return ret;
	presil = new_device(vdev);
	if (IS_ERR(presil))
		return PTR_ERR(presil);
	ret = presil_queues_start(presil, max_ops);
	if (ret)
		return ret;
	virtio_device_ready(vdev);
	presil_queues_kick(presil);
	ret = wait_until_ready(vdev);
	if (ret)
		goto stop;
	ret = map_window(presil, &board);
	if (ret)
		goto stop;
	ret = start_adapter(presil, &board);
	if (ret)
		goto stop;
	ret = drm_dev_register(&presil->drm, 0);
	if (!ret)
		return 0;
	stop_adapter(presil);
stop:
	stop_device(presil);
	return ret;
}

static void presil_remove(struct virtio_device *vdev)
{
	struct presil_device *presil = vdev->priv;

	drm_dev_unplug(&presil->drm);
	stop_adapter(presil);
	stop_device(presil);
}

/* A GPU that slept has lost its registers, and nothing here could restore them. */
static int presil_freeze(struct virtio_device *vdev)
{
	dev_err(&vdev->dev, "suspending is not supported\n");
	return -EBUSY;
}

static const struct virtio_device_id presil_ids[] = {
	{ VIRTIO_ID_PRESIL, VIRTIO_DEV_ANY_ID },
	{ }
};
MODULE_DEVICE_TABLE(virtio, presil_ids);

static struct virtio_driver presil_virtio_driver = {
	.driver.name = "presil",
	.id_table = presil_ids,
	.probe = presil_probe,
	.remove = presil_remove,
	.freeze = presil_freeze,
};

module_virtio_driver(presil_virtio_driver);

MODULE_DESCRIPTION("presil: driver of the e3k GPU model");
MODULE_LICENSE("Dual MIT/GPL");
