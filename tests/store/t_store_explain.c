/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_explain.c - what a snapshot is made of and with whom it is shared, and what a store
 * holds, in numbers that agree with each other and with the files.
 */
#include "store/images.h"
#include "store/tree.h"

static struct base_random rng;

static struct dor_explain
explain(struct dor_store *store, const char *name)
{
    struct dor_explain result = {0};
    if (dor_store_explain(store, name, &result) != 0)
        bail("%s", dor_err_message());
    return result;
}

static struct dor_stat
stat_store(struct dor_store *store)
{
    struct dor_stat result = {0};
    if (dor_store_stat(store, &result) != 0)
        bail("%s", dor_err_message());
    return result;
}

static void
make_random(struct image *image, uint64_t page_count)
{
    image_init(image, page_count);
    for (uint64_t i = 0; i < page_count; i++)
        page_fill(&rng, PAGE_RANDOM, image_page(image, i));
}

static void
check_sums(const struct dor_explain *explain, const char *name)
{
    const struct dor_kind_bytes *total = &explain->total;
    is_int(
        total->zero_bytes + total->exact_bytes + total->patched_bytes + total->raw_bytes +
            total->reference_bytes,
        total->logical_bytes, "%s: the kinds add up", name);
    ok(explain->freed_bytes <= explain->exclusive_bytes + explain->shared_bytes &&
           explain->exclusive_bytes >= explain->recipe_bytes,
       "%s: what it would free is its own", name);
}

/* Pages made so that each number is known beforehand. */
static void
test_known_numbers(void)
{
    struct dor_store *store = memory_store();
    struct image first;
    struct image second;
    make_random(&first, 40);
    memset(image_page(&first, 0), 0, 8 * DOR_PAGE_BYTES);
    memcpy(image_page(&first, 8), image_page(&first, 9), DOR_PAGE_BYTES);
    must_put(store, "first", &first);
    struct dor_explain alone = explain(store, "first");
    check_sums(&alone, "alone");
    is_int(alone.total.zero_bytes, 8 * DOR_PAGE_BYTES, "8 zero pages");
    is_int(alone.total.exact_bytes, DOR_PAGE_BYTES, "1 page twice");
    is_int(alone.total.raw_bytes, 31 * DOR_PAGE_BYTES, "31 plain pages");
    is_int(alone.shared_bytes, 0, "alone it shares nothing");
    is_int(alone.sharer_count, 0, "with nobody");

    image_copy(&second, &first);
    for (uint64_t i = 20; i < 25; i++)
        page_change_words(&rng, image_page(&second, i), 2);
    for (uint64_t i = 25; i < 35; i++)
        page_fill(&rng, PAGE_RANDOM, image_page(&second, i));
    must_put(store, "second", &second);
    struct dor_explain later = explain(store, "second");
    check_sums(&later, "later");
    is_int(later.total.patched_bytes, 5 * DOR_PAGE_BYTES, "5 patches");
    is_int(later.total.raw_bytes, 10 * DOR_PAGE_BYTES, "10 new plain pages");
    is_int(later.total.exact_bytes, 17 * DOR_PAGE_BYTES, "17 equal to earlier ones");
    ok(later.sharer_count == 1 && strcmp(later.sharers[0].name, "first") == 0,
       "it shares with the first");
    struct dor_explain earlier = explain(store, "first");
    is_int(earlier.total.raw_bytes, alone.total.raw_bytes, "the first is what it was");
    is_int(earlier.shared_bytes, later.shared_bytes, "they share the same bytes");
    is_int(earlier.sharers[0].shared_bytes, later.sharers[0].shared_bytes, "of each other");
    ok(earlier.exclusive_bytes + earlier.shared_bytes == alone.exclusive_bytes,
       "what was exclusive is now partly shared");
    dor_explain_fini(&alone);
    dor_explain_fini(&later);
    dor_explain_fini(&earlier);
    struct dor_explain none = {0};
    is_int(dor_store_explain(store, "nobody", &none), DOR_E_NOT_FOUND, "no such snapshot");
    dor_store_close(store);
    image_fini(&first);
    image_fini(&second);
}

/* What deleting it would free is what deleting it frees. */
static void
test_freed(void)
{
    struct dor_options *options = OPTIONS("gc_waste_percent", "0");
    struct dor_store *store = new_store("freed", options);
    struct image image;
    image_make(&rng, &image, 600);
    must_put(store, "a", &image);
    image_evolve(&rng, &image);
    must_put(store, "b", &image);
    image_evolve(&rng, &image);
    must_put(store, "c", &image);
    struct dor_explain promise = explain(store, "c");
    struct dor_gc gc = {0};
    struct dor_gc_result result = {0};
    if (dor_store_gc(store, &gc, &result) != 0)
        bail("%s", dor_err_message());
    uint64_t before = directory_bytes(test_path("freed"));
    if (dor_store_remove(store, "c") != 0 || dor_store_gc(store, &gc, &result) != 0)
        bail("%s", dor_err_message());
    uint64_t freed = before - directory_bytes(test_path("freed"));
    /* Tables shrink too, and groups that are half used are packed anew. */
    ok(freed >= promise.freed_bytes * 9 / 10 && freed <= promise.exclusive_bytes * 13 / 10,
       "promised %d (exclusive %d), freed %d", (int)promise.freed_bytes,
       (int)promise.exclusive_bytes, (int)freed);
    dor_explain_fini(&promise);
    dor_store_close(store);
    dor_options_free(options);
    image_fini(&image);
}

static void
test_sharers_in_order(void)
{
    struct dor_store *store = memory_store();
    struct image image;
    struct image part;
    make_random(&image, 60);
    must_put(store, "whole", &image);
    for (uint64_t n = 10; n <= 50; n += 10) {
        char name[16];
        image_init(&part, 60);
        memcpy(part.bytes, image.bytes, n * DOR_PAGE_BYTES);
        snprintf(name, sizeof name, "part %d", (int)n);
        must_put(store, name, &part);
        image_fini(&part);
    }
    make_random(&part, 10);
    must_put(store, "stranger", &part);
    struct dor_explain whole = explain(store, "whole");
    bool sorted = true;
    for (size_t i = 1; i < whole.sharer_count; i++)
        sorted &= whole.sharers[i - 1].shared_bytes >= whole.sharers[i].shared_bytes;
    ok(whole.sharer_count == 5 && sorted, "five sharers, most shared first");
    is_str(whole.sharers[0].name, "part 50", "this is the first");
    dor_explain_fini(&whole);
    dor_store_close(store);
    image_fini(&image);
    image_fini(&part);
}

static void
test_region_types(void)
{
    struct dor_store *store = memory_store();
    struct image image;
    uint8_t types[60];
    struct dor_put put = {.region_types = types};
    make_random(&image, 60);
    for (size_t i = 0; i < sizeof types; i++)
        types[i] = (uint8_t)(i < 10 ? DOR_NRT : i < 30 ? DOR_RX_MAP : DOR_W_MAP);
    if (put_image(store, "a", &image, &put, NULL) != 0)
        bail("%s", dor_err_message());
    struct dor_explain result = explain(store, "a");
    struct dor_stat stat = stat_store(store);
    static const unsigned want[] = {10, 20, 30};
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        is_int(
            result.by_region_type[type].raw_bytes, want[type] * DOR_PAGE_BYTES,
            "explain counts type %u", type);
        is_int(stat.by_region_type[type].raw_pages, want[type], "stat counts type %u", type);
    }
    dor_explain_fini(&result);
    dor_store_close(store);
    image_fini(&image);
}

static void
test_stat(void)
{
    const char *path = test_path("stat");
    struct dor_store *store = new_store("stat", NULL);
    struct dor_put put = {.domain = "other"};
    struct image image;
    struct dor_stat empty = stat_store(store);
    is_int(
        empty.snapshots + empty.domains + empty.logical_bytes, 0, "an empty store has nothing");
    is_int(empty.stored_bytes, directory_bytes(path), "but a catalog");
    image_make(&rng, &image, 200);
    must_put(store, "a", &image);
    must_put(store, "b", &image);
    if (put_image(store, "c", &image, &put, NULL) != 0)
        bail("%s", dor_err_message());
    struct dor_stat stat = stat_store(store);
    is_int(stat.snapshots, 3, "three snapshots");
    is_int(stat.domains, 2, "in two domains");
    is_int(stat.logical_bytes, 600 * DOR_PAGE_BYTES, "their bytes");
    is_int(stat.stored_bytes, directory_bytes(path), "stored bytes are those of the files");
    is_int(
        stat.pages_by_kind[DOR_PAGE_ZERO] + stat.pages_by_kind[DOR_PAGE_RAW] +
            stat.pages_by_kind[DOR_PAGE_PATCHED] + stat.pages_by_kind[DOR_PAGE_REFERENCE] +
            stat.exact_pages,
        600, "the kinds add up");
    dor_store_close(store);
    image_fini(&image);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    test_known_numbers();
    test_freed();
    test_sharers_in_order();
    test_region_types();
    test_stat();
    return done_testing();
}
