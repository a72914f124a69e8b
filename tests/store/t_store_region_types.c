/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_region_types.c - pages of each region type go to segments of their own, in chunks of the
 * size set for the type, and come back whatever the sizes are; and what another type holds already
 * is shared with it, while each page keeps its own type.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "base/le.h"
#include "chunk/digest.h"
#include "store/images.h"
#include "store/recipe.h"
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

/* As many pages in each type's streams as put said are new of that type, or with CROSS of all. */
static void
check_segments(const struct dor_store *store, const struct dor_put_result *result, bool cross)
{
    unsigned wrong = 0;
    uint64_t all[STORE_STREAM_KINDS] = {0};
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        for (unsigned kind = 0; kind < STORE_STREAM_KINDS; kind++) {
            struct store_segment_entry *first;
            uint64_t pages = 0;
            size_t count = store_catalog_stream(
                store->catalog, 0, type * STORE_STREAM_KINDS + kind, &first);
            for (size_t i = 0; i < count; i++)
                pages += first[i].page_count;
            const struct dor_kind_bytes *bytes = &result->by_region_type[type];
            uint64_t told = kind == STORE_STREAM_RAW ? bytes->raw_bytes : bytes->patched_bytes;
            wrong += (!cross || kind == STORE_STREAM_RAW) && pages * DOR_PAGE_BYTES != told;
            all[kind] += pages * DOR_PAGE_BYTES;
        }
    wrong += all[STORE_STREAM_RAW] != result->total.raw_bytes;
    wrong += all[STORE_STREAM_PATCH] != result->total.patched_bytes;
    is_int(wrong, 0, "new pages are in segments of their type, patches with their bases");
}

static void
test_types(const char *chunk_bytes, bool cross)
{
    struct dor_options *options = OPTIONS(
        "nrt_chunk_bytes", chunk_bytes, "rx_map_chunk_bytes", chunk_bytes, "w_map_chunk_bytes",
        chunk_bytes, "cross_types", cross ? "yes" : "no");
    struct dor_store *store;
    struct dor_put_result result = {0};
    if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
    note("chunks of %s bytes%s", chunk_bytes, cross ? "" : ", types apart");
    is_ok(put_typed(store, "a", &result), "three types in one image");
    check_result(&result);
    check_pages(store, "a");
    check_segments(store, &result, cross);
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

/* Another type has another index: when told so, put finds nothing across. */
static void
test_types_do_not_share(void)
{
    struct dor_options *options = OPTIONS("cross_types", "no");
    struct dor_store *store;
    struct dor_put_result results[DOR_REGION_TYPES];
    if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
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
    dor_options_free(options);
}

static uint64_t
own_type_bytes(struct dor_store *store, const char *name, unsigned type)
{
    struct dor_explain explain;
    if (dor_store_explain(store, name, &explain) != 0)
        bail("%s", dor_err_message());
    uint64_t bytes = explain.by_region_type[type].logical_bytes;
    dor_explain_fini(&explain);
    return bytes;
}

static void
test_types_share(void)
{
    struct dor_store *store = memory_store();
    struct dor_store *other = memory_store();
    struct dor_put_result result;
    memset(types, DOR_NRT, sizeof types);
    if (put_typed(store, "nrt", NULL) != 0)
        bail("%s", dor_err_message());
    make_types();
    is_ok(put_typed(store, "mixed", &result), "what NRT holds already, in three types");
    is_int(result.total.raw_bytes + result.total.patched_bytes, 0, "is shared");
    check_result(&result);
    check_pages(store, "mixed");
    ok(reads_back(store, "mixed", &image), "it reads back");
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++)
        is_int(
            own_type_bytes(store, "mixed", type), result.by_region_type[type].logical_bytes,
            "explain counts pages of type %u under it", type);
    image_evolve(&rng, &image);
    is_ok(put_typed(store, "later", &result), "a while later");
    check_result(&result);
    check_pages(store, "later");
    ok(reads_back(store, "later", &image), "it reads back");
    is_ok(dor_store_copy(store, "later", other, "copy", &result), "copied to another store");
    check_pages(other, "copy");
    ok(reads_back(other, "copy", &image), "it reads back there");
    is_ok(dor_store_remove(store, "nrt"), "the first is removed");
    is_ok(dor_store_remove(store, "mixed"), "and the second");
    struct dor_gc gc = {.squeeze = true};
    struct dor_gc_result collected;
    is_ok(dor_store_gc(store, &gc, &collected), "gc");
    check_pages(store, "later");
    ok(reads_back(store, "later", &image), "what is left reads back");
    dor_store_close(store);
    dor_store_close(other);
}

/* ------------------------------------------------------------------ the recipe's own types */

enum { HEADER_BYTES = 64 };

static const uint8_t uuid[16];

/* Eight pages: zero, six plain pages of NRT, one plain page of W_MAP. */
static void
small_recipe(uint64_t places[8], struct store_recipe *recipe)
{
    places[0] = store_place(DOR_PAGE_ZERO, DOR_NRT, 0);
    for (uint64_t i = 1; i < 7; i++)
        places[i] = store_place(DOR_PAGE_RAW, DOR_NRT, i);
    places[7] = store_place(DOR_PAGE_RAW, DOR_W_MAP, 1);
    *recipe = (struct store_recipe){.page_count = 8, .places = places};
}

static void
encode_small(struct store_recipe *recipe, const uint8_t *own, struct base_buf *file)
{
    struct store_snapshot_entry entry = {
        .info = {.name = "small", .domain = "default", .logical_bytes = 8 * DOR_PAGE_BYTES}};
    if (store_recipe_set_types(recipe, own) != 0 ||
        store_recipe_encode(&entry, recipe, NULL, 0, uuid, file) != 0)
        bail("%s", dor_err_message());
}

/* Read FILE with its checksum made right. */
static int
read_file(struct base_buf *file, struct store_recipe *ret)
{
    AUTO_CLOSE int fd = memfd_create("recipe", MFD_CLOEXEC);
    uint64_t stored_bytes = file->size_bytes - HEADER_BYTES;
    base_le64_put(file->data + 32, stored_bytes);
    base_le64_put(file->data + 40, stored_bytes);
    base_le64_put(
        file->data + 56,
        chunk_digest(file->data, 56) ^ chunk_digest(file->data + HEADER_BYTES, stored_bytes));
    if (fd < 0 || write(fd, file->data, file->size_bytes) != (ssize_t)file->size_bytes)
        bail("cannot write a memory file");
    return store_recipe_read(fd, "small", uuid, ret);
}

static void
test_type_runs(void)
{
    uint64_t places[8];
    struct store_recipe recipe;
    struct store_recipe back = {0};
    AUTO_BUF struct base_buf file = {0};
    const uint8_t own[8] = {DOR_NRT,   DOR_RX_MAP, DOR_RX_MAP, DOR_NRT,
                            DOR_W_MAP, DOR_RX_MAP, DOR_NRT,    DOR_NRT};
    unsigned wrong = 0;
    small_recipe(places, &recipe);
    encode_small(&recipe, own, &file);
    is_int(recipe.type_run_count, 4, "four runs are stored under another type than their own");
    if (base_le32_get(file.data + 24) != 0)
        bail("the head is expected not to be compressed");
    is_ok(read_file(&file, &back), "a recipe with them reads back");
    for (uint64_t i = 0; i < 8; i++)
        wrong += store_recipe_page_type(&back, i) != own[i];
    is_int(wrong, 0, "each page has its own type");
    store_recipe_fini(&back);
    base_free(recipe.type_runs);
}

/* RUNS, SIZE_BYTES long, instead of what a recipe without any ends with. */
static void
refuses(const char *what, const uint8_t *runs, size_t size_bytes)
{
    uint64_t places[8];
    struct store_recipe recipe;
    struct store_recipe back = {0};
    AUTO_BUF struct base_buf file = {0};
    const uint8_t own[8] = {DOR_NRT, DOR_NRT, DOR_NRT, DOR_NRT,
                            DOR_NRT, DOR_NRT, DOR_NRT, DOR_W_MAP};
    small_recipe(places, &recipe);
    encode_small(&recipe, own, &file);
    if (base_buf_append(&file, runs, size_bytes) != 0)
        bail("%s", dor_err_message());
    is_int(read_file(&file, &back), DOR_E_CORRUPT, "refused: %s", what);
    store_recipe_fini(&back);
    base_free(recipe.type_runs);
}

static void
test_bad_type_runs(void)
{
    refuses("half a run", (const uint8_t[]){1}, 1);
    refuses("a run of no pages", (const uint8_t[]){1, 1}, 2);
    refuses("a run beyond the pages", (const uint8_t[]){1, 8 * 3 + 1}, 2);
    refuses("a distance beyond the pages", (const uint8_t[]){9, 3 + 1}, 2);
    refuses("a run of a zero page", (const uint8_t[]){0, 3 + 1}, 2);
    refuses("the type that the place tells", (const uint8_t[]){1, 3}, 2);
    refuses("a number cut short", (const uint8_t[]){1, 3 + 1, 1, 0x80}, 4);
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
    test_types("4096", true);
    test_types("4096", false);
    test_types("16KiB", true);
    test_types("16KiB", false);
    test_types("64KiB", true);
    test_types("64KiB", false);
    test_mixed_sizes();
    test_types_do_not_share();
    test_types_share();
    test_type_runs();
    test_bad_type_runs();
    test_one_store_for_all();
    test_no_such_type();
    image_fini(&image);
    return done_testing();
}
