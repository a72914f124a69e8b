/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_working_set_faults.c - writing, forgetting and removing a working set while any call
 * fails or the process dies at any write: the old set is there, or the new one, or none; the
 * snapshot is never harmed.
 */
#include "store/faults.h"
#include "store/working_sets.h"

static struct base_random rng;
static struct image image;
static struct store_working_set old_set, new_set;

static void
prepare(struct dor_store *store)
{
    must_put(store, "a", &image);
    struct store_set_key key = key_of(store, "a");
    if (store_working_set_write(&key, &old_set) != 0)
        bail("%s", dor_err_message());
}

static int
run_learn(struct dor_store *store)
{
    struct store_set_key key = key_of(store, "a");
    return store_working_set_write(&key, &new_set);
}

static int
state_learn(struct dor_store *store)
{
    if (compare_image(store, "a", &image) != 1)
        return STATE_WRONG;
    return has_set(store, "a", &old_set)   ? STATE_BEFORE
           : has_set(store, "a", &new_set) ? STATE_DONE
                                           : STATE_WRONG;
}

static int
run_forget(struct dor_store *store)
{
    return dor_working_set_forget(store, "a");
}

static int
state_forget(struct dor_store *store)
{
    struct store_working_set set = {0};
    struct store_set_key key = key_of(store, "a");
    if (compare_image(store, "a", &image) != 1)
        return STATE_WRONG;
    return has_set(store, "a", &old_set)                           ? STATE_BEFORE
           : store_working_set_read(&key, &set) == DOR_E_NOT_FOUND ? STATE_DONE
                                                                   : STATE_WRONG;
}

static int
run_remove(struct dor_store *store)
{
    return dor_store_remove(store, "a");
}

static int
state_remove(struct dor_store *store)
{
    int same = compare_image(store, "a", &image);
    if (same == DOR_E_NOT_FOUND)
        return STATE_DONE;
    return same == 1 && has_set(store, "a", &old_set) ? STATE_BEFORE : STATE_WRONG;
}

int
main(void)
{
    const struct operation operations[] = {
        {.name = "learn", .prepare = prepare, .run = run_learn, .state = state_learn},
        {.name = "forget", .prepare = prepare, .run = run_forget, .state = state_forget},
        {.name = "remove", .prepare = prepare, .run = run_remove, .state = state_remove},
    };
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, 200);
    old_set = random_set(&rng, 200);
    new_set = random_set(&rng, 200);
    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        test_operation(&operations[i]);
    store_working_set_fini(&old_set);
    store_working_set_fini(&new_set);
    image_fini(&image);
    return done_testing();
}
