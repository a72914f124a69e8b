/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clones.c - what guests do that wake from one memory file at once, without the guests: processes
 * that map FILE privately and touch the pages of a fault trace (fault_trace.c) in its order.
 *
 *   clones FILE IMAGE TRACE COUNT
 *
 * Prints for each clone the time from the common start to its last page, and its private memory
 * while all are there. What it dirtied are the pages that the trace writes to. Every page that
 * was touched is compared with IMAGE at the end.
 */
#include "base/clock.h"
#include "harness.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLONES_MAX = 256, SECONDS_MAX = 300, LINE_BYTES = 256 };

/* A write puts back what is there, so that it need not be read before. */
struct touch {
    uint64_t page;
    uint8_t byte;
    bool write;
};

struct trace {
    struct touch *touches;
    size_t count;
    uint64_t dirty_pages, page_count;
};

struct outcome {
    uint64_t time_ns, private_bytes;
};

static void
trace_read(const char *path, const uint8_t *image, uint64_t page_count, struct trace *ret)
{
    FILE *file = fopen(path, "rb");
    uint32_t entry;
    size_t room = 0;
    uint8_t *dirty = calloc(page_count, 1);
    uint8_t *seen = calloc(page_count, 1);
    if (file == NULL || dirty == NULL || seen == NULL)
        bench_die("%s: cannot be read", path);
    while (fread(&entry, sizeof entry, 1, file) == 1) {
        uint64_t page = entry >> 1;
        if (page >= page_count)
            bench_die("%s: page %" PRIu64 " is not in the image", path, page);
        if (ret->count == room) {
            room = room == 0 ? 1024 : 2 * room;
            ret->touches = realloc(ret->touches, room * sizeof *ret->touches);
            if (ret->touches == NULL)
                bench_die("no memory");
        }
        ret->touches[ret->count++] =
            (struct touch){page, image[page * BENCH_PAGE_BYTES], (entry & 1) != 0};
        ret->dirty_pages += (entry & 1) != 0 && !dirty[page];
        ret->page_count += !seen[page];
        dirty[page] |= (entry & 1) != 0;
        seen[page] = 1;
    }
    fclose(file);
    free(dirty);
    free(seen);
}

static void
replay(const struct trace *trace, volatile uint8_t *memory)
{
    for (size_t i = 0; i < trace->count; i++) {
        volatile uint8_t *at = memory + trace->touches[i].page * BENCH_PAGE_BYTES;
        if (trace->touches[i].write)
            *at = trace->touches[i].byte;
        else
            (void)*at;
    }
}

/* Private memory of the mapping that begins at MEMORY. */
static uint64_t
private_bytes(const uint8_t *memory)
{
    char line[LINE_BYTES];
    uint64_t sum = 0;
    bool inside = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        uint64_t first, last, kib;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &first, &last) == 2)
            inside = first == (uintptr_t)memory;
        else if (
            inside && (sscanf(line, "Private_Clean: %" SCNu64, &kib) == 1 ||
                       sscanf(line, "Private_Dirty: %" SCNu64, &kib) == 1))
            sum += kib << 10;
    }
    if (file == NULL)
        bench_die("/proc/self/smaps cannot be read");
    fclose(file);
    return sum;
}

static void
compare(const struct trace *trace, const uint8_t *memory, const uint8_t *image)
{
    for (size_t i = 0; i < trace->count; i++) {
        uint64_t at = trace->touches[i].page * BENCH_PAGE_BYTES;
        if (memcmp(memory + at, image + at, BENCH_PAGE_BYTES) != 0)
            bench_die("page %" PRIu64 ": wrong bytes", trace->touches[i].page);
    }
}

/* The parent's ends of what tells all clones to go on, and them to tell it that they have. */
struct stage {
    int told[2], go[2];
};

static void
stage_init(struct stage *stage)
{
    if (pipe(stage->told) != 0 || pipe(stage->go) != 0)
        bench_die("no pipe");
}

static void
stage_reach(const struct stage *stage)
{
    char byte = 0;
    if (write(stage->told[1], &byte, 1) != 1 || read(stage->go[0], &byte, 1) != 0)
        bench_die("the parent is gone");
}

/* Wait for COUNT clones, then let them go; the time of that. */
static uint64_t
stage_open(const struct stage *stage, uint64_t count)
{
    char byte;
    for (uint64_t i = 0; i < count; i++)
        if (read(stage->told[0], &byte, 1) != 1)
            bench_die("a clone is gone");
    uint64_t now = base_clock_monotonic_ns();
    close(stage->go[1]);
    return now;
}

static _Noreturn void
be_clone(
    int fd, const uint8_t *image, const struct trace *trace, const struct stage stages[3],
    struct outcome *ret)
{
    uint64_t size_bytes = bench_size_bytes(fd);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    uint8_t *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED)
        bench_die("the file cannot be mapped");
    /* A stage opens when its last writing end is closed. */
    for (unsigned i = 0; i < 3; i++)
        close(stages[i].go[1]);
    stage_reach(&stages[0]);
    replay(trace, memory);
    ret->time_ns = base_clock_monotonic_ns();
    stage_reach(&stages[1]);
    ret->private_bytes = private_bytes(memory);
    stage_reach(&stages[2]);
    compare(trace, memory, image);
    _exit(EXIT_SUCCESS);
}

static void
run(int fd, const uint8_t *image, const struct trace *trace, uint64_t count)
{
    struct stage stages[3];
    struct outcome *outcomes = mmap(
        NULL, count * sizeof *outcomes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
        0);
    if (outcomes == MAP_FAILED)
        bench_die("no memory");
    for (unsigned i = 0; i < 3; i++)
        stage_init(&stages[i]);
    for (uint64_t i = 0; i < count; i++) {
        pid_t child = fork();
        if (child < 0)
            bench_die("cannot fork");
        if (child == 0)
            be_clone(fd, image, trace, stages, &outcomes[i]);
    }
    uint64_t begin = stage_open(&stages[0], count);
    stage_open(&stages[1], count);
    stage_open(&stages[2], count);
    for (uint64_t i = 0; i < count; i++) {
        int status;
        if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS)
            bench_die("a clone failed");
    }
    printf(
        "{\"pages\": %" PRIu64 ", \"dirtied_bytes\": %" PRIu64 ", \"clones\": [",
        trace->page_count, trace->dirty_pages * BENCH_PAGE_BYTES);
    for (uint64_t i = 0; i < count; i++)
        printf(
            "%s{\"time_ns\": %" PRIu64 ", \"private_bytes\": %" PRIu64 "}", i == 0 ? "" : ", ",
            outcomes[i].time_ns - begin, outcomes[i].private_bytes);
    printf("]}\n");
}

int
main(int argc, char **argv)
{
    struct trace trace = {0};
    if (argc != 5)
        bench_die("usage: clones FILE IMAGE TRACE COUNT");
    alarm(SECONDS_MAX); /* should a clone die, the others wait for it */
    uint64_t count = bench_number(argv[4]);
    int image_fd = bench_memory_copy(argv[2]);
    uint64_t size_bytes = bench_size_bytes(image_fd);
    int fd = bench_open(argv[1]);
    if (count == 0 || count > CLONES_MAX || bench_size_bytes(fd) != size_bytes)
        bench_die("too many clones, or the file is not as large as the image");
    const uint8_t *image = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, image_fd, 0);
    if (image == MAP_FAILED)
        bench_die("the image cannot be mapped");
    trace_read(argv[3], image, size_bytes / BENCH_PAGE_BYTES, &trace);
    run(fd, image, &trace, count);
    return EXIT_SUCCESS;
}
