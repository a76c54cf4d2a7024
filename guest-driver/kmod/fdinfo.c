// SPDX-License-Identifier: MIT OR GPL-2.0
/* What /proc/PID/fdinfo says of an open node: its buffers by segment. */
#include <drm/drm_print.h>
#include "presil.h"

static const char *const regions[PRESIL_SEGMENTS] = {
	"local-visible", "local-invisible", "pcie-snoop", "pcie-unsnoop",
};

void presil_show_fdinfo(struct drm_printer *to, struct drm_file *file)
{
	struct drm_memory_stats stats[PRESIL_SEGMENTS] = {};
	struct drm_gem_object *gem;
	int handle, i;

	spin_lock(&file->table_lock);
	idr_for_each_entry(&file->object_idr, gem, handle) {
		const struct presil_bo *bo = to_bo(gem);
		struct drm_memory_stats *sum = &stats[bo->segment];

		if (drm_gem_object_is_shared_for_memory_stats(gem))
			sum->shared += gem->size;
		else
			sum->private += gem->size;
		if (READ_ONCE(bo->resident))
			sum->resident += gem->size;
	}
	spin_unlock(&file->table_lock);
	for (i = 0; i < PRESIL_SEGMENTS; i++)
		drm_print_memory_stats(to, &stats[i], DRM_GEM_OBJECT_RESIDENT, regions[i]);
}
