/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The C shim's own view of the device. */
#ifndef PRESIL_H
#define PRESIL_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <drm/drm_device.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>
#include "glue.h"

struct pci_driver;
struct virtio_driver;

/* How the GPU is reached: what differs between a PCI function and a virtio device. */
struct presil_transport {
	/* Runs accesses in order, under the device lock. May sleep. */
	int (*access)(struct presil_device *presil, struct presil_op *ops, size_t count);
	/* When it returns, no interrupt handler runs that began before. */
	void (*synchronize)(struct presil_device *presil);
	/* Whether the device may reach memory; NULL where its bus takes care of that. */
	void (*set_dma)(struct presil_device *presil, bool on);
	/* Handles what the GPU signalled before the last access; false: some may be left. */
	bool (*deliver)(struct presil_device *presil);
};

struct presil_device {
	struct drm_device drm;
	const struct presil_transport *transport;
	struct device *dma;		/* whose addresses the GPU uses; NULL: physical ones */
	/* Held around every call that takes the adapter. Taken after mmap_lock. */
	struct mutex lock;
	struct presil_adapter *adapter;			/* NULL when stopped */
	const struct presil_timeline *timeline;
	wait_queue_head_t interrupted;
	struct list_head bos;				/* all of them, under the lock */
	struct work_struct worker;			/* for what interrupts leave to do */
	bool zombies;					/* the GPU may still use what was freed */
	bool queued;					/* clients' work is to go on the ring */
	u64 accesses;
	u64 interrupts;
	struct presil_times times;
	void __iomem *window;
	u64 window_bytes;
};

struct presil_bo {
	struct drm_gem_object gem;
	struct list_head link;
	u64 id;
	u32 segment;
	bool resident;			/* it has memory behind it, as far as users caused that */
	struct page *gone_page;		/* what mappings show when the device is gone */
};

#define to_presil(device) container_of(device, struct presil_device, drm)
#define to_bo(object) container_of(object, struct presil_bo, gem)

/* main.c, for the transports */
extern const struct drm_driver presil_driver;
int presil_init(struct presil_device *presil, const struct presil_transport *transport,
		struct device *dma);
int presil_map_window(struct presil_device *presil, phys_addr_t address,
		      struct presil_board *board);
int presil_start(struct presil_device *presil, const struct presil_board *board);
void presil_stop(struct presil_device *presil);
int presil_suspend(struct presil_device *presil);
int presil_resume(struct presil_device *presil);
void presil_shut_down(struct presil_device *presil);
u64 presil_fence_memory(struct presil_device *presil);
void presil_interrupt(struct presil_device *presil, u64 before, u32 biu, u32 advanced);
int presil_keep_awake(struct drm_device *drm);

/* The transports: virtio.c and pci.c */
extern struct virtio_driver presil_virtio_driver;
extern struct pci_driver presil_pci_driver;

/* lock.c */
int presil_lock(struct presil_device *presil);
int presil_wait(struct presil_device *presil, u64 fence, s64 deadline_ns);
int presil_wait_job(struct presil_device *presil, struct presil_client *client, u64 fence,
		    s64 deadline_ns);
int presil_call(struct presil_device *presil,
		int (*call)(struct presil_adapter *adapter, void *argument), void *argument);

/* gem.c */
void presil_bo_destroy(struct presil_bo *bo);
struct presil_bo *presil_bo_new(struct presil_device *presil, struct presil_client *client,
				const struct drm_presil_create *request);

/* ioctl.c */
#define PRESIL_IOCTLS 7
extern const struct drm_ioctl_desc presil_ioctls[PRESIL_IOCTLS];

/* fdinfo.c */
void presil_show_fdinfo(struct drm_printer *to, struct drm_file *file);

/* debugfs.c */
void presil_debugfs_init(struct drm_minor *minor);

#endif
