/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_sources.c - a put takes its pages from a source as it does from a file: holes are zeros
 * and are not read, dropped pages become zeros, and a source that fails leaves no trace.
 */
#include "store/roots.h"
#include "store/sources.h"

/* More than two windows of the least size. */
enum { PAGES = 700 };

static struct base_random rng;
static struct image image;
static uint8_t holes[PAGES]; /* as row.data */
static uint8_t dropped[PAGES];

static struct dor_store *
small_windows(void)
{
    struct dor_options *options = OPTIONS("window_bytes", "1M");
    struct dor_store *store;
    if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
    dor_options_free(options);
    return store;
}

static uint64_t
snapshot_count(struct dor_store *store)
{
    struct dor_stat stat;
    if (dor_store_stat(store, &stat) != 0)
        bail("%s", dor_err_message());
    return stat.snapshots;
}

/* ------------------------------------------------------------------ pages and holes */

static void
test_as_a_file(void)
{
    struct dor_store *stores[2] = {small_windows(), small_windows()};
    struct dor_put_result results[2] = {0};
    struct row row = {.image = &image};
    is_ok(put_image(stores[0], "a", &image, NULL, &results[0]), "put of a file");
    is_ok(put_row(stores[1], "a", &row, NULL, &results[1]), "put of a source without holes");
    ok(reads_back(stores[1], "a", &image), "it reads back");
    is_mem(
        &results[1].total, &results[0].total, sizeof results[0].total,
        "the same is stored as of the file");
    is_ok(put_row(stores[0], "b", &row, NULL, &results[1]), "the source beside the file");
    is_int(results[1].total.raw_bytes + results[1].total.patched_bytes, 0, "adds nothing");
    dor_store_close(stores[0]);
    dor_store_close(stores[1]);
}

static void
test_holes(void)
{
    struct dor_store *store = small_windows();
    struct row row = {.image = &image, .data = holes};
    struct image want;
    row_apply(&row, NULL, &want);
    is_ok(put_row(store, "a", &row, NULL, NULL), "put of a source with holes");
    is_int(row.hole_reads, 0, "what is no data is not read");
    ok(reads_back(store, "a", &want), "holes are zeros");
    memset(holes, 0, sizeof holes);
    struct dor_put_result result = {0};
    is_ok(put_row(store, "b", &row, NULL, &result), "put of nothing but holes");
    is_int(result.total.zero_bytes, PAGES * DOR_PAGE_BYTES, "all of it is zeros");
    is_int(row.hole_reads, 0, "and nothing is read");
    image_fini(&want);
    dor_store_close(store);
}

/* ------------------------------------------------------------------ sources that are wrong */

static int
go_back(void *context, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end)
{
    (void)context;
    *ret_first = page_index < 256 ? page_index : page_index - 1;
    *ret_end = PAGES;
    return 0;
}

static int
stand_still(void *context, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end)
{
    (void)context;
    *ret_first = page_index;
    *ret_end = page_index;
    return 0;
}

/* Data that goes on behind the last page is data to the last page. */
static int
go_beyond(void *context, uint64_t page_index, uint64_t *ret_first, uint64_t *ret_end)
{
    (void)context;
    *ret_first = page_index;
    *ret_end = UINT64_MAX;
    return 0;
}

static int
put_source(struct dor_store *store, uint64_t page_count, __typeof__(&row_next_data) next_data)
{
    struct row row = {.image = &image};
    struct dor_page_source source = row_source(&row);
    struct dor_put put = {.image_fd = -1, .source = &source};
    struct dor_put_result result;
    source.page_count = page_count;
    source.next_data = next_data;
    return dor_store_put(store, "new", &put, &result);
}

static void
test_wrong_sources(void)
{
    struct dor_store *store = small_windows();
    must_put(store, "a", &image);
    is_int(put_source(store, 0, NULL), DOR_E_USAGE, "a source of no pages is refused");
    is_int(
        put_source(store, (UINT64_C(1) << 32) + 1, NULL), DOR_E_USAGE,
        "and one of more than 16 TiB");
    ok(strstr(dor_err_message(), "4294967297 pages") != NULL, "with their number");
    is_int(put_source(store, PAGES, go_back), DOR_E_USAGE, "a source that goes back");
    is_int(put_source(store, PAGES, stand_still), DOR_E_USAGE, "a source that stands still");
    is_int(snapshot_count(store), 1, "nothing came of them");
    is_ok(put_source(store, PAGES, go_beyond), "data that ends behind the image");
    ok(reads_back(store, "new", &image), "is data to its end");
    dor_store_close(store);
}

/* Each call of the source fails once. */
static void
test_failing_source(bool with_holes)
{
    struct dor_store *store = small_windows();
    struct row row = {.image = &image, .data = with_holes ? holes : NULL};
    struct image want;
    uint64_t calls = 0;
    unsigned wrong = 0;
    must_put(store, "a", &image);
    row_apply(&row, NULL, &want);
    for (int err = -1; err != 0; calls++) {
        row.calls = 0;
        row.fail_call = calls + 1;
        row.fail_error = calls % 2 == 0 ? DOR_E_TIMEOUT : DOR_E_CORRUPT;
        err = put_row(store, "b", &row, NULL, NULL);
        if (err == 0)
            break;
        wrong += err != row.fail_error || strcmp(dor_err_message(), "the source fails") != 0;
        wrong += snapshot_count(store) != 1;
    }
    ok(calls > 3, "a source fails at each of %d calls", (int)calls);
    is_int(wrong, 0, "put gives its error and nothing stays");
    ok(reads_back(store, "b", &want), "the same handle puts it when it no longer fails");
    ok(reads_back(store, "a", &image), "what was there is unharmed");
    struct dor_check check = {0};
    struct dor_check_result result = {0};
    is_ok(dor_store_check(store, &check, &result), "check");
    is_int(result.findings, 0, "finds nothing");
    image_fini(&want);
    dor_store_close(store);
}

/* ------------------------------------------------------------------ dropped pages */

/* IMAGE without what is dropped; how many pages that are not zero are. */
static uint64_t
drop_pages(struct image *ret)
{
    uint64_t count = 0;
    image_copy(ret, &image);
    for (uint64_t page = 0; page < PAGES; page++)
        if (dropped[page] != 0) {
            count += !page_is_zero(image_page(ret, page));
            memset(image_page(ret, page), 0, DOR_PAGE_BYTES);
        }
    return count;
}

static int
find_dropped(void *context, const struct dor_snapshot_info *info)
{
    *(uint64_t *)context += info->put.dropped_bytes;
    return 0;
}

static void
test_dropped(void)
{
    struct dor_store *store = small_windows();
    struct dor_put put = {.dropped = dropped};
    struct dor_put_result result = {0};
    struct image want;
    uint64_t kept_bytes = 0;
    for (uint64_t page = 0; page < PAGES; page++)
        dropped[page] = (uint8_t)(base_random_below(&rng, 3) == 0 ? 1 + page % 255 : 0);
    uint64_t count = drop_pages(&want);
    is_ok(put_image(store, "a", &image, &put, &result), "put with dropped pages");
    is_int(result.dropped_bytes, count * DOR_PAGE_BYTES, "those that held data are counted");
    ok(reads_back(store, "a", &want), "they are zeros, and nothing else is");
    is_ok(dor_store_list(store, find_dropped, &kept_bytes), "list");
    is_int(kept_bytes, count * DOR_PAGE_BYTES, "the snapshot knows how many");
    is_ok(put_image(store, "b", &image, NULL, &result), "the same with all its pages");
    is_int(result.dropped_bytes, 0, "nothing is dropped");
    ok(reads_back(store, "b", &image), "and it comes back whole");
    memset(dropped, 1, sizeof dropped);
    is_ok(put_image(store, "c", &image, &put, &result), "all pages dropped");
    is_int(result.total.zero_bytes, PAGES * DOR_PAGE_BYTES, "are zeros");
    image_fini(&want);
    drop_pages(&want);
    ok(reads_back(store, "c", &want), "and read as such");
    image_fini(&want);
    dor_store_close(store);
}

/* That a page is in a root image is no reason to keep it. */
static void
test_dropped_block(void)
{
    struct dor_store *store = small_windows();
    struct image root;
    struct image with_blocks;
    static const uint8_t all[64] = {[0 ... 63] = 1};
    struct dor_put put = {.dropped = all};
    struct dor_put_result result = {0};
    const char *path = test_path("root.img");
    root_make(&rng, &root, 40);
    write_root(path, &root, 0);
    must_add_root(store, path, "root");
    uint64_t blocks = image_with_blocks(&rng, &with_blocks, &root, ARRAY_LEN(all));
    is_ok(put_image(store, "kept", &with_blocks, NULL, &result), "blocks of a root image");
    is_int(result.total.reference_bytes, blocks * DOR_PAGE_BYTES, "are references");
    is_ok(put_image(store, "dropped", &with_blocks, &put, &result), "dropped blocks");
    is_int(result.total.reference_bytes, 0, "are none");
    is_int(result.total.zero_bytes, sizeof all * DOR_PAGE_BYTES, "but zeros");
    image_fini(&root);
    image_fini(&with_blocks);
    dor_store_close(store);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, PAGES);
    make_holes(&rng, holes, PAGES);
    test_as_a_file();
    test_wrong_sources();
    test_failing_source(false);
    test_failing_source(true);
    test_dropped();
    test_dropped_block();
    test_holes();
    image_fini(&image);
    return done_testing();
}
