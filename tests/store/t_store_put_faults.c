/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_put_faults.c - a put, a replacing put and a remove that fail or are killed at any call:
 * the store is as before, or they are done.
 */
#include "store/faults.h"

static struct base_random rng;
static struct image images[3];

static const struct dor_sidecar sidecars[] = {{"vmstate", "0123456789", 10}, {"empty", "", 0}};

static void
prepare_two(struct dor_store *store)
{
    must_put(store, "a", &images[0]);
    must_put(store, "b", &images[1]);
}

/* Whether NAME is there and right: 1, 0 when it is not there, -1 when it is wrong. */
static int
has(struct dor_store *store, const char *name, const struct image *image)
{
    int got = compare_image(store, name, image);
    return got == 1 ? 1 : got == DOR_E_NOT_FOUND ? 0 : -1;
}

/* ------------------------------------------------------------------ put */

static int
run_put(struct dor_store *store)
{
    struct dor_put put = {
        .parent = "b", .sidecars = sidecars, .sidecar_count = ARRAY_LEN(sidecars)};
    return put_image(store, "c", &images[2], &put, NULL);
}

static int
state_put(struct dor_store *store)
{
    int c = has(store, "c", &images[2]);
    if (has(store, "a", &images[0]) != 1 || has(store, "b", &images[1]) != 1 || c < 0)
        return STATE_WRONG;
    return c;
}

/* ------------------------------------------------------------------ put into another domain */

static int
run_put_domain(struct dor_store *store)
{
    struct dor_put put = {.domain = "another"};
    return put_image(store, "c", &images[2], &put, NULL);
}

/* ------------------------------------------------------------------ replace */

static int
run_replace(struct dor_store *store)
{
    struct dor_put put = {.replace = true};
    return put_image(store, "a", &images[2], &put, NULL);
}

static int
state_replace(struct dor_store *store)
{
    if (has(store, "b", &images[1]) != 1)
        return STATE_WRONG;
    if (compare_image(store, "a", &images[2]) == 1)
        return STATE_DONE;
    return compare_image(store, "a", &images[0]) == 1 ? STATE_BEFORE : STATE_WRONG;
}

/* ------------------------------------------------------------------ remove */

static int
run_remove(struct dor_store *store)
{
    return dor_store_remove(store, "a");
}

static int
state_remove(struct dor_store *store)
{
    int a = has(store, "a", &images[0]);
    if (has(store, "b", &images[1]) != 1 || a < 0)
        return STATE_WRONG;
    return a == 1 ? STATE_BEFORE : STATE_DONE;
}

int
main(void)
{
    struct dor_options *small_segments = OPTIONS("segment_bytes_max", "65536");
    const struct operation operations[] = {
        {.name = "put", .prepare = prepare_two, .run = run_put, .state = state_put},
        {.name = "put into small segments",
         .prepare = prepare_two,
         .run = run_put,
         .state = state_put,
         .options = small_segments},
        {.name = "put into another domain",
         .prepare = prepare_two,
         .run = run_put_domain,
         .state = state_put},
        {.name = "replace", .prepare = prepare_two, .run = run_replace, .state = state_replace},
        {.name = "remove", .prepare = prepare_two, .run = run_remove, .state = state_remove},
    };
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 64);
    for (size_t i = 1; i < ARRAY_LEN(images); i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        test_operation(&operations[i]);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    dor_options_free(small_segments);
    return done_testing();
}
