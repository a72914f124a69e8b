/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_read.c - answers reads of a mount's files.
 *
 * Whole pages of memory, which is what the page cache asks for, go from the restore cache to the
 * kernel in one writev() of the pages where they lie: they are copied once. Splicing them would
 * copy them as well, since pages of a memory file cannot change hands, and take more calls.
 * Everything else is put together in the worker's own buffer first.
 *
 * A reply shorter than what was asked for means the file's end to the kernel, which then shows
 * zeros: whatever cannot be had in full is an error.
 */
#include "wake/mount_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/size.h"

static uint8_t zero_page[DOR_PAGE_BYTES];

static void
reply_pages(fuse_req_t request, const struct wake_window *window)
{
    struct iovec pieces[WAKE_WINDOW_PAGES];
    for (unsigned i = 0; i < window->count; i++) {
        /* It is only read from. */
        void *page = window->pages[i] == NULL ? zero_page : (void *)(uintptr_t)window->pages[i];
        pieces[i] = (struct iovec){page, DOR_PAGE_BYTES};
    }
    fuse_reply_iov(request, pieces, (int)window->count);
}

/* Copy SIZE_BYTES from byte OFFSET of the row, which has them. */
static int
copy_row(struct wake_snapshot *wake, uint64_t offset, uint8_t *to, size_t size_bytes)
{
    struct wake_worker *worker = wake_mount_worker->pages;
    while (size_bytes > 0) {
        uint64_t first = offset / DOR_PAGE_BYTES;
        size_t skip = offset % DOR_PAGE_BYTES;
        size_t pages = DIV_ROUND_UP(skip + size_bytes, DOR_PAGE_BYTES);
        struct wake_window window;
        int err = wake_window_get(
            worker, wake, first, (unsigned)base_min_size(pages, WAKE_WINDOW_PAGES), &window);
        if (err != 0)
            return err;
        for (unsigned i = 0; i < window.count; i++) {
            size_t bytes = base_min_size(DOR_PAGE_BYTES - skip, size_bytes);
            memcpy(to, (window.pages[i] == NULL ? zero_page : window.pages[i]) + skip, bytes);
            to += bytes;
            offset += bytes;
            size_bytes -= bytes;
            skip = 0;
        }
        wake_window_release(worker, &window);
    }
    return 0;
}

/* The piece that byte OFFSET of FILE is in. */
static const struct mount_piece *
piece_at(const struct mount_file *file, uint64_t offset)
{
    size_t low = 0;
    size_t high = file->piece_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (file->pieces[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return &file->pieces[low];
}

static int
copy_file(const struct mount_handle *handle, uint64_t offset, uint8_t *to, size_t size_bytes)
{
    const struct mount_snapshot *snapshot = handle->snapshot;
    int err = 0;
    while (err == 0 && size_bytes > 0) {
        const struct mount_piece *piece = piece_at(handle->file, offset);
        uint64_t inside = offset - piece->offset;
        size_t bytes = (size_t)base_min_u64(piece->size_bytes - inside, size_bytes);
        if (piece->kind == DOR_FRAME_ZEROS)
            memset(to, 0, bytes);
        else if (piece->kind == DOR_FRAME_LITERAL)
            memcpy(to, (const uint8_t *)snapshot->frame + piece->source + inside, bytes);
        else
            err = copy_row(snapshot->wake, piece->source * DOR_PAGE_BYTES + inside, to, bytes);
        to += bytes;
        offset += bytes;
        size_bytes -= bytes;
    }
    return err;
}

static void
reply_error(fuse_req_t request, const struct mount_handle *handle, int err)
{
    int error = wake_mount_errno(err, handle->snapshot->info.name);
    /* Whatever it was, the file is there and its bytes cannot be had. */
    fuse_reply_err(request, error == ENOENT ? EIO : error);
}

static void
read_memory(
    struct dor_mount *mount, fuse_req_t request, const struct mount_handle *handle,
    uint64_t offset, size_t size_bytes)
{
    struct mount_snapshot *snapshot = handle->snapshot;
    struct mount_worker *worker = wake_mount_worker;
    struct wake_window window;
    bool whole = offset % DOR_PAGE_BYTES == 0 && size_bytes % DOR_PAGE_BYTES == 0;
    wake_mount_push_read(
        mount, snapshot, offset / DOR_PAGE_BYTES,
        (unsigned)DIV_ROUND_UP(size_bytes, DOR_PAGE_BYTES));
    int err = whole ? wake_window_get(
                          worker->pages, snapshot->wake, offset / DOR_PAGE_BYTES,
                          (unsigned)(size_bytes / DOR_PAGE_BYTES), &window)
                    : copy_row(snapshot->wake, offset, worker->bounce, size_bytes);
    if (err != 0) {
        reply_error(request, handle, err);
    } else if (whole) {
        reply_pages(request, &window);
        wake_window_release(worker->pages, &window);
    } else {
        fuse_reply_buf(request, (const char *)worker->bounce, size_bytes);
    }
}

void
wake_mount_read(
    struct dor_mount *mount, fuse_req_t request, struct mount_handle *handle, uint64_t offset,
    size_t size_bytes)
{
    bool memory = handle->node == MOUNT_NODE_MEMORY;
    uint64_t file_bytes = memory                 ? handle->snapshot->info.logical_bytes
                          : handle->file != NULL ? handle->file->size_bytes
                                                 : handle->sidecar_bytes;
    if (offset >= file_bytes) {
        fuse_reply_buf(request, NULL, 0);
        return;
    }
    if (size_bytes > MOUNT_READ_BYTES_MAX) {
        fuse_reply_err(request, EIO);
        return;
    }
    size_bytes = (size_t)base_min_u64(size_bytes, file_bytes - offset);
    if (memory) {
        read_memory(mount, request, handle, offset, size_bytes);
        return;
    }
    if (handle->file == NULL) {
        fuse_reply_buf(request, (const char *)handle->sidecar + offset, size_bytes);
        return;
    }
    int err = copy_file(handle, offset, wake_mount_worker->bounce, size_bytes);
    if (err != 0)
        reply_error(request, handle, err);
    else
        fuse_reply_buf(request, (const char *)wake_mount_worker->bounce, size_bytes);
}
