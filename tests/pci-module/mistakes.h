/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A driver that makes mistakes on purpose, one at a time: each is what a driver of this
 * chip may do wrong, beside the same thing done right.
 */
#ifndef MISTAKES_H
#define MISTAKES_H

#include <linux/bits.h>
#include <linux/io.h>
#include <linux/pci.h>

/* Registers. */
#define ENGINE_RESET 0x08524
#define ADVANCED_RAW 0x08548
#define ADVANCED_ENABLE 0x0854c
#define BIU_SHADOW 0x08574
#define ADVANCED_SHADOW 0x08578
#define CLOCK_GATES 0x08a01 /* a byte */
#define ADAPTER_CONTROL 0x08aa0 /* a byte */
#define MEM_CHANNELS 0x0d374
#define TOP_BUSY 0x30000
#define RING0 0x3001c
#define RING9 0x30620
#define RING_ADDRESS 0x0
#define RING_SIZE 0x4
#define RING_HEAD 0x8
#define RING_TAIL 0xc
#define MMU_MODE 0x49004
#define PT_INV_ADDR 0x49018
#define PT_INV_MASK 0x4901c
#define PT_INV_TRIG 0x49020
#define TTBR 0x50000
#define POWER_STATE 0x8e000
#define POWER_REQUEST 0x8e080

#define INTERRUPT_ENABLE BIT(0)
#define CSP_TIMEOUT BIT(16) /* a ring has halted */
#define FENCE_INTERRUPT BIT(27)
#define KICKOFF BIT(31)
#define VA_MODE BIT(0)
#define UTLB (1u << 5)
#define DTLB (2u << 5)
#define RESET_ALL 0x1
#define RESET_3D 0x3c
#define RESET_VIDEO 0x180
#define RESET_ENGINES 0x1fc

/* Where things are in VRAM; the ring and what is called or fenced has these addresses in
 * the GPU's address space of process 0, too. */
#define RING 0x100000u
#define RING_BYTES 0x10000u
#define FENCE 0x120000u
#define BUFFER 0x130000u
#define OTHER_RING 0x140000u
#define SURFACE 0x200000u
#define PAGE_A 0x300000u
#define PAGE_B 0x400000u
#define TABLES 0x800000u
#define TABLES_END 0x900000u

/* Two pages of a process, not in one line of the shared TLB. */
#define VA 0x4000000u
#define NEXT (VA + 0x10000)

/* Page-table entries. */
#define ENTRY_VALID BIT(0)
#define ENTRY_SNOOP BIT(2)
#define ENTRY_LOCAL BIT(3)
#define IN_VRAM(offset) (ENTRY_VALID | ENTRY_LOCAL | (offset) >> 12 << 4)
#define IN_RAM(address, snoop) (ENTRY_VALID | (snoop) | (u32)((address) >> 12) << 4)

/* Packets. */
#define CALL(dwords) (1u << 28 | (dwords))
#define WAIT(slot, value) (2u << 28 | (slot) << 22 | (value))
#define SET(block, word, count) (4u << 28 | (block) << 23 | (word) << 10 | (count))
#define INTERNAL_FENCE(slot) (8u << 28 | (slot) << 7 | 1)
#define EXTERNAL_FENCE(route) (8u << 28 | (route) << 24 | 3 << 5 | 4)
#define FENCE_IRQ (1u << 3)
#define INDICATOR(info, process) (9u << 28 | (info) << 17 | (process) << 13 | 1)
#define INFO_3D 3u
#define INFO_OFF 0u
#define BLOCK_FF 6u
#define BLOCK_MMU 18u
#define ROUTE_COLOUR 2u
#define ROUTE_NONE 0u
#define NO_PACKET 0xa0000000u
#define DRAW 0x70000000u /* which the model does not have */
#define SKIP 0u

struct gpu {
	struct pci_dev *pci;
	void __iomem *registers;
	void __iomem *vram;
	void *page; /* of the machine's memory, coherent */
	dma_addr_t bus;
	u32 mode; /* MMU_MODE with the size of VRAM */
	u32 tables; /* the next free page for one */
	u32 tail; /* of ring 0 */
	u32 count; /* dwords in `packets` */
	u32 packets[256];
};

struct mistake {
	const char *name;
	u32 rule;
	/* How often the rule finds it. */
	u32 found;
	/* Does it, or what is right; what could not be done is an error. */
	int (*make)(struct gpu *gpu, bool wrong);
};

extern const struct mistake table_mistakes[], ring_mistakes[], register_mistakes[];

static inline void set(struct gpu *gpu, u32 reg, u32 value)
{
	writel(value, gpu->registers + reg);
}

static inline u32 get(struct gpu *gpu, u32 reg)
{
	return readl(gpu->registers + reg);
}

static inline void poke(struct gpu *gpu, u32 offset, u32 value)
{
	writel(value, gpu->vram + offset);
}

static inline u32 peek(struct gpu *gpu, u32 offset)
{
	return readl(gpu->vram + offset);
}

void start_ring(struct gpu *gpu, u32 ring, u32 at, u32 bytes);
void reset_engines(struct gpu *gpu, u32 units);
/* All is set up anew: the ring runs and is empty, in PA mode or in VA mode. */
void begin(struct gpu *gpu, u32 va_mode);
void open_interrupts(struct gpu *gpu, u32 sources);
void close_interrupts(struct gpu *gpu);

u32 new_table(struct gpu *gpu);
/* The place in VRAM of the entry of this level, 2 or 3. */
u32 entry_at(struct gpu *gpu, u32 process, u32 va, u32 level);
void map(struct gpu *gpu, u32 process, u32 va, u32 entry);
void invalidate(struct gpu *gpu, u32 process, u32 va, u32 mask, u32 target);

void emit(struct gpu *gpu, const u32 *dwords, size_t count);
#define EMIT(gpu, ...)                                  \
	do {                                            \
		const u32 _packet[] = { __VA_ARGS__ };  \
		emit(gpu, _packet, ARRAY_SIZE(_packet)); \
	} while (0)

void emit_surface(struct gpu *gpu, u32 n, u32 at);
void emit_copy(struct gpu *gpu);
void emit_fill(struct gpu *gpu, u32 at);
void emit_fence(struct gpu *gpu, u32 at, u32 value, u32 flags);
/* What was emitted goes to VRAM at this offset; says how many dwords. */
u32 put_buffer(struct gpu *gpu, u32 offset);
/* What was emitted goes to the ring, and Tail behind it. */
void queue(struct gpu *gpu);
/* Until nothing moves any more; a ring may have halted. */
int settle(struct gpu *gpu);
/* Both. */
int submit(struct gpu *gpu);
/* A process fills one pixel. */
int write_as(struct gpu *gpu, u32 process, u32 va);

#endif
