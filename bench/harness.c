/* SPDX-License-Identifier: Apache-2.0 */
/*
 * harness.c - the helpers of the benchmarks in C; see harness.h.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { BLOCK_BYTES = 1 << 20 };

static uint8_t block[BLOCK_BYTES];
static const uint8_t zero_page[BENCH_PAGE_BYTES];

void
bench_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void
bench_must(int code, const char *what)
{
    if (code < 0)
        bench_die("%s: %s", what, dor_err_message());
}

uint64_t
bench_number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno || end == text || *end)
        bench_die("not a number: %s", text);
    return number;
}

struct dor_options *
bench_options(int count, char **words)
{
    struct dor_options *options;
    bench_must(dor_options_new(&options), "options");
    for (int i = 0; i < count; i++) {
        char *name = strdup(words[i]);
        char *value = name ? strchr(name, '=') : NULL;
        if (!value)
            bench_die("not NAME=VALUE: %s", words[i]);
        *value++ = '\0';
        bench_must(dor_options_set(options, name, value), words[i]);
        free(name);
    }
    return options;
}

int
bench_open(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        bench_die("%s: %s", path, strerror(errno));
    return fd;
}

int
bench_memory_file(const char *label)
{
    int fd = memfd_create(label, MFD_CLOEXEC);
    if (fd < 0)
        bench_die("memory file %s: %s", label, strerror(errno));
    return fd;
}

uint64_t
bench_size_bytes(int fd)
{
    struct stat info;
    if (fstat(fd, &info))
        bench_die("size: %s", strerror(errno));
    return (uint64_t)info.st_size;
}

int
bench_memory_copy(const char *path)
{
    int source = bench_open(path), target = bench_memory_file(path);
    uint64_t page_count = bench_size_bytes(source) / BENCH_PAGE_BYTES;
    if (ftruncate(target, (off_t)(page_count * BENCH_PAGE_BYTES)))
        bench_die("%s: %s", path, strerror(errno));
    for (uint64_t i = 0; i < page_count; i++) {
        bench_read_page(source, i, block);
        if (memcmp(block, zero_page, BENCH_PAGE_BYTES))
            bench_write_page(target, i, block);
    }
    close(source);
    return target;
}

void
bench_read_page(int fd, uint64_t page_index, void *page)
{
    off_t offset = (off_t)(page_index * BENCH_PAGE_BYTES);
    if (pread(fd, page, BENCH_PAGE_BYTES, offset) != BENCH_PAGE_BYTES)
        bench_die("page %llu cannot be read", (unsigned long long)page_index);
}

void
bench_write_page(int fd, uint64_t page_index, const void *page)
{
    off_t offset = (off_t)(page_index * BENCH_PAGE_BYTES);
    if (pwrite(fd, page, BENCH_PAGE_BYTES, offset) != BENCH_PAGE_BYTES)
        bench_die("page %llu cannot be written", (unsigned long long)page_index);
}

uint32_t *
bench_full_pages(int fd, size_t *ret_count)
{
    uint64_t page_count = bench_size_bytes(fd) / BENCH_PAGE_BYTES;
    uint32_t *pages = calloc(page_count + 1, sizeof *pages);
    if (!pages)
        bench_die("no memory for %llu pages", (unsigned long long)page_count);
    size_t count = 0;
    for (uint32_t i = 0; i < page_count; i++) {
        bench_read_page(fd, i, block);
        if (memcmp(block, zero_page, BENCH_PAGE_BYTES))
            pages[count++] = i;
    }
    *ret_count = count;
    return pages;
}

struct bench_digest
bench_digest(int fd)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state || XXH3_128bits_reset(state) != XXH_OK)
        bench_die("no memory for a digest");
    ssize_t got;
    for (off_t at = 0; (got = pread(fd, block, BLOCK_BYTES, at)) > 0; at += got)
        XXH3_128bits_update(state, block, (size_t)got);
    if (got < 0)
        bench_die("digest: %s", strerror(errno));
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    return (struct bench_digest){hash.low64, hash.high64};
}

void
bench_put(struct dor_store *store, const char *name, const char *parent, int fd)
{
    struct dor_put put = {.image_fd = fd, .parent = parent};
    struct dor_put_result result;
    bench_must(dor_store_put(store, name, &put, &result), name);
}

int
bench_get(struct dor_store *store, const char *name)
{
    struct dor_snapshot *snapshot;
    int fd = bench_memory_file(name);
    bench_must(dor_snapshot_open(store, name, &snapshot), name);
    bench_must(dor_snapshot_write_image(snapshot, fd, NULL, NULL), name);
    dor_snapshot_close(snapshot);
    return fd;
}

static int
compare_times(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

uint64_t
bench_percentile(uint64_t *times, size_t count, double fraction)
{
    if (!count)
        return 0;
    qsort(times, count, sizeof *times, compare_times);
    return times[(size_t)((double)(count - 1) * fraction)];
}

void
bench_print_calls(uint64_t *times, size_t count, double wall_s, uint64_t sum)
{
    static const struct {
        const char *name;
        double fraction;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
    printf("{\"calls\": %zu, \"wall_s\": %.6f, \"sum\": %" PRIu64, count, wall_s, sum);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        printf(
            "%s\"%s\": %.1f", i ? ", " : ", \"latency_us\": {", points[i].name,
            (double)bench_percentile(times, count, points[i].fraction) / 1e3);
    printf("}}\n");
}

uint64_t
bench_status_bytes(const char *field)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    size_t length = strlen(field);
    unsigned long long kib = 0;
    if (!status)
        bench_die("no /proc/self/status");
    while (fgets(line, sizeof line, status)) {
        if (!strncmp(line, field, length) && line[length] == ':')
            kib = strtoull(line + length + 1, NULL, 10);
    }
    fclose(status);
    return kib * 1024;
}
