/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_repair_faults.c - check --repair of damaged stores, failed and killed at every call.
 *
 * A damaged store is put back before each try. The repair then meets a fault at its nth
 * allocation or file call, or its process dies at its nth write; n grows until the repair ends
 * untouched. After each try a plain repair must succeed and come to what an undisturbed one
 * comes to: the same snapshots, byte for byte, and nothing thrown away: what is damaged is
 * there as bad.NAME with all its bytes. The store opens, takes a put, and check is clean.
 */
#include "store/faults.h"
#include "store/roots.h"

static struct base_random rng;
static struct image images[4]; /* "a", "b" of one domain, "c" of another; a later "a" */
static struct tree sound;

static const char *const names[] = {"a", "b", "c"};

enum { SNAPSHOTS = ARRAY_LEN(names) };

/* ------------------------------------------------------------------ damaged stores */

struct damage {
    const char *name;
    void (*make)(struct tree *tree);
    const char *damaged; /* must be kept as bad.NAME when the repair is done; may be NULL */
    bool heals;          /* some snapshots can be read again only when it is repaired */
    bool like_another;   /* takes the path of another damage but for a write: only killed */
};

static void
flip(struct tree *tree, const char *name, size_t at)
{
    struct tree_file *file = tree_get(tree, name);
    file->bytes[at % file->size_bytes] ^= 0x10;
}

static void
flip_catalog(struct tree *tree)
{
    flip(tree, "catalog", 50);
}

static void
lose_catalog(struct tree *tree)
{
    tree_remove(tree, "catalog");
}

static void
flip_plain_page(struct tree *tree)
{
    flip(tree, "seg.00000003", 60);
}

static void
flip_patch(struct tree *tree)
{
    flip(tree, "seg.00000002", 60);
}

static void
flip_segment_header(struct tree *tree)
{
    flip(tree, "seg.00000003", 20);
}

static void
flip_recipe(struct tree *tree)
{
    flip(tree, "snap.0000000000000001", 80);
}

static void
lose_recipe(struct tree *tree)
{
    tree_remove(tree, "snap.0000000000000003");
}

static void
flip_catalog_and_recipe(struct tree *tree)
{
    flip_catalog(tree);
    flip_recipe(tree);
}

static void
flip_catalog_and_segment(struct tree *tree)
{
    flip_catalog(tree);
    flip_segment_header(tree);
}

static void
flip_root(struct tree *tree)
{
    flip(tree, "root.00000001", 80);
}

static void
lose_root(struct tree *tree)
{
    tree_remove(tree, "root.00000001");
}

static void
flip_catalog_and_root(struct tree *tree)
{
    flip_catalog(tree);
    flip_root(tree);
}

static void
flip_much(struct tree *tree)
{
    flip_plain_page(tree);
    flip_recipe(tree);
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

static bool
holds(const struct tree *tree, const char *name, const struct tree_file *file)
{
    const struct tree_file *found = tree_find(tree, name);
    return found != NULL && found->size_bytes == file->size_bytes &&
           memcmp(found->bytes, file->bytes, file->size_bytes) == 0;
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

/* ------------------------------------------------------------------ what repair must come to */

struct outcome {
    bool stays[SNAPSHOTS];
    struct image *images[SNAPSHOTS];
    struct tree aside; /* files named bad.NAME */
};

static void
read_aside(const char *path, struct tree *ret)
{
    struct tree all;
    *ret = (struct tree){0};
    tree_read(&all, path);
    for (size_t i = 0; i < all.count; i++)
        if (strncmp(all.files[i].name, "bad.", 4) == 0)
            tree_add(ret, all.files[i].name, all.files[i].bytes, all.files[i].size_bytes);
    tree_fini(&all);
}

static int
repair(const char *path)
{
    struct dor_check check = {.repair = true};
    struct dor_check_result result;
    return dor_store_check_directory(path, &check, &result);
}

static int
repair_silently(const char *path)
{
    static int nowhere = -1;
    if (nowhere < 0)
        nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int before = dup(STDERR_FILENO);
    dup2(nowhere, STDERR_FILENO);
    int err = repair(path);
    dup2(before, STDERR_FILENO);
    close(before);
    return err;
}

/* Which snapshots an undisturbed repair saves: each must be one of those that were put. */
static void
learn(const struct damage *damage, const struct tree *damaged, struct outcome *ret)
{
    const char *path = test_path("undisturbed");
    *ret = (struct outcome){0};
    tree_write(damaged, path);
    is_ok(repair(path), "%s: is repaired", damage->name);
    read_aside(path, &ret->aside);
    struct dor_store *store = open_store(path, DOR_OPEN_WRITE);
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        struct image *later = i == 0 ? &images[3] : &images[i];
        int got = compare_image(store, names[i], &images[i]);
        bool is_later = got == 0 && compare_image(store, names[i], later) == 1;
        ok(got == 1 || is_later || got == DOR_E_NOT_FOUND, "%s: %s is right or gone",
           damage->name, names[i]);
        ret->stays[i] = got == 1 || is_later;
        ret->images[i] = is_later ? later : &images[i];
    }
    dor_store_close(store);
    if (damage->damaged == NULL)
        return;
    char aside[160];
    snprintf(aside, sizeof aside, "bad.%s", damage->damaged);
    ok(holds(&ret->aside, aside, tree_get(damaged, damage->damaged)), "%s: %s is kept whole",
       damage->name, aside);
}

/* ------------------------------------------------------------------ tries */

struct repair_run {
    const struct damage *damage;
    const struct outcome *outcome;
    const struct tree *damaged;
    const char *path;
    const char *what;
    uint64_t nth;
    unsigned wrong;
};

static void
blame(struct repair_run *run, const char *why)
{
    if (run->wrong++ < 8)
        note(
            "%s, %s %d: %s: %s", run->damage->name, run->what, (int)run->nth, why,
            dor_err_message());
}

static void
look_at_snapshots(struct repair_run *run, struct dor_store *store, const char *why)
{
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        int got = compare_image(store, names[i], run->outcome->images[i]);
        if (got != (run->outcome->stays[i] ? 1 : DOR_E_NOT_FOUND))
            blame(run, why);
    }
}

/* A catalog that could be read before can be read now, and so can all that is not damaged. */
static void
look_between(struct repair_run *run)
{
    struct dor_store *store;
    if (dor_store_open(run->path, DOR_OPEN_READ, NULL, &store) != 0) {
        const struct tree_file *catalog = tree_find(run->damaged, "catalog");
        if (catalog != NULL && holds(&sound, "catalog", catalog))
            blame(run, "a reader cannot open the store any more");
        return;
    }
    for (size_t i = 0; i < SNAPSHOTS; i++)
        if (run->outcome->stays[i] && !run->damage->heals &&
            compare_image(store, names[i], run->outcome->images[i]) != 1)
            blame(run, "a reader cannot read what is not damaged");
    dor_store_close(store);
}

static void
look_for_aside(struct repair_run *run)
{
    struct tree aside;
    read_aside(run->path, &aside);
    for (size_t i = 0; i < run->outcome->aside.count; i++) {
        const struct tree_file *file = &run->outcome->aside.files[i];
        if (!holds(&aside, file->name, file)) {
            note("%s is not there or has other bytes", file->name);
            blame(run, "something is thrown away");
        }
    }
    tree_fini(&aside);
}

/* Whatever the fault did, a plain repair makes it good. */
static void
look_after_repair(struct repair_run *run)
{
    struct dor_store *store;
    look_between(run);
    if (repair(run->path) != 0) {
        blame(run, "a plain repair fails");
        return;
    }
    if (dor_store_open(run->path, DOR_OPEN_WRITE, NULL, &store) != 0) {
        blame(run, "a writer cannot open the store");
        return;
    }
    if (put_image(store, "new", &images[1], NULL, NULL) != 0 ||
        compare_image(store, "new", &images[1]) != 1)
        blame(run, "it does not take a put");
    look_at_snapshots(run, store, "the snapshots are not those of an undisturbed repair");
    if (!is_sound(store))
        blame(run, "check finds something");
    dor_store_close(store);
    look_for_aside(run);
}

static bool
fail_once(struct repair_run *run, enum base_fault_kind kind, int errnum, int want)
{
    tree_write(run->damaged, run->path);
    base_fault_arm(kind, run->nth, errnum);
    int err = repair_silently(run->path);
    base_fault_arm(FAULT_NONE, 0, 0);
    bool fired = base_fault_fired();
    if (err != 0 && (!fired || err != want)) {
        note("it gives %d, not %d", err, want);
        blame(run, "another error than expected");
    }
    look_after_repair(run);
    return fired && run->nth < FAULT_POINTS_MAX;
}

static bool
kill_once(struct repair_run *run, enum base_fault_kind kind)
{
    tree_write(run->damaged, run->path);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        base_fault_arm(kind, run->nth, 0);
        _exit(repair(run->path) == 0 ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        bail("the child is lost");
    int code = WEXITSTATUS(status);
    if (code != 0 && code != FAULT_EXIT_CODE)
        blame(run, "it fails where it should be killed");
    look_after_repair(run);
    return code == FAULT_EXIT_CODE && run->nth < FAULT_POINTS_MAX;
}

static void
tell(struct repair_run *run)
{
    is_int(
        run->wrong, 0, "%s: %s at each of %d calls", run->damage->name, run->what,
        (int)run->nth - 1);
    run->wrong = 0;
}

static void
fail_each(
    struct repair_run *run, enum base_fault_kind kind, int errnum, int want, const char *what)
{
    run->what = what;
    run->nth = 0;
    do
        run->nth++;
    while (fail_once(run, kind, errnum, want));
    tell(run);
}

static void
kill_each(struct repair_run *run, enum base_fault_kind kind, const char *what)
{
    run->what = what;
    run->nth = 0;
    do
        run->nth++;
    while (kill_once(run, kind));
    tell(run);
}

static void
fail_each_way(struct repair_run *run)
{
    fail_each(run, FAULT_ALLOC, 0, DOR_E_NO_MEMORY, "no memory");
    fail_each(run, FAULT_IO_FAIL, EIO, DOR_E_IO, "an I/O error");
    fail_each(run, FAULT_IO_FAIL_STICKY, ENOSPC, DOR_E_NO_SPACE, "no space from then on");
}

static void
test_damage(const struct damage *damage)
{
    struct tree damaged;
    struct outcome outcome;
    tree_copy(&damaged, &sound);
    damage->make(&damaged);
    learn(damage, &damaged, &outcome);
    struct repair_run run = {
        .damage = damage,
        .outcome = &outcome,
        .damaged = &damaged,
        .path = test_path("faulted"),
    };
    kill_each(&run, FAULT_WRITE_KILL, "killed half-way");
    kill_each(&run, FAULT_WRITE_SKIP_KILL, "killed before");
    if (!damage->like_another)
        fail_each_way(&run);
    tree_fini(&outcome.aside);
    tree_fini(&damaged);
}

/*
 * A writer killed at any of its writes, and then the catalog is lost: what was committed comes
 * back, and of a verb that was not finished either the state before or the one after.
 */
static void
test_lost_catalog_after_kill(int (*run)(struct dor_store *), const char *what)
{
    const char *path = test_path("killed and lost");
    unsigned wrong = 0;
    uint64_t nth = 1;
    for (bool killed = true; killed; nth++) {
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
        wrong, 0, "%s killed before each of %d writes, and the catalog lost", what,
        (int)nth - 2);
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
    dor_store_close(new_store("chain", NULL));
    tree_read(&tree, test_path("chain"));
    tree_remove(&tree, "lock");
    for (chain_next = 0; chain_next < CHAIN; chain_next++) {
        bool each = chain_next % 8 >= 6;
        uint64_t nth = each ? 1 : 1 + base_random_below(&rng, 8);
        for (bool killed = true; killed; nth++) {
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

/* ------------------------------------------------------------------ all */

/*
 * Segments 1 and 2 hold plain pages and patches of "a" and "b", 3 and 4 those of "c". Of "c" the
 * later pages are references to a root image.
 */
static void
make_store(void)
{
    const struct dor_sidecar sidecar = {"state", "0123456789", 10};
    struct dor_put put = {.sidecars = &sidecar, .sidecar_count = 1};
    struct dor_put other = {.domain = "other"};
    struct dor_store *store = new_store("sound", NULL);
    struct image root = {
        .page_count = images[2].page_count - 8, .bytes = image_page(&images[2], 8)};
    const char *path = test_path("root.img");
    struct dor_root_info info;
    struct dor_root_add add = {.path = path, .domain = "other"};
    write_root(path, &root, 0);
    must_put(store, "a", &images[0]);
    if (dor_store_root_add(store, &add, &info) != 0 ||
        put_image(store, "b", &images[1], &put, NULL) != 0 ||
        put_image(store, "c", &images[2], &other, NULL) != 0)
        bail("%s", dor_err_message());
    dor_store_close(store);
    tree_read(&sound, test_path("sound"));
    tree_remove(&sound, "lock");
    tree_print(&sound);
}

/*
 * Random pages, plain in the store whatever the seed, and on the next image's side patches of them.
 */
static void
make_images(void)
{
    enum { PAGES = 24, SURE_PAGES = 4 };
    image_make(&rng, &images[0], PAGES);
    image_make(&rng, &images[2], PAGES);
    for (uint64_t page = 0; page < SURE_PAGES; page++) {
        page_fill(&rng, PAGE_RANDOM, image_page(&images[0], page));
        page_fill(&rng, PAGE_RANDOM, image_page(&images[2], page));
        page_fill(&rng, PAGE_RANDOM, image_page(&images[2], 8 + page));
    }
    image_copy(&images[1], &images[0]);
    image_evolve(&rng, &images[1]);
    for (uint64_t page = 0; page < SURE_PAGES; page++) {
        memcpy(image_page(&images[1], page), image_page(&images[0], page), DOR_PAGE_BYTES);
        page_change_words(&rng, image_page(&images[1], page), 5);
    }
    image_copy(&images[3], &images[1]);
    image_evolve(&rng, &images[3]);
}

static const struct damage damages[] = {
    {"a damaged catalog", flip_catalog, "catalog"},
    {"no catalog", lose_catalog, NULL, .like_another = true},
    {"a damaged plain page", flip_plain_page, "seg.00000003"},
    {"a damaged patch", flip_patch, "seg.00000002"},
    {"a damaged segment header", flip_segment_header, "seg.00000003"},
    {"a damaged snapshot file", flip_recipe, "snap.0000000000000001"},
    {"a missing snapshot file", lose_recipe, NULL, .like_another = true},
    {"a damaged catalog and snapshot file", flip_catalog_and_recipe, "snap.0000000000000001"},
    {"a damaged catalog and segment", flip_catalog_and_segment, "seg.00000003"},
    {"a damaged segment and a snapshot file", flip_much, "seg.00000003", .like_another = true},
    {"a damaged root file", flip_root, "root.00000001", .heals = true},
    {"a missing root file", lose_root, NULL, .heals = true, .like_another = true},
    {"a damaged catalog and root file", flip_catalog_and_root, "root.00000001"},
    {"a damaged catalog after a killed put", kill_replace, "catalog"},
};

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    make_images();
    make_store();
    for (size_t i = 0; i < ARRAY_LEN(damages); i++)
        test_damage(&damages[i]);
    test_lost_catalog_after_kill(run_replace, "put --replace");
    test_lost_catalog_after_kill(run_remove_and_gc, "rm and gc");
    test_lost_catalog_in_a_chain();
    test_ids_are_not_given_again();
    tree_fini(&sound);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}
