/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_wake_pages_faults.c - the page server while any allocation or file call fails: right pages or
 * an error, and what failed once can be had the next time from the same server.
 */
#include "store/images.h"
#include "wake/faults.h"
#include "wake/pages.h"

enum { PAGES = 300, STEP = 16, CACHE_BYTES = 1 << 20 };

static struct base_random rng;
static struct image first_image;
static struct image second_image;
static unsigned failed_windows;

static bool
window_is(const struct wake_window *window, const struct image *image, uint64_t at)
{
    bool same = true;
    for (unsigned i = 0; i < window->count; i++) {
        const uint8_t *want = image_page(image, at + i);
        const uint8_t *page = window->pages[i];
        same = same &&
               (page == NULL ? page_is_zero(want) : memcmp(page, want, DOR_PAGE_BYTES) == 0);
    }
    return same;
}

/* All windows, each tried once more when it fails. */
static int
use_windows(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const struct image *image,
    struct wake_recorder *recorder)
{
    struct wake_window window;
    for (uint64_t at = 0; at < PAGES; at += STEP) {
        unsigned count = (unsigned)(PAGES - at < STEP ? PAGES - at : STEP);
        int rc = wake_window_get(worker, snapshot, at, count, &window);
        failed_windows += rc != 0;
        if (rc != 0)
            rc = wake_window_get(worker, snapshot, at, count, &window);
        if (rc != 0)
            return rc;
        bool same = window_is(&window, image, at);
        wake_window_release(worker, &window);
        if (!same)
            return FAULT_RUN_WRONG;
        wake_recorder_note(recorder, at);
    }
    return 0;
}

static int
use_snapshot(struct dor_wake_server *server, const char *name, const struct image *image)
{
    struct wake_snapshot *snapshot = NULL;
    struct wake_worker *worker = NULL;
    struct wake_recorder *recorder = NULL;
    int rc = wake_snapshot_open(server, name, &snapshot);
    if (rc == 0)
        rc = wake_worker_new(server, &worker);
    if (rc == 0)
        rc = wake_recorder_new(snapshot, &recorder);
    if (rc == 0)
        rc = use_windows(worker, snapshot, image, recorder);
    if (rc == 0)
        wake_snapshot_learn(snapshot, recorder);
    wake_recorder_free(recorder);
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
    return rc;
}

static int
use_server(const void *how)
{
    const struct dor_wake_options options = {.cache_bytes = CACHE_BYTES};
    struct dor_wake_server *server = NULL;
    int rc = dor_wake_server_open(how, &options, &server);
    if (rc == 0)
        rc = use_snapshot(server, "first", &first_image);
    if (rc == 0)
        rc = use_snapshot(server, "second", &second_image);
    if (rc == 0) {
        struct dor_wake_stat stat;
        dor_wake_server_stat(server, &stat);
        rc = stat.snapshots == 0 && stat.cache_used_bytes <= CACHE_BYTES ? 0 : FAULT_RUN_WRONG;
    }
    dor_wake_server_close(server);
    return rc;
}

/* A window whose read failed is held by nobody: its slots come free again. */
static void
test_slots(const char *path)
{
    const struct dor_wake_options options = {.cache_bytes = CACHE_BYTES};
    struct dor_wake_server *server = NULL;
    struct wake_snapshot *snapshot = NULL;
    struct wake_worker *worker = NULL;
    struct wake_window window;
    struct dor_wake_stat stat;
    if (dor_wake_server_open(path, &options, &server) != 0 ||
        wake_snapshot_open(server, "first", &snapshot) != 0 ||
        wake_worker_new(server, &worker) != 0)
        bail("%s", dor_err_message());
    unsigned failed = 0;
    base_fault_arm(FAULT_IO_FAIL_STICKY, 1, EIO);
    for (unsigned i = 0; i < 100; i++)
        failed += wake_window_get(worker, snapshot, 0, STEP, &window) == DOR_E_IO;
    base_fault_arm(FAULT_NONE, 0, 0);
    dor_wake_server_stat(server, &stat);
    is_int(failed, 100, "a hundred reads fail");
    ok(stat.failures >= 100 && stat.cache_used_bytes == 0, "and leave nothing in the cache");
    ok(wake_window_get(worker, snapshot, 0, STEP, &window) == 0 &&
           window_is(&window, &first_image, 0),
       "then the disk is well, and so are the pages");
    wake_window_release(worker, &window);
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
}

int
main(void)
{
    work_in_memory();
    struct dor_check check = {0};
    struct dor_check_result result = {0};
    base_random_init(&rng, tap_seed());
    image_make(&rng, &first_image, PAGES);
    image_copy(&second_image, &first_image);
    image_evolve(&rng, &second_image);
    struct dor_store *store = new_store("store", NULL);
    must_put(store, "first", &first_image);
    must_put(store, "second", &second_image);
    const char *path = test_path("store");
    test_slots(path);
    try_faults(use_server, path, "two snapshots are woken and taught");
    ok(failed_windows > 0, "%u windows failed, and were got the next time", failed_windows);
    ok(dor_store_check(store, &check, &result) == 0 && result.findings == 0,
       "the store is good");
    dor_store_close(store);
    image_fini(&first_image);
    image_fini(&second_image);
    return done_testing();
}
