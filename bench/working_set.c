/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.c - how long one thread takes to push a working set: page server opened anew,
 * restore cache cold, the store in the page cache; passing the restore cache by, as for a sandbox
 * that is alone, and by way of it; against reading the same pages plain from the image in memory.
 * All copy the pages into a region by UFFDIO_COPY, a run at a time.
 *
 *   working_set learn STORE SNAPSHOT PAGES SEED   teach it PAGES pages of the runtime process
 *   working_set push STORE SNAPSHOT IMAGE ROUNDS  measure
 *
 * Every page that was copied in is compared with the image.
 */
#include "base/clock.h"
#include "base/random.h"
#include "harness.h"
#include "wake/pages.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WINDOW = 16 };

/* Guest memory that nothing is in yet. */
struct region {
    int uffd;
    uint8_t *bytes;
    size_t size_bytes;
};

static void
region_init(struct region *region, size_t size_bytes)
{
    struct uffdio_api api = {.api = UFFD_API};
    region->size_bytes = size_bytes;
    region->bytes =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    region->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (region->bytes == MAP_FAILED || region->uffd < 0)
        bench_die("no userfaultfd here");
    struct uffdio_register range = {
        .range = {(uintptr_t)region->bytes, size_bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(region->uffd, UFFDIO_API, &api) != 0 ||
        ioctl(region->uffd, UFFDIO_REGISTER, &range) != 0)
        bench_die("the region cannot be registered");
}

static void
region_copy(struct region *region, uint64_t page, const uint8_t *from, unsigned count)
{
    struct uffdio_copy copy = {
        .dst = (uintptr_t)region->bytes + page * BENCH_PAGE_BYTES,
        .src = (uintptr_t)from,
        .len = (uint64_t)count * BENCH_PAGE_BYTES,
        .mode = UFFDIO_COPY_MODE_DONTWAKE};
    if (ioctl(region->uffd, UFFDIO_COPY, &copy) != 0)
        bench_die("UFFDIO_COPY of page %llu failed", (unsigned long long)page);
}

static void
region_fini(struct region *region)
{
    munmap(region->bytes, region->size_bytes);
    close(region->uffd);
}

/* ------------------------------------------------------------------ pushing */

static struct dor_wake_server *
open_server(const char *store)
{
    struct dor_wake_server *server;
    bench_must(dor_wake_server_open(store, NULL, &server), store);
    return server;
}

/* Push PAGES in batches; pages that follow each other are copied in by one call. */
static void
push_batch(
    struct wake_worker *worker, struct wake_snapshot *snapshot, const uint64_t *pages,
    unsigned count, bool passing, struct region *region)
{
    static uint8_t bytes[WAKE_COPY_PAGES][BENCH_PAGE_BYTES];
    enum wake_content contents[WAKE_COPY_PAGES];
    wake_pages_copy(worker, snapshot, pages, count, passing, bytes[0], contents);
    for (unsigned i = 0; i < count;) {
        unsigned run = 0;
        for (; i + run < count && pages[i + run] == pages[i] + run; run++)
            if (contents[i + run] != WAKE_CONTENT_BYTES)
                bench_die("page %llu: no bytes", (unsigned long long)pages[i + run]);
        region_copy(region, pages[i], bytes[i], run);
        i += run;
    }
}

static uint64_t
push(
    struct wake_snapshot *snapshot, struct wake_worker *worker, const struct wake_run *runs,
    size_t run_count, bool passing, struct region *region)
{
    uint64_t pages[WAKE_COPY_PAGES];
    unsigned count = 0;
    uint64_t begin = base_clock_monotonic_ns();
    for (size_t i = 0; i < run_count; i++)
        for (uint32_t p = 0; p < runs[i].page_count; p++) {
            pages[count++] = runs[i].first_page + p;
            if (count == WAKE_COPY_PAGES) {
                push_batch(worker, snapshot, pages, count, passing, region);
                count = 0;
            }
        }
    push_batch(worker, snapshot, pages, count, passing, region);
    return base_clock_monotonic_ns() - begin;
}

static uint64_t
push_plain(
    const uint8_t *image, const struct wake_run *runs, size_t run_count, struct region *region)
{
    uint64_t begin = base_clock_monotonic_ns();
    for (size_t i = 0; i < run_count; i++)
        region_copy(
            region, runs[i].first_page, image + runs[i].first_page * BENCH_PAGE_BYTES,
            runs[i].page_count);
    return base_clock_monotonic_ns() - begin;
}

static void
compare(
    const struct region *region, const uint8_t *image, const struct wake_run *runs,
    size_t run_count)
{
    for (size_t i = 0; i < run_count; i++) {
        size_t at = runs[i].first_page * BENCH_PAGE_BYTES;
        if (memcmp(
                region->bytes + at, image + at, runs[i].page_count * (size_t)BENCH_PAGE_BYTES))
            bench_die("page %llu: wrong bytes", (unsigned long long)runs[i].first_page);
    }
}

static void
measure(const char *store, const char *name, const char *image_path, uint64_t rounds)
{
    int fd = bench_memory_copy(image_path);
    size_t size_bytes = bench_size_bytes(fd);
    const uint8_t *image = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, fd, 0);
    uint64_t *ours = calloc(rounds, sizeof *ours), *plain = calloc(rounds, sizeof *plain);
    uint64_t *cached = calloc(rounds, sizeof *cached);
    uint64_t pages = 0;
    size_t run_count = 0;
    if (image == MAP_FAILED || !ours || !plain || !cached)
        bench_die("no memory");
    for (uint64_t round = 0; round < rounds; round++) {
        struct dor_wake_server *server = open_server(store);
        struct wake_snapshot *snapshot;
        struct wake_worker *worker;
        struct region region;
        const struct wake_run *runs;
        bench_must(wake_snapshot_open(server, name, &snapshot), name);
        bench_must(wake_worker_new(server, &worker), "worker");
        wake_snapshot_working_set(snapshot, &runs, &run_count);
        pages = 0;
        for (size_t i = 0; i < run_count; i++)
            pages += runs[i].page_count;
        region_init(&region, size_bytes);
        plain[round] = push_plain(image, runs, run_count, &region);
        compare(&region, image, runs, run_count);
        region_fini(&region);
        for (int passing = 1; passing >= 0; passing--) {
            region_init(&region, size_bytes);
            (passing ? ours : cached)[round] =
                push(snapshot, worker, runs, run_count, passing, &region);
            compare(&region, image, runs, run_count);
            region_fini(&region);
        }
        wake_worker_free(worker);
        wake_snapshot_close(snapshot);
        dor_wake_server_close(server);
    }
    printf(
        "{\"pages\": %llu, \"runs\": %zu, \"ours_ns\": %llu, \"cached_ns\": %llu, "
        "\"peer_ns\": %llu}\n",
        (unsigned long long)pages, run_count,
        (unsigned long long)bench_percentile(ours, rounds, 0.5),
        (unsigned long long)bench_percentile(cached, rounds, 0.5),
        (unsigned long long)bench_percentile(plain, rounds, 0.5));
}

/* ------------------------------------------------------------------ learning */

/* One wake that needs pages of the runtime process, window by window at random. */
static void
learn(const char *store, const char *name, uint64_t page_max, uint64_t seed)
{
    struct dor_wake_server *server = open_server(store);
    struct wake_snapshot *snapshot;
    struct wake_recorder *recorder;
    struct dor_store *reader;
    struct dor_snapshot *types;
    struct base_random random;
    uint64_t noted = 0;
    bench_must(wake_snapshot_open(server, name, &snapshot), name);
    bench_must(wake_recorder_new(snapshot, &recorder), "recorder");
    bench_must(dor_store_open(store, DOR_OPEN_READ, NULL, &reader), store);
    bench_must(dor_snapshot_open(reader, name, &types), name);
    uint64_t windows = wake_snapshot_page_count(snapshot) / WINDOW;
    uint64_t *order = calloc(windows, sizeof *order);
    if (!order)
        bench_die("no memory");
    for (uint64_t i = 0; i < windows; i++)
        order[i] = i;
    base_random_init(&random, seed);
    for (uint64_t i = windows; i > 1; i--) {
        uint64_t j = base_random_below(&random, i), window = order[i - 1];
        order[i - 1] = order[j];
        order[j] = window;
    }
    wake_recorder_set_exact(recorder);
    for (uint64_t i = 0; i < windows; i++)
        for (uint64_t page = order[i] * WINDOW; page < (order[i] + 1) * WINDOW; page++) {
            if (noted >= page_max || wake_snapshot_page_is_zero(snapshot, page) ||
                dor_snapshot_page_region_type(types, page) == DOR_NRT)
                continue;
            wake_recorder_note(recorder, page);
            noted++;
        }
    wake_snapshot_learn(snapshot, recorder);
    printf("{\"pages\": %llu}\n", (unsigned long long)noted);
    wake_recorder_free(recorder);
    wake_snapshot_close(snapshot);
    dor_snapshot_close(types);
    dor_store_close(reader);
    dor_wake_server_close(server);
    free(order);
}

int
main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "learn") == 0)
        learn(argv[2], argv[3], bench_number(argv[4]), bench_number(argv[5]));
    else if (argc == 6 && strcmp(argv[1], "push") == 0)
        measure(argv[2], argv[3], argv[4], bench_number(argv[5]));
    else
        bench_die("usage: working_set learn STORE SNAPSHOT PAGES SEED | "
                  "push STORE SNAPSHOT IMAGE ROUNDS");
    return 0;
}
