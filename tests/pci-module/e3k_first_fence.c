// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The smallest driver that gets a fence out of the chip, written from docs/
 * alone (pci-function.md, registers.md, programming.md): it identifies the GPU, puts
 * ring 0 into VRAM in PA mode, has it fill and copy, and waits for the interrupt
 * of the fence behind that. The probe fails unless all of it works.
 */
#include <linux/bits.h>
#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/pci.h>

#define BAR_REGISTERS 0
#define BAR_VRAM 1
#define DMA_BITS 40

#define ADVANCED_ENABLE 0x0854c
#define ADVANCED_FENCE BIT(27)
#define ADVANCED_CSP_TIMEOUT BIT(16) /* the ring was halted */
#define BIU_SHADOW 0x08574
#define ADVANCED_SHADOW 0x08578
#define ADAPTER_CONTROL 0x08aa0 /* a byte */
#define INTERRUPT_ENABLE BIT(0)
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

/* Where things are in VRAM. */
#define RING 0x100000
#define RING_BYTES 0x1000
#define FENCE 0x101000
#define FILLED 0x200000
#define COPIED 0x300000
#define BYTES 0x10000

#define PATTERN 0xa5c35a3cu
#define FENCE_VALUE 0x123456789abcdef0ull

/* Packets. */
#define INDICATOR(info) (9u << 28 | (info) << 17 | 1)
#define INFO_3D 3u
#define INFO_OFF 0u
#define SLICES 1
#define BLOCK_FF 6u
#define SET_FF(word, count) (4u << 28 | BLOCK_FF << 23 | (word) << 10 | (count))
#define FILL (9u << 28 | BLOCK_FF << 23 | 1 << 16 | 2 << 14 | 2 << 12 | 2)
#define COPY (9u << 28 | BLOCK_FF << 23 | 2 << 16 | 2 << 14 | 2 << 12 | 3)
#define FENCE_64_IRQ (8u << 28 | 2 << 24 | 3 << 5 | 1 << 3 | 4)
#define SURFACE_ADDRESS(n) (0x18u + 3 * (n))
#define SURFACE_CONTROL(n) (0x30u + 3 * (n))
#define B8G8R8A8 89
#define ENABLED_2D 0x20003d
#define CLEAR_COLOUR 0xc8u
#define WIDTH 1024u
#define HEIGHT (BYTES / 4 / WIDTH)

static uint first_dword;
module_param(first_dword, uint, 0444);
MODULE_PARM_DESC(first_dword, "a dword before the packets, to see what a bad one does");

static bool leave_running;
module_param(leave_running, bool, 0444);
MODULE_PARM_DESC(leave_running, "a removal leaves the ring started, to see that somebody notices");

struct gpu {
	struct pci_dev *pci;
	void __iomem *registers;
	void __iomem *vram;
	struct completion fence;
	u32 sources; /* of interrupts so far, the advanced word */
	u32 *next; /* packet dword to write */
	u32 packets[RING_BYTES / 4];
};

static void emit(struct gpu *gpu, const u32 *dwords, size_t count)
{
	memcpy(gpu->next, dwords, count * sizeof(*dwords));
	gpu->next += count;
}

#define EMIT(gpu, ...)                                                  \
	do {                                                            \
		const u32 dwords[] = { __VA_ARGS__ };                   \
		emit(gpu, dwords, ARRAY_SIZE(dwords));                  \
	} while (0)

static void emit_surface(struct gpu *gpu, u32 n, u32 offset)
{
	EMIT(gpu, SET_FF(SURFACE_ADDRESS(n), 3), offset >> 8, 1, 1);
	EMIT(gpu, SET_FF(SURFACE_CONTROL(n), 3), B8G8R8A8, WIDTH | HEIGHT << 15, ENABLED_2D);
}

/* Fill, copy, fence; returns how many bytes of the ring that takes. */
static u32 emit_work(struct gpu *gpu)
{
	gpu->next = gpu->packets;
	EMIT(gpu, first_dword); /* 0 does nothing */
	EMIT(gpu, INDICATOR(INFO_3D), SLICES);
	emit_surface(gpu, 0, FILLED);
	EMIT(gpu, SET_FF(SURFACE_CONTROL(1) + 2, 1), 0); /* a fill has no source */
	EMIT(gpu, SET_FF(CLEAR_COLOUR, 4), PATTERN, PATTERN, PATTERN, PATTERN);
	EMIT(gpu, FILL, (WIDTH - 1) << 16, (HEIGHT - 1) << 16);
	emit_surface(gpu, 0, COPIED);
	emit_surface(gpu, 1, FILLED);
	EMIT(gpu, COPY, (WIDTH - 1) << 16, (HEIGHT - 1) << 16, 0);
	EMIT(gpu, FENCE_64_IRQ, FENCE, 0, lower_32_bits(FENCE_VALUE), upper_32_bits(FENCE_VALUE));
	EMIT(gpu, INDICATOR(INFO_OFF), SLICES);
	while ((gpu->next - gpu->packets) % 16)
		EMIT(gpu, 0);
	return (gpu->next - gpu->packets) * sizeof(*gpu->packets);
}

static irqreturn_t on_interrupt(int irq, void *data)
{
	struct gpu *gpu = data;
	u32 sources;

	writel(0, gpu->registers + BIU_SHADOW); /* latch and acknowledge */
	sources = readl(gpu->registers + ADVANCED_SHADOW);
	gpu->sources |= sources;
	if (sources & (ADVANCED_FENCE | ADVANCED_CSP_TIMEOUT))
		complete(&gpu->fence);
	return sources ? IRQ_HANDLED : IRQ_NONE;
}

static void gate_interrupts(struct gpu *gpu, bool open)
{
	u8 control = readb(gpu->registers + ADAPTER_CONTROL) & ~INTERRUPT_ENABLE;

	writel(open ? ADVANCED_FENCE | ADVANCED_CSP_TIMEOUT : 0, gpu->registers + ADVANCED_ENABLE);
	writeb(control | (open ? INTERRUPT_ENABLE : 0), gpu->registers + ADAPTER_CONTROL);
	writel(0, gpu->registers + BIU_SHADOW);
}

static int identify(struct gpu *gpu)
{
	u64 vram;
	u32 value, channels;
	int error = readl_poll_timeout(gpu->registers + MEM_READY, value,
				       value == MEM_READY_VALUE, 100, 1000 * 1000);

	if (error)
		return dev_err_probe(&gpu->pci->dev, error, "VRAM is not ready: %#x\n", value);
	channels = readl(gpu->registers + MEM_CHANNELS);
	vram = (u64)(channels >> 4 & 0xf) * (channels & 0xf) << 30;
	if (!vram)
		return dev_err_probe(&gpu->pci->dev, -ENODEV, "no VRAM: %#x\n", channels);
	dev_info(&gpu->pci->dev, "device %04x: %llu MiB of VRAM, %llu MiB visible\n",
		 gpu->pci->device, vram >> 20, pci_resource_len(gpu->pci, BAR_VRAM) >> 20);
	writel((u32)(vram / VIDEO_SIZE_UNIT - 1) << 8, gpu->registers + MMU_MODE);
	return 0;
}

static void start_ring(struct gpu *gpu)
{
	writel(RING >> 12, gpu->registers + RING_ADDRESS);
	writel(RING_BYTES, gpu->registers + RING_SIZE);
	writel(0, gpu->registers + RING_HEAD);
	writel(0, gpu->registers + RING_TAIL);
	writel(RING >> 12 | RING_KICKOFF, gpu->registers + RING_ADDRESS);
}

static void stop(struct gpu *gpu)
{
	writel(0, gpu->registers + RING_ADDRESS);
	gate_interrupts(gpu, false);
}

/* Offset of the first dword that is not `expected`, or -1. */
static long find_other(struct gpu *gpu, u32 start, u32 expected)
{
	u32 offset;

	for (offset = 0; offset < BYTES; offset += 4)
		if (readl(gpu->vram + start + offset) != expected)
			return offset;
	return -1;
}

static int check(struct gpu *gpu)
{
	struct device *dev = &gpu->pci->dev;
	u64 fence = readq(gpu->vram + FENCE);
	long filled = find_other(gpu, FILLED, PATTERN);
	long copied = find_other(gpu, COPIED, PATTERN);

	if (fence != FENCE_VALUE)
		return dev_err_probe(dev, -EIO, "the fence holds %#llx\n", fence);
	if (filled >= 0)
		return dev_err_probe(dev, -EIO, "the fill is wrong at +%#lx\n", filled);
	if (copied >= 0)
		return dev_err_probe(dev, -EIO, "the copy is wrong at +%#lx\n", copied);
	dev_info(dev, "filled and copied %u bytes, fence by interrupt\n", BYTES);
	return 0;
}

static int first_fence(struct gpu *gpu)
{
	u32 bytes = emit_work(gpu);

	writeq(0, gpu->vram + FENCE);
	memset_io(gpu->vram + RING, 0, RING_BYTES);
	memcpy_toio(gpu->vram + RING, gpu->packets, bytes);
	start_ring(gpu);
	readl(gpu->vram + RING); /* the packets are in VRAM before the doorbell rings */
	writel(bytes, gpu->registers + RING_TAIL);
	if (!wait_for_completion_timeout(&gpu->fence, 10 * HZ))
		return dev_err_probe(&gpu->pci->dev, -ETIMEDOUT, "no interrupt, head %#x of %#x\n",
				     readl(gpu->registers + RING_HEAD), bytes);
	if (gpu->sources & ADVANCED_CSP_TIMEOUT)
		return dev_err_probe(&gpu->pci->dev, -EIO, "the ring was halted at %#x\n",
				     readl(gpu->registers + RING_HEAD));
	return check(gpu);
}

static int acquire(struct gpu *gpu)
{
	struct pci_dev *pci = gpu->pci;
	int error = pcim_enable_device(pci);

	if (error)
		return error;
	error = dma_set_mask_and_coherent(&pci->dev, DMA_BIT_MASK(DMA_BITS));
	if (error)
		return error;
	gpu->registers = pcim_iomap(pci, BAR_REGISTERS, 0);
	gpu->vram = devm_ioremap_wc(&pci->dev, pci_resource_start(pci, BAR_VRAM),
				    pci_resource_len(pci, BAR_VRAM));
	if (!gpu->registers || !gpu->vram)
		return dev_err_probe(&pci->dev, -ENOMEM, "the BARs cannot be mapped\n");
	pci_set_master(pci);
	return pci_alloc_irq_vectors(pci, 1, 1, PCI_IRQ_MSI) < 0 ? -ENOSPC : 0;
}

static int probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct gpu *gpu = devm_kzalloc(&pci->dev, sizeof(*gpu), GFP_KERNEL);
	int error;

	if (!gpu)
		return -ENOMEM;
	gpu->pci = pci;
	init_completion(&gpu->fence);
	pci_set_drvdata(pci, gpu);
	error = acquire(gpu);
	if (error)
		return error;
	error = request_irq(pci_irq_vector(pci, 0), on_interrupt, 0, KBUILD_MODNAME, gpu);
	if (error)
		goto no_vectors;
	error = identify(gpu);
	if (error)
		goto no_interrupt;
	gate_interrupts(gpu, true);
	error = first_fence(gpu);
	if (!error)
		return 0;
	stop(gpu);
no_interrupt:
	free_irq(pci_irq_vector(pci, 0), gpu);
no_vectors:
	pci_free_irq_vectors(pci);
	return error;
}

static void remove(struct pci_dev *pci)
{
	struct gpu *gpu = pci_get_drvdata(pci);

	if (!leave_running)
		stop(gpu);
	free_irq(pci_irq_vector(pci, 0), gpu);
	pci_free_irq_vectors(pci);
	pci_clear_master(pci);
}

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(0x1d17, 0x3d00) },
	{ PCI_DEVICE(0x6766, 0x3d00) },
	{ PCI_DEVICE(0x6766, 0x3d02) },
	{ PCI_DEVICE(0x6766, 0x3d03) },
	{ PCI_DEVICE(0x6766, 0x3d04) },
	{ PCI_DEVICE(0x6766, 0x3d06) },
	{ PCI_DEVICE(0x6766, 0x3d07) },
	{ PCI_DEVICE(0x6766, 0x3d08) },
	{ PCI_DEVICE(0x6766, 0x3d0e) },
	{}
};
MODULE_DEVICE_TABLE(pci, ids);

static struct pci_driver first_fence_driver = {
	.name = KBUILD_MODNAME,
	.id_table = ids,
	.probe = probe,
	.remove = remove,
};
module_pci_driver(first_fence_driver);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("A first fence from an e3k GPU");
