/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Everything that the C shim and the Rust object say to each other.
 * src/glue.rs is the same in Rust. Errors are negative errno values.
 */
#ifndef PRESIL_GLUE_H
#define PRESIL_GLUE_H

#include <linux/types.h>
#include "presil_drm.h"

struct presil_device;	/* C's */
struct presil_pages;
struct presil_adapter;	/* Rust's */
struct presil_timeline;
struct presil_client;
struct seq_file;

/* One 32-bit register access; value is the result of a read. */
struct presil_op {
	u32 offset;
	u32 bytes;
	u32 value;
	u32 write;
};

struct presil_system_info {
	u64 total_bytes;
	u64 free_bytes;
	u64 page_bytes;
};

/* What the bus tells of the GPU. */
struct presil_board {
	u64 vram_bytes;		/* 0 when only the chip knows */
	u64 visible_bytes;	/* of the VRAM window */
	u64 cpu_address;	/* of the window, physical */
	u16 vendor_id;
	u16 device_id;
	u32 pad;
};

/* One page for a user mapping. */
struct presil_frame {
	u64 pfn;
	u32 write_combined;
	u32 pad;
	u64 fence;		/* with -EBUSY: wait for it, then ask again */
};

/* What a client has booked in a segment, and the most that it may, in bytes. */
struct presil_booking {
	u64 booked;
	u64 limit;
};

/* For measurements, in nanoseconds of presil_now_ns(). */
struct presil_times {
	u64 access_began;	/* the last register access, or list of them */
	u64 interrupted;	/* the last interrupt, its status words known */
};

/* What the device can address. */
#define PRESIL_BUS_ADDRESS_BITS 40

enum presil_level { PRESIL_ERROR, PRESIL_WARNING, PRESIL_INFORM, PRESIL_DEBUG };
enum presil_wake { PRESIL_READY, PRESIL_TIMED_OUT, PRESIL_INTERRUPTED };
enum presil_listing { PRESIL_LIST_BOS, PRESIL_LIST_INIT, PRESIL_LIST_COUNTERS };

/* C functions. Those marked "atomic" are called from interrupt handlers too. */
void *presil_alloc(size_t bytes, bool zeroed);
void *presil_realloc(void *memory, size_t bytes);
void presil_free(void *memory);
void presil_log(enum presil_level level, const char *text, size_t bytes);	/* atomic */
void __noreturn presil_bug(void);
u64 presil_now_ns(void);							/* atomic */
void presil_query_system(struct presil_system_info *info);
enum presil_wake presil_sleep(struct presil_device *presil, bool interruptible, u64 timeout_ns,
			      bool (*ready)(void *context), void *context);
/* Handles the interrupts that were raised so far; false: some may be left. */
bool presil_deliver(struct presil_device *presil);
/* Whether the device may reach memory. */
void presil_set_dma(struct presil_device *presil, bool on);
void presil_print(struct seq_file *to, const char *text, size_t bytes);

struct presil_pages *presil_pages_alloc(struct presil_device *presil, size_t count,
					bool write_combined);
void presil_pages_free(struct presil_pages *pages);
u64 presil_page_frame(const struct presil_pages *pages, size_t index);		/* 0: no such page */
u64 presil_page_address(const struct presil_pages *pages, size_t index);	/* the GPU's; as above */
u64 presil_pages_load(const struct presil_pages *pages, size_t offset);	/* atomic */

int presil_access(struct presil_device *presil, struct presil_op *ops, size_t count);
u32 presil_window_load(struct presil_device *presil, u64 offset);		/* atomic */
void presil_window_store(struct presil_device *presil, u64 offset, const u32 *values, size_t count);
void presil_write_barrier(void);
void presil_query_times(const struct presil_device *presil, struct presil_times *times);

/*
 * Rust functions. Those with an adapter are called under the device lock, which
 * is also that of the clients given to them;
 * those with a timeline need no lock, and those marked "atomic" no process.
 */

/* Registers with the latched status words, BIU's and advanced; a write to the first latches. */
extern const u32 presil_rs_shadows[2];

/* `client_percent`: how much of each segment one client may book. */
int presil_rs_start(struct presil_device *presil, const struct presil_board *board,
		    u8 client_percent, struct presil_adapter **adapter, const struct presil_timeline **timeline);
void presil_rs_stop(struct presil_adapter *adapter);
int presil_rs_client_open(struct presil_adapter *adapter, struct presil_client **client);
/* Without an adapter where the client has outlived it. */
void presil_rs_client_close(struct presil_adapter *adapter, struct presil_client *client);
void presil_rs_client_bookings(struct presil_adapter *adapter, const struct presil_client *client,
			       struct presil_booking bookings[PRESIL_SEGMENTS]);
int presil_rs_create(struct presil_adapter *adapter, struct presil_client *client,
		     const struct drm_presil_create *request, u64 *bo, u32 *segment);
void presil_rs_destroy(struct presil_adapter *adapter, u64 bo);
int presil_rs_fault(struct presil_adapter *adapter, u64 bo, u64 page, struct presil_frame *frame);
/*
 * These queue work for the client, and return its own fence. With -EBUSY it has
 * too much unfinished.
 */
int presil_rs_fill(struct presil_adapter *adapter, struct presil_client *client, u64 bo,
		   struct drm_presil_fill *request);
int presil_rs_copy(struct presil_adapter *adapter, struct presil_client *client, u64 dst, u64 src,
		   struct drm_presil_copy *request);
int presil_rs_describe(struct presil_adapter *adapter, u64 bo,
		       struct drm_presil_describe *description);
void presil_rs_info(struct presil_adapter *adapter, struct drm_presil_info *info);
/* Puts clients' work on the ring, gives back what was freed. True: the GPU still runs. */
bool presil_rs_advance(struct presil_adapter *adapter);
bool presil_rs_has_queued(const struct presil_adapter *adapter);	/* what is not on the ring */
void presil_rs_attend(struct presil_adapter *adapter);
/*
 * How a client's job ended. -EAGAIN: it has not; when the ring's fence `next` is
 * over, ask again.
 */
int presil_rs_ask(struct presil_adapter *adapter, const struct presil_client *client, u64 fence,
		  u64 *next);
void presil_rs_drain(struct presil_adapter *adapter, u64 timeout_ns);
int presil_rs_suspend(struct presil_adapter *adapter, u64 timeout_ns);
int presil_rs_resume(struct presil_adapter *adapter);
/* From here on the GPU does nothing, and is lost for whoever asks. */
int presil_rs_shut_down(struct presil_adapter *adapter, u64 timeout_ns);
int presil_rs_list(struct presil_adapter *adapter, enum presil_listing what, struct seq_file *to);
int presil_rs_bench(struct presil_adapter *adapter, struct seq_file *to);

/* What fence memory says. Atomic. */
u64 presil_rs_in_memory(const struct presil_timeline *timeline);
/*
 * `before`: what fence memory said before the words were latched. One at a time.
 * True: presil_rs_attend() has something to do. Atomic.
 */
bool presil_rs_interrupt(const struct presil_timeline *timeline, u64 before, u32 biu,
			 u32 advanced);
/* Whether presil_rs_attend() has something to do. */
bool presil_rs_has_trouble(const struct presil_timeline *timeline);
u64 presil_rs_completed(const struct presil_timeline *timeline);
u64 presil_rs_submitted(const struct presil_timeline *timeline);
/* Until a fence of the ring is over, however it ended. */
int presil_rs_wait(const struct presil_timeline *timeline, u64 fence, u64 timeout_ns);
void presil_rs_release(const struct presil_timeline *timeline);

#endif
