/* SPDX-License-Identifier: Apache-2.0 */
/*
 * depth.c - what a full get costs at the end of a long chain of generations, each put with the
 * one before it as parent.
 *
 *   depth STORE IMAGE DONOR SEED ROUNDS GENERATION,GENERATION,... [NAME=VALUE ...]
 *
 * Claim: at generation 2,500 at most 1.1 times of generation 1. The list says which generations
 * are got; the chain ends with the last. That last one is also put alone into a store of its own
 * (STORE with "-alone" added): what differs there is not its depth. In each round the store is
 * opened anew for each get; every result is compared by digest. Then a page server is asked for
 * windows at random, the same in all generations.
 */
#include "base/clock.h"
#include "harness.h"
#include "wake/pages.h"
#include "writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MARKS_MAX = 16, PAGES_MIN = 200, PAGES_MORE = 200, TELL_EVERY = 250 };
enum { WAKE_WINDOW = 16, WAKE_WINDOWS = 1600 };

struct mark {
    uint64_t generation;
    struct bench_digest digest;
};

static char name_text[2][32];

static const char *
name_of(uint64_t generation)
{
    char *name = name_text[generation & 1];
    snprintf(name, sizeof name_text[0], "generation-%05llu", (unsigned long long)generation);
    return name;
}

static size_t
read_marks(char *text, struct mark *marks)
{
    size_t count = 0;
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ",")) {
        if (count == MARKS_MAX)
            bench_die("too many generations");
        marks[count] = (struct mark){.generation = bench_number(word)};
        if (!marks[count].generation ||
            (count && marks[count].generation <= marks[count - 1].generation))
            bench_die("generations must begin at 1 or later and rise");
        count++;
    }
    if (!count)
        bench_die("no generations");
    return count;
}

/* Put the chain; the processor time of all puts but the first. */
static uint64_t
make_chain(struct dor_store *store, struct writer *writer, struct mark *marks, size_t count)
{
    uint64_t spent_ns = 0;
    for (uint64_t generation = 1; generation <= marks[count - 1].generation; generation++) {
        const char *parent = generation > 1 ? name_of(generation - 1) : NULL;
        if (parent)
            writer_run(
                writer, PAGES_MIN + (size_t)base_random_below(&writer->random, PAGES_MORE));
        uint64_t begin = base_clock_cpu_ns();
        bench_put(store, name_of(generation), parent, writer->image_fd);
        spent_ns += parent ? base_clock_cpu_ns() - begin : 0;
        for (size_t i = 0; i < count; i++) {
            if (marks[i].generation == generation)
                marks[i].digest = bench_digest(writer->image_fd);
        }
        if (generation % TELL_EVERY == 0)
            fprintf(stderr, "# generation %llu\n", (unsigned long long)generation);
    }
    return spent_ns;
}

/* Processor time of opening DIRECTORY and getting one snapshot in full. */
static uint64_t
time_get(const char *directory, struct dor_options *options, const struct mark *mark)
{
    struct dor_store *store;
    uint64_t begin = base_clock_cpu_ns();
    bench_must(dor_store_open(directory, DOR_OPEN_READ, options, &store), directory);
    int fd = bench_get(store, name_of(mark->generation));
    dor_store_close(store);
    uint64_t spent_ns = base_clock_cpu_ns() - begin;
    struct bench_digest digest = bench_digest(fd);
    if (memcmp(&digest, &mark->digest, sizeof digest))
        bench_die("%s: wrong bytes", name_of(mark->generation));
    close(fd);
    return spent_ns;
}

/*
 * Processor time of a page server with an empty restore cache, for opening a snapshot and giving
 * windows of it at random. It was opened there before: *RET_FIRST_NS is the time of that.
 */
static uint64_t
time_wake(const char *directory, const struct mark *mark, uint64_t seed, uint64_t *ret_first_ns)
{
    struct dor_wake_server *server;
    struct wake_snapshot *snapshot;
    struct wake_worker *worker;
    struct wake_window window;
    struct base_random random;
    struct dor_store *store;
    static const uint8_t zeros[BENCH_PAGE_BYTES];
    const char *name = name_of(mark->generation);
    uint8_t page[BENCH_PAGE_BYTES];
    bench_must(dor_store_open(directory, DOR_OPEN_READ, NULL, &store), directory);
    int fd = bench_get(store, name);
    dor_store_close(store);
    uint64_t begin = base_clock_cpu_ns();
    bench_must(dor_wake_server_open(directory, NULL, &server), directory);
    bench_must(wake_snapshot_open(server, name, &snapshot), name);
    *ret_first_ns = base_clock_cpu_ns() - begin;
    wake_snapshot_close(snapshot);
    begin = base_clock_cpu_ns();
    bench_must(wake_snapshot_open(server, name, &snapshot), name);
    bench_must(wake_worker_new(server, &worker), "worker");
    uint64_t spent_ns = base_clock_cpu_ns() - begin;
    uint64_t windows = wake_snapshot_page_count(snapshot) / WAKE_WINDOW;
    base_random_init(&random, seed);
    for (unsigned i = 0; i < WAKE_WINDOWS; i++) {
        uint64_t first = base_random_below(&random, windows) * WAKE_WINDOW;
        begin = base_clock_cpu_ns();
        bench_must(wake_window_get(worker, snapshot, first, WAKE_WINDOW, &window), "window");
        spent_ns += base_clock_cpu_ns() - begin;
        for (unsigned p = 0; p < WAKE_WINDOW; p++) {
            bench_read_page(fd, first + p, page);
            if (memcmp(page, window.pages[p] ? window.pages[p] : zeros, sizeof page))
                bench_die("%s: wrong bytes", name);
        }
        wake_window_release(worker, &window);
    }
    wake_worker_free(worker);
    wake_snapshot_close(snapshot);
    dor_wake_server_close(server);
    close(fd);
    return spent_ns;
}

static void
print_times(const char *label, const uint64_t *times, size_t count)
{
    printf("\"%s\": [", label);
    for (size_t i = 0; i < count; i++)
        printf("%s%llu", i ? ", " : "", (unsigned long long)times[i]);
    printf("]");
}

/* Those of each generation, then those of the last one alone. */
static void
print_all(const struct mark *marks, const uint64_t *times, size_t count, size_t rounds)
{
    for (size_t i = 0; i < count; i++) {
        char label[32];
        snprintf(label, sizeof label, "%llu", (unsigned long long)marks[i].generation);
        print_times(label, times + i * rounds, rounds);
        printf(", ");
    }
    print_times("alone", times + count * rounds, rounds);
}

/* The last generation alone in a store of its own. */
static void
put_alone(
    const char *directory, struct dor_options *options, int image_fd, const struct mark *last)
{
    struct dor_store *store;
    bench_must(dor_store_create(directory, options), directory);
    bench_must(dor_store_open(directory, DOR_OPEN_WRITE, options, &store), directory);
    bench_put(store, name_of(last->generation), NULL, image_fd);
    dor_store_close(store);
}

static void
time_rounds(
    const char *directory, const char *alone, struct dor_options *options,
    const struct mark *marks, size_t count, size_t rounds)
{
    uint64_t *times = calloc((count + 1) * rounds, sizeof *times);
    if (!times)
        bench_die("no memory for times");
    /* Round 0 is not counted: it brings the files of the store into the page cache. */
    for (size_t round = 0; round <= rounds; round++) {
        for (size_t turn = 0; turn <= count; turn++) {
            size_t which = (turn + round) % (count + 1);
            const struct mark *mark = &marks[which < count ? which : count - 1];
            uint64_t spent_ns = time_get(which < count ? directory : alone, options, mark);
            if (round)
                times[which * rounds + round - 1] = spent_ns;
        }
    }
    print_all(marks, times, count, rounds);
    free(times);
}

static void
time_wakes(
    const char *directory, const char *alone, const struct mark *marks, size_t count,
    size_t rounds)
{
    uint64_t *times = calloc(2 * (count + 1) * rounds, sizeof *times);
    uint64_t *firsts = times + (count + 1) * rounds;
    if (!times)
        bench_die("no memory for times");
    for (size_t round = 0; round < rounds; round++)
        for (size_t turn = 0; turn <= count; turn++) {
            size_t which = (turn + round) % (count + 1), at = which * rounds + round;
            const struct mark *mark = &marks[which < count ? which : count - 1];
            times[at] =
                time_wake(which < count ? directory : alone, mark, round + 1, &firsts[at]);
        }
    printf("\"wake_ns\": {");
    print_all(marks, times, count, rounds);
    printf("}, \"open_ns\": {");
    print_all(marks, firsts, count, rounds);
    printf("}");
    free(times);
}

int
main(int argc, char **argv)
{
    if (argc < 7)
        bench_die("usage: depth STORE IMAGE DONOR SEED ROUNDS GENERATION,... [NAME=VALUE ...]");
    struct mark marks[MARKS_MAX];
    size_t rounds = bench_number(argv[5]), count = read_marks(argv[6], marks);
    struct dor_options *options = bench_options(argc - 7, argv + 7);
    struct writer writer;
    struct dor_store *store;
    struct dor_stat stat;
    char alone[4096];
    snprintf(alone, sizeof alone, "%s-alone", argv[1]);

    writer_init(
        &writer, bench_memory_copy(argv[2]), bench_open(argv[3]), bench_number(argv[4]));
    bench_must(dor_store_create(argv[1], options), argv[1]);
    bench_must(dor_store_open(argv[1], DOR_OPEN_WRITE, options, &store), argv[1]);
    uint64_t put_ns = make_chain(store, &writer, marks, count);
    bench_must(dor_store_stat(store, &stat), argv[1]);
    dor_store_close(store);
    put_alone(alone, options, writer.image_fd, &marks[count - 1]);

    printf("{\"get_ns\": {");
    time_rounds(argv[1], alone, options, marks, count, rounds);
    printf("}, ");
    time_wakes(argv[1], alone, marks, count, rounds);
    printf(
        ", \"put_ns\": %llu, \"logical_bytes\": %llu, \"stored_bytes\": %llu}\n",
        (unsigned long long)put_ns, (unsigned long long)stat.logical_bytes,
        (unsigned long long)stat.stored_bytes);
    writer_fini(&writer);
    dor_options_free(options);
    return 0;
}
