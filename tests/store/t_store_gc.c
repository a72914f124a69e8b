/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_gc.c - gc gives back what no snapshot uses, in steps if asked to, and squeezing packs
 * what is left tighter; every snapshot stays what it was.
 */
#include "store/images.h"
#include "store/store_priv.h"
#include "store/tree.h"

enum { IMAGES = 6 };

static struct base_random rng;
static struct image images[IMAGES];
static const char *const names[IMAGES] = {"a", "b", "c", "d", "e", "f"};

static struct dor_gc_result
collect(struct dor_store *store, const struct dor_gc *gc)
{
    struct dor_gc_result result = {0};
    if (dor_store_gc(store, gc, &result) != 0)
        bail("%s", dor_err_message());
    return result;
}

static void
put_all(struct dor_store *store)
{
    for (size_t i = 0; i < IMAGES; i++)
        must_put(store, names[i], &images[i]);
}

static void
must_remove(struct dor_store *store, const char *name)
{
    if (dor_store_remove(store, name) != 0)
        bail("%s", dor_err_message());
}

static unsigned
count_wrong(struct dor_store *store, size_t first, size_t step)
{
    unsigned wrong = 0;
    for (size_t i = first; i < IMAGES; i += step)
        wrong += !reads_back(store, names[i], &images[i]);
    return wrong;
}

static uint64_t
count_dead(struct dor_store *store)
{
    struct dor_gc gc = {.work_bytes_max = 1};
    return collect(store, &gc).dead_pages;
}

/* ------------------------------------------------------------------ */

static void
test_nothing_to_do(void)
{
    struct dor_gc gc = {0};
    struct dor_store *store = new_store("nothing", NULL);
    struct tree before;
    struct tree after;
    struct dor_gc_result result = collect(store, &gc);
    ok(result.complete && result.rewritten_segments == 0 && result.dead_pages == 0,
       "an empty store is collected");
    put_all(store);
    tree_read(&before, test_path("nothing"));
    result = collect(store, &gc);
    ok(result.complete && result.rewritten_segments == 0 && result.dead_pages == 0 &&
           result.live_pages > 0,
       "one where all is used too");
    is_int(result.after_bytes, result.before_bytes, "nothing changes");
    tree_read(&after, test_path("nothing"));
    ok(tree_same(&before, &after), "no file does");
    dor_store_close(store);
    store = open_store(test_path("nothing"), DOR_OPEN_READ);
    is_int(dor_store_gc(store, &gc, &result), DOR_E_USAGE, "a reader cannot collect");
    dor_store_close(store);
    tree_fini(&before);
    tree_fini(&after);
}

static void
test_all_removed(void)
{
    struct dor_gc gc = {0};
    struct dor_store *store = new_store("all", NULL);
    put_all(store);
    uint64_t full = directory_bytes(test_path("all"));
    for (size_t i = 0; i < IMAGES; i++)
        must_remove(store, names[i]);
    struct dor_gc_result result = collect(store, &gc);
    uint64_t left = directory_bytes(test_path("all"));
    ok(result.complete && result.live_pages == 0 && result.dead_pages > 0,
       "all pages are dead");
    ok(left < 1000, "all space comes back: %d bytes of %d are left", (int)left, (int)full);
    is_int(result.after_bytes, 0, "and it says so");
    must_put(store, "again", &images[0]);
    ok(reads_back(store, "again", &images[0]), "the store can be used again");
    dor_store_close(store);
}

static void
test_some_removed(bool memory)
{
    struct dor_gc gc = {0};
    struct dor_options *options =
        OPTIONS("gc_waste_percent", "0", "fragment_percent", "100000");
    struct dor_store *store;
    if (memory ? dor_store_open_memory(options, &store)
               : (store = new_store("some", options), 0))
        bail("%s", dor_err_message());
    const char *where = memory ? "memory" : "directory";
    put_all(store);
    for (size_t i = 0; i < IMAGES; i += 2)
        must_remove(store, names[i]);
    struct dor_gc_result result = collect(store, &gc);
    ok(result.complete && result.dead_pages > 0 && result.live_pages > 0,
       "%s: some pages are dead, some live", where);
    ok(result.rewritten_segments > 0 && result.after_bytes < result.before_bytes,
       "%s: %d bytes become %d", where, (int)result.before_bytes, (int)result.after_bytes);
    is_int(count_wrong(store, 1, 2), 0, "%s: what is left is right", where);
    gc.work_bytes_max = 0;
    result = collect(store, &gc);
    result = collect(store, &gc);
    is_int(result.rewritten_segments, 0, "%s: soon nothing is left to do", where);
    struct dor_put_result put = {0};
    if (put_image(store, "again", &images[1], NULL, &put) != 0)
        bail("%s", dor_err_message());
    is_int(
        put.total.raw_bytes + put.total.patched_bytes, 0,
        "%s: pages that moved are found by the next put", where);
    image_evolve(&rng, &images[0]);
    must_put(store, names[0], &images[0]);
    ok(reads_back(store, names[0], &images[0]) && count_wrong(store, 1, 2) == 0,
       "%s: and it can be put to as before", where);
    dor_store_close(store);
    dor_options_free(options);
}

/* A snapshot whose pages are the bases of another's patches. */
static void
test_bases_live(void)
{
    struct dor_gc gc = {0};
    struct dor_options *options =
        OPTIONS("gc_waste_percent", "0", "fragment_percent", "100000");
    struct dor_store *store;
    struct image base;
    struct image patched;
    struct dor_put_result result = {0};
    if (dor_store_open_memory(options, &store) != 0)
        bail("%s", dor_err_message());
    image_init(&base, 50);
    for (uint64_t i = 0; i < 50; i++)
        page_fill(&rng, PAGE_RANDOM, image_page(&base, i));
    image_copy(&patched, &base);
    for (uint64_t i = 0; i < 50; i += 2)
        page_change_words(&rng, image_page(&patched, i), 3);
    for (uint64_t i = 1; i < 50; i += 2)
        page_fill(&rng, PAGE_RANDOM, image_page(&patched, i));
    must_put(store, "base", &base);
    if (put_image(store, "patched", &patched, NULL, &result) != 0)
        bail("%s", dor_err_message());
    is_int(result.total.patched_bytes, 25 * DOR_PAGE_BYTES, "half the pages are patches");
    must_remove(store, "base");
    struct dor_gc_result collected = collect(store, &gc);
    is_int(collected.dead_pages, 25, "when their bases' snapshot goes, the other half is dead");
    ok(reads_back(store, "patched", &patched), "the bases live on");
    must_remove(store, "patched");
    collect(store, &gc);
    is_int(store->catalog->segment_count, 0, "until nobody needs them");
    dor_store_close(store);
    dor_options_free(options);
    image_fini(&base);
    image_fini(&patched);
}

static int
stop_at_once(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)done_bytes;
    (void)total_bytes;
    ++*(int *)context;
    return 1;
}

static void
test_in_steps(void)
{
    int calls = 0;
    struct dor_gc gc = {.work_bytes_max = 1};
    struct dor_options *options =
        OPTIONS("gc_waste_percent", "0", "segment_bytes_max", "65536");
    struct dor_store *store = new_store("steps", options);
    put_all(store);
    for (size_t i = 0; i < IMAGES; i += 2)
        must_remove(store, names[i]);
    unsigned wrong = 0;
    int steps = 0;
    struct dor_gc_result result;
    do {
        result = collect(store, &gc);
        wrong += count_wrong(store, 1, 2);
        wrong += result.rewritten_segments > 1;
        steps++;
    } while (!result.complete && steps < 100);
    ok(result.complete && steps > 2, "%d small steps complete it", steps);
    is_int(wrong, 0, "each rewrites one segment at most and harms none");
    ok(count_dead(store) == 0, "nothing dead is left");
    must_remove(store, names[1]);
    gc = (struct dor_gc){.progress = stop_at_once, .progress_context = &calls};
    result = collect(store, &gc);
    ok(!result.complete && calls == 1, "who watches can stop it");
    dor_store_close(store);
    dor_options_free(options);
}

/* ------------------------------------------------------------------ squeezing */

static void
test_squeeze(void)
{
    struct dor_gc gc = {.squeeze = true};
    struct dor_store *store = new_store("squeeze", NULL);
    put_all(store);
    uint64_t before = directory_bytes(test_path("squeeze"));
    gc.squeeze_age_ns = UINT64_C(3600000000000);
    struct dor_gc_result result = collect(store, &gc);
    is_int(result.rewritten_segments, 0, "what was put just now is left alone");
    gc.squeeze_age_ns = 0;
    result = collect(store, &gc);
    uint64_t after = directory_bytes(test_path("squeeze"));
    ok(result.rewritten_segments > 0 && after < before,
       "the rest is packed: %d bytes become %d", (int)before, (int)after);
    is_int(count_wrong(store, 0, 1), 0, "all is right");
    result = collect(store, &gc);
    is_int(result.rewritten_segments, 0, "a second time there is nothing to pack");
    image_evolve(&rng, &images[0]);
    struct dor_put put = {.replace = true};
    struct dor_put_result put_result = {0};
    if (put_image(store, names[0], &images[0], &put, &put_result) != 0)
        bail("%s", dor_err_message());
    ok(put_result.total.exact_bytes > put_result.total.raw_bytes,
       "packed pages are found by the next put");
    is_int(count_wrong(store, 0, 1), 0, "all is right again");
    for (size_t i = 0; i < IMAGES; i += 2)
        must_remove(store, names[i]);
    collect(store, &gc);
    is_int(count_wrong(store, 1, 2), 0, "also when packed groups are unpacked again");
    dor_store_close(store);
}

/* ------------------------------------------------------------------ */

static void
test_damaged_recipe(void)
{
    struct dor_gc gc = {0};
    struct dor_gc_result result;
    const char *path = test_path("damaged");
    struct dor_store *store = new_store("damaged", NULL);
    struct tree tree;
    put_all(store);
    must_remove(store, names[0]);
    dor_store_close(store);
    tree_read(&tree, path);
    tree_get(&tree, "snap.0000000000000002")->bytes[70] ^= 1;
    tree_write(&tree, path);
    store = open_store(path, DOR_OPEN_WRITE);
    is_int(
        dor_store_gc(store, &gc, &result), DOR_E_CORRUPT,
        "a recipe that cannot be read stops it: its pages would be taken for dead");
    ok(strstr(dor_err_message(), "snapshot b") != NULL, "the snapshot is named");
    is_int(count_wrong(store, 2, 1), 0, "the others are unharmed");
    dor_store_close(store);
    tree_fini(&tree);
}

static void
test_domains(void)
{
    struct dor_gc gc = {0};
    struct dor_options *options = OPTIONS("gc_waste_percent", "0");
    struct dor_store *store = new_store("domains", options);
    struct dor_put put = {.domain = "other"};
    must_put(store, "a", &images[0]);
    if (put_image(store, "b", &images[0], &put, NULL) != 0)
        bail("%s", dor_err_message());
    must_remove(store, "a");
    struct dor_gc_result result = collect(store, &gc);
    ok(result.dead_pages == result.live_pages && result.complete,
       "one domain's pages are dead, the other's live");
    ok(reads_back(store, "b", &images[0]), "and right");
    must_put(store, "a", &images[1]);
    ok(reads_back(store, "a", &images[1]), "the emptied domain is used again");
    dor_store_close(store);
    dor_options_free(options);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 150);
    for (size_t i = 1; i < IMAGES; i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
        image_evolve(&rng, &images[i]);
    }
    test_nothing_to_do();
    test_all_removed();
    test_some_removed(true);
    test_some_removed(false);
    test_bases_live();
    test_in_steps();
    test_squeeze();
    test_damaged_recipe();
    test_domains();
    for (size_t i = 0; i < IMAGES; i++)
        image_fini(&images[i]);
    return done_testing();
}
