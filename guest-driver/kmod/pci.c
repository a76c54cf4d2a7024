// SPDX-License-Identifier: MIT OR GPL-2.0
/* The PCI driver: BAR0 has the registers, BAR1 VRAM (hardware reference 1). */
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <drm/drm_drv.h>
#include "presil.h"

#define REGISTERS_BAR 0
#define VRAM_BAR 1
#define REGISTER_LOST 0xffffffff	/* what a function reads that is not there */

struct presil_function {
	struct presil_device presil;
	struct pci_dev *pdev;
	spinlock_t latching;	/* the status words, and `awake` */
	bool awake;		/* its registers can be reached */
	void __iomem *registers;
	u64 registers_bytes;
};

static int access_one(const struct presil_function *function, struct presil_op *op)
{
	void __iomem *at = function->registers + op->offset;

	if (op->offset >= function->registers_bytes ||
	    op->bytes > function->registers_bytes - op->offset)
		return -EIO;
	switch (op->bytes) {
	case sizeof(u8):
		if (op->write)
			writeb(op->value, at);
		else
			op->value = readb(at);
		return 0;
	case sizeof(u32):
		if (op->write)
			writel(op->value, at);
		else
			op->value = readl(at);
		return 0;
	default:
		return -EIO;
	}
}

static int access(struct presil_device *presil, struct presil_op *ops, size_t count)
{
	const struct presil_function *function =
		container_of(presil, struct presil_function, presil);
	size_t i;
	int ret;

	for (i = 0; i < count; i++) {
		ret = access_one(function, &ops[i]);
		if (ret) {
			dev_err(&function->pdev->dev, "%u bytes at register %#x of %#llx\n",
				ops[i].bytes, ops[i].offset, function->registers_bytes);
			return ret;
		}
	}
	return 0;
}

static void synchronize(struct presil_device *presil)
{
	struct presil_function *function = container_of(presil, struct presil_function, presil);

	synchronize_irq(pci_irq_vector(function->pdev, 0));
}

/*
 * The write latches both status words and acknowledges them (hardware reference
 * 7.1). False if they say nothing, or the function is not there: `answers` tells
 * one from the other.
 */
static bool latch(struct presil_function *function, bool *answers)
{
	unsigned long flags;
	u32 biu, advanced;
	u64 before;
	bool any = false;

	*answers = false;
	spin_lock_irqsave(&function->latching, flags);
	/* An access to a function in D3 or in reset is an error on the bus. */
	if (!function->awake)
		goto unlock;
	before = presil_fence_memory(&function->presil);
	writel(0, function->registers + presil_rs_shadows[0]);
	biu = readl(function->registers + presil_rs_shadows[0]);
	advanced = readl(function->registers + presil_rs_shadows[1]);
	*answers = biu != REGISTER_LOST || advanced != REGISTER_LOST;
	any = *answers && (biu || advanced);
	if (any)
		presil_interrupt(&function->presil, before, biu, advanced);
unlock:
	spin_unlock_irqrestore(&function->latching, flags);
	return any;
}

/* What an interrupt line shared with others may cause from here on. */
static void set_awake(struct presil_function *function, bool awake)
{
	unsigned long flags;

	spin_lock_irqsave(&function->latching, flags);
	function->awake = awake;
	spin_unlock_irqrestore(&function->latching, flags);
}

static void set_dma(struct presil_device *presil, bool on)
{
	struct presil_function *function = container_of(presil, struct presil_function, presil);

	if (on)
		pci_set_master(function->pdev);
	else
		pci_clear_master(function->pdev);
}

/* A function that does not answer may have had an error: nothing is judged then. */
static bool deliver(struct presil_device *presil)
{
	bool answers;

	latch(container_of(presil, struct presil_function, presil), &answers);
	return answers;
}

static const struct presil_transport transport = {
	.access = access,
	.synchronize = synchronize,
	.set_dma = set_dma,
	.deliver = deliver,
};

static irqreturn_t handle_interrupt(int irq, void *context)
{
	struct presil_function *function = context;
	bool answers;

	/* An INTx line is shared: it may be another function's, also while this one is in reset. */
	return latch(function, &answers) || function->pdev->msi_enabled ? IRQ_HANDLED : IRQ_NONE;
}

static int map_bars(struct presil_function *function, struct presil_board *board)
{
	struct pci_dev *pdev = function->pdev;
	int ret;

	ret = pcim_request_region(pdev, REGISTERS_BAR, "presil-registers");
	if (ret)
		return ret;
	function->registers = pcim_iomap(pdev, REGISTERS_BAR, 0);
	if (!function->registers)
		return -ENOMEM;
	function->registers_bytes = pci_resource_len(pdev, REGISTERS_BAR);
	if (function->registers_bytes <= presil_rs_shadows[1]) {
		dev_err(&pdev->dev, "BAR%d, the registers, has only %#llx bytes\n", REGISTERS_BAR,
			function->registers_bytes);
		return -ENODEV;
	}
	board->vendor_id = pdev->vendor;
	board->device_id = pdev->device;
	board->visible_bytes = pci_resource_len(pdev, VRAM_BAR);
	if (!board->visible_bytes) {
		dev_err(&pdev->dev, "BAR%d, the VRAM window, has no address\n", VRAM_BAR);
		return -ENODEV;
	}
	return presil_map_window(&function->presil, pci_resource_start(pdev, VRAM_BAR), board);
}

/* From here on the function may interrupt. What it did before, it does not to memory. */
static int enable(struct presil_function *function)
{
	struct pci_dev *pdev = function->pdev;
	int ret;

	/* A kernel that crashed may have left it at work. */
	pci_clear_master(pdev);
	set_awake(function, true);
	ret = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI | PCI_IRQ_INTX);
	if (ret < 0) {
		dev_err(&pdev->dev, "neither MSI nor INTx: %d\n", ret);
		return ret;
	}
	ret = pci_request_irq(pdev, 0, handle_interrupt, NULL, function, "presil");
	if (ret) {
		pci_free_irq_vectors(pdev);
		return ret;
	}
	return 0;
}

static void disable(struct presil_function *function)
{
	struct pci_dev *pdev = function->pdev;

	pci_clear_master(pdev);
	pci_free_irq(pdev, 0, function);
	pci_free_irq_vectors(pdev);
}

static int presil_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct presil_function *function;
	struct presil_board board = {};
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(PRESIL_BUS_ADDRESS_BITS));
	if (ret)
		return ret;
	function = devm_drm_dev_alloc(&pdev->dev, &presil_driver, struct presil_function,
				      presil.drm);
	if (IS_ERR(function))
		return PTR_ERR(function);
	function->pdev = pdev;
	spin_lock_init(&function->latching);
	pci_set_drvdata(pdev, function);
	ret = presil_init(&function->presil, &transport, &pdev->dev);
	if (ret)
		return ret;
	ret = map_bars(function, &board);
	if (ret)
		return ret;
	ret = enable(function);
	if (ret)
		return ret;
	ret = presil_start(&function->presil, &board);
	if (ret) {
		disable(function);
		return ret;
	}
	/* With power/control on auto it sleeps now, until its node is opened. */
	pm_runtime_put(&pdev->dev);
	return 0;
}

static void presil_remove(struct pci_dev *pdev)
{
	struct presil_function *function = pci_get_drvdata(pdev);

	pm_runtime_get_noresume(&pdev->dev);
	presil_stop(&function->presil);
	disable(function);
}

/* No sleep comes any more: the kernel has woken the function for this. */
static void shut_down(struct pci_dev *pdev)
{
	struct presil_function *function = pci_get_drvdata(pdev);

	presil_shut_down(&function->presil);
	set_awake(function, false);
}

/* The lock is held over a reset: users wait for its end. */
static void reset_prepare(struct pci_dev *pdev)
{
	struct presil_function *function = pci_get_drvdata(pdev);

	mutex_lock(&function->presil.lock);
	/* What is unfinished then, the reset ends. */
	presil_suspend(&function->presil);
	set_awake(function, false);
}

static void reset_done(struct pci_dev *pdev)
{
	struct presil_function *function = pci_get_drvdata(pdev);

	set_awake(function, true);
	presil_resume(&function->presil);
	mutex_unlock(&function->presil.lock);
}

static const struct pci_error_handlers reset_handlers = {
	.reset_prepare = reset_prepare,
	.reset_done = reset_done,
};

/* Nobody has the node open, so what remains is work of buffers that are closed. */
static int runtime_suspend(struct device *dev)
{
	struct presil_function *function = dev_get_drvdata(dev);
	int ret;

	mutex_lock(&function->presil.lock);
	ret = presil_suspend(&function->presil);
	if (!ret)
		set_awake(function, false);
	mutex_unlock(&function->presil.lock);
	return ret ? -EBUSY : 0;
}

static int runtime_resume(struct device *dev)
{
	struct presil_function *function = dev_get_drvdata(dev);
	int ret;

	mutex_lock(&function->presil.lock);
	set_awake(function, true);
	ret = presil_resume(&function->presil);
	mutex_unlock(&function->presil.lock);
	return ret;
}

/* VRAM may lose its power with the machine, and nothing here could save it. */
static int refuse_sleep(struct device *dev)
{
	dev_err(dev, "suspending is not supported\n");
	return -EBUSY;
}

static const struct dev_pm_ops power = {
	.suspend = refuse_sleep,
	.freeze = refuse_sleep,
	RUNTIME_PM_OPS(runtime_suspend, runtime_resume, NULL)
};

/* The chips of the family (hardware reference 1.1). */
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
	{ }
};
MODULE_DEVICE_TABLE(pci, ids);

struct pci_driver presil_pci_driver = {
	.name = "presil",
	.id_table = ids,
	.probe = presil_probe,
	.remove = presil_remove,
	.shutdown = shut_down,
	.err_handler = &reset_handlers,
	.driver.pm = &power,
};
