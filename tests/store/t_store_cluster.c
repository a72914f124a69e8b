/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_cluster.c - gc --cluster stores what working sets need together: every snapshot stays
 * what it was, fewer groups are read, nothing is kept twice, and doing it again does nothing.
 */
#include "base/log.h"
#include "store/recipe.h"
#include "store/snapshot.h"
#include "store/working_sets.h"

enum { IMAGES = 4, PAGES = 2000 };

static struct base_random rng;
static struct image images[IMAGES];
static const char *const names[IMAGES] = {"a", "b", "c", "d"};

static struct dor_gc_result
collect(struct dor_store *store, const struct dor_gc *gc)
{
    struct dor_gc_result result = {0};
    if (dor_store_gc(store, gc, &result) != 0)
        bail("%s", dor_err_message());
    return result;
}

/* Teach NAME that it needs every third window, from the last one on. */
static void
teach(struct dor_store *store, const char *name)
{
    struct store_set_key key = key_of(store, name);
    struct store_working_set set = {.wakes = 1};
    set.windows = base_array(PAGES / 16, sizeof *set.windows);
    if (set.windows == NULL)
        bail("%s", dor_err_message());
    for (uint64_t w = 0; w < PAGES / 16; w += 3) {
        struct store_set_window *window = &set.windows[set.window_count++];
        *window = (struct store_set_window){.window = w, .pages = 0xffff, .rank_count = 1};
        window->ranks[0] = (uint8_t)(255 - w);
        memset(window->histories, 3, sizeof window->histories);
    }
    if (store_working_set_write(&key, &set) != 0)
        bail("%s", dor_err_message());
    store_working_set_fini(&set);
}

/* Decoded bytes of the groups that the working set of NAME needs, and how many groups. */
static uint64_t
decoded_bytes(struct dor_store *store, const char *name, unsigned *ret_groups)
{
    const struct store_group *groups[PAGES * 2];
    struct dor_working_set set;
    struct store_recipe recipe = {0};
    const struct store_snapshot_entry *entry = store_catalog_snapshot(store->catalog, name);
    uint64_t bytes = 0;
    unsigned count = 0;
    if (dor_working_set_read(store, name, &set) != 0 ||
        store_snapshot_read_recipe(store, entry, &recipe) != 0)
        bail("%s", dor_err_message());
    for (size_t i = 0; i < set.run_count; i++)
        for (uint64_t p = 0; p < set.runs[i].page_count; p++) {
            uint64_t place = recipe.places[set.runs[i].first_page + p];
            while (store_place_is_stored(place)) {
                struct store_page_at at;
                unsigned stream = store_place_stream(place);
                if (store_locate(
                        store, entry->domain, stream, store_place_serial(place), &at) != 0)
                    bail("%s", dor_err_message());
                unsigned g = 0;
                while (g < count && groups[g] != at.group)
                    g++;
                if (g == count) {
                    groups[count++] = at.group;
                    bytes += at.group->plain_bytes;
                }
                place = store_place_kind(place) == DOR_PAGE_PATCHED
                            ? store_place(
                                  DOR_PAGE_RAW, store_place_type(place),
                                  at.segment->table->bases[at.row])
                            : 0;
            }
        }
    store_recipe_fini(&recipe);
    dor_working_set_fini(&set);
    *ret_groups = count;
    return bytes;
}

static unsigned
count_wrong(struct dor_store *store)
{
    unsigned wrong = 0;
    for (size_t i = 0; i < IMAGES; i++)
        wrong += !reads_back(store, names[i], &images[i]);
    return wrong;
}

static bool
is_clean(struct dor_store *store)
{
    struct dor_check check = {0};
    struct dor_check_result result = {0};
    return dor_store_check(store, &check, &result) == 0 && result.findings == 0;
}

static void
test_cluster(bool memory)
{
    struct dor_gc plain = {0};
    struct dor_gc cluster = {.cluster = true};
    struct dor_options *options = OPTIONS(
        "gc_waste_percent", "0", "cluster_level", "3", "segment_bytes_max", "1048576",
        "cluster_codec", memory ? "none" : "lz4");
    struct dor_store *store;
    unsigned groups;
    unsigned before_groups;
    if (memory ? dor_store_open_memory(options, &store)
               : (store = new_store("cluster", options), 0))
        bail("%s", dor_err_message());
    const char *where = memory ? "memory" : "directory";
    for (size_t i = 0; i < IMAGES; i++)
        must_put(store, names[i], &images[i]);
    struct dor_gc_result result = collect(store, &cluster);
    is_int(result.clustered_pages, 0, "%s: nothing learnt, nothing moved", where);
    teach(store, "a");
    teach(store, "c");
    uint64_t before = decoded_bytes(store, "c", &before_groups);
    uint64_t stored = collect(store, &plain).after_bytes;
    result = collect(store, &cluster);
    uint64_t cluster_bytes = result.clustered_pages * DOR_PAGE_BYTES;
    uint64_t after = decoded_bytes(store, "c", &groups);
    ok(result.complete && result.clustered_pages > 0, "%s: %d pages are moved", where,
       (int)result.clustered_pages);
    ok(groups < before_groups && after * 3 < before * 2,
       "%s: %d groups instead of %d, %d decoded bytes instead of %d", where, (int)groups,
       (int)before_groups, (int)after, (int)before);
    is_int(count_wrong(store), 0, "%s: every snapshot is what it was", where);
    ok(is_clean(store), "%s: check finds nothing", where);
    result = collect(store, &plain);
    /* Uncompressed, what moved takes more. */
    uint64_t moved_bytes = memory ? cluster_bytes : 0;
    ok(result.after_bytes < stored * 13 / 10 + moved_bytes,
       "%s: nothing is kept twice: %d bytes, %d before", where, (int)result.after_bytes,
       (int)stored);
    result = collect(store, &cluster);
    ok(result.clustered_pages == 0 && result.rewritten_segments == 0,
       "%s: the second time nothing moves", where);
    struct dor_working_set set;
    is_ok(dor_working_set_read(store, "c", &set), "%s: the lesson is still there", where);
    dor_working_set_fini(&set);
    struct dor_put_result put = {0};
    if (put_image(store, "again", &images[2], NULL, &put) != 0)
        bail("%s", dor_err_message());
    is_int(
        put.total.raw_bytes + put.total.patched_bytes, 0,
        "%s: pages that moved are found by the next put", where);
    dor_store_close(store);
    dor_options_free(options);
}

/* A reader that opened the snapshot before reads on; when it was woken is kept. */
static void
test_readers(void)
{
    struct dor_gc cluster = {.cluster = true};
    struct dor_store *store = new_store("readers", NULL);
    struct dor_snapshot *snapshot;
    uint8_t page[DOR_PAGE_BYTES];
    for (size_t i = 0; i < IMAGES; i++)
        must_put(store, names[i], &images[i]);
    teach(store, "a");
    struct dor_store *reader = open_store(test_path("readers"), DOR_OPEN_READ);
    if (dor_snapshot_open(reader, "a", &snapshot) != 0)
        bail("%s", dor_err_message());
    uint64_t woken_ns = dor_snapshot_info(snapshot)->woken_ns;
    unsigned wrong = 0;
    for (uint64_t i = 0; i < PAGES; i += 7)
        wrong += dor_snapshot_read_page(snapshot, i, page) != 0;
    ok(collect(store, &cluster).clustered_pages > 0, "pages are moved");
    for (uint64_t i = 0; i < PAGES; i++)
        wrong += dor_snapshot_read_page(snapshot, i, page) != 0 ||
                 memcmp(page, image_page(&images[0], i), DOR_PAGE_BYTES) != 0;
    is_int(wrong, 0, "a reader goes on");
    dor_snapshot_close(snapshot);
    dor_store_close(reader);
    if (dor_snapshot_open(store, "a", &snapshot) != 0)
        bail("%s", dor_err_message());
    ok(dor_snapshot_info(snapshot)->woken_ns == woken_ns, "it does not look like a wake");
    dor_snapshot_close(snapshot);
    dor_store_close(store);
}

static int
stop_in_time(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    unsigned *left = context;
    (void)done_bytes;
    (void)total_bytes;
    return *left == 0 || (*left)-- == 0;
}

/* Stopped anywhere, nothing is wrong, and the next gc gives back what was left. */
static void
test_stopped(void)
{
    struct dor_options *options =
        OPTIONS("gc_waste_percent", "0", "fragment_percent", "100000", "cluster_level", "3");
    unsigned wrong = 0;
    bool complete = false;
    unsigned stop;
    for (stop = (unsigned)tap_first() - 1; !complete && stop < 100; stop += tap_every()) {
        struct dor_store *store;
        unsigned left = stop;
        struct dor_gc gc = {
            .cluster = true, .progress = stop_in_time, .progress_context = &left};
        if (dor_store_open_memory(options, &store) != 0)
            bail("%s", dor_err_message());
        for (size_t i = 0; i < IMAGES; i++)
            must_put(store, names[i], &images[i]);
        teach(store, "a");
        teach(store, "d");
        uint64_t before = collect(store, &(struct dor_gc){0}).after_bytes;
        struct dor_gc_result result = collect(store, &gc);
        uint64_t moved_bytes = result.clustered_pages * DOR_PAGE_BYTES;
        complete = result.complete;
        wrong += count_wrong(store) != 0 || !is_clean(store);
        (void)collect(store, &(struct dor_gc){0});
        uint64_t after = collect(store, &(struct dor_gc){0}).after_bytes;
        /* Snapshots that were not come to need what moved where it was. */
        wrong += count_wrong(store) != 0 || after > before * 13 / 10 + moved_bytes;
        (void)collect(store, &(struct dor_gc){.cluster = true});
        after = collect(store, &(struct dor_gc){0}).after_bytes;
        wrong += count_wrong(store) != 0 || after > before * 13 / 10;
        dor_store_close(store);
    }
    ok(complete && stop > IMAGES, "a run can be stopped at one in %u of %u places", tap_every(),
       stop);
    is_int(wrong, 0, "and harms nothing");
    dor_options_free(options);
}

int
main(void)
{
    work_in_memory();
    base_log_level_set(LOG_LEVEL_ERROR);
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], PAGES);
    for (size_t i = 1; i < IMAGES; i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    test_cluster(false);
    test_cluster(true);
    test_readers();
    test_stopped();
    for (size_t i = 0; i < IMAGES; i++)
        image_fini(&images[i]);
    return done_testing();
}
