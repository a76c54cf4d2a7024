/* Which x86-64 instructions matter to caches and to what is known of mappings. */
#ifndef DECODE_H
#define DECODE_H

#include <stddef.h>
#include <stdint.h>

enum kind {
	OTHER,
	CLFLUSH, /* and clflushopt: memory operand */
	CLWB, /* memory operand */
	WBINVD, /* and invd, wbnoinvd */
	NON_TEMPORAL, /* its stores go past the caches */
	MAPPINGS, /* mov to a control register, invlpg, invpcid */
	WRMSR,
};

enum { NO_REGISTER = 31 };

struct operand {
	uint8_t base, index, scale; /* general registers by number, or NO_REGISTER */
	char segment; /* 'f', 'g' or 0 */
	int32_t displacement;
	uint8_t relative; /* to the next instruction */
	uint8_t short_address; /* 32 bits of it */
};

enum kind decode(const uint8_t *code, size_t len, struct operand *operand);

#endif
