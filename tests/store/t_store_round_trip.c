/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_round_trip.c - images of many sizes and contents come back as they were, from memory and
 * from a directory, as a whole and page by page, and the numbers that put gives add up.
 */
#include <fcntl.h>

#include "store/images.h"
#include "store/tree.h"

static struct base_random rng;

/* Every page is of the kind that its bytes and the result of put say. */
static void
check_kinds(struct dor_store *store, const char *name, const struct image *image)
{
    struct dor_snapshot *snapshot;
    uint64_t pages[DOR_PAGE_KINDS] = {0};
    unsigned wrong = 0;
    if (dor_snapshot_open(store, name, &snapshot) != 0)
        bail("%s", dor_err_message());
    for (uint64_t page = 0; page < image->page_count; page++) {
        enum dor_page_kind kind = dor_snapshot_page_kind(snapshot, page);
        wrong += kind > DOR_PAGE_PATCHED;
        wrong += (kind == DOR_PAGE_ZERO) != page_is_zero(image_page(image, page));
        wrong += dor_snapshot_page_region_type(snapshot, page) != DOR_NRT;
        pages[kind]++;
    }
    const struct dor_kind_bytes *total = &dor_snapshot_info(snapshot)->put.total;
    is_int(wrong, 0, "%s: all pages are of a kind that fits", name);
    is_int(total->zero_bytes, pages[DOR_PAGE_ZERO] * DOR_PAGE_BYTES, "%s: zero bytes", name);
    ok(total->raw_bytes <= pages[DOR_PAGE_RAW] * DOR_PAGE_BYTES &&
           total->patched_bytes <= pages[DOR_PAGE_PATCHED] * DOR_PAGE_BYTES,
       "%s: new pages are not more than there are", name);
    is_int(
        total->raw_bytes + total->patched_bytes + total->exact_bytes,
        (pages[DOR_PAGE_RAW] + pages[DOR_PAGE_PATCHED]) * DOR_PAGE_BYTES,
        "%s: stored pages are new or equal to others", name);
    dor_snapshot_close(snapshot);
}

static void
check_result(const struct dor_put_result *result, const struct image *image, const char *name)
{
    const struct dor_kind_bytes *total = &result->total;
    is_int(total->logical_bytes, image->page_count * DOR_PAGE_BYTES, "%s: logical bytes", name);
    is_int(
        total->zero_bytes + total->exact_bytes + total->patched_bytes + total->raw_bytes +
            total->reference_bytes,
        total->logical_bytes, "%s: the kinds add up", name);
    is_mem(total, &result->by_region_type[DOR_NRT], sizeof *total, "%s: all are NRT", name);
    ok(total->patched_stored_bytes <= total->patched_bytes &&
           total->raw_stored_bytes <= total->raw_bytes &&
           (total->raw_bytes == 0) == (total->raw_stored_bytes == 0),
       "%s: what is stored is not larger than what it is for", name);
}

static void
put_and_get(struct dor_store *store, const char *name, const struct image *image, bool sparse)
{
    struct dor_put_result result;
    AUTO_CLOSE int fd = image_file(image, sparse);
    struct dor_put put = {.image_fd = fd};
    is_ok(dor_store_put(store, name, &put, &result), "%s is put", name);
    check_result(&result, image, name);
    ok(reads_back(store, name, image), "%s comes back", name);
    check_kinds(store, name, image);
}

static void
test_sizes(struct dor_store *store, const char *where)
{
    static const uint64_t page_counts[] = {1, 2, 3, 16, 17, 255, 700};
    for (size_t i = 0; i < ARRAY_LEN(page_counts); i++)
        for (int sparse = 0; sparse <= 1; sparse++) {
            char name[64];
            struct image image;
            image_make(&rng, &image, page_counts[i]);
            snprintf(
                name, sizeof name, "%s %d pages%s", where, (int)page_counts[i],
                sparse ? ", sparse" : "");
            put_and_get(store, name, &image, sparse);
            image_fini(&image);
        }
}

/* A put of what is there adds no page, whatever way it is given. */
static void
test_again(struct dor_store *store, const char *where)
{
    struct image image;
    struct dor_put_result result = {0};
    image_make(&rng, &image, 300);
    must_put(store, "first", &image);
    is_ok(put_image(store, "second", &image, NULL, &result), "%s: the same image again", where);
    is_int(result.total.raw_bytes + result.total.patched_bytes, 0, "%s: adds no pages", where);
    is_int(
        result.total.exact_bytes + result.total.zero_bytes, result.total.logical_bytes,
        "%s: all are equal or zero", where);
    ok(result.added_bytes < 1000, "%s: costs %d bytes", where, (int)result.added_bytes);
    ok(reads_back(store, "second", &image), "%s: and comes back", where);
    image_fini(&image);
}

static void
test_nothing_but_zeros(struct dor_store *store, const char *where)
{
    struct image image;
    struct dor_put_result result = {0};
    image_init(&image, 5000);
    is_ok(put_image(store, "zeros", &image, NULL, &result), "%s: zeros", where);
    is_int(result.total.zero_bytes, 5000 * DOR_PAGE_BYTES, "%s: are seen as such", where);
    ok(reads_back(store, "zeros", &image), "%s: and come back", where);
    AUTO_CLOSE int fd = memory_file();
    struct dor_snapshot *snapshot;
    struct stat st;
    if (dor_snapshot_open(store, "zeros", &snapshot) != 0 ||
        dor_snapshot_write_image(snapshot, fd, NULL, NULL) != 0 || fstat(fd, &st) != 0)
        bail("%s", dor_err_message());
    is_int(st.st_blocks, 0, "%s: as a hole", where);
    dor_snapshot_close(snapshot);
    image_fini(&image);
}

/* Bases and equals must be found and read back across the borders of windows. */
static void
test_many_windows(void)
{
    struct dor_options *options = OPTIONS("window_bytes", "1M");
    struct dor_store *store = new_store("windows", options);
    struct image image;
    image_make(&rng, &image, 1100);
    put_and_get(store, "windows", &image, true);
    image_evolve(&rng, &image);
    put_and_get(store, "windows, later", &image, false);
    dor_store_close(store);
    dor_options_free(options);
    image_fini(&image);
}

/* Bytes of all files but the catalog, whose size put cannot know before it has said its own. */
static uint64_t
bytes_without_catalog(const char *path)
{
    struct tree tree;
    tree_read(&tree, path);
    tree_remove(&tree, "catalog");
    uint64_t bytes = tree_bytes(&tree);
    tree_fini(&tree);
    return bytes;
}

/* What put says it added is what the directory grew by. */
static void
test_added_bytes(void)
{
    struct dor_store *store = new_store("added", NULL);
    struct image image;
    unsigned wrong = 0;
    image_make(&rng, &image, 200);
    for (int i = 0; i < 30; i++) {
        char name[32];
        struct dor_put_result result = {0};
        uint64_t before = bytes_without_catalog(test_path("added"));
        snprintf(name, sizeof name, "generation-%02d", i);
        if (put_image(store, name, &image, NULL, &result) != 0)
            bail("%s", dor_err_message());
        uint64_t grown = bytes_without_catalog(test_path("added")) - before;
        if (result.added_bytes != grown) {
            wrong++;
            note("%s: said %d, grew by %d", name, (int)result.added_bytes, (int)grown);
        }
        image_evolve(&rng, &image);
    }
    is_int(wrong, 0, "added_bytes is how much the files grew");
    dor_store_close(store);
    image_fini(&image);
}

static void
test_reopened(void)
{
    struct image images[3];
    static const char *const names[] = {"a", "b", "c"};
    struct dor_store *store = new_store("reopened", NULL);
    image_make(&rng, &images[0], 120);
    for (int i = 1; i < 3; i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    for (int i = 0; i < 3; i++) {
        must_put(store, names[i], &images[i]);
        dor_store_close(store);
        store = open_store(test_path("reopened"), DOR_OPEN_WRITE);
    }
    dor_store_close(store);
    store = open_store(test_path("reopened"), DOR_OPEN_READ);
    for (int i = 0; i < 3; i++)
        ok(reads_back(store, names[i], &images[i]), "%s, from a store opened again", names[i]);
    dor_store_close(store);
    for (int i = 0; i < 3; i++)
        image_fini(&images[i]);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    struct dor_store *memory = memory_store();
    struct dor_store *directory = new_store("store", NULL);
    test_sizes(memory, "memory");
    test_sizes(directory, "directory");
    test_again(memory, "memory");
    test_again(directory, "directory");
    test_nothing_but_zeros(memory, "memory");
    test_nothing_but_zeros(directory, "directory");
    dor_store_close(memory);
    dor_store_close(directory);
    test_many_windows();
    test_added_bytes();
    test_reopened();
    return done_testing();
}
