// SPDX-License-Identifier: MIT OR GPL-2.0
/* The device lock, and the waits that happen without it. */
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <drm/drm_drv.h>
#include "presil.h"

/* A removal of the device waits no longer than this for a waiter. */
#define SLICE_NS ((s64)NSEC_PER_SEC)
/* How long a call waits for what the GPU is to give back. */
#define ROOM_DEADLINE_NS (10LL * NSEC_PER_SEC)

/*
 * Takes the lock of a device that is there. As all waits here, a signal ends it
 * in -ERESTARTSYS: the kernel repeats the call where the signal's handler was
 * installed with SA_RESTART, and makes it -EINTR elsewhere.
 */
int presil_lock(struct presil_device *presil)
{
	if (mutex_lock_interruptible(&presil->lock))
		return -ERESTARTSYS;
	if (presil->adapter)
		return 0;
	mutex_unlock(&presil->lock);
	return -ENODEV;
}

/* Waits until a fence of the ring is over, or a point of CLOCK_MONOTONIC, without the lock. */
int presil_wait(struct presil_device *presil, u64 fence, s64 deadline_ns)
{
	for (;;) {
		s64 left = max(deadline_ns, 0LL) - ktime_get_ns();
		int cookie, ret;

		/* The fences live as long as a removal waits for this section. */
		if (!drm_dev_enter(&presil->drm, &cookie))
			return -ENODEV;
		ret = presil_rs_wait(presil->timeline, fence, clamp(left, 0LL, SLICE_NS));
		/* No interrupt has told it: perhaps one is lost. */
		if (ret == -ETIMEDOUT && presil_rs_has_trouble(presil->timeline))
			schedule_work(&presil->worker);
		drm_dev_exit(cookie);
		if (ret != -ETIMEDOUT || left <= SLICE_NS)
			return ret;
	}
}

/*
 * Waits until a client's job has ended, or a point of CLOCK_MONOTONIC; returns how
 * it ended. While it is queued the ring's next fence is waited for: asking puts on
 * the ring what may go there. Once the deadline is over it is asked a last time,
 * for what was over by then.
 */
int presil_wait_job(struct presil_device *presil, struct presil_client *client, u64 fence,
		    s64 deadline_ns)
{
	bool late = false;

	for (;;) {
		u64 next = 0;
		int ret = presil_lock(presil);

		if (ret)
			return ret;
		ret = presil_rs_ask(presil->adapter, client, fence, &next);
		mutex_unlock(&presil->lock);
		if (ret != -EAGAIN)
			return ret;
		if (late)
			return -ETIMEDOUT;
		ret = presil_wait(presil, next, deadline_ns);
		if (ret)
			return ret;
		late = ktime_get_ns() >= max(deadline_ns, 0LL);
		/* Neither the lock nor the wait need have slept. */
		if (signal_pending(current))
			return -ERESTARTSYS;
	}
}

/*
 * What is queued goes on the ring as fences come: from here on the interrupt
 * handler starts the worker, and for those that came before we do. Under the lock.
 */
static void look_after_queues(struct presil_device *presil)
{
	if (!presil_rs_has_queued(presil->adapter) || presil->queued)
		return;
	WRITE_ONCE(presil->queued, true);
	schedule_work(&presil->worker);
}

/* Whether a call that failed may succeed when the GPU has come further. */
static bool may_succeed_later(const struct presil_device *presil, int error)
{
	/*
	 * The client has too much unfinished, or memory belongs to what was freed
	 * while the GPU uses it.
	 */
	return error == -EBUSY || ((error == -ENOMEM || error == -ENOSPC) && presil->zombies);
}

/*
 * Runs a call of the adapter under the lock. Where it lacks what the GPU is
 * about to give back, waits for the next fence and runs it again. A busy GPU
 * fails no call for as long as its fences come, however much others queue.
 */
int presil_call(struct presil_device *presil,
		int (*call)(struct presil_adapter *adapter, void *argument), void *argument)
{
	s64 deadline = ktime_get_ns() + ROOM_DEADLINE_NS;

	for (;;) {
		int waited, ret = presil_lock(presil);
		bool again;
		u64 next;

		if (ret)
			return ret;
		next = presil_rs_completed(presil->timeline) + 1;
		ret = call(presil->adapter, argument);
		look_after_queues(presil);
		again = may_succeed_later(presil, ret) &&
			next <= presil_rs_submitted(presil->timeline);
		mutex_unlock(&presil->lock);
		if (!again)
			return ret;
		if (ret == -EBUSY)
			deadline = ktime_get_ns() + ROOM_DEADLINE_NS;
		waited = presil_wait(presil, next, deadline);
		if (waited)
			return waited == -ETIMEDOUT ? ret : waited;
	}
}
