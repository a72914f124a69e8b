/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch.h - reads many pages at once, in the order that decodes every group once: what put
 * uses for bases, get for a whole image, check for everything.
 *
 * Ownership:  pages given to the callback are borrowed until it returns, or with an arena until the
 *             arena is flushed.
 * Threads:    as the store.
 * Errors:     a page that cannot be read is reported to the callback with page = NULL and its
 *             error recorded; a callback's non-zero return ends the fetch with it.
 */
#ifndef DOR_STORE_FETCH_H
#define DOR_STORE_FETCH_H

#include <stddef.h>
#include <stdint.h>

#include <dormouse/err.h>

struct dor_store;

struct store_fetch_item {
    uint64_t place; /* of a stored page: raw or patched */
    uint64_t tag;   /* for the callback */
};

typedef int store_fetch_fn(void *context, uint64_t tag, uint64_t place, const uint8_t *page);

/* Calls VISIT once per item, in the order of the pages' storage. */
DOR_MUST_CHECK int store_fetch(
    struct dor_store *store, uint32_t domain, const struct store_fetch_item *items,
    size_t count, store_fetch_fn *visit, void *context);

/*
 * Memory that groups are decoded into one after another, so that pages stay until it is full: then
 * FLUSH is called, and no page visited before it is used any more.
 */
struct store_fetch_arena {
    uint8_t *bytes;
    size_t size_bytes; /* at least STORE_GROUP_BYTES_MAX + 4096 */
    int (*flush)(void *context);
};

/* The same; CONTEXT is also FLUSH's, and the last pages are not flushed. */
DOR_MUST_CHECK int store_fetch_into(
    struct dor_store *store, uint32_t domain, const struct store_fetch_item *items,
    size_t count, const struct store_fetch_arena *arena, store_fetch_fn *visit, void *context);

/* Where a fetch finds pages, and what it decodes with. */
struct store_page_at;
struct chunk_coder;
struct store_fetch_source {
    int (*locate)(
        const void *context, unsigned stream, uint64_t serial, struct store_page_at *ret);
    const void *context;
    struct chunk_coder *coder;
    uint8_t *plain; /* STORE_GROUP_BYTES_MAX, where there is no arena */
};

/*
 * Work space for batches of up to COUNT_MAX items whose patches take PATCH_BYTES together; with
 * 4096 an item nothing more is ever allocated.
 */
struct store_fetch_work;
DOR_MUST_CHECK int
store_fetch_work_new(size_t count_max, size_t patch_bytes, struct store_fetch_work **ret);
void store_fetch_work_free(struct store_fetch_work *work);
/* As store_fetch_into(), from SOURCE. */
DOR_MUST_CHECK int store_fetch_from(
    const struct store_fetch_source *source, struct store_fetch_work *work,
    const struct store_fetch_item *items, size_t count, const struct store_fetch_arena *arena,
    store_fetch_fn *visit, void *context);

/* One stored page into PAGE (4096 bytes), verified, with no sorting and no cache. */
DOR_MUST_CHECK int
store_fetch_page(struct dor_store *store, uint32_t domain, uint64_t place, uint8_t *page);

#endif
