/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_wake_pages.c - the page server: right pages whatever the cache's size, one read however many
 * ask, pages shared between snapshots, an error instead of a wrong page, and no allocation.
 */
#include <dirent.h>
#include <fcntl.h>

#include "base/fault.h"
#include "base/thread.h"
#include "store/images.h"
#include "wake/pages.h"

enum { PAGES = 1500, MIB = 1 << 20 };

static struct base_random rng;
static struct image first_image;
static struct image second_image;

static struct dor_wake_server *
open_server(const char *folder, uint64_t cache_bytes)
{
    struct dor_wake_options options = {.cache_bytes = cache_bytes};
    struct dor_wake_server *server;
    if (dor_wake_server_open(test_path(folder), &options, &server) != 0)
        bail("%s", dor_err_message());
    return server;
}

static struct wake_snapshot *
open_snapshot(struct dor_wake_server *server, const char *name)
{
    struct wake_snapshot *snapshot;
    if (wake_snapshot_open(server, name, &snapshot) != 0)
        bail("%s", dor_err_message());
    return snapshot;
}

static struct wake_worker *
new_worker(struct dor_wake_server *server)
{
    struct wake_worker *worker;
    if (wake_worker_new(server, &worker) != 0)
        bail("%s", dor_err_message());
    return worker;
}

static struct dor_wake_stat
stat_of(struct dor_wake_server *server)
{
    struct dor_wake_stat stat;
    dor_wake_server_stat(server, &stat);
    return stat;
}

static bool
page_is(const uint8_t *page, const uint8_t *want)
{
    return page == NULL ? page_is_zero(want) : memcmp(page, want, DOR_PAGE_BYTES) == 0;
}

/* Windows of COUNT pages over all of IMAGE, in a random order. */
static bool
windows_are(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const struct image *image,
    unsigned count, struct base_random *random)
{
    struct wake_window window;
    bool same = true;
    for (unsigned i = 0; i < 2 * PAGES / count && same; i++) {
        uint64_t at = base_random_below(random, PAGES - count + 1);
        same = wake_window_get(worker, snapshot, at, count, &window) == 0;
        for (unsigned k = 0; k < count && same; k++)
            same = page_is(window.pages[k], image_page(image, at + k));
        if (same)
            wake_window_release(worker, &window);
    }
    return same;
}

static void
test_windows(uint64_t cache_bytes)
{
    struct dor_wake_server *server = open_server("store", cache_bytes);
    struct wake_snapshot *snapshot = open_snapshot(server, "first");
    struct wake_worker *worker = new_worker(server);
    note("a cache of %llu MiB", (unsigned long long)(cache_bytes / MIB));
    is_int(wake_snapshot_page_count(snapshot), PAGES, "the snapshot's pages");
    ok(windows_are(worker, snapshot, &first_image, 1, &rng), "single pages");
    ok(windows_are(worker, snapshot, &first_image, 16, &rng), "windows of 64 KiB");
    ok(windows_are(worker, snapshot, &first_image, WAKE_WINDOW_PAGES, &rng), "large windows");
    struct dor_wake_stat stat = stat_of(server);
    ok(stat.cache_used_bytes <= stat.cache_bytes, "the cache keeps to its size");
    ok((stat.evictions > 0) == (cache_bytes < 4 * MIB), "and evicts when it is small");
    is_int(stat.snapshots, 1, "one snapshot is open");
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
}

static void
test_sharing(void)
{
    struct dor_wake_server *server = open_server("store", 64 * MIB);
    struct wake_snapshot *first = open_snapshot(server, "first");
    struct wake_snapshot *again = open_snapshot(server, "first");
    struct wake_snapshot *second = open_snapshot(server, "second");
    struct wake_worker *worker = new_worker(server);
    struct wake_window window;
    ok(first == again, "a snapshot is open once");
    for (uint64_t at = 0; at < PAGES; at++)
        if (wake_window_get(worker, first, at, 1, &window) == 0)
            wake_window_release(worker, &window);
    uint64_t misses = stat_of(server).misses;
    for (uint64_t at = 0; at < PAGES; at++)
        if (wake_window_get(worker, first, at, 1, &window) == 0)
            wake_window_release(worker, &window);
    is_int(stat_of(server).misses, misses, "what was read once is in the cache");
    ok(windows_are(worker, second, &second_image, 4, &rng),
       "a snapshot that shares most pages");
    ok(stat_of(server).misses - misses < misses, "finds them there");
    wake_worker_free(worker);
    wake_snapshot_close(first);
    wake_snapshot_close(again);
    wake_snapshot_close(second);
    is_int(stat_of(server).snapshots, 0, "none is open");
    dor_wake_server_close(server);
}

/* All slots held: pages come around the cache, and one such window at a time. */
static void
test_all_held(void)
{
    enum { WINDOWS = 300 / 8 };
    struct dor_wake_server *server = open_server("store", MIB);
    struct wake_snapshot *snapshot = open_snapshot(server, "random");
    struct wake_worker *workers[WINDOWS];
    struct wake_window windows[WINDOWS];
    unsigned wrong = 0;
    struct image image;
    struct base_random same;
    base_random_init(&same, 7);
    image_init(&image, PAGES);
    base_random_fill(&same, image.bytes, PAGES * DOR_PAGE_BYTES);
    for (unsigned i = 0; i < WINDOWS; i++) {
        workers[i] = new_worker(server);
        if (wake_window_get(workers[i], snapshot, i * 8, 8, &windows[i]) != 0)
            bail("%s", dor_err_message());
    }
    for (unsigned i = 0; i < WINDOWS; i++)
        for (unsigned k = 0; k < 8; k++)
            wrong += !page_is(windows[i].pages[k], image_page(&image, i * 8 + k));
    is_int(wrong, 0, "300 held pages in a cache of 256");
    ok(stat_of(server).bypasses >= WINDOWS * 8 - 256, "some are not in it");
    for (unsigned i = 0; i < WINDOWS; i++) {
        wake_window_release(workers[i], &windows[i]);
        wake_worker_free(workers[i]);
    }
    image_fini(&image);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
}

/* Copies of COUNT pages at random, over all of IMAGE. */
static bool
copies_are(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const struct image *image,
    unsigned count, bool passing)
{
    static uint8_t bytes[WAKE_COPY_PAGES][DOR_PAGE_BYTES];
    enum wake_content contents[WAKE_COPY_PAGES];
    uint64_t pages[WAKE_COPY_PAGES];
    bool same = true;
    for (unsigned turn = 0; turn < 2 * PAGES / count && same; turn++) {
        for (unsigned i = 0; i < count; i++)
            pages[i] = base_random_below(&rng, PAGES);
        wake_pages_copy(worker, snapshot, pages, count, passing, bytes[0], contents);
        for (unsigned i = 0; i < count && same; i++)
            same = contents[i] != WAKE_CONTENT_LOST &&
                   page_is(
                       contents[i] == WAKE_CONTENT_ZERO ? NULL : bytes[i],
                       image_page(image, pages[i]));
    }
    return same;
}

static void
test_copies(uint64_t cache_bytes)
{
    struct dor_wake_server *server = open_server("store", cache_bytes);
    struct wake_snapshot *snapshot = open_snapshot(server, "second");
    struct wake_worker *worker = new_worker(server);
    ok(copies_are(worker, snapshot, &second_image, WAKE_COPY_PAGES, true),
       "copies that pass the cache by");
    is_int(stat_of(server).cache_used_bytes, 0, "are not in it");
    ok(stat_of(server).bypasses > 0, "and are counted");
    ok(copies_are(worker, snapshot, &second_image, 100, false), "others");
    uint64_t used = stat_of(server).cache_used_bytes;
    uint64_t hits = stat_of(server).hits;
    ok(used > 0, "are");
    ok(copies_are(worker, snapshot, &second_image, 7, true), "copies from a warm cache");
    ok(stat_of(server).hits > hits, "find pages there");
    is_int(stat_of(server).cache_used_bytes, used, "and leave it as it is");
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
}

static void
test_no_allocation(void)
{
    struct dor_wake_server *server = open_server("store", MIB);
    struct wake_snapshot *snapshot = open_snapshot(server, "second");
    struct wake_worker *worker = new_worker(server);
    base_fault_arm(FAULT_ALLOC, 1, 0);
    ok(windows_are(worker, snapshot, &second_image, 16, &rng), "windows");
    ok(!base_fault_fired(), "are got without an allocation");
    ok(copies_are(worker, snapshot, &second_image, WAKE_COPY_PAGES, true), "and so are");
    ok(!base_fault_fired(), "copies");
    base_fault_arm(FAULT_NONE, 0, 0);
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
}

/* ------------------------------------------------------------------ threads */

struct hammer {
    struct dor_wake_server *server;
    const char *name;
    const struct image *image;
    uint64_t seed;
    bool good;
};

static void
hammer(void *context)
{
    struct hammer *job = context;
    struct wake_snapshot *snapshot = open_snapshot(job->server, job->name);
    struct wake_worker *worker = new_worker(job->server);
    struct base_random random;
    base_random_init(&random, job->seed);
    job->good = windows_are(worker, snapshot, job->image, 16, &random) &&
                windows_are(worker, snapshot, job->image, 3, &random);
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
}

static void
test_threads(uint64_t cache_bytes)
{
    enum { THREADS = 6 };
    struct dor_wake_server *server = open_server("store", cache_bytes);
    struct base_thread threads[THREADS];
    struct hammer jobs[THREADS];
    bool good = true;
    uint64_t seed = base_random_below(&rng, 1000000);
    for (unsigned i = 0; i < THREADS; i++) {
        /* Pairs of threads with one seed ask for the same pages at the same time. */
        jobs[i] = (struct hammer){
            server, i % 3 == 0 ? "second" : "first", i % 3 == 0 ? &second_image : &first_image,
            seed + i / 2, false};
        if (base_thread_start(&threads[i], "hammer", hammer, &jobs[i]) != 0)
            bail("%s", dor_err_message());
    }
    for (unsigned i = 0; i < THREADS; i++) {
        base_thread_join(&threads[i]);
        good = good && jobs[i].good;
    }
    ok(good, "six threads, %llu MiB", (unsigned long long)(cache_bytes / MIB));
    struct dor_wake_stat stat = stat_of(server);
    note(
        "%llu hits, %llu waits, %llu misses", (unsigned long long)stat.hits,
        (unsigned long long)stat.waits, (unsigned long long)stat.misses);
    dor_wake_server_close(server);
}

/* ------------------------------------------------------------------ trouble */

static void
test_removed(void)
{
    struct dor_store *store = new_store("removed", NULL);
    must_put(store, "a", &first_image);
    struct dor_wake_server *server = open_server("removed", 4 * MIB);
    struct wake_snapshot *snapshot = open_snapshot(server, "a");
    struct wake_snapshot *other;
    struct wake_worker *worker = new_worker(server);
    struct dor_gc gc = {0};
    struct dor_gc_result result;
    if (dor_store_remove(store, "a") != 0 || dor_store_gc(store, &gc, &result) != 0)
        bail("%s", dor_err_message());
    ok(windows_are(worker, snapshot, &first_image, 16, &rng), "removed while it is woken");
    is_int(
        wake_snapshot_open(server, "a", &other), DOR_E_NOT_FOUND, "it cannot be woken again");
    must_put(store, "a", &second_image);
    other = open_snapshot(server, "a");
    ok(other != snapshot, "a new snapshot of that name is another one");
    ok(windows_are(worker, other, &second_image, 16, &rng), "with its own pages");
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
    wake_snapshot_close(other);
    dor_wake_server_close(server);
    dor_store_close(store);
}

/* Spoil all segments of the store in FOLDER from byte 4096 on. */
static void
spoil_segments(const char *folder)
{
    DIR *dir = opendir(test_path(folder));
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strncmp(entry->d_name, "seg.", 4) != 0)
            continue;
        AUTO_CLOSE int fd = openat(dirfd(dir), entry->d_name, O_RDWR);
        uint8_t byte;
        for (off_t at = 64; pread(fd, &byte, 1, at) == 1; at += 500) {
            byte ^= 0x55;
            if (pwrite(fd, &byte, 1, at) != 1)
                bail("cannot write to a segment");
        }
    }
    closedir(dir);
}

/* Of many pages copied at once, only those that are damaged are lost. */
static void
test_damaged_copies(struct wake_worker *worker, struct wake_snapshot *snapshot, bool passing)
{
    static uint8_t bytes[WAKE_COPY_PAGES][DOR_PAGE_BYTES];
    enum wake_content contents[WAKE_COPY_PAGES];
    uint64_t pages[WAKE_COPY_PAGES];
    struct wake_window window;
    unsigned wrong = 0;
    unsigned lost = 0;
    for (uint64_t at = 0; at + WAKE_COPY_PAGES <= PAGES; at += WAKE_COPY_PAGES) {
        for (unsigned i = 0; i < WAKE_COPY_PAGES; i++)
            pages[i] = at + i;
        wake_pages_copy(worker, snapshot, pages, WAKE_COPY_PAGES, passing, bytes[0], contents);
        for (unsigned i = 0; i < WAKE_COPY_PAGES; i++) {
            bool readable = wake_window_get(worker, snapshot, at + i, 1, &window) == 0;
            if (readable)
                wake_window_release(worker, &window);
            lost += contents[i] == WAKE_CONTENT_LOST;
            wrong += (contents[i] == WAKE_CONTENT_LOST) == readable;
            wrong += contents[i] == WAKE_CONTENT_BYTES &&
                     !page_is(bytes[i], image_page(&first_image, at + i));
        }
    }
    is_int(wrong, 0, "copies%s: lost is what cannot be read", passing ? " in passing" : "");
    ok(lost > 100, "and some are");
}

static void
test_damage(void)
{
    struct dor_store *store = new_store("damage", NULL);
    must_put(store, "a", &first_image);
    dor_store_close(store);
    struct dor_wake_server *server = open_server("damage", 4 * MIB);
    struct wake_snapshot *snapshot = open_snapshot(server, "a");
    struct wake_worker *worker = new_worker(server);
    struct wake_window window;
    unsigned wrong = 0;
    unsigned failed = 0;
    spoil_segments("damage");
    for (uint64_t at = 0; at < PAGES; at++) {
        int err = wake_window_get(worker, snapshot, at, 1, &window);
        failed += err != 0;
        wrong += err != 0 && err != DOR_E_CORRUPT;
        wrong += err == 0 && !page_is(window.pages[0], image_page(&first_image, at));
        if (err == 0)
            wake_window_release(worker, &window);
    }
    is_int(wrong, 0, "in a damaged store a page is right or an error");
    ok(failed > 100, "there are errors");
    is_int(stat_of(server).failures, failed, "they are counted");
    test_damaged_copies(worker, snapshot, true);
    test_damaged_copies(worker, snapshot, false);
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
}

static void
test_bad_input(void)
{
    struct dor_wake_server *server;
    struct wake_snapshot *snapshot;
    struct dor_wake_options options = {.cache_bytes = 4096};
    is_int(
        dor_wake_server_open(test_path("store"), &options, &server), DOR_E_USAGE,
        "a cache of one page is refused");
    options = (struct dor_wake_options){.share_percent = {0, 101, 0}};
    is_int(
        dor_wake_server_open(test_path("store"), &options, &server), DOR_E_USAGE,
        "and a share of 101 percent");
    is_int(
        dor_wake_server_open(test_path("nowhere"), NULL, &server), DOR_E_NOT_FOUND,
        "and no store");
    server = open_server("store", MIB);
    is_int(wake_snapshot_open(server, "none", &snapshot), DOR_E_NOT_FOUND, "and no snapshot");
    dor_wake_server_close(server);
}

static void
make_store(void)
{
    struct dor_store *store = new_store("store", NULL);
    struct image random;
    struct base_random same;
    base_random_init(&same, 7);
    image_init(&random, PAGES);
    base_random_fill(&same, random.bytes, PAGES * DOR_PAGE_BYTES);
    image_make(&rng, &first_image, PAGES);
    image_copy(&second_image, &first_image);
    image_evolve(&rng, &second_image);
    must_put(store, "first", &first_image);
    must_put(store, "second", &second_image);
    must_put(store, "random", &random);
    image_fini(&random);
    dor_store_close(store);
}

int
main(void)
{
    work_in_memory();
    base_random_init(&rng, tap_seed());
    make_store();
    test_windows(64 * MIB);
    test_windows(MIB);
    test_sharing();
    test_all_held();
    test_copies(64 * MIB);
    test_copies(MIB);
    test_no_allocation();
    test_threads(64 * MIB);
    test_threads(MIB);
    test_removed();
    test_damage();
    test_bad_input();
    image_fini(&first_image);
    image_fini(&second_image);
    return done_testing();
}
