/* SPDX-License-Identifier: Apache-2.0 */
/*
 * images.h - made-up memory images for tests of the store: zero, repeated, similar, pointer-rich,
 * text and random pages from a seed; putting them, and looking whether they come back.
 *
 * Ownership:  an image owns its bytes: image_fini().
 * Threads:    one image, one thread.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_STORE_IMAGES_H
#define TESTS_STORE_IMAGES_H

#include <sys/mman.h>
#include <sys/stat.h>

#include <dormouse/store.h>

#include "base/mem.h"
#include "chunk/pages.h"
#include "tap.h"

struct image {
    uint64_t page_count;
    uint8_t *bytes;
};

/* ------------------------------------------------------------------ making images */

static inline uint8_t *
image_page(const struct image *image, uint64_t page)
{
    return image->bytes + page * DOR_PAGE_BYTES;
}

static inline void
image_init(struct image *image, uint64_t page_count)
{
    image->page_count = page_count;
    image->bytes = base_array(page_count, DOR_PAGE_BYTES);
    if (image->bytes == NULL)
        bail("%s", dor_err_message());
}

static inline void
image_fini(struct image *image)
{
    base_free(image->bytes);
    image->bytes = NULL;
}

static inline void
image_copy(struct image *to, const struct image *from)
{
    image_init(to, from->page_count);
    memcpy(to->bytes, from->bytes, from->page_count * DOR_PAGE_BYTES);
}

static inline void
page_change(struct base_random *random, uint8_t *page)
{
    uint64_t choice = base_random_below(random, 4);
    if (choice == 0)
        page_shift(random, page, 1 + base_random_below(random, 200));
    else if (choice == 1)
        page_slide(page, HEAP_START, 4096 * base_random_below(random, 64));
    else
        page_change_words(random, page, 1 + base_random_below(random, 30));
}

/* A page is zero, an earlier one again, an earlier one changed, or one of its own kind. */
static inline void
image_fill_page(struct base_random *random, struct image *image, uint64_t page)
{
    uint8_t *bytes = image_page(image, page);
    uint64_t choice = base_random_below(random, 100);
    if (choice < 30)
        return;
    if (choice < 60 && page > 0) {
        memcpy(bytes, image_page(image, base_random_below(random, page)), DOR_PAGE_BYTES);
        if (choice < 45)
            page_change(random, bytes);
        return;
    }
    page_fill(random, (enum page_kind)base_random_below(random, PAGE_KINDS), bytes);
}

static inline void
image_make(struct base_random *random, struct image *image, uint64_t page_count)
{
    image_init(image, page_count);
    for (uint64_t page = 0; page < page_count; page++)
        image_fill_page(random, image, page);
}

/* The same sandbox a while later: most pages as before, some changed, some new, a few elsewhere. */
static inline void
image_evolve(struct base_random *random, struct image *image)
{
    for (uint64_t page = 0; page < image->page_count; page++) {
        uint64_t choice = base_random_below(random, 100);
        uint8_t *bytes = image_page(image, page);
        if (choice < 12)
            page_change(random, bytes);
        else if (choice < 15)
            page_fill(random, (enum page_kind)base_random_below(random, PAGE_KINDS), bytes);
        else if (choice < 18)
            memcpy(
                bytes, image_page(image, base_random_below(random, image->page_count)),
                DOR_PAGE_BYTES);
    }
}

/* ------------------------------------------------------------------ images as files */

static inline bool
page_is_zero(const uint8_t *page)
{
    static const uint8_t zeros[DOR_PAGE_BYTES];
    return memcmp(page, zeros, DOR_PAGE_BYTES) == 0;
}

static inline int
memory_file(void)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    if (fd < 0)
        bail("no memory file");
    return fd;
}

/* A new file with the image's bytes; SPARSE leaves zero pages out. */
static inline int
image_file(const struct image *image, bool sparse)
{
    int fd = memory_file();
    off_t size_bytes = (off_t)(image->page_count * DOR_PAGE_BYTES);
    if (ftruncate(fd, size_bytes) != 0)
        bail("no room for an image");
    for (uint64_t page = 0; page < image->page_count; page++) {
        const uint8_t *bytes = image_page(image, page);
        if (sparse && page_is_zero(bytes))
            continue;
        if (pwrite(fd, bytes, DOR_PAGE_BYTES, (off_t)(page * DOR_PAGE_BYTES)) !=
            (ssize_t)DOR_PAGE_BYTES)
            bail("no room for an image");
    }
    return fd;
}

/* True when the file FD is IMAGE, byte for byte. */
static inline bool
file_is_image(int fd, const struct image *image)
{
    struct stat st;
    size_t size_bytes = image->page_count * DOR_PAGE_BYTES;
    if (fstat(fd, &st) != 0 || (size_t)st.st_size != size_bytes)
        return false;
    void *map = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        bail("no room for an image");
    bool same = memcmp(map, image->bytes, size_bytes) == 0;
    munmap(map, size_bytes);
    return same;
}

/* ------------------------------------------------------------------ into the store and out */

/* Put IMAGE as NAME; PUT (may be NULL) says the rest. */
static inline int
put_image(
    struct dor_store *store, const char *name, const struct image *image,
    const struct dor_put *put, struct dor_put_result *ret)
{
    struct dor_put_result result;
    struct dor_put all = put != NULL ? *put : (struct dor_put){0};
    AUTO_CLOSE int fd = image_file(image, true);
    all.image_fd = fd;
    int err = dor_store_put(store, name, &all, &result);
    if (err == 0 && ret != NULL)
        *ret = result;
    return err;
}

static inline void
must_put(struct dor_store *store, const char *name, const struct image *image)
{
    if (put_image(store, name, image, NULL, NULL) != 0)
        bail("put of %s: %s", name, dor_err_message());
}

/* The snapshot as a whole: 1 = equal to IMAGE, 0 = not, or an error. */
static inline int
compare_image(struct dor_store *store, const char *name, const struct image *image)
{
    struct dor_snapshot *snapshot;
    AUTO_CLOSE int fd = memory_file();
    int err = dor_snapshot_open(store, name, &snapshot);
    if (err != 0)
        return err;
    err = dor_snapshot_write_image(snapshot, fd, NULL, NULL);
    dor_snapshot_close(snapshot);
    return err != 0 ? err : file_is_image(fd, image);
}

/* The same page by page: every STEP-th. */
static inline int
compare_pages(
    struct dor_store *store, const char *name, const struct image *image, uint64_t step)
{
    struct dor_snapshot *snapshot;
    uint8_t page[DOR_PAGE_BYTES];
    int err = dor_snapshot_open(store, name, &snapshot);
    if (err != 0)
        return err;
    bool same =
        dor_snapshot_info(snapshot)->logical_bytes == image->page_count * DOR_PAGE_BYTES;
    for (uint64_t i = 0; i < image->page_count && err == 0 && same; i += step) {
        memset(page, 0xee, sizeof page);
        err = dor_snapshot_read_page(snapshot, i, page);
        same = err != 0 || memcmp(page, image_page(image, i), DOR_PAGE_BYTES) == 0;
    }
    dor_snapshot_close(snapshot);
    return err != 0 ? err : same;
}

/* The same, by runs of RUN pages. */
static inline int
compare_runs(struct dor_store *store, const char *name, const struct image *image, uint64_t run)
{
    struct dor_snapshot *snapshot;
    int err = dor_snapshot_open(store, name, &snapshot);
    if (err != 0)
        return err;
    uint8_t *pages = malloc(run * DOR_PAGE_BYTES);
    if (pages == NULL)
        bail("no memory");
    bool same = true;
    for (uint64_t i = 0; i < image->page_count && err == 0 && same; i += run) {
        uint64_t count = base_min_u64(run, image->page_count - i);
        memset(pages, 0xee, run * DOR_PAGE_BYTES);
        err = dor_snapshot_read_pages(snapshot, i, count, pages);
        same = err != 0 || memcmp(pages, image_page(image, i), count * DOR_PAGE_BYTES) == 0;
    }
    free(pages);
    dor_snapshot_close(snapshot);
    return err != 0 ? err : same;
}

/* True when the snapshot is equal to IMAGE, read in each way. */
static inline bool
reads_back(struct dor_store *store, const char *name, const struct image *image)
{
    int whole = compare_image(store, name, image);
    int pages = compare_pages(store, name, image, 1);
    int runs = compare_runs(store, name, image, 37);
    bool same = whole == 1 && pages == 1 && runs == 1;
    if (!same)
        note(
            "%s: whole image %d, pages %d, runs %d: %s", name, whole, pages, runs,
            dor_err_message());
    return same;
}

/* ------------------------------------------------------------------ stores */

static inline struct dor_store *
memory_store(void)
{
    struct dor_store *store;
    if (dor_store_open_memory(NULL, &store) != 0)
        bail("%s", dor_err_message());
    return store;
}

/* The path of NAME in the test's directory, in one of a few buffers used in turn. */
static inline const char *
test_path(const char *name)
{
    static char paths[8][512];
    static unsigned turn;
    char *path = paths[turn++ % ARRAY_LEN(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", tap_dir(), name);
    return path;
}

static inline struct dor_store *
open_store(const char *path, enum dor_open_mode mode)
{
    struct dor_store *store;
    if (dor_store_open(path, mode, NULL, &store) != 0)
        bail("%s: %s", path, dor_err_message());
    return store;
}

/* A new store in the test's directory, open for writing. */
static inline struct dor_store *
new_store(const char *name, const struct dor_options *options)
{
    const char *path = test_path(name);
    if (dor_store_create(path, options) != 0)
        bail("%s: %s", path, dor_err_message());
    return open_store(path, DOR_OPEN_WRITE);
}

/* Options from pairs of words that end with NULL. */
static inline struct dor_options *
make_options(const char *const *words)
{
    struct dor_options *options;
    int err = dor_options_new(&options);
    for (size_t i = 0; err == 0 && words[i] != NULL; i += 2)
        err = dor_options_set(options, words[i], words[i + 1]);
    if (err != 0)
        bail("%s", dor_err_message());
    return options;
}

#define OPTIONS(...) make_options((const char *const[]){__VA_ARGS__, NULL})

#endif
