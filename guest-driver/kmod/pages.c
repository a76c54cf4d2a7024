// SPDX-License-Identifier: MIT OR GPL-2.0
/* RAM pages that the GPU reaches. */
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <asm/set_memory.h>
#include "presil.h"

/* Memory pressure ends an allocation here and never a process elsewhere. */
#define PAGE_FLAGS (GFP_USER | __GFP_ZERO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

struct presil_pages {
	struct device *dma;	/* NULL: the device addresses memory as the CPU does */
	size_t count;
	bool write_combined;
	dma_addr_t *address;
	struct page *page[];
};

/* Fails where the device cannot address the page itself, but only a copy of it. */
static int map_page(struct device *dma, struct page *page, dma_addr_t *address)
{
	if (!dma) {
		*address = page_to_phys(page);
		return *address >> PRESIL_BUS_ADDRESS_BITS ? -ERANGE : 0;
	}
	*address = dma_map_page(dma, page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL);
	if (dma_mapping_error(dma, *address))
		return -ENOMEM;
	if (!dma_need_sync(dma, *address))
		return 0;
	dma_unmap_page(dma, *address, PAGE_SIZE, DMA_BIDIRECTIONAL);
	return -ERANGE;
}

static void free_first(struct presil_pages *pages, size_t count)
{
	while (count--) {
		if (pages->dma)
			dma_unmap_page(pages->dma, pages->address[count], PAGE_SIZE,
				       DMA_BIDIRECTIONAL);
		__free_page(pages->page[count]);
	}
	kvfree(pages->address);
	kvfree(pages);
}

static bool add_page(struct presil_pages *pages, size_t index)
{
	struct page *page = alloc_page(PAGE_FLAGS);

	if (!page)
		return false;
	if (map_page(pages->dma, page, &pages->address[index])) {
		__free_page(page);
		return false;
	}
	pages->page[index] = page;
	return true;
}

static struct presil_pages *new_list(size_t count)
{
	struct presil_pages *pages;

	pages = kvmalloc(struct_size(pages, page, count), GFP_KERNEL | __GFP_NOWARN);
	if (!pages)
		return NULL;
	pages->address = kvmalloc_array(count, sizeof(*pages->address), GFP_KERNEL | __GFP_NOWARN);
	if (pages->address)
		return pages;
	kvfree(pages);
	return NULL;
}

struct presil_pages *presil_pages_alloc(struct presil_device *presil, size_t count,
					bool write_combined)
{
	struct presil_pages *pages;
	size_t i;

	if (!count || count > INT_MAX)
		return NULL;
	pages = new_list(count);
	if (!pages)
		return NULL;
	pages->dma = presil->dma;
	pages->count = count;
	pages->write_combined = write_combined;
	for (i = 0; i < count; i++) {
		if (fatal_signal_pending(current) || !add_page(pages, i)) {
			free_first(pages, i);
			return NULL;
		}
		cond_resched();
	}
	/*
	 * The kernel's own mapping of the pages changes with the users': mixed
	 * attributes of one page are silently overridden or corrupt data.
	 */
	if (write_combined && set_pages_array_wc(pages->page, count)) {
		free_first(pages, count);
		return NULL;
	}
	return pages;
}

void presil_pages_free(struct presil_pages *pages)
{
	/* A page whose attribute cannot be put right must not reach anybody else. */
	if (pages->write_combined && set_pages_array_wb(pages->page, pages->count)) {
		pr_err("presil: %zu pages stay write-combined and are lost\n", pages->count);
		kvfree(pages->address);
		kvfree(pages);
		return;
	}
	free_first(pages, pages->count);
}

u64 presil_page_frame(const struct presil_pages *pages, size_t index)
{
	return index < pages->count ? page_to_pfn(pages->page[index]) : 0;
}

u64 presil_page_address(const struct presil_pages *pages, size_t index)
{
	return index < pages->count ? pages->address[index] : 0;
}

u64 presil_pages_load(const struct presil_pages *pages, size_t offset)
{
	size_t index = offset >> PAGE_SHIFT;
	u64 value;

	if (index >= pages->count || !IS_ALIGNED(offset, sizeof(u64)))
		return 0;
	value = READ_ONCE(*(u64 *)(page_address(pages->page[index]) + offset_in_page(offset)));
	/* The device wrote it: what it wrote before is seen by what is read from here on. */
	dma_rmb();
	return value;
}
