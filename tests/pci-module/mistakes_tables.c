// SPDX-License-Identifier: MIT OR GPL-2.0
/* Page tables, TLBs, attributes of memory, and what processes may do. */
#include "mistakes.h"

#define PROCESS 1u
#define OTHER 2u
#define LINE 0xfffffff0u /* one line of the shared TLB, of one process */
#define WHOLE 0xf0000000u /* all of one process */

/* The process has used two pages. */
static int use(struct gpu *gpu)
{
	int error;

	begin(gpu, VA_MODE);
	map(gpu, PROCESS, VA, IN_VRAM(PAGE_A));
	map(gpu, PROCESS, NEXT, IN_VRAM(PAGE_A + 0x1000));
	error = write_as(gpu, PROCESS, VA);
	return error ?: write_as(gpu, PROCESS, NEXT);
}

static int use_again(struct gpu *gpu)
{
	int error = write_as(gpu, PROCESS, VA);

	return error ?: write_as(gpu, PROCESS, NEXT);
}

static int forgotten_invalidation(struct gpu *gpu, bool wrong)
{
	int error = use(gpu);

	map(gpu, PROCESS, VA, IN_VRAM(PAGE_B));
	if (!wrong)
		invalidate(gpu, PROCESS, VA, LINE, DTLB);
	return error ?: use_again(gpu);
}

static int replaced_table(struct gpu *gpu, bool wrong)
{
	int error = use(gpu);
	u32 table = new_table(gpu);

	poke(gpu, table + (VA >> 12 & 0x3ff) * 4, IN_VRAM(PAGE_B));
	poke(gpu, table + (NEXT >> 12 & 0x3ff) * 4, IN_VRAM(PAGE_A + 0x1000));
	poke(gpu, entry_at(gpu, PROCESS, VA, 2), IN_VRAM(table));
	if (!wrong)
		invalidate(gpu, PROCESS, 0, WHOLE, DTLB);
	return error ?: use_again(gpu);
}

static int wrong_process_id(struct gpu *gpu, bool wrong)
{
	int error = use(gpu);

	map(gpu, PROCESS, VA, IN_VRAM(PAGE_B));
	invalidate(gpu, wrong ? OTHER : PROCESS, VA, LINE, DTLB);
	return error ?: use_again(gpu);
}

static int short_range(struct gpu *gpu, bool wrong)
{
	int error = use(gpu);

	map(gpu, PROCESS, VA, IN_VRAM(PAGE_B));
	map(gpu, PROCESS, NEXT, IN_VRAM(PAGE_B + 0x1000));
	invalidate(gpu, PROCESS, VA, wrong ? LINE : LINE << 1, DTLB);
	return error ?: use_again(gpu);
}

static int reused_process_id(struct gpu *gpu, bool wrong)
{
	int error = use(gpu);

	map(gpu, OTHER, VA, IN_VRAM(PAGE_B));
	map(gpu, OTHER, NEXT, IN_VRAM(PAGE_B + 0x1000));
	set(gpu, TTBR + 0x400 * PROCESS, get(gpu, TTBR + 0x400 * OTHER));
	if (!wrong)
		invalidate(gpu, PROCESS, 0, WHOLE, DTLB);
	return error ?: use_again(gpu);
}

static int invalidation_of_no_tlb(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	invalidate(gpu, 0, 0, 0xfff0, wrong ? 0 : DTLB);
	return 0;
}

static int invalidation_of_two_processes(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	invalidate(gpu, OTHER, 0, WHOLE, DTLB | (wrong ? PROCESS : OTHER));
	return 0;
}

static int invalidation_inside_a_line(struct gpu *gpu, bool wrong)
{
	begin(gpu, 0);
	invalidate(gpu, 0, wrong ? 0x1234000 : 0x1230000, 0x0fffffff, DTLB);
	return 0;
}

static int two_snoop_bits(struct gpu *gpu, bool wrong)
{
	int error;

	begin(gpu, VA_MODE);
	map(gpu, PROCESS, VA, IN_RAM(gpu->bus, ENTRY_SNOOP));
	map(gpu, PROCESS, NEXT, IN_RAM(gpu->bus, wrong ? 0 : ENTRY_SNOOP));
	error = write_as(gpu, PROCESS, VA);
	return error ?: write_as(gpu, PROCESS, NEXT);
}

/* A process runs a buffer. */
static int run(struct gpu *gpu, u32 process, const u32 *buffer, u32 count)
{
	begin(gpu, VA_MODE);
	map(gpu, process, BUFFER, IN_VRAM(BUFFER));
	emit(gpu, buffer, count);
	put_buffer(gpu, BUFFER);
	EMIT(gpu, INDICATOR(INFO_3D, process), 1);
	EMIT(gpu, CALL(count), BUFFER, 0);
	EMIT(gpu, INDICATOR(INFO_OFF, 0), 1);
	return submit(gpu);
}

static int buffer_sets_registers(struct gpu *gpu, bool wrong)
{
	/* The L1 registers of process 4: the kernel may. */
	const u32 buffer[] = { SET(BLOCK_MMU, 0x400, 1), 0 };

	return run(gpu, wrong ? OTHER : 0, buffer, ARRAY_SIZE(buffer));
}

static int buffer_changes_process(struct gpu *gpu, bool wrong)
{
	const u32 buffer[] = { INDICATOR(INFO_3D, wrong ? PROCESS : OTHER), 1 };

	return run(gpu, OTHER, buffer, ARRAY_SIZE(buffer));
}

static int work_without_indicator(struct gpu *gpu, bool wrong)
{
	u32 process;

	begin(gpu, VA_MODE);
	for (process = 0; process < 2; process++)
		map(gpu, process, SURFACE, IN_VRAM(SURFACE));
	if (!wrong)
		return write_as(gpu, PROCESS, SURFACE);
	emit_fill(gpu, SURFACE);
	EMIT(gpu, INDICATOR(INFO_3D, PROCESS), 1);
	EMIT(gpu, INDICATOR(INFO_OFF, 0), 1);
	return submit(gpu);
}

static int process_writes_tables(struct gpu *gpu, bool wrong)
{
	u32 writer = wrong ? PROCESS : 0;
	int error = use(gpu);
	u32 table = entry_at(gpu, PROCESS, VA, 3) & ~0xfffu;

	map(gpu, writer, 2 * VA, IN_VRAM(table));
	return error ?: write_as(gpu, writer, 2 * VA + 0x800);
}

const struct mistake table_mistakes[] = {
	{ "a page is mapped anew and nobody invalidates", 10001, 1, forgotten_invalidation },
	{ "a table is replaced and nobody invalidates", 10002, 1, replaced_table },
	{ "an invalidation is of another process id", 10003, 1, wrong_process_id },
	{ "an invalidation is too short", 10004, 1, short_range },
	{ "a process id is given to another address space", 10005, 2, reused_process_id },
	{ "an invalidation names no TLB", 10020, 1, invalidation_of_no_tlb },
	{ "an invalidation has two process ids", 10021, 1, invalidation_of_two_processes },
	{ "an invalidation begins inside a line", 10022, 1, invalidation_inside_a_line },
	{ "a page of RAM has two snoop bits", 30001, 1, two_snoop_bits },
	{ "a user's buffer sets L1 registers", 40001, 1, buffer_sets_registers },
	{ "a user's buffer becomes another process", 40002, 1, buffer_changes_process },
	{ "work has no Indicator", 40003, 1, work_without_indicator },
	{ "a process writes its own tables", 40004, 1, process_writes_tables },
	{}
};
