/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_region_types.c - pages of each region type go to segments of their own, in chunks of the
 * size set for the type, and come back whatever the sizes are.
 */
#include "store/images.h"
#include "store/store_priv.h"

enum { PAGES = 400 };

static struct base_random rng;
static struct image image;
static uint8_t types[PAGES];

/* Runs of types, as mappings make them. */
static void
make_types(void)
{
    uint8_t type = DOR_NRT;
    for (size_t i = 0; i < PAGES; i++) {
        if (base_random_below(&rng, 12) == 0)
            type = (uint8_t)base_random_below(&rng, DOR_REGION_TYPES);
        types[i] = type;
    }
}

static int
put_typed(struct dor_store *store, const char *name, struct dor_put_result *ret)
{
    struct dor_put put = {.region_types = types};
    return put_image(store, name, &image, &put, ret);
}

static void
check_result(const struct dor_put_result *result)
{
    uint64_t logical[DOR_REGION_TYPES] = {0};
    uint64_t zero[DOR_REGION_TYPES] = {0};
    struct dor_kind_bytes sum = {0};
    unsigned wrong = 0;
    for (uint64_t i = 0; i < PAGES; i++) {
        logical[types[i]] += DOR_PAGE_BYTES;
        if (page_is_zero(image_page(&image, i)))
            zero[types[i]] += DOR_PAGE_BYTES;
    }
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        wrong += result->by_region_type[type].logical_bytes != logical[type];
        wrong += result->by_region_type[type].zero_bytes != zero[type];
        store_kind_bytes_add(&sum, &result->by_region_type[type]);
    }
    is_int(wrong, 0, "bytes of each type are counted");
    is_mem(&sum, &result->total, sizeof sum, "and add up to the total");
}

static void
check_pages(struct dor_store *store, const char *name)
{
    struct dor_snapshot *snapshot;
    unsigned wrong = 0;
    if (dor_snapshot_open(store, name, &snapshot) != 0)
        bail("%s", dor_err_message());
    for (uint64_t i = 0; i < PAGES; i++)
        wrong += dor_snapshot_page_region_type(snapshot, i) != (enum dor_region_type)types[i];
    is_int(wrong, 0, "each page keeps its type, zero or not");
    dor_snapshot_close(snapshot);
}

/* As many pages in each type's streams as put said are new. */
static void
check_segments(const struct dor_store *store, const struct dor_put_result *result)
{
    unsigned wrong = 0;
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        for (unsigned kind = 0; kind < STORE_STREAM_KINDS; kind++) {
            struct store_segment_entry *first;
            uint64_t pages = 0;
            size_t count = store_catalog_stream(
                store->catalog, 0, type * STORE_STREAM_KINDS + kind, &first);
            for (size_t i = 0; i < count; i++)
                pages += first[i].page_count;
            const struct dor_kind_bytes *bytes = &result->by_region_type[type];
            wrong += pages * DOR_PAGE_BYTES !=
                     (kind == STORE_STREAM_RAW ? bytes->raw_bytes : bytes->patched_bytes);
        }
    is_int(wrong, 0, "new pages are in segments of their type");
}

static void
test_types(const char *chunk_bytes)
{
    struct dor_options *options = OPTIONS(
        "nrt_chunk_bytes", chunk_bytes, "rx_map_chunk_bytes", chunk_bytes, "w_map_chunk_bytes",
        chunk_bytes);
    struct dor_store *store;
    struct dor_put_result result = {0};
    if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
    note("chunks of %s bytes", chunk_bytes);
    is_ok(put_typed(store, "a", &result), "three types in one image");
    check_result(&result);
    check_pages(store, "a");
    check_segments(store, &result);
    ok(reads_back(store, "a", &image), "it reads back");
    is_ok(put_typed(store, "b", &result), "the same again");
    is_int(result.total.raw_bytes + result.total.patched_bytes, 0, "adds nothing");
    ok(reads_back(store, "b", &image), "and reads back");
    image_evolve(&rng, &image);
    is_ok(put_typed(store, "c", &result), "the sandbox a while later");
    check_result(&result);
    ok(result.total.exact_bytes + result.total.patched_bytes > 0, "resembles what it was");
    ok(reads_back(store, "c", &image), "and reads back");
    dor_store_close(store);
    dor_options_free(options);
}

/* Each type with another chunk size. */
static void
test_mixed_sizes(void)
{
    struct dor_options *options = OPTIONS(
        "nrt_chunk_bytes", "64KiB", "rx_map_chunk_bytes", "16KiB", "w_map_group_pages", "7",
        "rx_map_group_pages", "1", "window_bytes", "1M");
    struct dor_store *store;
    char name[16];
    unsigned wrong = 0;
    if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "%d", i);
        make_types();
        image_evolve(&rng, &image);
        if (put_typed(store, name, NULL) != 0)
            bail("%s", dor_err_message());
        wrong += !reads_back(store, name, &image);
    }
    is_int(wrong, 0, "types that change from put to put, each with its own chunk size");
    dor_store_close(store);
    dor_options_free(options);
}

/* Another type has another index: nothing is found across. */
static void
test_types_do_not_share(void)
{
    struct dor_store *store = memory_store();
    struct dor_put_result results[DOR_REGION_TYPES];
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        char name[16];
        snprintf(name, sizeof name, "type %u", type);
        memset(types, (int)type, sizeof types);
        if (put_typed(store, name, &results[type]) != 0)
            bail("%s", dor_err_message());
        ok(reads_back(store, name, &image), "an image all of %s", name);
    }
    for (unsigned type = 1; type < DOR_REGION_TYPES; type++)
        is_mem(
            &results[type].by_region_type[type], &results[0].by_region_type[0],
            sizeof results[0].total, "type %u stores it anew, the same way", type);
    dor_store_close(store);
}

static void
test_one_store_for_all(void)
{
    struct dor_options *options = OPTIONS("split_types", "no");
    struct dor_store *store;
    struct dor_put_result result = {0};
    if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
    make_types();
    is_ok(put_typed(store, "a", &result), "split_types=no");
    is_int(
        result.by_region_type[DOR_NRT].logical_bytes, result.total.logical_bytes,
        "puts everything with NRT");
    memset(types, DOR_W_MAP, sizeof types);
    is_ok(put_typed(store, "b", &result), "and another type");
    is_int(result.total.raw_bytes + result.total.patched_bytes, 0, "shares");
    ok(reads_back(store, "b", &image), "it reads back");
    dor_store_close(store);
    dor_options_free(options);
}

static void
test_no_such_type(void)
{
    struct dor_store *store = memory_store();
    memset(types, DOR_NRT, sizeof types);
    types[PAGES - 1] = DOR_REGION_TYPES;
    is_int(put_typed(store, "a", NULL), DOR_E_USAGE, "a type that does not exist is refused");
    ok(strstr(dor_err_message(), "399") != NULL, "and the page is named");
    dor_store_close(store);
}

int
main(void)
{
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, PAGES);
    make_types();
    test_types("4096");
    test_types("16KiB");
    test_types("64KiB");
    test_mixed_sizes();
    test_types_do_not_share();
    test_one_store_for_all();
    test_no_such_type();
    image_fini(&image);
    return done_testing();
}
