#define _GNU_SOURCE
#include "lines.h"
#include "layout.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE = 64, RECORD = 16 };

static uint8_t *file; /* NULL: none */
static uint64_t lines; /* of RAM */

static uint64_t *word(uint64_t offset)
{
	return (uint64_t *)(file + offset);
}

static uint64_t *dirty(uint64_t line)
{
	return word(LINES + line * RECORD);
}

static uint64_t *old(uint64_t line)
{
	return dirty(line) + 1;
}

static uint8_t *state(uint64_t line)
{
	return file + LINES + lines * RECORD + line;
}

static uint64_t get(const uint64_t *from)
{
	return __atomic_load_n(from, __ATOMIC_RELAXED);
}

/* Most stores find what they would leave: then the line's memory is only read. */
static void set(uint64_t *in, uint64_t bits)
{
	if ((get(in) & bits) != bits)
		__atomic_fetch_or(in, bits, __ATOMIC_RELEASE);
}

static void clear(uint64_t *in, uint64_t bits)
{
	if (get(in) & bits)
		__atomic_fetch_and(in, ~bits, __ATOMIC_RELEASE);
}

static bool has(uint64_t line, uint8_t bits)
{
	return __atomic_load_n(state(line), __ATOMIC_RELAXED) & bits;
}

static void hold(uint64_t line)
{
	if (!has(line, LINE_HELD))
		__atomic_fetch_or(state(line), LINE_HELD, __ATOMIC_RELEASE);
}

/* The line of an address, and the mask of the bytes in it; false beyond RAM. */
static bool find(uint64_t at, unsigned int bytes, uint64_t *line, uint64_t *mask)
{
	unsigned int first = at % LINE;

	*line = at / LINE;
	if (!file || *line >= lines || !bytes || bytes > LINE - first)
		return false;
	*mask = (UINT64_MAX >> (LINE - bytes)) << first;
	return true;
}

static void report_load(uint64_t at, unsigned int bytes)
{
	uint64_t number = __atomic_fetch_add(word(HEADER_LOADS), 1, __ATOMIC_ACQ_REL);
	uint64_t *slot = word(LOADS + number % LOAD_SLOTS * RECORD);

	__atomic_store_n(slot, 0, __ATOMIC_RELEASE);
	__atomic_store_n(slot + 1, at << 8 | bytes, __ATOMIC_RELEASE);
	__atomic_store_n(slot, number + 1, __ATOMIC_RELEASE);
}

void lines_store(uint64_t at, unsigned int bytes)
{
	uint64_t line, mask;

	if (!find(at, bytes, &line, &mask))
		return;
	hold(line);
	clear(old(line), mask);
	set(dirty(line), mask);
}

void lines_load(uint64_t at, unsigned int bytes)
{
	uint64_t line, mask;

	if (!find(at, bytes, &line, &mask))
		return;
	if (get(old(line)) & mask) {
		report_load(at, bytes);
		clear(old(line), UINT64_MAX); /* a line is told once for each write of the GPU's */
	}
	hold(line);
}

void lines_store_combined(uint64_t at, unsigned int bytes)
{
	uint64_t line, mask;

	if (!find(at, bytes, &line, &mask))
		return;
	if (has(line, LINE_HELD))
		__atomic_fetch_or(state(line), LINE_MIXED, __ATOMIC_RELEASE);
	else if (has(line, LINE_MIXED))
		__atomic_fetch_and(state(line), ~LINE_MIXED, __ATOMIC_RELEASE);
}

void lines_store_past(uint64_t at, unsigned int bytes)
{
	uint64_t line, mask;

	if (!find(at, bytes, &line, &mask))
		return;
	clear(dirty(line), mask);
	clear(old(line), mask);
}

void lines_write_back(uint64_t at)
{
	uint64_t line, mask;

	if (find(at - at % LINE, LINE, &line, &mask))
		clear(dirty(line), mask);
}

void lines_flush(uint64_t at)
{
	uint64_t line, mask;

	if (!find(at - at % LINE, LINE, &line, &mask))
		return;
	/* Not held before it is not old: the server marks what is held only. */
	if (has(line, LINE_HELD))
		__atomic_fetch_and(state(line), ~LINE_HELD, __ATOMIC_RELEASE);
	clear(dirty(line), mask);
	clear(old(line), mask);
}

void lines_flush_all(void)
{
	uint64_t bytes = lines * (RECORD + 1);

	/* A hole is zeros, and takes no room; where the file system has no holes they are written. */
	if (file && madvise(file + LINES, bytes, MADV_REMOVE))
		memset(file + LINES, 0, bytes);
}

bool lines_open(const char *path, bool loads)
{
	struct stat about;
	uint64_t size;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &about)) {
		fprintf(stderr, "presil's cache plugin: %s cannot be opened\n", path);
		return false;
	}
	size = about.st_size;
	if (size > LINES)
		file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (size <= LINES || file == MAP_FAILED) {
		file = NULL;
		fprintf(stderr, "presil's cache plugin: %s cannot be mapped\n", path);
		return false;
	}
	lines = get(word(HEADER_LINES));
	if (get(word(HEADER_MAGIC)) != MAGIC || lines != (size - LINES) / (RECORD + 1)) {
		munmap(file, size);
		file = NULL;
		fprintf(stderr, "presil's cache plugin: %s is no file of presil's\n", path);
		return false;
	}
	lines_flush_all();
	__atomic_store_n(word(HEADER_ATTACHED), loads ? 2 : 1, __ATOMIC_RELEASE);
	return true;
}
