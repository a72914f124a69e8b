/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_root_faults.c - adding, removing and absorbing a root image, and a put that refers to
 * one, that fail or are killed at any call: the store is as before, or they are done.
 */
#include "store/faults.h"
#include "store/roots.h"

static struct base_random rng;
static struct image root, images[2];
static char path[512];

static int
count_root(void *context, const struct dor_root_info *info, enum dor_root_state state)
{
    (void)info;
    *(int *)context += state == DOR_ROOT_PRESENT;
    return 0;
}

/* How many root images are there and as they were, or an error. */
static int
count_roots(struct dor_store *store)
{
    int count = 0;
    int err = dor_store_root_list(store, count_root, &count);
    return err != 0 ? err : count;
}

static void
prepare_plain(struct dor_store *store)
{
    must_put(store, "a", &images[0]);
}

static void
prepare_root(struct dor_store *store)
{
    must_add_root(store, path, "base");
}

static void
prepare_references(struct dor_store *store)
{
    const struct dor_sidecar sidecar = {"vmstate", "0123456789", 10};
    struct dor_put put = {.domain = "tenant", .sidecars = &sidecar, .sidecar_count = 1};
    must_add_root(store, path, "base");
    must_put(store, "a", &images[0]);
    if (put_image(store, "b", &images[1], &put, NULL) != 0)
        bail("%s", dor_err_message());
}

/* ------------------------------------------------------------------ add */

static int
run_add(struct dor_store *store)
{
    return add_root(store, path, "base");
}

static int
state_add(struct dor_store *store)
{
    if (compare_image(store, "a", &images[0]) != 1)
        return STATE_WRONG;
    return count_roots(store);
}

/* ------------------------------------------------------------------ put */

static int
run_put(struct dor_store *store)
{
    return put_image(store, "a", &images[0], NULL, NULL);
}

static int
state_put(struct dor_store *store)
{
    int a = compare_image(store, "a", &images[0]);
    if (count_roots(store) != 1)
        return STATE_WRONG;
    return a == 1 ? STATE_DONE : a == DOR_E_NOT_FOUND ? STATE_BEFORE : STATE_WRONG;
}

/* ------------------------------------------------------------------ remove, absorb */

static int
run_remove(struct dor_store *store)
{
    return dor_store_root_remove(store, "base", false);
}

static int
state_remove(struct dor_store *store)
{
    int count = count_roots(store);
    return count == 1 ? STATE_BEFORE : count == 0 ? STATE_DONE : STATE_WRONG;
}

static int
run_absorb(struct dor_store *store)
{
    return dor_store_root_remove(store, "base", true);
}

static int
state_absorb(struct dor_store *store)
{
    if (compare_image(store, "a", &images[0]) != 1 ||
        compare_image(store, "b", &images[1]) != 1)
        return STATE_WRONG;
    return state_remove(store);
}

/* ------------------------------------------------------------------ copy to a store without it */

static struct dor_store *source;

static int
run_copy(struct dor_store *store)
{
    struct dor_put_result result;
    return dor_store_copy(source, "a", store, "b", &result);
}

static int
state_copy(struct dor_store *store)
{
    int b = compare_image(store, "b", &images[0]);
    if (compare_image(store, "a", &images[0]) != 1)
        return STATE_WRONG;
    return b == 1 ? STATE_DONE : b == DOR_E_NOT_FOUND ? STATE_BEFORE : STATE_WRONG;
}

int
main(void)
{
    const struct operation operations[] = {
        {.name = "root add", .prepare = prepare_plain, .run = run_add, .state = state_add},
        {.name = "put with references",
         .prepare = prepare_root,
         .run = run_put,
         .state = state_put},
        {.name = "root rm", .prepare = prepare_root, .run = run_remove, .state = state_remove},
        {.name = "root rm with absorb",
         .prepare = prepare_references,
         .run = run_absorb,
         .state = state_absorb},
        {.name = "copy of references",
         .prepare = prepare_plain,
         .run = run_copy,
         .state = state_copy},
    };
    work_in_memory();
    base_random_init(&rng, tap_seed());
    root_make(&rng, &root, 40);
    snprintf(path, sizeof path, "%s", test_path("base.img"));
    write_root(path, &root, 0);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_with_blocks(&rng, &images[i], &root, 32);
    source = new_store("source", NULL);
    must_add_root(source, path, "base");
    must_put(source, "a", &images[0]);
    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        test_operation(&operations[i]);
    dor_store_close(source);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    image_fini(&root);
    return done_testing();
}
