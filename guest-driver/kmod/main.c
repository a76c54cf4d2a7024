// SPDX-License-Identifier: MIT OR GPL-2.0
/* The module, and a device's start and end, whatever bus it was found on. */
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/virtio.h>
#include <drm/drm_drv.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_managed.h>
#include <drm/drm_vma_manager.h>
#include "presil.h"

#define DRAIN_DEADLINE_NS (2ULL * NSEC_PER_SEC)

static bool bind_pci = true;
module_param_named(pci, bind_pci, bool, 0444);
MODULE_PARM_DESC(pci, "bind PCI functions, not only virtio devices (default: yes)");

static unsigned int client_percent = 50;

static int set_percent(const char *value, const struct kernel_param *parameter)
{
	return param_set_uint_minmax(value, parameter, 1, 100);
}

static const struct kernel_param_ops percent_ops = {
	.set = set_percent,
	.get = param_get_uint,
};
module_param_cb(client_percent, &percent_ops, &client_percent, 0444);
MODULE_PARM_DESC(client_percent,
		 "how much of each segment one open node may book, 1 to 100 % (default: 50)");

/* Maps the beginning of VRAM, which the bus shows the CPU at `address`, for the driver itself. */
int presil_map_window(struct presil_device *presil, phys_addr_t address,
		      struct presil_board *board)
{
	struct device *dev = presil->drm.dev;

	if (!devm_request_mem_region(dev, address, board->visible_bytes, "presil-vram"))
		return -EBUSY;
	presil->window = devm_ioremap_wc(dev, address, board->visible_bytes);
	if (!presil->window)
		return -ENOMEM;
	presil->window_bytes = board->visible_bytes;
	board->cpu_address = address;
	return 0;
}

static int start_adapter(struct presil_device *presil, const struct presil_board *board)
{
	const struct presil_timeline *timeline = NULL;
	int ret;

	mutex_lock(&presil->lock);
	ret = presil_rs_start(presil, board, client_percent, &presil->adapter, &timeline);
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
	presil_rs_drain(presil->adapter, DRAIN_DEADLINE_NS);
	list_for_each_entry_safe(bo, next, &presil->bos, link)
		presil_bo_destroy(bo);
	/*
	 * Our reference goes first: presil_rs_stop() frees the page that fences are
	 * written to only if it has the last one.
	 */
	WRITE_ONCE(presil->timeline, NULL);
	presil->transport->synchronize(presil);
	presil_rs_release(timeline);
	presil_rs_stop(presil->adapter);
	presil->adapter = NULL;
	mutex_unlock(&presil->lock);
	cancel_work_sync(&presil->worker);
}

/* Looks at errors of the GPU, gives it what is queued, gives back what it does not use any more. */
static void work(struct work_struct *work)
{
	struct presil_device *presil = container_of(work, struct presil_device, worker);

	mutex_lock(&presil->lock);
	if (presil->adapter) {
		presil_rs_attend(presil->adapter);
		WRITE_ONCE(presil->zombies, presil_rs_advance(presil->adapter));
		WRITE_ONCE(presil->queued, presil_rs_has_queued(presil->adapter));
	}
	mutex_unlock(&presil->lock);
	/* What a restart of the ring ended is over. */
	wake_up_all(&presil->interrupted);
}

/* What the fences' memory says: for presil_interrupt(), read before the status is latched. */
u64 presil_fence_memory(struct presil_device *presil)
{
	const struct presil_timeline *timeline = smp_load_acquire(&presil->timeline);

	return timeline ? presil_rs_in_memory(timeline) : 0;
}

/* For interrupt handlers, with the two latched status words. One at a time. */
void presil_interrupt(struct presil_device *presil, u64 before, u32 biu, u32 advanced)
{
	bool trouble;
	const struct presil_timeline *timeline = smp_load_acquire(&presil->timeline);

	WRITE_ONCE(presil->times.interrupted, ktime_get_ns());
	WRITE_ONCE(presil->interrupts, presil->interrupts + 1);
	if (!timeline)
		return;
	trouble = presil_rs_interrupt(timeline, before, biu, advanced);
	wake_up_all(&presil->interrupted);
	/* After the fence is published: see look_after_queues(). */
	smp_mb();
	if (trouble || READ_ONCE(presil->zombies) || READ_ONCE(presil->queued))
		schedule_work(&presil->worker);
}

int presil_access(struct presil_device *presil, struct presil_op *ops, size_t count)
{
	lockdep_assert_held(&presil->lock);
	/* Read without the lock, by whoever measures. */
	WRITE_ONCE(presil->accesses, presil->accesses + count);
	WRITE_ONCE(presil->times.access_began, ktime_get_ns());
	return presil->transport->access(presil, ops, count);
}

bool presil_deliver(struct presil_device *presil)
{
	return presil->transport->deliver(presil);
}

void presil_set_dma(struct presil_device *presil, bool on)
{
	if (presil->transport->set_dma)
		presil->transport->set_dma(presil, on);
}

/* Until pm_runtime_put(). */
int presil_keep_awake(struct drm_device *drm)
{
	int ret = pm_runtime_get_sync(drm->dev);

	/* -EACCES: a bus without runtime power management. */
	if (ret >= 0 || ret == -EACCES)
		return 0;
	pm_runtime_put_noidle(drm->dev);
	/* The error would stand for ever, and nobody be asked to wake the device again. */
	pm_runtime_set_suspended(drm->dev);
	return ret;
}

/* An open node keeps the device awake: its user may touch VRAM at any time. */
static int opened(struct drm_device *drm, struct drm_file *file)
{
	struct presil_device *presil = to_presil(drm);
	struct presil_client *client = NULL;
	int ret = presil_keep_awake(drm);

	if (ret)
		return ret;
	ret = presil_lock(presil);
	if (!ret) {
		ret = presil_rs_client_open(presil->adapter, &client);
		mutex_unlock(&presil->lock);
	}
	if (ret)
		pm_runtime_put(drm->dev);
	file->driver_priv = client;
	return ret;
}

static void closed(struct drm_device *drm, struct drm_file *file)
{
	struct presil_device *presil = to_presil(drm);

	mutex_lock(&presil->lock);
	presil_rs_client_close(presil->adapter, file->driver_priv);
	mutex_unlock(&presil->lock);
	pm_runtime_put(drm->dev);
}

static const struct file_operations presil_fops = {
	.owner = THIS_MODULE,
	DRM_GEM_FOPS,
	.show_fdinfo = drm_show_fdinfo,
};

const struct drm_driver presil_driver = {
	.driver_features = DRIVER_GEM | DRIVER_RENDER,
	.fops = &presil_fops,
	.open = opened,
	.postclose = closed,
	.show_fdinfo = presil_show_fdinfo,
	.ioctls = presil_ioctls,
	.num_ioctls = PRESIL_IOCTLS,
	.debugfs_init = presil_debugfs_init,
	.name = "presil",
	.desc = "presil e3k GPU",
	.major = 1,
};

/* To be called on a fresh device. `dma`: whose DMA addresses the GPU uses, NULL for physical ones. */
int presil_init(struct presil_device *presil, const struct presil_transport *transport,
		struct device *dma)
{
	presil->transport = transport;
	presil->dma = dma;
	init_waitqueue_head(&presil->interrupted);
	INIT_LIST_HEAD(&presil->bos);
	INIT_WORK(&presil->worker, work);
	return drmm_mutex_init(&presil->drm, &presil->lock);
}

/* The transport works: brings the GPU up and shows it to users. */
int presil_start(struct presil_device *presil, const struct presil_board *board)
{
	int ret = start_adapter(presil, board);

	if (ret)
		return ret;
	ret = drm_dev_register(&presil->drm, 0);
	if (ret)
		stop_adapter(presil);
	return ret;
}

/*
 * Before the GPU's registers are lost. Mappings are taken away: who touches one
 * waits for the lock, since VRAM cannot be reached meanwhile. An error says that
 * work is unfinished. Under the lock, which is kept until presil_resume() where
 * users may come in between.
 */
int presil_suspend(struct presil_device *presil)
{
	struct presil_bo *bo;
	int ret;

	lockdep_assert_held(&presil->lock);
	list_for_each_entry(bo, &presil->bos, link)
		drm_vma_node_unmap(&bo->gem.vma_node, presil->drm.anon_inode->i_mapping);
	ret = presil_rs_suspend(presil->adapter, DRAIN_DEADLINE_NS);
	return ret;
}

/* After that. What was unfinished ends in an error. Under the lock. */
int presil_resume(struct presil_device *presil)
{
	int ret;

	lockdep_assert_held(&presil->lock);
	ret = presil_rs_resume(presil->adapter);
	if (ret)
		dev_err(presil->drm.dev, "the GPU did not come back: %d\n", ret);
	else if (presil_rs_has_queued(presil->adapter))
		/* Nothing may be on the ring whose fence would do it. */
		schedule_work(&presil->worker);
	wake_up_all(&presil->interrupted);
	return ret;
}

/*
 * The kernel ends, and what the GPU does must not reach into the next one, which
 * after a kexec finds the device as it is left. Processes may still be there, with
 * their nodes open: they find a GPU that is lost, and keep their memory.
 */
void presil_shut_down(struct presil_device *presil)
{
	mutex_lock(&presil->lock);
	if (presil->adapter && presil_rs_shut_down(presil->adapter, DRAIN_DEADLINE_NS))
		dev_err(presil->drm.dev, "the GPU could not be brought to rest\n");
	mutex_unlock(&presil->lock);
	wake_up_all(&presil->interrupted);
}

/* The transport still works, or answers that the GPU is gone. */
void presil_stop(struct presil_device *presil)
{
	drm_dev_unplug(&presil->drm);
	stop_adapter(presil);
}

static int __init presil_load(void)
{
	int ret = register_virtio_driver(&presil_virtio_driver);

	if (ret || !bind_pci)
		return ret;
	ret = pci_register_driver(&presil_pci_driver);
	if (ret)
		unregister_virtio_driver(&presil_virtio_driver);
	return ret;
}

static void __exit presil_unload(void)
{
	if (bind_pci)
		pci_unregister_driver(&presil_pci_driver);
	unregister_virtio_driver(&presil_virtio_driver);
}

module_init(presil_load);
module_exit(presil_unload);

MODULE_DESCRIPTION("presil: driver of the e3k GPU model");
MODULE_LICENSE("Dual MIT/GPL");
