/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_priv.h - what live memory is, for the files about it.
 *
 * Ownership:  everything belongs to the live memory.
 * Threads:    see the fields.
 * Errors:     as live.h says.
 */
#ifndef DOR_WAKE_LIVE_PRIV_H
#define DOR_WAKE_LIVE_PRIV_H

#include <dormouse/live.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/thread.h"

/* A range and where its pages are in the row. */
struct live_range {
    uint64_t address;
    uint64_t page_count;
    uint64_t first_page;
    /* Or it is to be; otherwise it is copied while the owner stands still. Under the lock. */
    bool marked;
};

/* Threads that wait to write are at most so many at a time; more wait in the kernel. */
enum { LIVE_WAITING_MAX = 4096 };

struct dor_live {
    pid_t pid; /* whose memory it is */
    bool self; /* it is ours */
    struct dor_live_range *public_ranges;
    struct live_range *ranges;
    size_t range_count;
    uint64_t page_count;
    struct dor_page_source source;

    int copy_fd; /* a memory file of the row's size: what is saved */
    uint8_t *copy;
    _Atomic uint64_t *saved; /* a bit for each page; set under the lock, after the copy */
    struct base_mutex lock; /* of saving, so that a page is read once and before it is let go */

    int uffd;                           /* while memory is marked */
    int wake_fd;                        /* an eventfd: the handler is to end */
    uint64_t waiting[LIVE_WAITING_MAX]; /* addresses of writes that were read and not let go */
    size_t waiting_count;               /* under the lock */
    struct base_thread handler;
    bool has_handler;
    struct base_err lost; /* why the moment is lost, once is_lost says so */
    atomic_bool is_lost;
    _Atomic uint64_t fault_count, saved_count;
    struct dor_live_stat stat;
    char why[DOR_ERR_TEXT_BYTES]; /* stat.why_copied, when there is a reason */
};

/* ---- live.c ---- */

/* Empty live memory of PID with RANGES, checked. */
DOR_MUST_CHECK int live_new(
    pid_t pid, const struct dor_live_range *ranges, size_t range_count, struct dor_live **ret);

/* Read PAGE_COUNT pages of the row as they are now, to PAGES, which may be in the copy. */
DOR_MUST_CHECK int live_read_now(
    const struct dor_live *live, uint64_t first_page, uint64_t page_count, void *pages);

/* Copy all pages that hold data, which nobody writes to meanwhile. */
DOR_MUST_CHECK int live_copy_all(struct dor_live *live);

/* ---- live_mark.c ---- */

/*
 * Open the userfaultfd, if there is none, start the handler, and watch all ranges.
 * DOR_E_UNSUPPORTED: none of the memory can be marked.
 */
DOR_MUST_CHECK int live_mark_prepare(struct dor_live *live);
/* While the owner stands still: mark all, and copy what cannot be marked. */
DOR_MUST_CHECK int live_mark_all(struct dor_live *live);
/*
 * Take what messages there are; whether there were any. Who has read memory does it before trusting
 * what was read: that the memory was there may be over, and the message be waiting.
 */
bool live_drain_locked(struct dor_live *live);
/* End the handler and let the memory go. Fine at any time. */
void live_mark_end(struct dor_live *live);
/* Save pages [FIRST, FIRST + COUNT) that are not; under the lock. */
DOR_MUST_CHECK int live_save_locked(struct dor_live *live, uint64_t first_page, uint64_t count);

static inline bool
live_is_saved(const struct dor_live *live, uint64_t page)
{
    /* Pairs with the setting in live_save_locked(). */
    return (atomic_load_explicit(&live->saved[page / 64], memory_order_acquire) >> (page % 64) &
            1) != 0;
}

/* DOR_E_BUSY and so on, once the moment is lost. */
DOR_MUST_CHECK int live_check_lost(const struct dor_live *live);

#endif
