/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_copy_faults.c - a copy between stores that fails or is killed at any call: the target is
 * as before or has the snapshot, the source is never changed.
 */
#include "store/faults.h"

static struct base_random rng;
static struct image images[3];
static struct dor_store *source;

static void
prepare(struct dor_store *store)
{
    must_put(store, "a", &images[0]);
}

static int
run_copy(struct dor_store *store)
{
    struct dor_put_result result;
    return dor_store_copy(source, "later", store, "b", &result);
}

static int
state_copy(struct dor_store *store)
{
    int b = compare_image(store, "b", &images[2]);
    if (compare_image(store, "a", &images[0]) != 1 ||
        compare_image(source, "later", &images[2]) != 1)
        return STATE_WRONG;
    return b == 1 ? STATE_DONE : b == DOR_E_NOT_FOUND ? STATE_BEFORE : STATE_WRONG;
}

/* From a directory, so that reading the source can fail as well. */
static void
make_source(void)
{
    const struct dor_sidecar sidecar = {"vmstate", "0123456789", 10};
    struct dor_put put = {.sidecars = &sidecar, .sidecar_count = 1};
    source = new_store("source", NULL);
    must_put(source, "earlier", &images[1]);
    if (put_image(source, "later", &images[2], &put, NULL) != 0)
        bail("%s", dor_err_message());
}

int
main(void)
{
    const struct operation operation = {
        .name = "copy", .prepare = prepare, .run = run_copy, .state = state_copy};
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &images[0], 64);
    for (size_t i = 1; i < ARRAY_LEN(images); i++) {
        image_copy(&images[i], &images[i - 1]);
        image_evolve(&rng, &images[i]);
    }
    make_source();
    test_operation(&operation);
    dor_store_close(source);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}
