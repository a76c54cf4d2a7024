// SPDX-License-Identifier: MIT OR GPL-2.0
/* RAM pages that the GPU reaches. */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <asm/set_memory.h>
#include "glue.h"

/* What the device can address. */
#define BUS_ADDRESS_BITS 40

/* Memory pressure ends an allocation here and never a process elsewhere. */
#define PAGE_FLAGS (GFP_USER | __GFP_ZERO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

struct presil_pages {
	size_t count;
	bool write_combined;
	struct page *page[];
};

static void free_first(struct presil_pages *pages, size_t count)
{
	while (count--)
		__free_page(pages->page[count]);
	kvfree(pages);
}

static struct page *alloc_reachable_page(void)
{
	struct page *page = alloc_page(PAGE_FLAGS);

	if (page && page_to_phys(page) >> BUS_ADDRESS_BITS) {
		__free_page(page);
		return NULL;
	}
	return page;
}

struct presil_pages *presil_pages_alloc(size_t count, bool write_combined)
{
	struct presil_pages *pages;
	size_t i;

	if (!count || count > INT_MAX)
		return NULL;
	pages = kvmalloc(struct_size(pages, page, count), GFP_KERNEL | __GFP_NOWARN);
	if (!pages)
		return NULL;
	pages->count = count;
	pages->write_combined = write_combined;
	for (i = 0; i < count; i++) {
		pages->page[i] = alloc_reachable_page();
		if (!pages->page[i] || fatal_signal_pending(current)) {
			free_first(pages, i + !!pages->page[i]);
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
		kvfree(pages);
		return;
	}
	free_first(pages, pages->count);
}

u64 presil_page_frame(const struct presil_pages *pages, size_t index)
{
	return index < pages->count ? page_to_pfn(pages->page[index]) : 0;
}

u64 presil_pages_load(const struct presil_pages *pages, size_t offset)
{
	size_t index = offset >> PAGE_SHIFT;

	if (index >= pages->count || !IS_ALIGNED(offset, sizeof(u64)))
		return 0;
	return smp_load_acquire((u64 *)(page_address(pages->page[index]) + offset_in_page(offset)));
}
