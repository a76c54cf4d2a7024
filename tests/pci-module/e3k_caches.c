// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What drivers do right and wrong with the CPU's caches of unsnooped memory: each case has
 * 64 KiB of its own, which the GPU reads or writes past the caches. The log says where each
 * case is, as "caches: NAME at ADDRESS"; the driver checker has to say which were wrong.
 */
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vmalloc.h>
#include <asm/cacheflush.h>
#include <asm/set_memory.h>
#include <asm/smp.h>

#define MEM_READY 0x0d370
#define MEM_READY_VALUE 0xdeadbeaf
#define MEM_CHANNELS 0x0d374
#define RING_ADDRESS 0x3001c
#define RING_SIZE 0x30020
#define RING_HEAD 0x30024
#define RING_TAIL 0x30028
#define RING_KICKOFF BIT(31)
#define MMU_MODE 0x49004 /* bit 0 clear: PA mode */
#define VIDEO_SIZE_UNIT (256ull << 20)
#define TTBR 0x50000

/* Where things are in VRAM. */
#define RING 0x100000
#define RING_BYTES 0x1000
#define FENCE 0x101000
#define LOCAL 0x300000
#define L2_AT 0x400000
#define L3_AT 0x401000

#define BYTES 0x10000
#define PAGES (BYTES >> PAGE_SHIFT)
#define RAM_AT 0x40000000u /* GPU address of the first case: behind VRAM */
#define VALID 1u
#define IN_VRAM 8u

#define INDICATOR(info) (9u << 28 | (info) << 17 | 1)
#define BLOCK_FF 6u
#define SET_FF(word, count) (4u << 28 | BLOCK_FF << 23 | (word) << 10 | (count))
#define COPY (9u << 28 | BLOCK_FF << 23 | 2 << 16 | 2 << 14 | 2 << 12 | 3)
#define FENCE_64 (8u << 28 | 2 << 24 | 3 << 5 | 4)
#define B8G8R8A8 89
#define ENABLED_2D 0x20003d
#define WIDTH 1024u
#define HEIGHT (BYTES / 4 / WIDTH)

struct gpu {
	struct pci_dev *pci;
	void __iomem *registers;
	void __iomem *vram;
	u32 tail;
	u64 fence;
};

/* A case: pages that the kernel maps write-back, and where the GPU sees them. */
struct part {
	struct page *pages;
	u32 *at;
	u32 va;
};

/* Has the GPU copy BYTES, and waits for it. */
static int copy(struct gpu *gpu, u32 to, u32 from)
{
	const u64 fence = gpu->fence + 1;
	const u32 packets[] = {
		INDICATOR(3u), 1,
		SET_FF(0x18, 3), to >> 8, 1, 1,
		SET_FF(0x30, 3), B8G8R8A8, WIDTH | HEIGHT << 15, ENABLED_2D,
		SET_FF(0x1b, 3), from >> 8, 1, 1,
		SET_FF(0x33, 3), B8G8R8A8, WIDTH | HEIGHT << 15, ENABLED_2D,
		COPY, (WIDTH - 1) << 16, (HEIGHT - 1) << 16, 0,
		FENCE_64, FENCE, 0, lower_32_bits(fence), upper_32_bits(fence),
		INDICATOR(0u), 1, 0, 0, 0,
	};
	u64 done;

	BUILD_BUG_ON(sizeof(packets) % 16);
	if (gpu->tail + sizeof(packets) >= RING_BYTES)
		return -ENOSPC;
	memcpy_toio(gpu->vram + RING + gpu->tail, packets, sizeof(packets));
	gpu->tail += sizeof(packets);
	gpu->fence = fence;
	readl(gpu->vram + RING); /* the packets are in VRAM before the doorbell rings */
	writel(gpu->tail, gpu->registers + RING_TAIL);
	return read_poll_timeout(readq, done, done == fence, 1000, 10 * USEC_PER_SEC, false,
				 gpu->vram + FENCE);
}

static int gpu_reads(struct gpu *gpu, struct part *part)
{
	return copy(gpu, LOCAL, part->va);
}

static int gpu_writes(struct gpu *gpu, struct part *part)
{
	return copy(gpu, part->va, LOCAL);
}

static void fill(u32 *at)
{
	u32 i;

	for (i = 0; i < BYTES / 4; i++)
		WRITE_ONCE(at[i], i);
}

/* The first page: the checker lists only so many. */
static void cpu_reads(u32 *at)
{
	u32 i;

	for (i = 0; i < PAGE_SIZE / 4; i++)
		READ_ONCE(at[i]);
}

static void flush(struct part *part)
{
	clflush_cache_range(part->at, BYTES);
}

static void flush_line(struct part *part, u32 offset)
{
	asm volatile("clflush %0" : "+m"(*((u8 *)part->at + offset)));
}

/* Stores through a write-combined mapping beside the kernel's own. */
static int fill_combined(struct part *part)
{
	struct page *list[PAGES];
	void *alias;
	u32 i;

	for (i = 0; i < PAGES; i++)
		list[i] = part->pages + i;
	alias = vmap(list, PAGES, VM_MAP, pgprot_writecombine(PAGE_KERNEL));
	if (!alias)
		return -ENOMEM;
	fill(alias);
	wmb();
	vunmap(alias);
	return 0;
}

static int not_flushed(struct gpu *gpu, struct part *part)
{
	fill(part->at);
	return gpu_reads(gpu, part);
}

static int flushed(struct gpu *gpu, struct part *part)
{
	fill(part->at);
	flush(part);
	return gpu_reads(gpu, part);
}

static int made_combined(struct gpu *gpu, struct part *part)
{
	int error;

	fill(part->at);
	error = set_memory_wc((unsigned long)part->at, PAGES);
	if (error)
		return error;
	fill(part->at);
	wmb();
	error = gpu_reads(gpu, part);
	set_memory_wb((unsigned long)part->at, PAGES);
	return error;
}

static int one_line_left(struct gpu *gpu, struct part *part)
{
	u32 offset;

	fill(part->at);
	for (offset = 0; offset < BYTES; offset += 64)
		if (offset != 5 * 64)
			flush_line(part, offset);
	return gpu_reads(gpu, part);
}

static int alias_not_flushed(struct gpu *gpu, struct part *part)
{
	memset(part->at, 0, BYTES);
	return fill_combined(part) ?: gpu_reads(gpu, part);
}

static int alias_flushed_late(struct gpu *gpu, struct part *part)
{
	int error;

	memset(part->at, 0, BYTES);
	error = fill_combined(part);
	flush(part);
	return error ?: gpu_reads(gpu, part);
}

static int non_temporal(struct gpu *gpu, struct part *part)
{
	u64 *at = (u64 *)part->at;
	u32 i;

	flush(part);
	for (i = 0; i < BYTES / 8; i++)
		asm volatile("movnti %1, %0" : "=m"(at[i]) : "r"((u64)i));
	wmb();
	return gpu_reads(gpu, part);
}

static int eight_bytes_more(struct gpu *gpu, struct part *part)
{
	fill(part->at);
	flush(part);
	WRITE_ONCE(*(u64 *)(part->at + BYTES / 4 - 4), 0);
	return gpu_reads(gpu, part);
}

static int written_under_dirty(struct gpu *gpu, struct part *part)
{
	int error;

	fill(part->at);
	error = gpu_writes(gpu, part);
	cpu_reads(part->at);
	return error;
}

static int dirty_flushed_over(struct gpu *gpu, struct part *part)
{
	int error;

	fill(part->at);
	error = gpu_writes(gpu, part);
	flush(part);
	cpu_reads(part->at);
	return error;
}

static int flushed_before_write(struct gpu *gpu, struct part *part)
{
	int error;

	fill(part->at);
	flush(part);
	error = gpu_writes(gpu, part);
	cpu_reads(part->at);
	return error;
}

static int held_clean(struct gpu *gpu, struct part *part)
{
	int error;

	flush(part);
	cpu_reads(part->at);
	error = gpu_writes(gpu, part);
	cpu_reads(part->at);
	return error;
}

static int all_written_back(struct gpu *gpu, struct part *part)
{
	fill(part->at);
	wbinvd_on_all_cpus();
	return gpu_reads(gpu, part);
}

static const struct {
	const char *name;
	int (*run)(struct gpu *gpu, struct part *part);
} cases[] = {
	{ "not-flushed", not_flushed },
	{ "flushed", flushed },
	{ "made-combined", made_combined },
	{ "one-line-left", one_line_left },
	{ "alias-not-flushed", alias_not_flushed },
	{ "alias-flushed-late", alias_flushed_late },
	{ "non-temporal", non_temporal },
	{ "eight-bytes-more", eight_bytes_more },
	{ "written-under-dirty", written_under_dirty },
	{ "dirty-flushed-over", dirty_flushed_over },
	{ "flushed-before-write", flushed_before_write },
	{ "held-clean", held_clean },
	{ "all-written-back", all_written_back },
};

/* Maps the pages of a case: unsnooped, where nothing was mapped before. */
static void bind(struct gpu *gpu, struct part *part)
{
	u32 first = (part->va - RAM_AT) >> PAGE_SHIFT, i;
	u64 at = page_to_phys(part->pages) >> PAGE_SHIFT;

	for (i = 0; i < PAGES; i++)
		writel((u32)(at + i) << 4 | VALID, gpu->vram + L3_AT + 4 * (first + i));
	readl(gpu->vram + L3_AT);
}

/* The pages are kept until the module goes: each case has its own. */
static struct part parts[ARRAY_SIZE(cases)];

static int run(struct gpu *gpu)
{
	int error = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(cases) && !error; i++) {
		struct part *part = &parts[i];

		part->pages = alloc_pages(GFP_KERNEL, get_order(BYTES));
		if (!part->pages)
			return -ENOMEM;
		part->at = page_address(part->pages);
		part->va = RAM_AT + i * BYTES;
		pr_info("caches: %s at %#llx\n", cases[i].name, (u64)page_to_phys(part->pages));
		bind(gpu, part);
		error = cases[i].run(gpu, part);
	}
	return error;
}

static int begin(struct gpu *gpu)
{
	u32 ready, channels;
	int error = readl_poll_timeout(gpu->registers + MEM_READY, ready,
				       ready == MEM_READY_VALUE, 100, 1000 * 1000);
	u64 vram;

	if (error)
		return error;
	channels = readl(gpu->registers + MEM_CHANNELS);
	vram = (u64)(channels >> 4 & 0xf) * (channels & 0xf) << 30;
	if (vram != RAM_AT)
		return dev_err_probe(&gpu->pci->dev, -ENODEV, "needs 1 GiB of VRAM\n");
	writel((u32)(vram / VIDEO_SIZE_UNIT - 1) << 8, gpu->registers + MMU_MODE);
	memset_io(gpu->vram + L2_AT, 0, 2 * PAGE_SIZE);
	writel((L3_AT >> 12) << 4 | IN_VRAM | VALID, gpu->vram + L2_AT + 4 * (RAM_AT >> 22));
	readl(gpu->vram + L2_AT);
	writel((L2_AT >> 12) << 4 | IN_VRAM | VALID, gpu->registers + TTBR);
	memset_io(gpu->vram + RING, 0, RING_BYTES);
	writeq(0, gpu->vram + FENCE);
	writel(RING >> 12, gpu->registers + RING_ADDRESS);
	writel(RING_BYTES, gpu->registers + RING_SIZE);
	writel(0, gpu->registers + RING_HEAD);
	writel(0, gpu->registers + RING_TAIL);
	writel(RING >> 12 | RING_KICKOFF, gpu->registers + RING_ADDRESS);
	return 0;
}

static int probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct gpu *gpu = devm_kzalloc(&pci->dev, sizeof(*gpu), GFP_KERNEL);
	int error;

	if (!gpu)
		return -ENOMEM;
	gpu->pci = pci;
	error = pcim_enable_device(pci);
	if (error)
		return error;
	gpu->registers = pcim_iomap(pci, 0, 0);
	gpu->vram = devm_ioremap_wc(&pci->dev, pci_resource_start(pci, 1), pci_resource_len(pci, 1));
	if (!gpu->registers || !gpu->vram)
		return -ENOMEM;
	pci_set_master(pci);
	error = begin(gpu) ?: run(gpu);
	writel(0, gpu->registers + RING_ADDRESS);
	pci_clear_master(pci);
	if (error)
		return dev_err_probe(&pci->dev, error, "a case cannot be made\n");
	pr_info("caches: all made\n");
	return 0;
}

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(0x6766, 0x3d00) },
	{ PCI_DEVICE(0x6766, 0x3d02) },
	{ PCI_DEVICE(0x6766, 0x3d03) },
	{ PCI_DEVICE(0x6766, 0x3d04) },
	{ PCI_DEVICE(0x6766, 0x3d06) },
	{ PCI_DEVICE(0x6766, 0x3d07) },
	{ PCI_DEVICE(0x6766, 0x3d08) },
	{ PCI_DEVICE(0x6766, 0x3d0e) },
	{ PCI_DEVICE(0x1d17, 0x3d00) },
	{}
};
MODULE_DEVICE_TABLE(pci, ids);

static struct pci_driver caches_driver = {
	.name = KBUILD_MODNAME,
	.id_table = ids,
	.probe = probe,
};

static int __init caches_init(void)
{
	return pci_register_driver(&caches_driver);
}

static void __exit caches_exit(void)
{
	u32 i;

	pci_unregister_driver(&caches_driver);
	for (i = 0; i < ARRAY_SIZE(parts); i++)
		if (parts[i].pages)
			__free_pages(parts[i].pages, get_order(BYTES));
}

module_init(caches_init);
module_exit(caches_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Right and wrong ways with the CPU's caches of an e3k GPU's memory");
