/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_store_get_faults.c - everything that only reads, with a fault at any allocation and file call:
 * an error or right answers, and the handle works on afterwards.
 */
#include "store/faults.h"
#include "store/sources.h"

enum { PAGES = 80 };

static struct base_random rng;
static struct image images[2];
static uint8_t classes[PAGES];
static const char sidecar_data[] = "0123456789 0123456789 0123456789";

/* ------------------------------------------------------------------ what is tried */

/* Each gives 0, an error, or 1 for a wrong answer. */

static int
read_whole(struct dor_store *store)
{
    int got = compare_image(store, "b", &images[1]);
    return got == 1 ? 0 : got == 0 ? 1 : got;
}

static int
read_pages(struct dor_store *store)
{
    int got = compare_pages(store, "b", &images[1], 1);
    return got == 1 ? 0 : got == 0 ? 1 : got;
}

static int
read_runs(struct dor_store *store)
{
    int got = compare_runs(store, "b", &images[1], 37);
    return got == 1 ? 0 : got == 0 ? 1 : got;
}

static int
read_sidecar(struct dor_store *store)
{
    struct dor_snapshot *snapshot;
    char name[DOR_NAME_BYTES_MAX + 1];
    void *data = NULL;
    size_t size_bytes;
    int err = dor_snapshot_open(store, "b", &snapshot);
    if (err != 0)
        return err;
    err = dor_snapshot_read_sidecar(snapshot, 0, name, &data, &size_bytes);
    if (err == 0 &&
        (size_bytes != sizeof sidecar_data || memcmp(data, sidecar_data, size_bytes) != 0))
        err = 1;
    free(data);
    dor_snapshot_close(snapshot);
    return err;
}

static int
read_classes(struct dor_store *store)
{
    struct dor_snapshot *snapshot;
    int err = dor_snapshot_open(store, "b", &snapshot);
    if (err != 0)
        return err;
    int same = compare_classes(snapshot, classes);
    dor_snapshot_close(snapshot);
    return same < 0 ? same : !same;
}

static int
read_frame(struct dor_store *store)
{
    struct dor_snapshot *snapshot;
    int err = dor_snapshot_open(store, "b", &snapshot);
    if (err != 0)
        return err;
    int same = compare_frame(snapshot, sidecar_data, sizeof sidecar_data);
    dor_snapshot_close(snapshot);
    return same < 0 ? same : !same;
}

static int
count_one(void *context, const struct dor_snapshot_info *info)
{
    (void)info;
    ++*(int *)context;
    return 0;
}

static int
list(struct dor_store *store)
{
    int count = 0;
    int err = dor_store_list(store, count_one, &count);
    return err != 0 ? err : count != 2;
}

static int
explain(struct dor_store *store)
{
    struct dor_explain explain = {0};
    int err = dor_store_explain(store, "b", &explain);
    if (err != 0)
        return err;
    bool right = explain.total.logical_bytes == images[1].page_count * DOR_PAGE_BYTES &&
                 explain.sharer_count == 1 && strcmp(explain.sharers[0].name, "a") == 0;
    dor_explain_fini(&explain);
    return !right;
}

static int
stat_store(struct dor_store *store)
{
    struct dor_stat stat = {0};
    int err = dor_store_stat(store, &stat);
    return err != 0 ? err : stat.snapshots != 2 || stat.stored_bytes == 0;
}

/* A file that cannot be read is a finding, and no error. */
static int
check(struct dor_store *store)
{
    struct dor_check check = {0};
    struct dor_check_result result = {0};
    int err = dor_store_check(store, &check, &result);
    if (err == 0 && result.findings > 0)
        return DOR_E_IO;
    return err != 0 ? err : result.snapshots != 2;
}

static const struct trial {
    const char *name;
    int (*run)(struct dor_store *store);
} trials[] = {
    {"runs", read_runs},
    {"get", read_whole},
    {"pages", read_pages},
    {"sidecar", read_sidecar},
    {"classes", read_classes},
    {"frame", read_frame},
    {"list", list},
    {"explain", explain},
    {"stat", stat_store},
    {"check", check},
};

/* ------------------------------------------------------------------ */

/* With OPENING the handle is opened under the fault too, so nothing is loaded before. */
static int
run_trial(const struct trial *trial, struct dor_store *open_already, bool opening)
{
    struct dor_store *store = open_already;
    int err = opening ? dor_store_open(test_path("store"), DOR_OPEN_READ, NULL, &store) : 0;
    if (err != 0)
        return err;
    err = trial->run(store);
    if (opening)
        dor_store_close(store);
    return err;
}

static void
try_each(const struct trial *trial, bool opening, enum base_fault_kind kind, int want)
{
    uint64_t nth = 0;
    unsigned wrong = 0;
    struct dor_store *store = open_store(test_path("store"), DOR_OPEN_READ);
    do {
        base_fault_arm(kind, ++nth, EIO);
        int err = run_trial(trial, store, opening);
        base_fault_arm(FAULT_NONE, 0, 0);
        bool fired = base_fault_fired();
        if (err != 0 && (err != want || !fired)) {
            wrong++;
            note("%s: call %d: %d: %s", trial->name, (int)nth, err, dor_err_message());
        }
        if (run_trial(trial, store, false) != 0) {
            wrong++;
            note("%s: after call %d: %s", trial->name, (int)nth, dor_err_message());
        }
        if (!fired)
            break;
    } while (nth < FAULT_POINTS_MAX);
    is_int(
        wrong, 0, "%s%s: %s at each of %d calls", trial->name,
        opening ? ", the opening included" : "",
        want == DOR_E_IO ? "an I/O error" : "no memory", (int)nth - 1);
    dor_store_close(store);
}

int
main(void)
{
    const struct dor_sidecar sidecar = {"vmstate", sidecar_data, sizeof sidecar_data};
    const struct dor_put put = {
        .page_classes = classes,
        .frame = sidecar_data,
        .frame_bytes = sizeof sidecar_data,
        .sidecars = &sidecar,
        .sidecar_count = 1};
    work_in_memory();
    base_random_init(&rng, tap_seed());
    make_classes(&rng, classes, PAGES);
    image_make(&rng, &images[0], PAGES);
    image_copy(&images[1], &images[0]);
    image_evolve(&rng, &images[1]);
    struct dor_store *store = new_store("store", NULL);
    must_put(store, "a", &images[0]);
    if (put_image(store, "b", &images[1], &put, NULL) != 0)
        bail("%s", dor_err_message());
    dor_store_close(store);
    for (size_t i = 0; i < ARRAY_LEN(trials); i++)
        for (int opening = 0; opening <= 1; opening++) {
            try_each(&trials[i], opening, FAULT_ALLOC, DOR_E_NO_MEMORY);
            try_each(&trials[i], opening, FAULT_IO_FAIL, DOR_E_IO);
            try_each(&trials[i], opening, FAULT_IO_FAIL_STICKY, DOR_E_IO);
        }
    for (size_t i = 0; i < ARRAY_LEN(images); i++)
        image_fini(&images[i]);
    return done_testing();
}
