/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_steps.c - how long the longest single step of a table takes: what a command does to it,
 * or one turn of its upkeep, while it grows, shrinks, loses what has expired, and is emptied.
 *
 *     table_steps KEYS ROUNDS
 *
 * All rounds do the same steps. Of a step counts the processor time of the round that took least,
 * so that what the machine does beside is not the table's, but a pause that belongs to a step is
 * in all of them; the longest of the wall is told beside, as it came. Prints one JSON object.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/random.h"
#include "harness.h"
#include "table/table.h"

enum {
    KEY_BYTES_MIN = 20,
    KEY_BYTES_MAX = 40,
    VALUE_BYTES = 16,
    UPKEEP_STEPS = 256,  /* as a worker takes them */
    UPKEEP_TURNS = 1024, /* commands between two turns of it */
    EXPIRY_MS = 60000,
    LIBRARIES = 3,
};

static const int64_t present_ms = INT64_C(1700000000000);

enum phase {
    GROW,
    GROW_UPKEEP,
    DELETE,
    SHRINK_UPKEEP,
    RANDOM,
    EXPIRE_SET,
    EXPIRE_UPKEEP,
    FLUSH,
    AFTER,
    PHASES
};
static const char *const phase_names[PHASES] = {
    "grow",       "grow_upkeep",   "delete", "shrink_upkeep", "random",
    "expire_set", "expire_upkeep", "flush",  "flush_upkeep",
};

/* The least processor time of each step so far. */
struct steps {
    uint32_t *least_ns;
    size_t count, cap;
    size_t at; /* of the round under way */
    uint64_t wall_max_ns;
};

static struct steps phases[PHASES];
static uint64_t keys;

static uint64_t
thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct stopwatch {
    uint64_t wall_ns, cpu_ns;
};

static struct stopwatch
start(void)
{
    return (struct stopwatch){base_clock_monotonic_ns(), thread_ns()};
}

static void
stop(enum phase phase, struct stopwatch began)
{
    uint64_t cpu_ns = thread_ns() - began.cpu_ns;
    uint64_t wall_ns = base_clock_monotonic_ns() - began.wall_ns;
    struct steps *steps = &phases[phase];
    if (steps->wall_max_ns < wall_ns)
        steps->wall_max_ns = wall_ns;
    uint32_t ns = cpu_ns < UINT32_MAX ? (uint32_t)cpu_ns : UINT32_MAX;
    if (steps->at == steps->cap) {
        steps->cap = steps->cap == 0 ? 1024 : 2 * steps->cap;
        steps->least_ns = realloc(steps->least_ns, steps->cap * sizeof *steps->least_ns);
        if (steps->least_ns == NULL)
            bench_die("no memory for %zu steps", steps->cap);
    }
    /* A round may have some turns of upkeep more than another. */
    if (steps->at >= steps->count) {
        steps->least_ns[steps->at] = ns;
        steps->count = steps->at + 1;
    } else if (steps->least_ns[steps->at] > ns) {
        steps->least_ns[steps->at] = ns;
    }
    steps->at++;
}

static struct table_key
key_of(const struct table *table, uint64_t number, char text[KEY_BYTES_MAX])
{
    uint64_t state = number;
    size_t length =
        KEY_BYTES_MIN + base_random_splitmix(&state) % (KEY_BYTES_MAX - KEY_BYTES_MIN + 1);
    char digits[17];
    snprintf(digits, sizeof digits, "%016" PRIx64, number);
    memset(text, 'k', length);
    memcpy(text, digits, 16);
    struct table_key key;
    if (!table_key(table, text, length, &key))
        bench_die("a key of %zu bytes is too long", length);
    return key;
}

static void
keep_up(struct table *table, enum phase phase, bool to_the_end)
{
    bool more = true;
    while (more) {
        struct stopwatch began = start();
        more = table_maintain(table, UPKEEP_STEPS) && to_the_end;
        stop(phase, began);
    }
}

static void
set_all(struct table *table, enum phase phase, uint64_t from, uint64_t step, int64_t expiry_ms)
{
    static const uint8_t value[VALUE_BYTES] = "a value";
    for (uint64_t i = from; i < keys; i += step) {
        char text[KEY_BYTES_MAX];
        struct stopwatch began = start();
        struct table_key key = key_of(table, i, text);
        bench_must(table_set(table, &key, value, sizeof value, expiry_ms), "setting a key");
        stop(phase, began);
        if (i % UPKEEP_TURNS == 0)
            keep_up(table, GROW_UPKEEP, false);
    }
}

static void
add_libraries(struct table *table)
{
    for (int i = 0; i < LIBRARIES; i++) {
        char name[16];
        struct table_key key;
        int length = snprintf(name, sizeof name, "library%d", i);
        if (!table_library_key(table, name, (size_t)length, &key))
            bench_die("a library's name");
        bench_must(table_set(table, &key, "source", 6, 0), "setting a library");
    }
}

static void
expect(const struct table *table, uint64_t count, const char *when)
{
    struct table_stat stat;
    table_stat(table, &stat);
    if (stat.keys != count)
        bench_die("%s: %" PRIu64 " keys, not %" PRIu64, when, stat.keys, count);
}

/* All but a few keys go: a table has then many empty buckets. */
static void
remove_most(struct table *table)
{
    for (uint64_t i = 0; i + 8 < keys; i++) {
        char text[KEY_BYTES_MAX];
        struct stopwatch began = start();
        struct table_key key = key_of(table, i, text);
        if (!table_remove(table, &key))
            bench_die("key %" PRIu64 " is not there", i);
        stop(DELETE, began);
        if (i % UPKEEP_TURNS == 0)
            keep_up(table, SHRINK_UPKEEP, false);
    }
    keep_up(table, SHRINK_UPKEEP, true);
    expect(table, 8, "after deleting");
    struct base_random random;
    base_random_init(&random, 1);
    for (int i = 0; i < 1000; i++) {
        char text[16];
        struct table_key key;
        struct stopwatch began = start();
        bool found = table_random_key(table, base_random_next(&random), text, &key);
        stop(RANDOM, began);
        if (!found)
            bench_die("no random key");
    }
}

static void
run_round(void)
{
    const struct table_options options = {.limit_bytes = UINT64_C(3) << 30};
    struct table *table;
    for (int i = 0; i < PHASES; i++)
        phases[i].at = 0;
    bench_must(table_create(bench_memory_file("table"), &options, &table), "making a table");
    table_set_now(table, present_ms);
    add_libraries(table);
    set_all(table, GROW, 0, 1, 0);
    expect(table, keys, "after growing");
    remove_most(table);
    set_all(table, EXPIRE_SET, 0, 1, present_ms + EXPIRY_MS);
    table_set_now(table, present_ms + 2 * EXPIRY_MS);
    keep_up(table, EXPIRE_UPKEEP, true);
    table_set_now(table, present_ms);
    set_all(table, EXPIRE_SET, 0, 1, 0);
    struct stopwatch began = start();
    bench_must(table_flush(table, false), "emptying");
    stop(FLUSH, began);
    expect(table, 0, "after emptying");
    keep_up(table, AFTER, true);
    struct table_stat stat;
    table_stat(table, &stat);
    if (stat.libraries != LIBRARIES)
        bench_die("a library was lost");
    table_close(table);
}

int
main(int argc, char **argv)
{
    if (argc != 3)
        bench_die("table_steps KEYS ROUNDS");
    keys = bench_number(argv[1]);
    for (uint64_t rounds = bench_number(argv[2]); rounds > 0; rounds--)
        run_round();
    printf("{");
    for (int i = 0; i < PHASES; i++) {
        struct steps *steps = &phases[i];
        uint64_t *times = calloc(steps->count + 1, sizeof *times);
        if (times == NULL)
            bench_die("no memory");
        for (size_t n = 0; n < steps->count; n++)
            times[n] = steps->least_ns[n];
        uint64_t most = bench_percentile(times, steps->count, 1);
        printf(
            "%s\"%s\": {\"n\": %zu, \"p50_ns\": %" PRIu64 ", \"p999_ns\": %" PRIu64
            ", \"max_ns\": %" PRIu64 ", \"wall_max_ns\": %" PRIu64 "}",
            i > 0 ? ", " : "", phase_names[i], steps->count,
            bench_percentile(times, steps->count, 0.5),
            bench_percentile(times, steps->count, 0.999), most, steps->wall_max_ns);
        free(times);
    }
    printf("}\n");
    return 0;
}
