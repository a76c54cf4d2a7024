/* What the caches hold of RAM, line by line, in memory that is shared with the server. */
#ifndef LINES_H
#define LINES_H

#include <stdbool.h>
#include <stdint.h>

/* Maps the server's file; false, with a word on stderr, if it is none. */
bool lines_open(const char *path, bool loads);

/* All of these are for bytes of one line; an address beyond RAM is nobody's. */
void lines_store(uint64_t at, unsigned int bytes);
void lines_load(uint64_t at, unsigned int bytes);
/* A store of any memory type but write-back. */
void lines_store_combined(uint64_t at, unsigned int bytes);
/* A non-temporal store through a write-back mapping. */
void lines_store_past(uint64_t at, unsigned int bytes);
/* clflush and clflushopt; clwb, after which the line is still held. */
void lines_flush(uint64_t at);
void lines_write_back(uint64_t at);
/* wbinvd. */
void lines_flush_all(void);

#endif
