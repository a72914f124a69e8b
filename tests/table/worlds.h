/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worlds.h - a plain model of a table whose values can be told from the key and a version, and
 * numbered operations that change both in the same way, so that another process can say what a
 * table must hold after the Nth of them.
 *
 * Ownership:  worlds are plain memory.
 * Threads:    the test's own.
 * Errors:     whatever should not fail ends the program.
 */
#ifndef TESTS_TABLE_WORLDS_H
#define TESTS_TABLE_WORLDS_H

#include "tables.h"

#include "base/random.h"
#include "table/heap.h"

enum {
    WORLD_KEYS = 400,
    LIBRARY_EACH = 25,
    WORLD_SET_BYTES_MAX = 300,
    APPENDS_MAX = 20, /* to one value */
    PIECE_BYTES_MAX = 40,
    WORLD_VALUE_BYTES_MAX = WORLD_SET_BYTES_MAX + APPENDS_MAX * PIECE_BYTES_MAX,
};

struct world {
    uint32_t version[WORLD_KEYS]; /* 0 = not there */
    uint32_t appended[WORLD_KEYS];
};

/* What one operation does; the random ones come from its number. */
struct operation {
    enum { SET, APPEND, REMOVE, EXPIRE, COMMIT, ABORT, DRAFT, UPKEEP, FLUSH, FLUSH_ALL } kind;
    unsigned key;     /* the first one; a transaction changes CHANGES of them */
    unsigned changes; /* of a transaction */
};

static inline struct table_key
world_key(const struct table *table, unsigned i, char text[32])
{
    if (i % LIBRARY_EACH == 0) {
        snprintf(text, 32, "library%u", i);
        return library_of(table, text);
    }
    snprintf(text, 32, i % 2 == 0 ? "%u" : "key-%u", i);
    return key_of(table, text);
}

static inline size_t
world_value(unsigned i, uint32_t version, char value[WORLD_VALUE_BYTES_MAX])
{
    size_t length = (i * 7 + version * 31) % WORLD_SET_BYTES_MAX;
    uint32_t words[] = {i, version};
    memset(value, 'a' + (int)(i + version) % 26, length);
    memcpy(value, words, length < sizeof words ? length : sizeof words);
    return length;
}

/* What the Nth append to a value adds. */
static inline size_t
world_piece(unsigned i, uint32_t n, char *piece)
{
    size_t length = (i + n * 11) % PIECE_BYTES_MAX;
    memset(piece, 'A' + (int)(i + n) % 26, length);
    return length;
}

static inline int64_t
world_expiry(unsigned i, uint32_t version)
{
    return (i + version) % 3 == 0 ? NOW_MS + 1000 + version : 0;
}

static inline int
world_set(struct world *world, struct table *table, unsigned i, bool by_draft)
{
    uint32_t version = ++world->version[i];
    world->appended[i] = 0;
    if (table == NULL)
        return 0;
    char text[32], value[WORLD_VALUE_BYTES_MAX];
    struct table_key key = world_key(table, i, text);
    size_t length = world_value(i, version, value);
    if (!by_draft)
        return table_set(table, &key, value, length, world_expiry(i, version));
    struct table_draft draft;
    int rc = table_draft(table, &key, length, world_expiry(i, version), &draft);
    if (rc != 0)
        return rc;
    memcpy(draft.bytes, value, length);
    return table_commit_draft(table, &key, &draft);
}

/* Nothing happens to what is not there, or has grown enough. */
static inline int
world_append(struct world *world, struct table *table, unsigned i)
{
    if (world->version[i] == 0 || world->appended[i] == APPENDS_MAX)
        return 0;
    uint32_t n = world->appended[i]++;
    if (table == NULL)
        return 0;
    char text[32], piece[PIECE_BYTES_MAX];
    struct table_key key = world_key(table, i, text);
    uint64_t length;
    return table_append(table, &key, piece, (uint32_t)world_piece(i, n, piece), &length);
}

static inline int
world_remove(struct world *world, struct table *table, unsigned i)
{
    bool there = world->version[i] != 0;
    world->version[i] = world->appended[i] = 0;
    if (table == NULL)
        return 0;
    char text[32];
    struct table_key key = world_key(table, i, text);
    return table_remove(table, &key) == there ? 0 : DOR_E_CORRUPT;
}

static inline int
world_change(struct world *world, struct table *table, unsigned i)
{
    if (world->version[i] == 0 || i % 3 == 0)
        return world_set(world, table, i, false);
    return i % 3 == 1 ? world_remove(world, table, i) : world_append(world, table, i);
}

static inline void
world_flush(struct world *world, bool libraries)
{
    for (unsigned i = 0; i < WORLD_KEYS; i++)
        if (libraries || i % LIBRARY_EACH != 0)
            world->version[i] = world->appended[i] = 0;
}

/* Do OPERATION in WORLD, and in TABLE unless it is NULL. */
static inline int
world_do(struct world *world, struct table *table, const struct operation *operation)
{
    struct world before = *world;
    unsigned i = operation->key;
    int rc = 0;
    switch (operation->kind) {
    case SET:
    case DRAFT:
        return world_set(world, table, i, operation->kind == DRAFT);
    case APPEND:
        return world_append(world, table, i);
    case REMOVE:
        return world_remove(world, table, i);
    case EXPIRE:
        /* The time of the next version with the value of this one is none: set it anew. */
        return world->version[i] == 0 ? 0 : world_set(world, table, i, false);
    case COMMIT:
    case ABORT:
        if (table != NULL)
            rc = table_begin(table);
        for (unsigned n = 0; rc == 0 && n < operation->changes; n++)
            rc = world_change(world, table, (i + n * 7) % WORLD_KEYS);
        if (operation->kind == ABORT)
            *world = before;
        if (table != NULL && operation->kind == ABORT)
            table_abort(table);
        else if (table != NULL)
            table_commit(table);
        return rc;
    case UPKEEP:
        for (unsigned n = 0; table != NULL && n < 8; n++)
            table_maintain(table, 30);
        return 0;
    case FLUSH:
    case FLUSH_ALL:
        world_flush(world, operation->kind == FLUSH_ALL);
        return table != NULL ? table_flush(table, operation->kind == FLUSH_ALL) : 0;
    }
    return DOR_E_USAGE;
}

/* Operation number N of the run SEED. */
static inline struct operation
world_operation(uint64_t seed, uint64_t n)
{
    struct base_random rng;
    base_random_init(&rng, seed * 1000003 + n);
    unsigned kind = (unsigned)base_random_below(&rng, 200);
    struct operation operation = {
        .key = (unsigned)base_random_below(&rng, WORLD_KEYS),
        .changes =
            (unsigned)base_random_below(&rng, base_random_below(&rng, 10) == 0 ? 900 : 9),
    };
    operation.kind = kind < 60    ? SET
                     : kind < 80  ? APPEND
                     : kind < 120 ? REMOVE
                     : kind < 130 ? DRAFT
                     : kind < 160 ? COMMIT
                     : kind < 175 ? ABORT
                     : kind < 197 ? UPKEEP
                     : kind < 199 ? FLUSH
                                  : FLUSH_ALL;
    return operation;
}

/* The first key at which TABLE is not as WORLD; WORLD_KEYS = it is the same. */
static inline unsigned
world_differs(const struct world *world, struct table *table)
{
    uint64_t keys = 0, libraries = 0;
    for (unsigned i = 0; i < WORLD_KEYS; i++) {
        char text[32], want[WORLD_VALUE_BYTES_MAX];
        struct table_key key = world_key(table, i, text);
        struct table_value value;
        bool found = table_find(table, &key, false, &value);
        uint32_t version = world->version[i];
        if (found != (version != 0))
            return i;
        if (!found)
            continue;
        size_t length = world_value(i, version, want);
        for (uint32_t n = 0; n < world->appended[i]; n++)
            length += world_piece(i, n, want + length);
        if (value.length != length || memcmp(value.bytes, want, length) != 0 ||
            value.expiry_ms != world_expiry(i, version))
            return i;
        keys += i % LIBRARY_EACH != 0;
        libraries += i % LIBRARY_EACH == 0;
    }
    struct table_stat stat = stat_of(table);
    return stat.keys == keys && stat.libraries == libraries ? WORLD_KEYS : WORLD_KEYS + 1;
}

static inline bool
count_one(void *context, const struct table_key *key, const struct table_value *value)
{
    (void)key;
    (void)value;
    ++*(uint64_t *)context;
    return true;
}

/* Whether each bucket says how long its values are, or that it does not know. */
static inline bool
lengths_are_right(const struct table_arena *arena)
{
    for (uint32_t index = 0; index < arena->header->bucket_count; index++) {
        uint32_t segment = index < 16 ? 0 : 28 - (uint32_t)__builtin_clz(index);
        uint32_t word = arena->header->segments[segment] + index * 16;
        const struct table_bucket *bucket = table_arena_at(arena, word / 2);
        for (; bucket != NULL;
             bucket = bucket->next == 0 ? NULL : table_arena_at(arena, bucket->next))
            for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++) {
                const struct table_block *block =
                    table_arena_at(arena, bucket->ref[i] & 0x1fffffff);
                if (bucket->ref[i] != 0 && bucket->length[i] != TABLE_LENGTH_UNKNOWN &&
                    bucket->length[i] != (block->length & TABLE_LENGTH_MASK))
                    return false;
            }
    }
    return true;
}

/* What is wrong with the blocks of TABLE or with what a scan finds; NULL = nothing. */
static inline const char *
table_trouble(struct table *table)
{
    const struct table_arena *arena = table_arena(table);
    uint32_t used = 0;
    for (uint32_t unit = TABLE_HEAP_FIRST, units; unit < arena->header->top; unit += units) {
        units = table_heap_block_units(arena, unit);
        if (units == 0)
            return "blocks do not follow each other up to the top";
        const struct table_block *block = table_arena_at(arena, unit);
        used += TABLE_TAG_KEY_BYTES(block->tag) == TABLE_KEY_FREE ? 0 : units;
    }
    struct table_stat stat = stat_of(table);
    if (used != arena->header->used_units)
        return "the units in use do not add up";
    uint64_t count = 0, cursor = 0;
    do
        cursor = table_scan(table, cursor, 16, count_one, &count);
    while (cursor != 0);
    if (count != stat.keys)
        return "a scan finds not as many keys as there are";
    if (!lengths_are_right(arena))
        return "a bucket has another length than the record";
    return stat.damaged == 0 ? NULL : "something is damaged";
}

#endif
