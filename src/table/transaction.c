/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transaction.c - several changes as one, by an undo journal inside the arena.
 *
 *     journal block: u32 units, u32 tag fffd0000, u32 unit of the block before (0 = first), u32
 *                    its number from 0, then JOURNAL_ENTRIES entries: u32 hash, u32 old place,
 *                    u32 new place (0 = none)
 *
 *     none --begin--> open --first change--> journal in the arena --commit--> journal = 0 -->
 *     freed
 *                                                  |abort, or found by recovery
 *                                                  +--> undone, last entry first --> freed
 *
 * An entry is complete before the header counts it, and counted before its change is made. What
 * gives way is freed only after the end, so places in the journal lead to whole records.
 */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "table/table_priv.h"

#define JOURNAL_BYTES   4096
#define JOURNAL_HEAD    4 /* words */
#define ENTRY_WORDS     3
#define JOURNAL_ENTRIES ((JOURNAL_BYTES / 4 - JOURNAL_HEAD) / ENTRY_WORDS)

/* The words of the journal's block at UNIT, NULL if there can be none. */
static uint32_t *
journal_block(const struct table *table, uint32_t unit)
{
    uint32_t top = table->arena.header->top;
    if (unit < TABLE_HEAP_FIRST || unit >= top || top - unit < JOURNAL_BYTES / TABLE_UNIT_BYTES)
        return NULL;
    uint32_t *words = table_arena_at(&table->arena, unit);
    return words[1] == TABLE_KEY_JOURNAL << 16 ? words : NULL;
}

static int
add_block(struct table *table)
{
    uint32_t unit = 0;
    int rc = table_heap_alloc(&table->arena, JOURNAL_BYTES, &unit);
    if (rc != 0)
        return rc;
    uint32_t *words = table_arena_at(&table->arena, unit);
    table_arena_touch(
        &table->arena, (uint64_t)unit * TABLE_UNIT_BYTES, JOURNAL_HEAD * sizeof *words);
    words[0] = table_heap_units(JOURNAL_BYTES);
    words[1] = TABLE_KEY_JOURNAL << 16;
    words[2] = table->arena.header->journal;
    words[3] = table->arena.header->journal_count / JOURNAL_ENTRIES;
    table_arena_put(&table->arena, &table->arena.header->journal, unit);
    return 0;
}

int
table_journal_add(struct table *table, uint32_t hash, uint32_t old_ref, uint32_t new_ref)
{
    struct table_header *header = table->arena.header;
    uint32_t number = header->journal_count / JOURNAL_ENTRIES;
    uint32_t at = header->journal_count % JOURNAL_ENTRIES;
    uint32_t *words = header->journal != 0 ? journal_block(table, header->journal) : NULL;
    if (words == NULL || words[3] != number) {
        /* The newest block is full; it is not when an entry was taken back. */
        int rc = add_block(table);
        if (rc != 0)
            return rc;
        words = journal_block(table, header->journal);
    }
    if (words == NULL)
        return dor_fail(DOR_E_CORRUPT, "the table is damaged: its journal is not inside it");
    uint32_t *entry = words + JOURNAL_HEAD + (size_t)at * ENTRY_WORDS;
    table_arena_touch(
        &table->arena, (uint64_t)((uint8_t *)entry - table->arena.base),
        ENTRY_WORDS * sizeof *entry);
    entry[0] = hash;
    entry[1] = old_ref;
    entry[2] = new_ref;
    table_arena_put(&table->arena, &header->journal_count, header->journal_count + 1);
    return 0;
}

int
table_defer_free(struct table *table, uint32_t unit, uint32_t units)
{
    if (table->deferred_count == table->deferred_cap) {
        size_t cap = table->deferred_cap == 0 ? 64 : 2 * table->deferred_cap;
        struct table_extent *grown = base_realloc_array(table->deferred, cap, sizeof *grown);
        if (grown == NULL)
            return DOR_E_NO_MEMORY;
        table->deferred = grown;
        table->deferred_cap = cap;
    }
    table->deferred[table->deferred_count++] = (struct table_extent){unit, units};
    return 0;
}

int
table_begin(struct table *table)
{
    if (table->in_transaction)
        return dor_fail(DOR_E_BUSY, "a transaction of the table is open");
    table->in_transaction = true;
    return 0;
}

bool
table_in_transaction(const struct table *table)
{
    return table->in_transaction;
}

/* Free the block of the journal at UNIT and those before it. */
static void
free_blocks(struct table *table, uint32_t unit)
{
    uint32_t after = UINT32_MAX;
    while (unit != 0) {
        const uint32_t *words = journal_block(table, unit);
        if (words == NULL || words[3] >= after)
            return; /* each has a lower number than the one after it, so this ends */
        after = words[3];
        uint32_t previous = words[2];
        table_heap_free(&table->arena, unit, table_heap_units(JOURNAL_BYTES));
        unit = previous;
    }
}

static void
end(struct table *table)
{
    struct table_header *header = table->arena.header;
    uint32_t unit = header->journal;
    table_arena_put(&table->arena, &header->journal, 0);
    table_arena_put(&table->arena, &header->journal_count, 0);
    free_blocks(table, unit);
    table->in_transaction = false;
}

void
table_commit(struct table *table)
{
    end(table);
    for (size_t i = 0; i < table->deferred_count; i++)
        table_free_block(table, table->deferred[i].unit, table->deferred[i].units);
    table->deferred_count = 0;
}

static int
undo_entry(struct table *table, const uint32_t *entry, void *context)
{
    (void)context;
    uint32_t hash = entry[0], old_ref = entry[1], new_ref = entry[2];
    struct table_slot slot = {NULL, 0};
    if (new_ref != 0) {
        slot = table_slot_of_ref(table, hash, new_ref);
        if (slot.bucket == NULL)
            return 0; /* the change was written down and not made */
    } else if (table_slot_of_ref(table, hash, old_ref).bucket != NULL) {
        return 0;
    }
    if (slot.bucket != NULL && old_ref != 0)
        table_slot_put(table, slot, old_ref);
    else if (slot.bucket != NULL)
        table_slot_remove(table, hash, slot);
    else if (table_slot_insert(table, hash, old_ref) != 0)
        table->damaged++;
    if (old_ref != 0)
        table_count(table, old_ref, 1);
    if (new_ref == 0)
        return 0;
    table_count(table, new_ref, -1);
    struct table_record record;
    if (table_record(table, new_ref, &record))
        table_free_block(table, record.unit, record.units);
    return 0;
}

/* Call FN with the newest entries first, down to number UNTIL. */
static int
walk_until(struct table *table, uint32_t until, table_entry_fn *fn, void *context)
{
    const struct table_header *header = table->arena.header;
    uint32_t count = header->journal_count;
    uint32_t unit = header->journal;
    const uint32_t *words = unit != 0 ? journal_block(table, unit) : NULL;
    /* A process may die between a new block and its first entry. */
    if (words != NULL && (uint64_t)words[3] * JOURNAL_ENTRIES == count && count > 0)
        words = journal_block(table, words[2]);
    while (words != NULL && count > until) {
        uint32_t first = (count - 1) / JOURNAL_ENTRIES * JOURNAL_ENTRIES;
        if (words[3] != first / JOURNAL_ENTRIES)
            break;
        for (; count > first && count > until; count--) {
            int rc =
                fn(table, words + JOURNAL_HEAD + (size_t)(count - 1 - first) * ENTRY_WORDS,
                   context);
            if (rc != 0)
                return rc;
        }
        words = journal_block(table, words[2]);
    }
    if (count > until)
        table->damaged++;
    return 0;
}

int
table_journal_walk(struct table *table, table_entry_fn *fn, void *context)
{
    return walk_until(table, 0, fn, context);
}

bool
table_journal_blocks(
    const struct table *table, bool (*fn)(void *context, uint32_t unit, uint32_t units),
    void *context)
{
    uint32_t unit = table->arena.header->journal;
    for (uint32_t after = UINT32_MAX; unit != 0;) {
        const uint32_t *words = journal_block(table, unit);
        if (words == NULL || words[3] >= after ||
            !fn(context, unit, table_heap_units(JOURNAL_BYTES)))
            return false;
        after = words[3];
        unit = words[2];
    }
    return true;
}

void
table_journal_end(struct table *table)
{
    end(table);
}

void
table_abort(struct table *table)
{
    int rc = table_journal_walk(table, undo_entry, NULL);
    dor_assert(rc == 0);
    table->deferred_count = 0;
    end(table);
}

struct table_savepoint
table_savepoint(const struct table *table)
{
    return (struct table_savepoint){table->arena.header->journal_count, table->deferred_count};
}

void
table_rollback(struct table *table, const struct table_savepoint *savepoint)
{
    struct table_header *header = table->arena.header;
    int rc = walk_until(table, savepoint->journal_count, undo_entry, NULL);
    dor_assert(rc == 0);
    table->deferred_count = savepoint->deferred_count;
    /* Block by block, the count first: a process that dies in between leaves an empty newest one,
     * and recovery passes over entries that are undone. */
    for (uint32_t number = savepoint->journal_count / JOURNAL_ENTRIES; header->journal != 0;) {
        uint32_t unit = header->journal;
        const uint32_t *words = journal_block(table, unit);
        if (words == NULL || words[3] <= number)
            break;
        table_arena_put(&table->arena, &header->journal_count, words[3] * JOURNAL_ENTRIES);
        table_arena_put(&table->arena, &header->journal, words[2]);
        table_heap_free(&table->arena, unit, table_heap_units(JOURNAL_BYTES));
    }
    table_arena_put(&table->arena, &header->journal_count, savepoint->journal_count);
}
