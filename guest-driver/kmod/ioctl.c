// SPDX-License-Identifier: MIT OR GPL-2.0
/* The ioctls (docs/uapi.md): checks of what users may say wrong, then Rust under the lock. */
#include <linux/capability.h>
#include <linux/string.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_vma_manager.h>
#include "presil.h"

static int info(struct presil_adapter *adapter, void *argument)
{
	presil_rs_info(adapter, argument);
	return 0;
}

static int ioctl_info(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_presil_info *request = data;

	if (request->flags)
		return -EINVAL;
	return presil_call(to_presil(drm), info, request);
}

static int ioctl_create(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_presil_create *request = data;
	struct presil_bo *bo;
	int ret;

	if (request->pad || !request->bytes || request->bytes > S64_MAX ||
	    request->window_count > PRESIL_MAX_WINDOWS ||
	    memchr_inv(&request->windows[request->window_count], 0,
		       (PRESIL_MAX_WINDOWS - request->window_count) * sizeof(*request->windows)))
		return -EINVAL;
	bo = presil_bo_new(to_presil(drm), file->driver_priv, request);
	if (IS_ERR(bo))
		return PTR_ERR(bo);
	ret = drm_gem_handle_create(file, &bo->gem, &request->handle);
	drm_gem_object_put(&bo->gem);
	return ret;
}

static int ioctl_map_offset(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_presil_map_offset *request = data;
	struct drm_gem_object *gem;

	if (request->flags)
		return -EINVAL;
	gem = drm_gem_object_lookup(file, request->handle);
	if (!gem)
		return -ENOENT;
	request->offset = drm_vma_node_offset_addr(&gem->vma_node);
	drm_gem_object_put(gem);
	return 0;
}

struct fill {
	struct presil_client *client;
	u64 bo;
	struct drm_presil_fill *request;
};

static int fill(struct presil_adapter *adapter, void *argument)
{
	const struct fill *fill = argument;

	return presil_rs_fill(adapter, fill->client, fill->bo, fill->request);
}

static int ioctl_fill(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct fill argument = { .client = file->driver_priv, .request = data };
	struct drm_gem_object *gem;
	int ret;

	gem = drm_gem_object_lookup(file, argument.request->handle);
	if (!gem)
		return -ENOENT;
	argument.bo = to_bo(gem)->id;
	ret = presil_call(to_presil(drm), fill, &argument);
	if (!ret)
		WRITE_ONCE(to_bo(gem)->resident, true);
	drm_gem_object_put(gem);
	return ret;
}

struct copy {
	struct presil_client *client;
	u64 dst;
	u64 src;
	struct drm_presil_copy *request;
};

static int copy(struct presil_adapter *adapter, void *argument)
{
	const struct copy *copy = argument;

	return presil_rs_copy(adapter, copy->client, copy->dst, copy->src, copy->request);
}

static int ioctl_copy(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct copy argument = { .client = file->driver_priv, .request = data };
	struct drm_gem_object *dst, *src;
	int ret = -ENOENT;

	dst = drm_gem_object_lookup(file, argument.request->dst_handle);
	src = drm_gem_object_lookup(file, argument.request->src_handle);
	if (dst && src) {
		argument.dst = to_bo(dst)->id;
		argument.src = to_bo(src)->id;
		ret = presil_call(to_presil(drm), copy, &argument);
	}
	if (!ret) {
		WRITE_ONCE(to_bo(dst)->resident, true);
		WRITE_ONCE(to_bo(src)->resident, true);
	}
	if (src)
		drm_gem_object_put(src);
	if (dst)
		drm_gem_object_put(dst);
	return ret;
}

static int ioctl_wait(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_presil_wait *request = data;

	if (request->flags || request->pad)
		return -EINVAL;
	return presil_wait_job(to_presil(drm), file->driver_priv, request->fence,
			       request->deadline_ns);
}

struct describe {
	u64 bo;
	struct drm_presil_describe *description;
};

static int describe(struct presil_adapter *adapter, void *argument)
{
	const struct describe *describe = argument;

	return presil_rs_describe(adapter, describe->bo, describe->description);
}

static int ioctl_describe(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct describe argument = { .description = data };
	struct drm_gem_object *gem;
	int ret;

	if (argument.description->flags)
		return -EINVAL;
	gem = drm_gem_object_lookup(file, argument.description->handle);
	if (!gem)
		return -ENOENT;
	argument.bo = to_bo(gem)->id;
	ret = presil_call(to_presil(drm), describe, &argument);
	drm_gem_object_put(gem);
	/*
	 * As in /proc/PID/pagemap: where in RAM a page lies is not for everybody.
	 * Nobody is refused anything, so that there is nothing to audit.
	 */
	if (!ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN))
		argument.description->first_pte = 0;
	return ret;
}

const struct drm_ioctl_desc presil_ioctls[PRESIL_IOCTLS] = {
	DRM_IOCTL_DEF_DRV(PRESIL_INFO, ioctl_info, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PRESIL_CREATE, ioctl_create, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PRESIL_MAP_OFFSET, ioctl_map_offset, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PRESIL_FILL, ioctl_fill, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PRESIL_COPY, ioctl_copy, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PRESIL_WAIT, ioctl_wait, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PRESIL_DESCRIBE, ioctl_describe, DRM_RENDER_ALLOW),
};
