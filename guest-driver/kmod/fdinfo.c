// SPDX-License-Identifier: MIT OR GPL-2.0
/* What /proc/PID/fdinfo says of an open node: its buffers by segment, and its limits. */
#include <drm/drm_print.h>
#include "presil.h"

static const char *const regions[PRESIL_SEGMENTS] = {
	"local-visible", "local-invisible", "pcie-snoop", "pcie-unsnoop",
};

/* What is booked is more than the buffers' total while the GPU uses some that are closed. */
static void show_bookings(struct drm_printer *to, struct drm_file *file)
{
	struct presil_device *presil = to_presil(file->minor->dev);
	struct presil_booking bookings[PRESIL_SEGMENTS];
	int i;

	if (presil_lock(presil))
		return;
	presil_rs_client_bookings(presil->adapter, file->driver_priv, bookings);
	mutex_unlock(&presil->lock);
	for (i = 0; i < PRESIL_SEGMENTS; i++) {
		drm_printf(to, "presil-booked-%s:\t%llu KiB\n", regions[i],
			   bookings[i].booked >> 10);
		drm_printf(to, "presil-limit-%s:\t%llu KiB\n", regions[i],
			   bookings[i].limit >> 10);
	}
}

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
	show_bookings(to, file);
}
