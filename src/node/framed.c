/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framed.c - a snapshot's pages in the order of their storage, each to where the frame has it.
 *
 * In a diff a hole means "as in the other", so a page that is zero here and not there is written
 * with its zeros. The other snapshot is read through a handle of its own while this one is being
 * decoded.
 */
#include "node/framed.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/size.h"

#include <dormouse/image.h>
#include <string.h>

struct target {
    struct dor_frame_writer *writer;
    struct dor_snapshot *snapshot;
    struct dor_snapshot *from; /* of a diff: the other; or NULL */
    uint64_t page_count;
    uint8_t *from_pages; /* DOR_SINK_PAGES_MAX of them */
};

static void
target_fini(struct target *target)
{
    dor_frame_writer_close(target->writer);
    dor_snapshot_close(target->from);
    base_free(target->from_pages);
}

#define AUTO_TARGET __attribute__((cleanup(target_fini)))

static int
add_pages(void *context, uint64_t first_page, const struct iovec *pages, size_t page_count)
{
    struct target *target = context;
    return dor_frame_writer_add(target->writer, first_page, pages, page_count);
}

/* ------------------------------------------------------------------ diffs */

static int
open_from(const struct dor_export *how, struct target *target)
{
    const char *name = how->diff_from;
    target->from_pages = base_alloc_pages(DOR_SINK_PAGES_MAX);
    if (target->from_pages == NULL)
        return DOR_E_NO_MEMORY;
    int rc = dor_snapshot_open(how->diff_store, name, &target->from);
    if (rc != 0)
        return rc;
    if (dor_snapshot_info(target->from)->logical_bytes !=
        dor_snapshot_info(target->snapshot)->logical_bytes)
        return dor_fail(
            DOR_E_USAGE, "--diff-from %s: it has another size than %s", name,
            dor_snapshot_info(target->snapshot)->name);
    return 0;
}

static bool
is_elsewhere(void *context, uint64_t page)
{
    const struct target *target = context;
    return !dor_snapshot_same_page(target->snapshot, target->from, page);
}

/* Stored differently, a page may still be the same. */
static int
add_different(void *context, uint64_t first_page, const struct iovec *pages, size_t page_count)
{
    struct target *target = context;
    int rc = dor_snapshot_read_pages(target->from, first_page, page_count, target->from_pages);
    for (size_t at = 0; rc == 0 && at < page_count;) {
        size_t run = 0;
        while (at + run < page_count &&
               memcmp(
                   pages[at + run].iov_base, target->from_pages + (at + run) * DOR_PAGE_BYTES,
                   DOR_PAGE_BYTES) != 0)
            run++;
        if (run > 0)
            rc = dor_frame_writer_add(target->writer, first_page + at, pages + at, run);
        at += base_max_size(run, 1);
    }
    return rc;
}

static bool
became_zero(const struct target *target, uint64_t page)
{
    return dor_snapshot_page_kind(target->snapshot, page) == DOR_PAGE_ZERO &&
           dor_snapshot_page_kind(target->from, page) != DOR_PAGE_ZERO;
}

/* Pages that are zero and were not. */
static int
add_zeros(struct target *target)
{
    static uint8_t zeros[DOR_PAGE_BYTES];
    struct iovec pages[DOR_SINK_PAGES_MAX];
    int rc = 0;
    for (size_t i = 0; i < DOR_SINK_PAGES_MAX; i++)
        pages[i] = (struct iovec){zeros, sizeof zeros};
    for (uint64_t at = 0; rc == 0 && at < target->page_count;) {
        size_t run = 0;
        while (run < DOR_SINK_PAGES_MAX && at + run < target->page_count &&
               became_zero(target, at + run))
            run++;
        if (run > 0)
            rc = dor_frame_writer_add(target->writer, at, pages, run);
        at += base_max_size(run, 1);
    }
    return rc;
}

/* ------------------------------------------------------------------ all of it */

static int
write_pages(const struct dor_export *how, struct target *target)
{
    const struct dor_page_sink all = {.write = add_pages, .context = target};
    const struct dor_page_sink different = {
        .wants = is_elsewhere, .write = add_different, .context = target};
    int rc = dor_snapshot_write_pages(
        target->snapshot, target->from == NULL ? &all : &different, how->progress,
        how->progress_context);
    return rc == 0 && target->from != NULL ? add_zeros(target) : rc;
}

int
node_framed_write(
    const struct dor_export *how, struct dor_snapshot *snapshot, const void *frame,
    size_t frame_bytes)
{
    AUTO_TARGET struct target target = {
        .snapshot = snapshot,
        .page_count = dor_snapshot_info(snapshot)->logical_bytes / DOR_PAGE_BYTES};
    int rc = how->diff_from == NULL ? 0 : open_from(how, &target);
    if (rc == 0)
        rc = dor_frame_writer_open(
            frame, frame_bytes, how->path, target.page_count, &target.writer);
    if (rc == 0)
        rc = write_pages(how, &target);
    if (rc == 0)
        rc = node_export_ask(how);
    return rc == 0 ? dor_frame_writer_finish(target.writer) : rc;
}
