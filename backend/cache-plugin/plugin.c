/*
 * A plugin for QEMU's TCG that follows the CPUs' caches for presil's driver checker
 * (docs/checker.md): which bytes of RAM have been stored through a write-back mapping and not
 * flushed since. It knows a mapping's memory type from the guest's page tables and PAT.
 *
 *   -plugin cache-plugin.so,lines=FILE[,loads=on]
 *
 * Without `lines` it does nothing: so one sees whether a QEMU takes it.
 */
#include "decode.h"
#include "lines.h"
#include "qemu_plugin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = PLUGIN_VERSION;

enum {
	PAGE = 4096,
	GENERAL = 16,
	/* Memory types of a PAT entry (Intel SDM 3A, 12.12.2). */
	WRITE_THROUGH = 4,
	WRITE_PROTECTED = 5,
	WRITE_BACK = 6,
	UNKNOWN = 8,
	TRANSLATIONS = 4096, /* of each CPU that are remembered */
};
#define PAT_AT_RESET 0x0007040600070406ull
#define MSR_PAT 0x277
#define CR0_PAGING (1ull << 31)
#define CR4_FIVE_LEVELS (1ull << 12)
#define EFER_LONG (1ull << 10)

struct translation {
	uint64_t page; /* virtual, plus one; 0: none */
	uint64_t generation;
	uint64_t at; /* physical */
	uint32_t type;
	bool ram;
};

struct vcpu {
	struct translation translations[TRANSLATIONS];
	uint64_t generation; /* those of others are forgotten */
	uint64_t pat;
	struct qemu_plugin_register *general[GENERAL];
	struct qemu_plugin_register *cr0, *cr3, *cr4, *efer, *fs_base, *gs_base;
	struct byte_array *buffer;
};

static struct vcpu **vcpus; /* by number; NULL: it has not begun */
static unsigned int vcpu_count;
static bool loads;

static struct vcpu *vcpu_of(unsigned int number)
{
	return number < vcpu_count ? vcpus[number] : NULL;
}

static uint64_t value(struct vcpu *cpu, struct qemu_plugin_register *from)
{
	uint64_t out = 0;

	g_byte_array_set_size(cpu->buffer, 0);
	if (from && qemu_plugin_read_register(from, cpu->buffer))
		memcpy(&out, cpu->buffer->data,
		       cpu->buffer->len < sizeof(out) ? cpu->buffer->len : sizeof(out));
	return out;
}

static void on_vcpu(unsigned int number, void *data)
{
	static const char *const names[GENERAL] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
	};
	struct qemu_plugin_reg_descriptor *registers;
	struct array *all;
	struct vcpu *cpu;
	unsigned int i, k;

	if (number >= vcpu_count || vcpus[number])
		return;
	cpu = calloc(1, sizeof(*cpu));
	all = qemu_plugin_get_registers();
	if (!cpu || !all) {
		fprintf(stderr, "presil's cache plugin: CPU %u is not followed\n", number);
		return;
	}
	registers = (void *)all->data;
	for (i = 0; i < all->len; i++) {
		const struct {
			const char *name;
			struct qemu_plugin_register **to;
		} others[] = {
			{ "cr0", &cpu->cr0 }, { "cr3", &cpu->cr3 }, { "cr4", &cpu->cr4 },
			{ "efer", &cpu->efer }, { "fs_base", &cpu->fs_base },
			{ "gs_base", &cpu->gs_base },
		};

		for (k = 0; k < GENERAL; k++)
			if (!strcmp(registers[i].name, names[k]))
				cpu->general[k] = registers[i].handle;
		for (k = 0; k < sizeof(others) / sizeof(*others); k++)
			if (!strcmp(registers[i].name, others[k].name))
				*others[k].to = registers[i].handle;
	}
	cpu->pat = PAT_AT_RESET;
	cpu->generation = 1;
	cpu->buffer = g_byte_array_new();
	__atomic_store_n(&vcpus[number], cpu, __ATOMIC_RELEASE);
}

/* The memory type of a mapping, by the tables of 64-bit mode; RAM's MTRRs say write-back. */
static uint32_t memory_type(struct vcpu *cpu, uint64_t vaddr)
{
	const uint64_t address = 0x000ffffffffff000ull;
	uint64_t table, entry;
	unsigned int shift, index;

	if (!(value(cpu, cpu->cr0) & CR0_PAGING))
		return WRITE_BACK;
	if (!(value(cpu, cpu->efer) & EFER_LONG))
		return UNKNOWN;
	table = value(cpu, cpu->cr3) & address;
	shift = value(cpu, cpu->cr4) & CR4_FIVE_LEVELS ? 48 : 39;
	for (;; shift -= 9) {
		uint64_t at = table + (vaddr >> shift & 511) * sizeof(entry);

		g_byte_array_set_size(cpu->buffer, 0);
		if (qemu_plugin_read_memory_hwaddr(at, cpu->buffer, sizeof(entry)))
			return UNKNOWN;
		memcpy(&entry, cpu->buffer->data, sizeof(entry));
		if (!(entry & 1))
			return UNKNOWN;
		if (shift == 12 || (shift < 39 && entry & 0x80))
			break;
		table = entry & address;
	}
	index = (entry >> 3 & 3) | (entry >> (shift == 12 ? 7 : 12) & 1) << 2;
	return cpu->pat >> (8 * index) & 7;
}

static struct translation *translate(struct vcpu *cpu, qemu_plugin_meminfo_t info, uint64_t vaddr)
{
	uint64_t page = vaddr / PAGE;
	struct translation *known = &cpu->translations[page % TRANSLATIONS];
	struct qemu_plugin_hwaddr *at;

	if (known->page == page + 1 && known->generation == cpu->generation)
		return known;
	at = qemu_plugin_get_hwaddr(info, vaddr);
	if (!at)
		return NULL;
	known->page = page + 1;
	known->generation = cpu->generation;
	known->at = qemu_plugin_hwaddr_phys_addr(at) & ~(uint64_t)(PAGE - 1);
	known->ram = !qemu_plugin_hwaddr_is_io(at);
	known->type = known->ram ? memory_type(cpu, vaddr) : UNKNOWN;
	return known;
}

/* An access inside one line. */
static void on_part(struct vcpu *cpu, qemu_plugin_meminfo_t info, uint64_t vaddr,
		    unsigned int bytes, bool past)
{
	struct translation *to = translate(cpu, info, vaddr);
	uint64_t at;

	if (!to || !to->ram)
		return;
	at = to->at | vaddr % PAGE;
	if (to->type == WRITE_BACK && !qemu_plugin_mem_is_store(info))
		lines_load(at, bytes);
	else if (to->type == WRITE_BACK && past)
		lines_store_past(at, bytes);
	else if (to->type == WRITE_BACK)
		lines_store(at, bytes);
	else if (to->type < WRITE_THROUGH || to->type == 7)
		lines_store_combined(at, bytes);
}

static void on_access(unsigned int number, qemu_plugin_meminfo_t info, uint64_t vaddr, void *past)
{
	unsigned int bytes = 1u << qemu_plugin_mem_size_shift(info), first = 64 - vaddr % 64;
	struct vcpu *cpu = vcpu_of(number);

	if (!cpu || bytes > 64)
		return;
	if (bytes <= first) {
		on_part(cpu, info, vaddr, bytes, past);
	} else {
		on_part(cpu, info, vaddr, first, past);
		on_part(cpu, info, vaddr + first, bytes - first, past);
	}
}

/*
 * What a flush's callback is told, in the 64 bits that it gets: an operand, or the address of
 * one that is relative to the instruction.
 */
struct told {
	uint64_t write_back : 1, fixed : 1, base : 5, index : 5, scale : 2, fs : 1, gs : 1,
		short_address : 1, unused : 15, displacement : 32;
};

static void *tell(struct qemu_plugin_insn *insn, size_t len, const struct operand *operand,
		  bool write_back)
{
	struct told told = { .write_back = write_back, .base = operand->base,
			     .index = operand->index, .scale = operand->scale,
			     .fs = operand->segment == 'f', .gs = operand->segment == 'g',
			     .short_address = operand->short_address,
			     .displacement = (uint32_t)operand->displacement };
	uint64_t out = 0;

	if (operand->relative) {
		uint64_t to = qemu_plugin_insn_vaddr(insn) + len + (int64_t)operand->displacement;

		return (void *)(to << 2 | 2 | write_back);
	}
	memcpy(&out, &told, sizeof(out));
	return (void *)out;
}

static void on_flush(unsigned int number, void *data)
{
	struct vcpu *cpu = vcpu_of(number);
	uint64_t raw = (uint64_t)data, vaddr, at;
	struct told told;

	if (!cpu)
		return;
	memcpy(&told, &raw, sizeof(told));
	if (told.fixed) {
		vaddr = (uint64_t)((int64_t)raw >> 2);
	} else {
		vaddr = (int64_t)(int32_t)told.displacement;
		if (told.base < GENERAL)
			vaddr += value(cpu, cpu->general[told.base]);
		if (told.index < GENERAL)
			vaddr += value(cpu, cpu->general[told.index]) << told.scale;
		if (told.short_address)
			vaddr = (uint32_t)vaddr;
		if (told.fs)
			vaddr += value(cpu, cpu->fs_base);
		if (told.gs)
			vaddr += value(cpu, cpu->gs_base);
	}
	if (!qemu_plugin_translate_vaddr(vaddr, &at))
		return; /* it faults */
	if (told.write_back)
		lines_write_back(at);
	else
		lines_flush(at);
}

static void on_flush_all(unsigned int number, void *data)
{
	lines_flush_all();
}

static void on_mappings(unsigned int number, void *data)
{
	struct vcpu *cpu = vcpu_of(number);

	if (cpu)
		cpu->generation++;
}

static void on_wrmsr(unsigned int number, void *data)
{
	struct vcpu *cpu = vcpu_of(number);

	if (!cpu || (uint32_t)value(cpu, cpu->general[1]) != MSR_PAT)
		return;
	cpu->pat = (uint32_t)value(cpu, cpu->general[0]) | value(cpu, cpu->general[2]) << 32;
	cpu->generation++;
}

static void on_translation(struct qemu_plugin_tb *tb, void *data)
{
	enum qemu_plugin_mem_rw accesses = loads ? QEMU_PLUGIN_MEM_RW : QEMU_PLUGIN_MEM_W;
	size_t i, count = qemu_plugin_tb_n_insns(tb);

	for (i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		struct operand operand;
		uint8_t code[16];
		size_t len = qemu_plugin_insn_data(insn, code, sizeof(code));
		enum kind kind = decode(code, len, &operand);

		switch (kind) {
		case CLFLUSH:
		case CLWB:
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, on_flush, QEMU_PLUGIN_CB_R_REGS,
				tell(insn, len, &operand, kind == CLWB));
			break;
		case WBINVD:
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_flush_all,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
			break;
		case MAPPINGS:
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mappings,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
			break;
		case WRMSR:
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_wrmsr,
							       QEMU_PLUGIN_CB_R_REGS, NULL);
			break;
		default:
			break;
		}
		qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_R_REGS, accesses,
						 (void *)(uintptr_t)(kind == NON_TEMPORAL));
	}
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
				 char **argv)
{
	const char *path = NULL;
	int i;

	if (info->version.cur != PLUGIN_VERSION || !info->system_emulation ||
	    strcmp(info->target_name, "x86_64")) {
		fprintf(stderr, "presil's cache plugin: for qemu-system-x86_64 with plugins of version %d\n",
			PLUGIN_VERSION);
		return 1;
	}
	for (i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "lines=", 6)) {
			path = argv[i] + 6;
		} else if (!strcmp(argv[i], "loads=on")) {
			loads = true;
		} else {
			fprintf(stderr, "presil's cache plugin: %s is no option\n", argv[i]);
			return 1;
		}
	}
	if (!path)
		return 0;
	vcpu_count = info->max_vcpus > 0 ? info->max_vcpus : 0;
	vcpus = calloc(vcpu_count, sizeof(*vcpus));
	if (!vcpus || !lines_open(path, loads))
		return 1;
	qemu_plugin_register_vcpu_init_cb(id, on_vcpu, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation, NULL);
	return 0;
}
