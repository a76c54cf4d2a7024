// SPDX-License-Identifier: MIT OR GPL-2.0
/* Buffer objects: their life, their user mappings, the first touch of a page. */
#include <linux/mm.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <drm/drm_drv.h>
#include <drm/drm_vma_manager.h>
#include "presil.h"

#define PREFAULT_PAGES 16

/* Gives back what a BO holds; its GEM object may live on. Under the lock. */
void presil_bo_destroy(struct presil_bo *bo)
{
	struct presil_device *presil = to_presil(bo->gem.dev);

	WRITE_ONCE(presil->zombies, true);
	list_del(&bo->link);
	presil_rs_destroy(presil->adapter, bo->id);
}

static void bo_free(struct drm_gem_object *gem)
{
	struct presil_device *presil = to_presil(gem->dev);

	/* A mapping holds a reference: there is none left, and no new one is found from here on. */
	drm_gem_object_release(gem);
	mutex_lock(&presil->lock);
	if (presil->adapter)
		presil_bo_destroy(to_bo(gem));
	mutex_unlock(&presil->lock);
	if (to_bo(gem)->gone_page)
		__free_page(to_bo(gem)->gone_page);
	kfree(to_bo(gem));
	pm_runtime_put(presil->drm.dev);
}

/* The device is gone: one zeroed page stands for all pages of the BO. */
static vm_fault_t map_gone_page(struct vm_fault *vmf, struct presil_bo *bo)
{
	struct page *page = READ_ONCE(bo->gone_page), *first;

	if (!page) {
		page = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!page)
			return VM_FAULT_OOM;
		/* No lock: the device's is held for seconds while it goes. */
		first = cmpxchg(&bo->gone_page, NULL, page);
		if (first) {
			__free_page(page);
			page = first;
		}
	}
	return vmf_insert_pfn(vmf->vma, vmf->address, page_to_pfn(page));
}

/*
 * What waits for the lock or for a fence, waits without mmap_lock if the fault
 * may be repeated. However the wait ends, the fault comes again: what it finds
 * then decides, not how long others kept the GPU busy. A signal, a GPU that has
 * given up and a removal of the device end each wait.
 */
static vm_fault_t fault_wait(struct vm_fault *vmf, struct presil_device *presil,
			     int (*wait)(struct presil_device *presil, u64 argument), u64 argument)
{
	if (fault_flag_allow_retry_first(vmf->flags)) {
		if (!(vmf->flags & FAULT_FLAG_RETRY_NOWAIT)) {
			/*
			 * It is mmap_lock that is held here, and never the VMA's own
			 * lock: without .map_pages a fault under that comes again.
			 * From here on the mapping may go, and all that it holds;
			 * the device stays, since a removal waits for us.
			 */
			mmap_read_unlock(vmf->vma->vm_mm);
			wait(presil, argument);
		}
		return VM_FAULT_RETRY;
	}
	wait(presil, argument);
	return VM_FAULT_NOPAGE;
}

static int wait_for_lock(struct presil_device *presil, u64 unused)
{
	int ret = mutex_lock_interruptible(&presil->lock);

	if (!ret)
		mutex_unlock(&presil->lock);
	return ret;
}

static int wait_for_fence(struct presil_device *presil, u64 fence)
{
	return presil_wait(presil, fence, S64_MAX);
}

static vm_fault_t insert(struct vm_fault *vmf, unsigned long address,
			 const struct presil_frame *frame)
{
	pgprot_t protection = vmf->vma->vm_page_prot;

	if (frame->write_combined)
		protection = pgprot_writecombine(protection);
	return vmf_insert_pfn_prot(vmf->vma, address, frame->pfn, protection);
}

/* Maps the faulting page, which decides, and the following ones as far as it goes. */
static int map_pages(struct vm_fault *vmf, struct presil_bo *bo, struct presil_frame *frame,
		     vm_fault_t *outcome)
{
	struct presil_device *presil = to_presil(bo->gem.dev);
	struct vm_area_struct *vma = vmf->vma;
	u64 page = ((vmf->address - vma->vm_start) >> PAGE_SHIFT) + vma->vm_pgoff -
		   drm_vma_node_start(&bo->gem.vma_node);
	unsigned long address = vmf->address;
	int i, ret;

	ret = presil_rs_fault(presil->adapter, bo->id, page, frame);
	if (ret)
		return ret;
	WRITE_ONCE(bo->resident, true);
	*outcome = insert(vmf, address, frame);
	for (i = 1; i < PREFAULT_PAGES && *outcome == VM_FAULT_NOPAGE; i++) {
		address += PAGE_SIZE;
		if (address >= vma->vm_end ||
		    presil_rs_fault(presil->adapter, bo->id, page + i, frame) ||
		    insert(vmf, address, frame) != VM_FAULT_NOPAGE)
			break;
	}
	return 0;
}

static vm_fault_t fault_present(struct vm_fault *vmf, struct presil_bo *bo)
{
	struct presil_device *presil = to_presil(bo->gem.dev);
	struct presil_frame frame = {};
	vm_fault_t outcome;
	int ret;

	if (!mutex_trylock(&presil->lock))
		return fault_wait(vmf, presil, wait_for_lock, 0);
	ret = map_pages(vmf, bo, &frame, &outcome);
	mutex_unlock(&presil->lock);
	switch (ret) {
	case 0:
		return outcome;
	case -EBUSY:
		return fault_wait(vmf, presil, wait_for_fence, frame.fence);
	case -ERESTARTSYS:
		return VM_FAULT_NOPAGE;
	default:
		/*
		 * Also for want of memory: VM_FAULT_OOM would repeat the fault
		 * for ever, since our allocations never wake the OOM killer.
		 */
		return VM_FAULT_SIGBUS;
	}
}

static vm_fault_t bo_fault(struct vm_fault *vmf)
{
	struct drm_gem_object *gem = vmf->vma->vm_private_data;
	struct presil_device *presil = to_presil(gem->dev);
	vm_fault_t outcome;
	int cookie;

	/* A removal waits for this section before it takes all mappings away. */
	if (!drm_dev_enter(&presil->drm, &cookie))
		return map_gone_page(vmf, to_bo(gem));
	outcome = fault_present(vmf, to_bo(gem));
	drm_dev_exit(cookie);
	return outcome;
}

static int bo_mmap(struct drm_gem_object *gem, struct vm_area_struct *vma)
{
	/* vmf_insert_pfn in a copy-on-write mapping is a BUG that any user could reach. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP);
	return 0;
}

static const struct vm_operations_struct bo_vm_ops = {
	.fault = bo_fault,
	.open = drm_gem_vm_open,
	.close = drm_gem_vm_close,
};

static const struct drm_gem_object_funcs bo_funcs = {
	.free = bo_free,
	.mmap = bo_mmap,
	.vm_ops = &bo_vm_ops,
};

struct creation {
	struct presil_device *presil;
	struct presil_client *client;
	const struct drm_presil_create *request;
	struct presil_bo *bo;
};

static int create(struct presil_adapter *adapter, void *argument)
{
	const struct creation *creation = argument;
	struct presil_bo *bo = creation->bo;
	int ret;

	ret = presil_rs_create(adapter, creation->client, creation->request, &bo->id,
			       &bo->segment);
	if (ret)
		return ret;
	/* VRAM is there from the beginning, RAM at the first touch. */
	bo->resident = bo->segment <= PRESIL_SEGMENT_LOCAL_INVISIBLE;
	list_add(&bo->link, &creation->presil->bos);
	return 0;
}

/* A buffer object with one reference, booked but without pages and mappings. */
struct presil_bo *presil_bo_new(struct presil_device *presil, struct presil_client *client,
				const struct drm_presil_create *request)
{
	struct presil_bo *bo = kzalloc(sizeof(*bo), GFP_KERNEL);
	struct creation creation = { presil, client, request, bo };
	int ret;

	if (!bo)
		return ERR_PTR(-ENOMEM);
	bo->gem.funcs = &bo_funcs;
	drm_gem_private_object_init(&presil->drm, &bo->gem, PAGE_ALIGN(request->bytes));
	/* From here on a removal of the device finds it. */
	ret = presil_call(presil, create, &creation);
	if (ret) {
		drm_gem_private_object_fini(&bo->gem);
		kfree(bo);
		return ERR_PTR(ret);
	}
	/* As a dma-buf it may outlive its node, and VRAM and the tables are not there in D3. */
	pm_runtime_get_noresume(presil->drm.dev);
	ret = drm_gem_create_mmap_offset(&bo->gem);
	if (ret) {
		drm_gem_object_put(&bo->gem);
		return ERR_PTR(ret);
	}
	return bo;
}
