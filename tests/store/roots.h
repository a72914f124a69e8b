/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roots.h - made-up root images, and memory images that hold blocks of them.
 *
 * Ownership:  as images.h.
 * Threads:    one image, one thread.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_STORE_ROOTS_H
#define TESTS_STORE_ROOTS_H

#include <fcntl.h>

#include "store/images.h"

/* The bytes of IMAGE as the file PATH, and TAIL_BYTES that are no whole block. */
static inline void
write_root(const char *path, const struct image *image, size_t tail_bytes)
{
    static const uint8_t tail[DOR_PAGE_BYTES] = {1};
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t size_bytes = image->page_count * DOR_PAGE_BYTES;
    if (fd < 0 || write(fd, image->bytes, size_bytes) != (ssize_t)size_bytes ||
        write(fd, tail, tail_bytes) != (ssize_t)tail_bytes)
        bail("cannot write %s", path);
}

/* Change a byte of BLOCK of the file PATH; the file's times stay if KEEP_TIMES. */
static inline void
spoil_root(const char *path, uint64_t block, bool keep_times)
{
    struct stat st;
    uint8_t byte = 0;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t at = (off_t)(block * DOR_PAGE_BYTES + 100);
    if (fd < 0 || fstat(fd, &st) != 0 || pread(fd, &byte, 1, at) != 1)
        bail("cannot read %s", path);
    byte ^= 0x5a;
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    if (pwrite(fd, &byte, 1, at) != 1 || (keep_times && futimens(fd, times) != 0))
        bail("cannot change %s", path);
}

/* Set the change time of the file PATH. */
static inline void
touch_root(const char *path, time_t seconds)
{
    struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    if (utimensat(AT_FDCWD, path, times, 0) != 0)
        bail("cannot touch %s", path);
}

/* A root image of PAGE_COUNT blocks, all different but for some zeros. */
static inline void
root_make(struct base_random *random, struct image *root, uint64_t page_count)
{
    image_init(root, page_count);
    for (uint64_t page = 0; page < page_count; page++)
        if (page % 16 != 3)
            page_fill(random, PAGE_KINDS - 1, image_page(root, page));
    for (uint64_t page = 0; page < page_count; page++)
        if (page % 16 != 3)
            memcpy(image_page(root, page), &page, sizeof page);
}

/* Runs of blocks of ROOT between pages of the image's own; how many pages are blocks, not zero. */
static inline uint64_t
image_with_blocks(
    struct base_random *random, struct image *image, const struct image *root,
    uint64_t page_count)
{
    uint64_t blocks = 0;
    image_init(image, page_count);
    for (uint64_t page = 0; page < page_count;) {
        uint64_t run = 1 + base_random_below(random, 12);
        uint64_t block = base_random_below(random, root->page_count);
        if (base_random_below(random, 3) == 0) {
            page_fill(random, PAGE_TEXT, image_page(image, page));
            memcpy(image_page(image, page), &page, sizeof page);
            page++;
            continue;
        }
        for (; run > 0 && page < page_count && block < root->page_count;
             run--, page++, block++) {
            memcpy(image_page(image, page), image_page(root, block), DOR_PAGE_BYTES);
            blocks += !page_is_zero(image_page(image, page));
        }
    }
    return blocks;
}

static inline int
add_root(struct dor_store *store, const char *path, const char *name)
{
    struct dor_root_info info;
    struct dor_root_add add = {.path = path, .name = name};
    return dor_store_root_add(store, &add, &info);
}

static inline void
must_add_root(struct dor_store *store, const char *path, const char *name)
{
    if (add_root(store, path, name) != 0)
        bail("root add %s: %s", path, dor_err_message());
}

#endif
