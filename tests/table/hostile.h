/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile.h - an arena with all that an arena can have, words of it changed by somebody else, and
 * every call on it. The calls may say what they like; they have to end, inside the arena.
 *
 * Ownership:  the caller closes what he makes.
 * Threads:    the test's own.
 * Errors:     whatever should not fail ends the program.
 */
#ifndef TESTS_TABLE_HOSTILE_H
#define TESTS_TABLE_HOSTILE_H

#include "worlds.h"

enum { HOSTILE_LIMIT_BYTES = 256 << 10, HOSTILE_KEYS = 128 };

/*
 * An arena's bytes: after removals, with libraries, times of expiry, long chains and free
 * blocks.
 */
struct hostile_arena {
    uint8_t *bytes;
    size_t size_bytes;
    uint32_t words; /* up to the top */
};

static inline void
hostile_copy(struct table *table, struct hostile_arena *ret)
{
    const struct table_arena *arena = table_arena(table);
    ret->size_bytes = (size_t)arena->file_bytes;
    ret->words = arena->header->top * 2;
    ret->bytes = malloc(ret->size_bytes);
    if (ret->bytes == NULL)
        bail("no memory");
    memcpy(ret->bytes, arena->base, ret->size_bytes);
}

/* Two of them: one at rest, one in the midst of a transaction. */
static inline void
hostile_make(struct hostile_arena *ret_rest, struct hostile_arena *ret_open)
{
    struct table_arena arena;
    int fd = memory_file();
    if (table_arena_create(dup(fd), HOSTILE_LIMIT_BYTES, 3, &arena) != 0)
        bail("%s", dor_err_message());
    table_arena_close(&arena);
    const struct table_options options = {.limit_bytes = HOSTILE_LIMIT_BYTES};
    struct table *table;
    if (table_open(fd, &options, false, &table) != 0)
        bail("%s", dor_err_message());
    table_set_now(table, NOW_MS);
    struct world world = {0};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < HOSTILE_KEYS + HOSTILE_KEYS / 4; i++)
        rc = world_set(&world, table, i, false);
    for (unsigned i = HOSTILE_KEYS; rc == 0 && i < HOSTILE_KEYS + HOSTILE_KEYS / 4; i++)
        rc = world_remove(&world, table, i);
    if (rc != 0)
        bail("%s", dor_err_message());
    hostile_copy(table, ret_rest);
    rc = table_begin(table);
    for (unsigned i = 0; rc == 0 && i < 40; i++)
        rc = world_change(&world, table, i);
    if (rc != 0)
        bail("%s", dor_err_message());
    hostile_copy(table, ret_open);
    table_abort(table);
    table_close(table);
}

static inline void
hostile_put(uint8_t *bytes, uint32_t word, uint32_t value)
{
    memcpy(bytes + (size_t)word * 4, &value, 4);
}

static inline bool
hostile_look(void *context, const struct table_key *key, const struct table_value *value)
{
    uint32_t *sum = context;
    for (uint32_t i = 0; i < key->length; i++)
        *sum += key->bytes[i];
    if (value->length > 0)
        *sum += value->bytes[0] + (uint32_t)value->bytes[value->length - 1];
    return true;
}

/* Each call, some of them again and again. Results are not looked at. */
static inline void
hostile_calls(struct table *table, uint32_t *sum)
{
    struct world world = {0};
    table_set_now(table, NOW_MS + 1100);
    for (unsigned i = 0; i < HOSTILE_KEYS + 10; i++) {
        char text[32];
        struct table_key key = world_key(table, i, text);
        struct table_value value;
        bool found;
        if (table_find(table, &key, true, &value)) {
            hostile_look(sum, &key, &value);
            if (i % 5 == 0 && table_pin(table, value.ref) == 0)
                *sum += 1;
        }
        if (i % 4 == 0)
            *sum += (uint32_t)world_set(&world, table, i, i % 8 == 0);
        if (i % 8 == 2)
            *sum += (uint32_t)world_append(&world, table, i);
        if (i % 4 == 1)
            *sum += table_remove(table, &key);
        if (i % 4 == 2)
            *sum += (uint32_t)table_expire(table, &key, NOW_MS + 5000, &found);
    }
    uint64_t cursor = 0;
    for (unsigned n = 0; n < 64 && (cursor != 0 || n == 0); n++)
        cursor = table_scan(table, cursor, 64, hostile_look, sum);
    *sum += (uint32_t)table_each_library(table, hostile_look, sum);
    for (uint64_t n = 0; n < 10; n++) {
        struct table_key key;
        char scratch[16];
        *sum += table_random_key(table, n * 0x123456789abcdef1, scratch, &key);
    }
    for (unsigned n = 0; n < 20; n++)
        table_maintain(table, 40);
    for (unsigned turn = 0; turn < 2; turn++) {
        if (table_begin(table) != 0)
            continue;
        for (unsigned i = 0; i < 30; i++)
            *sum += (uint32_t)world_change(&world, table, i * 3 + turn);
        if (turn == 0)
            table_abort(table);
        else
            table_commit(table);
    }
    table_set_limit(table, TABLE_ARENA_BYTES_MIN, TABLE_EVICT_LRU);
    for (unsigned i = 0; i < 40; i++)
        *sum += (uint32_t)world_set(&world, table, i, false);
    for (unsigned n = 0; n < 20; n++)
        table_maintain(table, 40);
    struct table_stat stat;
    table_stat(table, &stat);
    *sum += (uint32_t)stat.used_bytes;
    *sum += (uint32_t)table_flush(table, false);
    *sum += (uint32_t)world_set(&world, table, 1, false);
    *sum += (uint32_t)table_flush(table, true);
    *sum += (uint32_t)world_set(&world, table, 1, false);
}

/* The table in BYTES; NULL when it cannot be opened. */
static inline struct table *
hostile_open(const struct hostile_arena *arena, bool recover)
{
    int fd = memory_file();
    if (pwrite(fd, arena->bytes, arena->size_bytes, 0) != (ssize_t)arena->size_bytes)
        bail("a memory file takes no bytes");
    const struct table_options options = {.limit_bytes = HOSTILE_LIMIT_BYTES};
    struct table *table;
    if (table_open(fd, &options, recover, &table) != 0)
        return NULL;
    table_set_now(table, NOW_MS);
    return table;
}

#endif
