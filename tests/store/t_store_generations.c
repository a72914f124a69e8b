/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_generations.c - fifty states of one sandbox, each put after the other with the one
 * before as parent: every one comes back, in any order, however the chain is cut.
 */
#include "store/images.h"
#include "store/store_priv.h"

enum { GENERATIONS = 50, PAGES = 160 };

static struct base_random rng;
static struct image images[GENERATIONS];

static const char *
name_of(int generation)
{
    static char names[4][32];
    static unsigned turn;
    char *name = names[turn++ % 4];
    snprintf(name, sizeof names[0], "generation-%02d", generation);
    return name;
}

static void
put_all(struct dor_store *store)
{
    uint64_t first_bytes = 0;
    uint64_t later_bytes = 0;
    for (int i = 0; i < GENERATIONS; i++) {
        struct dor_put put = {.parent = i == 0 ? NULL : name_of(i - 1)};
        struct dor_put_result result;
        if (put_image(store, name_of(i), &images[i], &put, &result) != 0)
            bail("%s", dor_err_message());
        *(i == 0 ? &first_bytes : &later_bytes) += result.added_bytes;
    }
    ok(later_bytes / (GENERATIONS - 1) < first_bytes / 2,
       "a generation costs %d bytes, the first %d", (int)later_bytes / (GENERATIONS - 1),
       (int)first_bytes);
}

static void
check_all(struct dor_store *store, int step, const char *when)
{
    unsigned wrong = 0;
    for (int i = 0; i < GENERATIONS; i += step)
        wrong += !reads_back(store, name_of(i), &images[i]);
    is_int(wrong, 0, "all generations come back %s", when);
}

/* Pages that the puts of a chain store, with FRAGMENT_PERCENT. */
static uint64_t
stored_pages(const char *directory, const char *fragment_percent)
{
    struct dor_stat stat;
    struct dor_options *options =
        OPTIONS("fragment_percent", fragment_percent, "gc_waste_percent", "0");
    struct dor_store *store = new_store(directory, options);
    put_all(store);
    check_all(store, 1, "stored again or not");
    is_ok(dor_store_stat(store, &stat), "stat");
    dor_store_close(store);
    dor_options_free(options);
    return stat.by_region_type[DOR_NRT].raw_pages + stat.by_region_type[DOR_NRT].patched_pages;
}

static void
test_stored_again(void)
{
    uint64_t least = stored_pages("never", "100000");
    uint64_t more = stored_pages("always", "50");
    ok(more > least, "%d pages without, %d with storing again what reads badly", (int)least,
       (int)more);
    ok(more < 3 * least, "which is done in measure");
}

static void
test_generation_numbers(struct dor_store *store)
{
    struct dor_snapshot *snapshot = NULL;
    is_ok(dor_snapshot_open(store, name_of(GENERATIONS - 1), &snapshot), "open the last");
    is_int(dor_snapshot_info(snapshot)->generation, GENERATIONS - 1, "it knows its generation");
    dor_snapshot_close(snapshot);
}

/* Frames are merged by tiers, and a catalog can be made again from what they say. */
static void
test_frames(const char *directory)
{
    char catalog[512];
    struct dor_check check = {.repair = true};
    struct dor_check_result result;
    struct dor_store *store = open_store(directory, DOR_OPEN_READ);
    size_t most = 0;
    for (size_t i = 0; i < store->catalog->segment_count; i++)
        if (store->catalog->segments[i].frame_count > most)
            most = store->catalog->segments[i].frame_count;
    ok(most > 1 && most < 24, "a segment of %d puts has at most %zu frames", GENERATIONS, most);
    dor_store_close(store);
    snprintf(catalog, sizeof catalog, "%s/catalog", directory);
    if (unlink(catalog) != 0)
        bail("%s", catalog);
    is_ok(
        dor_store_check_directory(directory, &check, &result), "a lost catalog is made again");
    store = open_store(directory, DOR_OPEN_READ);
    check_all(store, 1, "after that");
    test_generation_numbers(store);
    dor_store_close(store);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], PAGES);
    for (int i = 1; i < GENERATIONS; i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    struct dor_store *memory = memory_store();
    put_all(memory);
    check_all(memory, 1, "from memory");
    dor_store_close(memory);

    struct dor_store *store = new_store("store", NULL);
    put_all(store);
    check_all(store, 1, "from the handle that put them");
    dor_store_close(store);
    store = open_store(test_path("store"), DOR_OPEN_READ);
    check_all(store, 1, "from a new handle");
    test_generation_numbers(store);
    dor_store_close(store);
    test_frames(test_path("store"));
    test_stored_again();
    store = open_store(test_path("store"), DOR_OPEN_WRITE);
    for (int i = 0; i < GENERATIONS; i++)
        if (i % 3 != 0 && dor_store_remove(store, name_of(i)) != 0)
            bail("%s", dor_err_message());
    check_all(store, 3, "when two thirds, parents among them, are removed");
    dor_store_close(store);
    for (int i = 0; i < GENERATIONS; i++)
        image_fini(&images[i]);
    return done_testing();
}
