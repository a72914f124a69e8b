/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scale.c - put rate and memory of one open store while many snapshots of changing real images
 * are put into it.
 *
 *   scale STORE SEED SNAPSHOTS WINDOW CHECKED IMAGE,IMAGE,... [NAME=VALUE ...]
 *
 * Claim: the last WINDOW puts run at 0.8 or more of the rate of the first WINDOW, and the index
 * takes at most 24 bytes a stored page. The images are put first, uncounted; then they take turns,
 * each changed by its writer since its last turn and put with its last snapshot as parent. The
 * images are memory files that are never mapped here, so the process's peak memory is the
 * library's. CHECKED snapshots are got back at the end.
 */
#include "base/clock.h"
#include "harness.h"
#include "writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IMAGES_MAX = 16, PAGES_MIN = 200, PAGES_MORE = 600, TELL_EVERY = 100 };

static char name_text[2][32];

/* Good until the call after next. */
static const char *
name_of(const char *what, uint64_t number)
{
    static unsigned turn;
    char *name = name_text[turn++ & 1];
    snprintf(name, sizeof name_text[0], "%s-%05llu", what, (unsigned long long)number);
    return name;
}

static size_t
open_images(char *text, uint64_t seed, struct writer *writers)
{
    const char *paths[IMAGES_MAX];
    size_t count = 0;
    for (char *path = strtok(text, ","); path; path = strtok(NULL, ",")) {
        if (count == IMAGES_MAX)
            bench_die("too many images");
        paths[count++] = path;
    }
    if (!count)
        bench_die("no images");
    /* Each takes its bytes from the next image, as that was. */
    for (size_t i = 0; i < count; i++)
        writer_init(
            &writers[i], bench_memory_copy(paths[i]), bench_open(paths[(i + 1) % count]),
            seed + i);
    return count;
}

/* Let the kernel count the peak of this process's memory from now. */
static void
forget_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "5", 1) != 1)
        fprintf(stderr, "# the peak of memory cannot be reset here\n");
    if (fd >= 0)
        close(fd);
}

static void
print_memory(struct dor_store *store, const char *label)
{
    struct dor_stat stat;
    uint64_t page_count = 0;
    unsigned long long peak = bench_status_bytes("VmHWM"), anon = bench_status_bytes("RssAnon");
    bench_must(dor_store_stat(store, &stat), "stat");
    for (size_t i = 0; i < DOR_REGION_TYPES; i++)
        page_count += stat.by_region_type[i].raw_pages + stat.by_region_type[i].patched_pages;
    printf(
        "\"%s\": {\"peak_bytes\": %llu, \"anonymous_bytes\": %llu, \"stored_pages\": %llu, "
        "\"index_bytes\": %llu, \"stored_bytes\": %llu, \"logical_bytes\": %llu}, ",
        label, peak, anon, (unsigned long long)page_count, (unsigned long long)stat.index_bytes,
        (unsigned long long)stat.stored_bytes, (unsigned long long)stat.logical_bytes);
}

static void
check_some(
    struct dor_store *store, const struct bench_digest *digests, uint64_t snapshots,
    uint64_t checked, uint64_t seed)
{
    struct base_random random;
    base_random_init(&random, seed);
    for (uint64_t i = 0; i < checked; i++) {
        uint64_t number = base_random_below(&random, snapshots);
        int fd = bench_get(store, name_of("snapshot", number));
        struct bench_digest digest = bench_digest(fd);
        if (memcmp(&digest, &digests[number], sizeof digest))
            bench_die("snapshot %llu: wrong bytes", (unsigned long long)number);
        close(fd);
    }
}

static uint64_t
time_open(const char *directory, struct dor_options *options, struct dor_store **ret)
{
    uint64_t begin = base_clock_cpu_ns();
    bench_must(dor_store_open(directory, DOR_OPEN_WRITE, options, ret), directory);
    return base_clock_cpu_ns() - begin;
}

int
main(int argc, char **argv)
{
    if (argc < 7)
        bench_die(
            "usage: scale STORE SEED SNAPSHOTS WINDOW CHECKED IMAGE,... [NAME=VALUE ...]");
    static struct writer writers[IMAGES_MAX];
    uint64_t seed = bench_number(argv[2]), snapshots = bench_number(argv[3]);
    uint64_t window = bench_number(argv[4]), checked = bench_number(argv[5]);
    size_t image_count = open_images(argv[6], seed, writers);
    struct dor_options *options = bench_options(argc - 7, argv + 7);
    struct bench_digest *digests = calloc(snapshots, sizeof *digests);
    uint64_t *times = calloc(snapshots, sizeof *times);
    struct dor_store *store;
    if (!digests || !times || window > snapshots)
        bench_die("too many snapshots, or a window of more than all");
    bench_must(dor_store_create(argv[1], options), argv[1]);
    uint64_t first_open_ns = time_open(argv[1], options, &store);
    for (size_t i = 0; i < image_count; i++)
        bench_put(store, name_of("image", i), NULL, writers[i].image_fd);

    printf("{");
    for (uint64_t i = 0; i < snapshots; i++) {
        struct writer *writer = &writers[i % image_count];
        writer_run(writer, PAGES_MIN + (size_t)base_random_below(&writer->random, PAGES_MORE));
        if (i == 0 || i == snapshots - window)
            forget_peak();
        uint64_t begin = base_clock_cpu_ns();
        const char *parent =
            i < image_count ? name_of("image", i) : name_of("snapshot", i - image_count);
        bench_put(store, name_of("snapshot", i), parent, writer->image_fd);
        times[i] = base_clock_cpu_ns() - begin;
        digests[i] = bench_digest(writer->image_fd);
        if (i + 1 == window)
            print_memory(store, "first");
        if ((i + 1) % TELL_EVERY == 0)
            fprintf(stderr, "# snapshot %llu\n", (unsigned long long)i + 1);
    }
    print_memory(store, "last");
    check_some(store, digests, snapshots, checked, seed);
    dor_store_close(store);
    uint64_t last_open_ns = time_open(argv[1], options, &store);
    dor_store_close(store);
    printf(
        "\"first_open_ns\": %llu, \"last_open_ns\": %llu, \"put_ns\": [",
        (unsigned long long)first_open_ns, (unsigned long long)last_open_ns);
    for (uint64_t i = 0; i < snapshots; i++)
        printf("%s%llu", i ? ", " : "", (unsigned long long)times[i]);
    printf("]}\n");
    for (size_t i = 0; i < image_count; i++)
        writer_fini(&writers[i]);
    dor_options_free(options);
    free(digests);
    free(times);
    return 0;
}
