/* SPDX-License-Identifier: Apache-2.0 */
/*
 * images.h - what the targets for readers of image formats share: a folder of their own (in
 * memory, where there is one), and what must hold for every image that a reader takes: its ranges
 * can be read, its frame is sound, and its files come back byte for byte.
 *
 * Ownership:  the folder is removed at the end of the program.
 * Threads:    one at a time.
 * Errors:     what must hold is asserted.
 */
#ifndef TESTS_FUZZ_IMAGES_H
#define TESTS_FUZZ_IMAGES_H

#include <dormouse/image.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "mend.h"
#include "tap.h"

/* More is no small input: sparse files may be of any size. */
enum { FUZZ_BYTES_MAX = 4 << 20 };

/* The folder, with image/ in it. */
static inline const char *
fuzz_folder(void)
{
    static char path[300];
    char image[400];
    if (path[0] != '\0')
        return path;
    work_in_memory();
    snprintf(path, sizeof path, "%s", tap_dir());
    snprintf(image, sizeof image, "%s/image", path);
    dor_assert(mkdir(image, 0700) == 0);
    return path;
}

static inline void
fuzz_put(struct base_buf *buf, const void *data, size_t size_bytes)
{
    dor_assert(base_buf_append(buf, data, size_bytes) == 0);
}

static inline void
fuzz_write(const char *name, const uint8_t *data, size_t size_bytes)
{
    AUTO_CLOSE int fd = -1;
    char path[400];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    int rc = base_file_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd);
    if (rc == 0)
        rc = base_file_pwrite(fd, data, size_bytes, 0, path);
    dor_assert(rc == 0);
}

/* A file of pages, each filled with its number. */
static inline void
fuzz_write_pages(const char *name, unsigned page_count)
{
    AUTO_FREE uint8_t *pages = base_alloc(page_count * DOR_PAGE_BYTES);
    dor_assert(pages != NULL);
    for (unsigned i = 0; i < page_count; i++)
        memset(pages + i * DOR_PAGE_BYTES, (int)i, DOR_PAGE_BYTES);
    fuzz_write(name, pages, page_count * DOR_PAGE_BYTES);
}

static inline void
fuzz_same_file(const char *a, const char *b)
{
    AUTO_BUF struct base_buf in_a = {0};
    AUTO_BUF struct base_buf in_b = {0};
    dor_assert(base_file_read_all(AT_FDCWD, a, FUZZ_BYTES_MAX, &in_a) == 0);
    dor_assert(base_file_read_all(AT_FDCWD, b, FUZZ_BYTES_MAX, &in_b) == 0);
    dor_assert(in_a.size_bytes == in_b.size_bytes);
    dor_assert(in_a.size_bytes == 0 || memcmp(in_a.data, in_b.data, in_a.size_bytes) == 0);
}

struct fuzz_copy {
    const char *from;
    const char *to;
};

static inline int
fuzz_same_entry(const char *name, void *arg)
{
    const struct fuzz_copy *copy = arg;
    char from[700];
    char to[700];
    snprintf(from, sizeof from, "%s/%s", copy->from, name);
    snprintf(to, sizeof to, "%s/%s", copy->to, name);
    fuzz_same_file(from, to);
    return 0;
}

static inline void
fuzz_look(const struct dor_image *image)
{
    const struct dor_image_info *info = dor_image_info(image);
    uint64_t page = 0;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < info->range_count; i++) {
        const struct dor_image_range *range = &info->ranges[i];
        dor_assert(range->first_page == page && range->page_count > 0);
        for (uint64_t at = 0; at < range->page_count; at++) {
            sum = (uint8_t)(sum + range->data[at * DOR_PAGE_BYTES]);
            sum = (uint8_t)(sum + range->data[at * DOR_PAGE_BYTES + DOR_PAGE_BYTES - 1]);
        }
        page += range->page_count;
    }
    dor_assert(page == info->page_count && page > 0);
    uint64_t first = 0;
    for (uint64_t end = 0; first < page;) {
        uint64_t from = end;
        dor_assert(dor_image_next_data(image, from, &first, &end) == 0);
        dor_assert(first >= from && end <= page && (end > first || first == page));
    }
}

static inline int
fuzz_read(void *context, uint64_t first_page, size_t page_count, void *pages)
{
    dor_image_read(context, first_page, page_count, pages);
    return 0;
}

static inline void
fuzz_clear(const char *to)
{
    char command[500];
    snprintf(command, sizeof command, "rm -rf '%s'", to);
    if (unlink(to) != 0)
        dor_assert(system(command) == 0);
}

/* Write the image again and compare. */
static inline void
fuzz_round_trip(struct dor_image *image, const char *from)
{
    const struct dor_image_info *info = dor_image_info(image);
    struct dor_page_source source = {
        .page_count = info->page_count, .read = fuzz_read, .context = image};
    struct dor_frame_info frame = {.file_bytes = info->page_count * DOR_PAGE_BYTES};
    char to[400];
    snprintf(to, sizeof to, "%s/again", fuzz_folder());
    if (info->frame_bytes > 0)
        dor_assert(dor_frame_read_info(info->frame, info->frame_bytes, &frame) == 0);
    if (frame.file_bytes > FUZZ_BYTES_MAX)
        return;
    dor_assert(dor_frame_write(info->frame, info->frame_bytes, to, &source) == 0);
    if (!frame.folder) {
        fuzz_same_file(from, to);
    } else {
        AUTO_CLOSE int dir = -1;
        struct fuzz_copy copy = {.from = from, .to = to};
        dor_assert(base_file_open(AT_FDCWD, from, O_RDONLY | O_DIRECTORY, 0, &dir) == 0);
        dor_assert(base_dir_list(dir, fuzz_same_entry, &copy) == 0);
    }
    fuzz_clear(to);
}

/* Open NAME of the folder as FORMAT; when that works, everything must. */
static inline void
fuzz_image(const char *name, enum dor_image_format format)
{
    struct dor_image *image;
    char path[400];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    if (dor_image_open(path, format, &image) != 0)
        return;
    fuzz_look(image);
    fuzz_round_trip(image, path);
    dor_image_close(image);
}

#endif
