/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.h - the page server: pages of sleeping snapshots, decoded and verified, for every way of
 * waking (userfaultfd, mount, offload). One server has one restore cache: a page that several
 * snapshots share is in memory once, and is decoded once however many ask for it at the same time.
 *
 * Ownership:  the caller closes what it opened: windows are released before their worker, workers
 *             and snapshots before their server.
 * Threads:    a server and a snapshot: any. A worker is one thread's.
 * Errors:     DOR_E_CORRUPT, DOR_E_IO: the page cannot be had now; never wrong bytes. Getting a
 *             window allocates nothing.
 */
#ifndef DOR_WAKE_PAGES_H
#define DOR_WAKE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/store.h>
#include <dormouse/wake.h>

/* ------------------------------------------------------------------ snapshots */

/* A snapshot that is open for waking, once in a server however many wake it. */
struct wake_snapshot;

/* Opens NAME, or refers to it once more. DOR_E_NOT_FOUND, DOR_E_CORRUPT. */
DOR_MUST_CHECK int wake_snapshot_open(
    struct dor_wake_server *server, const char *name, struct wake_snapshot **ret);
/* How many refer to SNAPSHOT now. */
unsigned wake_snapshot_references(struct wake_snapshot *snapshot);
/* Pages stay readable until the last reference is closed, even if the snapshot is removed. */
void wake_snapshot_close(struct wake_snapshot *snapshot);

const struct dor_snapshot_info *wake_snapshot_info(const struct wake_snapshot *snapshot);
uint64_t wake_snapshot_page_count(const struct wake_snapshot *snapshot);
bool wake_snapshot_page_is_zero(const struct wake_snapshot *snapshot, uint64_t page_index);
/* Sidecar INDEX (< sidecar_count), as dor_snapshot_read_sidecar(). */
DOR_MUST_CHECK int wake_snapshot_read_sidecar(
    struct wake_snapshot *snapshot, size_t index, char name[DOR_NAME_BYTES_MAX + 1],
    void **ret_data, size_t *ret_size_bytes);
/* The frame, as dor_snapshot_read_frame(): DOR_E_NOT_FOUND when there is none. */
DOR_MUST_CHECK int wake_snapshot_read_frame(
    struct wake_snapshot *snapshot, void **ret_data, size_t *ret_size_bytes);

/* ------------------------------------------------------------------ pages */

/* The decoding scratch of one thread. */
struct wake_worker;
DOR_MUST_CHECK int wake_worker_new(struct dor_wake_server *server, struct wake_worker **ret);
void wake_worker_free(struct wake_worker *worker);

#define WAKE_WINDOW_PAGES 64 /* at most got at once; 16 (64 KiB) is the usual step */

/* Pages that are held: they stay as they are until the window is released. */
struct wake_window {
    unsigned count;
    const uint8_t *pages[WAKE_WINDOW_PAGES]; /* 4096 bytes each; NULL = zero */
    uint32_t slots[WAKE_WINDOW_PAGES];       /* in the cache, UINT32_MAX = elsewhere */
};

/*
 * Get pages [FIRST_PAGE, FIRST_PAGE + COUNT) of SNAPSHOT, which must be there. What the cache does
 * not hold is read, together; what another thread is reading is waited for. On an error nothing is
 * held. When the whole cache is held by others, pages are in the worker's own memory: one such
 * window at a time.
 */
DOR_MUST_CHECK int wake_window_get(
    struct wake_worker *worker, struct wake_snapshot *snapshot, uint64_t first_page,
    unsigned count, struct wake_window *ret);
void wake_window_release(struct wake_worker *worker, struct wake_window *window);

/*
 * The same for any COUNT (at most WAKE_WINDOW_PAGES) pages in any order: what a working set is
 * pushed with.
 */
DOR_MUST_CHECK int wake_pages_get(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const uint64_t *page_indexes,
    unsigned count, struct wake_window *ret);

#define WAKE_COPY_PAGES 128 /* at most copied at once */

enum wake_content { WAKE_CONTENT_BYTES, WAKE_CONTENT_ZERO, WAKE_CONTENT_LOST };

/*
 * Copy any COUNT (at most WAKE_COPY_PAGES) pages to BYTES, each to its place, and say of each
 * what it is: zero pages and those that cannot be had have no bytes. Holds nothing. PASSING: what
 * the cache has not is decoded straight to BYTES and passes it by, for pages that are given away
 * once, such as a working set that no other wake will ask for. Waits for nobody then.
 */
void wake_pages_copy(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const uint64_t *page_indexes,
    unsigned count, bool passing, uint8_t *bytes, enum wake_content *ret);

/* The cache as a memory file, for splicing: slot S is at 4096 * S. Owned by the server. */
int wake_server_cache_fd(const struct dor_wake_server *server);

/* ------------------------------------------------------------------ working sets */

/* A run of pages that waking needs, in the order of need. */
struct wake_run {
    uint64_t first_page;
    uint32_t page_count;
};

/*
 * The working set of SNAPSHOT as earlier wakes taught it, in order; none: *RET_COUNT is 0. Stays
 * valid until the snapshot is closed. A run has no zero page; one that is longer than a window of
 * 64 KiB is of windows that are needed one after another.
 */
void wake_snapshot_working_set(
    const struct wake_snapshot *snapshot, const struct wake_run **ret, size_t *ret_count);

/*
 * The working set is about to be read: let the system begin with SIZE_BYTES of what it is stored
 * in. *PLACE is 0 at first and tells where to go on.
 */
void wake_snapshot_read_ahead(
    const struct wake_snapshot *snapshot, uint64_t size_bytes, size_t *place);

/*
 * Notes which pages one wake needs, in order. The working set that the snapshot has when the
 * recorder is made counts as given ahead: whether such a page is needed is not seen, unless it is
 * noted. To be freed before the snapshot is closed.
 */
struct wake_recorder;
DOR_MUST_CHECK int
wake_recorder_new(const struct wake_snapshot *snapshot, struct wake_recorder **ret);
void wake_recorder_free(struct wake_recorder *recorder);
/*
 * This wake gives single pages, or tells of those it gives around them: what is not noted was not
 * needed. Otherwise the pages of a noted page's window of 64 KiB count as needed too, for they came
 * along with it.
 */
void wake_recorder_set_exact(struct wake_recorder *recorder);
/* Page PAGE_INDEX was needed; only the first time counts. Any thread, allocates nothing. */
void wake_recorder_note(struct wake_recorder *recorder, uint64_t page_index);
/* It was given because one beside it was needed. Any thread, allocates nothing. */
void wake_recorder_note_around(struct wake_recorder *recorder, uint64_t page_index);
/* Whether this wake is to tell if the page is needed: it is to be given only when asked for. */
bool wake_recorder_is_on_trial(const struct wake_recorder *recorder, uint64_t page_index);
/*
 * The wake is over or has settled: let the snapshot's working set learn from RECORDER, in the store
 * as well. A store that cannot be written to is logged and costs only the lesson.
 */
void wake_snapshot_learn(struct wake_snapshot *snapshot, const struct wake_recorder *recorder);

#endif
