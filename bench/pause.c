/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pause.c - a process that writes to all of its memory all the time, and knows how long it stood
 * still.
 *
 *   pause MIB IMAGE
 *
 * Its memory is IMAGE, again and again up to MIB. Each of two threads goes over its half, a word of
 * page after page. The first line it prints has its range as /proc/PID/maps writes it; for each
 * line that it reads it prints what was since the last, and it ends with its input. A thread's
 * longest time between two writes is at least as long as it was stopped.
 */
#include "base/clock.h"
#include "harness.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 2, MIB_BYTES = 1 << 20 };

struct half {
    uint8_t *bytes;
    size_t page_count;
    _Atomic uint64_t writes, longest_ns;
};

static void *
write_on(void *context)
{
    struct half *half = context;
    uint64_t last_ns = base_clock_monotonic_ns();
    for (uint64_t round = 1;; round++)
        for (size_t page = 0; page < half->page_count; page++) {
            *(volatile uint64_t *)(void *)(half->bytes + page * BENCH_PAGE_BYTES) = round;
            uint64_t now_ns = base_clock_monotonic_ns();
            if (now_ns - last_ns >
                atomic_load_explicit(&half->longest_ns, memory_order_relaxed))
                atomic_store(&half->longest_ns, now_ns - last_ns);
            atomic_fetch_add_explicit(&half->writes, 1, memory_order_relaxed);
            last_ns = now_ns;
        }
    return NULL;
}

static void
fill(uint8_t *bytes, size_t size_bytes, const char *path)
{
    int fd = bench_open(path);
    uint64_t image_bytes = bench_size_bytes(fd);
    for (size_t at = 0; at < size_bytes; at += BENCH_PAGE_BYTES)
        bench_read_page(fd, at % image_bytes / BENCH_PAGE_BYTES, bytes + at);
    close(fd);
}

static void
report(struct half *halves)
{
    uint64_t writes = 0;
    uint64_t longest_ns = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        uint64_t here_ns = atomic_exchange(&halves[i].longest_ns, 0);
        writes += atomic_exchange(&halves[i].writes, 0);
        longest_ns = here_ns > longest_ns ? here_ns : longest_ns;
    }
    printf("{\"writes\": %" PRIu64 ", \"longest_ns\": %" PRIu64 "}\n", writes, longest_ns);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    static struct half halves[THREADS];
    pthread_t thread;
    char line[16];
    if (argc != 3)
        bench_die("usage: pause MIB IMAGE");
    size_t size_bytes = (size_t)bench_number(argv[1]) * MIB_BYTES;
    uint8_t *bytes =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        bench_die("no memory");
    fill(bytes, size_bytes, argv[2]);
    for (unsigned i = 0; i < THREADS; i++) {
        halves[i].bytes = bytes + i * (size_bytes / THREADS);
        halves[i].page_count = size_bytes / THREADS / BENCH_PAGE_BYTES;
        if (pthread_create(&thread, NULL, write_on, &halves[i]) != 0)
            bench_die("no thread");
    }
    printf("%" PRIxPTR "-%" PRIxPTR "\n", (uintptr_t)bytes, (uintptr_t)bytes + size_bytes);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL)
        report(halves);
    return 0;
}
