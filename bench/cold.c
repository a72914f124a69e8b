/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cold.c - how long a guest's memory takes that is nowhere but on the disk. A process touches what
 * a real guest touched (fault_trace.c), in its order, as quickly as it comes.
 *
 *   cold wake SOCKET IMAGE TRACE
 *     from `dormouse wake --uffd-socket`.
 *   cold map IMAGE TRACE
 *     from a private mapping of the raw memory file.
 *   cold set-make IMAGE TRACE SET
 *     writes a loading set as FaaSnap has it (Ao et al., EuroSys 2022): the pages of TRACE that are
 *     not zero, in regions; gaps of up to 32 pages between them are closed; regions are ordered by
 *     their first page in TRACE. SET begins with the number of regions and their rows.
 *   cold set IMAGE SET TRACE
 *     regions are mapped privately from SET, pages of zeros are anonymous, all else is mapped from
 *     IMAGE, while a thread reads SET ahead in its order.
 *
 * With the word "cold" behind it all but this process's copy of the image is dropped from the page
 * cache before the clock starts. Every page that was touched is compared with the image.
 */
#include "base/clock.h"
#include "harness.h"
#include "sandbox.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GAP_PAGES = 32, READ_BYTES = 1 << 20, SECONDS_MAX = 300 };

/* A write puts back what is there. */
struct touch {
    uint64_t page;
    uint8_t byte;
    bool write;
};

struct trace {
    struct touch *touches;
    size_t count;
    uint64_t page_count; /* different ones */
};

/* Of the loading set: PAGE_COUNT pages of the image from FIRST_PAGE lie at SET_PAGE of the file. */
struct part {
    uint64_t first_page, page_count, set_page;
    uint64_t rank; /* of its first page in the trace */
};

struct image {
    const uint8_t *bytes; /* in memory of this process */
    uint64_t size_bytes, page_count;
    const char *path;
};

static struct image
image_open(const char *path)
{
    int fd = bench_memory_copy(path);
    struct image image = {.size_bytes = bench_size_bytes(fd), .path = path};
    image.page_count = image.size_bytes / BENCH_PAGE_BYTES;
    image.bytes = mmap(NULL, image.size_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (image.bytes == MAP_FAILED)
        bench_die("no memory for the image");
    return image;
}

static struct trace
trace_read(const char *path, const struct image *image)
{
    FILE *file = fopen(path, "rb");
    uint32_t entry;
    size_t room = 0;
    struct trace trace = {0};
    uint8_t *seen = calloc(image->page_count, 1);
    if (file == NULL || seen == NULL)
        bench_die("%s: cannot be read", path);
    while (fread(&entry, sizeof entry, 1, file) == 1) {
        uint64_t page = entry >> 1;
        if (page >= image->page_count)
            bench_die("%s: page %" PRIu64 " is not in the image", path, page);
        if (trace.count == room) {
            room = room == 0 ? 1024 : 2 * room;
            trace.touches = realloc(trace.touches, room * sizeof *trace.touches);
            if (trace.touches == NULL)
                bench_die("no memory");
        }
        trace.touches[trace.count++] =
            (struct touch){page, image->bytes[page * BENCH_PAGE_BYTES], (entry & 1) != 0};
        trace.page_count += !seen[page];
        seen[page] = 1;
    }
    fclose(file);
    free(seen);
    return trace;
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

static void
compare(const struct trace *trace, const uint8_t *memory, const struct image *image)
{
    for (size_t i = 0; i < trace->count; i++) {
        uint64_t at = trace->touches[i].page * BENCH_PAGE_BYTES;
        if (memcmp(memory + at, image->bytes + at, BENCH_PAGE_BYTES) != 0)
            bench_die("page %" PRIu64 ": wrong bytes", trace->touches[i].page);
    }
}

static void
drop_caches(void)
{
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    sync();
    if (fd < 0 || write(fd, "3", 1) != 1)
        bench_die("the page cache cannot be dropped");
    close(fd);
}

/* All bytes that were read from disks since the system started. */
static uint64_t
disk_bytes(void)
{
    char line[256];
    uint64_t kib = 0;
    FILE *file = fopen("/proc/vmstat", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "pgpgin %" SCNu64, &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib << 10;
}

static void
tell(const struct trace *trace, uint64_t begin_ns, uint64_t begin_bytes)
{
    uint64_t spent_ns = base_clock_monotonic_ns() - begin_ns;
    printf(
        "{\"pages\": %" PRIu64 ", \"time_ns\": %" PRIu64 ", \"disk_bytes\": %" PRIu64 "}\n",
        trace->page_count, spent_ns, disk_bytes() - begin_bytes);
}

/* ------------------------------------------------------------------ ours, and a mapping */

static void
run_wake(char **words, bool cold)
{
    struct image image = image_open(words[1]);
    struct trace trace = trace_read(words[2], &image);
    struct sandbox sandbox = sandbox_new(image.size_bytes);
    sandbox_connect(&sandbox, words[0]);
    if (cold)
        drop_caches();
    uint64_t begin_bytes = disk_bytes();
    uint64_t begin_ns = base_clock_monotonic_ns();
    sandbox_hand_over(&sandbox);
    replay(&trace, sandbox.bytes);
    tell(&trace, begin_ns, begin_bytes);
    compare(&trace, sandbox.bytes, &image);
    sandbox_end(&sandbox);
}

static uint8_t *
map_file(const char *path, uint64_t size_bytes)
{
    int fd = bench_open(path);
    uint8_t *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED)
        bench_die("%s: cannot be mapped", path);
    close(fd);
    return memory;
}

static void
run_map(char **words, bool cold)
{
    struct image image = image_open(words[0]);
    struct trace trace = trace_read(words[1], &image);
    if (cold)
        drop_caches();
    uint64_t begin_bytes = disk_bytes();
    uint64_t begin_ns = base_clock_monotonic_ns();
    uint8_t *memory = map_file(image.path, image.size_bytes);
    replay(&trace, memory);
    tell(&trace, begin_ns, begin_bytes);
    compare(&trace, memory, &image);
}

/* ------------------------------------------------------------------ loading sets */

static bool
is_zero(const struct image *image, uint64_t page)
{
    static const uint8_t zeros[BENCH_PAGE_BYTES];
    return memcmp(image->bytes + page * BENCH_PAGE_BYTES, zeros, BENCH_PAGE_BYTES) == 0;
}

static int
by_rank(const void *a, const void *b)
{
    const struct part *one = a, *other = b;
    return one->rank < other->rank ? -1 : one->rank > other->rank;
}

/* The parts of the set, in the order of the trace; RET has room for all pages. */
static size_t
find_parts(const struct image *image, const struct trace *trace, struct part *ret)
{
    size_t count = 0;
    uint64_t *ranks = calloc(image->page_count, sizeof *ranks);
    if (ranks == NULL)
        bench_die("no memory");
    for (size_t i = trace->count; i-- > 0;)
        if (!is_zero(image, trace->touches[i].page))
            ranks[trace->touches[i].page] = i + 1;
    for (uint64_t page = 0; page < image->page_count; page++) {
        struct part *last = count == 0 ? NULL : &ret[count - 1];
        if (ranks[page] == 0)
            continue;
        if (last != NULL && page - (last->first_page + last->page_count) <= GAP_PAGES) {
            last->page_count = page + 1 - last->first_page;
            last->rank = ranks[page] < last->rank ? ranks[page] : last->rank;
        } else {
            ret[count++] = (struct part){page, 1, 0, ranks[page]};
        }
    }
    qsort(ret, count, sizeof *ret, by_rank);
    free(ranks);
    return count;
}

static void
write_all(int fd, const void *data, uint64_t size_bytes, uint64_t offset)
{
    if (pwrite(fd, data, size_bytes, (off_t)offset) != (ssize_t)size_bytes)
        bench_die("the loading set cannot be written");
}

static void
make_set(char **words)
{
    struct image image = image_open(words[0]);
    struct trace trace = trace_read(words[1], &image);
    struct part *parts = calloc(image.page_count, sizeof *parts);
    int fd = open(words[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (parts == NULL || fd < 0)
        bench_die("%s: cannot be made", words[2]);
    uint64_t count = find_parts(&image, &trace, parts);
    uint64_t page =
        (sizeof count + count * sizeof *parts + BENCH_PAGE_BYTES - 1) / BENCH_PAGE_BYTES;
    for (uint64_t i = 0; i < count; i++) {
        parts[i].set_page = page;
        write_all(
            fd, image.bytes + parts[i].first_page * BENCH_PAGE_BYTES,
            parts[i].page_count * BENCH_PAGE_BYTES, page * BENCH_PAGE_BYTES);
        page += parts[i].page_count;
    }
    write_all(fd, &count, sizeof count, 0);
    write_all(fd, parts, count * sizeof *parts, sizeof count);
    close(fd);
    printf(
        "{\"regions\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n", count, page * BENCH_PAGE_BYTES);
}

/* The loader: it reads the file into the page cache, from its beginning to its end. */
static void *
load(void *context)
{
    static uint8_t buffer[READ_BYTES];
    int fd = *(const int *)context;
    off_t offset = 0;
    for (ssize_t got; (got = pread(fd, buffer, sizeof buffer, offset)) > 0;)
        offset += got;
    return NULL;
}

static struct part *
read_parts(int fd, uint64_t *ret_count)
{
    if (pread(fd, ret_count, sizeof *ret_count, 0) != sizeof *ret_count)
        bench_die("the loading set cannot be read");
    struct part *parts = calloc(*ret_count + 1, sizeof *parts);
    ssize_t bytes = (ssize_t)(*ret_count * sizeof *parts);
    if (parts == NULL || pread(fd, parts, (size_t)bytes, sizeof *ret_count) != bytes)
        bench_die("the loading set cannot be read");
    return parts;
}

static void
map_at(uint8_t *place, uint64_t page_count, int flags, int fd, uint64_t page)
{
    void *mapped = mmap(
        place, page_count * BENCH_PAGE_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_FIXED | flags, fd, (off_t)(page * BENCH_PAGE_BYTES));
    if (mapped == MAP_FAILED)
        bench_die("a region cannot be mapped");
}

/* Anonymous where the image has zeros; FaaSnap knows that beforehand as well. */
static void
map_zeros(const struct image *image, uint8_t *memory)
{
    for (uint64_t page = 0; page < image->page_count;) {
        uint64_t end = page;
        while (end < image->page_count && is_zero(image, end))
            end++;
        if (end - page > GAP_PAGES)
            map_at(memory + page * BENCH_PAGE_BYTES, end - page, MAP_ANONYMOUS, -1, 0);
        page = end + 1;
    }
}

static void
run_set(char **words, bool cold)
{
    struct image image = image_open(words[0]);
    struct trace trace = trace_read(words[2], &image);
    uint64_t count;
    int fd = bench_open(words[1]);
    struct part *parts = read_parts(fd, &count);
    pthread_t loader;
    if (cold)
        drop_caches();
    uint8_t *memory = map_file(image.path, image.size_bytes);
    map_zeros(&image, memory);
    uint64_t begin_bytes = disk_bytes();
    uint64_t begin_ns = base_clock_monotonic_ns();
    if (pthread_create(&loader, NULL, load, &fd) != 0)
        bench_die("no thread");
    for (uint64_t i = 0; i < count; i++)
        map_at(
            memory + parts[i].first_page * BENCH_PAGE_BYTES, parts[i].page_count, 0, fd,
            parts[i].set_page);
    replay(&trace, memory);
    tell(&trace, begin_ns, begin_bytes);
    pthread_join(loader, NULL);
    compare(&trace, memory, &image);
}

int
main(int argc, char **argv)
{
    bool cold = argc > 2 && strcmp(argv[argc - 1], "cold") == 0;
    int count = argc - cold;
    alarm(SECONDS_MAX);
    if (count == 5 && strcmp(argv[1], "wake") == 0)
        run_wake(argv + 2, cold);
    else if (count == 4 && strcmp(argv[1], "map") == 0)
        run_map(argv + 2, cold);
    else if (count == 5 && strcmp(argv[1], "set-make") == 0)
        make_set(argv + 2);
    else if (count == 5 && strcmp(argv[1], "set") == 0)
        run_set(argv + 2, cold);
    else
        bench_die("usage: cold wake SOCKET IMAGE TRACE | map IMAGE TRACE | set-make IMAGE "
                  "TRACE SET | "
                  "set IMAGE SET TRACE, and \"cold\"");
    return EXIT_SUCCESS;
}
