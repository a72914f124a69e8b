/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.c - one walk over all blocks from the lowest up, in small steps: free neighbours become
 * one, records move down, and long free blocks give their memory back.
 *
 *     |  A   |  gap ...... |  B   |  free  |  C   |     B is copied to the begin of the gap, and
 *     |  A   |  B   |  gap ................|  C   |     its slot gets the new place
 *
 * The gap grows by what is free behind it and wanders to the top, which it lowers. It is a free
 * block in its list between two steps, and in none during a step. What does not move - segments,
 * what is pinned, long records, a record longer than the gap - is a wall: the gap stays before it,
 * and records from behind the wall go there as long as there is room.
 *
 * Invariants:
 * 1. A record is whole at its old place until its slot has the new one, and nothing is written over
 *    it before: the copy never overlaps it. So a process may die at any moment.
 * 2. Nothing moves while a mark stands, since that would copy every page, nor in a transaction,
 *    whose journal has places.
 */
#include <string.h>

#include "base/size.h"
#include "table/table_priv.h"

#define MOVE_UNITS_MAX ((256u << 10) / TABLE_UNIT_BYTES)
#define UNITS_A_STEP   64 /* as much copying counts as a step */
#define OVERFLOW_UNITS ((uint32_t)(TABLE_OVERFLOW_BYTES / TABLE_UNIT_BYTES))

enum block_use {
    STAYS,
    MOVED, /* into the gap, which is behind it now */
    GONE,  /* below the gap, which is longer now */
    FREE,  /* it was, or nothing leads to it */
};

/* Where a block of UNITS at UNIT can go: below a wall, or into the gap; 0 = nowhere. */
static uint32_t
place_for(struct table *table, uint32_t unit, uint32_t units, uint32_t gap_units)
{
    if (units > MOVE_UNITS_MAX)
        return 0;
    if (table->left_units >= units) {
        uint32_t to = table_heap_take_below(&table->arena, units, unit - gap_units);
        table->left_units = to != 0 ? table->left_units - units : table->left_units / 2;
        if (to != 0)
            return to;
    }
    return gap_units >= units ? unit - gap_units : 0;
}

static void
copy_block(struct table *table, uint32_t from, uint32_t to, uint32_t units)
{
    memcpy(
        table_arena_at(&table->arena, to), table_arena_at(&table->arena, from),
        (size_t)units * TABLE_UNIT_BYTES);
}

/* The bucket whose next one is at UNIT, in the chain of its entries; NULL if there is none. */
static struct table_bucket *
bucket_before(const struct table *table, uint32_t unit)
{
    const struct table_bucket *bucket = table_arena_at(&table->arena, unit);
    unsigned i = 0;
    while (i < TABLE_BUCKET_SLOTS && bucket->ref[i] == 0)
        i++;
    if (i == TABLE_BUCKET_SLOTS)
        return NULL;
    struct table_bucket *before =
        table_bucket(table, table_bucket_index(table, bucket->hash[i]));
    for (unsigned n = 0; before != NULL && n < TABLE_CHAIN_MAX; n++) {
        if (before->next == unit)
            return before;
        before = table_bucket_next(table, before);
    }
    return NULL;
}

static enum block_use
move_bucket(struct table *table, uint32_t unit, uint32_t gap_units)
{
    struct table_bucket *before = bucket_before(table, unit + 1);
    uint32_t to = before != NULL ? place_for(table, unit, OVERFLOW_UNITS, gap_units) : 0;
    if (to == 0)
        return STAYS;
    copy_block(table, unit, to, OVERFLOW_UNITS);
    table_arena_put(&table->arena, &before->next, to + 1);
    return to == unit - gap_units ? MOVED : GONE;
}

static enum block_use
move_record(struct table *table, uint32_t unit, uint32_t gap_units)
{
    struct table_record record;
    if (!table_record(table, unit, &record) || table_is_held(table, unit))
        return STAYS;
    char scratch[16];
    struct table_key key = table_record_key(table, &record, scratch);
    uint32_t flags = (record.expires ? REF_EXPIRES : 0) |
                     (record.is_library ? REF_LIBRARY : 0) |
                     (record.is_number ? REF_NUMBER : 0);
    struct table_slot slot = table_slot_of_ref(table, key.hash, unit | flags);
    if (slot.bucket == NULL)
        return FREE; /* a draft of a process that died, or a record that was pinned in it */
    uint32_t to = place_for(table, unit, record.units, gap_units);
    if (to == 0)
        return STAYS;
    copy_block(table, unit, to, record.units);
    table_arena_put(&table->arena, &slot.bucket->ref[slot.index], to | flags);
    return to == unit - gap_units ? MOVED : GONE;
}

/* What becomes of the block of UNITS at UNIT, with a gap before it. */
static enum block_use
look_at(struct table *table, uint32_t unit, uint32_t units, uint32_t gap_units)
{
    const struct table_block *block = table_arena_at(&table->arena, unit);
    uint32_t kind = TABLE_TAG_KEY_BYTES(block->tag);
    if (kind == TABLE_KEY_FREE)
        return FREE;
    if (table->arena.mark != NULL || (gap_units == 0 && table->left_units == 0))
        return STAYS;
    if (kind == TABLE_KEY_JOURNAL || kind == TABLE_KEY_SLACK)
        return FREE; /* there is no transaction, no flush and no append */
    if (kind != TABLE_KEY_BUCKETS)
        return move_record(table, unit, gap_units);
    return units == OVERFLOW_UNITS ? move_bucket(table, unit, gap_units) : STAYS;
}

/* Leave the gap before UNIT as a free block. False when giving its memory back takes longer. */
static bool
close_gap(struct table *table, uint32_t unit, uint32_t gap_units)
{
    struct table_arena *arena = &table->arena;
    table_heap_add_free(arena, unit - gap_units, unit);
    return gap_units == 0 || table_heap_punch(arena, unit - gap_units);
}

bool
table_sweep(struct table *table, uint32_t steps)
{
    struct table_arena *arena = &table->arena;
    struct table_header *header = arena->header;
    uint32_t unit = arena->sweep_unit != 0 ? arena->sweep_unit : TABLE_HEAP_FIRST;
    uint32_t gap_units = 0;
    if (arena->sweep_unit == 0)
        table->left_units = 0;
    table_arena_touch(arena, 0, DOR_PAGE_BYTES);
    for (uint32_t done = 0; done < steps && unit < header->top; done++) {
        uint32_t units = table_heap_block_units(arena, unit);
        if (units == 0)
            break; /* no block begins here: what is behind is not swept */
        const struct table_block *block = table_arena_at(arena, unit);
        bool was_free = TABLE_TAG_KEY_BYTES(block->tag) == TABLE_KEY_FREE;
        switch (look_at(table, unit, units, gap_units)) {
        case FREE:
            if (was_free)
                table_heap_take_out(arena, unit);
            else
                header->used_units -= units < header->used_units ? units : header->used_units;
            gap_units += units;
            break;
        case GONE:
            gap_units += units;
            done += units / UNITS_A_STEP;
            break;
        case MOVED:
            done += units / UNITS_A_STEP;
            break;
        case STAYS:
            if (gap_units != 0 && !close_gap(table, unit, gap_units)) {
                arena->sweep_unit = unit - gap_units;
                return false;
            }
            table->left_units += gap_units;
            gap_units = 0;
            break;
        }
        unit += units;
    }
    arena->sweep_unit = 0;
    if (unit >= header->top) {
        table_heap_lower_top(arena, unit - gap_units);
        return true;
    }
    if (table_heap_block_units(arena, unit) != 0)
        arena->sweep_unit = unit - gap_units;
    table_heap_add_free(arena, unit - gap_units, unit);
    return arena->sweep_unit == 0;
}
