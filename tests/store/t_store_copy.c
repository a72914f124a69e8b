/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_copy.c - snapshots move between stores as they are stored; what the target has is not
 * copied again, and what comes is as good as what was put there.
 */
#include "store/images.h"
#include "store/store_priv.h"

static struct base_random rng;
static struct image images[3];
static const char *const names[] = {"a", "b", "c"};

static void
put_all(struct dor_store *store)
{
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        must_put(store, names[i], &images[i]);
}

/* Stores that do not store thinly spread pages again: what is new is then known. */
static struct dor_store *
plain_store(const char *name)
{
    struct dor_options *options = OPTIONS("fragment_percent", "100000");
    struct dor_store *store;
    if (name != NULL)
        store = new_store(name, options);
    else if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
    dor_options_free(options);
    return store;
}

static void
test_between(struct dor_store *source, struct dor_store *target, const char *what)
{
    struct dor_put_result results[ARRAY_LEN(images)] = {{{0}}};
    put_all(source);
    for (size_t i = 0; i < ARRAY_LEN(images); i++) {
        is_ok(
            dor_store_copy(source, names[i], target, names[i], &results[i]), "%s: copy %s",
            what, names[i]);
        ok(reads_back(target, names[i], &images[i]), "%s: it is right", what);
        is_int(
            results[i].total.logical_bytes, images[i].page_count * DOR_PAGE_BYTES,
            "%s: its size", what);
    }
    ok(results[1].total.exact_bytes > 0 && results[1].added_bytes < results[0].added_bytes,
       "%s: what the target has is not copied again: %d bytes, then %d", what,
       (int)results[0].added_bytes, (int)results[1].added_bytes);
    struct dor_put_result again = {0};
    is_ok(dor_store_copy(source, "a", target, "again", &again), "%s: a second copy", what);
    is_int(
        again.total.raw_bytes + again.total.patched_bytes, 0, "%s: brings nothing new", what);
    struct dor_put_result put = {0};
    is_ok(put_image(target, "put", &images[1], NULL, &put), "%s: a put into the target", what);
    is_int(put.total.raw_bytes + put.total.patched_bytes, 0, "%s: finds what was copied", what);
    ok(reads_back(target, "put", &images[1]) && reads_back(source, "a", &images[0]),
       "%s: all is right", what);
    dor_store_close(source);
    dor_store_close(target);
}

/* Groups as they are: whatever the target's options would make of the pages. */
static void
test_as_stored(void)
{
    struct dor_options *lz4 =
        OPTIONS("codec", "lz4", "nrt_group_pages", "7", "fragment_percent", "100000");
    struct dor_options *zstd = OPTIONS("codec", "zstd", "raw_level", "9");
    struct dor_store *source;
    struct dor_store *target;
    struct dor_put_result result;
    struct dor_stat from = {0};
    struct dor_stat to = {0};
    if (dor_store_open_memory(lz4, &source) != 0 || dor_store_open_memory(zstd, &target) != 0)
        bail("%s", dor_err_message());
    put_all(source);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        if (dor_store_copy(source, names[i], target, names[i], &result) != 0)
            bail("%s", dor_err_message());
    if (dor_store_stat(source, &from) != 0 || dor_store_stat(target, &to) != 0)
        bail("%s", dor_err_message());
    is_int(to.segment_bytes, from.segment_bytes, "groups are the same number of bytes");
    is_int(to.by_region_type[0].groups, from.by_region_type[0].groups, "in as many groups");
    is_int(to.by_region_type[0].raw_pages, from.by_region_type[0].raw_pages, "and plain pages");
    is_int(
        to.by_region_type[0].patched_pages, from.by_region_type[0].patched_pages,
        "and patches");
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        ok(reads_back(target, names[i], &images[i]), "%s is right", names[i]);
    dor_store_close(source);
    dor_store_close(target);
    dor_options_free(lz4);
    dor_options_free(zstd);
}

static void
test_all_that_belongs_to_it(void)
{
    struct dor_store *source = memory_store();
    struct dor_store *target = memory_store();
    uint8_t types[100];
    const struct dor_sidecar sidecars[] = {{"vmstate", "0123456789", 10}, {"empty", "", 0}};
    struct dor_put put = {
        .domain = "tenant",
        .region_types = types,
        .sidecars = sidecars,
        .sidecar_count = ARRAY_LEN(sidecars)};
    struct dor_put_result result;
    struct dor_snapshot *snapshot;
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof types; i++)
        types[i] = (uint8_t)(i / 10 % DOR_REGION_TYPES);
    if (put_image(source, "a", &images[0], &put, NULL) != 0 ||
        dor_store_copy(source, "a", target, "copied", &result) != 0 ||
        dor_snapshot_open(target, "copied", &snapshot) != 0)
        bail("%s", dor_err_message());
    const struct dor_snapshot_info *info = dor_snapshot_info(snapshot);
    is_str(info->name, "copied", "its name is the new one");
    is_str(info->domain, "tenant", "its domain stays");
    is_int(info->sidecar_count, 2, "its sidecars come along");
    for (size_t i = 0; i < 2; i++) {
        char name[DOR_NAME_BYTES_MAX + 1];
        void *data = NULL;
        size_t size_bytes = 99;
        wrong += dor_snapshot_read_sidecar(snapshot, i, name, &data, &size_bytes) != 0 ||
                 strcmp(name, sidecars[i].name) != 0 || size_bytes != sidecars[i].size_bytes ||
                 memcmp(data, sidecars[i].data, size_bytes) != 0;
        free(data);
    }
    is_int(wrong, 0, "and are right");
    for (uint64_t i = 0; i < sizeof types; i++)
        wrong += dor_snapshot_page_region_type(snapshot, i) != (enum dor_region_type)types[i];
    is_int(wrong, 0, "each page keeps its region type");
    dor_snapshot_close(snapshot);
    ok(reads_back(target, "copied", &images[0]), "it is right");
    dor_store_close(source);
    dor_store_close(target);
}

static void
test_refused(void)
{
    struct dor_store *source = new_store("source", NULL);
    struct dor_store *target = new_store("target", NULL);
    struct dor_put_result result;
    must_put(source, "a", &images[0]);
    must_put(target, "there", &images[1]);
    is_int(
        dor_store_copy(source, "nobody", target, "x", &result), DOR_E_NOT_FOUND, "no source");
    is_int(dor_store_copy(source, "a", target, "there", &result), DOR_E_EXISTS, "a taken name");
    is_int(dor_store_copy(source, "a", target, "a/b", &result), DOR_E_USAGE, "a bad name");
    is_int(dor_store_copy(source, "a", source, "b", &result), DOR_E_USAGE, "within one store");
    dor_store_close(target);
    target = open_store(test_path("target"), DOR_OPEN_READ);
    is_int(
        dor_store_copy(source, "a", target, "a", &result), DOR_E_USAGE, "a reader as target");
    dor_store_close(source);
    dor_store_close(target);
    source = open_store(test_path("source"), DOR_OPEN_READ);
    target = open_store(test_path("target"), DOR_OPEN_WRITE);
    is_ok(dor_store_copy(source, "a", target, "a", &result), "a reader as source is fine");
    ok(reads_back(target, "a", &images[0]) && reads_back(target, "there", &images[1]),
       "all is right");
    dor_store_close(source);
    dor_store_close(target);
}

/*
 * A target with snapshots of its own, squeezed pages and removed ones; a source that was
 * collected.
 */
static void
test_after_gc(void)
{
    struct dor_gc gc = {.squeeze = true};
    struct dor_gc_result collected;
    struct dor_put_result result;
    struct dor_store *source = memory_store();
    struct dor_store *target = memory_store();
    put_all(source);
    must_put(target, "own", &images[2]);
    if (dor_store_remove(source, "b") != 0 || dor_store_gc(source, &gc, &collected) != 0 ||
        dor_store_gc(target, &gc, &collected) != 0)
        bail("%s", dor_err_message());
    is_ok(dor_store_copy(source, "c", target, "c", &result), "a squeezed snapshot is copied");
    is_ok(dor_store_copy(source, "a", target, "a", &result), "another");
    ok(reads_back(target, "a", &images[0]) && reads_back(target, "c", &images[2]) &&
           reads_back(target, "own", &images[2]),
       "all is right");
    if (dor_store_remove(target, "a") != 0 || dor_store_gc(target, &gc, &collected) != 0)
        bail("%s", dor_err_message());
    ok(reads_back(target, "c", &images[2]) && reads_back(target, "own", &images[2]),
       "and stays so after gc");
    dor_store_close(source);
    dor_store_close(target);
}

/* What is known of a snapshot's pages goes with it, wherever the pages themselves are stored. */
static void
test_types_and_drops(void)
{
    enum { PAGES = 100 };
    static uint8_t types[PAGES];
    static uint8_t dropped[PAGES];
    struct dor_store *source = memory_store();
    struct dor_store *target = memory_store();
    struct dor_put put = {.region_types = types, .dropped = dropped};
    struct dor_put_result original = {0};
    struct dor_put_result result = {0};
    unsigned wrong = 0;
    for (size_t i = 0; i < PAGES; i++) {
        types[i] = (uint8_t)base_random_below(&rng, DOR_REGION_TYPES);
        dropped[i] = i % 5 == 0;
    }
    must_put(source, "nrt", &images[0]);
    if (put_image(source, "a", &images[0], &put, &original) != 0)
        bail("%s", dor_err_message());
    is_ok(dor_store_copy(source, "a", target, "a", &result), "pages stored under other types");
    for (unsigned type = 0; type < DOR_REGION_TYPES; type++) {
        const struct dor_kind_bytes *want = &original.by_region_type[type];
        const struct dor_kind_bytes *got = &result.by_region_type[type];
        wrong += got->logical_bytes != want->logical_bytes;
        wrong += got->zero_bytes != want->zero_bytes;
    }
    is_int(wrong, 0, "the copy counts each as what it is");
    wrong = 0;
    is_int(result.dropped_bytes, original.dropped_bytes, "and what was dropped");
    struct dor_snapshot *snapshot;
    if (dor_snapshot_open(target, "a", &snapshot) != 0)
        bail("%s", dor_err_message());
    for (size_t i = 0; i < PAGES; i++)
        wrong += dor_snapshot_page_region_type(snapshot, i) != (enum dor_region_type)types[i];
    is_int(wrong, 0, "and so does its recipe");
    dor_snapshot_close(snapshot);
    dor_store_close(source);
    dor_store_close(target);
}

static void
test_damaged_source(void)
{
    struct dor_store *source = memory_store();
    struct dor_store *target = memory_store();
    struct dor_put_result result;
    uint8_t byte = 0;
    must_put(source, "a", &images[0]);
    const struct store_segment_entry *entry = &source->catalog->segments[0];
    const struct store_group *group = &entry->loaded->table->groups[0];
    if (pread(entry->loaded->fd, &byte, 1, (off_t)group->offset) != 1)
        bail("no byte");
    byte ^= 1;
    if (pwrite(entry->loaded->fd, &byte, 1, (off_t)group->offset) != 1)
        bail("no byte");
    is_int(
        dor_store_copy(source, "a", target, "a", &result), DOR_E_CORRUPT,
        "damage is not carried along");
    struct dor_snapshot *snapshot;
    is_int(
        dor_snapshot_open(target, "a", &snapshot), DOR_E_NOT_FOUND, "the target has nothing");
    is_int(target->catalog->segment_count, 0, "at all");
    must_put(target, "a", &images[1]);
    ok(reads_back(target, "a", &images[1]), "and works on");
    dor_store_close(source);
    dor_store_close(target);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 100);
    for (size_t i = 1; i < ARRAY_LEN(images); i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    test_between(memory_store(), plain_store("to"), "memory to directory");
    test_between(new_store("from", NULL), plain_store(NULL), "directory to memory");
    test_between(new_store("one", NULL), plain_store("two"), "directory to directory");
    test_as_stored();
    test_all_that_belongs_to_it();
    test_refused();
    test_after_gc();
    test_types_and_drops();
    test_damaged_source();
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}
