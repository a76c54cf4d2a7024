// SPDX-License-Identifier: MIT OR GPL-2.0
/* Rings, packets and fences. */
#include "mistakes.h"

/* What was emitted, in PA mode, between two Indicators. */
static int submission(struct gpu *gpu)
{
	u32 count = gpu->count;

	BUG_ON(count + 4 > ARRAY_SIZE(gpu->packets));
	memmove(gpu->packets + 2, gpu->packets, count * sizeof(*gpu->packets));
	gpu->packets[0] = INDICATOR(INFO_3D, 0);
	gpu->packets[1] = 1;
	gpu->count += 2;
	EMIT(gpu, INDICATOR(INFO_OFF, 0), 1);
	return submit(gpu);
}

static int fence_goes_back(struct gpu *gpu, bool wrong)
{
	int error;

	begin(gpu, 0);
	emit_fence(gpu, FENCE, 5, 0);
	error = submission(gpu);
	emit_fence(gpu, FENCE, wrong ? 4 : 6, 0);
	return error ?: submission(gpu);
}

static int fence_before_its_copy(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	emit_surface(gpu, 0, SURFACE);
	emit_surface(gpu, 1, PAGE_A);
	emit_copy(gpu);
	EMIT(gpu, EXTERNAL_FENCE(wrong ? ROUTE_NONE : ROUTE_COLOUR), FENCE, 0, 1, 0);
	return submission(gpu);
}

static int work_behind_the_fence(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	emit_fence(gpu, FENCE, 1, 0);
	emit_fill(gpu, SURFACE);
	if (!wrong)
		emit_fence(gpu, FENCE, 2, 0);
	return submission(gpu);
}

static int wait_for_nothing(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	EMIT(gpu, INTERNAL_FENCE(9), 0x10, WAIT(9u, wrong ? 0x11u : 0x10u));
	return submission(gpu);
}

static int fence_of_two_rings(struct gpu *gpu, bool wrong)
{
	int error;

	begin(gpu, 0);
	emit_fence(gpu, wrong ? FENCE : FENCE + 8, 9, 0);
	put_buffer(gpu, OTHER_RING);
	start_ring(gpu, RING9, OTHER_RING, 0x1000);
	emit_fence(gpu, FENCE, 1, 0);
	error = submission(gpu);
	set(gpu, RING9 + RING_TAIL, 5 * 4);
	error = error ?: settle(gpu);
	set(gpu, RING9 + RING_ADDRESS, 0);
	return error;
}

static int fence_without_memory(struct gpu *gpu, bool wrong)
{
	begin(gpu, VA_MODE);
	if (!wrong)
		map(gpu, 0, VA, IN_VRAM(FENCE));
	emit_fence(gpu, VA, 1, 0);
	return submission(gpu);
}

static int half_a_packet(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	EMIT(gpu, EXTERNAL_FENCE(ROUTE_COLOUR), FENCE);
	if (!wrong)
		EMIT(gpu, 0, 1, 0);
	return submit(gpu);
}

/* A buffer with a fence is called. */
static int call(struct gpu *gpu, u32 dwords)
{
	begin(gpu, 0);
	emit_fence(gpu, FENCE, 1, 0);
	put_buffer(gpu, BUFFER);
	EMIT(gpu, CALL(dwords), BUFFER, 0);
	return submission(gpu);
}

static int call_of_half_a_packet(struct gpu *gpu, bool wrong)
{
	return call(gpu, wrong ? 4 : 5);
}

static int call_of_nothing(struct gpu *gpu, bool wrong)
{
	return call(gpu, wrong ? 0 : 5);
}

static int no_packet(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	EMIT(gpu, wrong ? NO_PACKET : SKIP);
	return submit(gpu);
}

static int crooked_tail(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	set(gpu, RING0 + RING_TAIL, wrong ? 6 : 8);
	return settle(gpu);
}

static int call_without_memory(struct gpu *gpu, bool wrong)
{
	begin(gpu, VA_MODE);
	if (!wrong)
		map(gpu, 1, BUFFER, IN_VRAM(BUFFER));
	EMIT(gpu, INDICATOR(INFO_3D, 1), 1);
	EMIT(gpu, CALL(1u), BUFFER, 0);
	EMIT(gpu, INDICATOR(INFO_OFF, 0), 1);
	return submit(gpu);
}

static int moved_ring(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	if (!wrong)
		set(gpu, RING0 + RING_ADDRESS, RING >> 12);
	set(gpu, RING0 + RING_SIZE, RING_BYTES / 2);
	if (!wrong)
		set(gpu, RING0 + RING_ADDRESS, RING >> 12 | KICKOFF);
	return 0;
}

static int work_for_a_halted_ring(struct gpu *gpu, bool wrong)
{
	int error;

	begin(gpu, 0);
	open_interrupts(gpu, CSP_TIMEOUT);
	EMIT(gpu, DRAW);
	error = submit(gpu);
	set(gpu, BIU_SHADOW, 0);
	if (!(get(gpu, ADVANCED_SHADOW) & CSP_TIMEOUT))
		error = error ?: -EIO;
	if (!wrong)
		begin(gpu, 0);
	emit_fence(gpu, FENCE, 1, 0);
	queue(gpu);
	if (!wrong)
		error = error ?: settle(gpu);
	close_interrupts(gpu);
	return error;
}

static int work_for_a_stopped_ring(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	if (wrong)
		set(gpu, RING0 + RING_ADDRESS, RING >> 12);
	set(gpu, RING0 + RING_TAIL, 4); /* while it is stopped, this may be set-up */
	set(gpu, RING0 + RING_TAIL, 8);
	return settle(gpu);
}

static int surfaces_of_another(struct gpu *gpu, bool wrong)
{
	int error;

	begin(gpu, 0);
	emit_surface(gpu, 0, SURFACE);
	emit_surface(gpu, 1, PAGE_A);
	emit_copy(gpu);
	error = submission(gpu);
	emit_surface(gpu, 0, SURFACE);
	if (!wrong)
		emit_surface(gpu, 1, PAGE_A);
	emit_copy(gpu);
	return error ?: submission(gpu);
}

static int work_without_a_clock(struct gpu *gpu, bool wrong)
{
	int error;

	begin(gpu, 0);
	writeb(wrong ? 0x0f : 0x1f, gpu->registers + CLOCK_GATES);
	EMIT(gpu, SKIP);
	error = submit(gpu);
	writeb(0x1f, gpu->registers + CLOCK_GATES);
	return error;
}

const struct mistake ring_mistakes[] = {
	{ "a fence goes back", 50001, 1, fence_goes_back },
	{ "a fence does not wait for its copy", 50002, 1, fence_before_its_copy },
	{ "work stands behind the last fence", 50003, 1, work_behind_the_fence },
	{ "a Wait is for a value that nobody writes", 50004, 1, wait_for_nothing },
	{ "two rings have one fence", 50006, 1, fence_of_two_rings },
	{ "a fence's page is not mapped", 50007, 1, fence_without_memory },
	{ "Tail is on half a packet", 60001, 1, half_a_packet },
	{ "a call's length cuts a packet", 60002, 1, call_of_half_a_packet },
	{ "a packet does not exist", 60003, 1, no_packet },
	{ "Tail is no multiple of four", 60004, 1, crooked_tail },
	{ "a called buffer is not mapped", 60005, 1, call_without_memory },
	{ "a ring's size changes while it runs", 60006, 1, moved_ring },
	{ "a halted ring is given work", 60008, 1, work_for_a_halted_ring },
	{ "a stopped ring is given work", 60010, 1, work_for_a_stopped_ring },
	{ "a copy uses another submission's source", 60011, 1, surfaces_of_another },
	{ "a called buffer is empty", 60012, 1, call_of_nothing },
	{ "an engine works without its clock", 60013, 1, work_without_a_clock },
	{}
};
