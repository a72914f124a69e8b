/* SPDX-License-Identifier: Apache-2.0 */
/*
 * t_table_memory.c - what a table takes from the machine: pages come back after keys went, by
 * upkeep in small steps, and churn does not make the arena much longer than what is in it.
 */
#include "tables.h"

#include <sys/stat.h>

#include "base/random.h"

enum { KEYS = 40000, VALUE_BYTES_MAX = 700 };

static uint64_t
memory_bytes(struct table *table)
{
    struct stat status;
    if (fstat(table_arena(table)->fd, &status) != 0)
        bail("no stat of a memory file");
    return (uint64_t)status.st_blocks * 512;
}

static void
put(struct table *table, unsigned i, size_t length)
{
    static const char value[VALUE_BYTES_MAX];
    char text[16];
    snprintf(text, sizeof text, "key:%u", i);
    struct table_key key = key_of(table, text);
    if (table_set(table, &key, value, length, 0) != 0)
        bail("%s", dor_err_message());
}

static double
ratio(struct table *table)
{
    struct table_stat stat = stat_of(table);
    return (double)stat.arena_bytes / (double)stat.used_bytes;
}

int
main(void)
{
    struct base_random rng;
    base_random_init(&rng, tap_seed());
    struct table *table = new_table(256 << 20, TABLE_NO_EVICTION);
    uint64_t empty_bytes = memory_bytes(table);
    ok(empty_bytes <= 8192, "an empty table takes %" PRIu64 " bytes", empty_bytes);

    for (unsigned i = 0; i < KEYS; i++)
        put(table, i, 100);
    for (unsigned i = 0; i < KEYS; i++) {
        put(table, i, 200);
        table_maintain(table, 4);
    }
    upkeep(table);
    ok(ratio(table) < 1.5, "100 bytes gave way to 200: the arena is %.2f of what is used",
       ratio(table));
    double worst = 0;
    for (unsigned n = 0; n < 10 * KEYS; n++) {
        put(table, (unsigned)base_random_below(&rng, KEYS),
            50 + (size_t)base_random_below(&rng, VALUE_BYTES_MAX - 50));
        if (n % 20 == 0)
            table_maintain(table, 40);
        if (n % 1000 == 0 && ratio(table) > worst)
            worst = ratio(table);
    }
    ok(worst < 1.5, "churn of ten times the data: at most %.2f", worst);

    uint64_t full_bytes = memory_bytes(table);
    char text[16];
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(text, sizeof text, "key:%u", i);
        if (i % 10 != 0 && !remove_key(table, text))
            bail("key %u is gone", i);
    }
    upkeep(table);
    uint64_t tenth_bytes = memory_bytes(table);
    ok(tenth_bytes < full_bytes / 4,
       "of %" PRIu64 " KiB %" PRIu64 " are left for a tenth of the keys", full_bytes / 1024,
       tenth_bytes / 1024);
    unsigned lost = 0;
    for (unsigned i = 0; i < KEYS; i += 10) {
        struct table_value value;
        snprintf(text, sizeof text, "key:%u", i);
        struct table_key key = key_of(table, text);
        lost += !table_find(table, &key, false, &value);
    }
    is_int(lost, 0, "which are all there");
    is_ok(table_flush(table, false), "a flush");
    upkeep(table);
    ok(memory_bytes(table) < 1 << 20, "leaves %" PRIu64 " KiB", memory_bytes(table) / 1024);
    table_close(table);
    return done_testing();
}
