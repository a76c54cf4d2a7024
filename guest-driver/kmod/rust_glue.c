// SPDX-License-Identifier: MIT OR GPL-2.0
/* What the Rust object needs of the kernel besides pages and queues. */
#include <linux/bug.h>
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include "presil.h"

void *presil_alloc(size_t bytes, bool zeroed)
{
	gfp_t flags = GFP_KERNEL | __GFP_NOWARN;

	/*
	 * Rust's Arc and Box take no refusal: it would be a BUG under the device
	 * lock. They are small, and so little is refused only to a process that
	 * the OOM killer has chosen.
	 */
	if (bytes <= PAGE_SIZE)
		flags |= __GFP_NOFAIL;
	return kvmalloc(bytes, zeroed ? flags | __GFP_ZERO : flags);
}

void *presil_realloc(void *memory, size_t bytes)
{
	return kvrealloc(memory, bytes, GFP_KERNEL | __GFP_NOWARN);
}

void presil_free(void *memory)
{
	kvfree(memory);
}

void presil_log(enum presil_level level, const char *text, size_t bytes)
{
	int length = min_t(size_t, bytes, INT_MAX);

	switch (level) {
	case PRESIL_ERROR:
		pr_err("presil: %.*s\n", length, text);
		break;
	case PRESIL_WARNING:
		pr_warn("presil: %.*s\n", length, text);
		break;
	case PRESIL_INFORM:
		pr_info("presil: %.*s\n", length, text);
		break;
	case PRESIL_DEBUG:
		pr_debug("presil: %.*s\n", length, text);
		break;
	}
}

void __noreturn presil_bug(void)
{
	BUG();
}

u64 presil_now_ns(void)
{
	return ktime_get_ns();
}

void presil_query_times(const struct presil_device *presil, struct presil_times *times)
{
	times->access_began = READ_ONCE(presil->times.access_began);
	times->interrupted = READ_ONCE(presil->times.interrupted);
}

void presil_query_system(struct presil_system_info *info)
{
	struct sysinfo memory;

	si_meminfo(&memory);
	info->total_bytes = (u64)memory.totalram * memory.mem_unit;
	info->free_bytes = (u64)memory.freeram * memory.mem_unit;
	info->page_bytes = PAGE_SIZE;
}

enum presil_wake presil_sleep(struct presil_device *presil, bool interruptible, u64 timeout_ns,
			      bool (*ready)(void *context), void *context)
{
	ktime_t timeout = min_t(u64, timeout_ns, KTIME_MAX);
	long ret;

	if (interruptible)
		ret = wait_event_interruptible_hrtimeout(presil->interrupted, ready(context),
							 timeout);
	else
		ret = wait_event_hrtimeout(presil->interrupted, ready(context), timeout);
	if (!ret)
		return PRESIL_READY;
	return ret == -ETIME ? PRESIL_TIMED_OUT : PRESIL_INTERRUPTED;
}

void presil_print(struct seq_file *to, const char *text, size_t bytes)
{
	seq_write(to, text, bytes);
}

static bool in_window(const struct presil_device *presil, u64 offset, u64 bytes)
{
	return offset <= presil->window_bytes && bytes <= presil->window_bytes - offset;
}

u32 presil_window_load(struct presil_device *presil, u64 offset)
{
	u32 value = in_window(presil, offset, sizeof(u32)) ? readl(presil->window + offset) : 0;

	/* Loads of write-combined memory are not in order with others by themselves. */
	rmb();
	return value;
}

void presil_window_store(struct presil_device *presil, u64 offset, const u32 *values, size_t count)
{
	size_t i;

	if (!in_window(presil, offset, count * sizeof(u32)))
		return;
	for (i = 0; i < count; i++)
		writel_relaxed(values[i], presil->window + offset + i * sizeof(u32));
}

/* The window is write-combined: stores leave the CPU here at the latest. */
void presil_write_barrier(void)
{
	wmb();
}
