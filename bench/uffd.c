/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd.c - a sandbox that measures how quickly its pages come through `dormouse wake
 * --uffd-socket`, and beside it one whose pages lie plain in the memory of a process that does
 * nothing but copy them in.
 *
 *   uffd faults SOCKET IMAGE PAGES SEED CORE HANDLER_CORE
 *     touches pages at random on CORE, one fault after the other; the plain process is on
 *     HANDLER_CORE, where SOCKET's server is told to be as well. A sandbox before that brings
 *     the pages into the restore cache. Blocks of ours and of the peer alternate.
 *   uffd push SOCKET STORE SNAPSHOT IMAGE CORE wait
 *     from the handshake on, waits until all pages of the working set are there.
 *   uffd push SOCKET STORE SNAPSHOT IMAGE CORE touch
 *     touches them meanwhile in the order of the set, as quickly as they come.
 *
 * Every page is compared with the image.
 */
#include "base/clock.h"
#include "base/random.h"
#include "harness.h"
#include "sandbox.h"
#include "wake/pages.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 64, WINDOW = 16 };

struct image {
    const uint8_t *bytes;
    size_t size_bytes;
};

/* Pages in the order in which they are touched. */
struct pages {
    uint64_t *items;
    size_t count;
};

static void
pin(uint64_t core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        bench_die("cannot run on core %llu", (unsigned long long)core);
}

static struct image
open_image(const char *path)
{
    int fd = bench_memory_copy(path);
    struct image image = {.size_bytes = bench_size_bytes(fd)};
    image.bytes = mmap(NULL, image.size_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (image.bytes == MAP_FAILED)
        bench_die("no memory for the image");
    return image;
}

/* ------------------------------------------------------------------ plain */

static void
copy_in(const struct sandbox *region, const struct image *image, uint64_t page, uint64_t count)
{
    struct uffdio_copy copy = {
        .dst = (uintptr_t)region->bytes + page * BENCH_PAGE_BYTES,
        .src = (uintptr_t)image->bytes + page * BENCH_PAGE_BYTES,
        .len = count * BENCH_PAGE_BYTES};
    if (ioctl(region->uffd, UFFDIO_COPY, &copy) != 0)
        bench_die("UFFDIO_COPY of page %llu failed", (unsigned long long)page);
}

static _Noreturn void
answer_plainly(const struct sandbox *region, const struct image *image)
{
    struct uffd_msg events[BLOCK];
    struct pollfd uffd = {.fd = region->uffd, .events = POLLIN};
    for (;;) {
        if (poll(&uffd, 1, -1) < 0)
            continue;
        ssize_t got = read(region->uffd, events, sizeof events);
        for (ssize_t i = 0; i < got / (ssize_t)sizeof events[0]; i++)
            if (events[i].event == UFFD_EVENT_PAGEFAULT) {
                uint64_t address = events[i].arg.pagefault.address;
                copy_in(
                    region, image, (address - (uintptr_t)region->bytes) / BENCH_PAGE_BYTES, 1);
            }
    }
}

/* Start the process that answers REGION's faults from IMAGE. */
static pid_t
start_plain(const struct sandbox *region, const struct image *image, uint64_t core)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(core);
    answer_plainly(region, image);
}

/* How many of PAGES follow each other from I on, at most a window. */
static size_t
run_at(const struct pages *pages, size_t i)
{
    size_t run = 1;
    while (run < WINDOW && i + run < pages->count &&
           pages->items[i + run] == pages->items[i] + run)
        run++;
    return run;
}

/* Copy PAGES in, by windows where they follow each other. */
static void
copy_all(const struct sandbox *region, const struct image *image, const struct pages *pages)
{
    for (size_t i = 0; i < pages->count;) {
        size_t run = run_at(pages, i);
        copy_in(region, image, pages->items[i], run);
        i += run;
    }
}

/* ------------------------------------------------------------------ touching */

static void
touch(const struct sandbox *region, const uint64_t *pages, size_t count, uint64_t *ret_ns)
{
    for (size_t i = 0; i < count; i++) {
        const volatile uint8_t *page = region->bytes + pages[i] * BENCH_PAGE_BYTES;
        uint64_t begin = base_clock_monotonic_ns();
        (void)*page;
        ret_ns[i] = base_clock_monotonic_ns() - begin;
    }
}

static void
compare(
    const struct sandbox *region, const struct image *image, const uint64_t *pages,
    size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t at = pages[i] * BENCH_PAGE_BYTES;
        if (memcmp(region->bytes + at, image->bytes + at, BENCH_PAGE_BYTES) != 0)
            bench_die("page %llu: wrong bytes", (unsigned long long)pages[i]);
    }
}

static struct pages
pick(const char *image_path, uint64_t most, uint64_t seed)
{
    struct base_random random;
    struct pages pages = {0};
    int fd = bench_open(image_path);
    uint32_t *full = bench_full_pages(fd, &pages.count);
    pages.items = calloc(pages.count + 1, sizeof *pages.items);
    if (pages.items == NULL)
        bench_die("no memory");
    base_random_init(&random, seed);
    for (size_t i = pages.count; i > 0; i--) {
        size_t j = (size_t)base_random_below(&random, i);
        pages.items[i - 1] = full[j];
        full[j] = full[i - 1];
    }
    pages.count = pages.count < most ? pages.count : (size_t)most;
    free(full);
    close(fd);
    return pages;
}

static void
print_times(const char *side, uint64_t *times, size_t count)
{
    unsigned long long p50 = bench_percentile(times, count, 0.50);
    unsigned long long p99 = bench_percentile(times, count, 0.99);
    printf(", \"%s_p50_ns\": %llu, \"%s_p99_ns\": %llu", side, p50, side, p99);
}

static void
measure_faults(char **words)
{
    struct image image = open_image(words[1]);
    struct pages pages = pick(words[1], bench_number(words[2]), bench_number(words[3]));
    uint64_t *ours_ns = calloc(pages.count + 1, sizeof *ours_ns);
    uint64_t *plain_ns = calloc(pages.count + 1, sizeof *plain_ns);
    if (ours_ns == NULL || plain_ns == NULL)
        bench_die("no memory");
    pin(bench_number(words[4]));
    struct sandbox first = sandbox_new(image.size_bytes);
    sandbox_connect(&first, words[0]);
    sandbox_hand_over(&first);
    touch(&first, pages.items, pages.count, ours_ns);
    compare(&first, &image, pages.items, pages.count);
    sandbox_end(&first);
    struct sandbox ours = sandbox_new(image.size_bytes);
    struct sandbox plain = sandbox_new(image.size_bytes);
    sandbox_connect(&ours, words[0]);
    sandbox_hand_over(&ours);
    pid_t plainly = start_plain(&plain, &image, bench_number(words[5]));
    for (size_t at = 0; at < pages.count; at += BLOCK) {
        size_t count = pages.count - at < BLOCK ? pages.count - at : BLOCK;
        touch(&plain, pages.items + at, count, plain_ns + at);
        touch(&ours, pages.items + at, count, ours_ns + at);
        compare(&plain, &image, pages.items + at, count);
        compare(&ours, &image, pages.items + at, count);
    }
    sandbox_end(&ours);
    sandbox_end(&plain);
    kill(plainly, SIGKILL);
    waitpid(plainly, NULL, 0);
    printf("{\"pages\": %zu", pages.count);
    print_times("ours", ours_ns, pages.count);
    print_times("peer", plain_ns, pages.count);
    printf("}\n");
}

/* ------------------------------------------------------------------ pushing */

static struct pages
working_set_of(const char *store, const char *name)
{
    struct dor_wake_server *server;
    struct wake_snapshot *snapshot;
    const struct wake_run *runs;
    size_t run_count;
    struct pages pages = {0};
    bench_must(dor_wake_server_open(store, NULL, &server), store);
    bench_must(wake_snapshot_open(server, name, &snapshot), name);
    wake_snapshot_working_set(snapshot, &runs, &run_count);
    pages.items = calloc(wake_snapshot_page_count(snapshot), sizeof *pages.items);
    if (pages.items == NULL)
        bench_die("no memory");
    for (size_t i = 0; i < run_count; i++)
        for (uint32_t p = 0; p < runs[i].page_count; p++)
            pages.items[pages.count++] = runs[i].first_page + p;
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
    return pages;
}

/* Wait until all of PAGES are in REGION, looked at in their order, a run by one call. */
static void
await_all(const struct sandbox *region, const struct pages *pages)
{
    unsigned char are_there[WINDOW];
    for (size_t i = 0; i < pages->count;) {
        size_t run = run_at(pages, i);
        uint8_t *first = region->bytes + pages->items[i] * BENCH_PAGE_BYTES;
        if (mincore(first, run * BENCH_PAGE_BYTES, are_there) != 0)
            bench_die("mincore failed");
        size_t there = 0;
        while (there < run && (are_there[there] & 1) != 0)
            there++;
        i += there;
        if (there < run)
            usleep(100);
    }
}

static void
measure_push(char **words)
{
    struct image image = open_image(words[3]);
    struct pages pages = working_set_of(words[1], words[2]);
    uint64_t *times = calloc(pages.count + 1, sizeof *times);
    if (times == NULL || pages.count == 0)
        bench_die("no working set");
    pin(bench_number(words[4]));
    struct sandbox plain = sandbox_new(image.size_bytes);
    uint64_t begin = base_clock_monotonic_ns();
    copy_all(&plain, &image, &pages);
    uint64_t plain_ns = base_clock_monotonic_ns() - begin;
    compare(&plain, &image, pages.items, pages.count);
    sandbox_end(&plain);
    struct sandbox ours = sandbox_new(image.size_bytes);
    sandbox_connect(&ours, words[0]);
    begin = base_clock_monotonic_ns();
    sandbox_hand_over(&ours);
    if (strcmp(words[5], "wait") == 0)
        await_all(&ours, &pages);
    else
        touch(&ours, pages.items, pages.count, times);
    uint64_t ours_ns = base_clock_monotonic_ns() - begin;
    compare(&ours, &image, pages.items, pages.count);
    sandbox_end(&ours);
    printf(
        "{\"pages\": %zu, \"ours_ns\": %llu, \"peer_ns\": %llu}\n", pages.count,
        (unsigned long long)ours_ns, (unsigned long long)plain_ns);
}

int
main(int argc, char **argv)
{
    if (argc == 8 && strcmp(argv[1], "faults") == 0)
        measure_faults(argv + 2);
    else if (argc == 8 && strcmp(argv[1], "push") == 0)
        measure_push(argv + 2);
    else
        bench_die("usage: uffd faults SOCKET IMAGE PAGES SEED CORE HANDLER_CORE | "
                  "push SOCKET STORE SNAPSHOT IMAGE CORE wait|touch");
    return 0;
}
