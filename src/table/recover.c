/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.c - a table out of an arena whose process died at any moment, or that was written to by
 * somebody who should not have.
 *
 * A flush under way is finished. Otherwise the open transaction is undone; then every slot is
 * looked at: a record counts if it lies inside the arena, its words make sense, and its key has
 * the hash of its slot, in the right bucket, once. What overlaps something else is left out.
 * All that is not found through the buckets is free, and the lists and counts are made anew.
 *
 * Invariant: the buckets lose only what is wrong in them, so a process that dies here too leaves
 * as much to find.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "table/table_priv.h"

#define BUCKET_UNITS ((uint32_t)(sizeof(struct table_bucket) / TABLE_UNIT_BYTES))

struct found {
    uint32_t unit, units;
    uint32_t hash, ref; /* of a record; ref 0 = buckets */
};

struct finds {
    struct found *items;
    size_t count, cap;
};

static int
add_find(struct finds *finds, struct found found)
{
    if (finds->count == finds->cap) {
        size_t cap = finds->cap == 0 ? 1024 : 2 * finds->cap;
        struct found *grown = base_realloc_array(finds->items, cap, sizeof *grown);
        if (grown == NULL)
            return DOR_E_NO_MEMORY;
        finds->items = grown;
        finds->cap = cap;
    }
    finds->items[finds->count++] = found;
    return 0;
}

/* The block of the segment whose first bucket is FIRST; what aligns it is in front. */
static int
find_segment(const struct table *table, uint32_t first_index, struct finds *finds)
{
    const struct table_bucket *bucket = table_bucket(table, first_index);
    if (bucket == NULL)
        return dor_fail(
            DOR_E_CORRUPT, "the table is damaged: bucket %u is outside", first_index);
    uint32_t first =
        (uint32_t)(((const uint8_t *)bucket - table->arena.base) / TABLE_UNIT_BYTES);
    for (uint32_t unit = first - 1; unit >= first - BUCKET_UNITS; unit--) {
        const struct table_block *block = table_arena_at(&table->arena, unit);
        if (block->tag == TABLE_KEY_BUCKETS << 16 &&
            block->length == (first_index + 1) * BUCKET_UNITS &&
            table_heap_block_units(&table->arena, unit) == block->length)
            return add_find(finds, (struct found){.unit = unit, .units = block->length});
    }
    return dor_fail(
        DOR_E_CORRUPT, "the table is damaged: no block around bucket %u", first_index);
}

static int
find_segments(const struct table *table, struct finds *finds)
{
    int rc = 0;
    for (uint32_t first = TABLE_FIRST_BUCKETS;
         rc == 0 && first < table->arena.header->bucket_count; first *= 2)
        rc = find_segment(table, first, finds);
    return rc;
}

/* Whether the record in a slot of bucket INDEX is what the slot says. */
static bool
belongs(
    const struct table *table, uint32_t index, uint32_t hash, uint32_t ref,
    struct table_record *ret)
{
    if (table_bucket_index(table, hash) != index || !table_record(table, ref, ret))
        return false;
    char scratch[16];
    struct table_key key = table_record_key(table, ret, scratch);
    return key.hash == hash && ret->is_number == ((ref & REF_NUMBER) != 0) &&
           ret->is_library == ((ref & REF_LIBRARY) != 0) &&
           ret->expires == ((ref & REF_EXPIRES) != 0);
}

/* Records and further buckets of the chain INDEX. What does not belong is marked by ref 0. */
static int
find_chain(struct table *table, uint32_t index, struct finds *finds)
{
    struct table_bucket *bucket = table_bucket(table, index);
    for (uint32_t n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS; i++) {
            struct table_record record;
            uint32_t hash = bucket->hash[i], ref = bucket->ref[i];
            if (ref == 0)
                continue;
            int rc = 0;
            if (belongs(table, index, hash, ref, &record))
                rc = add_find(finds, (struct found){record.unit, record.units, hash, ref});
            else if (table_bucket_index(table, hash) == index)
                bucket->ref[i] = 0, table->damaged++;
            if (rc != 0)
                return rc;
        }
        struct table_bucket *next = table_bucket_next(table, bucket);
        if (next == NULL && bucket->next != 0) {
            bucket->next = 0;
            table->damaged++;
        } else if (next != NULL) {
            uint32_t units = table_heap_units(TABLE_OVERFLOW_BYTES);
            int rc = add_find(finds, (struct found){.unit = bucket->next - 1, .units = units});
            if (rc != 0)
                return rc;
        }
        bucket = next;
    }
    return 0;
}

static int
compare_finds(const void *a, const void *b)
{
    const struct found *left = a, *right = b;
    if (left->unit != right->unit)
        return left->unit < right->unit ? -1 : 1;
    return (left->ref > right->ref) - (left->ref < right->ref); /* buckets first */
}

static void
drop_record(struct table *table, const struct found *found)
{
    struct table_slot slot = table_slot_of_ref(table, found->hash, found->ref);
    if (slot.bucket != NULL)
        slot.bucket->ref[slot.index] = 0;
}

/* Keep of FINDS, in order, what does not overlap; of records and buckets the buckets. */
static int
drop_overlaps(struct table *table, struct finds *finds)
{
    size_t kept = 0;
    for (size_t i = 0; i < finds->count; i++) {
        struct found found = finds->items[i];
        while (kept > 0) {
            const struct found *last = &finds->items[kept - 1];
            if (found.unit >= last->unit + last->units)
                break;
            if (found.ref == 0 && last->ref == 0)
                return dor_fail(
                    DOR_E_CORRUPT, "the table is damaged: buckets lie in each other");
            table->damaged++;
            if (found.ref != 0)
                break;
            drop_record(table, last);
            kept--;
        }
        const struct found *last = kept > 0 ? &finds->items[kept - 1] : NULL;
        if (last != NULL && found.unit < last->unit + last->units)
            drop_record(table, &found);
        else
            finds->items[kept++] = found;
    }
    finds->count = kept;
    return 0;
}

/* All that is not in FINDS becomes free; the counts are those of FINDS. */
static void
rebuild(struct table *table, const struct finds *finds)
{
    struct table_header *header = table->arena.header;
    uint32_t top = TABLE_HEAP_FIRST;
    if (finds->count > 0)
        top = finds->items[finds->count - 1].unit + finds->items[finds->count - 1].units;
    header->key_count = header->library_count = header->expiring_count = 0;
    table_heap_reset(&table->arena);
    header->top = top;
    uint32_t from = TABLE_HEAP_FIRST;
    for (size_t i = 0; i < finds->count; i++) {
        const struct found *found = &finds->items[i];
        table_heap_add_free(&table->arena, from, found->unit);
        from = found->unit + found->units;
        header->used_units += found->units;
        if (found->ref != 0)
            table_count(table, found->ref, 1);
    }
}

/* Entries that were left out make gaps in their chains: move the last ones there. */
static void
close_gaps(struct table *table, uint32_t index)
{
    struct table_bucket *bucket = table_bucket(table, index);
    for (uint32_t n = 0; bucket != NULL && n < TABLE_CHAIN_MAX; n++) {
        for (unsigned i = 0; i < TABLE_BUCKET_SLOTS && bucket->next != 0; i++)
            while (bucket->next != 0 && bucket->ref[i] == 0)
                table_bucket_close_gap(table, index, (struct table_slot){bucket, i});
        bucket = table_bucket_next(table, bucket);
    }
}

int
table_recover(struct table *table)
{
    struct table_header *header = table->arena.header;
    if (header->flush != 0)
        return table_resume_flush(table);
    /* Only the count is believed; it may be one ahead or behind of the mask. */
    uint32_t count = header->bucket_count;
    if (count < TABLE_FIRST_BUCKETS || count > REF_UNIT_MASK)
        return dor_fail(DOR_E_CORRUPT, "the table is damaged: it has %u buckets", count);
    header->bucket_mask = (2u << (31 - (unsigned)__builtin_clz(count))) - 1;
    table_journal_undo(table);
    header->journal = header->journal_count = 0;

    struct finds finds = {0};
    int rc = find_segments(table, &finds);
    for (uint32_t index = 0; rc == 0 && index < count; index++)
        rc = find_chain(table, index, &finds);
    if (rc == 0) {
        qsort(finds.items, finds.count, sizeof *finds.items, compare_finds);
        rc = drop_overlaps(table, &finds);
    }
    if (rc == 0) {
        rebuild(table, &finds);
        for (uint32_t index = 0; index < count; index++) {
            table_bucket_drop_moved(table, index);
            close_gaps(table, index);
        }
    }
    base_free(finds.items);
    if (rc == 0 && table->damaged > 0)
        dor_log(WARN, "table", "damage", "left_out=%" PRIu64, table->damaged);
    return rc;
}
