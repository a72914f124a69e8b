/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_rebuild_faults.c - check --repair of stores whose catalog is damaged or gone: failed and
 * killed at every call, and after writers that were killed at any of their writes.
 */
#include "store/repairs.h"

static void
flip_catalog_and_recipe(struct tree *tree)
{
    flip_catalog(tree);
    flip(tree, "snap.0000000000000001", 80);
}

static void
flip_catalog_and_root(struct tree *tree)
{
    flip_catalog(tree);
    flip(tree, "root.00000001", 80);
}

static void
flip_catalog_and_segment(struct tree *tree)
{
    flip_catalog(tree);
    flip(tree, "seg.00000003", 20);
}

/* ------------------------------------------------------------------ a killed writer's files */

static int
run_replace(struct dor_store *store)
{
    struct dor_put put = {.replace = true};
    return put_image(store, "a", &images[3], &put, NULL);
}

static int
run_remove_and_gc(struct dor_store *store)
{
    struct dor_gc gc = {.squeeze = true};
    struct dor_gc_result result;
    int err = dor_store_remove(store, "b");
    return err != 0 ? err : dor_store_gc(store, &gc, &result);
}

/* Make TREE what RUN leaves when it is killed before its NTH write; false when it needs fewer. */
static bool
leave_behind(struct tree *tree, int (*run)(struct dor_store *), uint64_t nth)
{
    const char *path = test_path("killed");
    tree_write(tree, path);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct dor_store *store = open_store(path, DOR_OPEN_WRITE);
        base_fault_arm(FAULT_WRITE_SKIP_KILL, nth, 0);
        _exit(run(store) == 0 ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        bail("the child is lost");
    tree_fini(tree);
    tree_read(tree, path);
    tree_remove(tree, "lock");
    return WEXITSTATUS(status) == FAULT_EXIT_CODE;
}

static uint64_t
count_writes(int (*run)(struct dor_store *))
{
    struct tree tree;
    uint64_t nth = 1;
    for (bool killed = true; killed; nth += killed) {
        tree_copy(&tree, &sound);
        killed = leave_behind(&tree, run, nth);
        tree_fini(&tree);
    }
    return nth - 1;
}

/* Killed at the last write before the catalog names the new snapshot: its file is there. */
static void
kill_replace(struct tree *tree)
{
    uint64_t nth = count_writes(run_replace);
    do {
        tree_fini(tree);
        tree_copy(tree, &sound);
        leave_behind(tree, run_replace, nth--);
    } while (!holds(tree, "catalog", tree_get(&sound, "catalog")));
    flip_catalog(tree);
}

static const struct damage damages[] = {
    {"a damaged catalog", flip_catalog, "catalog", TRY_ALL},
    {"no catalog", lose_catalog, NULL, TRY_KILLS},
    {"a damaged catalog and snapshot file", flip_catalog_and_recipe, "snap.0000000000000001",
     TRY_THINLY},
    {"a damaged catalog and segment", flip_catalog_and_segment, "seg.00000003", TRY_THINLY},
    {"a damaged catalog and root file", flip_catalog_and_root, "root.00000001", TRY_THINLY},
    {"a damaged catalog after a killed put", kill_replace, "catalog", TRY_THINLY},
};

/*
 * A writer killed at any of its writes, and then the catalog is lost: what was committed comes
 * back, and of a verb that was not finished either the state before or the one after.
 */
static void
test_lost_catalog_after_kill(int (*run)(struct dor_store *), const char *what)
{
    const char *path = test_path("killed and lost");
    unsigned wrong = 0;
    uint64_t nth = tap_first();
    for (bool killed = true; killed; nth += killed ? tap_every() : 0) {
        struct tree tree;
        struct dor_store *store;
        tree_copy(&tree, &sound);
        killed = leave_behind(&tree, run, nth);
        lose_catalog(&tree);
        tree_write(&tree, path);
        tree_fini(&tree);
        if (repair(path) != 0 || dor_store_open(path, DOR_OPEN_WRITE, NULL, &store) != 0) {
            note("killed at %d: %s", (int)nth, dor_err_message());
            wrong++;
            continue;
        }
        int a = compare_image(store, "a", &images[0]);
        int b = compare_image(store, "b", &images[1]);
        int c = compare_image(store, "c", &images[2]);
        bool a_right = a == 1 || (run == run_replace && a == 0 &&
                                  compare_image(store, "a", &images[3]) == 1);
        bool b_right = b == 1 || (run == run_remove_and_gc && b == DOR_E_NOT_FOUND);
        if (!a_right || !b_right || c != 1 || !is_sound(store)) {
            note("killed at %d: a %d, b %d, c %d", (int)nth, a, b, c);
            wrong++;
        }
        dor_store_close(store);
    }
    is_int(
        wrong, 0, "%s killed before one in %u of %d writes, and the catalog lost", what,
        tap_every(), (int)nth - 1);
}

/* ------------------------------------------------------------------ a long chain */

enum { CHAIN = 18, CHAIN_PAGES = 24 };

static struct image chain[CHAIN];
static unsigned chain_next; /* the generation that run_generation() puts */

static const char *
chain_name(unsigned generation)
{
    static char name[16];
    snprintf(name, sizeof name, "g%u", generation);
    return name;
}

static int
run_generation(struct dor_store *store)
{
    return put_image(store, chain_name(chain_next), &chain[chain_next], NULL, NULL);
}

/* True when the catalog can be made anew and every generation before chain_next is right. */
static bool
chain_survives(struct tree *tree)
{
    const char *path = test_path("chain lost");
    struct dor_store *store;
    bool right = true;
    lose_catalog(tree);
    tree_write(tree, path);
    if (repair(path) != 0 || dor_store_open(path, DOR_OPEN_WRITE, NULL, &store) != 0)
        return false;
    for (unsigned i = 0; i < chain_next; i++)
        right = right && compare_image(store, chain_name(i), &chain[i]) == 1;
    int last = compare_image(store, chain_name(chain_next), &chain[chain_next]);
    right = right && (last == 1 || last == DOR_E_NOT_FOUND) && is_sound(store);
    dor_store_close(store);
    return right;
}

/*
 * Puts to one segment, whose frames are joined now and then: each is killed before one of its
 * writes, those that join frames before each, and the catalog is lost then.
 */
static void
test_lost_catalog_in_a_chain(void)
{
    struct tree tree;
    unsigned wrong = 0;
    unsigned tries = 0;
    image_make(&rng, &chain[0], CHAIN_PAGES);
    /* The first is whole: a directory without any file is no store to be repaired. */
    struct dor_store *store = new_store("chain", NULL);
    must_put(store, chain_name(0), &chain[0]);
    dor_store_close(store);
    image_copy(&chain[1], &chain[0]);
    image_evolve(&rng, &chain[1]);
    tree_read(&tree, test_path("chain"));
    tree_remove(&tree, "lock");
    for (chain_next = 1; chain_next < CHAIN; chain_next++) {
        bool each = chain_next % 8 >= 6;
        uint64_t nth = each ? tap_first() : 1 + base_random_below(&rng, 8);
        for (bool killed = true; killed; nth += tap_every()) {
            struct tree left;
            tree_copy(&left, &tree);
            killed = leave_behind(&left, run_generation, nth) && each;
            tries++;
            if (!chain_survives(&left)) {
                note(
                    "generation %u, killed at %d: %s", chain_next, (int)nth, dor_err_message());
                wrong++;
            }
            tree_fini(&left);
        }
        leave_behind(&tree, run_generation, FAULT_POINTS_MAX);
        if (chain_next + 1 < CHAIN) {
            image_copy(&chain[chain_next + 1], &chain[chain_next]);
            image_evolve(&rng, &chain[chain_next + 1]);
        }
    }
    is_int(
        wrong, 0, "a chain of %d puts, killed at %u writes, and the catalog lost", CHAIN,
        tries);
    tree_fini(&tree);
    for (unsigned i = 0; i < CHAIN; i++)
        image_fini(&chain[i]);
}

/* ------------------------------------------------------------------ names of what is aside */

static void
repair_and_put(const char *path, const char *name)
{
    if (repair(path) != 0)
        bail("%s", dor_err_message());
    struct dor_store *store = open_store(path, DOR_OPEN_WRITE);
    must_put(store, name, &images[3]);
    dor_store_close(store);
}

/* A file aside keeps its name for itself: a new one of that name could take its place one day. */
static void
test_ids_are_not_given_again(void)
{
    static const char *const lost[] = {"snap.0000000000000003", "seg.00000003"};
    const char *path = test_path("ids");
    for (size_t i = 0; i < ARRAY_LEN(lost); i++) {
        struct tree tree;
        char aside[160];
        snprintf(aside, sizeof aside, "bad.%s", lost[i]);
        tree_copy(&tree, &sound);
        flip(&tree, lost[i], 20);
        lose_catalog(&tree);
        tree_write(&tree, path);
        repair_and_put(path, "x");
        tree_fini(&tree);
        tree_read(&tree, path);
        ok(tree_find(&tree, aside) != NULL && tree_find(&tree, lost[i]) == NULL,
           "%s is aside and its name is free", lost[i]);
        lose_catalog(&tree);
        tree_write(&tree, path);
        repair_and_put(path, "y");
        tree_fini(&tree);
        tree_read(&tree, path);
        ok(tree_find(&tree, aside) != NULL && tree_find(&tree, lost[i]) == NULL,
           "and stays so when the catalog is made anew");
        tree_fini(&tree);
    }
}

int
main(void)
{
    begin();
    for (size_t i = 0; i < ARRAY_LEN(damages); i++)
        test_damage(&damages[i]);
    test_lost_catalog_after_kill(run_replace, "put --replace");
    test_lost_catalog_after_kill(run_remove_and_gc, "rm and gc");
    test_lost_catalog_in_a_chain();
    test_ids_are_not_given_again();
    return end();
}
