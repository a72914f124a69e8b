/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame_write.c - the files of a frame, put in place as a whole.
 *
 *     file:    PATH.part --sync--> --rename--> PATH --sync the directory-->
 *     folder:  PATH.part/ made, each file in it written and synced, itself synced, then the same
 *
 * All files are made first, with everything in them that is no page. Pages come in any order, each
 * straight to its place; a store gives them in the order in which it has them.
 *
 * Invariants:
 *  1. Nothing has the final name before everything is on the disk. A killed writer leaves at most
 *     PATH.part, and the next one removes it.
 *  2. The frame was validated in whole before the first file is made, so its names are plain
 *     names. Files are made with O_EXCL inside a folder of ours, so nothing that is there already
 *     is followed or overwritten.
 *  3. A new file is cut to its size and reads as zeros where nothing is written: only what was
 *     given is written, be it zero.
 *
 * What it does not do: owners and times. The mode passes the umask, as for any new file.
 */
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/size.h"
#include "guest/frame.h"
#include "guest/frame_runs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    BATCH_PAGES = 64,
    OPEN_FILES =
        16, /* at a time; images have one or two files of pages, CRIU's one a process */
    OWN_MODE = 0600, /* also that of an empty frame's file: memory holds secrets */
    MODE_BITS = 0777
};

struct file {
    const uint8_t *name; /* in the frame */
    uint64_t size_bytes;
    size_t name_bytes;
    unsigned mode;
    bool has_pages;
};

/* A file that is open, at the place of its number. */
struct slot {
    int fd; /* -1: none */
    uint32_t file;
};

struct dor_frame_writer {
    struct guest_frame_reader reader; /* at the first op; not used for an empty frame */
    bool empty;                       /* the frame: one raw file */
    bool folder;
    bool begun; /* what is in PART is ours */
    uint64_t page_count;
    char path[PATH_MAX];
    char part[PATH_MAX]; /* PATH.part */
    int dirfd;           /* of the folder PATH.part, or AT_FDCWD */
    struct file *files;
    uint32_t file_count;
    struct slot slots[OPEN_FILES];
    struct guest_frame_runs runs;
};

/* ------------------------------------------------------------------ files */

/* The name of FILE relative to the writer's folder; BUF is for it. */
static const char *
name_of(
    const struct dor_frame_writer *writer, uint32_t file,
    char buf[GUEST_FRAME_NAME_BYTES_MAX + 1])
{
    if (!writer->folder)
        return writer->part;
    dor_assert(writer->files[file].name != NULL);
    memcpy(buf, writer->files[file].name, writer->files[file].name_bytes);
    buf[writer->files[file].name_bytes] = '\0';
    return buf;
}

static void
close_slot(struct slot *slot)
{
    base_auto_close(&slot->fd);
    slot->fd = -1;
}

/* Files are made so that we may open them again; what their mode does not have is taken away at last. */
static int
set_mode(const struct dor_frame_writer *writer, uint32_t file, int fd)
{
    unsigned extra = OWN_MODE & ~writer->files[file].mode;
    struct stat status;
    if (extra == 0)
        return 0;
    if (fstat(fd, &status) != 0 || fchmod(fd, status.st_mode & ~extra & MODE_BITS) != 0)
        return dor_fail_errno(errno, "%s: cannot set its permissions", writer->part);
    return 0;
}

/* A descriptor of FILE, opened with FLAGS if it is not open. */
static int
open_file(struct dor_frame_writer *writer, uint32_t file, int flags, unsigned mode, int *ret)
{
    struct slot *slot = &writer->slots[file % OPEN_FILES];
    char buf[GUEST_FRAME_NAME_BYTES_MAX + 1];
    if (slot->fd < 0 || slot->file != file) {
        close_slot(slot);
        int rc = base_file_open(
            writer->dirfd, name_of(writer, file, buf), O_RDWR | O_NOFOLLOW | flags, mode,
            &slot->fd);
        if (rc != 0)
            return rc;
        slot->file = file;
    }
    *ret = slot->fd;
    return 0;
}

/* Wait for FILE to be on the disk: also what was written through a descriptor closed since. */
static int
sync_file(struct dor_frame_writer *writer, uint32_t file)
{
    char buf[GUEST_FRAME_NAME_BYTES_MAX + 1];
    int fd = -1;
    int rc = open_file(writer, file, 0, 0, &fd);
    if (rc == 0)
        rc = set_mode(writer, file, fd);
    if (rc == 0)
        rc = base_file_sync(fd, name_of(writer, file, buf));
    if (rc == 0)
        close_slot(&writer->slots[file % OPEN_FILES]);
    return rc;
}

/* Make file number FILE, all zeros. */
static int
make_file(struct dor_frame_writer *writer, uint32_t file)
{
    char buf[GUEST_FRAME_NAME_BYTES_MAX + 1];
    int fd = -1;
    int rc =
        open_file(writer, file, O_CREAT | O_EXCL, writer->files[file].mode | OWN_MODE, &fd);
    return rc != 0 ? rc
                   : base_file_truncate(
                         fd, writer->files[file].size_bytes, name_of(writer, file, buf));
}

/* The file that OP begins; a file without pages is complete when the next one begins. */
static int
begin_file(struct dor_frame_writer *writer, const struct guest_frame_op *op)
{
    uint32_t file = writer->file_count;
    if (file > 0 && !writer->files[file - 1].has_pages) {
        int rc = sync_file(writer, file - 1);
        if (rc != 0)
            return rc;
    }
    writer->files[writer->file_count++] = (struct file){
        .name = op->data,
        .name_bytes = (size_t)op->count,
        .size_bytes = op->file_bytes,
        .mode = op->mode};
    return make_file(writer, file);
}

static int
write_literal(struct dor_frame_writer *writer, const struct guest_frame_op *op, uint64_t offset)
{
    char buf[GUEST_FRAME_NAME_BYTES_MAX + 1];
    int fd = -1;
    uint32_t file = writer->file_count - 1;
    int rc = open_file(writer, file, 0, 0, &fd);
    return rc != 0 ? rc
                   : base_file_pwrite(
                         fd, op->data, (size_t)op->count, offset, name_of(writer, file, buf));
}

static int
add_run(struct dor_frame_writer *writer, const struct guest_frame_op *op, uint64_t offset)
{
    const struct guest_frame_run run = {
        .first_page = op->first_page,
        .page_count = op->count,
        .offset = offset,
        .file = writer->file_count - 1};
    writer->files[run.file].has_pages = true;
    return guest_frame_runs_add(&writer->runs, &run);
}

/* Make the files of the frame and learn where pages go. */
static int
make_files(struct dor_frame_writer *writer)
{
    struct guest_frame_reader reader = writer->reader;
    struct guest_frame_op op;
    uint64_t offset = 0;
    int rc = 0;
    for (guest_frame_next(&reader, &op);
         rc == 0 && op.kind != GUEST_FRAME_RANGE && op.kind != GUEST_FRAME_END;
         guest_frame_next(&reader, &op)) {
        if (op.kind == GUEST_FRAME_FILE) {
            rc = begin_file(writer, &op);
            offset = 0;
            continue;
        }
        if (op.kind == GUEST_FRAME_LITERAL)
            rc = write_literal(writer, &op, offset);
        else if (op.kind == GUEST_FRAME_PAGES)
            rc = add_run(writer, &op, offset);
        offset += op.kind == GUEST_FRAME_PAGES ? op.count * DOR_PAGE_BYTES : op.count;
    }
    return rc;
}

/* The file of an empty frame. */
static int
make_raw(struct dor_frame_writer *writer)
{
    const struct guest_frame_op file = {
        .mode = OWN_MODE, .file_bytes = writer->page_count * DOR_PAGE_BYTES};
    const struct guest_frame_op pages = {.count = writer->page_count};
    int rc = begin_file(writer, &file);
    return rc == 0 ? add_run(writer, &pages, 0) : rc;
}

/* ------------------------------------------------------------------ pages */

/* Write COUNT pages, which are neighbours in RUN, at their place in it. */
static int
write_run(
    struct dor_frame_writer *writer, const struct guest_frame_run *run, uint64_t first_page,
    const struct iovec *pages, size_t count)
{
    struct iovec pieces[BATCH_PAGES];
    char buf[GUEST_FRAME_NAME_BYTES_MAX + 1];
    int fd = -1;
    uint64_t offset = run->offset + (first_page - run->first_page) * DOR_PAGE_BYTES;
    int rc = open_file(writer, run->file, 0, 0, &fd);
    while (rc == 0 && count > 0) {
        size_t batch = base_min_size(count, BATCH_PAGES);
        memcpy(pieces, pages, batch * sizeof pieces[0]);
        rc = base_file_pwritev(fd, pieces, batch, offset, name_of(writer, run->file, buf));
        pages += batch;
        count -= batch;
        offset += batch * DOR_PAGE_BYTES;
    }
    return rc;
}

int
dor_frame_writer_add(
    struct dor_frame_writer *writer, uint64_t first_page, const struct iovec *pages,
    size_t page_count)
{
    const struct guest_frame_run *run = guest_frame_runs_find(&writer->runs, first_page);
    const struct guest_frame_run *last = writer->runs.places.rows + writer->runs.places.count;
    uint64_t end = first_page + page_count;
    dor_assert(
        first_page <= writer->page_count && page_count <= writer->page_count - first_page);
    for (; run < last && run->first_page < end; run++) {
        uint64_t from = base_max_u64(first_page, run->first_page);
        uint64_t to = base_min_u64(end, run->first_page + run->page_count);
        int rc = write_run(writer, run, from, pages + (from - first_page), (size_t)(to - from));
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Copy to AGAIN what is written at PLACE, data alone, of the pages FROM ... TO - 1 of both. */
static int
copy_pages(
    struct dor_frame_writer *writer, const struct guest_frame_run *place,
    const struct guest_frame_run *again, uint64_t from, uint64_t to, uint8_t *pages)
{
    char buf[GUEST_FRAME_NAME_BYTES_MAX + 1];
    uint64_t offset = place->offset + (from - place->first_page) * DOR_PAGE_BYTES;
    uint64_t end = offset + (to - from) * DOR_PAGE_BYTES;
    uint64_t distance = again->offset + (from - again->first_page) * DOR_PAGE_BYTES - offset;
    while (offset < end) {
        uint64_t data = end;
        uint64_t data_end = end;
        int fd = -1;
        int rc = open_file(writer, place->file, 0, 0, &fd);
        if (rc == 0)
            rc = base_file_next_data(fd, offset, end, &data, &data_end);
        if (rc != 0 || data >= end)
            return rc;
        size_t bytes = (size_t)base_min_u64(data_end - data, BATCH_PAGES * DOR_PAGE_BYTES);
        rc = base_file_pread(fd, pages, bytes, data, name_of(writer, place->file, buf));
        if (rc == 0)
            rc = open_file(writer, again->file, 0, 0, &fd);
        if (rc == 0)
            rc = base_file_pwrite(
                fd, pages, bytes, data + distance, name_of(writer, again->file, buf));
        if (rc != 0)
            return rc;
        offset = data + bytes;
    }
    return 0;
}

/* Pages that the frame has in more than one place. */
static int
write_again(struct dor_frame_writer *writer)
{
    const struct guest_frame_list *again = &writer->runs.again;
    AUTO_FREE uint8_t *pages = again->count == 0 ? NULL : base_alloc_pages(BATCH_PAGES);
    if (again->count > 0 && pages == NULL)
        return DOR_E_NO_MEMORY;
    for (size_t i = 0; i < again->count; i++) {
        const struct guest_frame_run *run = &again->rows[i];
        uint64_t end = run->first_page + run->page_count;
        for (uint64_t page = run->first_page; page < end;) {
            const struct guest_frame_run *place = guest_frame_runs_find(&writer->runs, page);
            uint64_t to = base_min_u64(end, place->first_page + place->page_count);
            int rc = copy_pages(writer, place, run, page, to, pages);
            if (rc != 0)
                return rc;
            page = to;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ names */

/* Whether NAME is one of the frame's files. */
static bool
is_ours(const struct dor_frame_writer *writer, const char *name)
{
    struct guest_frame_op op;
    struct guest_frame_reader reader;
    if (writer->empty)
        return false;
    reader = writer->reader;
    for (guest_frame_next(&reader, &op); op.kind != GUEST_FRAME_END;
         guest_frame_next(&reader, &op))
        if (op.kind == GUEST_FRAME_FILE && op.count == strlen(name) &&
            memcmp(op.data, name, op.count) == 0)
            return true;
    return false;
}

struct removal {
    const struct dor_frame_writer *writer;
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
remove_part(const struct dor_frame_writer *writer)
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
check_target(const struct dor_frame_writer *writer)
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
make_part(struct dor_frame_writer *writer)
{
    int length = snprintf(writer->part, sizeof writer->part, "%s", writer->path);
    while (length > 1 && length < PATH_MAX && writer->part[length - 1] == '/')
        length--;
    if (length < 0 || (size_t)length + sizeof ".part" > sizeof writer->part)
        return dor_fail(DOR_E_USAGE, "%.64s...: the path is too long", writer->path);
    memcpy(writer->part + length, ".part", sizeof ".part");
    int rc = remove_part(writer);
    writer->begun = rc == 0;
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
sync_parent(const struct dor_frame_writer *writer)
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
put_in_place(struct dor_frame_writer *writer)
{
    int rc = writer->folder ? base_dir_sync(writer->dirfd, writer->part) : 0;
    if (rc == 0)
        rc = base_file_rename(AT_FDCWD, writer->part, writer->path);
    if (rc != 0)
        return rc;
    writer->begun = false;
    return sync_parent(writer);
}

/* ------------------------------------------------------------------ the whole */

static int
begin(struct dor_frame_writer *writer, const char *path, uint64_t file_count)
{
    if (snprintf(writer->path, sizeof writer->path, "%s", path) >= (int)sizeof writer->path)
        return dor_fail(DOR_E_USAGE, "%.64s...: the path is too long", path);
    writer->files = base_array((size_t)file_count, sizeof writer->files[0]);
    if (writer->files == NULL)
        return DOR_E_NO_MEMORY;
    int rc = check_target(writer);
    if (rc == 0)
        rc = make_part(writer);
    if (rc == 0)
        rc = writer->empty ? make_raw(writer) : make_files(writer);
    return rc == 0 ? guest_frame_runs_sort(&writer->runs) : rc;
}

int
dor_frame_writer_open(
    const void *frame, size_t frame_bytes, const char *path, uint64_t page_count,
    struct dor_frame_writer **ret)
{
    struct dor_frame_info info = {.file_count = 1};
    if (page_count == 0 || page_count > GUEST_FRAME_PAGES_MAX)
        return dor_fail(
            DOR_E_USAGE, "an image of %" PRIu64 " pages cannot be written", page_count);
    struct dor_frame_writer *writer = base_zalloc(sizeof *writer);
    if (writer == NULL)
        return DOR_E_NO_MEMORY;
    writer->empty = frame_bytes == 0;
    writer->page_count = page_count;
    writer->dirfd = AT_FDCWD;
    for (size_t i = 0; i < OPEN_FILES; i++)
        writer->slots[i].fd = -1;
    int rc = writer->empty
                 ? 0
                 : guest_frame_open(frame, frame_bytes, page_count, &writer->reader, &info);
    writer->folder = info.folder;
    if (rc == 0)
        rc = begin(writer, path, info.file_count);
    if (rc != 0) {
        dor_frame_writer_close(writer);
        return rc;
    }
    *ret = writer;
    return 0;
}

int
dor_frame_writer_finish(struct dor_frame_writer *writer)
{
    int rc = write_again(writer);
    for (uint32_t i = 0; rc == 0 && i < writer->file_count; i++)
        if (writer->files[i].has_pages || i + 1 == writer->file_count)
            rc = sync_file(writer, i);
    return rc == 0 ? put_in_place(writer) : rc;
}

void
dor_frame_writer_close(struct dor_frame_writer *writer)
{
    if (writer == NULL)
        return;
    /* The words of the first error are those to keep. */
    struct base_err first = *base_err_record();
    for (size_t i = 0; i < OPEN_FILES; i++)
        close_slot(&writer->slots[i]);
    if (writer->begun)
        (void)!remove_part(writer);
    base_err_load(&first);
    if (writer->dirfd >= 0)
        base_auto_close(&writer->dirfd);
    guest_frame_runs_fini(&writer->runs);
    base_free(writer->files);
    base_free(writer);
}

/* ------------------------------------------------------------------ from a source */

static bool
is_zero_page(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, DOR_PAGE_BYTES - 1) == 0;
}

/* Add the pages of a batch, those that are zero only with ZEROS too. */
static int
add_batch(
    struct dor_frame_writer *writer, uint64_t first_page, size_t count, uint8_t *pages,
    bool zeros)
{
    struct iovec pieces[BATCH_PAGES];
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < count;) {
        size_t run = 0;
        for (uint8_t *page = pages + at * DOR_PAGE_BYTES;
             at + run < count && (zeros || !is_zero_page(page)); page += DOR_PAGE_BYTES)
            pieces[run++] = (struct iovec){page, DOR_PAGE_BYTES};
        if (run > 0)
            rc = dor_frame_writer_add(writer, first_page + at, pieces, run);
        at += base_max_size(run, 1);
    }
    return rc;
}

/* Add what SOURCE has of the pages FIRST ... END - 1, of which all are data. */
static int
add_data(
    struct dor_frame_writer *writer, const struct dor_page_source *source, uint64_t first,
    uint64_t end, uint8_t *pages)
{
    int rc = 0;
    while (rc == 0 && first < end) {
        size_t batch = (size_t)base_min_u64(end - first, BATCH_PAGES);
        rc = source->read(source->context, first, batch, pages);
        if (rc == 0)
            rc = add_batch(writer, first, batch, pages, source->next_data != NULL);
        first += batch;
    }
    return rc;
}

/* Add those pages of RUN that the source has data for. */
static int
add_pages(
    struct dor_frame_writer *writer, const struct dor_page_source *source,
    const struct guest_frame_run *run, uint8_t *pages)
{
    uint64_t end = run->first_page + run->page_count;
    uint64_t at = run->first_page;
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
        rc = add_data(writer, source, data, data_end, pages);
        at = data_end;
    }
    return rc;
}

int
dor_frame_write(
    const void *frame, size_t frame_bytes, const char *path,
    const struct dor_page_source *source)
{
    struct dor_frame_writer *writer = NULL;
    AUTO_FREE uint8_t *pages = base_alloc_pages(BATCH_PAGES);
    if (pages == NULL)
        return DOR_E_NO_MEMORY;
    int rc = dor_frame_writer_open(frame, frame_bytes, path, source->page_count, &writer);
    if (rc != 0)
        return rc;
    dor_assert(writer != NULL);
    for (size_t i = 0; rc == 0 && i < writer->runs.places.count; i++)
        rc = add_pages(writer, source, &writer->runs.places.rows[i], pages);
    if (rc == 0)
        rc = dor_frame_writer_finish(writer);
    dor_frame_writer_close(writer);
    return rc;
}
