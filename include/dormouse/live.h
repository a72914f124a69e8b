/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live.h - memory that is in use as the source of a put: it is as it was at one moment, though its
 * owner runs on. The owner stands still only while its memory is marked write-protected; what it
 * writes to afterwards is saved first (copy-on-write by userfaultfd). Where that cannot be, it
 * stands still while its memory is copied. Nobody waits for a disk.
 *
 * Ownership:  the caller closes what it opened. Sources belong to their live memory.
 * Threads:    a live memory: one at a time. Opening one of another process traces it, and is for a
 *             thread that traces nothing else.
 * Errors:     0 or a negative enum dor_errno. Reading fails with DOR_E_BUSY when the owner gave
 *             memory back that was not read yet: its old content is lost, and with it the moment.
 */
#ifndef DORMOUSE_LIVE_H
#define DORMOUSE_LIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>
#include <dormouse/image.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dor_live;

/* Virtual memory of whole pages. The pages of all ranges, in their order, are the row. */
struct dor_live_range {
    uint64_t address;
    uint64_t size_bytes;
};

enum dor_live_way {
    DOR_LIVE_AUTO = 0, /* marked where that is possible, otherwise copied */
    DOR_LIVE_MARK = 1,
    DOR_LIVE_COPY = 2
};

struct dor_live_options {
    enum dor_live_way way;
    /*
     * For memory of this process: bring its writers to a stand and let them go again. They are
     * called around the mark or the copy. NULL: the caller sees to it before and after opening.
     */
    int (*pause)(void *context);
    void (*resume)(void *context);
    void *context;
};

/*
 * Memory of this process: anonymous or shared, and written by this process alone. Nothing that
 * reads the source may write to it meanwhile. OPTIONS may be NULL. DOR_E_UNSUPPORTED: way is
 * DOR_LIVE_MARK, and this system or this memory cannot be marked.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_live_open_self(
    const struct dor_live_range *ranges, size_t range_count,
    const struct dor_live_options *options, struct dor_live **ret);
/*
 * Memory of process PID, which is stopped as a debugger does it, unseen by its parent, and goes on
 * by itself if we die. RANGE_COUNT of 0: all its writable mappings. What it shares, no other
 * process may write to. Pages that it offers with MADV_FREE after the moment may be zeros.
 * DOR_E_DENIED: it may not be traced; DOR_E_NOT_FOUND: no such process or memory.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_live_open_process(
    int pid, const struct dor_live_range *ranges, size_t range_count,
    const struct dor_live_options *options, struct dor_live **ret);
/*
 * The memory file that is descriptor FD of process PID: copied while that process stands still. No
 * other process may write to it.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_live_open_memory_file(int pid, int fd, struct dor_live **ret);
/* Whatever comes of it, the owner's memory is as without us afterwards. NULL is fine. */
DOR_PUBLIC void dor_live_close(struct dor_live *live);

/* The memory at the moment of opening, for dor_store_put(). */
DOR_PUBLIC const struct dor_page_source *dor_live_source(struct dor_live *live);

/*
 * Copy what is not saved yet and let the owner's memory go; *RET_FD is then a memory file with the
 * row, owned by LIVE, that can be opened as a raw image. It takes as much memory as the row has
 * pages that are not zero.
 */
DOR_PUBLIC DOR_MUST_CHECK int dor_live_settle(struct dor_live *live, int *ret_fd);

/* The ranges that are the row; none for a memory file. */
DOR_PUBLIC const struct dor_live_range *
dor_live_ranges(const struct dor_live *live, size_t *ret_count);

struct dor_live_stat {
    enum dor_live_way way;  /* the one that was taken */
    const char *why_copied; /* words, where DOR_LIVE_AUTO ended in a copy; otherwise "" */
    uint64_t page_count;
    uint64_t pause_ns;    /* how long the owner stood still */
    uint64_t faults;      /* writes that had to wait for a page to be saved */
    uint64_t saved_pages; /* because of them */
};

DOR_PUBLIC void dor_live_stat(const struct dor_live *live, struct dor_live_stat *ret);

#ifdef __cplusplus
}
#endif
#endif
