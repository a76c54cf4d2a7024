#include "decode.h"
#include <stdbool.h>
#include <string.h>

struct prefixes {
	bool p66, f2, f3, p67;
	char segment;
	uint8_t rex;
};

/* Returns how many bytes are prefixes. */
static size_t prefixes(const uint8_t *code, size_t len, struct prefixes *p)
{
	size_t i;

	memset(p, 0, sizeof(*p));
	for (i = 0; i < len; i++) {
		switch (code[i]) {
		case 0x66: p->p66 = true; break;
		case 0x67: p->p67 = true; break;
		case 0xf2: p->f2 = true; break;
		case 0xf3: p->f3 = true; break;
		case 0x64: p->segment = 'f'; break;
		case 0x65: p->segment = 'g'; break;
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0xf0: break;
		default:
			if ((code[i] & 0xf0) == 0x40)
				p->rex = code[i++];
			return i;
		}
	}
	return i;
}

/* The memory operand of the ModRM byte at `code`; false if it is cut short. */
static bool memory(const uint8_t *code, size_t len, const struct prefixes *p, struct operand *o)
{
	size_t i = 0;
	uint8_t modrm, mod, rm;

	memset(o, 0, sizeof(*o));
	o->base = o->index = NO_REGISTER;
	o->segment = p->segment;
	o->short_address = p->p67;
	if (i >= len)
		return false;
	modrm = code[i++];
	mod = modrm >> 6;
	rm = modrm & 7;
	if (rm == 4) {
		uint8_t sib, index;

		if (i >= len)
			return false;
		sib = code[i++];
		index = (sib >> 3 & 7) | (p->rex & 2) << 2;
		o->scale = sib >> 6;
		if (index != 4)
			o->index = index;
		if ((sib & 7) == 5 && mod == 0)
			mod = 2;
		else
			o->base = (sib & 7) | (p->rex & 1) << 3;
	} else if (rm == 5 && mod == 0) {
		o->relative = 1;
		mod = 2;
	} else {
		o->base = rm | (p->rex & 1) << 3;
	}
	if (mod == 1) {
		if (i >= len)
			return false;
		o->displacement = (int8_t)code[i];
	} else if (mod == 2) {
		if (i + 4 > len)
			return false;
		memcpy(&o->displacement, code + i, 4);
	}
	return true;
}

/* 0f ae: clflush /7, 66 clflushopt /7, 66 clwb /6; registers and other prefixes are others. */
static enum kind group_15(const uint8_t *code, size_t len, const struct prefixes *p,
			  struct operand *operand)
{
	uint8_t reg;

	if (!len || code[0] >> 6 == 3 || p->f2 || p->f3)
		return OTHER;
	reg = code[0] >> 3 & 7;
	if (reg != 7 && !(reg == 6 && p->p66))
		return OTHER;
	if (!memory(code, len, p, operand))
		return OTHER;
	return reg == 7 ? CLFLUSH : CLWB;
}

/* Opcodes behind 0f that matter also behind a VEX prefix. */
static enum kind store_past(uint8_t opcode)
{
	return opcode == 0xe7 || opcode == 0x2b ? NON_TEMPORAL : OTHER;
}

enum kind decode(const uint8_t *code, size_t len, struct operand *operand)
{
	struct prefixes p;
	size_t i = prefixes(code, len, &p);

	code += i;
	len -= i;
	if (len >= 3 && code[0] == 0xc5)
		return store_past(code[2]);
	if (len >= 4 && code[0] == 0xc4 && (code[1] & 0x1f) == 1)
		return store_past(code[3]);
	if (len < 2 || code[0] != 0x0f)
		return OTHER;
	switch (code[1]) {
	case 0x08: case 0x09:
		return WBINVD;
	case 0x22:
		return MAPPINGS;
	case 0x30:
		return WRMSR;
	case 0xc3:
		return NON_TEMPORAL; /* movnti */
	case 0x01: /* /7 in memory: invlpg */
		return len > 2 && code[2] >> 6 != 3 && (code[2] >> 3 & 7) == 7 ? MAPPINGS : OTHER;
	case 0x38: /* 66 0f 38 82: invpcid */
		return len > 2 && p.p66 && code[2] == 0x82 ? MAPPINGS : OTHER;
	case 0xae:
		return group_15(code + 2, len - 2, &p, operand);
	default:
		return store_past(code[1]);
	}
}
