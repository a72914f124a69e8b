/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sources.h - page sources for tests of put: a row of pages with holes in it, which notices when it
 * is read where it has no data, gives rubbish there, and can be told to fail.
 *
 * Ownership:  a row borrows its image and its map of data.
 * Threads:    one row, one thread.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_STORE_SOURCES_H
#define TESTS_STORE_SOURCES_H

#include "store/images.h"

struct row {
    const struct image *image;
    const uint8_t *data; /* not 0 for each page that is no hole; NULL: there are none */
    uint64_t calls;
    uint64_t hole_reads;
    uint64_t fail_call; /* the call, from 1, that fails with FAIL_ERROR; 0 = none */
    int fail_error;
};

static inline int
row_call(struct row *row)
{
    row->calls++;
    return row->calls == row->fail_call ? dor_fail(row->fail_error, "the source fails") : 0;
}

static inline bool
row_has(const struct row *row, uint64_t page)
{
    return row->data == NULL || row->data[page] != 0;
}

static inline int
row_read(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    struct row *row = context;
    uint8_t *to = pages;
    int err = row_call(row);
    if (err != 0)
        return err;
    for (uint64_t page = first_page; page < first_page + page_count; page++) {
        if (page >= row->image->page_count)
            bail("page %d of a row of %d is read", (int)page, (int)row->image->page_count);
        if (row_has(row, page)) {
            memcpy(to, image_page(row->image, page), DOR_PAGE_BYTES);
        } else {
            row->hole_reads++;
            memset(to, 0xee, DOR_PAGE_BYTES);
        }
        to += DOR_PAGE_BYTES;
    }
    return 0;
}

static inline int
row_next_data(void *context, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end)
{
    struct row *row = context;
    uint64_t page = page_index;
    int err = row_call(row);
    if (err != 0)
        return err;
    while (page < row->image->page_count && !row_has(row, page))
        page++;
    *ret_first = page;
    while (page < row->image->page_count && row_has(row, page))
        page++;
    *ret_end = page;
    return 0;
}

static inline struct dor_page_source
row_source(struct row *row)
{
    return (struct dor_page_source){
        .page_count = row->image->page_count,
        .read = row_read,
        .next_data = row->data == NULL ? NULL : row_next_data,
        .context = row};
}

/* Put ROW as NAME; PUT (may be NULL) says the rest. */
static inline int
put_row(
    struct dor_store *store, const char *name, struct row *row, const struct dor_put *put,
    struct dor_put_result *ret)
{
    struct dor_put_result result;
    struct dor_put all = put != NULL ? *put : (struct dor_put){0};
    struct dor_page_source source = row_source(row);
    all.image_fd = -1;
    all.source = &source;
    int err = dor_store_put(store, name, &all, &result);
    if (err == 0 && ret != NULL)
        *ret = result;
    return err;
}

/* Runs of data and holes. */
static inline void
make_holes(struct base_random *random, uint8_t *data, uint64_t page_count)
{
    uint8_t has = 1;
    for (uint64_t page = 0; page < page_count; page++) {
        if (base_random_below(random, 8) == 0)
            has = (uint8_t)base_random_below(random, 2);
        data[page] = has;
    }
}

/* What ROW means: IMAGE where it has data, elsewhere PARENT, or zeros when there is none. */
static inline void
row_apply(const struct row *row, const struct image *parent, struct image *ret)
{
    image_init(ret, row->image->page_count);
    for (uint64_t page = 0; page < ret->page_count; page++)
        if (row_has(row, page))
            memcpy(image_page(ret, page), image_page(row->image, page), DOR_PAGE_BYTES);
        else if (parent != NULL)
            memcpy(image_page(ret, page), image_page(parent, page), DOR_PAGE_BYTES);
}

/* The class of every page, made up. */
static inline void
make_classes(struct base_random *random, uint8_t *classes, uint64_t page_count)
{
    for (uint64_t page = 0; page < page_count; page++)
        classes[page] = (uint8_t)base_random_below(random, DOR_CLASSES);
}

/* Whether the open SNAPSHOT has these classes: 1 or 0, or an error. */
static inline int
compare_classes(struct dor_snapshot *snapshot, const uint8_t *classes)
{
    uint8_t *got = NULL;
    int err = dor_snapshot_read_classes(snapshot, &got);
    if (err != 0)
        return err;
    bool same =
        memcmp(got, classes, dor_snapshot_info(snapshot)->logical_bytes / DOR_PAGE_BYTES) == 0;
    free(got);
    return same;
}

/* The same for its frame. */
static inline int
compare_frame(struct dor_snapshot *snapshot, const void *frame, size_t frame_bytes)
{
    void *got = NULL;
    size_t got_bytes = 0;
    int err = dor_snapshot_read_frame(snapshot, &got, &got_bytes);
    if (err != 0)
        return err;
    bool same = got_bytes == frame_bytes && memcmp(got, frame, frame_bytes) == 0;
    free(got);
    return same;
}

static inline struct dor_snapshot *
must_open(struct dor_store *store, const char *name)
{
    struct dor_snapshot *snapshot;
    if (dor_snapshot_open(store, name, &snapshot) != 0)
        bail("%s: %s", name, dor_err_message());
    return snapshot;
}

#endif
