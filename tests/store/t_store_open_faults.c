/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_open_faults.c - making a store, and opening one that a killed writer left in disorder,
 * with a fault at any call: the next try works and finds nothing missing.
 */
#include "store/faults.h"

static struct base_random rng;
static struct image image;
static struct tree clean;    /* a store in order */
static struct tree disorder; /* the same with what killed writers leave */

/* ------------------------------------------------------------------ opening */

static void
make_trees(void)
{
    static const char junk[] = "junk";
    const char *path = test_path("made");
    struct dor_store *store = new_store("made", NULL);
    must_put(store, "a", &image);
    dor_store_close(store);
    tree_read(&clean, path);
    tree_remove(&clean, "lock");
    tree_copy(&disorder, &clean);
    tree_add(&disorder, "seg.000000ff", junk, 4);
    tree_add(&disorder, "snap.00000000000000ff", junk, 4);
    tree_add(&disorder, "catalog.tmp", junk, 4);
    for (size_t i = 0; i < disorder.count; i++) {
        struct tree_file *file = &disorder.files[i];
        if (strncmp(file->name, "seg.0000000", 11) != 0)
            continue;
        AUTO_FREE uint8_t *longer = base_alloc(file->size_bytes + 5000);
        if (longer == NULL)
            bail("%s", dor_err_message());
        base_random_fill(&rng, longer + file->size_bytes, 5000);
        memcpy(longer, file->bytes, file->size_bytes);
        base_free(file->bytes);
        file->bytes = TAKE(longer);
        file->size_bytes += 5000;
    }
}

/* Another try without faults leaves exactly the store in order. */
static void
look_after_open(struct fault_run *run)
{
    struct dor_store *store;
    struct tree after;
    if (dor_store_open(run->path, DOR_OPEN_READ, NULL, &store) != 0) {
        fault_wrong(run, "a reader cannot open the store");
        return;
    }
    if (!reads_back(store, "a", &image))
        fault_wrong(run, "a reader sees something else");
    dor_store_close(store);
    if (dor_store_open(run->path, DOR_OPEN_WRITE, NULL, &store) != 0) {
        fault_wrong(run, "a writer cannot open the store");
        return;
    }
    if (!reads_back(store, "a", &image))
        fault_wrong(run, "a writer sees something else");
    dor_store_close(store);
    tree_read(&after, run->path);
    tree_remove(&after, "lock");
    if (!tree_same(&after, &clean))
        fault_wrong(run, "it is not in order");
    tree_fini(&after);
}

static int
open_once(const char *path)
{
    struct dor_store *store;
    int err = dor_store_open(path, DOR_OPEN_WRITE, NULL, &store);
    if (err == 0)
        dor_store_close(store);
    return err;
}

static int
create_once(const char *path)
{
    return dor_store_create(path, NULL);
}

/* After a failed creation there is a store, or one can be made. */
static void
look_after_create(struct fault_run *run)
{
    struct dor_store *store;
    int err = dor_store_create(run->path, NULL);
    if (err != 0 && err != DOR_E_EXISTS)
        fault_wrong(run, "a store cannot be made there any more");
    if (dor_store_open(run->path, DOR_OPEN_WRITE, NULL, &store) != 0) {
        fault_wrong(run, "it cannot be opened");
        return;
    }
    if (put_image(store, "a", &image, NULL, NULL) != 0 || !reads_back(store, "a", &image))
        fault_wrong(run, "it does not work");
    if (!has_no_leftovers(store, run->path))
        fault_wrong(run, "space is lost");
    dor_store_close(store);
}

/* ------------------------------------------------------------------ */

struct trial {
    const char *name;
    const struct tree *before;
    int (*run)(const char *path);
    void (*look)(struct fault_run *run);
};

static void
set_up(struct fault_run *run, const struct trial *trial)
{
    tree_write(trial->before, run->path);
    if (trial->before->count == 0)
        rmdir(run->path);
}

static void
try_each_failure(const struct trial *trial, enum base_fault_kind kind, int errnum, int want)
{
    struct fault_run run = {
        .operation = &(struct operation){.name = trial->name},
        .path = test_path(trial->name),
        .what = kind == FAULT_ALLOC ? "no memory" : "an I/O error"};
    do {
        run.nth++;
        set_up(&run, trial);
        base_fault_arm(kind, run.nth, errnum);
        int err = trial->run(run.path);
        base_fault_arm(FAULT_NONE, 0, 0);
        if (err != 0 && (err != want || !base_fault_fired()))
            fault_wrong(&run, "another error than expected");
        bool fired = base_fault_fired();
        trial->look(&run);
        if (!fired)
            break;
    } while (run.nth < FAULT_POINTS_MAX);
    ok(run.nth > 3, "%s: %d calls", trial->name, (int)run.nth - 1);
    report_run(&run);
}

static void
try_each_kill(const struct trial *trial, enum base_fault_kind kind)
{
    struct fault_run run = {
        .operation = &(struct operation){.name = trial->name},
        .path = test_path(trial->name),
        .what = "killed"};
    int code = FAULT_EXIT_CODE;
    do {
        run.nth++;
        set_up(&run, trial);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            base_fault_arm(kind, run.nth, 0);
            _exit(trial->run(run.path) == 0 ? 0 : 1);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
            bail("the child is lost");
        code = WEXITSTATUS(status);
        trial->look(&run);
    } while (code == FAULT_EXIT_CODE && run.nth < FAULT_POINTS_MAX);
    is_int(code, 0, "%s: the last one lives", trial->name);
    report_run(&run);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    image_make(&rng, &image, 60);
    make_trees();
    const struct tree nothing = {0};
    const struct trial trials[] = {
        {"open", &disorder, open_once, look_after_open},
        {"create", &nothing, create_once, look_after_create},
    };
    for (size_t i = 0; i < ARRAY_LEN(trials); i++) {
        try_each_failure(&trials[i], FAULT_ALLOC, 0, DOR_E_NO_MEMORY);
        try_each_failure(&trials[i], FAULT_IO_FAIL, EIO, DOR_E_IO);
        try_each_failure(&trials[i], FAULT_IO_FAIL, ENOSPC, DOR_E_NO_SPACE);
        try_each_failure(&trials[i], FAULT_IO_FAIL_STICKY, EIO, DOR_E_IO);
        try_each_kill(&trials[i], FAULT_WRITE_KILL);
        try_each_kill(&trials[i], FAULT_WRITE_SKIP_KILL);
    }
    tree_fini(&clean);
    tree_fini(&disorder);
    image_fini(&image);
    return done_testing();
}
