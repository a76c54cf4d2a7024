/*
 * The file that the plugin and the server share (backend/src/caches.rs reads the numbers
 * below in a test). Words are 64 bits of the host's order. The server makes the file and
 * writes its size; the plugin writes the rest.
 *
 *   0           the header: words at the offsets below
 *   LOADS       LOAD_SLOTS slots of two words, the CPU's loads of old lines: a slot's
 *               number plus one (0: empty), and address << 8 | bytes. Slot n is that of
 *               each load whose number is n modulo LOAD_SLOTS.
 *   LINES       for each line of 64 bytes two words: its dirty and its old bytes
 *   behind      for each line a byte of the LINE_ bits
 */
#ifndef LAYOUT_H
#define LAYOUT_H

enum {
	HEADER_MAGIC = 0, /* by the server: MAGIC */
	HEADER_LINES = 8, /* by the server: lines, from address 0 on */
	HEADER_ATTACHED = 16, /* by the plugin: 1 stores are followed, 2 loads as well */
	HEADER_LOADS = 24, /* by the plugin: loads of old bytes so far */
	LOADS = 4096,
	LOAD_SLOTS = 4096,
	LINES = 69632,
	LINE_HELD = 1, /* a cache has it */
	LINE_MIXED = 2, /* used write-combined while a cache had it */
};

#define MAGIC 0x3153454843414350ull /* "PCACHES1" */

#endif
