// SPDX-License-Identifier: MIT OR GPL-2.0
/* debugfs: bos, vidmm_init, counters; bench, which measures when it is read. */
#include <linux/pm_runtime.h>
#include <linux/seq_file.h>
#include <drm/drm_debugfs.h>
#include "presil.h"

static int list(struct seq_file *to, enum presil_listing what)
{
	struct drm_debugfs_entry *entry = to->private;
	struct presil_device *presil = to_presil(entry->dev);
	int ret = presil_lock(presil);

	if (ret)
		return ret;
	ret = presil_rs_list(presil->adapter, what, to);
	mutex_unlock(&presil->lock);
	return ret;
}

static int show_bos(struct seq_file *to, void *unused)
{
	return list(to, PRESIL_LIST_BOS);
}

static int show_vidmm_init(struct seq_file *to, void *unused)
{
	return list(to, PRESIL_LIST_INIT);
}

/* The shim's own figures first, then the fences'. */
static int show_counters(struct seq_file *to, void *unused)
{
	struct drm_debugfs_entry *entry = to->private;
	const struct presil_device *presil = to_presil(entry->dev);

	seq_printf(to, "{\"register_accesses\":%llu,\"interrupts\":%llu,\"timeline\":",
		   READ_ONCE(presil->accesses), READ_ONCE(presil->interrupts));
	if (list(to, PRESIL_LIST_COUNTERS))
		seq_puts(to, "null");
	seq_puts(to, "}\n");
	return 0;
}

static int show_bench(struct seq_file *to, void *unused)
{
	struct drm_debugfs_entry *entry = to->private;
	struct presil_device *presil = to_presil(entry->dev);
	int ret = presil_keep_awake(entry->dev);

	if (ret)
		return ret;
	ret = presil_lock(presil);
	if (!ret) {
		ret = presil_rs_bench(presil->adapter, to);
		mutex_unlock(&presil->lock);
	}
	pm_runtime_put(entry->dev->dev);
	return ret;
}

static const struct drm_debugfs_info files[] = {
	{ .name = "bos", .show = show_bos },
	{ .name = "vidmm_init", .show = show_vidmm_init },
	{ .name = "counters", .show = show_counters },
	{ .name = "bench", .show = show_bench },
};

void presil_debugfs_init(struct drm_minor *minor)
{
	drm_debugfs_add_files(minor->dev, files, ARRAY_SIZE(files));
}
