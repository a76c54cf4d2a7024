// SPDX-License-Identifier: MIT OR GPL-2.0
/* The device lock, and the waits that happen without it. */
#include <linux/ktime.h>
#include <drm/drm_drv.h>
#include "presil.h"

/* A removal of the device waits no longer than this for a waiter. */
#define SLICE_NS ((s64)NSEC_PER_SEC)
/* How long a call waits for room in the ring. */
#define ROOM_DEADLINE_NS (10LL * NSEC_PER_SEC)

/* Takes the lock of a device that is there. */
int presil_lock(struct presil_device *presil)
{
	int ret = mutex_lock_interruptible(&presil->lock);

	if (!ret && !presil->adapter) {
		mutex_unlock(&presil->lock);
		ret = -ENODEV;
	}
	return ret;
}

/* Waits for a fence until a point of CLOCK_MONOTONIC, without the lock. */
int presil_wait(struct presil_device *presil, u64 fence, s64 deadline_ns)
{
	for (;;) {
		s64 left = max(deadline_ns, 0LL) - ktime_get_ns();
		int cookie, ret;

		/* The fences live as long as a removal waits for this section. */
		if (!drm_dev_enter(&presil->drm, &cookie))
			return -ENODEV;
		ret = presil_rs_wait(presil->timeline, fence, clamp(left, 0LL, SLICE_NS));
		drm_dev_exit(cookie);
		if (ret != -ETIMEDOUT || left <= SLICE_NS)
			return ret;
	}
}

/*
 * Runs a call of the adapter under the lock. Where the ring is full, waits for
 * the next fence, which makes room, and runs it again.
 */
int presil_call(struct presil_device *presil,
		int (*call)(struct presil_adapter *adapter, void *argument), void *argument)
{
	s64 deadline = ktime_get_ns() + ROOM_DEADLINE_NS;

	for (;;) {
		u64 next;
		int ret = presil_lock(presil);

		if (ret)
			return ret;
		next = presil_rs_completed(presil->timeline) + 1;
		ret = call(presil->adapter, argument);
		mutex_unlock(&presil->lock);
		if (ret != -EBUSY)
			return ret;
		ret = presil_wait(presil, next, deadline);
		if (ret)
			return ret == -ETIMEDOUT ? -EBUSY : ret;
	}
}
