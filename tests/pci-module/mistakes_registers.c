// SPDX-License-Identifier: MIT OR GPL-2.0
/* Registers, interrupts, resets. */
#include "mistakes.h"

static int read_only(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	set(gpu, wrong ? TOP_BUSY : MMU_MODE, gpu->mode);
	return 0;
}

static int reserved_bit(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	set(gpu, MMU_MODE, gpu->mode | (wrong ? BIT(1) : 0));
	return 0;
}

static int half_a_register(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	if (wrong)
		writew(gpu->mode, gpu->registers + MMU_MODE);
	else
		set(gpu, MMU_MODE, gpu->mode);
	return 0;
}

/* Fences that interrupt; the handler is here, the kernel's does nothing. */
static int interrupted(struct gpu *gpu, u32 count, bool acknowledge, bool look)
{
	int error = 0;
	u32 n;

	begin(gpu, 0);
	open_interrupts(gpu, FENCE_INTERRUPT);
	for (n = 1; n <= count && !error; n++) {
		emit_fence(gpu, FENCE, n, FENCE_IRQ);
		error = submit(gpu);
		if (acknowledge)
			set(gpu, BIU_SHADOW, 0);
		if (look && !(get(gpu, ADVANCED_SHADOW) & FENCE_INTERRUPT))
			error = -EIO;
	}
	return error;
}

static int never_acknowledged(struct gpu *gpu, bool wrong)
{
	int error = interrupted(gpu, 66, !wrong, !wrong);

	/* As long as the driver is there it may still come to it. */
	error = error ?: pci_reset_function(gpu->pci);
	close_interrupts(gpu);
	return error;
}

static int never_looked_at(struct gpu *gpu, bool wrong)
{
	int error = interrupted(gpu, 2, true, !wrong);

	close_interrupts(gpu);
	return error;
}

/* What function-level resets take. */
static int lost_mode(struct gpu *gpu, bool wrong)
{
	int error;

	begin(gpu, VA_MODE);
	error = pci_reset_function(gpu->pci);
	if (!wrong)
		set(gpu, MMU_MODE, gpu->mode & ~VA_MODE);
	start_ring(gpu, RING0, RING, RING_BYTES);
	set(gpu, RING0 + RING_TAIL, 4);
	return error ?: settle(gpu);
}

static int lost_enables(struct gpu *gpu, bool wrong)
{
	int error;

	open_interrupts(gpu, FENCE_INTERRUPT);
	error = pci_reset_function(gpu->pci);
	begin(gpu, 0);
	if (!wrong)
		open_interrupts(gpu, FENCE_INTERRUPT);
	emit_fence(gpu, FENCE, 1, FENCE_IRQ);
	error = error ?: submit(gpu);
	error = error ?: pci_reset_function(gpu->pci);
	close_interrupts(gpu);
	return error;
}

static int invalidation_in_reset(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	set(gpu, ENGINE_RESET, wrong ? RESET_ALL : RESET_3D);
	invalidate(gpu, 0, 0, 0, DTLB);
	set(gpu, ENGINE_RESET, 0);
	return 0;
}

static int ring_in_reset(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	set(gpu, ENGINE_RESET, wrong ? RESET_3D : RESET_VIDEO);
	set(gpu, RING0 + RING_SIZE, RING_BYTES);
	set(gpu, ENGINE_RESET, 0);
	return 0;
}

static int lost_ring(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	reset_engines(gpu, wrong ? RESET_3D : RESET_VIDEO);
	set(gpu, RING0 + RING_TAIL, 4);
	return settle(gpu);
}

static int endless_poll(struct gpu *gpu, bool wrong)
{
	u32 n;

	begin(gpu, 0);
	for (n = 0; n < (wrong ? 100000 : 1000); n++)
		get(gpu, TOP_BUSY);
	return 0;
}

static int no_power_state(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	set(gpu, POWER_STATE, wrong ? 0x11 : 0x44);
	set(gpu, POWER_REQUEST, 1);
	return 0;
}

static int no_bus_master(struct gpu *gpu, bool wrong)
{
	int error;

	begin(gpu, VA_MODE);
	map(gpu, 1, VA, IN_RAM(gpu->bus, ENTRY_SNOOP));
	if (wrong)
		pci_clear_master(gpu->pci);
	error = write_as(gpu, 1, VA);
	pci_set_master(gpu->pci);
	return error;
}

const struct mistake register_mistakes[] = {
	{ "a read-only register is written", 70001, 1, read_only },
	{ "a reserved bit is set", 70002, 1, reserved_bit },
	{ "half a register is written", 70003, 1, half_a_register },
	{ "an interrupt is never acknowledged", 70005, 1, never_acknowledged },
	{ "an interrupt is never looked at", 70006, 1, never_looked_at },
	{ "a reset takes the mode, and nobody writes it", 70007, 1, lost_mode },
	{ "an invalidation comes while all is in reset", 70008, 1, invalidation_in_reset },
	{ "a ring is written while its engine is in reset", 70009, 1, ring_in_reset },
	{ "a reset takes the ring, and nobody sets it up", 70010, 1, lost_ring },
	{ "a register is polled for ever", 70011, 1, endless_poll },
	{ "a power state does not exist", 70012, 1, no_power_state },
	{ "a reset takes the enables, and nobody writes them", 70014, 1, lost_enables },
	{ "work is left when bus mastering goes", 70016, 1, no_bus_master },
	{}
};
