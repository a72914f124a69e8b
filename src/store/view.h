/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h - the pages of one snapshot for many threads at once, for whoever wakes it. A view holds
 * all that reading takes: recipe, segment files, their tables, root images. What becomes of the
 * store afterwards - the snapshot removed, segments rewritten by gc, the handle closed - does not
 * concern it.
 *
 * Ownership:  the caller closes views and frees readers; pages are copied out or borrowed from the
 *             reader for the length of a callback.
 * Threads:    opening: as the store. Afterwards any number, each with a reader of its own, which
 *             may be used with all views of all stores. Closing: any one.
 * Errors:     as dor_snapshot_read_page(). Reading allocates nothing.
 */
#ifndef DOR_STORE_VIEW_H
#define DOR_STORE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dormouse/store.h>

struct store_view;
struct store_view_reader;

/* DOR_E_NOT_FOUND, DOR_E_CORRUPT (a segment or root image that it needs is missing or damaged). */
DOR_MUST_CHECK int
store_view_open(struct dor_store *store, const char *name, struct store_view **ret);
void store_view_close(struct store_view *view);

const struct dor_snapshot_info *store_view_info(const struct store_view *view);
uint64_t store_view_page_count(const struct store_view *view);

/*
 * Which stored page a page is: equal for two pages, of any views of one store, exactly when they
 * are the same one. A zero page has place 0.
 */
struct store_page_key {
    uint64_t place;
    uint64_t domain;
};

struct store_page_key store_view_key(const struct store_view *view, uint64_t page_index);
/*
 * The region type under which a page is stored, which of one that snapshots share need not be its
 * own, and its kind.
 */
enum dor_region_type store_view_stored_type(const struct store_view *view, uint64_t page_index);
enum dor_page_kind store_view_kind(const struct store_view *view, uint64_t page_index);

DOR_MUST_CHECK int store_view_reader_new(struct store_view_reader **ret);
void store_view_reader_free(struct store_view_reader *reader);

/* Pages that store_view_read() takes at once. */
#define STORE_VIEW_BATCH_MAX 256

/* Where one page is to go. */
struct store_view_item {
    uint64_t page_index; /* of a page that is not zero */
    uint8_t *bytes;      /* 4096, written only when verified */
    int err;             /* out: 0, or why it could not be read */
};

/*
 * Read COUNT (at most STORE_VIEW_BATCH_MAX) pages, in the order of their storage, each group
 * decoded once. Returns an error of one of the items; all others are read all the same.
 */
DOR_MUST_CHECK int store_view_read(
    const struct store_view *view, struct store_view_reader *reader,
    struct store_view_item *items, size_t count);

/* ------------------------------------------------------------------ reading ahead */

struct store_view_extent {
    int fd;               /* of a segment or a root image */
    uint64_t offset, end; /* bytes */
};

/* Which bytes of which files hold some pages, for a view that stays open meanwhile. */
struct store_view_plan {
    struct store_view_extent *extents;
    size_t count;
};

/*
 * Where the COUNT pages are stored, their bases included: about in the order of the pages, which is
 * that of their need, neighbours together. Pages of zeros are nowhere.
 */
DOR_MUST_CHECK int store_view_plan(
    const struct store_view *view, const uint64_t *page_indexes, size_t count,
    struct store_view_plan *ret);
void store_view_plan_fini(struct store_view_plan *plan);
/*
 * Advise the system to read SIZE_BYTES of PLAN or more, from extent FROM on, and from its files
 * nothing that is not asked for. Returns the extent to go on from, plan->count at the end. What is
 * in memory costs next to nothing.
 */
size_t
store_view_plan_read(const struct store_view_plan *plan, size_t from, uint64_t size_bytes);

#endif
