/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_gc_faults.c - gc and squeezing that fail or are killed at any call: no snapshot is
 * harmed, no space is lost, and calling again completes it.
 */
#include "store/faults.h"
#include "store/working_sets.h"

/* Pages of "a" and "c" that nothing else has, that no other resembles and that do not compress. */
enum { OWN_PAGES = 3 };

static struct base_random rng;
static struct image images[4];
static struct store_working_set sets[2];
static uint64_t complete_bytes; /* of the segments after an undisturbed run */

static void
must_gc(struct dor_store *store, const struct dor_gc *gc, struct dor_gc_result *ret)
{
    if (dor_store_gc(store, gc, ret) != 0)
        bail("%s", dor_err_message());
}

/*
 * Four generations of which two are removed: dead pages, dead patches, bases that patches still
 * need.
 */
static void
prepare(struct dor_store *store)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        must_put(store, names[i], &images[i]);
    if (dor_store_remove(store, "a") != 0 || dor_store_remove(store, "c") != 0)
        bail("%s", dor_err_message());
    complete_bytes = 0;
}

static int
run_gc(struct dor_store *store)
{
    struct dor_gc gc = {0};
    struct dor_gc_result result;
    return dor_store_gc(store, &gc, &result);
}

static int
run_squeeze(struct dor_store *store)
{
    struct dor_gc gc = {.squeeze = true};
    struct dor_gc_result result;
    return dor_store_gc(store, &gc, &result);
}

/* What is dead must outweigh that the rest may compress worse beside other neighbours. */
static void
make_own_pages(struct image *image)
{
    for (uint64_t page = image->page_count - OWN_PAGES; page < image->page_count; page++)
        page_fill(&rng, PAGE_RANDOM, image_page(image, page));
}

/* The same, with what wakes taught of those that stay. */
static void
prepare_cluster(struct dor_store *store)
{
    static const char *const kept[] = {"b", "d"};
    prepare(store);
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        struct store_set_key key = key_of(store, kept[i]);
        if (store_working_set_write(&key, &sets[i]) != 0)
            bail("%s", dor_err_message());
    }
}

static int
run_cluster(struct dor_store *store)
{
    struct dor_gc gc = {.cluster = true};
    struct dor_gc_result result;
    return dor_store_gc(store, &gc, &result);
}

static uint64_t
segment_bytes(const struct dor_store *store)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < store->catalog->segment_count; i++)
        bytes += store->catalog->segments[i].size_bytes;
    return bytes;
}

/* Done when it is as small as an undisturbed run makes it; the first state asked for is before. */
static int
state_gc(struct dor_store *store)
{
    if (compare_image(store, "b", &images[1]) != 1 ||
        compare_image(store, "d", &images[3]) != 1 ||
        compare_image(store, "a", &images[0]) != DOR_E_NOT_FOUND)
        return STATE_WRONG;
    if (complete_bytes == 0)
        return STATE_BEFORE;
    return segment_bytes(store) == complete_bytes ? STATE_DONE : STATE_BEFORE;
}

/* Done when both snapshots name the pages that moved, and the old ones are gone. */
static int
state_cluster(struct dor_store *store)
{
    uint64_t before_bytes = complete_bytes;
    complete_bytes = 0;
    int state = state_gc(store);
    complete_bytes = before_bytes;
    if (state == STATE_WRONG)
        return STATE_WRONG;
    uint64_t ids[2] = {0};
    if (dor_store_find(store, "b", &ids[0]) != 0 || dor_store_find(store, "d", &ids[1]) != 0)
        return STATE_WRONG;
    return ids[0] > ARRAY_LEN(images) && ids[1] > ARRAY_LEN(images) &&
                   segment_bytes(store) < complete_bytes + complete_bytes / 20
               ? STATE_DONE
               : STATE_BEFORE;
}

static void
test_gc(const struct operation *operation)
{
    struct dor_store *store;
    struct dor_gc gc = {
        .squeeze = operation->run == run_squeeze, .cluster = operation->run == run_cluster};
    struct dor_gc_result result;
    /* What an undisturbed run comes to. */
    if (dor_store_create(test_path("undisturbed"), NULL) != 0 ||
        dor_store_open(test_path("undisturbed"), DOR_OPEN_WRITE, operation->options, &store) !=
            0)
        bail("%s", dor_err_message());
    operation->prepare(store);
    uint64_t before = segment_bytes(store);
    must_gc(store, &gc, &result);
    uint64_t after = segment_bytes(store);
    ok((result.clustered_pages > 0) == gc.cluster, "%s: %d pages move together",
       operation->name, (int)result.clustered_pages);
    /* Moving pages together may part pages that compressed well beside each other. */
    uint64_t limit = gc.cluster ? before + before / 20 : before;
    ok(result.complete && result.rewritten_segments > 0 && after < limit,
       "%s: %d segments are rewritten, %d bytes of %d left", operation->name,
       (int)result.rewritten_segments, (int)after, (int)before);
    dor_store_close(store);
    tree_write(&(struct tree){0}, test_path("undisturbed"));
    struct fault_run run = {.operation = operation, .path = test_path(operation->name)};
    prepare_operation(&run);
    complete_bytes = after;
    try_all(&run);
    tree_fini(&run.before);
}

int
main(void)
{
    struct dor_options *options = OPTIONS(
        "gc_waste_percent", "0", "segment_bytes_max", "65536", "squeeze_level", "3",
        "fragment_percent", "100000");
    const struct operation operations[] = {
        {.name = "gc",
         .prepare = prepare,
         .run = run_gc,
         .state = state_gc,
         .gradual = true,
         .options = options},
        {.name = "squeeze",
         .prepare = prepare,
         .run = run_squeeze,
         .state = state_gc,
         .gradual = true,
         .options = options},
        {.name = "cluster",
         .prepare = prepare_cluster,
         .run = run_cluster,
         .state = state_cluster,
         .gradual = true,
         .grows = true,
         .options = options},
    };
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 100);
    for (size_t i = 1; i < ARRAY_LEN(images); i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
        image_evolve(&rng, &images[i]);
    }
    make_own_pages(&images[0]);
    make_own_pages(&images[2]);
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        sets[i] = random_set(&rng, images[0].page_count);
    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        test_gc(&operations[i]);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        store_working_set_fini(&sets[i]);
    dor_options_free(options);
    return done_testing();
}
