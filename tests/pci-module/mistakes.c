// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Makes every mistake of a list, one after the other, to see that the driver checker
 * finds each by its rule; before that, all the same things as they are right.
 *
 * What is written to the parameter `make` is "right" or "wrong"; `list` is what then
 * was done: a line each of rule, how often it finds that, and name.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include "mistakes.h"

#define BAR_REGISTERS 0
#define BAR_VRAM 1
#define DMA_BITS 40

static const struct mistake *const all[] = { table_mistakes, ring_mistakes, register_mistakes };
static struct gpu *the_gpu;

static int make_all(struct gpu *gpu, bool wrong)
{
	const struct mistake *one;
	size_t n;

	for (n = 0; n < ARRAY_SIZE(all); n++) {
		for (one = all[n]; one->name; one++) {
			int error = one->make(gpu, wrong);

			if (error) {
				dev_err(&gpu->pci->dev, "%s: %d\n", one->name, error);
				return error;
			}
		}
	}
	begin(gpu, 0);
	return 0;
}

static int set_make(const char *value, const struct kernel_param *param)
{
	if (!the_gpu)
		return -ENODEV;
	if (sysfs_streq(value, "right"))
		return make_all(the_gpu, false);
	if (sysfs_streq(value, "wrong"))
		return make_all(the_gpu, true);
	return -EINVAL;
}

static const struct kernel_param_ops make_ops = { .set = set_make };
module_param_cb(make, &make_ops, NULL, 0200);
MODULE_PARM_DESC(make, "right or wrong: do all of it so");

static int get_list(char *buffer, const struct kernel_param *param)
{
	const struct mistake *one;
	int length = 0;
	size_t n;

	for (n = 0; n < ARRAY_SIZE(all); n++)
		for (one = all[n]; one->name; one++)
			length += scnprintf(buffer + length, PAGE_SIZE - length, "%u %u %s\n",
					    one->rule, one->found, one->name);
	return length;
}

static const struct kernel_param_ops list_ops = { .get = get_list };
module_param_cb(list, &list_ops, NULL, 0444);
MODULE_PARM_DESC(list, "the mistakes: rule, how often it finds it, name");

static irqreturn_t on_interrupt(int irq, void *data)
{
	return IRQ_HANDLED; /* who waits for it looks */
}

static int probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct gpu *gpu = devm_kzalloc(&pci->dev, sizeof(*gpu), GFP_KERNEL);
	int error;

	if (!gpu)
		return -ENOMEM;
	gpu->pci = pci;
	pci_set_drvdata(pci, gpu);
	error = pcim_enable_device(pci);
	if (error)
		return error;
	error = dma_set_mask_and_coherent(&pci->dev, DMA_BIT_MASK(DMA_BITS));
	if (error)
		return error;
	gpu->registers = pcim_iomap(pci, BAR_REGISTERS, 0);
	gpu->vram = devm_ioremap_wc(&pci->dev, pci_resource_start(pci, BAR_VRAM),
				    pci_resource_len(pci, BAR_VRAM));
	gpu->page = dmam_alloc_coherent(&pci->dev, PAGE_SIZE, &gpu->bus, GFP_KERNEL);
	if (!gpu->registers || !gpu->vram || !gpu->page)
		return -ENOMEM;
	pci_set_master(pci);
	if (pci_alloc_irq_vectors(pci, 1, 1, PCI_IRQ_MSI) < 0)
		return -ENOSPC;
	error = request_irq(pci_irq_vector(pci, 0), on_interrupt, 0, KBUILD_MODNAME, gpu);
	if (error) {
		pci_free_irq_vectors(pci);
		return error;
	}
	the_gpu = gpu;
	return 0;
}

static void remove(struct pci_dev *pci)
{
	struct gpu *gpu = pci_get_drvdata(pci);

	the_gpu = NULL;
	set(gpu, RING0 + RING_ADDRESS, 0);
	close_interrupts(gpu);
	free_irq(pci_irq_vector(pci, 0), gpu);
	pci_free_irq_vectors(pci);
	pci_clear_master(pci);
}

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(0x1d17, 0x3d00) },
	{ PCI_DEVICE(0x6766, 0x3d00) },
	{}
};
MODULE_DEVICE_TABLE(pci, ids);

static struct pci_driver mistakes_driver = {
	.name = KBUILD_MODNAME,
	.id_table = ids,
	.probe = probe,
	.remove = remove,
};
module_pci_driver(mistakes_driver);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Mistakes in the use of an e3k GPU");
