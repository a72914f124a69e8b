/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_faults.c - every verb that writes, failed and killed at every call.
 *
 * A prepared store is put back before each try. The verb then meets a fault at its nth
 * allocation or file call, or its process dies in the midst of its nth write or just before
 * it; n grows until the verb ends untouched. After each try: the store opens for writing,
 * check finds nothing, each snapshot that must be there reads back byte for byte, the verb was
 * done as a whole or not at all, and where it was not done the files are exactly as before.
 */
#include <errno.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "store/images.h"
#include "store/tree.h"

#define PAGES     96
#define TRIES_MAX 20000

static struct image old_image, kept_image, new_image;
static struct tree before, target_before;
static char store_path[512], target_path[512];

struct verb {
    const char *name;
    int (*run)(struct dor_store *store);
    bool takes_old; /* when done, "old" is gone */
    bool makes_new; /* when done, "new" is there (in the target for copy) */
    bool replaces;  /* when done, "old" holds the new image */
};

static int
run_put(struct dor_store *store)
{
    struct dor_sidecar sidecar = {.name = "state", .data = "device", .size_bytes = 6};
    struct dor_put put = {.sidecars = &sidecar, .sidecar_count = 1};
    return put_image(store, "new", &new_image, &put, NULL);
}

static int
run_replace(struct dor_store *store)
{
    struct dor_put put = {.replace = true, .parent = "kept"};
    return put_image(store, "old", &new_image, &put, NULL);
}

static int
run_remove(struct dor_store *store)
{
    return dor_store_remove(store, "old");
}

static int
run_gc(struct dor_store *store)
{
    struct dor_gc gc = {0};
    struct dor_gc_result result;
    return dor_store_gc(store, &gc, &result);
}

static int
run_squeeze(struct dor_store *store)
{
    struct dor_gc gc = {.squeeze = true};
    struct dor_gc_result result;
    return dor_store_gc(store, &gc, &result);
}

static int
run_copy(struct dor_store *store)
{
    struct dor_store *target;
    struct dor_put_result result;
    int err = dor_store_open(target_path, DOR_OPEN_WRITE, NULL, &target);
    if (err != 0)
        return err;
    err = dor_store_copy(store, "kept", target, "new", &result);
    dor_store_close(target);
    return err;
}

static const struct verb verbs[] = {
    {.name = "put", .run = run_put, .makes_new = true},
    {.name = "put --replace", .run = run_replace, .replaces = true},
    {.name = "rm", .run = run_remove, .takes_old = true},
    {.name = "gc", .run = run_gc},
    {.name = "gc --squeeze", .run = run_squeeze},
    {.name = "copy", .run = run_copy, .makes_new = true},
};

/* ------------------------------------------------------------------ after a try */

static bool
has_snapshot(struct dor_store *store, const char *name)
{
    struct dor_snapshot *snapshot;
    if (dor_snapshot_open(store, name, &snapshot) != 0)
        return false;
    dor_snapshot_close(snapshot);
    return true;
}

static bool
checks_clean(struct dor_store *store)
{
    struct dor_check check = {0};
    struct dor_check_result result;
    return dor_store_check(store, &check, &result) == 0 && result.findings == 0;
}

/* 0 when all is well, else a word for what is not. SUCCEEDED: the verb said that it was done. */
static const char *
judge(const struct verb *verb, bool succeeded)
{
    bool is_copy = verb->run == run_copy;
    struct dor_store *store = open_store(store_path, DOR_OPEN_WRITE);
    struct dor_store *target = is_copy ? open_store(target_path, DOR_OPEN_WRITE) : NULL;
    const char *wrong = NULL;
    bool new_there = has_snapshot(is_copy ? target : store, "new");
    bool old_there = has_snapshot(store, "old");
    if (!checks_clean(store) || (is_copy && !checks_clean(target)))
        wrong = "check finds something";
    else if (!reads_back(store, "kept", &kept_image))
        wrong = "a snapshot that nobody touched is not right";
    else if (succeeded && verb->makes_new && !new_there)
        wrong = "done, but not there";
    else if (
        new_there &&
        !reads_back(is_copy ? target : store, "new", is_copy ? &kept_image : &new_image))
        wrong = "the new snapshot is not right";
    else if (succeeded && verb->takes_old && old_there)
        wrong = "done, but still there";
    else if (!verb->takes_old && !old_there)
        wrong = "a snapshot is lost";
    else if (
        old_there && compare_image(store, "old", &old_image) != 1 &&
        !(verb->replaces && compare_image(store, "old", &new_image) == 1))
        wrong = "an old snapshot is not right";
    dor_store_close(store);
    dor_store_close(target);
    return wrong;
}

/* The space of a verb that was not done comes back: the files are as before but for the lock. */
static bool
is_as_before(const struct verb *verb)
{
    struct tree now;
    tree_read(&now, verb->run == run_copy ? target_path : store_path);
    const struct tree *want = verb->run == run_copy ? &target_before : &before;
    bool same = true;
    uint64_t want_bytes = tree_bytes(want);
    same = tree_bytes(&now) == want_bytes;
    tree_fini(&now);
    return same;
}

static bool
was_done(const struct verb *verb)
{
    struct dor_store *store = open_store(store_path, DOR_OPEN_READ);
    bool answer = false;
    if (verb->makes_new && verb->run != run_copy)
        answer = has_snapshot(store, "new");
    else if (verb->takes_old)
        answer = !has_snapshot(store, "old");
    else if (verb->replaces)
        answer = compare_image(store, "old", &new_image) == 1;
    dor_store_close(store);
    if (verb->run == run_copy) {
        store = open_store(target_path, DOR_OPEN_READ);
        answer = has_snapshot(store, "new");
        dor_store_close(store);
    }
    return answer;
}

/* ------------------------------------------------------------------ a try */

static void
put_back(void)
{
    tree_write(&before, store_path);
    tree_write(&target_before, target_path);
}

/* In this process: the verb meets a fault; the handle must stay usable or say that it is not. */
static int
try_failing(
    const struct verb *verb, enum base_fault_kind kind, uint64_t nth, int errnum,
    bool *ret_fired)
{
    struct dor_store *store;
    put_back();
    base_fault_arm(kind, nth, errnum);
    int err = dor_store_open(store_path, DOR_OPEN_WRITE, NULL, &store);
    if (err == 0) {
        err = verb->run(store);
        base_fault_arm(FAULT_NONE, 0, 0);
        dor_store_close(store);
    }
    *ret_fired = base_fault_fired();
    base_fault_arm(FAULT_NONE, 0, 0);
    return err;
}

/* In a child that dies at its nth write; true when it was killed. */
static bool
try_dying(const struct verb *verb, enum base_fault_kind kind, uint64_t nth)
{
    put_back();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct dor_store *store;
        int err = dor_store_open(store_path, DOR_OPEN_WRITE, NULL, &store);
        base_fault_arm(kind, nth, 0);
        if (err == 0)
            err = verb->run(store);
        _exit(err == 0 ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        bail("no child process");
    return WIFEXITED(status) && WEXITSTATUS(status) == FAULT_EXIT_CODE;
}

static void
fail_everywhere(
    const struct verb *verb, enum base_fault_kind kind, int errnum, const char *what)
{
    const char *wrong = NULL;
    bool fired = true;
    bool space = true;
    uint64_t nth = 0;
    /* Later calls are many and alike: the steps grow, and start elsewhere with each seed. */
    for (uint64_t step = 1; fired && wrong == NULL && nth < TRIES_MAX; nth += step) {
        int err = try_failing(verb, kind, nth + 1, errnum, &fired);
        wrong = judge(verb, err == 0);
        if (err != 0 && !verb->takes_old && verb->run != run_gc && verb->run != run_squeeze &&
            wrong == NULL && !was_done(verb) && !is_as_before(verb))
            space = false;
        step = nth < 200 ? 1 : nth / 40;
    }
    ok(wrong == NULL, "%s survives %s at each call (%llu tried last)%s%s", verb->name, what,
       (unsigned long long)nth, wrong == NULL ? "" : ": ", wrong == NULL ? "" : wrong);
    ok(space, "%s: the space comes back after %s", verb->name, what);
}

static void
kill_everywhere(const struct verb *verb, enum base_fault_kind kind, const char *what)
{
    const char *wrong = NULL;
    bool space = true;
    bool killed = true;
    uint64_t nth = 0;
    while (killed && wrong == NULL && nth < TRIES_MAX) {
        killed = try_dying(verb, kind, ++nth);
        wrong = judge(verb, !killed);
        if (killed && wrong == NULL && verb->run != run_gc && verb->run != run_squeeze &&
            !was_done(verb) && !is_as_before(verb))
            space = false;
    }
    ok(wrong == NULL && nth > 1, "%s survives being killed %s each of %llu writes%s%s",
       verb->name, what, (unsigned long long)nth - 1, wrong == NULL ? "" : ": ",
       wrong == NULL ? "" : wrong);
    ok(space, "%s: the space comes back after a kill", verb->name);
}

/* ------------------------------------------------------------------ the prepared store */

/* Snapshots "old" and "kept", and two that were removed so that gc has something to do. */
static void
prepare(struct base_random *random)
{
    struct image image;
    snprintf(store_path, sizeof store_path, "%s", test_path("store"));
    snprintf(target_path, sizeof target_path, "%s", test_path("target"));
    struct dor_options *options =
        OPTIONS("segment_bytes_max", "65536", "gc_waste_percent", "1");
    struct dor_store *store = new_store("store", options);
    image_make(random, &old_image, PAGES);
    must_put(store, "old", &old_image);
    image_make(random, &image, PAGES);
    must_put(store, "gone", &image);
    image_copy(&kept_image, &image);
    image_evolve(random, &kept_image);
    must_put(store, "kept", &kept_image);
    if (dor_store_remove(store, "gone") != 0)
        bail("%s", dor_err_message());
    image_copy(&new_image, &kept_image);
    image_evolve(random, &new_image);
    dor_store_close(store);
    dor_store_close(new_store("target", NULL));
    image_fini(&image);
    dor_options_free(options);
    tree_read(&before, store_path);
    tree_read(&target_before, target_path);
}

int
main(void)
{
    struct base_random random;
    work_in_memory();
    base_random_init(&random, tap_seed());
    prepare(&random);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        kill_everywhere(&verbs[i], FAULT_WRITE_KILL, "in the midst of");
        kill_everywhere(&verbs[i], FAULT_WRITE_SKIP_KILL, "before");
        fail_everywhere(&verbs[i], FAULT_IO_FAIL, EIO, "an I/O error");
        fail_everywhere(&verbs[i], FAULT_IO_FAIL_STICKY, ENOSPC, "a full disk");
        fail_everywhere(&verbs[i], FAULT_ALLOC, 0, "no memory");
    }
    tree_fini(&before);
    tree_fini(&target_before);
    image_fini(&old_image);
    image_fini(&kept_image);
    image_fini(&new_image);
    return done_testing();
}
