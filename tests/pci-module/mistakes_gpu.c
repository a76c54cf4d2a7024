// SPDX-License-Identifier: MIT OR GPL-2.0
/* What a driver of the chip does, as docs/programming.md has it. */
#include <linux/iopoll.h>
#include "mistakes.h"

#define LIMIT_US (60 * 1000 * 1000)
#define PROCESSES 4
#define L1_PER_PROCESS 256
#define B8G8R8A8 89
#define ENABLED_2D 0x20003d
#define SURFACE_ADDRESS(n) (0x18u + 3 * (n))
#define SURFACE_CONTROL(n) (0x30u + 3 * (n))
#define CLEAR_COLOUR 0xc8u
#define FILL_RANGE (9u << 28 | BLOCK_FF << 23 | 1 << 16 | 2 << 14 | 2 << 12 | 2)
#define COPY_RANGE (9u << 28 | BLOCK_FF << 23 | 2 << 16 | 2 << 14 | 2 << 12 | 3)
#define PIXELS 16u

void start_ring(struct gpu *gpu, u32 ring, u32 at, u32 bytes)
{
	set(gpu, ring + RING_ADDRESS, at >> 12);
	set(gpu, ring + RING_SIZE, bytes);
	set(gpu, ring + RING_HEAD, 0);
	set(gpu, ring + RING_TAIL, 0);
	set(gpu, ring + RING_ADDRESS, at >> 12 | KICKOFF);
}

void reset_engines(struct gpu *gpu, u32 units)
{
	set(gpu, ENGINE_RESET, units);
	set(gpu, ENGINE_RESET, 0);
}

void begin(struct gpu *gpu, u32 va_mode)
{
	u32 channels, process, page;

	reset_engines(gpu, RESET_ENGINES);
	set(gpu, BIU_SHADOW, 0); /* no ring has halted */
	channels = get(gpu, MEM_CHANNELS);
	gpu->mode = (4 * (channels >> 4 & 0xf) * (channels & 0xf) - 1) << 8 | va_mode;
	set(gpu, MMU_MODE, gpu->mode);
	memset_io(gpu->vram + RING, 0, RING_BYTES);
	memset_io(gpu->vram + FENCE, 0, PAGE_SIZE);
	memset_io(gpu->vram + BUFFER, 0, PAGE_SIZE);
	for (process = 0; process < PROCESSES; process++)
		set(gpu, TTBR + 4 * L1_PER_PROCESS * process, 0);
	gpu->tables = TABLES;
	for (page = RING; va_mode && page < RING + RING_BYTES; page += PAGE_SIZE)
		map(gpu, 0, page, IN_VRAM(page));
	if (va_mode)
		map(gpu, 0, FENCE, IN_VRAM(FENCE));
	invalidate(gpu, 0, 0, 0, DTLB);
	gpu->tail = 0;
	gpu->count = 0;
	start_ring(gpu, RING0, RING, RING_BYTES);
}

void open_interrupts(struct gpu *gpu, u32 sources)
{
	u8 control = readb(gpu->registers + ADAPTER_CONTROL);

	set(gpu, ADVANCED_ENABLE, sources);
	writeb(control | INTERRUPT_ENABLE, gpu->registers + ADAPTER_CONTROL);
	set(gpu, BIU_SHADOW, 0); /* what was pending is nobody's */
}

void close_interrupts(struct gpu *gpu)
{
	u8 control = readb(gpu->registers + ADAPTER_CONTROL);

	set(gpu, ADVANCED_ENABLE, 0);
	writeb(control & ~INTERRUPT_ENABLE, gpu->registers + ADAPTER_CONTROL);
	set(gpu, BIU_SHADOW, 0);
}

u32 new_table(struct gpu *gpu)
{
	u32 at = gpu->tables;

	BUG_ON(at >= TABLES_END);
	gpu->tables += PAGE_SIZE;
	memset_io(gpu->vram + at, 0, PAGE_SIZE);
	return at;
}

static u32 table_of(u32 entry)
{
	return (entry >> 4 & 0xffffff) << 12;
}

/* All addresses are below 4 GiB: of each process, the first L1 register. */
u32 entry_at(struct gpu *gpu, u32 process, u32 va, u32 level)
{
	u32 l1 = TTBR + 4 * L1_PER_PROCESS * process;
	u32 l2;

	if (!(get(gpu, l1) & ENTRY_VALID))
		set(gpu, l1, IN_VRAM(new_table(gpu)));
	l2 = table_of(get(gpu, l1)) + (va >> 22) * 4;
	if (level == 2)
		return l2;
	if (!(peek(gpu, l2) & ENTRY_VALID))
		poke(gpu, l2, IN_VRAM(new_table(gpu)));
	return table_of(peek(gpu, l2)) + (va >> 12 & 0x3ff) * 4;
}

void map(struct gpu *gpu, u32 process, u32 va, u32 entry)
{
	u32 at = entry_at(gpu, process, va, 3);

	poke(gpu, at, entry);
	peek(gpu, at); /* it is in VRAM before what follows */
}

void invalidate(struct gpu *gpu, u32 process, u32 va, u32 mask, u32 target)
{
	set(gpu, PT_INV_ADDR, process << 28 | va >> 12);
	set(gpu, PT_INV_MASK, mask);
	set(gpu, PT_INV_TRIG, target);
}

void emit(struct gpu *gpu, const u32 *dwords, size_t count)
{
	BUG_ON(gpu->count + count > ARRAY_SIZE(gpu->packets));
	memcpy(gpu->packets + gpu->count, dwords, count * sizeof(*dwords));
	gpu->count += count;
}

void emit_surface(struct gpu *gpu, u32 n, u32 at)
{
	EMIT(gpu, SET(BLOCK_FF, SURFACE_ADDRESS(n), 3), at >> 8, 1, 1);
	EMIT(gpu, SET(BLOCK_FF, SURFACE_CONTROL(n), 3), B8G8R8A8, PIXELS | 1 << 15, ENABLED_2D);
}

void emit_copy(struct gpu *gpu)
{
	EMIT(gpu, COPY_RANGE, (PIXELS - 1) << 16, 0, 0);
}

void emit_fill(struct gpu *gpu, u32 at)
{
	emit_surface(gpu, 0, at);
	EMIT(gpu, SET(BLOCK_FF, SURFACE_CONTROL(1) + 2, 1), 0); /* a fill has no source */
	EMIT(gpu, SET(BLOCK_FF, CLEAR_COLOUR, 4), 7, 7, 7, 7);
	EMIT(gpu, FILL_RANGE, 0, 0);
}

void emit_fence(struct gpu *gpu, u32 at, u32 value, u32 flags)
{
	EMIT(gpu, EXTERNAL_FENCE(ROUTE_COLOUR) | flags, at, 0, value, 0);
}

u32 put_buffer(struct gpu *gpu, u32 offset)
{
	u32 count = gpu->count;

	memcpy_toio(gpu->vram + offset, gpu->packets, count * sizeof(*gpu->packets));
	gpu->count = 0;
	return count;
}

void queue(struct gpu *gpu)
{
	BUG_ON(gpu->tail + gpu->count * sizeof(*gpu->packets) >= RING_BYTES);
	gpu->tail += put_buffer(gpu, RING + gpu->tail) * sizeof(*gpu->packets);
	peek(gpu, RING); /* the packets are in VRAM before the doorbell rings */
	set(gpu, RING0 + RING_TAIL, gpu->tail);
}

static bool moves(struct gpu *gpu)
{
	return get(gpu, TOP_BUSY) && !(get(gpu, ADVANCED_RAW) & CSP_TIMEOUT);
}

int settle(struct gpu *gpu)
{
	bool busy;

	return read_poll_timeout(moves, busy, !busy, 20, LIMIT_US, false, gpu);
}

int submit(struct gpu *gpu)
{
	queue(gpu);
	return settle(gpu);
}

int write_as(struct gpu *gpu, u32 process, u32 va)
{
	EMIT(gpu, INDICATOR(INFO_3D, process), 1);
	emit_fill(gpu, va);
	EMIT(gpu, INDICATOR(INFO_OFF, 0), 1);
	return submit(gpu);
}
