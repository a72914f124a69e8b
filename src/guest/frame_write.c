/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_write.c - dor_frame_write(): the files of a frame, put in place as a whole.
 *
 *     file:    PATH.part --write, sync--> --rename--> PATH --sync the directory-->
 *     folder:  PATH.part/ made, each file in it written and synced, itself synced, then the same
 *
 * Invariants:
 *  1. Nothing has the final name before everything is on the disk. A killed writer leaves at most
 *     PATH.part, and the next one removes it.
 *  2. The frame was validated in whole before the first file is made, so its names are plain
 *     names. Files are made with O_EXCL inside a folder of ours, so nothing that is there already
 *     is followed or overwritten.
 *  3. Zero bytes are never written: a new file is cut to its size and reads as zeros where nothing
 *     is written. Only pages of a source that names its data are written even if zero.
 *
 * What it does not do: owners and times. The mode passes the umask, as for any new file.
 */
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"
#include "guest/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { BATCH_PAGES = 256 };

struct writer {
    const struct dor_page_source *source;
    uint8_t *pages;                          /* BATCH_PAGES of them */
    const struct guest_frame_reader *reader; /* NULL for an empty frame */
    const char *path;
    char part[PATH_MAX]; /* PATH.part */
    bool folder;
    int dirfd; /* of the folder PATH.part, or AT_FDCWD */
    int fd;    /* of the open file */
    char name[GUEST_FRAME_NAME_BYTES_MAX + 1];
    const char *file; /* what to call the open file, for the system and for people */
    uint64_t offset;  /* in it */
};

/* ------------------------------------------------------------------ pages */

static bool
is_zero_page(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, DOR_PAGE_BYTES - 1) == 0;
}

/* Write the pages of the batch that are not zero, neighbours together. */
static int
write_nonzero(const struct writer *writer, size_t page_count, uint64_t offset)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < page_count;) {
        size_t end = at;
        while (end < page_count && !is_zero_page(writer->pages + end * DOR_PAGE_BYTES))
            end++;
        if (end > at)
            rc = base_file_pwrite(
                writer->fd, writer->pages + at * DOR_PAGE_BYTES, (end - at) * DOR_PAGE_BYTES,
                offset + at * DOR_PAGE_BYTES, writer->file);
        at = end > at ? end : at + 1;
    }
    return rc;
}

/* Write PAGE_COUNT pages, all of them data, to OFFSET of the file. */
static int
write_data(
    const struct writer *writer, uint64_t first_page, uint64_t page_count, uint64_t offset)
{
    int rc = 0;
    while (rc == 0 && page_count > 0) {
        size_t batch = (size_t)base_min_u64(page_count, BATCH_PAGES);
        rc = writer->source->read(writer->source->context, first_page, batch, writer->pages);
        if (rc != 0)
            return rc;
        if (writer->source->next_data == NULL)
            rc = write_nonzero(writer, batch, offset);
        else
            rc = base_file_pwrite(
                writer->fd, writer->pages, batch * DOR_PAGE_BYTES, offset, writer->file);
        first_page += batch;
        page_count -= batch;
        offset += batch * DOR_PAGE_BYTES;
    }
    return rc;
}

/* Write those of the pages that the source has data for. */
static int
write_pages(const struct writer *writer, uint64_t first_page, uint64_t page_count)
{
    const struct dor_page_source *source = writer->source;
    uint64_t end = first_page + page_count;
    uint64_t at = first_page;
    int rc = 0;
    while (rc == 0 && at < end) {
        uint64_t data = at;
        uint64_t data_end = end;
        if (source->next_data != NULL)
            rc = source->next_data(source->context, at, &data, &data_end);
        if (rc != 0 || data >= end)
            break;
        dor_assert(data >= at && data_end > data);
        data_end = base_min_u64(data_end, end);
        rc = write_data(
            writer, data, data_end - data,
            writer->offset + (data - first_page) * DOR_PAGE_BYTES);
        at = data_end;
    }
    return rc;
}

/* ------------------------------------------------------------------ files */

static int
open_file(struct writer *writer, const struct guest_frame_op *op)
{
    if (writer->folder) {
        dor_assert(op->data != NULL);
        memcpy(writer->name, op->data, op->count);
        writer->name[op->count] = '\0';
        writer->file = writer->name;
    }
    int rc = base_file_open(
        writer->dirfd, writer->file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, op->mode,
        &writer->fd);
    if (rc == 0)
        rc = base_file_truncate(writer->fd, op->file_bytes, writer->file);
    writer->offset = 0;
    return rc;
}

static int
close_file(struct writer *writer)
{
    int rc = writer->fd < 0 ? 0 : base_file_sync(writer->fd, writer->file);
    base_auto_close(&writer->fd);
    writer->fd = -1;
    return rc;
}

static int
write_op(struct writer *writer, const struct guest_frame_op *op)
{
    int rc = 0;
    if (op->kind == GUEST_FRAME_FILE) {
        rc = close_file(writer);
        return rc == 0 ? open_file(writer, op) : rc;
    }
    if (op->kind == GUEST_FRAME_LITERAL)
        rc = base_file_pwrite(
            writer->fd, op->data, (size_t)op->count, writer->offset, writer->file);
    else if (op->kind == GUEST_FRAME_PAGES)
        rc = write_pages(writer, op->first_page, op->count);
    writer->offset += op->kind == GUEST_FRAME_PAGES ? op->count * DOR_PAGE_BYTES : op->count;
    return rc;
}

static int
write_files(struct writer *writer, struct guest_frame_reader reader)
{
    struct guest_frame_op op;
    int rc = 0;
    for (guest_frame_next(&reader, &op);
         rc == 0 && op.kind != GUEST_FRAME_RANGE && op.kind != GUEST_FRAME_END;
         guest_frame_next(&reader, &op))
        rc = write_op(writer, &op);
    return rc == 0 ? close_file(writer) : rc;
}

/* The file of an empty frame. */
static int
write_raw(struct writer *writer)
{
    enum { PLAIN_MODE = 0600 }; /* memory holds secrets */
    struct guest_frame_op file = {
        .mode = PLAIN_MODE, .file_bytes = writer->source->page_count * DOR_PAGE_BYTES};
    int rc = open_file(writer, &file);
    if (rc == 0)
        rc = write_pages(writer, 0, writer->source->page_count);
    return rc == 0 ? close_file(writer) : rc;
}

/* ------------------------------------------------------------------ names */

/* Whether NAME is one of the frame's files. */
static bool
is_ours(const struct writer *writer, const char *name)
{
    struct guest_frame_op op;
    struct guest_frame_reader reader;
    if (writer->reader == NULL)
        return false;
    reader = *writer->reader;
    for (guest_frame_next(&reader, &op); op.kind != GUEST_FRAME_END;
         guest_frame_next(&reader, &op))
        if (op.kind == GUEST_FRAME_FILE && op.count == strlen(name) &&
            memcmp(op.data, name, op.count) == 0)
            return true;
    return false;
}

struct removal {
    const struct writer *writer;
    int dirfd;
};

static int
remove_entry(const char *name, void *arg)
{
    const struct removal *removal = arg;
    if (is_ours(removal->writer, name))
        return base_file_unlink(removal->dirfd, name);
    return dor_fail(
        DOR_E_EXISTS, "%s: holds %s, which no unfinished write left there; move it away",
        removal->writer->part, name);
}

/* Remove what a killed writer left, or what this one leaves after an error. */
static int
remove_part(const struct writer *writer)
{
    AUTO_CLOSE int dir = -1;
    struct stat status;
    int rc = base_file_stat(AT_FDCWD, writer->part, AT_SYMLINK_NOFOLLOW, writer->part, &status);
    if (rc != 0)
        return rc == DOR_E_NOT_FOUND ? 0 : rc;
    if (!S_ISDIR(status.st_mode))
        return base_file_unlink(AT_FDCWD, writer->part);
    rc = base_file_open(AT_FDCWD, writer->part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &dir);
    struct removal removal = {.writer = writer, .dirfd = dir};
    if (rc == 0)
        rc = base_dir_list(dir, remove_entry, &removal);
    return rc == 0 ? base_dir_remove(AT_FDCWD, writer->part) : rc;
}

/* Whether PATH may get its new content. An empty folder is found to be one by the rename. */
static int
check_target(const struct writer *writer)
{
    struct stat status;
    if (writer->path[0] == '\0')
        return dor_fail(DOR_E_USAGE, "the path to write the image to is empty");
    int rc = base_file_stat(AT_FDCWD, writer->path, AT_SYMLINK_NOFOLLOW, writer->path, &status);
    if (rc != 0)
        return rc == DOR_E_NOT_FOUND ? 0 : rc;
    if (writer->folder ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode))
        return dor_fail(
            DOR_E_USAGE, "%s: is there and no %s; give another name", writer->path,
            writer->folder ? "folder" : "regular file");
    return 0;
}

static int
make_part(struct writer *writer, const char *path)
{
    int length = snprintf(writer->part, sizeof writer->part, "%s", path);
    while (length > 1 && length < PATH_MAX && writer->part[length - 1] == '/')
        length--;
    if (length < 0 || (size_t)length + sizeof ".part" > sizeof writer->part)
        return dor_fail(DOR_E_USAGE, "%.64s...: the path is too long", path);
    memcpy(writer->part + length, ".part", sizeof ".part");
    int rc = remove_part(writer);
    if (rc != 0 || !writer->folder)
        return rc;
    rc = base_dir_make(AT_FDCWD, writer->part, S_IRWXU);
    if (rc == 0)
        rc = base_file_open(
            AT_FDCWD, writer->part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &writer->dirfd);
    return rc;
}

/* The directory that PATH is in: its new name must last. */
static int
sync_parent(const struct writer *writer)
{
    AUTO_CLOSE int dir = -1;
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", writer->part);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof parent, ".");
    else
        slash[slash == parent ? 1 : 0] = '\0';
    int rc = base_file_open(AT_FDCWD, parent, O_RDONLY | O_DIRECTORY, 0, &dir);
    return rc == 0 ? base_dir_sync(dir, parent) : rc;
}

static int
put_in_place(struct writer *writer)
{
    int rc = writer->folder ? base_dir_sync(writer->dirfd, writer->part) : 0;
    if (rc == 0)
        rc = base_file_rename(AT_FDCWD, writer->part, writer->path);
    return rc == 0 ? sync_parent(writer) : rc;
}

/* ------------------------------------------------------------------ the whole */

static int
write_all(struct writer *writer)
{
    int rc = check_target(writer);
    if (rc == 0)
        rc = make_part(writer, writer->path);
    if (rc != 0)
        return rc;
    rc = writer->reader == NULL ? write_raw(writer) : write_files(writer, *writer->reader);
    if (rc == 0)
        rc = put_in_place(writer);
    if (rc == 0)
        return 0;
    /* The words of the first error are those to keep. */
    struct base_err first = *base_err_record();
    if (remove_part(writer) != 0)
        base_err_load(&first);
    return rc;
}

int
dor_frame_write(
    const void *frame, size_t frame_bytes, const char *path,
    const struct dor_page_source *source)
{
    struct guest_frame_reader reader;
    struct dor_frame_info info = {0};
    struct writer writer = {
        .source = source, .path = path, .dirfd = AT_FDCWD, .fd = -1, .file = writer.part};
    if (source->page_count == 0 || source->page_count > GUEST_FRAME_PAGES_MAX)
        return dor_fail(
            DOR_E_USAGE, "an image of %" PRIu64 " pages cannot be written", source->page_count);
    int rc = frame_bytes == 0
                 ? 0
                 : guest_frame_open(frame, frame_bytes, source->page_count, &reader, &info);
    if (rc != 0)
        return rc;
    AUTO_FREE uint8_t *pages = base_alloc_pages(BATCH_PAGES);
    if (pages == NULL)
        return DOR_E_NO_MEMORY;
    writer.pages = pages;
    writer.folder = info.folder;
    writer.reader = frame_bytes == 0 ? NULL : &reader;
    rc = write_all(&writer);
    base_auto_close(&writer.fd);
    if (writer.dirfd >= 0)
        base_auto_close(&writer.dirfd);
    return rc;
}
