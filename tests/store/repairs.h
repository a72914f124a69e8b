/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repairs.h - tries check --repair of a damaged store again and again, each time with another
 * allocation or file call failing, or the process killed at another write.
 *
 * After each try a plain repair must succeed and come to what an undisturbed one comes to: the
 * same snapshots, byte for byte, and nothing thrown away: what is damaged is there as bad.NAME
 * with all its bytes. The store opens, takes a put, and check is clean.
 *
 * Ownership:  images and trees are static: one test program, one copy.
 * Threads:    one at a time: faults are armed for the whole process.
 * Errors:     what is the test's own trouble ends it with bail().
 */
#ifndef TESTS_STORE_REPAIRS_H
#define TESTS_STORE_REPAIRS_H

#include "store/faults.h"
#include "store/roots.h"

static struct base_random rng;
static struct image images[4]; /* "a", "b" of one domain, "c" of another; a later "a" */
static struct tree sound;

static const char *const names[] = {"a", "b", "c"};

enum { SNAPSHOTS = ARRAY_LEN(names), IMAGE_PAGES = 24 };

/* ------------------------------------------------------------------ damaged stores */

/* Damages whose repair takes the path of another's need not be tried at every call again. */
enum tries { TRY_THINLY, TRY_ALL, TRY_KILLS };

struct damage {
    const char *name;
    void (*make)(struct tree *tree);
    const char *damaged; /* must be kept as bad.NAME when the repair is done; may be NULL */
    enum tries tries;
    bool heals; /* some snapshots can be read again only when it is repaired */
};

static inline void
flip(struct tree *tree, const char *name, size_t at)
{
    struct tree_file *file = tree_get(tree, name);
    file->bytes[at % file->size_bytes] ^= 0x10;
}

static inline void
flip_catalog(struct tree *tree)
{
    flip(tree, "catalog", 50);
}

static inline void
lose_catalog(struct tree *tree)
{
    tree_remove(tree, "catalog");
}

static inline bool
holds(const struct tree *tree, const char *name, const struct tree_file *file)
{
    const struct tree_file *found = tree_find(tree, name);
    return found != NULL && found->size_bytes == file->size_bytes &&
           memcmp(found->bytes, file->bytes, file->size_bytes) == 0;
}

/* ------------------------------------------------------------------ what repair must come to */

struct outcome {
    bool stays[SNAPSHOTS];
    struct image *images[SNAPSHOTS];
    struct tree aside; /* files named bad.NAME */
};

static inline void
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

static inline int
repair(const char *path)
{
    struct dor_check check = {.repair = true};
    struct dor_check_result result;
    return dor_store_check_directory(path, &check, &result);
}

/* Which snapshots an undisturbed repair saves: each must be one of those that were put. */
static inline void
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
    unsigned step;
    unsigned wrong;
};

static inline void
blame(struct repair_run *run, const char *why)
{
    if (run->wrong++ < 8)
        note(
            "%s, %s %d: %s: %s", run->damage->name, run->what, (int)run->nth, why,
            dor_err_message());
}

static inline void
look_at_snapshots(struct repair_run *run, struct dor_store *store, const char *why)
{
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        int got = compare_image(store, names[i], run->outcome->images[i]);
        if (got != (run->outcome->stays[i] ? 1 : DOR_E_NOT_FOUND))
            blame(run, why);
    }
}

/* A catalog that could be read before can be read now, and so can all that is not damaged. */
static inline void
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

static inline void
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
static inline void
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

static inline bool
fail_once(struct repair_run *run, enum base_fault_kind kind, int errnum, int want)
{
    tree_write(run->damaged, run->path);
    base_fault_arm(kind, run->nth, errnum);
    int before = log_off();
    int err = repair(run->path);
    log_on(before);
    base_fault_arm(FAULT_NONE, 0, 0);
    bool fired = base_fault_fired();
    if (err != 0 && (!fired || err != want)) {
        note("it gives %d, not %d", err, want);
        blame(run, "another error than expected");
    }
    look_after_repair(run);
    return fired && run->nth < FAULT_POINTS_MAX;
}

static inline bool
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

static inline void
tell(struct repair_run *run)
{
    is_int(
        run->wrong, 0, "%s: %s, tried at 1 in %u of %d calls", run->damage->name, run->what,
        run->step, (int)run->nth - 1);
    run->wrong = 0;
}

/* Every STEP-th call of those that this program tries, from a random one of the first on. */
static inline void
fail_each(
    struct repair_run *run, enum base_fault_kind kind, int errnum, int want, unsigned step,
    const char *what)
{
    run->what = what;
    run->step = step * tap_every();
    run->nth = base_random_below(&rng, step) + tap_first();
    while (fail_once(run, kind, errnum, want))
        run->nth += run->step;
    tell(run);
}

static inline void
kill_each(struct repair_run *run, enum base_fault_kind kind, const char *what)
{
    run->what = what;
    run->step = tap_every();
    run->nth = tap_first();
    while (kill_once(run, kind))
        run->nth += run->step;
    tell(run);
}

/* Where memory runs out is much the same whatever is damaged: one damage has all of it tried. */
static inline void
fail_each_way(struct repair_run *run)
{
    unsigned step = run->damage->tries == TRY_ALL ? 1 : 4;
    fail_each(run, FAULT_IO_FAIL, EIO, DOR_E_IO, 1, "an I/O error");
    fail_each(run, FAULT_ALLOC, 0, DOR_E_NO_MEMORY, step, "no memory");
    fail_each(run, FAULT_IO_FAIL_STICKY, ENOSPC, DOR_E_NO_SPACE, step, "no space from then on");
}

static inline void
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
    if (damage->tries != TRY_KILLS)
        fail_each_way(&run);
    tree_fini(&outcome.aside);
    tree_fini(&damaged);
}

/* ------------------------------------------------------------------ the sound store */

/*
 * Segments 1 and 2 hold plain pages and patches of "a" and "b", 3 and 4 those of "c". Of "c" the
 * later pages are references to a root image, and its file ends with the classes of its pages.
 */
static inline void
make_store(void)
{
    const struct dor_sidecar sidecar = {"state", "0123456789", 10};
    struct dor_put put = {.sidecars = &sidecar, .sidecar_count = 1};
    uint8_t classes[IMAGE_PAGES];
    struct dor_put other = {.domain = "other", .page_classes = classes};
    struct dor_store *store = new_store("sound", NULL);
    struct image root = {
        .page_count = images[2].page_count - 8, .bytes = image_page(&images[2], 8)};
    const char *path = test_path("root.img");
    struct dor_root_info info;
    struct dor_root_add add = {.path = path, .domain = "other"};
    for (size_t page = 0; page < IMAGE_PAGES; page++)
        classes[page] = (uint8_t)base_random_below(&rng, DOR_CLASSES);
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

/* Whatever the seed, some pages are stored plain and have patches in the next image. */
static inline void
make_images(void)
{
    enum { SURE_PAGES = 4 };
    image_make(&rng, &images[0], IMAGE_PAGES);
    image_make(&rng, &images[2], IMAGE_PAGES);
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

static inline void
begin(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    make_images();
    make_store();
}

static inline int
end(void)
{
    tree_fini(&sound);
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}

#endif
